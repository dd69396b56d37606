"""What a client's journal holds, opened: sessions, goals, questionnaires, events. Plain values; knows no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from attunement.progress.findings import MeasureScore
from attunement.records import CrisisAssessment, EmotionalState, Milestone, SessionLog, Turn

EVENTS = ("medication", "life_event", "crisis", "treatment", "note")
"""Kinds of events that stand on the time line."""


@dataclass(frozen=True)
class SessionData:
    """What is known of a session when it is logged. What is empty is made of the `transcript`, where there is one.

    `therapeutic_goals` are ids of the client's goals, or words. `measures` maps codes of measures to the answers in order (None: left out), or to a
    total. `crisis_level` (none, possible, elevated, imminent) is judged from the transcript where it is empty; without one it is not assessed then.
    """

    session_id: str
    transcript: Sequence[Turn] = ()
    conversation_summary: str = ""
    emotional_state: EmotionalState | None = None
    therapeutic_goals: Sequence[str] = ()
    progress_notes: str = ""
    therapist_observations: str = ""
    next_session_focus: str = ""
    measures: Mapping[str, Sequence[int | None] | float] = field(default_factory=dict)
    crisis_level: str = ""
    attended: bool = True


@dataclass(frozen=True)
class LoggedSession:
    """A session as it stands in the journal, with what the contract's `SessionLog` does not hold.

    `version` counts its edits from 1; `signed_by` is empty until a clinician signed this version. `crisis` is what was judged of the client's words.
    """

    log: SessionLog
    version: int = 1
    author: str = ""
    logged_at: datetime | None = None
    signed_by: str = ""
    signed_at: datetime | None = None
    crisis: CrisisAssessment = field(default_factory=CrisisAssessment)
    attended: bool = True
    made: Sequence[str] = ()
    """Fields that were made from the transcript and not written by a person."""


@dataclass(frozen=True)
class ClientSummary:
    """A client in a list: how many sessions the journal holds, when the last one was, and how many nobody signed yet."""

    client_id: str
    sessions: int = 0
    last_session: datetime | None = None
    unsigned: int = 0


@dataclass(frozen=True)
class Rating:
    """How far a goal is: `attainment` -2 to 2 (goal attainment scaling: 0 is what was expected), or `percent` 0 to 100, whichever was given."""

    at: datetime
    attainment: int | None = None
    percent: float | None = None
    note: str = ""
    entry_id: str = ""


@dataclass(frozen=True)
class Goal:
    """A therapeutic goal. `levels` may say what -2, -1, 0, 1 and 2 mean. `weight` is its weight in the client's T-score."""

    goal_id: str
    title: str
    set_at: datetime
    levels: Mapping[int, str] = field(default_factory=dict)
    weight: float = 1.0
    ratings: Sequence[Rating] = ()
    closed_at: datetime | None = None

    def before(self, end: datetime) -> Goal:
        """The goal as it stood before `end`."""
        closed = self.closed_at if self.closed_at is not None and self.closed_at < end else None
        return replace(self, ratings=tuple(each for each in self.ratings if each.at < end), closed_at=closed)


@dataclass(frozen=True)
class Event:
    """Something on the time line: `kind` is one of `EVENTS`."""

    at: datetime
    kind: str
    title: str
    entry_id: str = ""


@dataclass(frozen=True)
class Journey:
    """All of a client's journal within a time span, each part in the order of time. `milestones` are those that people set."""

    client_id: str
    sessions: Sequence[LoggedSession] = ()
    scores: Sequence[MeasureScore] = ()
    goals: Sequence[Goal] = ()
    events: Sequence[Event] = ()
    milestones: Sequence[Milestone] = ()

    def within(self, start: datetime, end: datetime) -> Journey:
        """The part from `start` to `end` (not included); goals as they stood at its end, with all their ratings before it."""
        return replace(
            self,
            sessions=[each for each in self.sessions if start <= each.log.timestamp < end],
            scores=[each for each in self.scores if start <= each.at < end],
            goals=[goal.before(end) for goal in self.goals if goal.set_at < end],
            events=[each for each in self.events if start <= each.at < end],
            milestones=[each for each in self.milestones if start <= each.reached_at < end],
        )
