"""Tells people of alerts: one line in the log, and a signed message without words to `serving.alert_webhook` until it is taken.

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
    """Sends what `reviews` holds unsent, in a thread of its own. Raises `ConfigError` for an address that must not be."""

    def __init__(self, reviews: ClinicalReviews | None, settings: ServingSettings, transport: Any = None) -> None:
        self._reviews, self._url = reviews, settings.alert_webhook
        self._wake, self._stop = threading.Event(), threading.Event()
        self._transport = transport
        self._secret = b""
        if not self._url:
            return
        parts = urlsplit(self._url)
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if (parts.scheme != "https" and not (parts.scheme == "http" and local)) or not parts.hostname or parts.username:
            raise ConfigError("serving.alert_webhook must be an https address without a name or password in it")
        variable = settings.alert_secret_variable
        if not os.environ.get(variable):
            raise ConfigError(f"alerts are signed: put a secret into the environment variable {variable}")
        self._secret = os.environ[variable].encode()

    def raised(self, priority: str, row: str) -> None:
        """An alert was put into the queue."""
        log.warning("clinical alert %s (%s): a person must look at it now", row, priority)
        self._wake.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sends while the block runs, first what an earlier process left."""
        if not self._url or self._reviews is None:
            yield
            return
        thread = threading.Thread(target=self._repeat, name="alerts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._wake.set()
            thread.join()

    def _repeat(self) -> None:
        import httpx

        assert self._reviews is not None
        wait = FIRST_WAIT
        with httpx.Client(timeout=SECONDS, trust_env=False, follow_redirects=False, transport=self._transport) as client:
            while not self._stop.is_set():
                self._wake.clear()
                try:
                    for alert in self._reviews.unsent():
                        self._send(client, alert)
                    wait = FIRST_WAIT
                    self._wake.wait(LONGEST_WAIT)
                except Exception as error:  # whatever it is: the next attempt must come
                    log.error("an alert could not be sent (%s): again in %.0f s", type(error).__name__, wait)
                    self._stop.wait(wait)
                    wait = min(2 * wait, LONGEST_WAIT)

    def _send(self, client: Any, alert: dict[str, Any]) -> None:
        body = json.dumps({name: alert[name] for name in TOLD}, separators=(",", ":")).encode()
        signature = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", SIGNATURE: f"sha256={signature}"}
        client.post(self._url, content=body, headers=headers).raise_for_status()
        assert self._reviews is not None
        self._reviews.sent(alert["id"])
