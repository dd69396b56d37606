"""The parts of a running service put together by its settings: stores, review queue, alerts, figures, and what joins them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from attunement.config import Settings
from attunement.security.entry import Access
from attunement.security.retention import scheduled
from attunement.serving.alerts import AlertSender
from attunement.serving.exchange import Exchanges
from attunement.serving.journals import JournalHistory, journal
from attunement.serving.metrics import Metrics
from attunement.serving.reviews import ClinicalReviews
from attunement.serving.service import DeploymentService
from attunement.storage.opening import Stores, opened_stores


@dataclass(frozen=True)
class Parts:
    """What runs; `stores` is None where nobody signs in, and nothing is kept."""

    exchanges: Exchanges
    stores: Stores | None


@contextmanager
def assembled(settings: Settings, service: DeploymentService, access: Access | None) -> Iterator[Parts]:
    """The parts, with their threads (retention, outbox, alerts), while the block runs. Raises `ConfigError`."""
    metrics = Metrics()
    metrics.serves(service.version)
    with ExitStack() as running:
        stores = reviews = progress = None
        if access is not None:
            reviews = ClinicalReviews(access.audit, access.cipher)
            running.enter_context(scheduled(settings))
            if access.vault is not None:
                stores = running.enter_context(opened_stores(access.vault))
        alerts = AlertSender(reviews, settings.serving)
        running.enter_context(alerts.running())
        if access is not None and access.vault is not None and reviews is not None:
            progress = journal(access.vault, reviews, alerts, service.validator)
        history = JournalHistory(progress) if progress else None
        yield Parts(Exchanges(service, metrics, reviews, alerts, history, stores, progress), stores)
