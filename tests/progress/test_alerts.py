"""What a report's alerts say, and that nothing grave hides behind what is less."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from attunement.progress.alerts import find_alerts, not_checked
from attunement.progress.findings import (
    DETERIORATED,
    IMPROVED,
    REGRESSING,
    STABLE,
    ExpectedResponse,
    MeasureScore,
    MeasureTrend,
    ReliableChange,
    TrendAnalysis,
)
from attunement.progress.journey import Event, Journey, LoggedSession
from attunement.progress.measures import measures
from attunement.records import CrisisAssessment, EmotionalState, SessionLog

BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)
NOTHING = TrendAnalysis("c-1", 0, STABLE, ())


def day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def session(week: int, level: str, whose: str = "self") -> LoggedSession:
    at = BEGIN + timedelta(weeks=week)
    log = SessionLog("c-1", f"s-{week}", at, "", EmotionalState({}), (), "", "", "")
    return LoggedSession(log, crisis=CrisisAssessment(level, kind="plan" if level != "none" else "none", whose=whose))


def score(week: int, ninth: int | None, *, items: bool = True) -> MeasureScore:
    answers = (*[1] * 8, ninth) if items else ()
    return MeasureScore("phq9", 8.0 + (ninth or 0), BEGIN + timedelta(weeks=week), answers)


def test_an_imminent_session_does_not_hide_behind_later_ones_that_are_less() -> None:
    sessions = [session(0, "imminent"), *(session(week, "possible") for week in range(1, 9)), session(9, "none")]
    (alert,) = find_alerts(Journey("c-1", sessions), NOTHING, STABLE, measures(), day)
    assert alert.title == "Signs of danger in 9 sessions (1 imminent, 8 possible)"
    assert alert.text.startswith("Gravest first: 2026-01-05 (imminent: plan); 2026-03-02 (possible: plan);")
    assert ", and 3 more. The latest was on 2026-03-02." in alert.text


def test_danger_of_somebody_else_is_told_as_such_and_none_is_no_alert() -> None:
    (alert,) = find_alerts(Journey("c-1", [session(0, "elevated", "third_person")]), NOTHING, STABLE, measures(), day)
    assert "elevated: plan, about somebody else" in alert.text
    assert find_alerts(Journey("c-1", [session(0, "none"), session(1, "")]), NOTHING, STABLE, measures(), day) == []


@pytest.mark.parametrize(
    ("ninths", "told"),
    [
        ((0, 2), "Last over zero on 2026-01-12 (answer 2). It is the latest answer."),
        ((2, 0), "The latest answer, on 2026-01-12, is 0."),
    ],
)
def test_an_answer_over_zero_to_phq9s_item_9_is_an_alert_whatever_came_later(ninths: tuple[int, int], told: str) -> None:
    journey = Journey("c-1", scores=[score(week, ninth) for week, ninth in enumerate(ninths)])
    (alert,) = find_alerts(journey, NOTHING, STABLE, measures(), day)
    assert alert.kind == "item"
    assert alert.title == "PHQ-9, item 9 (thoughts of death or self-harm): over zero once"
    assert told in alert.text


def test_an_item_that_is_not_known_is_no_alert_and_is_told() -> None:
    journey = Journey("c-1", scores=[score(0, 0), score(1, None), score(2, 0, items=False)])
    assert find_alerts(journey, NOTHING, STABLE, measures(), day) == []
    (told,) = not_checked(journey, measures())
    assert told.startswith("In 2 scores of PHQ-9 the answer to item 9 is not known")
    assert not_checked(Journey("c-1", scores=[score(0, 0)]), measures()) == []


def test_sessions_in_which_nobody_assessed_danger_are_told() -> None:
    def session(name: str, level: str, attended: bool = True) -> LoggedSession:
        log = SessionLog("c-1", name, datetime(2026, 1, 5, tzinfo=UTC), "", EmotionalState({}), (), "", "", "")
        return LoggedSession(log, crisis=CrisisAssessment(level), attended=attended)

    held = [session("s-1", "none"), session("s-2", ""), session("s-3", ""), session("s-4", "", attended=False)]
    (told,) = not_checked(Journey("c-1", sessions=held), measures())
    assert told == "In 2 of 4 sessions danger was not assessed."


def test_the_gravest_alerts_come_first_and_improvement_is_none() -> None:
    worse = ReliableChange(DETERIORATED, 8, 17, 9, 6.85, 10, "")
    late = ExpectedResponse(False, 17, 9.5, (4, 15), "Worse than nine in ten.")
    scores = [score(0, 1)]
    journey = Journey("c-1", [session(1, "elevated")], scores, (), [Event(BEGIN, "crisis", "Night in hospital")])
    analysis = TrendAnalysis("c-1", 1, REGRESSING, [MeasureTrend("phq9", scores, REGRESSING, change=worse, expected=late)])
    alerts = find_alerts(journey, analysis, REGRESSING, measures(), day)
    assert [alert.kind for alert in alerts] == ["crisis", "crisis", "item", "deteriorated", "off_track", "regressing"]
    assert "From 8 to 17" in alerts[3].text and "expected 9.5 (band 4.0 to 15.0)" in alerts[4].text
    better = ReliableChange(IMPROVED, 17, 8, -9, 6.85, 10, "")
    fine = MeasureTrend("phq9", [], STABLE, change=better, expected=ExpectedResponse(True, 8, 9, (4, 15), ""))
    assert find_alerts(Journey("c-1"), TrendAnalysis("c-1", 0, STABLE, [fine]), STABLE, measures(), day) == []
