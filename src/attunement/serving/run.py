"""Listening and serving: the socket is bound before the model loads, so that a taken port is told at once."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from attunement.errors import ConfigError, ServiceError
from attunement.serving.patience import PatientProtocol

M_ARENA_MAX, HEAPS = -8, 2
"""glibc's `malloc.h`; heaps that threads share."""


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket. Raises `ServiceError` when the address cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # the protocol is named, or asyncio would not turn Nagle's algorithm off: an answer's body waited 40 ms for the head's receipt
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ServiceError(f"there is no address '{host}': give --host 127.0.0.1 or an address of this machine") from error
    with found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(address)
        except OSError as error:
            raise ServiceError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from error
        yield found


@contextmanager
def running(
    app: FastAPI, bound: socket.socket, tls_certificate: Path | None = None, tls_key: Path | None = None
) -> Iterator[None]:
    """Serves in a thread while the block runs."""
    server = uvicorn.Server(configured(app, tls_certificate, tls_key))
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


def run(app: FastAPI, bound: socket.socket, tls_certificate: Path | None = None, tls_key: Path | None = None) -> None:
    """Serves until a signal; requests in progress are finished first. Its log holds paths, never bodies.

    Raises `ConfigError` for a certificate or key that cannot be used.
    """
    uvicorn.Server(configured(app, tls_certificate, tls_key)).run(sockets=[bound])


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: what it has opened is closed, what is on record of its end is written; the exit status is 0.

    Uvicorn finishes its requests and then raises the signal once more, which would end the process where it stands.
    """

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not end what the first began
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def share_heaps() -> bool:
    """Has the threads of the process share few heaps; False where the C library has no such switch (only glibc's does).

    glibc gives each thread a heap of its own, up to eight a core, and what one has freed no other uses: a service of forty threads grows for as
    long as they take turns. Before the threads start.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS))
    except (OSError, AttributeError):
        return False


def sanitise_logs() -> None:
    """Has every handler there is put placeholders in the place of personal data; a second call changes nothing."""
    from attunement.security.phi.logs import Sanitiser

    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access", "attunement")]
    handlers = {handler for logger in loggers for handler in logger.handlers} | {logging.lastResort}
    missing = [h for h in handlers if h is not None and not any(isinstance(f, Sanitiser) for f in h.filters)]
    if missing:
        one = Sanitiser()
        for handler in missing:
            handler.addFilter(one)


def configured(app: FastAPI, tls_certificate: Path | None = None, tls_key: Path | None = None) -> uvicorn.Config:
    """The server's configuration; over TLS 1.2 and later alone (NIST SP 800-52r2)."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        ssl_certfile=str(tls_certificate) if tls_certificate else None,
        ssl_keyfile=str(tls_key) if tls_key else None,
    )
    sanitise_logs()  # after uvicorn has made its handlers
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"the certificate {tls_certificate} and the key {tls_key} cannot be used together: {error}") from error
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config
