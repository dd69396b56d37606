"""Milestones rest on figures: each is found where it is, once, and none from too few of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.progress.findings import MeasureScore
from attunement.progress.journey import Event, Goal, Journey, LoggedSession, Rating
from attunement.progress.measures import measures
from attunement.progress.milestones import KINDS, completion, found, percent_of, t_score
from attunement.records import CrisisAssessment, EmotionalState, Milestone, SessionLog

START = datetime(2024, 1, 8, 10, tzinfo=UTC)
NOW = START + timedelta(days=3000)
MEASURES = measures()


def at(week: float) -> datetime:
    return START + timedelta(weeks=week)


def scores(*pairs: tuple[float, float], measure: str = "phq9") -> list[MeasureScore]:
    return [MeasureScore(measure, total, at(week)) for week, total in pairs]


def session(week: float, level: str = "none", attended: bool = True) -> LoggedSession:
    log = SessionLog("c-1", f"s-{week}", at(week), "", EmotionalState({}), (), "", "", "")
    return LoggedSession(log, crisis=CrisisAssessment(level), attended=attended)


def reached(journey: Journey, now: datetime = NOW) -> dict[str, list[float]]:
    """Kind to the weeks at which it was reached."""
    out: dict[str, list[float]] = {}
    for one in found(journey, MEASURES, now):
        out.setdefault(one.kind, []).append((one.reached_at - START) / timedelta(weeks=1))
    return out


def scored(*pairs: tuple[float, float], measure: str = "phq9") -> dict[str, list[float]]:
    return reached(Journey("c-1", scores=scores(*pairs, measure=measure)))


def test_the_course_of_a_depression_with_its_return() -> None:
    journey = Journey("c-1", scores=scores((0, 18), (4, 14), (8, 9), (12, 7), (16, 6), (30, 8), (34, 17), (38, 18)))
    got = {m.kind: m for m in found(journey, MEASURES, NOW)}
    assert {kind: m.reached_at for kind, m in got.items()} == {
        "reliable_improvement": at(8), "response": at(8), "remission": at(16), "relapse": at(34),
    }  # fmt: skip
    assert got["response"].evidence == "PHQ-9 18 on 2024-01-08, 9 on 2024-03-04: 50 % lower."
    assert got["remission"].evidence == (
        "3 PHQ-9 scores out of the clinical range (10) from 2024-03-04 to 2024-04-29, 8 weeks: 9, 7, 6."
    )
    assert (
        f"{MEASURES['phq9'].reliable:.1f}" in got["relapse"].evidence
        and "What caused it is not known" in got["reliable_improvement"].evidence
    )
    assert all(m.found_by == "rule" and m.evidence.endswith(".") for m in got.values())


@pytest.mark.parametrize(
    ("pairs", "absent"),
    [
        ([(0, 18), (4, 9), (12, 9)], "remission"),  # two scores are too few
        ([(0, 18), (4, 9), (6, 8), (10, 7)], "remission"),  # six weeks
        ([(0, 18), (4, 9), (24, 8), (28, 7)], "remission"),  # nothing is known of the twenty weeks between
        ([(0, 18), (4, 9), (8, 11), (12, 9)], "remission"),  # it did not hold
        ([(0, 18), (4, 15)], "reliable_improvement"),
        ([(0, 18), (4, 10)], "response"),
        ([(0, 8), (4, 2), (8, 1), (12, 1)], "response"),  # began outside of the clinical range
        ([(0, 18), (4, 9), (8, 9), (12, 9), (16, 10)], "relapse"),  # one point over the line is noise
        ([(0, 18)], "reliable_improvement"),
    ],
)
def test_what_the_figures_do_not_carry_is_not_claimed(pairs: Sequence[tuple[float, float]], absent: str) -> None:
    assert absent not in scored(*pairs)


def test_a_second_remission_and_a_measure_that_is_gone() -> None:
    got = scored((0, 20), (4, 5), (8, 5), (12, 5), (16, 18), (20, 4), (24, 4), (28, 4))
    assert got["remission"] == [12, 28] and got["relapse"] == [16]
    assert scored((0, 20), (4, 5), measure="no-longer-there") == {}
    assert scored((0, 50), (4, 27), (8, 24), measure="pcl5")["response"] == [8]


def test_sessions_are_counted_as_attended_and_years_by_the_calendar() -> None:
    weekly = [session(week, attended=week % 7 != 0) for week in range(60)]
    got = reached(Journey("c-1", sessions=weekly))
    assert got == {"sessions": [11, 29, 58], "years_in_care": [54]}, "week 0 was missed, and 2024 has 366 days"
    leap = datetime(2024, 2, 29, 9, tzinfo=UTC)
    log = session(0).log
    both = [
        LoggedSession(SessionLog(**{**log.__dict__, "timestamp": when, "session_id": str(when)}))
        for when in (leap, leap + timedelta(366))
    ]
    assert reached(Journey("c-1", sessions=both))["years_in_care"]


def test_after_a_crisis() -> None:
    weekly = [session(w, level={3: "imminent", 4: "elevated", 40: "elevated"}.get(w, "none")) for w in range(0, 60, 1)]
    got = reached(Journey("c-1", sessions=weekly))
    assert got["first_after_crisis"] == [5, 41], "two dangers within four weeks are one crisis"
    assert got["weeks_without_crisis"] == [8, 16, 30, 44, 52]
    sparse = [session(0, "elevated"), session(1), session(30), session(60)]
    assert "weeks_without_crisis" not in reached(Journey("c-1", sessions=sparse)), "nobody saw the client in between"
    unknown = [session(0, "elevated"), *(session(w, "") for w in range(1, 14))]
    assert "weeks_without_crisis" not in reached(Journey("c-1", sessions=unknown)), "nobody assessed danger in them"
    asked = [MeasureScore("phq9", 8, at(w), [1] * 8 + [0], f"s-{w}") for w in range(1, 14)]
    told = reached(Journey("c-1", sessions=unknown, scores=asked))
    assert told["weeks_without_crisis"] == [4, 12] and told["first_after_crisis"] == [1], "item 9 was asked in each"
    answered = [MeasureScore("phq9", 9, at(0), [1] * 9)]
    by_item = Journey("c-1", sessions=[session(w) for w in (1, 2, 3, 4)], scores=answered, events=[Event(at(2), "crisis", "ER")])
    assert reached(by_item)["first_after_crisis"] == [1]
    twice = Journey("c-1", sessions=[session(0, "elevated"), session(20, "imminent"), session(40)])
    assert reached(twice)["first_after_crisis"] == [40], "seen again once, after the second"
    ticked = [MeasureScore("phq9", 9, at(w), [1] * 9) for w in range(0, 80, 2)]
    often = Journey("c-1", sessions=[session(w) for w in range(80)], scores=ticked)
    assert reached(often)["first_after_crisis"] == [1], "who ticks item 9 every fortnight is in one long crisis"
    assert "first_after_crisis" not in reached(Journey("c-1", sessions=[session(0, "elevated"), session(0.01)]))


def test_goals() -> None:
    ratings = [
        Rating(at(2), attainment=-1),
        Rating(at(6), attainment=0),
        Rating(at(8), attainment=-1),
        Rating(at(9), attainment=1),
    ]
    goals = [
        Goal("g-1", "Sleep", at(0), ratings=ratings),
        Goal("g-2", "Work", at(0), ratings=[Rating(at(3), percent=60), Rating(at(4), percent=100.0)]),
        Goal("g-3", "Paint", at(0), ratings=[Rating(at(3), percent=99.9)]),
    ]
    got = found(Journey("c-1", goals=goals), MEASURES, NOW)
    assert [(m.title, m.reached_at) for m in got] == [("Goal reached: Work", at(4)), ("Goal reached: Sleep", at(6))]
    assert got[1].evidence == "Rated attainment +0 on 2024-02-19, 6 weeks after it was set on 2024-01-08."
    assert [completion(goal) for goal in goals] == [100, 100, 99.9] and completion(Goal("g", "x", at(0))) == 0
    assert [percent_of(Rating(at(0), attainment=level)) for level in (-2, -1, 0, 1, 2)] == [0, 50, 100, 100, 100]


def test_the_t_score_is_kiresuk_and_shermans() -> None:
    def goals(*rated: tuple[float, int]) -> list[Goal]:
        return [Goal(f"g-{i}", "x", at(0), weight=w, ratings=[Rating(at(1), attainment=a)]) for i, (w, a) in enumerate(rated)]

    assert t_score(goals((1, 0), (1, 0), (1, 0))) == 50
    assert t_score(goals((1, 1))) == pytest.approx(60), "one goal: 50 + 10 x"
    # Three goals of equal weight at +1: 50 + 10 * 3 / sqrt(0.7 * 3 + 0.3 * 9), as in the published conversion tables (63.69)
    assert t_score(goals((1, 1), (1, 1), (1, 1))) == pytest.approx(63.693, abs=1e-3)
    assert t_score(goals((30, 2), (20, -1), (10, 0))) == pytest.approx(50 + 10 * 40 / (0.7 * 1400 + 0.3 * 3600) ** 0.5)
    assert t_score([Goal("g", "x", at(0), ratings=[Rating(at(1), percent=50)])]) is None


PAIRS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 27)), max_size=14)
WEEKS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["none", "none", "possible", "elevated", "imminent"])), max_size=20
)


@settings(max_examples=120, deadline=None)
@given(PAIRS, WEEKS, st.integers(0, 220))
def test_ids_are_of_the_facts_and_time_only_adds(
    pairs: list[tuple[float, float]], weeks: list[tuple[float, str]], until: int
) -> None:
    sessions = [session(w, level) for w, level in sorted(dict(weeks).items())]
    journey = Journey("c-1", sessions=sessions, scores=scores(*sorted(dict(pairs).items())))
    all_of_it = found(journey, MEASURES, NOW)
    assert found(journey, MEASURES, NOW) == all_of_it and len({m.milestone_id for m in all_of_it}) == len(all_of_it)
    assert [m.reached_at for m in all_of_it] == sorted(m.reached_at for m in all_of_it)
    assert {m.kind for m in all_of_it} <= set(KINDS)
    early = Journey(
        "c-1", [s for s in journey.sessions if s.log.timestamp <= at(until)], [s for s in journey.scores if s.at <= at(until)]
    )
    then: list[Milestone] = found(early, MEASURES, at(until))
    assert then == [m for m in all_of_it if m.reached_at <= at(until)], "what was known then is what is found of that time now"
    other = found(Journey("c-2", journey.sessions, journey.scores), MEASURES, NOW)
    assert not {m.milestone_id for m in other} & {m.milestone_id for m in all_of_it}
