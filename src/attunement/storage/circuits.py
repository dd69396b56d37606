"""Circuits and retries: a database that fails is left alone for a while, and one lost call is tried again.

The states (closed, open, half-open) are purgatory's. What it lacks is here: a place for them that replicas share by Redis and
that falls back to this process (its own Redis repository pins redis-py below 6), one caller alone who asks while a circuit is half-open, and
one error for all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import HALF_OPENED, Context, ExcludeType, OpenedState
from purgatory.service._sync.circuitbreaker import SyncCircuitBreaker
from purgatory.service._sync.repository import SyncAbstractRepository, SyncInMemoryRepository
from purgatory.service._sync.unit_of_work import SyncAbstractUnitOfWork
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from attunement.errors import StoreDownError

if TYPE_CHECKING:
    from attunement.storage.shared.link import RedisLink

T = TypeVar("T")
TRIES, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 3, 0.05, 1.0
FORGOTTEN_SECONDS = 3600


class Circuits:
    """Circuits by name; `seconds` is how long one stays open after `failures` in a row. Shared by replicas with a `link`.

    After that time one caller of each process tries whether the database answers; the others are refused until it is known, or until
    `longest`, the time limit of a call, is over.
    """

    def __init__(self, failures: int, seconds: float, link: RedisLink | None = None, *, longest: float = 10.0) -> None:
        self._seconds, self._probes = seconds, _Probes(longest)
        places = SyncInMemoryRepository() if link is None else _Shared(link)
        self._factory = SyncCircuitBreakerFactory(failures, seconds, uow=_Work(places))

    @contextmanager
    def guarding(self, name: str, *counted: type[Exception]) -> Iterator[None]:
        """Runs the block unless the circuit is open, and counts its errors of the kinds `counted`. Raises `StoreDownError`."""
        token = object()
        try:
            breaker = self._entered(name, token, counted)
            try:
                yield
            except BaseException as error:
                breaker.__exit__(type(error), error, error.__traceback__)
                raise
            breaker.__exit__(None, None, None)
        finally:
            self._probes.end(name, token)  # after what was found is known to all

    def _entered(self, name: str, token: object, counted: tuple[type[Exception], ...]) -> SyncCircuitBreaker:
        """The circuit, which lets the call through. Raises `StoreDownError`."""
        excluded: ExcludeType = [(Exception, lambda error: not isinstance(error, counted))]
        try:
            breaker = self._factory.get_breaker(name, exclude=excluded)
            breaker.context.handle_new_request()
            if breaker.context.state != HALF_OPENED:
                return breaker
            if left := self._probes.begin(name, token):
                left = min(left, self._seconds)
                raise StoreDownError(f"{name} did not answer: one call tries it, the others wait {left:.1f} s", left)
            breaker = self._factory.get_breaker(name, exclude=excluded)  # a try may have ended since it was read
            breaker.context.handle_new_request()
        except OpenedState as state:
            left = max(0.1, state.opened_at + self._seconds - time.time())
            raise StoreDownError(f"{name} does not answer: it is left alone for {left:.1f} s", left) from None
        return breaker

    def state(self, name: str) -> str:
        """closed, opened or half-opened."""
        found = self._factory.uow.contexts.get(name)
        return found.state if found else "closed"


def retried(call: Callable[[], T], *kinds: type[Exception], tries: int = TRIES) -> T:
    """`call`'s answer; errors of `kinds` are tried again after pauses that grow and are drawn by lot, `tries` in all."""
    again = Retrying(
        retry=retry_if_exception_type(kinds),
        stop=stop_after_attempt(tries),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        reraise=True,
    )
    return again(call)


class _Probes:
    """Which call tries a half-open circuit, by its name: one, for at most `longest` seconds."""

    def __init__(self, longest: float) -> None:
        self._longest, self._lock = longest, threading.Lock()
        self._running: dict[str, tuple[object, float]] = {}

    def begin(self, name: str, token: object) -> float:
        """0 where the caller with `token` is to try; else for how many seconds another may still do so."""
        now = time.monotonic()
        with self._lock:
            _, until = self._running.get(name, (None, 0.0))
            if now < until:
                return max(0.1, until - now)
            self._running[name] = token, now + self._longest
            return 0.0

    def end(self, name: str, token: object) -> None:
        """The caller's try, if it was one, is over."""
        with self._lock:
            if self._running.get(name, (None,))[0] is token:
                del self._running[name]


class _Work(SyncAbstractUnitOfWork):
    """Purgatory's unit of work around one place; each change stands by itself."""

    def __init__(self, contexts: SyncAbstractRepository) -> None:
        self.contexts = contexts

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class _Shared(SyncAbstractRepository):
    """States in Redis, one hash a circuit; where Redis does not answer, this process's own."""

    def __init__(self, link: RedisLink) -> None:
        self._link, self._own, self.messages = link, SyncInMemoryRepository(), []

    def get(self, name: str) -> Context | None:
        own = self._own.get(name)
        found = self._link.call(lambda redis: redis.hgetall(self._key(name)), None)
        if own is None or not found:
            return own
        state = found.get(b"state", b"closed").decode()
        opened_at = float(found[b"opened_at"]) if state != "closed" and b"opened_at" in found else None
        return Context(name, own.threshold, own.ttl, state, int(found.get(b"failures", 0)), opened_at)

    def register(self, context: Context) -> None:
        self._own.register(context)

    def update_state(self, name: str, state: str, opened_at: float | None) -> None:
        values = {"state": state, "opened_at": opened_at or 0.0} | ({"failures": 0} if state == "closed" else {})
        self._write(name, lambda pipe: pipe.hset(self._key(name), mapping=values))
        if (own := self._own.get(name)) is not None:  # for the day on which Redis is gone
            self._own.register(Context(name, own.threshold, own.ttl, state, 0, opened_at))  # type: ignore[arg-type]

    def inc_failures(self, name: str, failure_count: int) -> None:
        self._write(name, lambda pipe: pipe.hincrby(self._key(name), "failures", 1))

    def reset_failure(self, name: str) -> None:
        self._write(name, lambda pipe: pipe.hset(self._key(name), "failures", 0))

    def _write(self, name: str, change: Callable[..., object]) -> None:
        def both(redis: object) -> None:
            pipe = redis.pipeline()  # type: ignore[attr-defined]
            change(pipe)
            pipe.expire(self._key(name), FORGOTTEN_SECONDS)
            pipe.execute()

        self._link.call(both, None)

    def _key(self, name: str) -> str:
        return self._link.key("circuit", name)
