"""The ring of data keys: one a client (and one for the system), wrapped by the master key, in a store of their own.

The keys stand apart from the data (`keys.db` in the home; another database by its address), so that no backup of the data
holds one: to shred a client is to destroy 32 bytes in one place, and all that was ever encrypted for the client, in every
backup, stays closed. What is kept of a shredded key is that it was: the ledger, which a restored backup has applied to it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from attunement.errors import ConfigError, DataError
from attunement.security.clock import Clock, stamp, utc_now
from attunement.security.codes import valid_id
from attunement.security.master_key import KEY_BYTES, MasterKey
from attunement.storage.files import canonical
from attunement.storage.sql import Store

SYSTEM = "system"
"""Whose key is used for what belongs to no client."""
FILE = "keys.db"
CACHED_KEYS = 1000
CACHED_SECONDS = 60.0
"""How long another process may still use a key that was shredded."""
BATCH = 200
"""Keys that one transaction of a rotation re-wraps: others wait for it a few milliseconds."""
SCRUB_TRIES, SCRUB_PAUSE_SECONDS = 20, 0.1

key_tables = sa.MetaData()
_keys = sa.Table(
    "data_keys",
    key_tables,
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary),
    sa.Column("master_id", sa.String(64), nullable=False),
    sa.Column("created_at", sa.String(27), nullable=False),
    sa.Column("shredded_at", sa.String(27)),
)
_current = sa.Table(
    "current_master",
    key_tables,
    sa.Column("one", sa.Integer, primary_key=True),
    sa.Column("master_id", sa.String(64), nullable=False),
)


class ShreddedError(DataError):
    """The key of a client was destroyed: nothing of the client can be read or written again."""


@dataclass(frozen=True)
class DataKey:
    """A data key. `secret` is 32 bytes and never printed."""

    subject: str
    version: int
    secret: bytes = field(repr=False)


def about_key(subject: str, version: int) -> bytes:
    """What a wrapped data key is bound to."""
    return canonical(["data-key", subject, version]).encode()


class KeyRing:
    """The data keys in a store of `key_tables`. Safe for threads, and for other processes on the same store."""

    def __init__(
        self,
        store: Store,
        master: MasterKey,
        *,
        cached_keys: int = CACHED_KEYS,
        cached_seconds: float = CACHED_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        self.store, self.master = store, master
        self._most, self._seconds, self._clock = cached_keys, cached_seconds, clock
        self._cache: OrderedDict[tuple[str, int], tuple[float, DataKey]] = OrderedDict()
        self._lock = threading.Lock()

    def key_for(self, subject: str) -> DataKey:
        """The key that encrypts for `subject`, its newest; made when there is none. Raises `ShreddedError`."""
        return self._cached(subject, 0) or self._remember(self._newest(subject) or self._make(subject, 1), newest=True)

    def key(self, subject: str, version: int) -> DataKey:
        """The key that something of `subject` was encrypted with. Raises `ShreddedError`, `DataError` when there is none."""
        if found := self._cached(subject, version):
            return found
        with self.store.snapshot() as connection:
            row = connection.execute(_of(subject).where(_keys.c.version == version)).one_or_none()
        if row is None:
            raise DataError(f"there is no data key {version} for {valid_id('a subject', subject)}: restore the key store")
        return self._remember(self._open(row))

    def load(self, subjects: Iterable[str]) -> None:
        """Takes the keys of many subjects into memory with few questions to the store; those shredded are left out."""
        wanted = list(dict.fromkeys(subjects))[: self._most]
        for start in range(0, len(wanted), BATCH):
            some = _keys.c.subject.in_(wanted[start : start + BATCH])
            with self.store.snapshot() as connection:
                rows = connection.execute(sa.select(_keys).where(some, _keys.c.shredded_at.is_(None))).all()
            for row in rows:
                self._remember(self._open(row))

    def renew(self, subject: str) -> DataKey:
        """A new version for what is encrypted from now on; what was encrypted before keeps its own."""
        return self._remember(self._make(subject, self.key_for(subject).version + 1), newest=True)

    def shred(self, subject: str) -> bool:
        """Destroys every key of `subject` and enters it into the ledger. Again is no error: it does what was left.

        False when the wrapped keys may still lie in the log or the free pages of the key store (another process reads it all
        the time, or PostgreSQL's log): they are closed for good by the next rotation of the master key.
        """
        valid_id("a subject", subject)
        with self.store.begin() as connection:
            self._hold(connection)
            gone = {"wrapped": None, "shredded_at": stamp(self._clock())}
            live = (_keys.c.subject == subject) & _keys.c.shredded_at.is_(None)
            changed = connection.execute(_keys.update().where(live).values(**gone)).rowcount
            known = connection.execute(sa.select(_keys.c.version).where(_keys.c.subject == subject).limit(1)).first()
            if not changed and known is None:  # never had a key, and is to get none
                row = {"subject": subject, "version": 1, "master_id": "", "created_at": gone["shredded_at"], **gone}
                connection.execute(_keys.insert().values(**row))
        with self._lock:
            for key in [key for key in self._cache if key[0] == subject]:
                del self._cache[key]
        return self._scrub() and self.store.is_sqlite

    def versions(self, subject: str) -> list[tuple[int, str, str]]:
        """A subject's keys as (version, made at, destroyed at or ""), oldest first."""
        with self.store.snapshot() as connection:
            rows = connection.execute(_of(subject).order_by(_keys.c.version)).all()
        return [(row.version, row.created_at, row.shredded_at or "") for row in rows]

    def ledger(self) -> list[tuple[str, str]]:
        """The shredded subjects, with when."""
        when = sa.func.min(_keys.c.shredded_at)
        query = sa.select(_keys.c.subject, when).where(_keys.c.shredded_at.is_not(None)).group_by(_keys.c.subject)
        with self.store.snapshot() as connection:
            return [(row[0], row[1]) for row in connection.execute(query.order_by(when, _keys.c.subject))]

    def live(self, prefix: str) -> list[str]:
        """The subjects with a key whose names begin with `prefix`, in order."""
        subject = _keys.c.subject
        query = sa.select(subject).distinct().where(subject.startswith(prefix, autoescape=True), _keys.c.shredded_at.is_(None))
        with self.store.snapshot() as connection:
            return list(connection.execute(query.order_by(subject)).scalars())

    def rotate(self, new: MasterKey | None = None, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Wraps every key by `new`, or by what the present master key wraps with now; returns how many were left to wrap.

        Others go on meanwhile: who makes a key does it with the new master from the first moment. Stopped anywhere, the same
        call goes on where it was.
        """
        master = new or self.master
        with self.store.begin() as connection:
            self._set_current(connection, master.key_id)
        left = _keys.c.shredded_at.is_(None) & (_keys.c.master_id != master.key_id)
        with self.store.snapshot() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(_keys).where(left)).scalar_one()
        done = 0
        while True:
            with self.store.begin() as connection:
                rows = connection.execute(sa.select(_keys).where(left).limit(BATCH).with_for_update()).all()
                for row in rows:
                    wrapped = master.wrap(self._open(row).secret, about_key(row.subject, row.version))
                    here = (_keys.c.subject == row.subject) & (_keys.c.version == row.version)
                    connection.execute(_keys.update().where(here).values(wrapped=wrapped, master_id=master.key_id))
            if not rows:
                break
            done += len(rows)
            progress(done, max(total, done))
        self.master = master
        self._scrub()
        return done

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row as it stands, wrapped, for the escrow."""
        with self.store.snapshot() as connection:
            yield from (dict(row) for row in connection.execute(sa.select(_keys)).mappings())

    def take_in(self, rows: Iterable[dict[str, Any]]) -> int:
        """Puts rows of an escrow back where there are none, for a restored store; returns how many keys came back."""
        count = 0
        with self.store.begin() as connection:
            for row in rows:
                known = connection.execute(_of(row["subject"])).all()
                if any(k.version == row["version"] or k.shredded_at for k in known):
                    continue  # what is here is newer: above all, what was shredded here
                connection.execute(_keys.insert().values(**row))
                count += row["shredded_at"] is None
        return count

    def counts(self) -> dict[str, int]:
        """How many keys are live, how many subjects are shredded, and how many keys another master key still wraps."""
        live, others = _keys.c.shredded_at.is_(None), _keys.c.master_id != self.master.key_id
        with self.store.snapshot() as connection:
            count = sa.select(sa.func.count()).select_from(_keys)
            keys, former = (connection.execute(count.where(c)).scalar_one() for c in (live, live & others))
        return {"live": keys, "shredded": len(self.ledger()), "to_re_wrap": former}

    def _newest(self, subject: str) -> DataKey | None:
        with self.store.snapshot() as connection:
            row = connection.execute(_of(subject).order_by(_keys.c.version.desc()).limit(1)).one_or_none()
        return None if row is None else self._open(row)

    def _make(self, subject: str, version: int) -> DataKey:
        """Inside one transaction with the look at who is the master: none may be made by a master that is on its way out."""
        valid_id("a subject", subject)
        secret = os.urandom(KEY_BYTES)
        with self.store.begin() as connection:
            current = self._hold(connection)
            if shredded := connection.execute(_of(subject).where(_keys.c.shredded_at.is_not(None)).limit(1)).first():
                self._open(shredded)
            if current is None:
                self._set_current(connection, self.master.key_id)
            elif current != self.master.key_id:
                self._follow(connection, current)
            row = {
                "subject": subject, "version": version, "master_id": self.master.key_id, "shredded_at": None,
                "wrapped": self.master.wrap(secret, about_key(subject, version)), "created_at": stamp(self._clock()),
            }  # fmt: skip
            insert = sqlite.insert if self.store.is_sqlite else postgresql.insert
            connection.execute(insert(_keys).values(**row).on_conflict_do_nothing())
            found = connection.execute(
                _of(subject).order_by(_keys.c.version.desc()).limit(1)
            ).one()  # another's, where it was first
        return self._open(found)

    @staticmethod
    def _hold(connection: sa.Connection) -> str | None:
        """The id of the master key that wraps now; making, shredding and the start of a rotation wait for one another on it."""
        return connection.execute(sa.select(_current.c.master_id).with_for_update()).scalar()

    def _set_current(self, connection: sa.Connection, master_id: str) -> None:
        insert = (sqlite.insert if self.store.is_sqlite else postgresql.insert)(_current)
        row = insert.values(one=1, master_id=master_id)
        connection.execute(row.on_conflict_do_update(index_elements=["one"], set_={"master_id": master_id}))

    def _follow(self, connection: sa.Connection, current: str) -> None:
        """The master key that wraps now is not ours: a rotation elsewhere, or one here that has just begun."""
        self.master.refresh()
        if self.master.key_id == current:
            return
        if not self.master.knows(current):
            raise ConfigError(
                f"the data keys are wrapped by the master key {current}, and {self.master.key_id} is set here: set the other"
            )
        self._set_current(connection, self.master.key_id)

    def _open(self, row: Any) -> DataKey:
        if row.shredded_at is not None:
            raise ShreddedError(f"the data of {row.subject} were deleted on {row.shredded_at[:10]}: their key is destroyed")
        about = about_key(row.subject, row.version)
        try:
            secret = self.master.unwrap(bytes(row.wrapped), about, row.master_id)
        except ConfigError:  # a rotation elsewhere
            self.master.refresh()
            secret = self.master.unwrap(bytes(row.wrapped), about, row.master_id)
        return DataKey(row.subject, row.version, secret)

    def _cached(self, subject: str, version: int) -> DataKey | None:
        with self._lock:
            found = self._cache.get((subject, version))
            if found is None or found[0] < time.monotonic():
                return None
            self._cache.move_to_end((subject, version))
            return found[1]

    def _remember(self, key: DataKey, *, newest: bool = False) -> DataKey:
        until = time.monotonic() + self._seconds
        with self._lock:
            for place in ((key.subject, key.version), (key.subject, 0)) if newest else ((key.subject, key.version),):
                self._cache[place] = (until, key)
                self._cache.move_to_end(place)
            while len(self._cache) > 2 * self._most:
                self._cache.popitem(last=False)
        return key

    def _scrub(self) -> bool:
        for _ in range(SCRUB_TRIES):
            if self.store.scrub(_keys):
                return True
            time.sleep(SCRUB_PAUSE_SECONDS)
        return False


def _of(subject: str) -> sa.Select[Any]:
    return sa.select(_keys).where(_keys.c.subject == subject)
