"""A journey that is known already, taken into the journal: of the simulator, or moved from another system. Twice is once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from attunement.progress.journey import Journey, LoggedSession, SessionData
from attunement.progress.tracking import ProgressTrackingSystem


def take_in(system: ProgressTrackingSystem, journey: Journey) -> int:
    """Logs everything in `journey` under its client; how many sessions. Milestones by rule are found anew, not copied."""
    client = journey.client_id
    for goal in journey.goals:
        system.set_goal(client, goal.title, goal.set_at, levels=goal.levels, weight=goal.weight, goal_id=goal.goal_id)
        for rating in goal.ratings:
            given: dict[str, Any] = {"attainment": rating.attainment, "percent": rating.percent, "note": rating.note}
            system.rate_goal(client, goal.goal_id, rating.at, **given)
        if goal.closed_at:
            system.close_goal(client, goal.goal_id, goal.closed_at)
    at_session: dict[str, dict[str, Any]] = defaultdict(dict)
    for score in journey.scores:
        answers = list(score.items) if score.items else score.total
        if score.session_id:
            at_session[score.session_id][score.measure] = answers
        else:
            system.add_measure(client, score.measure, answers, score.at)
    for event in journey.events:
        system.add_event(client, event.kind, event.title, event.at)
    for mark in journey.milestones:
        system.set_milestone(client, mark.title, mark.reached_at, mark.evidence)
    for session in journey.sessions:
        system.log_session(client, _data(session, at_session[session.log.session_id]), session.log.timestamp)
    return len(journey.sessions)


def _data(session: LoggedSession, measures: dict[str, Any]) -> SessionData:
    log = session.log
    return SessionData(
        log.session_id, (), log.conversation_summary, log.emotional_state, log.therapeutic_goals, log.progress_notes,
        log.therapist_observations, log.next_session_focus, measures, session.crisis.level, session.attended,
    )  # fmt: skip
