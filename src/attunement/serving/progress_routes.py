"""`/api/v1/clients/{client_id}/...`: the journal of a client's progress over HTTP. What decides stands in `attunement.progress`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement.errors import DataError
from attunement.progress.context import HistoricalContext
from attunement.progress.findings import MeasureScore, TrendAnalysis
from attunement.progress.journey import EVENTS, Goal, LoggedSession, SessionData
from attunement.progress.timeframes import parse
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import EmotionalState, Milestone, ProgressReport, Timeframe, Turn, to_dict
from attunement.security.codes import ID
from attunement.serving.exchange import Exchanges
from attunement.serving.frame import PAGE_POLICY
from attunement.serving.guard import needs
from attunement.serving.problems import responses

START = "/api/v1/clients/{client_id}"
Name = Annotated[str, StringConstraints(max_length=64, pattern=f"^{ID.pattern}$")]
Words = Annotated[str, StringConstraints(max_length=20_000)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Answer = Annotated[int, Field(ge=0, le=100)]
Client = Annotated[str, InPath(max_length=64, pattern=f"^{ID.pattern}$", description="The client's id.")]
Session = Annotated[str, InPath(max_length=64, pattern=f"^{ID.pattern}$", description="The session's id.")]
Row = Annotated[str, InPath(max_length=64, pattern=f"^{ID.pattern}$", description="The entry's or goal's id.")]
Span = Annotated[
    str,
    Query(
        max_length=40,
        description="`90d`, `12w`, `2026`, `2026-Q1`, `2026-02`, `2024..2026`, `2026-01-01..2026-03-01`, `last month`, `this year`.",
    ),
]
Zone = Annotated[str, Query(max_length=64, description="Time zone in which days begin (`Europe/Berlin`).")]
_CHECKED = {
    400: "The body cannot be read",
    409: "Somebody changed it meanwhile or logged another under the id; or this service keeps nothing",
    422: "The request is not as described, or the journal has no such thing",
    500: "A fault of the service; its log says where",
    503: "The store does not answer now",
}
_OPTIONS: dict[str, Any] = {"responses": responses(_CHECKED), "tags": ["progress"]}
_WHEN = "2026-03-02T10:00:00+01:00"


class Body(BaseModel):
    """What else is sent is refused, not overlooked."""

    model_config = ConfigDict(extra="forbid")


class SaidIn(Body):
    """Something said in a session."""

    role: Literal["client", "therapist"] = Field(description="Who said it.")
    text: Words = Field(description="What was said.")


class FeltIn(Body):
    """How the client felt, by the clinician's eye."""

    emotions: dict[Annotated[str, StringConstraints(max_length=40)], Annotated[float, Field(ge=0, le=1)]] = Field(
        max_length=40, description="Emotions with their strength, 0-1."
    )
    valence: float = Field(0.0, ge=-1, le=1, description="-1 unpleasant to 1 pleasant.")
    arousal: float = Field(0.0, ge=-1, le=1, description="-1 calm to 1 aroused.")


class SessionIn(Body):
    """A session. What is left empty is made of the transcript, where there is one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "session_id": "s-12", "timestamp": _WHEN, "measures": {"phq9": [1, 1, 2, 1, 0, 1, 1, 0, 0]},
                    "transcript": [{"role": "client", "text": "I slept through twice this week."}, {"role": "therapist", "text": "What was different?"}],
                }
            ]
        }
    )  # fmt: skip
    session_id: Name = Field(description="Yours to choose; the same session sent again changes nothing.")
    timestamp: AwareDatetime = Field(description="When it took place, with its time zone.")
    transcript: list[SaidIn] = Field(default=[], max_length=2000, description="What was said, in order.")
    from_service: bool = Field(False, description="Take the transcript that this service kept of the session instead.")
    conversation_summary: Words = Field("", description="Summary.")
    emotional_state: FeltIn | None = Field(
        None, description="How the client felt; estimated from the transcript where it is left out."
    )
    therapeutic_goals: list[Title] = Field(default=[], max_length=50, description="Ids of goals, or words.")
    progress_notes: Words = Field("", description="Progress notes.")
    therapist_observations: Words = Field("", description="Observations. They never go into a prompt.")
    next_session_focus: Words = Field("", description="What comes next.")
    measures: dict[Name, list[Answer | None] | float] = Field(
        default={}, max_length=20, description="Questionnaires by code: answers in order (null: left out), or the total alone."
    )
    crisis_level: Literal["", "none", "possible", "elevated", "imminent"] = Field(
        "", description="Danger; judged from the transcript where empty."
    )
    attended: bool = Field(True, description="False: the client did not come.")


class ChangesIn(Body):
    """An edit of a session."""

    version: int = Field(ge=1, description="The version that was read: another one by now is a conflict.")
    conversation_summary: Words | None = Field(None, description="Summary.")
    therapeutic_goals: list[Title] | None = Field(None, max_length=50, description="Goals.")
    progress_notes: Words | None = Field(None, description="Progress notes.")
    therapist_observations: Words | None = Field(None, description="Observations.")
    next_session_focus: Words | None = Field(None, description="What comes next.")


class VersionIn(Body):
    """Which version is meant."""

    version: int = Field(ge=1, description="The version that was read.")


class MeasureIn(Body):
    """A questionnaire that was filled in."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"measure": "gad7", "answers": [1, 2, 1, 0, 1, 1, 0], "at": _WHEN}]}
    )
    measure: Name = Field(description="Its code, see GET /api/v1/measures.")
    answers: list[Answer | None] | float = Field(description="Answers in order (null: left out), or the total alone.")
    at: AwareDatetime = Field(description="When, with its time zone.")


class CorrectedIn(Body):
    """Right answers for a questionnaire."""

    version: int = Field(ge=1, description="The version that was read; 1 where it was never corrected.")
    answers: list[Answer | None] | float = Field(description="Answers in order, or the total alone.")


class GoalIn(Body):
    """A therapeutic goal."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Leave the house every day", "at": _WHEN, "goal_id": "g-out"}]}
    )
    title: Title = Field(description="The goal.")
    at: AwareDatetime = Field(description="When it was set.")
    levels: dict[Literal["-2", "-1", "0", "1", "2"], Title] = Field(default={}, description="What each attainment means.")
    weight: float = Field(1.0, gt=0, le=100, description="Its weight among the client's goals.")
    goal_id: Name | Literal[""] = Field("", description="Yours to choose; empty: one is made.")


class RatingIn(Body):
    """How far a goal is: by attainment or by percent."""

    at: AwareDatetime = Field(description="When.")
    attainment: Annotated[int, Field(ge=-2, le=2)] | None = Field(None, description="-2 to 2; 0 is what was expected.")
    percent: Annotated[float, Field(ge=0, le=100)] | None = Field(None, description="0 to 100.")
    note: Words = Field("", description="Why.")


class ClosingIn(Body):
    """When a goal is closed."""

    at: AwareDatetime = Field(description="When.")


class EventIn(Body):
    """Something on the time line."""

    kind: Literal[EVENTS] = Field(description="Its kind.")  # type: ignore[valid-type]
    title: Title = Field(description="What.")
    at: AwareDatetime = Field(description="When.")


class MilestoneIn(Body):
    """A milestone set by hand."""

    title: Title = Field(description="What was reached.")
    at: AwareDatetime = Field(description="When.")
    note: Words = Field("", description="By what it is known.")


class ContextIn(Body):
    """What history is wanted for. In the body, for what somebody says must stand in no address."""

    said: Words = Field("", description="What the client said last.")
    lookback_days: int = Field(0, ge=0, le=36_500, description="How far back; 0 is progress.lookback_days.")
    tokens: int = Field(0, ge=0, le=8192, description="Most tokens; 0 is progress.context_tokens.")


class Id(BaseModel):
    """What was kept."""

    id: str = Field(description="Its id.")


class MeasureOut(BaseModel):
    """A questionnaire."""

    code: str = Field(description="Its code.")
    title: str = Field(description="Its name.")
    items: list[str] = Field(description="Its items, in order.")
    answers: dict[str, int] = Field(description="What may be answered, with its points.")
    low: float = Field(description="Lowest total.")
    high: float = Field(description="Highest total.")
    cutoff: float | None = Field(description="Clinical cut-off.")
    source: str = Field(description="Where its figures are from.")


def add_routes(app: FastAPI, exchanges: Exchanges) -> None:
    _add_sessions(app, exchanges)
    _add_entries(app, exchanges)
    _add_progress(app, exchanges)


def _by(exchanges: Exchanges, request: Request) -> ProgressTrackingSystem:
    """The journal for who asks."""
    if exchanges.progress is None:
        raise HTTPException(
            409, "this service asks nobody to sign in and keeps nothing: make an account with  attune accounts create"
        )
    return exchanges.progress.by(request.state.caller.act)


async def _run(work: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """In a thread, and as plain values."""
    return to_dict(await run_in_threadpool(lambda: work(*args, **named)))


def _add_sessions(app: FastAPI, exchanges: Exchanges) -> None:
    @app.post(f"{START}/sessions", status_code=201, response_model=LoggedSession, **_OPTIONS)
    @needs("client:write")
    async def log_session(client_id: Client, body: SessionIn, request: Request) -> Any:
        """Log a session. Late ones land at their time; the same again gives what stands."""
        journal = _by(exchanges, request)
        if body.from_service and body.transcript:
            raise HTTPException(422, "transcript and from_service exclude each other: send one of the two")
        turns = [Turn(said.role, said.text) for said in body.transcript]
        if body.from_service:
            turns = await run_in_threadpool(_kept_turns, exchanges, client_id, body.session_id, request)
        return await _run(journal.logged, client_id, _data(body, turns), body.timestamp)

    @app.get(f"{START}/sessions", response_model=list[LoggedSession], **_OPTIONS)
    @needs("client:read")
    async def sessions(client_id: Client, request: Request, timeframe: Span = "", zone: Zone = "UTC") -> Any:
        """Sessions in the order of time; of a timeframe where one is given."""
        journal = _by(exchanges, request)
        span = _span(timeframe, zone, journal) if timeframe else None
        return await _run(journal.sessions, client_id, span.start if span else None, span.end if span else None)

    @app.get(f"{START}/sessions/{{session_id}}", response_model=LoggedSession, **_OPTIONS)
    @needs("client:read")
    async def session(client_id: Client, session_id: Session, request: Request) -> Any:
        """A session as it stands."""
        return await _run(_by(exchanges, request).session, client_id, session_id)

    @app.get(f"{START}/sessions/{{session_id}}/history", response_model=list[LoggedSession], **_OPTIONS)
    @needs("client:read")
    async def history(client_id: Client, session_id: Session, request: Request) -> Any:
        """Every version of a session, oldest first."""
        return await _run(_by(exchanges, request).history, client_id, session_id)

    @app.patch(f"{START}/sessions/{{session_id}}", response_model=LoggedSession, **_OPTIONS)
    @needs("client:write")
    async def correct(client_id: Client, session_id: Session, body: ChangesIn, request: Request) -> Any:
        """Edit a session: the version before is kept, and the new one is unsigned."""
        changes = {name: value for name, value in body.model_dump(exclude={"version"}).items() if value is not None}
        return await _run(_by(exchanges, request).correct_session, client_id, session_id, body.version, changes)

    @app.post(f"{START}/sessions/{{session_id}}/signature", response_model=LoggedSession, **_OPTIONS)
    @needs("client:sign")
    async def sign(client_id: Client, session_id: Session, body: VersionIn, request: Request) -> Any:
        """Sign a session as it was read."""
        return await _run(_by(exchanges, request).sign_session, client_id, session_id, body.version)


def _add_entries(app: FastAPI, exchanges: Exchanges) -> None:
    @app.post(f"{START}/measures", status_code=201, response_model=MeasureScore, **_OPTIONS)
    @needs("client:write")
    async def add_measure(client_id: Client, body: MeasureIn, request: Request) -> Any:
        """Keep a questionnaire. An answer above zero to item 9 of the PHQ-9 raises a crisis alert."""
        return await _run(_by(exchanges, request).add_measure, client_id, body.measure, body.answers, body.at)

    @app.patch(f"{START}/measures/{{entry_id}}", response_model=MeasureScore, **_OPTIONS)
    @needs("client:write")
    async def correct_measure(client_id: Client, entry_id: Row, body: CorrectedIn, request: Request) -> Any:
        """Correct the answers of a questionnaire; what they were is kept."""
        return await _run(_by(exchanges, request).correct_measure, client_id, entry_id, body.version, body.answers)

    @app.post(f"{START}/goals", status_code=201, response_model=Id, **_OPTIONS)
    @needs("client:write")
    async def set_goal(client_id: Client, body: GoalIn, request: Request) -> Any:
        """Set a goal."""
        levels = {int(level): text for level, text in body.levels.items()}
        asked: dict[str, Any] = {"levels": levels, "weight": body.weight, "goal_id": body.goal_id}
        return {"id": await _run(_by(exchanges, request).set_goal, client_id, body.title, body.at, **asked)}

    @app.get(f"{START}/goals", response_model=list[Goal], **_OPTIONS)
    @needs("client:read")
    async def goals(client_id: Client, request: Request) -> Any:
        """Goals with their ratings."""
        return await _run(_by(exchanges, request).goals, client_id)

    @app.post(f"{START}/goals/{{goal_id}}/ratings", status_code=201, response_model=Id, **_OPTIONS)
    @needs("client:write")
    async def rate(client_id: Client, goal_id: Row, body: RatingIn, request: Request) -> Any:
        """Rate a goal."""
        asked: dict[str, Any] = {"attainment": body.attainment, "percent": body.percent, "note": body.note}
        return {"id": await _run(_by(exchanges, request).rate_goal, client_id, goal_id, body.at, **asked)}

    @app.post(f"{START}/goals/{{goal_id}}/closing", status_code=201, response_model=Id, **_OPTIONS)
    @needs("client:write")
    async def close(client_id: Client, goal_id: Row, body: ClosingIn, request: Request) -> Any:
        """Close a goal; its ratings stay."""
        return {"id": await _run(_by(exchanges, request).close_goal, client_id, goal_id, body.at)}

    @app.post(f"{START}/events", status_code=201, response_model=Id, **_OPTIONS)
    @needs("client:write")
    async def add_event(client_id: Client, body: EventIn, request: Request) -> Any:
        """Put a change of medication, a life event, a crisis on the time line."""
        return {"id": await _run(_by(exchanges, request).add_event, client_id, body.kind, body.title, body.at)}

    @app.post(f"{START}/milestones", status_code=201, response_model=Id, **_OPTIONS)
    @needs("client:write")
    async def set_milestone(client_id: Client, body: MilestoneIn, request: Request) -> Any:
        """Set a milestone by hand."""
        return {"id": await _run(_by(exchanges, request).set_milestone, client_id, body.title, body.at, body.note)}


def _add_progress(app: FastAPI, exchanges: Exchanges) -> None:
    @app.get("/api/v1/measures", response_model=list[MeasureOut], tags=["progress"], responses=responses({409: _CHECKED[409]}))
    @needs("docs:read")
    async def measures(request: Request) -> list[dict[str, Any]]:
        """The questionnaires that this service knows."""
        return [_measure(found) for found in _by(exchanges, request).measures.values()]

    @app.get(f"{START}/progress", response_model=ProgressReport, **_OPTIONS)
    @needs("client:read")
    async def progress(client_id: Client, request: Request, timeframe: Span = "90d", zone: Zone = "UTC") -> Any:
        """How the client is doing: the contract's report over a timeframe."""
        journal = _by(exchanges, request)
        return await _run(journal.track_progress, client_id, _span(timeframe, zone, journal))

    @app.get(f"{START}/trends", response_model=TrendAnalysis, **_OPTIONS)
    @needs("client:read")
    async def trends(client_id: Client, request: Request, timeframe: Span = "", zone: Zone = "UTC") -> Any:
        """What changed, when, and whether the change is real; over the whole journal, or a timeframe."""
        journal = _by(exchanges, request)
        return await _run(journal.analyze_trends, client_id, _span(timeframe, zone, journal) if timeframe else None)

    @app.get(f"{START}/milestones", response_model=list[Milestone], **_OPTIONS)
    @needs("client:read")
    async def milestones(client_id: Client, request: Request) -> Any:
        """Milestones of the whole journey."""
        return await _run(_by(exchanges, request).track_milestones, client_id)

    @app.post(f"{START}/context", response_model=HistoricalContext, **_OPTIONS)
    @needs("context:read")
    async def context(client_id: Client, body: ContextIn, request: Request) -> Any:
        """The past sessions that bear on what was just said, as they would go into a prompt."""
        journal = _by(exchanges, request)
        return await _run(journal.context, client_id, body.said, days=body.lookback_days, tokens=body.tokens)

    @app.get(
        f"{START}/report",
        response_class=Response,
        responses={
            200: {"content": {"text/html": {}, "application/pdf": {}}, "description": "The report"},
            **responses(_CHECKED),
        },
        tags=["progress"],
    )
    @needs("client:read")
    async def report(
        client_id: Client, request: Request, timeframe: Span = "1y", zone: Zone = "UTC", form: Literal["html", "pdf"] = "html"
    ) -> Response:
        """The report that a clinician reads or prints."""
        from attunement.progress.report import to_pdf

        journal = _by(exchanges, request)
        span = _span(timeframe, zone, journal)
        page = await run_in_threadpool(journal.page, client_id, span, ZoneInfo(zone))
        if form == "pdf":
            return Response(await run_in_threadpool(to_pdf, page), media_type="application/pdf")
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


def _span(text: str, zone: str, journal: ProgressTrackingSystem) -> Timeframe:
    try:
        return parse(text, journal.vault.audit.clock(), ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("there is no such time zone: name one as Europe/Berlin") from None


def _data(body: SessionIn, turns: list[Turn]) -> SessionData:
    felt = EmotionalState(**body.emotional_state.model_dump()) if body.emotional_state else None
    given = body.model_dump(exclude={"timestamp", "transcript", "from_service", "emotional_state", "therapeutic_goals"})
    return SessionData(**given, transcript=tuple(turns), emotional_state=felt, therapeutic_goals=tuple(body.therapeutic_goals))


def _kept_turns(exchanges: Exchanges, client: str, session: str, request: Request) -> list[Turn]:
    """The session's turns in the transcripts that this service kept."""
    kept = exchanges.stores.transcripts.read(request.state.caller.act, client=client, session=session) if exchanges.stores else []
    if not kept:
        raise DataError("this service kept no transcript of the session: send it")
    out = []
    for transcript in kept:
        said: list[Mapping[str, str]] = [turn for turn in transcript.turns if turn["role"] == "user"]
        out += [Turn("client", turn["content"]) for turn in said[-1:]]
        out.append(Turn("therapist", transcript.reply))
    return out


def _measure(found: Any) -> dict[str, Any]:
    names = ("code", "title", "low", "high", "cutoff", "source")
    told = {name: getattr(found, name) for name in names}
    return {**told, "items": [item.text for item in found.items], "answers": {a.label: a.value for a in found.answers}}
