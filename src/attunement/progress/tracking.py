"""`ProgressTrackingSystem`: the contract's journal of a client's progress over weeks, months and years.

    with Vault.open(settings) as vault:
        system = ProgressTrackingSystem(vault)
        system.log_session("c-1042", SessionData("s-1", transcript=turns, measures={"phq9": [2, 2, 1, 2, 1, 1, 0, 1, 0]}), when)
        system.track_progress("c-1042", timeframe("quarterly", when, zone)).overall_trajectory

Everything is encrypted for the client, on record, and kept in every version. A client's data never meets another's: every read is by client.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from attunement.errors import DataError
from attunement.progress import milestones, trends
from attunement.progress.alarms import IN_SESSION, Alarm
from attunement.progress.context import HistoricalContext, chosen, crises_of, likely
from attunement.progress.findings import TrendAnalysis
from attunement.progress.journal import NewEntry
from attunement.progress.journey import Journey, LoggedSession, SessionData
from attunement.progress.keeping import Keeping
from attunement.progress.noting import Noted
from attunement.progress.recommending import recommendations
from attunement.progress.sentences import client_role
from attunement.progress.tables import zone_of
from attunement.quality.crisis import LEVELS
from attunement.records import CrisisAssessment, EmotionalState, Milestone, ProgressReport, SessionLog, Timeframe, Turn, to_dict
from attunement.security.codes import valid_id
from attunement.storage.files import content_hash

log = logging.getLogger("attunement.progress")

DANGER = ("elevated", "imminent")
LAST_TURNS = 10
"""Shown to a reviewer of danger that no single turn tells of."""
_NOTHING = EmotionalState({})


@dataclass(frozen=True)
class Overview:
    """A client's progress in a timeframe with what it rests on: what the report page shows."""

    journey: Journey
    report: ProgressReport
    analysis: TrendAnalysis


class ProgressTrackingSystem(Keeping):
    """The contract's methods over the journal of one vault; what people enter beside sessions is `Keeping`'s."""

    # --- the contract ----------------------------------------------------------------------------------------

    def log_session(self, client_id: str, session_data: SessionData, timestamp: datetime) -> SessionLog:
        """Logs a session that took place at `timestamp` (aware), also long ago or out of order; on disk with its audit record when this returns.

        The same again gives what stands. Raises `ConflictError` where another session was logged under the id, `DataError` for what cannot be logged.
        """
        return self.logged(client_id, session_data, timestamp).log

    def logged(self, client_id: str, session_data: SessionData, timestamp: datetime) -> LoggedSession:
        """`log_session` with what the contract's `SessionLog` does not hold: version, author, crisis level, what was estimated."""
        valid_id("client", client_id), valid_id("session", session_data.session_id)
        zone_of(timestamp)  # refused before anything is estimated
        if session_data.crisis_level not in ("", *LEVELS):
            raise DataError(
                f"there is no such level of danger: they are {', '.join(LEVELS)}, and nothing where it was not assessed"
            )
        digest = content_hash([to_dict(session_data), timestamp.isoformat()])
        known = self.journal.find(client_id, session_data.session_id)
        if known is not None and known[1] == digest:
            return known[0]
        session, noted = self._estimated(client_id, session_data, timestamp)
        scored = [
            self._scored(client_id, code, answers, timestamp, session_data.session_id)
            for code, answers in sorted(session_data.measures.items())
        ]
        alarms = [*(alarm for _, _, alarm in scored), self._danger(session, session_data, noted.telling)]
        raised = [found for found in map(self._raise, alarms) if found is not None]
        vector = self._vector(session.log.conversation_summary)
        new: list[NewEntry] = [entry for entry, _, _ in scored]
        also = [row for each in raised for row in each.inserts]
        on_record = [entry for each in raised for entry in each.entries]
        found = self.journal.add(session, digest, vector, new, self.act, also, on_record)
        for each in raised:
            each.told()
        return found

    def track_progress(self, client_id: str, timeframe: Timeframe) -> ProgressReport:
        """The report over a timeframe, by the rules in docs/change.md. On record."""
        return self.overview(client_id, timeframe, words=False).report

    def analyze_trends(self, client_id: str, timeframe: Timeframe | None = None) -> TrendAnalysis:
        """What changed in all of a client's journal (or within a timeframe), and whether the change is real. On record."""
        self.journal.record_read(client_id, self.act)
        start, end = (timeframe.start, timeframe.end) if timeframe else (None, None)
        return self._analysed(self.journal.journey(client_id, start, end, words=False))

    def retrieve_historical_context(
        self, client_id: str, lookback_period: timedelta, said: str = "", *, tokens: int = 0
    ) -> HistoricalContext:
        """The past sessions that bear on what the client just `said`, within a budget of tokens (`progress.context_tokens`); crisis history and open
        goals always. On record as `context:read`."""
        if lookback_period <= timedelta(0):
            raise DataError("the lookback period must be longer than nothing")
        self.journal.record_read(client_id, self.act, "context:read")
        now = self.vault.audit.clock()
        start, end = now - lookback_period, now + timedelta(days=1)
        whole = self.journal.journey(client_id, None, end, words=False)  # danger is never too old to be told
        within = [session for session in whole.sessions if session.log.timestamp >= start]
        vectors = self._vectors(client_id, within, start, end)
        asked = self._vector(said) if said.strip() and vectors else None
        logs = [session.log for session in within if session.log.session_id in vectors]
        rows = np.asarray([vectors[log.session_id] for log in logs], dtype=np.float32)
        near = [logs[place].session_id for place in likely([log.timestamp for log in logs], rows, asked, now)]
        journey = replace(whole, sessions=list(self.journal.with_words(client_id, near).values()))
        budget, crises = tokens or self.settings.context_tokens, crises_of(whole, self.measures)
        return chosen(
            journey, vectors, asked, lookback=lookback_period, tokens=budget, now=now, measures=self.measures, crises=crises
        )

    def track_milestones(self, client_id: str) -> list[Milestone]:
        """The milestones of a client's whole journey, found by rules or set by hand, in the order of time. On record."""
        self.journal.record_read(client_id, self.act)
        return self._milestones(self.journal.journey(client_id, words=False))

    # --- more ------------------------------------------------------------------------------------------------

    def context(self, client_id: str, said: str = "", *, days: int = 0, tokens: int = 0) -> HistoricalContext:
        """`retrieve_historical_context` as far back as `progress.lookback_days` says, where no number of days is given."""
        lookback = timedelta(days=days or self.settings.lookback_days)
        return self.retrieve_historical_context(client_id, lookback, said, tokens=tokens)

    def page(self, client_id: str, timeframe: Timeframe, zone: ZoneInfo) -> str:
        """The report over a timeframe as a page that stands alone (HTML). On record."""
        from attunement.progress.report import render

        found = self.overview(client_id, timeframe)
        now = self.vault.audit.clock()
        return render(found.journey, found.report, found.analysis, self.measures, made_at=now, zone=zone)

    def overview(self, client_id: str, timeframe: Timeframe, *, words: bool = True) -> Overview:
        """The report with the journey and the analysis that it rests on. On record."""
        if timeframe.length <= timedelta(0):
            raise DataError("a timeframe ends after it begins")
        self.journal.record_read(client_id, self.act)
        whole = self.journal.journey(client_id, words=words)  # the hundredth session is not the third of this quarter
        journey = whole.within(timeframe.start, timeframe.end)
        analysis = self._analysed(journey)
        reached = [m for m in self._milestones(whole) if timeframe.start <= m.reached_at < timeframe.end]
        progress = {goal.goal_id: milestones.completion(goal) for goal in journey.goals if goal.ratings}
        sessions = sum(session.attended for session in journey.sessions)
        advice = recommendations(whole, analysis, self.measures, self.vault.audit.clock())
        report = ProgressReport(client_id, timeframe, sessions, progress, analysis.emotions, reached, analysis.trajectory, advice)
        return Overview(journey, report, analysis)

    # --- inside ----------------------------------------------------------------------------------------------

    def _estimated(self, client: str, data: SessionData, when: datetime) -> tuple[LoggedSession, Noted]:
        """The session with what was not given made from its transcript; and what was made."""
        given = {
            "conversation_summary": data.conversation_summary, "next_session_focus": data.next_session_focus,
            "emotional_state": data.emotional_state, "crisis": data.crisis_level,
        }  # fmt: skip
        missing = [name for name, value in given.items() if not value] if data.transcript else []
        noted = self._noted(client, data) if missing else Noted()
        felt = data.emotional_state or noted.emotional_state or _NOTHING
        told = data.crisis_level or not data.transcript  # without either nobody assessed it: "" and not "none"
        crisis = CrisisAssessment(data.crisis_level) if told else noted.crisis
        session = SessionLog(
            client, data.session_id, when, data.conversation_summary or noted.conversation_summary, felt, tuple(data.therapeutic_goals),
            data.progress_notes, data.therapist_observations, data.next_session_focus or noted.next_session_focus,
        )  # fmt: skip
        return LoggedSession(session, crisis=crisis, attended=data.attended, made=tuple(missing)), noted

    def _noted(self, client: str, data: SessionData) -> Noted:
        goals = self.journal.goals(client)
        return self._models.notes.made(data.transcript, [goal for goal in goals if goal.closed_at is None])

    def _danger(self, session: LoggedSession, data: SessionData, telling: Sequence[Turn]) -> Alarm | None:
        """Danger of a session that is news. What software alone read as elevated in a talk that a person led is to be looked at, and no alert: of AnnoMI's
        109 talks, hardly any of them about danger, 12 are read so, and alerts that are mostly false are soon not read. With it go the turns that tell of
        it, or the last ones, and not the whole session (minimum necessary, 45 CFR 164.502(b))."""
        level, when = session.crisis.level, session.log.timestamp
        if level not in DANGER or not self._is_recent(when):
            return None
        if level == DANGER[0] and not data.crisis_level:
            level = "possible"
        role = client_role(data.transcript)
        shown = telling or data.transcript[-LAST_TURNS:]
        talk = [{"role": "user" if turn.role == role else "assistant", "content": turn.text} for turn in shown]
        talk = talk or [{"role": "user", "content": session.log.conversation_summary}]
        return Alarm(session.log.client_id, data.session_id, level, (IN_SESSION, *session.crisis.reasons), when, talk)

    def _analysed(self, journey: Journey) -> TrendAnalysis:
        around = [(session.log.session_id, session.log.timestamp) for session in journey.sessions]
        codes = dict.fromkeys(score.measure for score in journey.scores)
        found = []
        for code in codes:
            if code not in self.measures:
                log.warning("the measure %s is not there any more (progress.measures): its scores are left out", code)
                continue
            scores = [score for score in journey.scores if score.measure == code]
            found.append(trends.analyze(scores, self.measures[code], around))
        felt = [(s.log.timestamp, s.log.emotional_state) for s in journey.sessions if s.log.emotional_state.emotions]
        return trends.overall(journey.client_id, len(journey.sessions), found, trends.emotional_trends(felt))

    def _milestones(self, journey: Journey) -> list[Milestone]:
        found = [*milestones.found(journey, self.measures, self.vault.audit.clock()), *journey.milestones]
        return sorted(found, key=lambda milestone: milestone.reached_at)

    def _vectors(
        self, client: str, within: Sequence[LoggedSession], start: datetime, end: datetime
    ) -> dict[str, NDArray[np.float32]]:
        """The sessions' embeddings; those that lack theirs (an edit, an import) are made now and kept. A session without a summary has none."""
        vectors = self.journal.vectors(client, start, end)
        lacking = [s.log.session_id for s in within if s.log.session_id not in vectors]
        found = [s.log for s in self.journal.with_words(client, lacking).values() if s.log.conversation_summary.strip()]
        if found:
            made = self._models.notes.encode([each.conversation_summary for each in found])
            new = {each.session_id: vector for each, vector in zip(found, made, strict=True)}
            self.journal.keep_vectors(client, new)
            vectors |= new
        return vectors
