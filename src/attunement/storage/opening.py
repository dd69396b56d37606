"""The stores of a service, opened by its settings and closed together: transcripts, and what replicas share."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from attunement.security.keys import SYSTEM
from attunement.security.vault import Vault
from attunement.storage.circuits import Circuits
from attunement.storage.replica import Marks
from attunement.storage.shared.buckets import SharedBuckets
from attunement.storage.shared.link import RedisLink
from attunement.storage.shared.live import LiveFeed
from attunement.storage.shared.replies import ReplyCache
from attunement.storage.transcripts.draining import draining
from attunement.storage.transcripts.filing import Documents
from attunement.storage.transcripts.mongo import opened_bodies
from attunement.storage.transcripts.store import TranscriptStore


@dataclass(frozen=True)
class Stores:
    """`buckets` and `link` are None without Redis; then each replica counts, keeps and shows for itself."""

    transcripts: TranscriptStore
    replies: ReplyCache
    live: LiveFeed
    circuits: Circuits
    buckets: SharedBuckets | None
    link: RedisLink | None

    @property
    def documents(self) -> Documents:
        """What was added to clients' records as files; they lie where transcripts do."""
        return Documents(self.transcripts)

    def states(self) -> dict[str, str]:
        """Store to `up`, `down` or `embedded`, for a readiness probe; asks each of them."""
        mongodb = self.transcripts.bodies.state()
        redis = "embedded" if self.link is None else "up" if self.link.up() else "down"
        return {"sql": "up" if self.transcripts.vault.store.up() else "down", "mongodb": mongodb, "redis": redis}


@contextmanager
def opened_stores(vault: Vault, *, drain: bool = True) -> Iterator[Stores]:
    """The stores of `vault.settings`, and with `drain` the thread that empties outbox and spool, while the block runs.

    Opening asks neither MongoDB nor Redis: a service starts while they are down. Raises `ConfigError` for an address that
    cannot be one, or would carry data in the clear; `MissingExtraError`.
    """
    settings, stores = vault.settings, vault.settings.stores
    link = RedisLink(settings, _secret(vault)) if stores.redis else None
    circuits = Circuits(stores.circuit_failures, stores.circuit_seconds, link, longest=stores.timeout_seconds)
    live = LiveFeed(link)
    if link is not None:
        vault.store.share_marks(Marks(link))
    try:
        with opened_bodies(settings, circuits) as bodies:
            transcripts = TranscriptStore(vault, bodies)
            replies = ReplyCache(vault.cipher, stores.reply_cache_seconds, link)
            buckets = SharedBuckets(link) if link else None
            try:
                with draining(transcripts) if drain else nullcontext():
                    yield Stores(transcripts, replies, live, circuits, buckets, link)
            finally:
                transcripts.spool.close()
    finally:
        live.close()
        if link is not None:
            link.close()


def _secret(vault: Vault) -> bytes:
    return hmac.new(vault.ring.key_for(SYSTEM).secret, b"names in redis", hashlib.sha256).digest()
