"""A server on 127.0.0.1 that speaks OpenAI's, Anthropic's and Ollama's protocol, and misbehaves as it is told."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
HANG = (0, {}, b"")
"""An answer that never comes."""


@dataclass
class Speaker:
    """`script` gives the next answer to (path, headers, body); what was asked is kept."""

    script: Callable[[str, dict[str, Any]], Answer]
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    address: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most_running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def speaking(script: Callable[[str, dict[str, Any]], Answer]) -> Iterator[Speaker]:
    speaker = Speaker(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with speaker.lock:
                speaker.asked.append((self.path, {k.casefold(): v for k, v in self.headers.items()}, body))
                speaker.running += 1
                speaker.most_running = max(speaker.most_running, speaker.running)
            status, headers, data = speaker.script(self.path, body)
            if status == 0:
                speaker.done.wait(10)
                self.close_connection = True
                return
            with speaker.lock:
                speaker.running -= 1
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed is no fault of the server's
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    speaker.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield speaker
    finally:
        speaker.done.set()
        server.shutdown()
        server.server_close()


def said(path: str, text: str, finish: str = "stop", tokens: tuple[int, int] = (10, 20)) -> Answer:
    """`text` in the protocol that `path` belongs to."""
    if path.endswith("/chat/completions"):
        body: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "m-1",
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
        }  # fmt: skip
    elif path.endswith("/messages"):
        reason = {"stop": "end_turn", "length": "max_tokens", "refused": "refusal"}.get(finish, finish)
        body = {
            "id": "1", "type": "message", "role": "assistant", "model": "m-1", "content": [{"type": "text", "text": text}],
            "stop_reason": reason, "stop_sequence": None, "usage": {"input_tokens": tokens[0], "output_tokens": tokens[1]},
        }  # fmt: skip
    else:
        body = {
            "model": "m-1", "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": text}, "done": True,
            "done_reason": finish, "prompt_eval_count": tokens[0], "eval_count": tokens[1],
        }  # fmt: skip
    return 200, {}, json.dumps(body).encode()
