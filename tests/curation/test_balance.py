from __future__ import annotations

from collections import Counter

import numpy as np

from attunement.config import DataSettings
from attunement.curation.balance import SPLITS, over_share, quota, split_by_share, split_of_groups
from attunement.curation.dedup import Groups
from attunement.records import SHARES

TARGET = dict(zip(SHARES, (0.30, 0.25, 0.20, 0.15, 0.10), strict=True))


def test_quota_is_the_largest_mixture_in_proportion() -> None:
    counts = {"standard": 1000, "edge_case": 100, "voice": 500, "knowledge": 500, "dual_persona": 500}
    assert quota(counts, TARGET) == {"standard": 120, "edge_case": 100, "voice": 80, "knowledge": 60, "dual_persona": 40}


def test_quota_spreads_over_the_shares_that_are_there() -> None:
    assert quota({"standard": 60, "voice": 60}, TARGET) == {"standard": 60, "voice": 40}
    assert quota({}, TARGET) == {}


def test_over_share_keeps_the_target_in_every_split() -> None:
    shares = np.array([0] * 900 + [2] * 100, dtype=np.int8)
    splits = np.array(([0] * 8 + [1, 2]) * 100, dtype=np.int8)
    keys = np.random.default_rng(1).integers(0, 2**63, 1000).astype(np.uint64)
    out = over_share(shares, keys, splits, TARGET)
    for split, voice in ((0, 80), (1, 10), (2, 10)):
        assert [int(np.sum(~out & (splits == split) & (shares == share))) for share in (0, 2)] == [voice * 3 // 2, voice]
    assert np.array_equal(out, over_share(shares, keys, splits, TARGET))


def test_every_share_is_held_out_in_its_part_and_no_group_is_parted() -> None:
    """One share in many small groups, one in 25 big ones (the categories of edge cases), one in a single group, which trains."""
    groups, examples = Groups(3000), dict[int, dict[int, int]]()
    for member in range(3000):
        share, root = (0, member) if member < 2000 else (1, 2000 + member % 25) if member < 2900 else (3, 2900)
        examples[member] = {share: 2}
        groups.join(root, member)
    numbers = np.random.default_rng(3).integers(0, 2**63, 3000).astype(np.uint64)
    split = split_by_share(groups, numbers, examples, DataSettings())
    assert all(split[member] == split[groups.find(member)] for member in range(3000))
    held = {
        s: Counter({share: sum(e.get(share, 0) for m, e in examples.items() if split[m] == s) for share in (0, 1, 3)})
        for s in SPLITS
    }
    for name in ("validation", "test"):
        assert (held[name][0], held[name][1], held[name][3]) == (200, 72, 0), held  # of 4,000; one category of 25; nothing
    assert split == split_by_share(groups, numbers, dict(reversed(examples.items())), DataSettings())


def test_a_share_that_cannot_be_held_out_leaves_the_whole_on_target() -> None:
    """All of share 4 trains: the held-out splits stay so small that it makes up its part of the whole all the same."""
    shares = np.repeat(np.arange(5, dtype=np.int8), 1000)
    splits = np.where((np.arange(5000) % 10 == 0) & (shares != 4), 1, 0).astype(np.int8)
    keys = np.random.default_rng(4).integers(0, 2**63, 5000).astype(np.uint64)
    out = over_share(shares, keys, splits, TARGET)
    for kept in (~out, ~out & (splits == 0)):
        for i, share in enumerate(SHARES):
            assert abs(np.sum(kept & (shares == i)) / kept.sum() - TARGET[share]) <= 0.003
    assert 50 < np.sum(~out & (splits == 1)) < 100


def test_groups_are_never_parted_and_shares_are_met() -> None:
    groups = Groups(4000)
    for i in range(0, 4000, 2):
        groups.join(i, i + 1)
    numbers = np.random.default_rng(2).integers(0, 2**63, 4000).astype(np.uint64)
    split = split_of_groups(groups, numbers, range(4000), DataSettings())
    assert all(split[i] == split[i + 1] for i in range(0, 4000, 2))
    counts = Counter(split.values())
    assert 120 < counts["validation"] < 290 and 120 < counts["test"] < 290


def test_the_split_of_a_group_does_not_move_when_others_come() -> None:
    numbers = np.arange(1, 101, dtype=np.uint64) * np.uint64(7919)
    few = split_of_groups(Groups(50), numbers[:50], range(50), DataSettings())
    many = split_of_groups(Groups(100), numbers, range(100), DataSettings())
    assert all(many[i] == few[i] for i in few)


def test_a_group_as_big_as_a_split_trains() -> None:
    groups = Groups(1000)
    for i in range(1, 500):
        groups.join(0, i)
    for seed in range(30):
        split = split_of_groups(groups, np.arange(1000, dtype=np.uint64), range(1000), DataSettings(seed=seed))
        assert split[0] == "train"
