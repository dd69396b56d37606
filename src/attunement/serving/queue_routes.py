"""Routes for the people around the model: feedback, the clinical review queue, alerts, the service's figures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from attunement.security.codes import ID
from attunement.security.permissions import Reach, allowed
from attunement.serving.exchange import Exchanges
from attunement.serving.feedback import Feedback, Rated
from attunement.serving.guard import Caller, needs
from attunement.serving.inference import Id, for_client
from attunement.serving.metrics import MEDIA_TYPE
from attunement.serving.problems import NO_STORE, no_store, responses
from attunement.serving.reviews import ALERTS, DECISIONS, MOST, ClinicalReviews, Decision, Flagged

Words = Annotated[str, StringConstraints(max_length=20_000)]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Most rows.")]
Name = Annotated[str, StringConstraints(max_length=64, pattern=f"^{ID.pattern}$")]
LOW = 2
"""A rating up to it, and any correction, is for people to look at."""
_CHECKED = {
    400: "The body cannot be read",
    422: "The request is not as described",
    500: "A fault of the service; its log says where",
}


class Body(BaseModel):
    """What else is sent is refused, not overlooked."""

    model_config = ConfigDict(extra="forbid")


class FeedbackIn(Body):
    """What somebody says of a reply."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"request_id": "2f1d7e0c9b8a4f6e8d7c6b5a49382716", "rating": 4, "comment": "It listened."}]
        }
    )
    request_id: Name = Field(description="The reply's `request_id`.")
    rating: int = Field(ge=1, le=5, strict=True, description="1 (harmful) to 5 (helped).")
    correction: Words = Field("", description="What should have been said.")
    comment: Words = Field("", description="Anything else.")
    client_id: Id = Field("", description="Whose record it belongs to; empty: nobody's.")


class Kept(BaseModel):
    """What was kept."""

    id: str = Field(description="Its id.")
    review_id: str = Field(description="Its place in the clinical review queue; empty for none.")


class FeedbackRow(BaseModel):
    """Feedback."""

    id: str = Field(description="Its id.")
    at: str = Field(description="When.")
    client: str = Field(description="Whose record it belongs to.")
    request: str = Field(description="The reply's request.")
    author: str = Field(description="Who said it.")
    rating: int = Field(description="1 (harmful) to 5 (helped).")
    correction: str = Field(description="What should have been said.")
    comment: str = Field(description="Anything else.")


class AlertRow(BaseModel):
    """An alert, without words."""

    id: str = Field(description="The alert's id, also in the review queue.")
    at: str = Field(description="When.")
    priority: str = Field(description="imminent, elevated, withheld, feedback or possible.")
    client: str = Field(description="The client's id.")
    session: str = Field(description="The session's id.")
    request: str = Field(description="The request's id.")
    action: str = Field(description="What the gate did.")
    reasons: list[str] = Field(description="Codes.")
    model: str = Field(description="The model that was served.")
    decision: str = Field(description="What was decided; empty: it waits.")
    decided_at: str = Field(description="When.")
    decided_by: str = Field(description="By whom.")
    taken_by: str = Field(description="Who took the alert on.")
    taken_at: str = Field(description="When.")


class ReviewRow(AlertRow):
    """What waits for people, with its words."""

    talk: list[dict[str, Any]] = Field(description="The talk, which ends with the client's words.")
    reply: str = Field(description="What was answered, or was held back.")
    note: str = Field(description="What the reviewer wrote.")


class DecisionIn(Body):
    """A decision in the review queue."""

    review_id: Name = Field(description="Which.")
    decision: Decision = Field(description="; ".join(f"{name}: {about}" for name, about in DECISIONS.items()))
    note: Words = Field("", description="Why, or what should have been said.")


class TakeIn(Body):
    """An alert that one takes on."""

    alert_id: Name = Field(description="Which.")


def add_routes(app: FastAPI, exchanges: Exchanges, feedback: Feedback | None) -> None:
    _add_feedback(app, exchanges, feedback)
    _add_reviews(app, exchanges)
    _add_alerts(app, exchanges)

    @app.get(
        "/metrics", responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}}, tags=["operation"]
    )
    @needs("metrics:read")
    async def metrics() -> Response:
        """The service's figures for Prometheus: counts and times, never a word or a client."""
        return Response(exchanges.metrics.text(), media_type=MEDIA_TYPE)


def _add_feedback(app: FastAPI, exchanges: Exchanges, feedback: Feedback | None) -> None:
    @app.post(
        "/api/v1/feedback", status_code=201, response_model=Kept, responses=responses({**_CHECKED, **NO_STORE}), tags=["people"]
    )
    @needs("feedback:create")
    async def give(body: FeedbackIn, request: Request) -> dict[str, str]:
        """Rate, correct or comment on a reply. A rating of 1 or 2 and every correction goes to the review queue."""
        if feedback is None:
            raise no_store()
        caller: Caller = request.state.caller
        client = await for_client(request, body.client_id, "feedback:create")
        rated = Rated(body.request_id, body.rating, body.correction, body.comment, client)
        row = await run_in_threadpool(feedback.add, rated, caller.act)
        return {"id": row, "review_id": await run_in_threadpool(_looked_at, exchanges, rated, caller)}

    @app.get("/api/v1/feedback", response_model=list[FeedbackRow], responses=responses({**_CHECKED, **NO_STORE}), tags=["people"])
    @needs("feedback:read")
    async def read(request: Request, limit: Limit = 50) -> list[dict[str, Any]]:
        """The newest feedback."""
        if feedback is None:
            raise no_store()
        return await run_in_threadpool(feedback.latest, request.state.caller.act, limit)


def _looked_at(exchanges: Exchanges, rated: Rated, caller: Caller) -> str:
    """Puts what people must look at into the queue. A comment can speak of danger, too."""
    said = [text for text in (rated.comment, rated.correction) if text.strip()]
    level = exchanges.service.validator.assess_crisis(said[:1]).level if rated.comment.strip() else "none"
    priority = level if level in ALERTS else "feedback" if rated.rating <= LOW or rated.correction.strip() else ""
    if not priority or exchanges.reviews is None:
        return ""
    talk = [{"role": "user", "content": text} for text in said]
    flagged = Flagged(priority, "feedback", (f"rating_{rated.rating}",), talk, "", rated.request, rated.client)
    return exchanges.flag(flagged, caller.act)


def _add_reviews(app: FastAPI, exchanges: Exchanges) -> None:
    @app.get("/api/v1/reviews", response_model=list[ReviewRow], responses=responses({**_CHECKED, **NO_STORE}), tags=["people"])
    @needs("review:read")
    async def queue(request: Request, state: Literal["open", "decided"] = "open", limit: Limit = 50) -> list[dict[str, Any]]:
        """The clinical review queue, nearest danger first."""
        reviews = _reviews(exchanges)
        return await run_in_threadpool(lambda: reviews.open(request.state.caller.act, limit=limit, decided=state == "decided"))

    @app.post("/api/v1/reviews", response_model=AlertRow, responses=responses({**_CHECKED, **NO_STORE}), tags=["people"])
    @needs("review:decide")
    async def decide(body: DecisionIn, request: Request) -> dict[str, Any]:
        """Decide what waits in the queue."""
        asked = body.review_id, body.decision, body.note, request.state.caller.act
        return await run_in_threadpool(_reviews(exchanges).decide, *asked)


def _add_alerts(app: FastAPI, exchanges: Exchanges) -> None:
    @app.get("/api/v1/alerts", response_model=list[AlertRow], responses=responses({**_CHECKED, **NO_STORE}), tags=["people"])
    @needs("alert:read")
    async def alerts(request: Request, limit: Limit = 50) -> list[dict[str, Any]]:
        """Alerts that nobody took on yet, nearest danger first; a clinician's are those of the own clients."""
        reviews, clients = _reviews(exchanges), _own(request, "alert:read")
        return await run_in_threadpool(lambda: reviews.alerts(request.state.caller.act, clients, limit=limit))

    @app.post("/api/v1/alerts", response_model=AlertRow, responses=responses({**_CHECKED, **NO_STORE}), tags=["people"])
    @needs("alert:acknowledge")
    async def take(body: TakeIn, request: Request) -> dict[str, Any]:
        """Take an alert on: one's name stands by it from now on."""
        asked = body.alert_id, request.state.caller.act, _own(request, "alert:acknowledge")
        return await run_in_threadpool(_reviews(exchanges).take, *asked)


def _own(request: Request, action: str) -> frozenset[str] | None:
    """The clients whom the caller's grant covers; None for all."""
    principal = request.state.caller.principal
    return None if allowed(principal, action).reach is Reach.ALL else principal.clients


def _reviews(exchanges: Exchanges) -> ClinicalReviews:
    if exchanges.reviews is None:
        raise no_store()
    return exchanges.reviews
