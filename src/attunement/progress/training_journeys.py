"""Clients' journeys as training data: de-identified, in weeks since the first session, of those who consented alone.

One JSON line a journey (docs/sources.md says each field). No date, no id of ours, no observation or note of a therapist goes in; what was
said or written goes through `PHIDetector`, with what identifies nobody by itself taken out, too. It finds much and not all, so the file is
still nobody's to publish: its licence class lets no dataset made of it be redistributed. `attunement.sources.journeys` makes conversations of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from attunement.progress.journey import Goal, Journey, LoggedSession
from attunement.progress.measures import Measure
from attunement.records import Milestone
from attunement.security.phi.detector import PHIDetector
from attunement.storage.files import content_hash, write_jsonl

LEAST_SESSIONS = 3
"""Of a shorter course nothing is to be learnt about time."""
KINDS = ("medication", "life_event", "crisis", "treatment")
"""Events whose week and kind go in; their titles say too much about one person."""
Found = Callable[[Journey], Sequence[Milestone]]


def write_training_journeys(
    path: Path,
    journeys: Iterable[Journey],
    *,
    consented: Collection[str],
    measures: Mapping[str, Measure],
    milestones: Found = lambda journey: (),
    detector: PHIDetector | None = None,
) -> dict[str, int]:
    """Writes the journeys of the clients in `consented` (ids) to `path`; how many were `written`, and left out by reason.

    `milestones` finds those of a journey by rule. Lines are in the order of their ids, which are hashes of what they say: neither tells who is
    who. Consent that ends is a call without that client, and a build anew.
    """
    detector = detector or PHIDetector(quasi=True)
    counts = {"written": 0, "no_consent": 0, "too_short": 0}
    rows = []
    for journey in journeys:
        if journey.client_id not in consented:
            counts["no_consent"] += 1
        elif row := training_row(journey, measures, milestones(journey), detector):
            rows.append(row)
            counts["written"] += 1
        else:
            counts["too_short"] += 1
    write_jsonl(path, sorted(rows, key=lambda row: row["journey"]))
    return counts


def training_row(
    journey: Journey, measures: Mapping[str, Measure], milestones: Sequence[Milestone], detector: PHIDetector
) -> dict[str, Any] | None:
    """A journey as a line; None where fewer than `LEAST_SESSIONS` sessions took place, or nothing was measured or rated twice."""
    sessions = [session for session in journey.sessions if session.attended]
    scored = [score for score in journey.scores if score.measure in measures]
    repeated = max((sum(one.measure == other.measure for other in scored) for one in scored), default=0)
    if len(sessions) < LEAST_SESSIONS or max([repeated, *(len(goal.ratings) for goal in journey.goals)]) < 2:
        return None
    start = min([sessions[0].log.timestamp, *(score.at for score in scored)])

    def week(at: datetime) -> int:
        return max(0, (at - start) // timedelta(weeks=1))

    texts = iter(detector.redact_turns([*(text for session in sessions for text in _texts(session)), *_titles(journey.goals)]))
    found: dict[str, Any] = {
        "weeks": week(max([sessions[-1].log.timestamp, *(score.at for score in scored)])),
        "sessions": [_session(session, week(session.log.timestamp), next(texts), next(texts)) for session in sessions],
        "goals": [_goal(goal, week, next(texts)) for goal in journey.goals],
        "scores": [{"week": week(score.at), "measure": score.measure, "total": score.total} for score in scored],
        "measures": {code: _measure(measures[code]) for code in sorted({score.measure for score in scored})},
        "events": [{"week": week(event.at), "kind": event.kind} for event in journey.events if event.kind in KINDS],
        "milestones": [{"week": week(each.reached_at), "kind": each.kind} for each in milestones if each.found_by == "rule"],
    }
    return {"journey": content_hash(found)[:16], **found}


def _texts(session: LoggedSession) -> tuple[str, str]:
    """What of a session is said in words: its summary, and what a person wrote of the next one (not what was made by rule)."""
    log = session.log
    return log.conversation_summary, "" if "next_session_focus" in session.made else log.next_session_focus


def _titles(goals: Sequence[Goal]) -> list[str]:
    return [goal.title for goal in goals]


def _session(session: LoggedSession, week: int, summary: str, focus: str) -> dict[str, Any]:
    felt = session.log.emotional_state
    row: dict[str, Any] = {"week": week, "summary": summary, "crisis": session.crisis.level}
    if focus:
        row["next_focus"] = focus
    if felt.emotions:
        row["valence"] = round(felt.valence, 2)
    return row


def _goal(goal: Goal, week: Callable[[datetime], int], title: str) -> dict[str, Any]:
    ratings = [
        {"week": week(each.at), **({"percent": each.percent} if each.attainment is None else {"attainment": each.attainment})}
        for each in goal.ratings
    ]
    closed = {"closed_week": week(goal.closed_at)} if goal.closed_at else {}
    return {"title": title, "set_week": week(goal.set_at), "ratings": ratings, **closed}


def _measure(measure: Measure) -> dict[str, Any]:
    """What a reader of scores must know, so that who makes conversations of them need not know measures."""
    return {
        "title": measure.title,
        "cutoff": measure.cutoff,
        "higher_is_worse": measure.higher_is_worse,
        "reliable": round(measure.reliable, 4),
    }
