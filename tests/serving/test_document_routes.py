"""Documents over HTTP, by real sockets: who may, what is kept once, what is refused and with which status, how they come back."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from attunement.security.entry import Access, opened
from attunement.security.master_key import FileMasterKey
from attunement.security.permissions import Role
from attunement.serving import patience
from attunement.serving.app import create_app
from attunement.serving.assembly import assembled
from attunement.serving.guard import Guard
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService
from signing import ACT, browser, person, settings_for, sign_in

WHERE = "/api/v1/clients/c-1/documents"
MOST = 400_000
PAGE = b"<script>alert(1)</script> caf\xc3\xa9"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Access]]:
    home = tmp_path_factory.mktemp("documents")
    settings = settings_for(home, "serving.requests_per_minute=60000", f"stores.document_bytes={MOST}")
    FileMasterKey.create(home / "master.key")
    service = DeploymentService(settings)
    with opened(settings) as access, assembled(settings, service, access) as parts, listen("127.0.0.1", 0) as socket:
        app = create_app(service, Guard(settings, access, secure_cookies=False), parts.exchanges)
        person(access, "ann", Role.CLINICIAN)
        access.accounts.assign("ann", "c-1", ACT)
        person(access, "bob", Role.CLINICIAN)
        access.accounts.assign("bob", "c-2", ACT)
        person(access, "cleo", Role.CLIENT, client="c-1")
        with running(app, socket):
            yield f"http://127.0.0.1:{socket.getsockname()[1]}", access


@contextmanager
def signed(served: tuple[str, Access], name: str) -> Iterator[httpx.Client]:
    with browser(served[0]) as found:
        sign_in(found, name)
        yield found


@pytest.fixture(scope="module")
def ann(served: tuple[str, Access]) -> Iterator[httpx.Client]:
    with signed(served, "ann") as found:
        yield found


def body(content: bytes, title: str = "Referral", media_type: str = "text/plain") -> dict[str, str]:
    return {"title": title, "media_type": media_type, "content": base64.b64encode(content).decode()}


def test_one_is_kept_once_listed_and_comes_back_as_a_file(ann: httpx.Client, served: tuple[str, Access]) -> None:
    first = ann.post(WHERE, json=body(PAGE))
    assert first.status_code == 201, first.text
    kept = first.json()
    assert (kept["title"], kept["media_type"], kept["bytes"]) == ("Referral", "text/plain", len(PAGE))
    assert ann.post(WHERE, json=body(PAGE)).json() == kept
    large = b"%PDF-" + b"x" * (MOST - 5)  # far longer than what other routes take
    scan = ann.post(WHERE, json=body(large, "Scan", "application/pdf")).json()
    assert ann.get(WHERE).json() == [kept, scan]
    answer = ann.get(f"{WHERE}/{kept['id']}")
    assert answer.content == PAGE and answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{kept["id"]}.txt"'
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")
    got = ann.get(f"{WHERE}/{scan['id']}")
    assert got.content == large and got.headers["content-type"] == "application/pdf"
    _, access = served
    acts = [(r.action, r.target) for r in access.audit.records(client="c-1") if r.action.startswith("client:")]
    assert acts.count(("client:write", kept["id"])) == 1 and ("client:read", scan["id"]) in acts
    assert "Referral" not in json.dumps(acts)


def test_who_may(ann: httpx.Client, served: tuple[str, Access]) -> None:
    kept = ann.post(WHERE, json=body(b"of c-1 alone")).json()["id"]
    with signed(served, "bob") as bob, signed(served, "cleo") as cleo:
        assert bob.get(WHERE).status_code == bob.get(f"{WHERE}/{kept}").status_code == bob.post(WHERE, json={}).status_code == 403
        assert bob.get(f"/api/v1/clients/c-2/documents/{kept}").status_code == 404
        assert cleo.get(f"{WHERE}/{kept}").content == b"of c-1 alone"
        assert cleo.post(WHERE, json=body(b"mine")).status_code == 403
    assert browser(served[0]).get(WHERE).status_code == 401


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        (body(b"x" * (MOST + 1)), 413, "longer than 400,000 bytes"),
        (body(b"x" * (MOST + 100_000)), 413, "the document is longer than 400,000 bytes: send it in parts"),
        (body(b"RIFF", media_type="audio/wav"), 415, "documents are of the media types text/plain"),
        (body(b"<html>", media_type="application/pdf"), 422, "another than application/pdf"),
        ({**body(b""), "content": "no base64 at all!"}, 422, "content is no base64"),
        ({**body(b""), "content": "QUJD\nQUJD"}, 422, "without line breaks"),
        ({**body(b""), "content": "QQ==QUJD"}, 422, "content is no base64"),
        ({**body(b""), "content": "QUJDR"}, 422, "content is no base64"),
        ({**body(b""), "content": "QUJé"}, 422, "content is no base64"),
        (body(b""), 422, "is empty"),
        (body(b"x", title="a\nb"), 422, "in one line"),
        ({"title": "x", "media_type": "text/plain"}, 422, "content is missing"),
        ({**body(b"x"), "client": "c-2"}, 422, "client is not known"),
    ],
)
def test_what_is_not_taken_gets_one_clear_line(ann: httpx.Client, sent: dict[str, str], status: int, told: str) -> None:
    before = ann.get(WHERE).json()
    answer = ann.post(WHERE, json=sent)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert told in detail and "\n" not in detail and "send fewer turns" not in detail
    assert ann.get(WHERE).json() == before


def test_long_bodies_have_room_on_this_route_alone_and_for_who_may(ann: httpx.Client, served: tuple[str, Access]) -> None:
    long = body(b"x" * (MOST - 10))
    assert ann.post("/api/v1/clients/c-1/sessions", json=long).status_code == 413
    assert ann.put(WHERE, json=long).status_code == 413
    assert ann.get(f"{WHERE}/none").status_code == 404
    assert ann.get(f"{WHERE}/a%20b").status_code == 422
    assert browser(served[0]).post(WHERE, json=long).status_code == 401  # before the body is read


def test_a_slow_line_is_waited_for_by_the_length_of_a_document(
    ann: httpx.Client, served: tuple[str, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "BODY_SECONDS", 0.3)

    def slowly(path: str, sent: dict[str, str]) -> int:
        def halves() -> Iterator[bytes]:
            yield raw[: len(raw) // 2]
            time.sleep(1.0)
            yield raw[len(raw) // 2 :]

        raw = json.dumps(sent).encode()
        return ann.post(
            path, content=halves(), headers={"Content-Length": str(len(raw)), "Content-Type": "application/json"}
        ).status_code

    assert slowly(WHERE, body(b"slow " * 70_000)) == 201
    assert slowly(WHERE, body(b"slow")) == 408  # as short as what other routes take


def test_without_sign_in_nothing_is_kept(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with listen("127.0.0.1", 0) as socket, running(create_app(DeploymentService(settings)), socket):
        answer = browser(f"http://127.0.0.1:{socket.getsockname()[1]}").get(WHERE)
    assert answer.status_code == 403  # and nobody could be let in to them


def test_the_description_has_an_example_that_is_taken(ann: httpx.Client) -> None:
    described = ann.get("/openapi.json").json()
    (example,) = described["components"]["schemas"]["DocumentIn"]["examples"]
    assert ann.post(WHERE, json=example).status_code == 201
    kinds = described["paths"]["/api/v1/clients/{client_id}/documents/{document_id}"]["get"]["responses"]["200"]["content"]
    assert set(kinds) == {
        "text/plain", "text/markdown", "text/csv", "application/json", "application/pdf", "image/png", "image/jpeg",
    }  # fmt: skip
