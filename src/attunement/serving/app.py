"""The HTTP face: routes, request checks and errors (RFC 9457). No logic, no logging of what anyone said.

Every route passes the door (`guard.py`) and names its action.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement import __version__
from attunement.errors import AccessError, DataError, ServiceError
from attunement.records import InferenceRequest
from attunement.serving import docs_page, signing_in
from attunement.serving.frame import Frame, frame
from attunement.serving.guard import FORGERY_HEADER, Guard, GuardedRoute, check_routes, needs
from attunement.serving.problems import TEXT, TURN, explain, problem, refusal, responses
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


def create_app(service: DeploymentService, guard: Guard | None = None) -> FastAPI:
    """The application over `service`; its interactive page is `/docs`, with no part from elsewhere.

    Without a `guard` nobody is asked who they are, and only calls to this machine are answered (see docs/access.md).
    """
    app = FastAPI(
        title="Attunement",
        version=__version__,
        description="Replies of a therapeutic dialogue model behind a safety gate. Not a substitute for professional care.",
        openapi_url=None,  # the pages that describe the interface pass the door, too: `docs_page`
        docs_url=None,
        redoc_url=None,
    )
    app.router.route_class = GuardedRoute
    app.state.guard = guard or Guard(service.settings, None)
    limit = service.settings.serving.max_input_characters
    app.add_middleware(Frame, most_bytes=8 * limit, told_characters=limit)  # 4 bytes a character, and JSON's escapes
    _add_contract(app, service, limit)
    signing_in.add_routes(app)
    docs_page.add_routes(app)
    _add_problems(app, retry_seconds=math.ceil(service.settings.serving.deadline_seconds))
    app.openapi = lambda: _described(app, app.state.guard)  # type: ignore[method-assign]
    check_routes(app)
    return app


def _described(app: FastAPI, guard: Guard) -> dict[str, Any]:
    """The description for programs, with the two ways to say who one is."""
    if app.openapi_schema is None:
        found = FastAPI.openapi(app)
        found.setdefault("components", {})["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key: attn_..."},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": guard.cookie,
                "description": f"A browser's session; unsafe methods send its forgery_token in {FORGERY_HEADER}, too.",
            },
        }
        app.openapi_schema = found
    return app.openapi_schema


def _add_contract(app: FastAPI, service: DeploymentService, limit: int) -> None:
    @app.post("/api/v1/inference", response_model=InferenceOut, responses=_INFERENCE)
    @needs("inference:create")
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
    @needs("health:read")
    async def health(response: Response) -> dict[str, str]:
        """Whether the service can answer, and with which model."""
        state = service.health_check()
        response.status_code = 503 if state.status == "unhealthy" else 200
        return {"status": state.status, "model_version": state.model_version, "uptime": state.uptime}

    @app.get("/", include_in_schema=False)
    @needs("docs:read")
    async def root() -> Response:
        return Response(status_code=307, headers={"Location": "/docs"})


def _add_problems(app: FastAPI, *, retry_seconds: int) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, explain(error.errors(), *_fields(request)))

    @app.exception_handler(AccessError)
    async def not_let_in(_: Request, error: AccessError) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(DataError)
    async def unusable(_: Request, error: DataError) -> JSONResponse:
        return problem(422, str(error))

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
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return problem(500, f"the service failed ({type(error).__name__}); its log says where", frame(request))


def _fields(request: Request) -> tuple[str, str]:
    """The fields that the body of a route must have, and all that it may have, in words."""
    field = getattr(request.scope.get("route"), "body_field", None)
    known = getattr(getattr(field, "field_info", None), "annotation", None)
    fields = known.model_fields if isinstance(known, type) and issubclass(known, BaseModel) else {}
    wanted = [name for name, info in fields.items() if info.is_required()]
    return " and ".join(wanted) or "fields", " and ".join(", ".join(fields).rsplit(", ", 1)) or "none"
