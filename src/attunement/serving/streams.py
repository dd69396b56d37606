"""Replies as server-sent events, and what happens when who reads them goes away: nothing more is generated, what was read is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio.to_thread
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from attunement.security.acting import Act
from attunement.serving.exchange import Answered, Asked, Exchanges
from attunement.serving.service import LeftError

EVENTS = "text/event-stream"
ERROR = {
    "type": "object",
    "properties": {"error": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}},
    "required": ["error"],
}
Piece = str | Answered


def stream_of(kinds: Mapping[str, Any], end: str = "") -> dict[int | str, dict[str, Any]]:
    """For a route's description: what it also answers with. `kinds` are the schemas of the events' JSON by the kind of event (empty: it names none); `end` is the
    last one's text where it is no JSON. `itemSchema` is OpenAPI 3.2's, as FastAPI writes it for streams of its own.
    """
    forms: list[dict[str, Any]] = []
    for kind, schema in {**kinds, "error": ERROR}.items():
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
        named = {"event": {"const": kind}} if kind else {}
        forms.append({"properties": {**named, "data": data}, "required": [*named, "data"]})
    if end:
        forms.append({"properties": {"data": {"const": end}}, "required": ["data"]})
    item = {"type": "object", "anyOf": forms}
    return {200: {"description": "The reply; with `stream` as server-sent events", "content": {EVENTS: {"itemSchema": item}}}}


def event(data: Mapping[str, Any] | str, kind: str = "") -> str:
    """One server-sent event."""
    body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {kind}\ndata: {body}\n\n" if kind else f"data: {body}\n\n"


class Reading:
    """One reply on its way to a reader who may go at any time: also while a thread waits for the next words."""

    def __init__(self, exchanges: Exchanges, asked: Asked, act: Act) -> None:
        self._gone, self._turn = threading.Event(), threading.Lock()
        self._pieces = exchanges.stream(asked, act, self._gone.is_set)
        self.began = False
        """Whether anything was sent to the reader."""

    def next(self) -> Piece | None:
        """The next piece, None after the last. Raises as `Exchanges.stream`."""
        with self._turn:
            return next(self._pieces, None)

    def leave(self) -> None:
        """The reader is gone, or has everything: a thread that makes the next words stops at its next token."""
        self._gone.set()

    def end(self) -> None:
        """Keeps what was read, if the whole is not kept yet; after `leave`."""
        with self._turn:
            if self.began:
                self._pieces.close()
                return
            with suppress(LeftError, StopIteration):
                self._pieces.throw(LeftError())  # the first words were made, and nobody was there to read them


async def streamed(request: Request, reading: Reading, write: Callable[[Piece], str], end: str = "") -> Response:
    """The reply as events. What goes wrong before the first is an answer of its own; later the stream ends with an `error`."""
    first = await run_in_threadpool(reading.next)  # raises here, where the status can still say it
    nobody_there = await request.is_disconnected()

    async def body() -> AsyncIterator[str]:
        if nobody_there:
            return
        try:
            piece, reading.began = first, True
            while piece is not None:
                yield write(piece)
                # given up when the reader goes: `_Leaving` must say so to the thread, and waits for it
                piece = await anyio.to_thread.run_sync(reading.next, abandon_on_cancel=True)
            if end:
                yield event(end)
        except Exception as error:  # whatever it is: the status is sent, so the reader is told here; the server logs it
            yield event({"error": {"message": f"the service failed ({type(error).__name__}); its log says where"}}, "error")
            raise

    return _Leaving(reading, body())


class _Leaving(StreamingResponse):
    """Ends the reading however the response ends: Starlette cancels it when the reader goes, at times before it has begun."""

    def __init__(self, reading: Reading, body: AsyncIterator[str]) -> None:
        super().__init__(body, media_type=EVENTS, headers={"X-Accel-Buffering": "no"})
        self._reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reading.leave()
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._reading.end)
