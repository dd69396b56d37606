"""The one door of the HTTP face: each route names its action, and nobody comes in whom the table does not let in.

A route is a `GuardedRoute` with `@needs("some:action")`; one without an action, or of another kind, stops the service at
its start. The door comes before a body is read: who it is, forged or not, how often, allowed or not.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from attunement.config import Settings
from attunement.errors import AccessError
from attunement.security.acting import Act
from attunement.security.codes import ID
from attunement.security.entry import Access
from attunement.security.permissions import ACTIONS, ANONYMOUS, GRANTS, VISITOR, Principal, Role, allowed
from attunement.security.sessions import Session, is_forged
from attunement.serving.frame import BODILESS, REFUSED_UNREAD
from attunement.serving.problems import responses
from attunement.storage.shared.buckets import SharedBuckets

ACTION = "__attunement_action__"
FORGERY_HEADER = "X-CSRF-Token"
TOKEN = f"send the session's forgery_token in the header {FORGERY_HEADER}"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_BUCKETS = 10_000
E = TypeVar("E", bound=Callable[..., Any])


def needs(action: str) -> Callable[[E], E]:
    """Says which action of the table a route is; stands below the route's own decorator."""
    if action not in ACTIONS:
        raise RuntimeError(f"{action} is no action of attunement.security.permissions")

    def mark(endpoint: E) -> E:
        setattr(endpoint, ACTION, action)
        return endpoint

    return mark


@dataclass(frozen=True)
class Caller:
    """Who a request is from: what a route finds at `request.state.caller`."""

    principal: Principal
    act: Act
    session: Session | None = None
    cookie: str = ""


class GuardedRoute(APIRoute):
    """A route behind the door. Without an action it cannot be made."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.action = getattr(endpoint, ACTION, "")
        if not self.action:
            raise RuntimeError(f"the route {path} names no action: put @needs(...) below its decorator")
        if options.get("include_in_schema", True):
            told = {429: "Too many requests: ask again after the seconds in the header `Retry-After`"}
            told |= {403: f"Not allowed to do `{self.action}`"}
            if not BODILESS.issuperset(options.get("methods") or {"GET"}):
                told |= REFUSED_UNREAD
            if self.action not in GRANTS[Role.ANONYMOUS]:
                told |= {401: "Not signed in, where the service asks for it"}
                options["openapi_extra"] = {"security": [{"key": []}, {"session": []}], **(options.get("openapi_extra") or {})}
            options["responses"] = {**responses(told), **(options.get("responses") or {})}
            options["openapi_extra"] = {"x-action": self.action, **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            guard: Guard = request.app.state.guard
            request.state.caller = await guard.admit(request, self.action)
            return await answer(request)

        return handle


def check_routes(app: FastAPI) -> None:
    """Raises `RuntimeError` for a route that does not pass the door: it would be open to everybody."""
    for route in app.routes:
        if not isinstance(route, GuardedRoute):
            raise RuntimeError(
                f"the route {getattr(route, 'path', route)} does not go through the guard: add it with @needs(...)"
            )


class Guard:
    """Lets requests in. Without `access` it asks nobody who they are, and answers only calls to this machine by its name."""

    def __init__(
        self, settings: Settings, access: Access | None, *, secure_cookies: bool = True, buckets: SharedBuckets | None = None
    ) -> None:
        self.access, self._settings = access, settings
        self.secure_cookies = secure_cookies
        # `__Host-`: the browser takes it over TLS alone, for this host and no other, whatever a neighbour sets
        self.cookie = "__Host-attunement" if secure_cookies else "attunement"
        self._rate = Rate(settings.serving.requests_per_minute, shared=buckets)
        self._hosts = {"127.0.0.1", "localhost", "::1", settings.serving.host}

    async def admit(self, request: Request, action: str) -> Caller:
        """Who calls, when they may do `action`. Raises `AccessError`."""
        act = Act("anonymous", request.state.request_id, request.client.host if request.client else "")
        if self.access is None:
            self._only_local(request)
            caller = Caller(VISITOR, act)
        else:
            caller = await run_in_threadpool(self._identify, request, act)
            who = f"address:{act.address}" if caller.principal is ANONYMOUS else caller.principal.id
            await self._rate.take_soon(who)
        if (told := self._forgery(request, caller)) and not (caller.session and allowed(ANONYMOUS, action) and told == TOKEN):
            await run_in_threadpool(self._record, request, caller, action)
            raise AccessError("forged", told)
        if told:  # signing in, with an old cookie and no page of ours before it: as who is not signed in
            caller = Caller(ANONYMOUS, act)
        decision = allowed(caller.principal, action, request.path_params.get("client_id"))
        if not decision:
            await run_in_threadpool(self._refuse, request, caller, action, decision.reason)
        return caller

    def check(self, request: Request, caller: Caller, action: str, client: str) -> None:
        """Whether the caller may do `action` to the data of a client whom the body names. Raises `AccessError`, on record."""
        decision = allowed(caller.principal, action, client)
        if not decision:
            self._refuse(request, caller, action, decision.reason, client)

    def _identify(self, request: Request, act: Act) -> Caller:
        assert self.access is not None
        shown, cookie = request.headers.get("authorization", ""), request.cookies.get(self.cookie, "")
        if shown:
            kind, _, key = shown.partition(" ")
            principal = self.access.by_key(key.strip(), act) if kind.casefold() == "bearer" else None
            if principal is None:
                self._rate.take(f"address:{act.address}")
                raise AccessError("credentials", "the API key is unknown, expired or revoked")
            return Caller(principal, Act(principal.id, act.request, act.address))
        if cookie and (found := self.access.by_cookie(cookie)):
            principal, session = found
            return Caller(principal, Act(principal.id, act.request, act.address), session, cookie)
        return Caller(ANONYMOUS, act)

    def _refuse(self, request: Request, caller: Caller, action: str, reason: str, client: str = "") -> None:
        if caller.principal is ANONYMOUS:
            raise AccessError("anonymous", "sign in, or send an API key:  Authorization: Bearer attn_...")
        if caller.principal is VISITOR:
            raise AccessError(
                "not_allowed", f"this service asks nobody to sign in (serving.authentication), and nobody may do {action}"
            )
        self._record(request, caller, action, client)
        told = {
            "second_factor": "show your second factor first (POST /api/v1/auth/totp)",
            "password": "choose a password of your own first (POST /api/v1/auth/password)",
        }
        raise AccessError("not_allowed", told.get(reason, f"you may not do {action}"))

    def _record(self, request: Request, caller: Caller, action: str, client: str = "") -> None:
        if self.access is not None and caller.principal is not ANONYMOUS:
            client = client or request.path_params.get("client_id", "")
            self.access.refuse(caller.principal.id, action, caller.act, client if ID.fullmatch(client) else "")

    def _forgery(self, request: Request, caller: Caller) -> str:
        """What is wrong with a request that a browser may have been made to send; "" for nothing. Programs send no such header."""
        if request.method in SAFE_METHODS or "authorization" in request.headers:
            return ""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") or (origin is not None and not self._is_own(origin, request)):
            return "the request comes from another site's page"
        return TOKEN if caller.session and is_forged(caller.cookie, request.headers.get(FORGERY_HEADER, "")) else ""

    def _is_own(self, origin: str, request: Request) -> bool:
        public = self._settings.access.public_url
        if public:
            return origin.rstrip("/").casefold() == public.rstrip("/").casefold()
        return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc.casefold() == request.headers.get("host", "").casefold()

    def _only_local(self, request: Request) -> None:
        """A name that a stranger's page had pointed at this machine (DNS rebinding), or a proxy for others: refused."""
        try:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        except ValueError:
            host = ""
        if host not in self._hosts or {"forwarded", "x-forwarded-for"} & set(request.headers.keys()):
            raise AccessError("not_allowed", "without sign-in only this machine is answered: set serving.authentication=required")


class Rate:
    """Requests of each caller, as a bucket that fills `per_minute` times a minute and holds a tenth of that, 20 at least.

    With `shared` buckets replicas count together; while those do not answer, each for itself.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic, shared: SharedBuckets | None = None) -> None:
        self._per_second, self._size, self._clock, self._shared = per_minute / 60, max(20.0, per_minute / 10), clock, shared
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """Raises `AccessError` (`rate`) when the bucket is empty."""
        wait = self._shared.take(who, self._size, self._per_second) if self._shared else None
        if wait is None:
            wait = self._take_here(who)
        if wait > 0:
            raise AccessError("rate", "too many requests: send fewer", wait)

    async def take_soon(self, who: str) -> None:
        """The same without keeping the event loop waiting for Redis."""
        if self._shared is None:
            self.take(who)
        else:
            await run_in_threadpool(self.take, who)

    def _take_here(self, who: str) -> float:
        now = self._clock()
        with self._lock:
            left, at = self._buckets.pop(who, (self._size, now))
            left = min(self._size, left + (now - at) * self._per_second)
            self._buckets[who] = (max(0.0, left - 1) if left >= 1 else left, now)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self._per_second
