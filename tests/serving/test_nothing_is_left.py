"""The whole service, and a build, after a run full of personal data: none of it in logs, answers of faults, audit or store."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket as sockets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app as command_line
from attunement.errors import ServiceError
from attunement.providers import Message, Request
from attunement.providers.opening import open_provider
from attunement.records import InferenceRequest
from attunement.security.audit import AuditLog
from attunement.security.permissions import Role
from attunement.security.recording import agreements_of, incidents_of
from attunement.serving.service import DeploymentService
from attunement.storage.sql import Store
from signing import AUTH, PASSWORD, access_to, guarded, person, settings_for

PERSONAL = ("Agnieszka", "Kowalczyk", "555-0147", "agnieszka.k@mailbox.example", "457-55-5462", "0048213", "Elmwood")
SAID = (
    "My name is Agnieszka Kowalczyk, I live at 14 Elmwood Street. Call (212) 555-0147 or write to agnieszka.k@mailbox.example."
    " SSN 457-55-5462, MRN 0048213."
)
BREAK = "please break"


class Breaking(DeploymentService):
    """A service whose bug puts what was said into its exception, over several lines and with a cause."""

    def stream(self, request: InferenceRequest, **how: Any) -> Any:
        if BREAK not in request.user_input:
            return super().stream(request, **how)
        try:
            raise ValueError({"user_input": request.user_input})
        except ValueError as error:
            raise RuntimeError(f"cannot answer:\n  {request.user_input}\n{request.conversation_context}") from error


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Everything that anybody logs goes to a file, as an operator may have it; what the server's own loggers get, too."""
    handler, root, served = logging.FileHandler(folder / "service.log"), logging.getLogger(), logging.getLogger("uvicorn")
    level, passed_on = root.level, served.propagate
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        root.setLevel(level)
        served.propagate = passed_on


class Caller:
    """Sends requests over `http.client`, which logs nothing of its own."""

    def __init__(self, address: str) -> None:
        self._place = urlsplit(address)
        self.headers: dict[str, str] = {
            "User-Agent": "test",
            "Referer": f"http://x.example/?q={quote(SAID)}",
            "X-Request-ID": "Agnieszka",
        }

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        link = http.client.HTTPConnection(str(self._place.hostname), self._place.port, timeout=60)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json", "Content-Length": str(len(content or b""))} if method != "GET" else {}
        link.request(method, path, content, {**self.headers, **more})
        answer = link.getresponse()
        text = answer.read().decode()
        if cookie := answer.getheader("set-cookie"):
            self.headers["Cookie"] = cookie.partition(";")[0]
        link.close()
        return answer.status, text

    def raw(self, content: bytes) -> None:
        with sockets.create_connection((str(self._place.hostname), self._place.port or 0), timeout=60) as link:
            link.sendall(content)
            link.recv(4096)


def served(address: str) -> list[tuple[int, str]]:
    """Every way to put something personal into the service. Gives the answers of what was refused or failed."""
    caller = Caller(address)
    refused = [caller.send("POST", f"{AUTH}/sign-in", {"name": name, "password": SAID}) for name in (SAID, "Agnieszka Kowalczyk")]
    refused.append(caller.send("POST", "/api/v1/inference", {"user_input": SAID}))  # nobody is signed in
    status, text = caller.send("POST", f"{AUTH}/sign-in", {"name": "tester", "password": PASSWORD})
    assert status == 200
    refused.append(caller.send("POST", "/api/v1/inference", {"user_input": SAID}))  # forged
    caller.headers["X-CSRF-Token"] = json.loads(text)["forgery_token"]
    for asked in ({"user_input": SAID}, {"user_input": f"I want to die. {SAID}", "conversation_context": [SAID, SAID]}):
        assert caller.send("POST", "/api/v1/inference", asked)[0] == 200
    told = json.dumps({"user_input": SAID}).encode()
    for body in (
        told[:-5], b"\xff" + told, b"[" * 900 + told, {"user_input": [SAID]}, {"user_input": "hi", SAID: SAID}, {SAID: 1}, [SAID],
        {"user_input": "hi", "conversation_context": [{"role": SAID, "content": SAID}]}, {"user_input": SAID * 4000},
    ):  # fmt: skip
        refused.append(caller.send("POST", "/api/v1/inference", body))
    for method, path in (
        ("GET", f"/{quote(SAID)}"), ("GET", f"/api/v1/health/{quote(SAID)}?who={quote(SAID)}"), ("POST", f"/api/v1/inference?{quote(SAID)}"),
        ("DELETE", f"{AUTH}/sessions/{quote(SAID)}"), ("GET", f"/docs/{quote(SAID)}"), ("GET", f"{AUTH}/oidc/callback?state={quote(SAID)}"),
        ("PUT", f"/api/v1/inference/{quote(SAID)}"),
    ):  # fmt: skip
        refused.append(caller.send(method, path))
    status, text = caller.send("POST", "/api/v1/inference", {"user_input": f"{BREAK} {SAID}", "conversation_context": [SAID]})
    assert status == 500
    caller.raw(f"GET /{SAID} HTTP/1.1\r\nHost: {SAID}\r\n\r\n".encode())
    assert all(400 <= status < 500 for status, _ in refused), [status for status, _ in refused]
    return [*refused, (status, text)]


def built(folder: Path) -> list[str]:
    """`attune data build` over talks, lines that cannot be read and records of no known shape; what it printed."""
    turns = [("client", SAID), ("therapist", "Thank you, Agnieszka. What is it like when you lie awake at night there?")] * 2
    lines = [json.dumps({"turns": [{"role": r, "text": t} for r, t in turns]}), '{"turns": [' + SAID, json.dumps({"notes": SAID})]
    (folder / "talks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = []
    for mode in ("redact", "block"):
        command = ["data", "build", str(folder / "talks.jsonl"), "--out", str(folder / mode), "--set", f"data.phi={mode}"]
        done = CliRunner().invoke(command_line, [*command, "--set", "data.min_coherence=0"])
        assert done.exit_code == 0, done.output
        out.append(done.output)
    return out


def refused_call(settings: Any, folder: Path) -> str:
    """A request to a provider elsewhere (an address of nobody: RFC 5737)."""

    async def ask() -> str:
        rules: dict[str, Any] = {"in_force": agreements_of(settings), "blocked": incidents_of(settings)}
        provider = open_provider("http://192.0.2.1:9/v1", settings.providers, folder / "answers", **rules)
        with pytest.raises(ServiceError) as refused:
            await provider.complete(Request([Message("user", SAID)]))
        await provider.close()
        return str(refused.value)

    return asyncio.run(ask())


def test_none_of_it_is_left(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ATTUNE_HOME", str(home))
    home.mkdir()
    settings = settings_for(home, "serving.requests_per_minute=6000", 'providers.model="m"', "serving.max_new_tokens=8")
    service, store = Breaking(settings), Store.at_home(home)
    service.load_model(tiny_run)
    with logged(tmp_path), access_to(store, home) as access:
        person(access, "tester", Role.ML_ENGINEER)
        with guarded(access, settings, service) as address:
            logging.getLogger("uvicorn").propagate = True
            logging.getLogger("uvicorn.error").setLevel(logging.DEBUG)
            answers = served(address)
            told = [refused_call(settings, tmp_path), *built(tmp_path)]
    audit = [json.dumps(asdict(record)) for record in AuditLog(store).records()]
    store.close()
    printed, log = capfd.readouterr(), (tmp_path / "service.log").read_text(encoding="utf-8")
    # it was a run that could leave something
    assert "RuntimeError: cannot answer" in log and "ValueError" in log and "[NAME]" in log and "[SSN]" in log
    assert "incident i" in log and "RuntimeError" in printed.err and "nothing was sent" in told[0]
    actions = {json.loads(row)["action"] for row in audit}
    assert {"session:create", "incident:open", "data:build"} <= actions, actions

    places = {"log": log, "audit": "\n".join(audit), "printed": printed.out + printed.err, "told": "\n".join(told)}
    places |= {f"answer {number}": text for number, (_, text) in enumerate(answers)}
    assert {(place, word) for place, text in places.items() for word in PERSONAL if word in text} == set()
    kept = [*home.rglob("*"), *(p for mode in ("redact", "block") for p in (tmp_path / mode).rglob("*"))]
    kept = [p for p in kept if p.is_file() and p.relative_to(tmp_path).parts[1:3] != ("work", "read")]  # a copy of the sources
    assert {p.name for p in kept} >= {"keys.db", "rejected.jsonl", "quality_report.json"}
    assert {(str(p), word) for p in kept for word in PERSONAL if word.encode() in p.read_bytes()} == set()
