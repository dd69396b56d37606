"""What every answer carries and every request must keep: an id, the headers of security, a told and limited length."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attunement.serving.patience import BodyInTime
from attunement.serving.problems import problem

REQUEST_ID = "X-Request-ID"
ROOM = "__attunement_room__"
SLOWEST_BYTES_A_SECOND = 125_000
"""Of a long body: a line of one megabit a second is waited for."""
E = TypeVar("E", bound=Callable[..., Any])
BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Of these no body is read."""
REFUSED_UNREAD = {
    408: "The body did not come in time",
    411: "The request does not tell its length",
    413: "The request is too long",
}
"""For the description of every route with a body: what is said before the route is asked."""
API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of pages: no inline script. Swagger's page sets styles on its elements, and no style gives a script."""


def headers_of(scheme: str, request_id: str, policy: str = API_POLICY) -> Iterable[tuple[str, str]]:
    """The headers that every answer has."""
    yield REQUEST_ID, request_id
    yield "Cache-Control", "no-store"
    yield "X-Content-Type-Options", "nosniff"
    yield "Referrer-Policy", "no-referrer"
    yield "Content-Security-Policy", policy
    yield "X-Frame-Options", "DENY"
    yield "Cross-Origin-Opener-Policy", "same-origin"
    yield "Cross-Origin-Resource-Policy", "same-origin"
    yield "Permissions-Policy", "camera=(), geolocation=(), microphone=()"
    if scheme == "https":
        yield "Strict-Transport-Security", "max-age=31536000; includeSubDomains"


def frame(request: Request) -> dict[str, str]:
    """The same for an answer that is given outside of `Frame`: the server's own fault."""
    return dict(headers_of(request.url.scheme, getattr(request.state, "request_id", "-")))


@dataclass(frozen=True)
class Room:
    """How long a body may be, and what is said of a longer one."""

    most_bytes: int
    told: str


def takes(room: Room) -> Callable[[E], E]:
    """Gives a route room for longer bodies than the others'; stands below the route's own decorator."""

    def mark(endpoint: E) -> E:
        setattr(endpoint, ROOM, room)
        return endpoint

    return mark


class Frame:
    """Around the whole application. The id is always our own: one from outside could lead an auditor astray."""

    def __init__(self, app: ASGIApp, most_bytes: int, told_characters: int) -> None:
        self._app = app
        self._room = Room(most_bytes, f"the request is longer than {told_characters:,} characters: send fewer turns")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        length = Headers(scope=scope).get("content-length", "")
        bytes_told = int(length) if length.isdigit() else 0
        room = self._room if bytes_told <= self._room.most_bytes else _room_of(scope) or self._room
        body = BodyInTime(receive, 0.0 if room is self._room else bytes_told / SLOWEST_BYTES_A_SECOND)

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in headers_of(scope["scheme"], request_id):
                    if name not in found:
                        found[name] = value
            await send(message)

        if refusal := _refusal(scope, room):
            await refusal(scope, receive, framed)
            return

        async def unless_late(message: Message) -> None:
            if not body.late:
                await framed(message)

        await self._app(scope, body, unless_late)
        if body.late:  # what the application made of it is not told
            late = problem(408, "the body did not come in time: send it at once", {"Connection": "close"})
            await late(scope, receive, framed)


def _refusal(scope: Scope, room: Room) -> ASGIApp | None:
    if scope["method"] in BODILESS:
        return None
    found = Headers(scope=scope)
    length = found.get("content-length", "")
    if not length and ("transfer-encoding" in found or not scope["http_version"].startswith("1")):
        return problem(411, "send the request with a Content-Length")  # it could fill the memory before it is refused
    if length.isdigit() and int(length) > room.most_bytes:
        return problem(413, room.told)
    return None


def _room_of(scope: Scope) -> Room | None:
    """The room of the route that a request is for, where it has its own. Asked for long requests alone."""
    for route in scope["app"].routes:
        room: Room | None = getattr(getattr(route, "endpoint", None), ROOM, None)
        if room and route.matches(scope)[0] is Match.FULL:
            return room
    return None
