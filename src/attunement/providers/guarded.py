"""A provider outside of this machine, given no protected health information unless an agreement for it is in force."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from attunement.errors import ServiceError
from attunement.providers import Completion, Provider, Request


class Outside:
    """A look at what would be sent to `host`. `in_force` says whether an agreement with the provider there holds now.

    The answer is asked for anew with each text that holds something, so that an agreement that ends ends at once.
    """

    def __init__(self, host: str, in_force: Callable[[str], bool]) -> None:
        self._host, self._in_force = host, in_force
        self._lock = threading.Lock()
        self._detector: Any = None  # loaded at the first text

    def check(self, *texts: str) -> None:
        """Raises `ServiceError`, which repeats nothing of the texts, where they hold what must not be sent."""
        from attunement.security.phi.detector import PHIDetector, PHIFound

        try:
            with self._lock:
                self._detector = self._detector or PHIDetector()
                self._detector.block(*texts)
        except PHIFound as found:
            if not self._in_force(self._host):
                kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.counts.items()))
                raise ServiceError(
                    f"nothing was sent to {self._host}: the text holds personal data ({kinds}), and no Business Associate Agreement"
                    " with it is on record and in force (attune agreements add)"
                ) from None


class Guarded(Provider):
    """`inner` at `host` behind a look at every message that is not `made_up` (`Outside`)."""

    def __init__(self, inner: Provider, host: str, in_force: Callable[[str], bool]) -> None:
        self.inner, self.name = inner, inner.name
        self._outside = Outside(host, in_force)

    async def complete(self, request: Request) -> Completion:
        """Raises as `Outside.check` and `inner` do."""
        if not request.made_up:
            self._outside.check(*(message.content for message in request.messages))
        return await self.inner.complete(request)

    async def close(self) -> None:
        await self.inner.close()
