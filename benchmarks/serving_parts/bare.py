"""The built-in engine behind the least of an HTTP server: `python bare.py RUN PORT`. No gate: what the engine itself gives.

Takes `POST /v1/chat/completions` with messages and max_tokens, answers greedily and to the last token: nothing ends a reply early.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from attunement.config import ServingSettings
from attunement.records import GenerationConfig
from attunement.serving.engines.builtin import BuiltinEngine


def main() -> None:
    engine = BuiltinEngine.load(Path(sys.argv[1]), ServingSettings())
    engine._tokenizer.eos_token = None
    engine.start()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer({"status": "ok"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            how = GenerationConfig(body["max_tokens"], temperature=0.0, repetition_penalty=1.0)
            pieces = list(engine.stream(body["messages"], how))
            text, tokens = "".join(piece.text for piece in pieces), sum(len(piece.logprobs) for piece in pieces)
            self.answer({"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": tokens}})

        def answer(self, found: dict[str, Any]) -> None:
            data = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()


if __name__ == "__main__":
    main()
