"""`/api/v1/clients/{client_id}/...`: the journal of a client's progress over HTTP. What decides stands in `attunement.progress`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement.errors import DataError
from attunement.progress.context import HistoricalContext
from attunement.progress.findings import MeasureScore, TrendAnalysis
from attunement.progress.journey import Goal, LoggedSession, SessionData
from attunement.progress.timeframes import parse
from attunement.progress.tracking import ProgressTrackingSystem
from attunement.records import EmotionalState, Milestone, ProgressReport, Timeframe, Turn, to_dict
from attunement.security.codes import ID
from attunement.serving.exchange import Exchanges
from attunement.serving.frame import PAGE_POLICY
from attunement.serving.guard import needs
from attunement.serving.problems import no_store, responses
from attunement.serving.progress_bodies import (
    ChangesIn,
    ClosingIn,
    ContextIn,
    CorrectedIn,
    EventIn,
    GoalIn,
    Id,
    MeasureIn,
    MeasureOut,
    MilestoneIn,
    RatingIn,
    SessionIn,
    VersionIn,
)

START = "/api/v1/clients/{client_id}"
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


def add_routes(app: FastAPI, exchanges: Exchanges) -> None:
    _add_sessions(app, exchanges)
    _add_entries(app, exchanges)
    _add_progress(app, exchanges)


def _by(exchanges: Exchanges, request: Request) -> ProgressTrackingSystem:
    """The journal for who asks."""
    if exchanges.progress is None:
        raise no_store()
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
