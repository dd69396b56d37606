"""The console's files: what they may do by policy, that they ask only routes that are there, and what these routes give it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx
import pytest

from attunement.console.pages import FILES, SCRIPTS
from attunement.security.entry import Access, opened
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import GRANTS, Role
from attunement.serving.app import create_app
from attunement.serving.assembly import assembled
from attunement.serving.guard import Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from signing import ACT, browser, person, settings_for, sign_in

STATIC = resources.files("attunement.console").joinpath("static")
CALL = re.compile(r'call\("(GET|POST|PATCH|DELETE)", (?:"([^"]+)"|`([^`]+)`|(path)\b)')
LINK = re.compile(r'address\((?:"([^"]+)"|`([^`]+)`)\)')


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Access]]:
    home = tmp_path_factory.mktemp("console")
    settings = settings_for(home, "serving.requests_per_minute=60000")
    FileMasterKey.create(home / "master.key")
    service = DeploymentService(settings)
    with opened(settings) as access, assembled(settings, service, access) as parts, listen("127.0.0.1", 0) as socket:
        with running(create_app(service, Guard(settings, access, secure_cookies=False), parts.exchanges), socket):
            yield f"http://127.0.0.1:{socket.getsockname()[1]}", access


def script(name: str) -> str:
    return STATIC.joinpath(name).read_text(encoding="utf-8")


def test_the_page_is_open_to_everybody_and_forbids_what_it_does_not_need(served: tuple[str, Access]) -> None:
    with browser(served[0]) as client:
        page = client.get("/console")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert not re.search(r"<script(?![^>]* src=)|\son\w+=|<style|style=", page.text)
        assert "{" not in page.text, "a place that nothing was put into"
        for name, kind in FILES.items():
            answer = client.get(f"/console/{name}")
            assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind), name
        assert client.get("/console/index.html").status_code == 404
        assert client.get("/console/..%2fpages.py").status_code == 404
        assert client.get("/", follow_redirects=False).headers["location"] == "/console"


def test_every_file_of_the_folder_is_served_and_every_import_is_there() -> None:
    assert {Path(str(each)).name for each in STATIC.iterdir()} == {*FILES, "index.html"}
    for name in SCRIPTS:
        assert set(re.findall(r'from "\./([^"]+)"', script(name))) <= set(SCRIPTS), name


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_text_or_asks_elsewhere(name: str) -> None:
    text = script(name)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|localStorage|sessionStorage", text
    )
    assert not re.search(r"https?://|//cdn", text.replace("#/", ""))
    if name != "api.js":
        assert "fetch(" not in text, "there is one way to the routes"


def asked() -> set[tuple[str, str]]:
    """Method and path of every call in the scripts; what is put in is `{}`. `at` and `path` are the places that client.js gives."""
    found = set()
    for name in SCRIPTS:
        for method, plain, made, handed in CALL.findall(script(name)):
            found.add((method, plain or made or ("${path}" if handed else "")))
        found |= {("GET", plain or made) for plain, made in LINK.findall(script(name))}
    at, session = "/api/v1/clients/{}", "/api/v1/clients/{}/sessions/{}"
    told = {(method, path.replace("${path}", session).replace("${at}", at).split("?")[0]) for method, path in found}
    return {(method, re.sub(r"\$\{[^}]*\}", "{}", path)) for method, path in told}


def test_every_call_of_the_scripts_is_a_route() -> None:
    app = create_app(DeploymentService())
    routes = {(method, re.sub(r"\{[^}]*\}", "{}", route.path)) for route in app.routes for method in route.methods or ()}  # type: ignore[attr-defined]
    calls = asked()
    assert len(calls) > 20 and ("POST", "/api/v1/alerts") in calls and ("PATCH", "/api/v1/clients/{}/sessions/{}") in calls
    assert calls <= routes, calls - routes


def test_a_session_says_what_the_account_may_do_and_how_long_it_lasts(served: tuple[str, Access]) -> None:
    address, access = served
    person(access, "rev", Role.REVIEWER)
    with browser(address) as client:
        found = sign_in(client, "rev")
    assert set(found["actions"]) == set(GRANTS[Role.REVIEWER])
    assert found["idle_seconds"] == 60 * access.settings.session_idle_minutes


def test_an_account_that_owes_something_may_do_nothing_else_yet(served: tuple[str, Access]) -> None:
    address, access = served
    person(access, "adm", Role.ADMINISTRATOR)
    with browser(address) as client:
        found = sign_in(client, "adm")
    assert found["pending"] == "second_factor"
    assert set(found["actions"]) == {"health:read", "docs:read", "console:read", "session:create", "session:complete"}


def log(client: httpx.Client, who: str, session: str, month: int) -> None:
    sent = {"session_id": session, "timestamp": f"2026-{month:02}-02T10:00:00+01:00", "conversation_summary": "We talked."}
    assert client.post(f"/api/v1/clients/{who}/sessions", json=sent).status_code == 201


def test_a_clinician_sees_the_own_clients_alone_and_a_key_all_page_by_page(served: tuple[str, Access]) -> None:
    address, access = served
    for name, theirs in (("ann", ("c-1", "c-2", "c-3")), ("bob", ("c-4",))):
        person(access, name, Role.CLINICIAN)
        for one in theirs:
            access.accounts.assign(name, one, ACT)
    with browser(address) as ann, browser(address) as bob, browser(address) as key:
        sign_in(ann, "ann")
        sign_in(bob, "bob")
        log(ann, "c-1", "s-1", 3)
        log(ann, "c-1", "s-2", 4)
        log(ann, "c-3", "s-1", 5)
        log(bob, "c-4", "s-1", 6)
        ann.post("/api/v1/clients/c-1/sessions/s-1/signature", json={"version": 1})
        found = ann.get("/api/v1/clients").json()
        assert [(row["client_id"], row["sessions"], row["unsigned"]) for row in found] == [
            ("c-1", 2, 1),
            ("c-2", 0, 0),
            ("c-3", 1, 1),
        ]
        assert found[0]["last_session"] == "2026-04-02T09:00:00Z" and found[1]["last_session"] is None
        assert [row["client_id"] for row in ann.get("/api/v1/clients?after=c-1&limit=1").json()] == ["c-2"]
        key.headers["Authorization"] = f"Bearer {access.keys.create('list', ['client:list'], ACT)}"
        assert [row["client_id"] for row in key.get("/api/v1/clients").json()] == ["c-1", "c-3", "c-4"]
        assert [row["client_id"] for row in key.get("/api/v1/clients?after=c-1&limit=1").json()] == ["c-3"]
        assert bob.get("/api/v1/clients?limit=0").status_code == 422
    listed = list(access.audit.records(action="client:list"))
    assert len(listed) == 4 and not any(record.client for record in listed)
