"""The door of the service: every route for every role as the table has it, cookies, headers, TLS, and who is not asked."""

from __future__ import annotations

import re
import socket as sockets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from typer.testing import CliRunner

from attunement.cli.main import app as command_line
from attunement.cli.serve import asked
from attunement.config import load_settings
from attunement.errors import AccessError, ConfigError
from attunement.security.entry import Access
from attunement.security.permissions import ABOUT_A_CLIENT, ACTIONS, BEFORE_CONFIRMED, GRANTS, PERSONS, Role
from attunement.serving.app import create_app
from attunement.serving.guard import FORGERY_HEADER, Guard, GuardedRoute, Rate, check_routes, needs
from attunement.serving.run import configured, listen, running
from attunement.serving.service import DeploymentService
from attunement.storage.sql import Store
from signing import (
    ACT,
    AUTH,
    CHEAP,
    PASSWORD,
    SetClock,
    access_to,
    browser,
    code_for,
    confirm,
    guarded,
    person,
    settings_for,
)
from signing import sign_in as signed

RISK = {"user_input": "I want to die"}
"""The gate answers it without a model."""


@pytest.fixture(scope="module")
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doors")


@pytest.fixture(scope="module")
def access(home: Path, clock: SetClock) -> Iterator[Access]:
    store = Store.at_home(home)
    with access_to(store, home, clock=clock) as made:
        yield made
    store.close()


@pytest.fixture(scope="module")
def address(access: Access, home: Path) -> Iterator[str]:
    with guarded(access, settings_for(home, "serving.requests_per_minute=6000")) as found:
        yield found


ABOUT_SOMEBODY = ("client:", "context:", "inference:", "feedback:", "alert:")
"""Actions whose routes name a client, or may."""


def probe_app(guard: Guard) -> FastAPI:
    """An application with one route for each action of the table, behind the real guard, as later parts will add them."""
    app = create_app(DeploymentService(), guard)
    for action in ACTIONS:
        path = f"/probe/{action.replace(':', '/')}"

        @app.get(path)
        @needs(action)
        async def one() -> dict[str, bool]:
            return {"in": True}

        @app.get(path + "/{client_id}")
        @needs(action)
        async def of_client(client_id: str) -> dict[str, str]:
            return {"client": client_id}

    check_routes(app)
    return app


@pytest.fixture(scope="module")
def callers(access: Access, home: Path, clock: SetClock) -> Iterator[dict[str, httpx.Client]]:
    """One signed-in caller for each role, over the probe's routes."""
    guard = Guard(settings_for(home, "serving.requests_per_minute=60000"), access, secure_cookies=False)
    with listen("127.0.0.1", 0) as socket, running(probe_app(guard), socket):
        base = f"http://127.0.0.1:{socket.getsockname()[1]}"
        found: dict[str, httpx.Client] = {"anonymous": browser(base)}
        for role in PERSONS:
            person(access, f"probe-{role}", role, client="c1" if role == Role.CLIENT else "")
            found[role] = browser(base)
            signed(found[role], f"probe-{role}")
        confirm(found[Role.ADMINISTRATOR], access, clock)
        access.accounts.assign(f"probe-{Role.CLINICIAN}", "c1", ACT)
        found[Role.SERVICE] = browser(base)
        key = access.keys.create("probe", list(GRANTS[Role.SERVICE]), ACT)
        found[Role.SERVICE].headers["Authorization"] = f"Bearer {key}"
        yield found
        for client in found.values():
            client.close()


# --- every route, every role -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["anonymous", *PERSONS, Role.SERVICE])
def test_every_route_lets_in_whom_the_table_lets_in(callers: dict[str, httpx.Client], role: str) -> None:
    """Each action's route, without a client, with one's own (c1) and with another's (c2)."""
    grants, client = GRANTS[Role(role)], callers[role]
    for action in ACTIONS:
        path = f"/probe/{action.replace(':', '/')}"
        reach = grants.get(action)
        about_one = action in ABOUT_A_CLIENT
        wanted = {path: reach == "all" or (reach == "own" and not about_one)}
        if action.startswith(ABOUT_SOMEBODY):
            wanted |= {f"{path}/c1": reach is not None, f"{path}/c2": reach == "all"}
        for where, let_in in wanted.items():
            status = client.get(where).status_code
            assert status == (200 if let_in else 401 if role == "anonymous" else 403), (role, where, status)


def real_routes() -> list[tuple[str, str, str]]:
    app = create_app(DeploymentService())
    return [
        (method, route.path, route.action)
        for route in app.routes
        if isinstance(route, GuardedRoute)
        for method in sorted(route.methods or ())
    ]


@pytest.mark.parametrize(("method", "path", "action"), real_routes())
def test_the_services_own_routes_keep_to_the_table(callers: dict[str, httpx.Client], method: str, path: str, action: str) -> None:
    if path.endswith("/sign-out"):
        pytest.skip("would sign the callers out; test_signing_out does it")
    for role, client in callers.items():
        place = re.sub(r"\{\w+\}", "x", path.replace("{client_id}", "c1"))  # whom the clinician has, and who the client is
        answer = client.request(method, place, json={} if method in ("POST", "PATCH") else None)
        let_in = action in GRANTS[Role(role)]
        assert (
            (answer.status_code not in (401, 403)) == let_in
            or "there is no session" in answer.text
            or (path.endswith("/oidc/callback") and "this browser" in answer.text)
        ), (role, answer.status_code, answer.text)


def test_a_route_without_an_action_stops_the_service() -> None:
    app = create_app(DeploymentService())
    with pytest.raises(RuntimeError, match="names no action"):

        @app.get("/open")
        async def unnamed() -> None: ...

    with pytest.raises(RuntimeError, match="no action of"):
        needs("client:steal")
    check_routes(app)
    other = APIRouter()

    @other.get("/open")
    async def elsewhere() -> None: ...

    app.include_router(other)
    with pytest.raises(RuntimeError, match="does not go through the guard"):
        check_routes(app)


def test_before_the_second_factor_an_administrator_is_nobody(access: Access, address: str, clock: SetClock) -> None:
    person(access, "root2", Role.ADMINISTRATOR)
    with browser(address) as client:
        assert signed(client, "root2")["pending"] == "second_factor"
        refused = client.get(f"{AUTH}/sessions")
        assert refused.status_code == 403 and "second factor" in refused.json()["detail"]
        assert client.post(f"{AUTH}/password", json={"current_password": PASSWORD, "new_password": "x" * 20}).status_code == 403
        assert len(confirm(client, access, clock)) == 10
        assert client.get(f"{AUTH}/sessions").status_code == 200
        assert client.post(f"{AUTH}/totp/enrol").status_code == 409
    with browser(address) as thief:  # who has the password alone
        assert signed(thief, "root2")["pending"] == "second_factor"
        assert thief.post(f"{AUTH}/totp/enrol").status_code == 409
        assert thief.post(f"{AUTH}/totp", json={"code": "000000"}).status_code == 401
        assert thief.get(f"{AUTH}/sessions").status_code == 403
    assert {"session:create", "session:complete"} <= BEFORE_CONFIRMED


def test_the_whole_of_a_first_sign_in(access: Access, address: str, clock: SetClock) -> None:
    _, first = access.accounts.create("newcomer", [Role.REVIEWER, Role.ML_ENGINEER], ACT)
    with browser(address) as client:
        assert signed(client, "newcomer", first)["pending"] == "password"
        assert client.post("/api/v1/inference", json=RISK).status_code == 403
        weak = client.post(f"{AUTH}/password", json={"current_password": first, "new_password": "password1234567"})
        assert weak.status_code == 422 and "common words" in weak.json()["detail"]
        done = client.post(f"{AUTH}/password", json={"current_password": first, "new_password": PASSWORD})
        assert done.status_code == 200 and done.json()["roles"] == ["ml_engineer", "reviewer"]
        client.headers[FORGERY_HEADER] = done.json()["forgery_token"]
        assert client.post("/api/v1/inference", json=RISK).status_code == 200
        secret = client.post(f"{AUTH}/totp/enrol").json()["secret"]
        assert client.post(f"{AUTH}/totp", json={"code": code_for(secret, clock)}).json()["recovery_codes"]


def test_recovery_codes_are_renewed_by_who_shows_the_second_factor_again(access: Access, address: str, clock: SetClock) -> None:
    path, mine = f"{AUTH}/totp/recovery-codes", person(access, "renewer", Role.REVIEWER)
    with browser(address) as client, browser(address) as thief:
        signed(client, "renewer")
        signed(thief, "renewer")
        none_yet = client.post(path, json={"code": "123456"})
        assert none_yet.status_code == 409 and "enrol" in none_yet.json()["detail"]
        secret = client.post(f"{AUTH}/totp/enrol").json()["secret"]
        assert client.post(path, json={"code": code_for(secret, clock)}).status_code == 409  # never confirmed
        shown = client.post(f"{AUTH}/totp", json={"code": code_for(secret, clock)}).json()
        client.headers[FORGERY_HEADER], old = shown["forgery_token"], shown["recovery_codes"]
        for wrong in (code_for(secret, clock), old[0], "000000"):  # used, a recovery code, wrong
            assert client.post(path, json={"code": wrong}).status_code == 401
        clock.forward(seconds=30)
        assert thief.post(path, json={"code": code_for(secret, clock)}).status_code == 403  # the password alone
        assert client.post(path, json={}).status_code == 422
        unasked = client.post(path, json={"code": code_for(secret, clock)}, headers={FORGERY_HEADER: "x"})
        assert unasked.status_code == 403
        answer = client.post(path, json={"code": code_for(secret, clock)})
        new = answer.json()["recovery_codes"]
        assert answer.status_code == 200 and len(set(new)) == 10 and not set(new) & set(old)
        assert thief.post(f"{AUTH}/totp", json={"code": old[1]}).status_code == 401
        assert thief.post(f"{AUTH}/totp", json={"code": new[1]}).status_code == 200
    told = [(r.outcome, r.actor) for r in access.audit.records() if r.action == "second_factor:renew_recovery"]
    assert told == [("refused", mine)] * 3 + [("done", mine)]


def test_signing_out(access: Access, address: str) -> None:
    person(access, "leaver", Role.REVIEWER)
    with browser(address) as client, browser(address) as other:
        signed(client, "leaver")
        signed(other, "leaver")
        rows = client.get(f"{AUTH}/sessions").json()
        assert [r["current"] for r in rows].count(True) == 1 and len(rows) == 2
        (theirs,) = [r["id"] for r in rows if not r["current"]]
        assert client.delete(f"{AUTH}/sessions/{theirs}").status_code == 204
        assert other.get(f"{AUTH}/session").status_code == 401
        kept = dict(client.cookies)
        out = client.post(f"{AUTH}/sign-out")
        assert out.status_code == 204 and "attunement=" in out.headers["set-cookie"]
        client.cookies.update(kept)
        assert client.get(f"{AUTH}/session").status_code == 401


def test_a_key_of_a_program(access: Access, address: str) -> None:
    key = access.keys.create("form", ["inference:create"], ACT)
    with browser(address) as client:
        assert client.post("/api/v1/inference", json=RISK).status_code == 401
        for wrong in ("Bearer attn_x", f"Basic {key}", "Bearer", f"Bearer {key[:-1]}"):
            answer = client.post("/api/v1/inference", json=RISK, headers={"Authorization": wrong})
            assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer")
        client.headers["Authorization"] = f"Bearer {key}"
        assert client.post("/api/v1/inference", json=RISK).status_code == 200
        assert client.get(f"{AUTH}/session").status_code == 403
        access.keys.revoke("form", ACT)
        assert client.post("/api/v1/inference", json=RISK).status_code == 401


def test_too_many_requests_of_one_caller(access: Access, home: Path) -> None:
    with guarded(access, settings_for(home, "serving.requests_per_minute=1")) as address, browser(address) as client:
        answers = [client.get("/api/v1/health") for _ in range(25)]
        assert [a.status_code for a in answers[:20]] == [503] * 20  # no model
        assert answers[-1].status_code == 429 and int(answers[-1].headers["Retry-After"]) >= 1
    now = [0.0]
    rate = Rate(60, clock=lambda: now[0])
    for _ in range(20):
        rate.take("a")
    with pytest.raises(AccessError):
        rate.take("a")
    rate.take("b")
    now[0] += 1.0
    rate.take("a")


# --- what every answer carries -----------------------------------------------------------------------------------


def test_headers_of_every_answer(address: str) -> None:
    with browser(address) as client:
        ids = set()
        for path in ("/api/v1/health", "/docs", "/nowhere", "/openapi.json", f"{AUTH}/session", "/"):
            headers = client.get(path, headers={"X-Request-ID": "chosen\tby-caller"}).headers
            ids.add(headers["x-request-id"])
            assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
            assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer" and headers["x-frame-options"] == "DENY"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
            assert "script-src" not in policy or "script-src 'self';" in policy
            assert "strict-transport-security" not in headers and "server" not in headers
        assert len(ids) == 6


def test_pages_have_no_script_inside(address: str) -> None:
    with browser(address) as client:
        page = client.get("/docs").text
        assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == ["", ""]
        assert not re.search(r"\son\w+=|javascript:", page)
        assert "SwaggerUIBundle({" in client.get("/docs/start.js").text
        for name in ("../../config.py", "..%2f..%2fconfig.py", "%2e%2e/app.py", "redoc.standalone.js", "x"):
            assert client.get(f"/docs/{name}").status_code == 404


def test_a_fault_carries_them_too(home: Path) -> None:
    class Failing(DeploymentService):
        def stream(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("SECRET")

    with listen("127.0.0.1", 0) as socket, running(create_app(Failing(settings_for(home))), socket):
        answer = httpx.post(f"http://127.0.0.1:{socket.getsockname()[1]}/api/v1/inference", json=RISK, trust_env=False)
    assert answer.status_code == 500 and answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.headers["x-request-id"]) == 32 and "SECRET" not in answer.text


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def test_over_tls_cookies_are_bound_to_it_and_old_versions_are_refused(
    access: Access, home: Path, certificate: tuple[Path, Path]
) -> None:
    person(access, "over-tls", Role.REVIEWER)
    guard = Guard(settings_for(home), access)
    with (
        listen("127.0.0.1", 0) as socket,
        running(create_app(DeploymentService(settings_for(home)), guard), socket, *certificate),
    ):
        port = socket.getsockname()[1]
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted, trust_env=False) as client:
            answer = client.post(f"{AUTH}/sign-in", json={"name": "over-tls", "password": PASSWORD})
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-attunement=") and "Domain" not in cookie
            for flag in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
                assert flag in cookie
            assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
            assert client.get(f"{AUTH}/session").json()["name"] == "over-tls"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with sockets.create_connection(("127.0.0.1", port), timeout=5) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw)
    config = configured(create_app(DeploymentService()), *certificate)
    assert config.ssl is not None and config.ssl.minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(ConfigError, match="cannot be used together"):
        configured(create_app(DeploymentService()), certificate[0], certificate[0])


# --- who is not asked ------------------------------------------------------------------------------------------------


def test_without_sign_in_only_this_machine_by_its_name_is_answered(home: Path) -> None:
    with listen("127.0.0.1", 0) as socket, running(create_app(DeploymentService(settings_for(home))), socket):
        base = f"http://127.0.0.1:{socket.getsockname()[1]}"
        with browser(base) as client:
            assert client.post("/api/v1/inference", json=RISK).status_code == 200
            assert "asks nobody to sign in" in client.post(f"{AUTH}/sign-in", json={"name": "a", "password": "b"}).text
            for headers in (
                {"Host": "attacker.example"},  # a name that an attacker had pointed at 127.0.0.1
                {"Host": "127.0.0.1.attacker.example"},
                {"X-Forwarded-For": "203.0.113.5"},  # a proxy that let the world in
                {"Origin": "https://attacker.example"},
                {"Sec-Fetch-Site": "cross-site"},
            ):
                assert client.post("/api/v1/inference", json=RISK, headers=headers).status_code == 403, headers
            plain = client.post("/api/v1/inference", content='{"user_input": "x"}', headers={"Content-Type": "text/plain"})
            assert plain.status_code == 422, "what a form of another site can send"


def test_who_is_asked_is_decided_at_the_start(tmp_path: Path) -> None:
    def mode(*more: str) -> bool:
        with asked(settings_for(tmp_path, *more)) as found:
            return found is not None

    everywhere = "serving.host=0.0.0.0"
    assert not mode() and not (tmp_path / "attunement.db").exists(), "asking makes no store"
    with pytest.raises(ConfigError, match="other machines"):
        mode("serving.authentication=none", everywhere)
    for more in (["serving.authentication=required"], [everywhere]):
        with pytest.raises(ConfigError, match="attune accounts create"):
            mode(*more)
    Store.at_home(tmp_path).close()
    assert not mode(), "a store without an account"
    create = ["accounts", "create", "root1", "--role", "administrator", *home_of(tmp_path)]
    without = CliRunner().invoke(command_line, create)
    assert "attune keys init" in str(without.exception) and not mode()
    CliRunner().invoke(command_line, ["keys", "init", *home_of(tmp_path)])
    made = CliRunner().invoke(command_line, create)
    assert made.exit_code == 0, made.output
    assert mode() and mode(everywhere) and not mode("serving.authentication=none")


def home_of(path: Path) -> list[str]:
    return [part for setting in (f"home={path}", *CHEAP) for part in ("--set", setting)]


def test_serve_refuses_other_addresses_in_one_line(tmp_path: Path) -> None:
    arguments = ["serve", "--model", "nowhere", "--host", "0.0.0.0", "--insecure-http", "--set", f"home={tmp_path}"]
    told = subprocess.run([sys.executable, "-m", "attunement", *arguments], capture_output=True, text=True, check=False)
    assert told.returncode == 3 and told.stderr.count("\n") == 1 and "attune accounts create" in told.stderr


def test_accounts_at_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command_line, ["accounts", *arguments, *home_of(tmp_path)])

    CliRunner().invoke(command_line, ["keys", "init", *home_of(tmp_path)])
    first = run("create", "root1", "--role", "administrator").stdout.strip()
    run("create", "ada", "--role", "clinician", "--role", "reviewer")
    assert run("assign", "ada", "c1").exit_code == 0 and run("assign", "ada", "c1", "--remove").exit_code == 0
    assert run("disable", "ada").exit_code == 0 and "disabled" in run("list").stdout
    assert run("enable", "ada").exit_code == 0 and run("unlock", "ada").exit_code == 0
    assert run("roles", "ada", "--role", "reviewer").exit_code == 0
    assert run("reset", "root1").stdout.strip() != first
    assert isinstance(run("reset", "root1", "--second-factor").exception, Exception)
    assert isinstance(run("link", "ada", "s1").exception, ConfigError)
    assert run("create", "x y", "--role", "boss").exit_code == 1
    key = run("key", "create", "form", "--scope", "inference:create").stdout.strip()
    assert key.startswith("attn_") and key[5:17] in run("key", "list").stdout
    assert run("key", "rotate", "form", "--overlap-hours", "1").stdout.startswith("attn_")
    assert run("key", "revoke", "form").stdout == "keys ended: 2\n"
    rows = run("list", "--json").stdout
    assert '"name": "ada"' in rows and "argon2" not in rows
    with asked(load_settings(None, [f"home={tmp_path}"]).settings) as found:
        assert found is not None and found.audit.verify().whole
        assert {r.actor.partition(":")[0] for r in found.audit.records()} == {"os"}
