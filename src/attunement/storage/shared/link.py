"""The line to Redis: short time-outs, a circuit of its own, and an answer in its place when it is down. Extra `redis`.

Nothing that keeps somebody safe or out hangs on Redis: who may sign in, holds, keys and transcripts are in the SQL store. So
everything here goes on in process when Redis does not answer, each replica for itself.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from attunement.config import Settings
from attunement.errors import MissingExtraError, StoreDownError
from attunement.storage.addresses import checked, told
from attunement.storage.circuits import Circuits

log = logging.getLogger("attunement.storage.shared")

T = TypeVar("T")
PREFIX = "attunement"
TOLD_SECONDS = 60.0
"""A Redis that is down is logged once in so long."""


class RedisLink:
    """One Redis. `secret` makes the names of keys unreadable: an address of a caller stands in none. For any number of threads."""

    def __init__(self, settings: Settings, secret: bytes = b"") -> None:
        stores = settings.stores
        url = checked("stores.redis", stores.redis, ("redis", "rediss", "unix"), allow_plain=stores.allow_plain)
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ModuleNotFoundError as error:
            raise MissingExtraError("stores.redis", "redis") from error
        wait = stores.redis_timeout_seconds
        self._errors = (redis.RedisError, OSError)
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=2 * stores.pool_size,
            timeout=wait,
            socket_timeout=wait,
            socket_connect_timeout=wait,
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),  # a line that a restart has cut; not who is slow
        )
        self.redis: Any = redis.Redis(connection_pool=pool)
        self._circuits = Circuits(
            stores.circuit_failures, stores.circuit_seconds, longest=3 * wait
        )  # a line of the pool, connecting, the answer
        self._name, self._secret, self._told_at = told(url), secret, -TOLD_SECONDS

    def call(self, ask: Callable[[Any], T], otherwise: T) -> T:
        """What Redis answers, or `otherwise` when it does not in time, or has not lately."""
        try:
            return self.ask(ask)
        except StoreDownError as error:
            if time.monotonic() - self._told_at > TOLD_SECONDS:
                self._told_at = time.monotonic()
                log.warning("%s; this replica goes on alone", error)
            return otherwise

    def ask(self, ask: Callable[[Any], T]) -> T:
        """The same for what must not be done without. Raises `StoreDownError`."""
        try:
            with self._circuits.guarding("redis", *self._errors):
                return ask(self.redis)
        except self._errors as error:
            raise StoreDownError(f"Redis at {self._name} does not answer ({type(error).__name__})") from error

    def key(self, kind: str, name: str) -> str:
        """The name of a key in Redis: a keyed hash in place of `name`."""
        return f"{PREFIX}:{kind}:{hmac.new(self._secret or PREFIX.encode(), name.encode(), hashlib.sha256).hexdigest()[:40]}"

    def up(self) -> bool:
        """Whether Redis answers now."""
        return bool(self.call(lambda redis: redis.ping(), False))

    def close(self) -> None:
        self.redis.close()
        self.redis.connection_pool.disconnect()
