"""What is said of a client's scores: the rules, their minimum of data, and that no series breaks them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.errors import DataError
from attunement.progress.change import change_of, expected_response
from attunement.progress.findings import (
    DETERIORATED,
    IMPROVED,
    IMPROVING,
    NOT_ENOUGH,
    RECOVERED,
    REGRESSING,
    STABLE,
    TRAJECTORIES,
    UNCHANGED,
    ExpectedResponse,
    MeasureScore,
)
from attunement.progress.measures import Measure, measure_of, read_measure
from attunement.progress.trends import WAITING, analyze, emotional_trends, overall
from attunement.records import EmotionalState

PHQ9 = measure_of("phq9")
START = datetime(2024, 1, 8, 10, tzinfo=UTC)
FALLING = [18, 16, 17, 14, 13, 12, 10, 9, 8, 7, 6, 5]
FLAT = [14, 15, 13, 14, 14, 15, 13, 14, 15, 14, 13, 14]


def series(totals: Sequence[float], days: float = 7, code: str = "phq9") -> list[MeasureScore]:
    return [MeasureScore(code, float(total), START + timedelta(days=days * place)) for place, total in enumerate(totals)]


# --- single changes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "status"),
    [
        (16, 9, RECOVERED),
        (20, 12, IMPROVED),
        (16, 10, UNCHANGED),
        (16, 16, UNCHANGED),
        (9, 2, IMPROVED),
        (8, 15, DETERIORATED),
        (15, 9, UNCHANGED),
    ],
)
def test_reliable_change_of_the_phq9(first: float, last: float, status: str) -> None:
    found = change_of(PHQ9, first, last)
    assert found.status == status and found.change == last - first
    assert "1.96 x sqrt(2)" in found.explanation and "6.85" in found.explanation


def test_recovery_on_the_pcl5_ends_lower_than_the_clinical_range_begins() -> None:
    pcl5 = measure_of("pcl5")
    assert [change_of(pcl5, 50, last).status for last in (28, 29, 30)] == [RECOVERED, IMPROVED, IMPROVED]


@given(st.floats(0, 27), st.floats(0, 27))
@settings(deadline=None)
def test_there_and_back_are_opposite(first: float, last: float) -> None:
    there, back = change_of(PHQ9, first, last), change_of(PHQ9, last, first)
    assert there.change == -back.change
    assert (there.status == UNCHANGED) == (back.status == UNCHANGED)
    assert (there.status == DETERIORATED) == (back.status in (IMPROVED, RECOVERED))


def test_the_expected_course_and_who_leaves_it() -> None:
    on, off = expected_response(PHQ9, series([16, 14, 12, 10])), expected_response(PHQ9, series([16, 17, 18, 19, 20, 21]))
    assert isinstance(on, ExpectedResponse) and on.on_track and on.expected == pytest.approx(16 * PHQ9.expected.share(3))
    assert isinstance(off, ExpectedResponse) and not off.on_track and off.observed == 21 and off.band[1] < 21
    assert off.band[0] < off.expected < off.band[1] and "not on track" in off.explanation
    assert PHQ9.expected.share(20) == PHQ9.expected.share(30) < PHQ9.expected.share(5) < 1


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (series([16, 14, 12]), "3 of at least 4"),
        (series([16, 14, 12, 10], days=90), "known for 26 weeks"),
        (series([9, 8, 8, 9]), "begin in the clinical range"),
    ],
)
def test_where_no_course_is_expected(scores: list[MeasureScore], told: str) -> None:
    assert told in str(expected_response(PHQ9, scores))


# --- trajectories ---------------------------------------------------------------------------------


def test_the_three_trajectories_and_too_little() -> None:
    assert analyze(series(FALLING), PHQ9).trajectory == IMPROVING
    assert analyze(series(FLAT), PHQ9).trajectory == STABLE
    assert analyze(series(FALLING[::-1]), PHQ9).trajectory == REGRESSING
    few = analyze(series(FALLING[:4]), PHQ9)
    assert few.trajectory == NOT_ENOUGH and few.trend is None and any("trend: 4 of at least 5" in line for line in few.not_enough)
    crowded = analyze(series(FALLING, days=1.5), PHQ9)
    assert crowded.trajectory == NOT_ENOUGH and any("of at least 3 weeks" in line for line in crowded.not_enough)
    assert analyze([], PHQ9).trajectory == NOT_ENOUGH


def test_a_slope_within_the_measures_error_is_stable() -> None:
    slight = [14, 15, 13, 15, 12, 14, 13, 12, 14, 11, 13, 12]
    found = analyze(series(slight), PHQ9)
    assert found.trend is not None and found.trend.slope_per_week < 0 and found.trajectory == STABLE
    assert "within the error of the measure" in found.evidence[0]
    certain = analyze(series([12] * 100 + [11] * 100), PHQ9)
    assert certain.trajectory == STABLE and "matter to people" in certain.evidence[0]


def test_a_relapse_of_late_counts_more_than_years_of_getting_better() -> None:
    years = [20] * 12 + [12] * 60 + [5] * 60
    assert analyze(series(years), PHQ9).trajectory == IMPROVING
    relapsed = analyze(series([*years, 16, 17, 15, 17, 16]), PHQ9)
    assert relapsed.trajectory == REGRESSING and "The level moved from 5.0 to 16.2" in relapsed.evidence[0]
    assert relapsed.trend is not None and relapsed.trend.slope_per_week < 0


def test_a_measure_on_which_more_is_better() -> None:
    from pathlib import Path

    calm = read_measure(Path(__file__).resolve().parents[2] / "docs" / "examples" / "measures" / "calm4.toml")
    rising = series([2, 3, 4, 5, 6, 8, 9, 10, 11, 12], code="calm4")
    found = analyze(rising, calm)
    assert found.trajectory == IMPROVING and found.change is not None and found.change.status == RECOVERED
    assert any("no expected course" in line for line in found.not_enough)


def test_a_change_point_has_its_date_its_levels_and_its_sessions() -> None:
    scores = series([16, 17, 15, 16, 17, 16, 7, 6, 8, 7, 6, 7])
    sessions = [(f"s{place}", score.at) for place, score in enumerate(scores)]
    point = analyze(scores, PHQ9, sessions).change_points[0]
    assert point.at == scores[6].at and point.between == (scores[5].at, scores[6].at) and point.sessions == ("s5", "s6")
    assert point.before == pytest.approx(97 / 6) and point.after == pytest.approx(41 / 6)
    assert analyze(scores[:7], PHQ9).change_points == ()


def test_a_plateau_follows_a_fall_and_a_short_series_has_none() -> None:
    scores = series([18, 15, 12, 9, *([6, 7] * 12)])
    found = analyze(scores, PHQ9)
    assert len(found.plateaus) == 1
    flat = found.plateaus[0]
    assert flat.end == scores[-1].at and scores[2].at <= flat.start <= scores[6].at and flat.points >= 20
    assert -flat.margin < flat.interval[0] < flat.interval[1] < flat.margin
    assert analyze(series(FLAT[:7]), PHQ9).plateaus == ()
    assert any("plateau: 7 of at least 8" in line for line in analyze(series(FLAT[:7]), PHQ9).not_enough)


def test_a_season_needs_two_years() -> None:
    places = np.arange(80)
    totals = np.rint(12 + 5 * np.cos(2 * np.pi * (places * 14 - 20) / 365.25) + np.random.default_rng(2).normal(0, 1.5, 80))
    found = analyze(series(totals.tolist(), days=14), PHQ9)
    assert found.season is not None and found.season.high_month in (12, 1, 2) and found.season.low_month in (6, 7, 8)
    assert 3 < found.season.amplitude < 7 and any("Yearly course" in line for line in found.evidence)
    short = analyze(series(totals[:50].tolist(), days=14), PHQ9)
    assert short.season is None and any("over 1.9 years" in line for line in short.not_enough)


# --- for any series -------------------------------------------------------------------------------

ANY = st.lists(st.tuples(st.integers(0, 20000), st.integers(0, 27)), max_size=40)


def made(pairs: list[tuple[int, int]]) -> list[MeasureScore]:
    return [MeasureScore("phq9", float(total), START + timedelta(hours=hours)) for hours, total in pairs]


@given(ANY)
@settings(max_examples=150, deadline=None)
def test_no_series_breaks_the_analysis(pairs: list[tuple[int, int]]) -> None:
    found = analyze(made(pairs), PHQ9)
    assert found.trajectory in TRAJECTORIES and found.evidence and len(found.scores) == len(pairs)
    assert (found.trajectory == NOT_ENOUGH) == (found.trend is None)
    figures = [found.trend.slope_per_week, *found.trend.interval, found.trend.p] if found.trend else []
    figures += [value for flat in found.plateaus for value in (flat.mean, *flat.interval)]
    assert all(math.isfinite(value) for value in figures)
    assert [point.at for point in found.change_points] == sorted(point.at for point in found.change_points)
    assert "nan" not in " ".join(found.evidence)


@given(ANY, st.randoms(use_true_random=False), st.integers(-11, 12), st.integers(0, 3000))
@settings(max_examples=50, deadline=None)
def test_order_time_zone_and_start_do_not_matter(pairs: list[tuple[int, int]], random, zone: int, days: int) -> None:
    scores = made(pairs)
    shuffled = random.sample(scores, len(scores))
    assert analyze(shuffled, PHQ9) == analyze(scores, PHQ9)
    other = [
        MeasureScore("phq9", s.total, (s.at + timedelta(days=days)).astimezone(timezone(timedelta(hours=zone)))) for s in scores
    ]
    moved, plain = analyze(other, PHQ9), analyze(scores, PHQ9)
    assert (moved.trajectory, moved.trend, moved.change) == (plain.trajectory, plain.trend, plain.change)
    assert [point.after for point in moved.change_points] == [point.after for point in plain.change_points]


@given(ANY)
@settings(max_examples=50, deadline=None)
def test_a_mirrored_measure_says_the_opposite_change(pairs: list[tuple[int, int]]) -> None:
    mirrored = Measure.model_validate(
        {**PHQ9.model_dump(), "code": "mirror", "higher_is_worse": False, "cutoff": 17, "critical": (), "expected": None}
    )
    plain = analyze(made(pairs), PHQ9)
    other = analyze([MeasureScore("mirror", 27 - s.total, s.at) for s in made(pairs)], mirrored)
    assert other.trajectory == plain.trajectory
    assert (other.change and other.change.status) == (plain.change and plain.change.status)
    assert (other.trend and -other.trend.slope_per_week) == (plain.trend and pytest.approx(plain.trend.slope_per_week, abs=1e-9))


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (MeasureScore("gad7", 5, START), "a score of 'gad7' among those of 'phq9'"),
        (MeasureScore("phq9", 5, START.replace(tzinfo=None)), "has no time zone"),
        (MeasureScore("phq9", 28, START), "is not between 0 and 27"),
        (MeasureScore("phq9", math.nan, START), "must be a number"),
    ],
)
def test_scores_that_cannot_be_analysed(score: MeasureScore, told: str) -> None:
    with pytest.raises(DataError, match=told):
        analyze([*series(FLAT), score], PHQ9)


def test_a_score_a_day_for_years_is_no_trouble() -> None:
    totals = np.clip(np.rint(np.random.default_rng(4).normal(10, 2.5, 2500)), 0, 27).tolist()
    assert analyze(series(totals, days=1), PHQ9).trajectory == STABLE


# --- emotions and the whole -----------------------------------------------------------------------


def states(count: int, days: float = 7) -> list[tuple[datetime, EmotionalState]]:
    return [
        (
            START + timedelta(days=days * place),
            EmotionalState({"joy": 0.1 + 0.02 * place} if place % 3 else {}, valence=-0.5 + 0.05 * place),
        )
        for place in range(count)
    ]


def test_emotions_have_slopes_from_five_states_on() -> None:
    found = {one.emotion: one for one in emotional_trends(states(10)[::-1])}
    assert set(found) == {"joy", "valence", "arousal"}
    assert found["valence"].slope_per_week == pytest.approx(0.05) and found["arousal"].slope_per_week == 0
    assert found["joy"].interval[0] <= found["joy"].slope_per_week <= found["joy"].interval[1]
    assert emotional_trends(states(4)) == [] and emotional_trends(states(10, days=1)) == []
    many = {one.emotion: one for one in emotional_trends(states(600, days=1))}
    assert many["valence"].slope_per_week == pytest.approx(0.35)


def test_the_whole_says_the_worse_when_it_is_sure_and_never_why() -> None:
    better, worse, flat = analyze(series(FALLING), PHQ9), analyze(series(FALLING[::-1]), PHQ9), analyze(series(FLAT), PHQ9)
    drifting = analyze(series([10, 11, 10, 12, 11, 12, 13, 12, 14, 13, 14, 15]), PHQ9)
    assert drifting.trajectory == REGRESSING and drifting.change is not None and drifting.change.status == UNCHANGED

    def way(*found) -> str:
        return overall("c", 12, found).trajectory

    assert way(better, worse) == way(worse, flat, flat) == REGRESSING
    assert way(better, flat) == IMPROVING and way(flat) == STABLE
    assert way(drifting) == way(drifting, flat) == REGRESSING
    assert way(drifting, flat, flat) == STABLE and way(drifting, better, flat) == STABLE
    assert way() == way(analyze([], PHQ9)) == NOT_ENOUGH
    told = overall("c", 12, [better, worse], emotional_trends(states(10)))
    assert WAITING in told.caveats and any("different ways" in line for line in told.caveats)
    assert any("model's estimate" in line for line in told.caveats)
    assert WAITING not in overall("c", 3, [analyze([], PHQ9)]).caveats
    assert "no questionnaire" in overall("c", 3, []).caveats[0]
    for line in (*told.evidence, *better.evidence):
        assert "because" not in line and "thanks to" not in line and "effect" not in line
