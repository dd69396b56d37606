"""Clients that do what no client should: each is told in time, and the others are answered."""

from __future__ import annotations

import json
import platform
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attunement.config import load_settings
from attunement.errors import ConfigError
from attunement.serving import patience
from attunement.serving.app import create_app
from attunement.serving.certificates import development_certificate
from attunement.serving.run import listen, running
from attunement.serving.service import DeploymentService

ROUTE = "/api/v1/inference"


@pytest.fixture(scope="module")
def served(tiny_run: Path) -> Iterator[tuple[str, int]]:
    service = DeploymentService(load_settings(None, ["serving.max_new_tokens=12", f"serving.models={tiny_run.parent}"]).settings)
    service.load_model(tiny_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience.PatientProtocol, "head_seconds", 0.6)
        patch.setattr(patience, "BODY_SECONDS", 0.6)
        with listen("127.0.0.1", 0) as socket, running(create_app(service), socket):
            yield "127.0.0.1", socket.getsockname()[1]


def answered(served: tuple[str, int], begin: bytes, drops: bytes, every: float) -> str:
    """What comes back when `drops` are sent one at a time after `begin`."""
    with sockets.create_connection(served, timeout=10) as connection:
        connection.sendall(begin)
        for drop in drops:
            time.sleep(every)
            try:
                connection.sendall(bytes([drop]))
            except OSError:
                break
        got = b""
        try:
            while chunk := connection.recv(65536):
                got += chunk
        except OSError:
            pass
        return got.decode()


def test_no_answer_waits_for_the_receipt_of_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    found, made = list[int](), patience.PatientProtocol.connection_made

    def noted(self: patience.PatientProtocol, transport: Any) -> None:
        found.append(transport.get_extra_info("socket").getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(patience.PatientProtocol, "connection_made", noted)
    service = DeploymentService(load_settings(None, []).settings)
    with listen("127.0.0.1", 0) as socket, running(create_app(service), socket):
        httpx.get(f"http://127.0.0.1:{socket.getsockname()[1]}/api/v1/health/live", trust_env=False).raise_for_status()
    assert found == [1]  # without it Nagle's algorithm holds the body back, 40 ms a request


def test_a_head_that_never_ends(served: tuple[str, int]) -> None:
    told = answered(served, b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X-Slow: aaaaaaaaaa", 0.1)
    assert told.startswith("HTTP/1.1 408 ") and "send it at once" in told
    first = b"GET /api/v1/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    told = answered(
        served, first + b"GET /api/v1/health HTTP/1.1\r\n", b"X-Slow: aaaaaaaaaa", 0.1
    )  # the second one, after an answer
    assert told.startswith("HTTP/1.1 200 ") and "HTTP/1.1 408 " in told


def test_a_body_that_never_ends(served: tuple[str, int]) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n".encode()
    told = answered(served, head, b'{"user_input": "aaaaaa', 0.08)
    assert told.startswith("HTTP/1.1 408 ") and "the body did not come in time" in told


def test_a_hundred_megabytes(served: tuple[str, int]) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n".encode()
    told = answered(served, head, b"", 0)
    assert told.startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (json.dumps({"user_input": "Hello", "conversation_context": ["a"] * 10_000}).encode(), 422, "400 turns"),
        (b'{"user_input": "\xff\xfe"}', 400, "UTF-8"),
        (b'{"user_input": "Hi", "stream": NaN}', 422, "stream"),
        (b'{"user_input": NaN}', 422, "user_input must be text"),
        (b'{"user_input": "Hi", "conversation_context": Infinity}', 422, "must be a list"),
        (b"[" * 100_000, 400, "nested"),
    ],
)
def test_bodies_that_no_client_should_send(served: tuple[str, int], body: bytes, status: int, told: str) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{served[1]}{ROUTE}", content=body, headers={"content-type": "application/json"}, trust_env=False
    )
    assert answer.status_code == status and told in answer.json()["detail"]


def test_methods_of_all_routes_are_told(served: tuple[str, int]) -> None:
    answer = httpx.delete(f"http://127.0.0.1:{served[1]}/api/v1/reviews", trust_env=False)
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, POST"


# --- another model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../tiny", "tiny/../../etc", "/etc", "nowhere", "tiny/checkpoints/none", ".hidden"])
def test_a_model_from_elsewhere_cannot_be_swapped_in(served: tuple[str, int], name: str) -> None:
    answer = swap(served, name)
    assert answer.status_code == 403  # nobody may, where nobody signs in


def swap(served: tuple[str, int], name: str) -> Any:
    return httpx.post(f"http://127.0.0.1:{served[1]}/api/v1/deployment", json={"model": name}, trust_env=False)


def test_models_are_swapped_by_who_may(tiny_run: Path, tmp_path: Path) -> None:
    import signing
    from attunement.security.permissions import Role
    from attunement.storage.sql import Store

    store = Store.at_home(tmp_path)
    settings = signing.settings_for(tmp_path, f"serving.models={tiny_run.parent}", "serving.max_new_tokens=8")
    service = DeploymentService(settings)
    service.load_model(tiny_run)
    with signing.access_to(store, tmp_path) as access, signing.guarded(access, settings, service) as address:
        signing.person(access, "eng", Role.ML_ENGINEER)
        with signing.browser(address) as engineer:
            signing.sign_in(engineer, "eng")
            for name in ("../tiny", "tiny/../../etc", "/etc", ".hidden"):
                assert engineer.post("/api/v1/deployment", json={"model": name}).status_code == 422
            assert engineer.post("/api/v1/deployment", json={"model": "nowhere"}).status_code == 404
            (tiny_run.parent / "empty").mkdir(exist_ok=True)
            before = engineer.get("/api/v1/deployment").json()["model_version"]
            failed = engineer.post("/api/v1/deployment", json={"model": "empty"}).json()
            assert failed["model_version"] == before and "could not be loaded" in failed["alert"]
            assert engineer.get("/api/v1/health").json()["status"] == "degraded"
            done = engineer.post("/api/v1/deployment", json={"model": tiny_run.name})
            assert done.status_code == 200 and done.json() == {"model_version": before, "alert": ""}
        assert [r.target.split("@")[0] for r in access.audit.records(action="deployment:swap")][-1].startswith("tiny-")
    store.close()


# --- HTTPS for development ---------------------------------------------------------------------------------


def test_a_certificate_for_development(tmp_path: Path) -> None:
    certificate, key = development_certificate(tmp_path / "tls", ["attune.test"], 3)
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="not written over"):
        development_certificate(tmp_path / "tls")
    with pytest.raises(ConfigError, match="no name of a host"):
        development_certificate(tmp_path / "other", ["https://x/"])
    service = DeploymentService()
    with listen("127.0.0.1", 0) as socket, running(create_app(service), socket, certificate, key):
        address = f"https://127.0.0.1:{socket.getsockname()[1]}/api/v1/health/live"
        assert httpx.get(address, verify=str(certificate), trust_env=False).json() == {"alive": True}
        with pytest.raises(httpx.ConnectError):
            httpx.get(address, trust_env=False)


def test_threads_share_heaps_where_the_c_library_can() -> None:
    code = "from attunement.serving.run import share_heaps; print(share_heaps())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
