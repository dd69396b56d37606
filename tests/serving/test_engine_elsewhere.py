"""Engines that answer elsewhere, against a server of OpenAI's protocol on this machine; vLLM's own tests are in test_engine_vllm.py."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from attunement.config import ServingSettings
from attunement.errors import ConfigError, ServiceError
from attunement.records import GenerationConfig
from attunement.serving.engines import DEADLINE, LENGTH, STOP, BusyError, EngineError
from attunement.serving.engines.openai import OpenAIEngine
from attunement.serving.engines.opening import open_engine

TALK = [{"role": "user", "content": "I can't sleep."}]
HOW = GenerationConfig(16, temperature=0.5, top_p=0.8, repetition_penalty=1.2)


class Server:
    """Streams `words`, one every `pause` seconds; `refuse` gives a status and a message to a request's body, or None."""

    def __init__(self) -> None:
        self.words, self.pause, self.finish = ["That ", "sounds ", "hard."], 0.0, "stop"
        self.refuse: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda body: None
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.left = threading.Event()
        """Set when a client was gone before the end."""
        self.address = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        self.asked.append(({k.casefold(): v for k, v in handler.headers.items()}, body))
        if refused := self.refuse(body):
            return self.send(handler, refused[0], json.dumps({"error": {"message": refused[1]}}).encode())
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        try:
            for number, word in enumerate(self.words):
                time.sleep(self.pause)
                last = number == len(self.words) - 1
                told = {"content": [{"token": word, "logprob": -0.5, "top_logprobs": []}]} if body.get("logprobs") else None
                self.event(handler, {"content": word}, told, self.finish if last else None)
        except OSError:
            self.left.set()
        return None

    def event(self, handler: BaseHTTPRequestHandler, delta: Any, told: Any, finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": told, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        handler.wfile.flush()

    def send(self, handler: BaseHTTPRequestHandler, status: int, data: bytes) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@contextmanager
def serving() -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.send(self, 200, b'{"object": "list", "data": []}')

        def do_POST(self) -> None:
            served.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def engine(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIEngine]:
    monkeypatch.setenv("A_KEY", "k-123")
    settings = ServingSettings(
        engine="openai", engine_url=server.address, engine_model="m", engine_key_variable="A_KEY", max_batch=2, max_waiting=0
    )
    found = open_engine(settings, Path())
    assert isinstance(found, OpenAIEngine)
    with closing(found):
        found.start()
        yield found


def test_a_reply_streams_with_its_probabilities(server: Server, engine: OpenAIEngine) -> None:
    pieces = list(engine.stream(TALK, HOW, seed=7))
    assert "".join(p.text for p in pieces) == "That sounds hard." and pieces[-1].finish == STOP
    assert [told for p in pieces for told in p.logprobs] == [-0.5] * 3
    headers, body = server.asked[-1]
    assert headers["authorization"] == "Bearer k-123" and not [name for name in headers if name.startswith("x-stainless")]
    wanted = {"model": "m", "messages": TALK, "stream": True, "max_tokens": 16, "temperature": 0.5, "top_p": 0.8, "seed": 7}
    assert body == {**wanted, "logprobs": True, "repetition_penalty": 1.2}
    server.finish = "length"
    assert list(engine.stream(TALK, HOW))[-1].finish == LENGTH
    assert engine.version == "m@127.0.0.1"


def test_what_a_server_does_not_know_is_not_asked_again(server: Server, engine: OpenAIEngine) -> None:
    server.refuse = lambda body: (422, "Unsupported fields: {'logprobs'}") if "logprobs" in body else None
    for _ in range(2):
        pieces = list(engine.stream(TALK, HOW))
        assert "".join(p.text for p in pieces) == "That sounds hard." and not any(p.logprobs for p in pieces)
    assert ["logprobs" in body for _, body in server.asked] == [True, False, False]


def test_a_reply_that_is_given_up_is_no_longer_computed(server: Server, engine: OpenAIEngine) -> None:
    server.words, server.pause = ["word "] * 200, 0.02
    pieces = engine.stream(TALK, HOW)
    next(pieces)
    pieces.close()
    assert server.left.wait(5)


def test_the_deadline_holds_although_the_server_stalls(server: Server, engine: OpenAIEngine) -> None:
    server.words, server.pause = ["So. ", "It ", "is"], 0.25
    started = time.monotonic()
    pieces = list(engine.stream(TALK, HOW, started + 0.6))
    assert time.monotonic() - started < 0.9 and pieces[0].text == "So. " and pieces[-1].finish == DEADLINE
    server.pause = 2
    with pytest.raises(BusyError):
        list(engine.stream(TALK, HOW, time.monotonic() + 0.3))


def test_no_more_than_there_is_room_for(server: Server, engine: OpenAIEngine) -> None:
    server.words, server.pause = ["word "] * 100, 0.02
    held = [engine.stream(TALK, HOW) for _ in range(2)]
    for pieces in held:
        next(pieces)
    with pytest.raises(BusyError):
        next(engine.stream(TALK, HOW))
    for pieces in held:
        pieces.close()
    server.words = ["Yes."]
    assert next(engine.stream(TALK, HOW)).text == "Yes."


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [(429, BusyError, "busy"), (503, BusyError, "busy"), (401, ServiceError, "refused the key"), (404, ServiceError, "404")],
)
def test_refusals_are_ours_and_not_repeated(
    server: Server, engine: OpenAIEngine, status: int, kind: type[Exception], told: str
) -> None:
    server.refuse = lambda body: (status, "no")
    with pytest.raises(kind, match=told):
        list(engine.stream(TALK, HOW))
    assert len(server.asked) == 1


def test_a_reply_that_breaks_off_is_no_reply(server: Server, engine: OpenAIEngine) -> None:
    server.finish = None  # type: ignore[assignment]
    with pytest.raises(EngineError, match="in the middle"):
        list(engine.stream(TALK, HOW))


def test_who_is_not_there_is_asked_again_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        found = OpenAIEngine(server.address, "m", "", ServingSettings())
        found.start()
    with closing(found):
        started = time.monotonic()
        with pytest.raises(EngineError, match="cannot be reached"):
            list(found.stream(TALK, HOW))
        assert 0.4 <= time.monotonic() - started < 5
        closed = OpenAIEngine(server.address, "m", "", ServingSettings())
        with pytest.raises(EngineError, match="cannot be reached"):
            closed.start()


def test_addresses_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="in the clear"):
        OpenAIEngine("http://10.0.0.8:8000/v1", "m", "", ServingSettings())
    with pytest.raises(ConfigError, match="no address"):
        OpenAIEngine("ftp://llm.example.org", "m", "", ServingSettings())
    with pytest.raises(ConfigError, match=r"set serving\.engine_url"):
        open_engine(ServingSettings(engine="openai"), Path())
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        open_engine(
            ServingSettings(
                engine="openai", engine_url="https://llm.example.org/v1", engine_model="m", engine_key_variable="NO_SUCH_KEY"
            ),
            Path(),
        )


def test_personal_data_leaves_this_machine_under_an_agreement_alone() -> None:
    asked: list[str] = []

    def in_force(host: str) -> bool:
        asked.append(host)
        return len(asked) > 1

    found = OpenAIEngine("https://llm.example.org/v1", "m", "", ServingSettings(), in_force)
    personal = [{"role": "user", "content": "My name is Anna Keller, call me at 415-555-0132."}]
    with pytest.raises(ServiceError, match="no Business Associate Agreement") as told:
        next(found.stream(personal, HOW))
    assert asked == ["llm.example.org"] and "Keller" not in str(told.value)
    with pytest.raises(EngineError, match="closed"):  # it was let through, to an engine that was not started
        next(found.stream(personal, HOW))
