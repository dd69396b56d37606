"""Tells people of alerts: one line in the log, and a signed message without words to each address of `serving.alert_webhook` until
it is taken there.

What is sent: the alert's id, its level, when, the client's and the session's id, the request's. The receiver checks
`Attunement-Signature: sha256=<hex>`, the HMAC of the body by the secret in the environment variable `serving.alert_secret_variable`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from attunement.config import ServingSettings
from attunement.errors import ConfigError
from attunement.serving.reviews import ClinicalReviews

log = logging.getLogger("attunement.alerts")

SIGNATURE = "Attunement-Signature"
TOLD = ("id", "at", "priority", "client", "session", "request")
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
SECONDS = 10.0
"""For one attempt. An attempt that fails is made again after 1, 2, 4 ... 60 seconds, for as long as the service runs, and after it."""


class AlertSender:
    """Sends what `reviews` holds unsent to every address, each in a thread of its own. Raises `ConfigError` for one that must not be.

    An alert is marked as sent when each address has taken it. Who has taken which is known to this process alone: after a restart
    those that are not marked go to every address again, under the same id.
    """

    def __init__(self, reviews: ClinicalReviews | None, settings: ServingSettings, transport: Any = None) -> None:
        self._reviews, self._stop, self._transport = reviews, threading.Event(), transport
        urls, secret = settings.alert_addresses, b""
        for number, url in enumerate(urls, 1):
            if not _is_safe(url):
                which = f" (address {number} of {len(urls)})" if len(urls) > 1 else ""  # the address itself may hold a secret
                raise ConfigError(f"serving.alert_webhook must be an https address without a name or password in it{which}")
        if urls:
            variable = settings.alert_secret_variable
            if not os.environ.get(variable):
                raise ConfigError(f"alerts are signed: put a secret into the environment variable {variable}")
            secret = os.environ[variable].encode()
        self._receivers = [_Receiver(url, secret, number) for number, url in enumerate(urls, 1)]

    def raised(self, priority: str, row: str) -> None:
        """An alert was put into the queue."""
        log.warning("clinical alert %s (%s): a person must look at it now", row, priority)
        self._wake()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sends while the block runs, first what an earlier process left."""
        if not self._receivers or self._reviews is None:
            yield
            return
        threads = [threading.Thread(target=self._repeat, args=(one,), name="alerts", daemon=True) for one in self._receivers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._wake()
            for thread in threads:
                thread.join()

    def _wake(self) -> None:
        for receiver in self._receivers:
            receiver.wake.set()

    def _repeat(self, receiver: _Receiver) -> None:
        import httpx

        wait = FIRST_WAIT
        with httpx.Client(timeout=SECONDS, trust_env=False, follow_redirects=False, transport=self._transport) as client:
            while not self._stop.is_set():
                receiver.wake.clear()
                try:
                    self._send_all(client, receiver)
                    wait = FIRST_WAIT
                    receiver.wake.wait(LONGEST_WAIT)
                except Exception as error:  # whatever it is: the next attempt must come
                    name = f"receiver {receiver.number} of {len(self._receivers)}, {type(error).__name__}"
                    log.error("an alert could not be sent (%s): again in %.0f s", name, wait)
                    self._stop.wait(wait)
                    wait = min(2 * wait, LONGEST_WAIT)

    def _send_all(self, client: Any, receiver: _Receiver) -> None:
        """What is unsent and this receiver has not taken yet, oldest first."""
        assert self._reviews is not None
        seen, after = set[str](), ("", "")
        while alerts := self._reviews.unsent(after=after):
            for alert in alerts:
                row, after = alert["id"], (alert["at"], alert["id"])
                seen.add(row)
                if self._stop.is_set():
                    return
                if row not in receiver.took:
                    receiver.send(client, alert)
                    receiver.took.add(row)
                if all(row in one.took for one in self._receivers):
                    self._reviews.sent(row)
        receiver.took &= seen  # the others are marked


class _Receiver:
    """An address, and which unsent alerts it has taken."""

    def __init__(self, url: str, secret: bytes, number: int) -> None:
        self._url, self._secret, self.number = url, secret, number
        self.wake, self.took = threading.Event(), set[str]()

    def send(self, client: Any, alert: dict[str, Any]) -> None:
        """One attempt. Raises httpx's errors."""
        body = json.dumps({name: alert[name] for name in TOLD}, separators=(",", ":")).encode()
        signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", SIGNATURE: f"sha256={signature}"}
        client.post(self._url, content=body, headers=headers).raise_for_status()


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    encrypted = parts.scheme == "https" or (parts.scheme == "http" and local)
    return encrypted and bool(parts.hostname) and not parts.username
