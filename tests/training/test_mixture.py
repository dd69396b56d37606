"""The quotas of an epoch: as near to the target as the examples and the cap on repetition allow."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.training.mixture import Mixture, quotas

TARGET = {"standard": 0.3, "edge_case": 0.25, "voice": 0.2, "knowledge": 0.15, "dual_persona": 0.1}
counted = st.dictionaries(st.sampled_from([*TARGET, "other"]), st.integers(0, 500), min_size=1)


def test_the_target_is_met_where_there_is_enough() -> None:
    counts = dict.fromkeys(TARGET, 1000)
    assert quotas(counts, TARGET, 2000, 2.0) == {
        "standard": 600,
        "edge_case": 500,
        "voice": 400,
        "knowledge": 300,
        "dual_persona": 200,
    }


def test_a_small_share_is_repeated_up_to_the_cap_and_others_fill_its_place() -> None:
    found = quotas(
        {"standard": 900, "edge_case": 90, "voice": 10}, {"standard": 0.5, "edge_case": 0.25, "voice": 0.25}, 1000, 3.0
    )
    assert found["voice"] == 30 and found["edge_case"] == 270 and found["standard"] == 700


def test_without_a_target_the_data_are_taken_as_they_are() -> None:
    assert quotas({"other": 7, "standard": 3}, {}, 10, 1.0) == {"other": 7, "standard": 3}
    assert quotas({"other": 7}, TARGET, 7, 1.0) == {"other": 7}
    assert quotas({"other": 7, "voice": 3}, TARGET, 10, 2.0) == {"other": 0, "voice": 6}


@settings(deadline=None)
@given(counted, st.floats(1, 4), st.integers(0, 99))
def test_no_quota_is_passed_and_streams_lose_nothing(counts: dict[str, int], repeats: float, seed: int) -> None:
    shares = [share for share, count in sorted(counts.items()) for _ in range(count)]
    if not shares:
        return
    mixture = Mixture(shares, TARGET, repeats, seed)
    found = mixture.quotas
    assert sum(found.values()) <= len(shares)
    seen = np.zeros(len(shares), dtype=int)
    for epoch in range(3):
        order = mixture.order(epoch)
        assert len(order) == mixture.size
        now = np.bincount(order, minlength=len(shares))
        for share, rows in mixture.members.items():
            assert now[rows].sum() == found[share] <= repeats * len(rows) + 1
        seen += now
    for share, rows in mixture.members.items():  # nothing is seen twice more often than anything else of its share
        assert seen[rows].max() - seen[rows].min() <= 1, share
        assert np.array_equal(mixture.order(1), mixture.order(1))
