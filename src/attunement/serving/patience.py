"""How long the service waits for a client that sends slowly: uvicorn itself waits for ever (a slow loris holds its connections)."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS, BODY_SECONDS = 10.0, 20.0
"""For a request's head, from the connection or the answer before; for its whole body."""
_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n"
    b"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\n\r\n%s"
)
_TOLD = (
    b'{"type":"about:blank","title":"Request Timeout","status":408,"detail":"the request did not come in time: send it at once"}'
)


class BodyTimeoutError(Exception):
    """A request's body did not come in time."""


class PatientProtocol(H11Protocol):
    """A connection that gives up a head which does not end."""

    head_seconds = HEAD_SECONDS
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._enough()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._enough()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self._too_late)

    def _enough(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing() and not self._answering():
            self.transport.write(_LATE % (len(_TOLD), _TOLD))
            self.transport.close()


class BodyInTime:
    """`receive` that raises `BodyTimeoutError` when a body has not come as a whole after `BODY_SECONDS` and `more_seconds`; `late` says so, too."""

    def __init__(self, receive: Receive, more_seconds: float = 0.0) -> None:
        self._receive, self._whole, self.late = receive, False, False
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS + more_seconds

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._until - asyncio.get_running_loop().time()))
        except TimeoutError as error:
            self.late = True
            raise BodyTimeoutError from error
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
