"""The service's figures, for Prometheus: counts and times, never a word or a client."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


class Metrics:
    """One registry a service, so that two in a process do not add up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        on = self._registry
        self.replies = Counter("attunement_replies", "Replies by what the gate did.", ["action"], registry=on)
        self.refusals = Counter("attunement_refusals", "Requests without a reply, by HTTP status.", ["status"], registry=on)
        self.seconds = Histogram("attunement_reply_seconds", "From the request to its reply.", buckets=SECONDS, registry=on)
        self.steps = Histogram("attunement_step_seconds", "Of each step of the gate.", ["step"], buckets=SECONDS, registry=on)
        self.risk = Counter("attunement_risk", "Requests by the level of risk in their conversation.", ["level"], registry=on)
        self.regenerated = Counter("attunement_regenerated", "Replies that were generated a second time.", registry=on)
        self.cached = Counter("attunement_cached", "Replies that came from the cache.", registry=on)
        self.cut = Counter("attunement_cut", "Replies shown in part: the reader left or the model failed.", registry=on)
        self.streams = Gauge("attunement_requests_in_progress", "Requests that are being answered.", registry=on)
        self.model = Gauge("attunement_model", "1 for the model that is served.", ["version"], registry=on)

    def serves(self, version: str) -> None:
        """Another model is served from now on."""
        self.model.clear()
        self.model.labels(version).set(1)

    def replied(self, action: str, level: str, seconds: float, steps: Mapping[str, float]) -> None:
        """A reply was given; `steps` are seconds."""
        self.replies.labels(action).inc()
        self.risk.labels(level).inc()
        self.seconds.observe(seconds)
        for step, took in steps.items():
            self.steps.labels(step).observe(took)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
