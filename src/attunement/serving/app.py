"""The HTTP face: routes, request checks and errors (RFC 9457). No logic, no logging of what anyone said."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement import __version__
from attunement.errors import ServiceError
from attunement.records import InferenceRequest
from attunement.serving.problems import TEXT, TURN, explain, problem, responses
from attunement.serving.service import BusyError, DeploymentService

GATE_HEADER = "Attunement-Gate"
"""What the gate did with the reply: passed, crisis, reminded or withheld."""
MOST_TURNS = 400
Text = Annotated[str, StringConstraints(max_length=100_000)]


class TurnIn(BaseModel):
    """One turn of the talk so far."""

    model_config = ConfigDict(extra="forbid")

    role: Annotated[
        Literal["user", "client", "assistant", "therapist"],
        BeforeValidator(lambda value: value.strip().casefold() if isinstance(value, str) else value),
    ] = Field(description="Who spoke, in any case.")
    content: Text = Field(description="What was said.")


def _one_of_two(schema: dict[str, Any]) -> None:
    """The forms of an item exclude each other by their JSON type: `anyOf` says so in words that more readers know."""
    schema["items"]["anyOf"] = schema["items"].pop("oneOf")


class InferenceIn(BaseModel):
    """What the person said now, after what was said before."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "conversation_context": ["I can't sleep lately.", "What goes through your mind at night?"],
                    "user_input": "Mostly work. I keep going over things I should have done.",
                }
            ]
        },
    )

    conversation_context: list[
        Annotated[
            Annotated[Text, Tag(TEXT)] | Annotated[TurnIn, Tag(TURN)],
            Discriminator(lambda item: TEXT if isinstance(item, str) else TURN),  # a fault is told of the form that was meant
        ]
    ] = Field(
        default_factory=list,
        max_length=MOST_TURNS,
        json_schema_extra=_one_of_two,
        description="The talk so far, oldest first: texts (the client's first, then in turn) or objects with role "
        "(user or client, assistant or therapist, in any case) and content.",
    )
    user_input: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100_000)] = Field(
        description="What the client says now."
    )


class InferenceOut(BaseModel):
    """The reply and its scores."""

    response: str = Field(description="What to say to the client.")
    bias_score: float = Field(ge=0, le=1, description="What the reply says about groups of people: 0 is nothing found.")
    confidence: float = Field(
        ge=0, le=1, description="Mean probability of the reply's words; 1 for reviewed text, 0 where words were held back."
    )


class HealthOut(BaseModel):
    """The service's health."""

    status: str = Field(description="healthy, degraded or unhealthy.")
    model_version: str = Field(description="Run, checkpoint and the adapter's hash.")
    uptime: str = Field(description="Days and hours:minutes:seconds since the start.")


_FAILED = {500: "A fault of the service; its log says where"}
_INFERENCE = responses(
    {
        400: "The body cannot be read: not UTF-8, or nested too deeply",
        411: "The request does not tell its length",
        413: "The request is too long",
        422: "The request is not as described",
        503: "Without a model, or busy: ask again after the seconds in the header `Retry-After`",
        **_FAILED,
    }
)
_HEALTH = {**responses(_FAILED), 503: {"model": HealthOut, "description": "Unhealthy"}}


def create_app(service: DeploymentService) -> FastAPI:
    """The application over `service`; its interactive page is `/docs`, with no part from elsewhere."""
    app: FastAPI = FastAPIOffline(
        title="Attunement",
        version=__version__,
        description="Replies of a therapeutic dialogue model behind a safety gate. Not a substitute for professional care.",
        redoc_url=None,
    )
    limit = service.settings.serving.max_input_characters

    @app.middleware("http")
    async def guard(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "") if request.method == "POST" else "0"  # nothing else is read
        if not length:  # a body whose length is not told could fill the memory before it is refused
            return problem(411, "send the request with a Content-Length")
        if length.isdigit() and int(length) > 8 * limit:  # 4 bytes a character, and JSON's escapes
            return problem(413, f"the request is longer than {limit:,} characters: send fewer turns")
        response = await handle(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @app.post("/api/v1/inference", response_model=InferenceOut, responses=_INFERENCE)
    async def inference(body: InferenceIn, response: Response) -> dict[str, Any]:
        """Reply to what a client says. The header `Attunement-Gate` tells what the safety gate did:
        passed, crisis (reviewed text answers a risk), reminded (help lines were added) or withheld."""
        turns = [t if isinstance(t, str) else t.model_dump() for t in body.conversation_context]
        if sum(len(t) if isinstance(t, str) else len(t["content"]) for t in turns) + len(body.user_input) > limit:
            raise HTTPException(422, f"conversation_context and user_input hold more than {limit:,} characters: send fewer turns")
        answer, gate = await run_in_threadpool(service.answer, InferenceRequest(turns, body.user_input))
        response.headers[GATE_HEADER] = gate
        return {"response": answer.response, "bias_score": answer.bias_score, "confidence": answer.confidence}

    @app.get("/api/v1/health", response_model=HealthOut, responses=_HEALTH)
    async def health(response: Response) -> dict[str, str]:
        """Whether the service can answer, and with which model."""
        state = service.health_check()
        response.status_code = 503 if state.status == "unhealthy" else 200
        return {"status": state.status, "model_version": state.model_version, "uptime": state.uptime}

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(status_code=307, headers={"Location": "/docs"})

    _add_problems(app, retry_seconds=math.ceil(service.settings.serving.deadline_seconds))
    return app


def _add_problems(app: FastAPI, *, retry_seconds: int) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, explain(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # the framework's, for what its JSON reader gives up on
            return problem(400, "the body cannot be read: send JSON in UTF-8, not deeply nested")
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ServiceError)
    async def unable(_: Request, error: ServiceError) -> JSONResponse:
        if isinstance(error, BusyError):
            return problem(503, str(error), {"Retry-After": str(retry_seconds)})
        return problem(503 if "no model" in str(error) else 422, str(error))

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return problem(500, f"the service failed ({type(error).__name__}); its log says where")
