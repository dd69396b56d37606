"""Attacks on the doors, each tried against the real service: what an attacker hopes for must not happen."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

from attunement.errors import AccessError
from attunement.security.accounts import Accounts
from attunement.security.acting import Act
from attunement.security.entry import Access
from attunement.security.permissions import Role
from attunement.security.sessions import forgery_token
from attunement.serving.guard import FORGERY_HEADER
from attunement.storage.sql import Store
from signing import ACT, AUTH, PASSWORD, SetClock, access_to, browser, guarded, person, settings_for, sign_in

RISK = {"user_input": "I want to die"}
INJECTIONS = ["' OR '1'='1", "ada' --", "ada'; DROP TABLE accounts; --", 'ada" OR ""="', "ada\\' OR 1=1 #", "%", "_da", "ada\x00"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="module")
def access(home: Path, clock: SetClock) -> Iterator[Access]:
    store = Store.at_home(home)
    with access_to(store, home, clock=clock) as made:
        person(made, "ada", Role.CLINICIAN)
        person(made, "bob", Role.REVIEWER)
        yield made
    store.close()


@pytest.fixture(scope="module")
def address(access: Access, home: Path) -> Iterator[str]:
    with guarded(access, settings_for(home, "serving.requests_per_minute=6000")) as found:
        yield found


@pytest.fixture
def mallory(address: str, clock: SetClock) -> Iterator[httpx.Client]:
    clock.forward(hours=25)  # failures of the test before are forgotten
    with browser(address) as found:
        yield found


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_injection(access: Access, mallory: httpx.Client, text: str) -> None:
    for body in ({"name": text, "password": "x"}, {"name": "ada", "password": text}):
        assert mallory.post(f"{AUTH}/sign-in", json=body).status_code == 401
    assert mallory.get(f"{AUTH}/session", headers={"Cookie": "attunement=x' OR '1'='1"}).status_code == 401
    assert mallory.get(f"{AUTH}/oidc/callback", params={"state": text, "code": text}).status_code == 403
    sign_in(mallory, "ada")
    assert mallory.delete(f"{AUTH}/sessions/{quote(text, safe='')}").status_code == 404
    assert mallory.get(f"{AUTH}/sessions").status_code == 200, "one's own session is still there"
    key = mallory.get("/api/v1/health", headers={"Authorization": "Bearer attn_' OR prefix LIKE '%"})
    assert key.status_code == 401 and len(access.accounts.all()) == 2


def test_operator_objects_in_place_of_text(mallory: httpx.Client) -> None:
    """What turns a look-up into a search elsewhere (NoSQL operators) is no text, and told so."""
    for value in ({"$ne": ""}, {"$gt": ""}, ["ada"], 1, True, None):
        answer = mallory.post(f"{AUTH}/sign-in", json={"name": "ada", "password": value})
        assert answer.status_code == 422 and "password must be text" in answer.json()["detail"]


def test_session_fixation(access: Access, address: str) -> None:
    """A session id that the attacker knows, put into the victim's browser, is not the one that gets signed in."""
    planted = access.sign_in("bob", PASSWORD, ACT)
    for known in (planted, "A" * 43):
        with browser(address) as victim:
            body = {"name": "ada", "password": PASSWORD}
            answer = victim.post(f"{AUTH}/sign-in", json=body, headers={"Cookie": f"attunement={known}"})
            assert answer.status_code == 200 and answer.cookies["attunement"] != known
            assert victim.get(f"{AUTH}/session").json()["name"] == "ada"
        assert access.by_cookie(known) is None


def test_cross_site_request_forgery(access: Access, address: str) -> None:
    with browser(address) as victim:
        token = sign_in(victim, "ada")["forgery_token"]
        del victim.headers[FORGERY_HEADER]
        bobs = access.sign_in("bob", PASSWORD, ACT)
        for headers in (
            {},
            {FORGERY_HEADER: ""},
            {FORGERY_HEADER: "0" * 64},
            {FORGERY_HEADER: token, "Origin": "https://attacker.example"},
            {FORGERY_HEADER: token, "Origin": "null"},
            {FORGERY_HEADER: token, "Origin": address.replace("http://", "http://attacker.example@")},
            {FORGERY_HEADER: token, "Sec-Fetch-Site": "cross-site"},
            {FORGERY_HEADER: token, "Sec-Fetch-Site": "same-site"},
            {FORGERY_HEADER: forgery_token(bobs)},
        ):
            for path in ("/api/v1/inference", f"{AUTH}/sign-out", f"{AUTH}/totp/enrol"):
                assert victim.post(path, json=RISK, headers=headers).status_code == 403, headers
        form = victim.post("/api/v1/inference", data=RISK)
        assert form.status_code == 403
        good = {FORGERY_HEADER: token, "Origin": address, "Sec-Fetch-Site": "same-origin"}
        assert victim.post("/api/v1/inference", json=RISK, headers=good).status_code == 200
    with browser(address) as other:  # signing a victim in to the attacker's account
        forged = other.post(
            f"{AUTH}/sign-in", json={"name": "bob", "password": PASSWORD}, headers={"Origin": "https://attacker.example"}
        )
        assert forged.status_code == 403


def test_ids_of_others(access: Access, mallory: httpx.Client, address: str) -> None:
    with browser(address) as victim:
        sign_in(victim, "bob")
        (theirs,) = [s["id"] for s in victim.get(f"{AUTH}/sessions").json() if s["current"]]
        sign_in(mallory, "ada")
        assert theirs not in {s["id"] for s in mallory.get(f"{AUTH}/sessions").json()}
        there, nowhere = (mallory.delete(f"{AUTH}/sessions/{i}") for i in (theirs, "0" * 16))
        assert there.status_code == nowhere.status_code == 404 and there.json() == nowhere.json()
        assert victim.get(f"{AUTH}/session").status_code == 200


def test_roles_in_a_body(access: Access, mallory: httpx.Client) -> None:
    for more in (
        {"roles": ["administrator"]},
        {"role": "administrator"},
        {"client": "c1"},
        {"confirmed": True},
        {"status": "active"},
    ):
        body = {"name": "ada", "password": PASSWORD, **more}
        answer = mallory.post(f"{AUTH}/sign-in", json=body)
        assert answer.status_code == 422 and answer.json()["detail"].endswith("is not known: the fields are name and password")
    sign_in(mallory, "ada")
    change = {"current_password": PASSWORD, "new_password": PASSWORD + " more", "roles": ["administrator"]}
    assert mallory.post(f"{AUTH}/password", json=change).status_code == 422
    assert mallory.get(f"{AUTH}/session").json()["roles"] == ["clinician"]
    assert mallory.get(f"{AUTH}/session?roles=administrator", headers={"X-Roles": "administrator"}).json()["roles"] == [
        "clinician"
    ]


def test_time_of_signing_in_does_not_tell_who_there_is(access: Access, clock: SetClock) -> None:
    """Medians of interleaved tries, with a hash that takes some milliseconds: within a third of one another."""
    slower = access.settings.model_copy(update={"argon2_memory_kib": 4096, "argon2_passes": 4})
    accounts = Accounts(access.audit, slower, clock)
    accounts.create("carol", [Role.REVIEWER], ACT)
    accounts.create("dave", [Role.REVIEWER], ACT)
    accounts.set_status("dave", "disabled", ACT)
    took: dict[str, list[float]] = {name: [] for name in ("carol", "dave", "nobody-of-that-name")}
    for number in range(15):
        for name, times in took.items():
            clock.forward(hours=25)
            started = time.thread_time()
            with pytest.raises(AccessError, match="the name or the password is wrong"):
                accounts.verify(name, "wrong", Act("anonymous", "r1", f"203.0.113.{number}"))
            times.append(time.thread_time() - started)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 1.34 * min(medians), medians


def test_lines_forged_in_logs(access: Access, mallory: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    forged = "ada\r\n2026-11-27 root1 session:create done"
    with caplog.at_level(logging.DEBUG):
        mallory.headers["User-Agent"] = "Mozilla\x1b[2Jok"
        mallory.post(f"{AUTH}/sign-in", json={"name": forged, "password": "x\nSECRET"})
        mallory.get("/api/v1/%0d%0aSet-Cookie:%20x=1")
        mallory.get("/nowhere", headers={"X-Request-ID": "x y=z"})
        sign_in(mallory, "ada")
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("attunement", "uvicorn"))]
    assert not any("\n" in m or "\r" in m or "SECRET" in m for m in ours)
    for record in access.audit.records():
        line = " ".join((record.actor, record.action, record.target, record.client, record.outcome, record.request))
        assert line.isascii() and line.isprintable() and "root1" not in line
    assert all(s["agent"].isprintable() for s in mallory.get(f"{AUTH}/sessions").json())
    assert access.audit.verify().whole


def test_bodies_too_long_or_of_the_wrong_kind(mallory: httpx.Client) -> None:
    huge = b"x" * 1_000_000
    assert mallory.post(f"{AUTH}/sign-in", content=huge).status_code == 413
    assert mallory.post(f"{AUTH}/sign-in", content=iter([huge])).status_code == 411
    assert mallory.post(f"{AUTH}/sign-in", files={"name": ("../../x", huge)}).status_code == 413
    answer = mallory.post(f"{AUTH}/sign-in", files={"name": ("../../x", b"ada")}, data={"password": "x"})
    assert answer.status_code == 422 and "must be a JSON object with name and password" in answer.json()["detail"]
    assert mallory.put(f"{AUTH}/session", content=huge).status_code == 413
    long = mallory.post(f"{AUTH}/sign-in", json={"name": "ada", "password": "x" * 600})
    assert long.status_code == 422 and "xxx" not in long.text, "a hash of a long password would take long"
    deep = mallory.post(f"{AUTH}/sign-in", content=b"[" * 50_000, headers={"content-type": "application/json"})
    assert deep.status_code in (400, 422)
    sized = mallory.get(f"{AUTH}/session", headers={"Cookie": "attunement=" + "x" * 60_000})
    assert sized.status_code in (400, 401, 431)


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../../etc/passwd",
        "/docs/..%2f..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e%2fapp.py",
        "/%2e%2e/master.key",
        "//etc/passwd",
    ],
)
def test_paths_that_lead_out(address: str, path: str) -> None:
    import socket

    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:  # httpx would tidy the path up
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404") and b"root:" not in answer and b"import" not in answer


@pytest.mark.parametrize(
    "token",
    [
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290MSIsInJvbGVzIjpbImFkbWluaXN0cmF0b3IiXX0.",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb290MSJ9.AAAA",
    ],
)
def test_tokens_that_we_do_not_use(mallory: httpx.Client, token: str) -> None:
    """Sessions and keys are random and looked up: a JSON web token is nothing here. ID tokens: tests/security/test_oidc.py."""
    assert mallory.get(f"{AUTH}/sessions", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert mallory.get(f"{AUTH}/sessions", headers={"Cookie": f"attunement={token}"}).status_code == 401


def test_guessing_is_slowed_for_the_whole_service(access: Access, mallory: httpx.Client) -> None:
    statuses = [mallory.post(f"{AUTH}/sign-in", json={"name": "ada", "password": f"guess {n}"}).status_code for n in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    answer = mallory.post(f"{AUTH}/sign-in", json={"name": "ada", "password": PASSWORD})
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1
    with access.audit.store.snapshot() as connection:
        assert connection.execute(sa.text("select count(*) from audit_records where outcome = 'refused'")).scalar_one() >= 5
