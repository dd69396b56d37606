"""The HTTP face: routes, request checks and errors (RFC 9457). No logic, no logging of what anyone said.

Every route passes the door (`guard.py`) and names its action.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from attunement import __version__
from attunement.console import pages as console
from attunement.errors import (
    AccessError,
    ConflictError,
    DataError,
    DocumentError,
    MissingExtraError,
    ServiceError,
    StoreDownError,
    TemporaryError,
)
from attunement.serving import (
    client_routes,
    deployment_routes,
    docs_page,
    document_routes,
    inference,
    openai_api,
    progress_routes,
    queue_routes,
    signing_in,
)
from attunement.serving.exchange import Exchanges
from attunement.serving.feedback import Feedback
from attunement.serving.frame import Frame, frame
from attunement.serving.guard import FORGERY_HEADER, Guard, GuardedRoute, check_routes, needs
from attunement.serving.metrics import Metrics
from attunement.serving.problems import explain, for_openai, problem, refusal, responses
from attunement.serving.reviews import ClinicalReviews
from attunement.serving.service import BusyError, DeploymentService

Handler = Callable[[Request, Any], JSONResponse]


class HealthOut(BaseModel):
    """The service's health."""

    status: str = Field(description="healthy, degraded or unhealthy.")
    model_version: str = Field(description="Run, checkpoint and the adapter's hash.")
    uptime: str = Field(description="Days and hours:minutes:seconds since the start.")


class AliveOut(BaseModel):
    """The process."""

    alive: bool = Field(description="Always true.")


class ReadyOut(BaseModel):
    """What is there."""

    ready: bool = Field(description="Whether requests should come here.")
    model: bool = Field(description="Whether a model is loaded.")
    store: bool = Field(description="Whether the SQL store answers; true where nothing is kept.")
    stores: dict[str, str] = Field(
        description="Of sql, mongodb and redis: up, down or embedded; empty where nothing is kept. The last two may be down: what they "
        "would hold waits, or is done in process."
    )


_FAILED = {500: "A fault of the service; its log says where"}
_READY = {**responses(_FAILED), 503: {"model": ReadyOut, "description": "Not ready"}}
_HEALTH = {**responses(_FAILED), 503: {"model": HealthOut, "description": "Unhealthy"}}


def create_app(service: DeploymentService, guard: Guard | None = None, exchanges: Exchanges | None = None) -> FastAPI:
    """The application over `service`; its interactive page is `/docs`, with no part from elsewhere.

    Without a `guard` nobody is asked who they are, and only calls to this machine are answered (see docs/access.md). Without `exchanges`
    they are made over the guard's store; nothing is kept where there is none.
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
    app.state.guard = guard = guard or Guard(service.settings, None)
    access = guard.access
    if exchanges is None:
        exchanges = Exchanges(service, Metrics(), ClinicalReviews(access.audit, access.cipher) if access else None)
    limit = service.settings.serving.max_input_characters
    app.add_middleware(Frame, most_bytes=8 * limit, told_characters=limit)  # 4 bytes a character, and JSON's escapes
    inference.add_routes(app, exchanges, limit)
    openai_api.add_routes(app, exchanges, limit)
    queue_routes.add_routes(app, exchanges, Feedback(access.audit, access.cipher) if access else None)
    client_routes.add_routes(app, exchanges)
    progress_routes.add_routes(app, exchanges)
    document_routes.add_routes(app, exchanges, service.settings.stores.document_bytes)
    deployment_routes.add_routes(app, exchanges)
    _add_health(app, exchanges)
    signing_in.add_routes(app)
    docs_page.add_routes(app)
    console.add_routes(app)
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


def _add_health(app: FastAPI, exchanges: Exchanges) -> None:
    service = exchanges.service

    @app.get("/api/v1/health", response_model=HealthOut, responses=_HEALTH)
    @needs("health:read")
    async def health(response: Response) -> dict[str, str]:
        """Whether the service can answer, and with which model."""
        state = service.health_check()
        response.status_code = 503 if state.status == "unhealthy" else 200
        return {"status": state.status, "model_version": state.model_version, "uptime": state.uptime}

    @app.get("/api/v1/health/live", response_model=AliveOut, responses=responses(_FAILED))
    @needs("health:read")
    async def live() -> dict[str, bool]:
        """Whether the process answers at all: restart it where it does not."""
        return {"alive": True}

    @app.get("/api/v1/health/ready", response_model=ReadyOut, responses=_READY)
    @needs("health:read")
    async def ready(request: Request, response: Response) -> dict[str, Any]:
        """Whether requests should come here: with a model, and a store that answers where there is one."""
        access = request.app.state.guard.access
        store = access is None or await run_in_threadpool(access.audit.store.up)
        states = await run_in_threadpool(exchanges.stores.states) if exchanges.stores else {}
        is_ready = store and service.deployed is not None
        response.status_code = 200 if is_ready else 503
        return {"ready": is_ready, "model": service.deployed is not None, "store": store, "stores": states}

    @app.get("/", include_in_schema=False)
    @needs("console:read")
    async def root(request: Request) -> Response:
        people = request.app.state.guard.access is not None  # where nobody signs in, the console has nothing to show
        return Response(status_code=307, headers={"Location": console.START if people else "/docs"})


def _add_problems(app: FastAPI, *, retry_seconds: int) -> None:
    def handles(kind: type[Exception]) -> Callable[[Handler], Handler]:
        def enter(handler: Handler) -> Handler:
            async def shaped(request: Request, error: Any) -> JSONResponse:
                told = handler(request, error)
                return for_openai(told) if request.url.path.startswith("/v1/") else told

            app.add_exception_handler(kind, shaped)
            return handler

        return enter

    @handles(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, explain(error.errors(), *_fields(request)))

    @handles(AccessError)
    def not_let_in(_: Request, error: AccessError) -> JSONResponse:
        return refusal(error)

    @handles(StoreDownError)
    def store_down(_: Request, error: StoreDownError) -> JSONResponse:
        return problem(503, "the store does not answer now: ask again", {"Retry-After": str(math.ceil(error.after_seconds))})

    @handles(ConflictError)
    def conflict(_: Request, error: ConflictError) -> JSONResponse:
        return problem(409, str(error))

    @handles(DocumentError)
    def no_document(_: Request, error: DocumentError) -> JSONResponse:
        return problem({"too_large": 413, "media_type": 415, "unknown": 404}.get(error.reason, 422), str(error))

    @handles(MissingExtraError)
    def missing(_: Request, error: MissingExtraError) -> JSONResponse:
        return problem(501, str(error))

    @handles(DataError)
    def unusable(_: Request, error: DataError) -> JSONResponse:
        return problem(422, str(error))

    @handles(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # the framework's, for what its JSON reader gives up on
            return problem(400, "the body cannot be read: send JSON in UTF-8, not deeply nested")
        headers = error.headers
        if error.status_code == 405:  # the framework's names the methods of the first route with this path alone
            headers = {**(headers or {}), "Allow": ", ".join(_methods(request))}
        return problem(error.status_code, str(error.detail), headers)

    @handles(ServiceError)
    def unable(_: Request, error: ServiceError) -> JSONResponse:
        if isinstance(error, BusyError):
            return problem(503, str(error), {"Retry-After": str(retry_seconds)})
        return problem(503 if "no model" in str(error) else 422, str(error))

    @handles(TemporaryError)
    def failing(_: Request, error: TemporaryError) -> JSONResponse:
        return problem(503, str(error), {"Retry-After": str(retry_seconds)})

    @handles(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        return problem(500, f"the service failed ({type(error).__name__}); its log says where", frame(request))


def _methods(request: Request) -> list[str]:
    """The methods of all routes with a request's path."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches({**request.scope, "method": "GET"})
        if match is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


def _fields(request: Request) -> tuple[str, str]:
    """The fields that the body of a route must have, and all that it may have, in words."""
    field = getattr(request.scope.get("route"), "body_field", None)
    known = getattr(getattr(field, "field_info", None), "annotation", None)
    fields = known.model_fields if isinstance(known, type) and issubclass(known, BaseModel) else {}
    wanted = [name for name, info in fields.items() if info.is_required()]
    return " and ".join(wanted) or "fields", " and ".join(", ".join(fields).rsplit(", ", 1)) or "none"
