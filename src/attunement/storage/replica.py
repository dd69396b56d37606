"""A read replica that shows nobody less than they wrote: who has written reads from the primary until the replica is as far.

A writer's mark is how far the primary's log was after the write (an LSN). Replicas of the service share marks by Redis. This must
not fail open: where Redis does not answer, lost its marks or missed one, reads go to the primary for a while.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

import sqlalchemy as sa

from attunement.errors import StoreDownError
from attunement.storage.shared.link import RedisLink

MOST_MARKS = 50_000
KEPT_SECONDS = 3600
UNSURE_SECONDS = 60.0
"""How far a replica is trusted to be behind at most where a mark may be missing."""
AWAY_SECONDS = 5.0
"""A replica that did not answer is not asked for so long."""


class Marks:
    """Marks of writers in this process, and with a `link` those of all."""

    def __init__(self, link: RedisLink | None = None) -> None:
        self._link = link
        self._own: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()
        self._missed = False

    def put(self, who: Sequence[str], lsn: str) -> None:
        """Notes that `who` have written up to `lsn`."""
        with self._lock:
            for one in who:
                self._own[one] = max(lsn, self._own.pop(one, lsn), key=_place)
            while len(self._own) > MOST_MARKS:
                self._own.popitem(last=False)
        if self._link is not None:
            keys = [self._link.key("wrote", one) for one in who]
            sure = self._link.key("wrote", "")
            missed = self._missed

            def write(redis: object) -> None:
                pipe = redis.pipeline()  # type: ignore[attr-defined]
                for key in keys:
                    pipe.set(key, lsn, ex=KEPT_SECONDS)
                if missed:
                    pipe.delete(sure)
                pipe.execute()

            try:
                self._link.ask(write)
                self._missed = self._missed and not missed
            except StoreDownError:
                self._missed = True

    def needed(self, who: Sequence[str]) -> str | None:
        """How far a replica must be for `who`; None where nobody knows, "" where anywhere is far enough."""
        with self._lock:
            found = [self._own[one] for one in who if one in self._own]
        if self._link is not None:
            try:
                shared = self._link.ask(lambda redis: self._shared(redis, who))
            except StoreDownError:
                return None
            if shared is None:
                return None
            found += shared
        return max(found, key=_place, default="")

    def _shared(self, redis: object, who: Sequence[str]) -> list[str] | None:
        assert self._link is not None
        sure = self._link.key("wrote", "")
        since, *marks = redis.mget([sure, *(self._link.key("wrote", one) for one in who)])  # type: ignore[attr-defined]
        if since is None:
            redis.set(sure, time.time() + UNSURE_SECONDS, nx=True)  # type: ignore[attr-defined]
            return None
        return None if float(since) > time.time() else [mark.decode() for mark in marks if mark]


class Replica:
    """The engine of a streaming replica, and whether it may be asked."""

    def __init__(self, engine: sa.Engine, marks: Marks) -> None:
        self.engine, self.marks = engine, marks
        self._away_until = 0.0

    def away(self) -> bool:
        return time.monotonic() < self._away_until

    def lost(self) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS

    @staticmethod
    def is_as_far(connection: sa.Connection, lsn: str) -> bool:
        """Whether a replica has replayed the log up to `lsn`, within the transaction that will read."""
        far = sa.text("SELECT pg_last_wal_replay_lsn() >= CAST(:lsn AS pg_lsn)")
        return not lsn or bool(connection.execute(far, {"lsn": lsn}).scalar())


def _place(lsn: str) -> int:
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
