"""The journal of one client that the calls of the fuzz find: sessions, a goal with ratings, questionnaires, an event."""

from __future__ import annotations

from datetime import timedelta

from attunement.progress.journey import SessionData
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import Turn

CLIENT, GOAL = "c-1", "g-1"
SESSIONS = ("s-1", "s-2", "s-12")
TALK = (Turn("client", "I slept through on two nights and went to work."), Turn("therapist", "What was different on these days?"))


def fill(journal: ProgressTrackingSystem) -> None:
    """Twelve weeks until now."""
    now = journal.vault.audit.clock()
    for week in range(1, 13):
        at = now - timedelta(weeks=13 - week)
        answers = {"phq9": [max(0, 3 - week // 4)] * 8 + [0]}
        journal.log_session(CLIENT, SessionData(f"s-{week}", TALK, measures=answers), at)
    began = now - timedelta(weeks=12)
    journal.set_goal(CLIENT, "Walk every day", began, goal_id=GOAL)
    for week in (4, 8, 11):
        journal.rate_goal(CLIENT, GOAL, began + timedelta(weeks=week), percent=week * 8.0)
    journal.add_measure(CLIENT, "gad7", [1] * 7, now - timedelta(days=3))
    journal.add_event(CLIENT, "life_event", "Moved house", now - timedelta(weeks=5))
