"""Routes of signing in and out: passwords, second factor, sessions, an OpenID Connect provider. What decides stands in `security`."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from attunement.security.entry import CALLBACK, Access
from attunement.security.permissions import actions_of
from attunement.security.sessions import Session, forgery_token
from attunement.serving.guard import Caller, Guard, needs
from attunement.serving.problems import responses

START = "/api/v1/auth"
Secret = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Body(BaseModel):
    """What else is sent is refused, not overlooked: nobody gives themselves a role by a further field."""

    model_config = ConfigDict(extra="forbid")


class SignInBody(Body):
    """A name and a password."""

    name: Secret = Field(description="The account's name.")
    password: Secret = Field(description="Its password.")


class CodeBody(Body):
    """A second factor."""

    code: Annotated[str, StringConstraints(min_length=6, max_length=64)] = Field(
        description="Six digits of the app, or a recovery code."
    )


class PasswordBody(Body):
    """A new password."""

    current_password: Secret = Field(description="The password until now.")
    new_password: Secret = Field(description="The new one.")


class SessionOut(BaseModel):
    """Who one is."""

    account: str = Field(description="The account's id.")
    name: str = Field(description="Its name.")
    roles: list[str] = Field(description="Its roles.")
    pending: str = Field(description="What must be done before anything else: `password`, `second_factor`, or nothing.")
    forgery_token: str = Field(description="Send it in the header `X-CSRF-Token` with every request that changes something.")
    actions: list[str] = Field(
        description="What the account may do now, by the table of permissions; of a clinician, to its own clients."
    )
    idle_seconds: float = Field(description="The session ends after so long without a request.")
    recovery_codes: list[str] = Field(
        default_factory=list, description="Shown once, after the first code: each replaces the second factor one time."
    )


class EnrolmentOut(BaseModel):
    """What the app for codes takes."""

    secret: str = Field(description="In base 32, to be typed in.")
    address: str = Field(description="The same as the address that a QR code holds.")


class RecoveryOut(BaseModel):
    """What replaces a lost telephone."""

    recovery_codes: list[str] = Field(description="Shown once: each replaces the second factor one time. Those before are void.")


class SessionRow(BaseModel):
    """One of the account's sessions."""

    id: str = Field(description="Its name, to end it by.")
    created: float = Field(description="Seconds since 1970.")
    last_used: float = Field(description="Seconds since 1970.")
    address: str = Field(description="Network address at its start.")
    agent: str = Field(description="What the browser called itself.")
    current: bool = Field(description="Whether it is this one.")


_WRONG = {401: "The name, the password or the code is wrong"}
_CHECKED = {400: "The body cannot be read", 422: "The request is not as described"}


def add_routes(app: FastAPI) -> None:
    _add_password(app)
    _add_second_factor(app)
    _add_sessions(app)
    _add_elsewhere(app)


def _add_password(app: FastAPI) -> None:
    @app.post(f"{START}/sign-in", response_model=SessionOut, responses=responses({**_WRONG, **_CHECKED}), tags=["sign-in"])
    @needs("session:create")
    async def sign_in(body: SignInBody, request: Request, response: Response) -> SessionOut:
        """Sign in. A session starts in a cookie; `pending` says what comes next."""
        access, caller = _parts(request)
        agent = request.headers.get("user-agent", "")
        cookie = await run_in_threadpool(access.sign_in, body.name, body.password, caller.act, agent, _cookie(request))
        return await _answer(request, response, cookie)

    @app.post(f"{START}/password", response_model=SessionOut, responses=responses({**_WRONG, **_CHECKED}), tags=["sign-in"])
    @needs("session:complete")
    async def password(body: PasswordBody, request: Request, response: Response) -> SessionOut:
        """Choose a new password; the account's other sessions end. A one-time password must be replaced before all else."""
        access, caller, session = _signed_in(request)
        if caller.principal.pending == "second_factor":
            raise HTTPException(403, "show your second factor first (POST /api/v1/auth/totp)")
        asked = session, body.current_password, body.new_password, caller.act, caller.cookie
        return await _answer(request, response, await run_in_threadpool(access.change_password, *asked))


def _add_second_factor(app: FastAPI) -> None:
    @app.post(
        f"{START}/totp/enrol",
        response_model=EnrolmentOut,
        responses=responses({**_CHECKED, 409: "There is one already"}),
        tags=["sign-in"],
    )
    @needs("session:complete")
    async def enrol(request: Request) -> EnrolmentOut:
        """Begin with a second factor: put the secret into an app, then send its first code."""
        access, caller, session = _signed_in(request)
        if caller.principal.pending == "password":
            raise HTTPException(403, "choose a password of your own first (POST /api/v1/auth/password)")
        account = await run_in_threadpool(access.accounts.get, session.account)
        found = await run_in_threadpool(access.factors.enrol, account, caller.act)
        return EnrolmentOut(secret=found.secret, address=found.address)

    @app.post(f"{START}/totp", response_model=SessionOut, responses=responses({**_WRONG, **_CHECKED}), tags=["sign-in"])
    @needs("session:complete")
    async def totp(body: CodeBody, request: Request, response: Response) -> SessionOut:
        """Show the second factor: a code of the app, or a recovery code."""
        access, caller, session = _signed_in(request)
        cookie, codes = await run_in_threadpool(access.confirm, session, body.code, caller.act, caller.cookie)
        return await _answer(request, response, cookie, codes)

    @app.post(
        f"{START}/totp/recovery-codes",
        response_model=RecoveryOut,
        responses=responses({**_WRONG, **_CHECKED, 409: "There is no second factor"}),
        tags=["sign-in"],
    )
    @needs("session:renew_recovery")
    async def renew_recovery(body: CodeBody, request: Request) -> RecoveryOut:
        """New recovery codes in place of the old: asks for a code of the app once more, and takes no recovery code."""
        access, caller, session = _signed_in(request)
        codes = await run_in_threadpool(access.renew_recovery, session, body.code, caller.act)
        return RecoveryOut(recovery_codes=codes)


def _add_sessions(app: FastAPI) -> None:
    @app.get(f"{START}/session", response_model=SessionOut, tags=["sign-in"])
    @needs("session:complete")
    async def session(request: Request, response: Response) -> SessionOut:
        """Who one is, and the token against forged requests."""
        _, caller, _ = _signed_in(request)
        return await _answer(request, response, caller.cookie)

    @app.post(f"{START}/sign-out", status_code=204, tags=["sign-in"])
    @needs("session:complete")
    async def sign_out(request: Request, response: Response) -> None:
        """End the session."""
        access, caller, session = _signed_in(request)
        await run_in_threadpool(access.sessions.end, session.account, session.id, caller.act)
        guard: Guard = request.app.state.guard
        response.delete_cookie(guard.cookie, path="/", secure=guard.secure_cookies, httponly=True, samesite="strict")
        response.headers["Clear-Site-Data"] = '"cache", "cookies", "storage"'

    @app.get(f"{START}/sessions", response_model=list[SessionRow], tags=["sign-in"])
    @needs("session:manage")
    async def sessions(request: Request) -> list[SessionRow]:
        """One's own sessions, newest first."""
        access, _, current = _signed_in(request)
        found = await run_in_threadpool(access.sessions.of, current.account)
        return [
            SessionRow(
                id=s.id, created=s.created, last_used=s.last_used, address=s.address, agent=s.agent, current=s.id == current.id
            )
            for s in found
        ]

    @app.delete(
        f"{START}/sessions/{{session_id}}", status_code=204, responses=responses({404: "There is none"}), tags=["sign-in"]
    )
    @needs("session:manage")
    async def end_session(session_id: str, request: Request) -> None:
        """End one of one's own sessions."""
        access, caller, current = _signed_in(request)
        if not await run_in_threadpool(access.sessions.end, current.account, session_id, caller.act):
            raise HTTPException(404, "there is no such session")


def _add_elsewhere(app: FastAPI) -> None:
    name = "attunement-oidc"

    @app.get(f"{START}/oidc", status_code=303, responses=responses({404: "No provider is configured"}), tags=["sign-in"])
    @needs("session:create")
    async def go(request: Request) -> Response:
        """Sign in at the OpenID Connect provider: sends the browser there."""
        access, _ = _parts(request)
        if access.oidc is None:
            raise HTTPException(404, "no OpenID Connect provider is configured: set access.oidc_issuer")
        guard: Guard = request.app.state.guard
        address, state = await run_in_threadpool(access.oidc.start)
        response = Response(status_code=303, headers={"Location": address})
        # Lax: it comes back with the provider's redirect, which another site begins
        response.set_cookie(name, state, 600, path=CALLBACK, secure=guard.secure_cookies, httponly=True, samesite="lax")
        return response

    @app.get(CALLBACK, status_code=303, responses=responses(_WRONG), tags=["sign-in"])
    @needs("session:create")
    async def back(request: Request, state: str = "", code: str = "") -> Response:
        """Where the provider sends the browser back to."""
        access, caller = _parts(request)
        guard: Guard = request.app.state.guard
        if not state or state != request.cookies.get(name):  # begun in another browser
            raise HTTPException(403, "the sign-in was not begun in this browser: start again")
        agent = request.headers.get("user-agent", "")
        cookie = await run_in_threadpool(access.sign_in_elsewhere, state, code, caller.act, agent, _cookie(request))
        response = Response(status_code=303, headers={"Location": "/"})
        response.delete_cookie(name, path=CALLBACK)
        _set_cookie(guard, response, cookie)
        return response


# --- what they share ----------------------------------------------------------------------------------------


def _parts(request: Request) -> tuple[Access, Caller]:
    guard, caller = request.app.state.guard, request.state.caller
    assert guard.access is not None, "without it nobody may do what these routes are"
    return guard.access, caller


def _signed_in(request: Request) -> tuple[Access, Caller, Session]:
    access, caller = _parts(request)
    if caller.session is None:
        raise HTTPException(401, "there is no session: sign in", {"WWW-Authenticate": 'Bearer realm="attunement"'})
    return access, caller, caller.session


def _cookie(request: Request) -> str:
    return str(request.cookies.get(request.app.state.guard.cookie, ""))


def _set_cookie(guard: Guard, response: Response, cookie: str) -> None:
    response.set_cookie(guard.cookie, cookie, path="/", secure=guard.secure_cookies, httponly=True, samesite="strict")


async def _answer(request: Request, response: Response, cookie: str, codes: list[str] | None = None) -> SessionOut:
    guard: Guard = request.app.state.guard
    access, caller = _parts(request)
    found = await run_in_threadpool(access.by_cookie, cookie)
    assert found is not None
    principal, _ = found
    if cookie != caller.cookie:
        _set_cookie(guard, response, cookie)
    return SessionOut(
        account=principal.id, name=principal.name, roles=sorted(principal.roles), pending=principal.pending,
        forgery_token=forgery_token(cookie), actions=sorted(actions_of(principal)),
        idle_seconds=60 * access.settings.session_idle_minutes, recovery_codes=codes or [],
    )  # fmt: skip
