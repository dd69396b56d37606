"""What people enter into a client's journal beside sessions: questionnaires, goals and their ratings, events, milestones; and what they change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from attunement.errors import DataError
from attunement.progress.alarms import CRITICAL_ANSWER, Alarm, Alarms, Raised
from attunement.progress.findings import MeasureScore
from attunement.progress.journal import Journal, NewEntry, no_session
from attunement.progress.journey import EVENTS, ClientSummary, Goal, LoggedSession
from attunement.progress.measures import Measure, Scored, measures
from attunement.progress.noting import SessionNotes
from attunement.progress.tables import EVENT, GOAL, MEASURE, MILESTONE, RATING, in_zone, zone_of
from attunement.security.accounts import new_id
from attunement.security.acting import Act
from attunement.security.clock import stamp
from attunement.security.codes import valid_id
from attunement.security.vault import Vault

log = logging.getLogger("attunement.progress")

LEVELS = (-2, -1, 0, 1, 2)
"""Goal attainment scaling (Kiresuk and Sherman 1968): 0 is what was expected."""
MOST_TITLE = 500
SYSTEM_ACT = Act("system:progress")
FIELDS = {
    "conversation_summary": "summary", "therapeutic_goals": "goals", "progress_notes": "notes", "therapist_observations": "observations",
    "next_session_focus": "focus",
}  # fmt: skip
"""What of a session may be edited, and what it is called in the journal."""
Answers = Sequence[int | None] | float


class Keeping:
    """The journal of one vault, as one who acts sees it; `by` gives the same for another. Safe for threads.

    `notes` estimates what a transcript says (made by the settings when it is first needed); `alarms` is where danger is told of: without it the log alone
    hears of it.
    """

    def __init__(
        self, vault: Vault, act: Act = SYSTEM_ACT, *, notes: SessionNotes | None = None, alarms: Alarms | None = None
    ) -> None:
        self.vault, self.act, self.journal = vault, act, Journal(vault)
        self.settings = vault.settings.progress
        self.measures: Mapping[str, Measure] = measures(self.settings.measures)
        self._alarms, self._models = alarms, _Models(vault, notes)

    def by(self, act: Act) -> Self:
        """The same journal for another who acts: what is done is on record under that name."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.act = act
        return other

    def clients(self, own: Collection[str] | None = None, *, after: str = "", limit: int = 100) -> list[ClientSummary]:
        """Clients to choose one from, by id: those of `own`, or all who have sessions. On record."""
        return self.journal.summaries(own, after, limit, self.act)

    # --- sessions as they stand --------------------------------------------------------------------------------

    def session(self, client_id: str, session_id: str) -> LoggedSession:
        """A session as it stands. On record. Raises `DataError` where there is none."""
        self.journal.record_read(client_id, self.act)
        found = self.journal.find(client_id, valid_id("session", session_id))
        if found is None:
            raise no_session()
        return found[0]

    def sessions(self, client_id: str, start: datetime | None = None, end: datetime | None = None) -> Sequence[LoggedSession]:
        """A client's sessions in the order of time. On record."""
        self.journal.record_read(client_id, self.act)
        return self.journal.journey(client_id, start, end).sessions

    def history(self, client_id: str, session_id: str) -> list[LoggedSession]:
        """Every version of a session, oldest first. On record."""
        self.journal.record_read(client_id, self.act)
        return self.journal.history(client_id, valid_id("session", session_id))

    def correct_session(self, client_id: str, session_id: str, version: int, changes: Mapping[str, Any]) -> LoggedSession:
        """Edits words of a session (fields of `SessionLog`); the version before is kept, and this one is unsigned. `version` is the one that was read.

        Raises `ConflictError` where somebody else edited it meanwhile.
        """
        if not changes or set(changes) - set(FIELDS):
            raise DataError(f"of a session {', '.join(FIELDS)} can be edited")
        found = self.journal.find(client_id, valid_id("session", session_id))
        if found is None:
            raise no_session()
        made = [name for name in found[0].made if name not in changes]
        new = {FIELDS[name]: list(value) if FIELDS[name] == "goals" else str(value) for name, value in changes.items()}
        vector = self._vector(str(new["summary"])) if "summary" in new else None
        self.journal.correct(client_id, session_id, version, new, made, vector, self.act)
        return self._standing(client_id, session_id)

    def sign_session(self, client_id: str, session_id: str, version: int) -> LoggedSession:
        """Signs a session as it was read. Raises `ConflictError` where another version stands by now, or it is signed."""
        self.journal.sign(client_id, session_id, version, self.act)
        return self._standing(client_id, session_id)

    # --- questionnaires ---------------------------------------------------------------------------------------------

    def add_measure(self, client_id: str, measure: str, answers: Answers, at: datetime) -> MeasureScore:
        """Keeps a questionnaire: its answers in order, or its total alone. The same again changes nothing.

        Raises `ConflictError` where others were kept of that measure and time, `DataError`.
        """
        entry, score, alarm = self._scored(client_id, measure, answers, at)
        raised = None if self.journal.has_entry(client_id, entry.row) else self._raise(alarm)
        rows, on_record = (raised.inserts, raised.entries) if raised else ((), ())
        _, new = self.journal.add_entry(client_id, entry, self.act, rows, on_record)
        if raised and new:
            raised.told()
        return score

    def correct_measure(self, client_id: str, entry_id: str, version: int, answers: Answers) -> MeasureScore:
        """Corrects the answers of a questionnaire; what they were is kept. Raises `ConflictError`, `DataError`."""
        row = self.journal.entry(client_id, entry_id)
        if row["kind"] != MEASURE:
            raise DataError("the entry is no questionnaire")
        kept = row["content"]
        scored, items = answered(self.measure(kept["measure"]), answers)
        changes = {"items": list(items), "total": scored.total, "prorated": scored.prorated}
        self.journal.correct_entry(client_id, entry_id, version, changes, self.act)
        at = in_zone(row["at"], row["zone"])
        return MeasureScore(kept["measure"], scored.total, at, items, kept["session"], entry_id, scored.prorated)

    def measure(self, code: str) -> Measure:
        """A measure by its code. Raises `DataError`, which names those there are."""
        if code not in self.measures:
            raise DataError(f"there is no measure '{code}': there are {', '.join(self.measures)}")
        return self.measures[code]

    # --- goals, events, milestones --------------------------------------------------------------------------------------

    def set_goal(
        self,
        client_id: str,
        title: str,
        at: datetime,
        *,
        levels: Mapping[int, str] | None = None,
        weight: float = 1.0,
        goal_id: str = "",
    ) -> str:
        """Sets a goal; its id (`goal_id`, where one is given: the same again changes nothing). `levels` say what -2 to 2 mean.

        Raises `ConflictError` where another goal has the id.
        """
        if set(levels or ()) - set(LEVELS):
            raise DataError("the levels of a goal are -2, -1, 0, 1 and 2")
        if not 0 < weight <= 100:
            raise DataError("the weight of a goal is above 0 and at most 100")
        goal = valid_id("goal", goal_id) if goal_id else new_id("g")
        kept = {"goal": goal, "title": _title(title), "levels": {str(k): v for k, v in (levels or {}).items()}, "weight": weight}
        row = self.journal.derived_id(client_id, GOAL, goal)
        self._add(client_id, NewEntry(GOAL, at, kept, row))
        return goal

    def rate_goal(
        self,
        client_id: str,
        goal_id: str,
        at: datetime,
        *,
        attainment: int | None = None,
        percent: float | None = None,
        note: str = "",
    ) -> str:
        """Rates a goal by `attainment` (-2 to 2) or `percent` (0 to 100); the entry's id."""
        if (attainment is None) == (percent is None):
            raise DataError("a goal is rated by its attainment (-2 to 2) or by percent (0 to 100), one of the two")
        if attainment is not None and attainment not in LEVELS:
            raise DataError("an attainment is -2, -1, 0, 1 or 2; 0 is what was expected")
        if percent is not None and not 0 <= percent <= 100:
            raise DataError("percent are 0 to 100")
        self._must_have_goal(client_id, goal_id)
        kept = {"goal": goal_id, "attainment": attainment, "percent": percent, "note": note}
        return self._add(client_id, NewEntry(RATING, at, kept))

    def close_goal(self, client_id: str, goal_id: str, at: datetime) -> str:
        """Says that a goal is not worked on any more; its ratings stay."""
        self._must_have_goal(client_id, goal_id)
        kept = {"goal": goal_id, "closes": True}
        return self._add(client_id, NewEntry(RATING, at, kept, self.journal.derived_id(client_id, "closed", goal_id)))

    def add_event(self, client_id: str, kind: str, title: str, at: datetime) -> str:
        """Puts something on the time line: a change of medication, a life event; the entry's id."""
        if kind not in EVENTS:
            raise DataError(f"an event is one of {', '.join(EVENTS)}")
        return self._add(client_id, NewEntry(EVENT, at, {"event": kind, "title": _title(title)}))

    def set_milestone(self, client_id: str, title: str, at: datetime, note: str = "") -> str:
        """Sets a milestone by hand; the entry's id."""
        kept = {"title": _title(title), "note": note, "by": self.act.actor}
        return self._add(client_id, NewEntry(MILESTONE, at, kept))

    def correct_entry(self, client_id: str, entry_id: str, version: int, changes: Mapping[str, str]) -> None:
        """Corrects `title` or `note` of a goal, rating, event or milestone; what they were is kept. Raises `ConflictError`, `DataError`."""
        row = self.journal.entry(client_id, entry_id)
        if not changes or set(changes) - ({"title", "note"} & set(row["content"])):
            raise DataError("of such an entry title and note can be corrected, where it has them")
        self.journal.correct_entry(client_id, entry_id, version, dict(changes), self.act)

    def goals(self, client_id: str) -> Sequence[Goal]:
        """A client's goals with their ratings, in the order in which they were set. On record."""
        self.journal.record_read(client_id, self.act)
        return self.journal.goals(client_id)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _add(self, client: str, entry: NewEntry) -> str:
        row, _ = self.journal.add_entry(client, entry, self.act)
        return row

    def _vector(self, text: str) -> NDArray[np.float32] | None:
        return self._models.notes.encode([text])[0] if text.strip() else None

    def _standing(self, client: str, session: str) -> LoggedSession:
        found = self.journal.find(client, session)
        if found is None:
            raise no_session()
        return found[0]

    def _must_have_goal(self, client: str, goal: str) -> None:
        if not self.journal.has_entry(client, self.journal.derived_id(client, GOAL, valid_id("goal", goal))):
            raise DataError("the client has no such goal: set it first")

    def _scored(
        self, client: str, code: str, answers: Answers, at: datetime, session: str = ""
    ) -> tuple[NewEntry, MeasureScore, Alarm | None]:
        """A questionnaire as an entry and a score, with the alarm that its answers raise."""
        zone_of(at)
        measure = self.measure(code)
        scored, items = answered(measure, answers)
        row = self.journal.derived_id(client, MEASURE, code, session or stamp(at))
        kept = {
            "measure": code,
            "items": list(items),
            "total": scored.total,
            "prorated": scored.prorated,
            "session": session,
        }
        score = MeasureScore(code, scored.total, at, items, session, row, scored.prorated)
        alarm = None
        if scored.critical and self._is_recent(at):
            told = [f"{measure.title}, item {number}: {measure.items[number - 1].text} (answer: {items[number - 1]})"
                    for number in scored.critical]  # fmt: skip
            reasons = tuple(f"{code}_item_{number}" for number in scored.critical)
            talk = [{"role": "user", "content": text} for text in told]
            alarm = Alarm(client, session, "elevated", (CRITICAL_ANSWER, *reasons), at, talk)
        return NewEntry(MEASURE, at, kept, row), score, alarm

    def _is_recent(self, at: datetime) -> bool:
        """Whether danger that was told of then is still news: an import of years must not bury today's."""
        return self.vault.audit.clock() - at <= timedelta(days=self.settings.alert_days)

    def _raise(self, alarm: Alarm | None) -> Raised | None:
        if alarm is None:
            return None
        if self._alarms is None:
            log.critical(
                "a crisis alert (%s) of the client %s reaches nobody: no review queue is connected", alarm.priority, alarm.client
            )
            return None
        return self._alarms(alarm, self.act)


class _Models:
    """What estimates, loaded when it is first needed; shared by all who act (`Keeping.by`)."""

    def __init__(self, vault: Vault, notes: SessionNotes | None) -> None:
        self._vault, self._notes, self._lock = vault, notes, threading.Lock()

    @property
    def notes(self) -> SessionNotes:
        with self._lock:
            if self._notes is None:
                self._notes = SessionNotes.by_settings(self._vault.settings)
            return self._notes


def answered(measure: Measure, answers: Answers) -> tuple[Scored, tuple[int | None, ...]]:
    """A questionnaire scored, with its answers: none where only the total is known. Raises `DataError`."""
    if isinstance(answers, int | float):
        return measure.of_total(answers), ()
    return measure.score(answers), tuple(answers)


def _title(text: str) -> str:
    if not text.strip() or len(text) > MOST_TITLE:
        raise DataError(f"a title has 1 to {MOST_TITLE} characters")
    return text.strip()
