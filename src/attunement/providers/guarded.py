"""A provider outside of this machine, given no protected health information unless an agreement for it is in force."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from attunement.errors import ServiceError, UserError
from attunement.providers import Completion, Provider, Request

log = logging.getLogger("attunement.providers")


def only_logged(told: str) -> str:
    """For `blocked` where incidents are kept nowhere."""
    log.error("stopped: %s", told)
    return ""


class Outside:
    """A look at what would be sent to `host`. `in_force` says whether an agreement with the provider there holds now.

    The answer is asked for anew with each text that holds something, so that an agreement that ends ends at once. `blocked` is told
    of what was stopped, by types and counts, and says which incident that is ("" for none): of the first at once, of those after it
    together at `close`, as one run may be refused a thousand times. For any number of threads.
    """

    def __init__(self, host: str, in_force: Callable[[str], bool], blocked: Callable[[str], str] = only_logged) -> None:
        self._host, self._in_force, self._blocked = host, in_force, blocked
        self._lock = threading.Lock()
        self._detector: Any = None  # loaded at the first text
        self._incident: str | None = None
        self._untold, self._texts = Counter[str](), 0

    def check(self, *texts: str) -> None:
        """Raises `ServiceError`, which repeats nothing of the texts, where they hold what must not be sent."""
        from attunement.security.phi.detector import PHIDetector, PHIFound

        try:
            with self._lock:
                self._detector = self._detector or PHIDetector()
                self._detector.block(*texts)
        except PHIFound as found:
            if not self._in_force(self._host):
                with self._lock:
                    raise ServiceError(self._refusal(found.counts)) from None

    def close(self) -> None:
        """Tells of what was refused after the first."""
        with self._lock:
            self._tell()

    def _refusal(self, counts: dict[str, int]) -> str:
        self._untold.update(counts)
        self._texts += 1
        if self._incident is None:
            self._tell()
        see = f"; see  attune incidents show {self._incident}" if self._incident else ""
        return (
            f"nothing was sent to {self._host}: the text holds personal data ({_listed(counts)}), and no Business Associate Agreement"
            f" with it is on record and in force (attune agreements add){see}"
        )

    def _tell(self) -> None:
        """Tells of what was refused since the last time. What cannot be recorded is refused all the same."""
        if not self._texts:
            return
        told = f"{self._texts} requests with personal data were not sent to {self._host} ({_listed(self._untold)}): no agreement in force"
        self._untold, self._texts = Counter(), 0
        try:
            self._incident = self._blocked(told)
        except UserError as error:
            self._incident = ""
            log.error("stopped: %s; it could not be recorded as an incident: %s", told, error)


class Guarded(Provider):
    """`inner` at `host` behind a look at every message that is not `made_up` (`Outside`)."""

    def __init__(
        self, inner: Provider, host: str, in_force: Callable[[str], bool], blocked: Callable[[str], str] = only_logged
    ) -> None:
        self.inner, self.name, self.host = inner, inner.name, host
        self._outside = Outside(host, in_force, blocked)

    async def complete(self, request: Request) -> Completion:
        """Raises as `Outside.check` and `inner` do."""
        if not request.made_up:
            self._outside.check(*(message.content for message in request.messages))
        return await self.inner.complete(request)

    async def close(self) -> None:
        self._outside.close()
        await self.inner.close()


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
