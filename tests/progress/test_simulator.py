"""Simulated clients: the same for a seed, in range, with a truth that fits them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from attunement.progress.findings import IMPROVING, REGRESSING, STABLE
from attunement.progress.measures import measure_of
from attunement.progress.simulator import SimulatedJourney, simulate
from attunement.progress.simulator.courses import CLEAR, KINDS, filled_in


@pytest.fixture(scope="module")
def journeys() -> list[SimulatedJourney]:
    return list(simulate(60, 2.5, 7))


def test_a_seed_gives_the_same_clients_however_many(journeys: list[SimulatedJourney]) -> None:
    assert list(simulate(3, 2.5, 7)) == journeys[:3]
    assert next(iter(simulate(1, 2.5, 8))) != journeys[0]


def test_questionnaires_add_up_and_are_of_sessions_that_took_place(journeys: list[SimulatedJourney]) -> None:
    for one in journeys:
        sessions = {session.log.session_id: session for session in one.journey.sessions}
        assert [s.log.timestamp for s in one.journey.sessions] == sorted(s.log.timestamp for s in one.journey.sessions)
        for score in one.journey.scores:
            assert measure_of(score.measure).score(score.items).total == score.total
            assert sessions[score.session_id].attended and sessions[score.session_id].log.timestamp == score.at
            danger = score.measure == "phq9" and (score.items[8] or 0) > 0
            assert not danger or sessions[score.session_id].crisis.level in ("possible", "elevated")


def test_the_truth_fits_the_course(journeys: list[SimulatedJourney]) -> None:
    assert set(KINDS) >= {one.truth.kind for one in journeys} and sum(share for _, share in KINDS.values()) == pytest.approx(1)
    for one in journeys:
        truth, measure = one.truth, measure_of(one.truth.measure)
        own = [score for score in one.journey.scores if score.measure == truth.measure]
        true = truth.true_scores[truth.measure]
        assert len(own) == len(true) and measure.low <= min(true) <= max(true) <= measure.high
        assert truth.effect == pytest.approx(true[truth.first_course - 1] - true[0])
        if truth.kind in CLEAR and truth.trajectory == STABLE:
            assert abs(truth.effect) <= measure.important / 2 + 1e-9
        if truth.trajectory == IMPROVING:
            assert truth.effect < 0
        if truth.trajectory == REGRESSING:
            assert truth.effect > 0
        assert all(at in {score.at for score in own} for at in truth.change_points)
    kinds = Counter(one.truth.trajectory for one in journeys)
    assert kinds[IMPROVING] > kinds[STABLE] > kinds[REGRESSING]
    assert any(one.truth.relapses for one in journeys)


def test_errors_are_as_large_as_the_retest_reliability_says() -> None:
    rng, measure = np.random.default_rng(5), measure_of("pcl5")
    true = np.full(20_000, 40.0)
    for correlation in (0.0, 0.3):
        given = filled_in(rng, measure, true, correlation)
        assert given.std() == pytest.approx(measure.error, rel=0.03)
        assert np.corrcoef(given[1:], given[:-1])[0, 1] == pytest.approx(correlation, abs=0.03)


def test_shares_gaps_and_zones_are_obeyed() -> None:
    zone = ZoneInfo("Europe/Berlin")
    worse = list(simulate(10, 1, 3, shares={"worse": 1.0}, first_day=datetime(2021, 1, 4, tzinfo=zone), follow_up_days=14))
    assert {one.truth.kind for one in worse} == {"worse"}
    for one in worse:
        times = [session.log.timestamp for session in one.journey.sessions]
        assert all(at.tzinfo is zone and 9 <= at.hour < 18 for at in times)
        assert all(later - earlier >= timedelta(days=1) for earlier, later in pairwise(times))


def test_texts_vary_and_are_filled(journeys: list[SimulatedJourney]) -> None:
    texts = [session.log.conversation_summary for one in journeys for session in one.journey.sessions if session.attended]
    assert len(set(texts)) > 0.6 * len(texts)
    everything = " ".join(texts + [s.log.progress_notes for one in journeys for s in one.journey.sessions])
    assert "{" not in everything and "Talked about" in everything
    assert all(2 <= len(one.journey.goals) <= 3 and all(goal.ratings for goal in one.journey.goals) for one in journeys)
