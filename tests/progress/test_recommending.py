"""What a report recommends: danger first, each with its evidence; a next step only where recovery has lasted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from attunement.progress.findings import MeasureScore
from attunement.progress.journey import Event, Goal, Journey, LoggedSession
from attunement.progress.measures import measures
from attunement.progress.recommending import recommendations
from attunement.progress.trends import analyze, overall
from attunement.records import CrisisAssessment, EmotionalState, SessionLog

NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
KNOWN = measures()


def scores(*totals: float, last: datetime = NOW) -> list[MeasureScore]:
    return [MeasureScore("phq9", t, last - timedelta(weeks=3 * (len(totals) - 1 - n))) for n, t in enumerate(totals)]


def advice(journey: Journey) -> list[str]:
    found = [analyze(journey.scores, KNOWN["phq9"])] if journey.scores else []
    return recommendations(journey, overall("c-1", len(journey.sessions), found, []), KNOWN, NOW)


def session(days: int, level: str = "none", made: tuple[str, ...] = ()) -> LoggedSession:
    log = SessionLog("c-1", f"s-{days}", NOW - timedelta(days=days), "", EmotionalState({}), (), "", "", "")
    return LoggedSession(log, crisis=CrisisAssessment(level), made=made)


WELL = scores(19, 18, 17, 16, 6, 5, 4, 5, 4, 5)


def test_danger_comes_first() -> None:
    told = advice(Journey("c-1", [session(3, "imminent"), session(60, "imminent")], scores(5, 6, 12, 18, 20)))
    assert told[0] == "Review the safety plan: danger was found in the session of 2026-11-24."
    assert any("PHQ-9 is reliably worse" in text for text in told)


def test_a_next_step_only_where_recovery_has_lasted_and_is_safe() -> None:
    assert any("next step" in text for text in advice(Journey("c-1", (), WELL)))
    crisis = Event(NOW - timedelta(days=20), "crisis", "in the emergency room")
    for journey in (
        Journey("c-1", (), WELL, events=[crisis]),
        Journey("c-1", (), scores(19, 18, 17, 16, 6, 5, 12, 5, 4, 5)),
        Journey("c-1", (), scores(19, 18, 17, 5)),
    ):
        assert not any("next step" in text for text in advice(journey))


@pytest.mark.parametrize(
    ("journey", "told"),
    [
        (Journey("c-1", (), ()), "Measure more often"),
        (Journey("c-1", [session(d, made=("summary",)) for d in (1, 8, 15)]), "Read and sign 3 sessions"),
        (Journey("c-1", (), (), [Goal("g-1", "walk", NOW - timedelta(days=120))]), "Rate or review the goal 'walk'"),
        (Journey("c-1", [session(1)], scores(9, 9, 9, 9, last=NOW - timedelta(days=90))), "Measure again"),
    ],
)
def test_what_the_journal_lacks(journey: Journey, told: str) -> None:
    assert any(text.startswith(told) for text in advice(journey))


def test_a_goal_that_is_closed_is_let_be() -> None:
    goal = Goal("g-1", "walk", NOW - timedelta(days=120), closed_at=NOW)
    assert not any("goal" in text for text in advice(Journey("c-1", (), (), [goal])))
