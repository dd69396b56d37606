"""The audit log: who did what, to which client, when, with what outcome. Append-only and hash-chained; never content.

Each record holds the SHA-256 of itself and, in it, that of the record before. A record is written in the caller's own
transaction, so that the thing and its record stand or fall together; from its first record to its end a transaction keeps
other writers out (SQLite: all of it; PostgreSQL: an advisory lock), so that the chain never forks. Signed checkpoints (`checkpoints.py`), kept outside of the table too, guard the tail and the whole against
one who can write to the database. `docs/security-design.md` says what that does not catch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.checkpoints import Checkpoint, Checkpoints
from attunement.security.clock import Clock, stamp, utc_now
from attunement.security.codes import valid_action, valid_id
from attunement.storage.sql import Store, metadata

OUTCOMES = ("done", "refused", "failed")
FIRST = "0" * 64
"""What stands for the record before the first."""
FETCHED = 5000
"""Records that are in memory at once when the log is read."""

_records = sa.Table(
    "audit_records",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(27), nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("target", sa.String(64), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(8), nullable=False),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("before", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Index("audit_records_client", "client", "number"),
    sa.Index("audit_records_actor", "actor", "number"),
)
_SQLITE_TRIGGERS = (
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit_records BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit_records BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END",
    # INSERT OR REPLACE deletes without the trigger above
    "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit_records WHEN NEW.number <= (SELECT coalesce(max(number), 0) FROM audit_records)"
    " BEGIN SELECT RAISE(ABORT, 'audit records are append-only'); END",
)
_POSTGRES_TRIGGERS = (
    "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'audit records are append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit_records FOR EACH ROW EXECUTE FUNCTION audit_append_only()",
    "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_records FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
)
for _dialect, _statements in (("sqlite", _SQLITE_TRIGGERS), ("postgresql", _POSTGRES_TRIGGERS)):
    for _statement in _statements:
        sa.event.listen(_records, "after_create", sa.DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Entry:
    """What is to be recorded: ids and codes alone. Raises `DataError` for anything else: words of people have no place here.

    `target` is what it was done to, where that is no client: an account, a service, a run, a backup.
    """

    actor: str
    action: str
    client: str = ""
    outcome: str = "done"
    request: str = "-"
    target: str = ""

    def __post_init__(self) -> None:
        valid_id("actor", self.actor)
        valid_action(self.action)
        if self.target:
            valid_id("target", self.target)
        if self.client:
            valid_id("client", self.client)
        if self.request != "-":
            valid_id("request", self.request)
        if self.outcome not in OUTCOMES:
            raise DataError(f"an outcome is one of {', '.join(OUTCOMES)}")


@dataclass(frozen=True)
class Record:
    """One record. `target` and `client` are empty where none is concerned; `at` is UTC (`2026-11-27T12:57:27.123456Z`)."""

    number: int
    at: str
    actor: str
    action: str
    target: str
    client: str
    outcome: str
    request: str
    before: str
    hash: str


_NAMES = tuple(Record.__dataclass_fields__)
_COLUMNS = [_records.c[name] for name in _NAMES]
_WORDS: Any = sa.cast(_COLUMNS[0], sa.Text)
for _column in _COLUMNS[1:-1]:
    _WORDS = _WORDS + "\n" + _column
"""The text that `record_hash` hashes, put together by the database: fewer columns to fetch, a third faster."""
_LAST = sa.select(_records.c.number, _records.c.hash).order_by(_records.c.number.desc()).limit(1)
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('attunement.audit'))")


@dataclass(frozen=True)
class Verdict:
    """What `verify` found. `reason` is empty, or the code of the first fault, at record `first_bad`:

    `edited` (its words do not give its hash), `removed` (its number is missing), `reordered` (it does not follow the one
    before), `rewritten` (a checkpoint signed another hash), `truncated` (a checkpoint knows of later ones),
    `forged_checkpoint` (a signature that does not hold), `not_append_only` (the database's own guard is gone).
    """

    records: int
    reason: str = ""
    first_bad: int = 0
    checkpoints: int = 0
    last_checkpoint: int = 0

    @property
    def whole(self) -> bool:
        return not self.reason


def record_hash(
    number: int, at: str, actor: str, action: str, target: str, client: str, outcome: str, request: str, before: str
) -> str:
    """SHA-256 of a record's words, joined by line ends. No word holds one when it is written, and a word that was given one

    later makes a line too many: no two records give the same text.
    """
    return hashlib.sha256(
        "\n".join((str(number), at, actor, action, target, client, outcome, request, before)).encode()
    ).hexdigest()


class AuditLog:
    """The log in a store. `checkpoints` may be None where nothing can be signed (a process without the master key)."""

    def __init__(self, store: Store, checkpoints: Checkpoints | None = None, *, clock: Clock = utc_now) -> None:
        self.store, self.checkpoints, self.clock = store, checkpoints, clock
        self._heads: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction to do something in and record it; afterwards a checkpoint is signed when one is due."""
        with self.store.begin() as connection:
            yield connection
        if self.checkpoints is not None and self.checkpoints.due(self.clock()):
            self.checkpoint()

    def append(self, connection: sa.Connection, *entries: Entry) -> int:
        """Writes records within the transaction of `connection`, best as its last statement: other writers wait until it ends.

        Returns the last one's number.
        """
        number, before = self._head(connection)
        rows, at = [], stamp(self.clock())
        for e in entries:
            number += 1
            words = (number, at, e.actor, e.action, e.target, e.client, e.outcome, e.request, before)
            before = record_hash(*words)
            rows.append(dict(zip(_NAMES, (*words, before), strict=True)))
        connection.execute(_records.insert(), rows)
        self._keep_head(connection, (number, before))
        if self.checkpoints is not None:
            self.checkpoints.count(len(rows))
        return number

    def _head(self, connection: sa.Connection) -> tuple[int, str]:
        """The last number and hash, which nobody else can change until the transaction ends."""
        transaction = connection.get_transaction()
        assert transaction is not None, "an audit record is written within a transaction"
        if (known := self._heads.get(transaction)) is not None:
            return known
        if connection.dialect.name == "postgresql":
            connection.execute(_LOCK)
        found = connection.execute(_LAST).one_or_none()
        return (0, FIRST) if found is None else (found.number, found.hash)

    def _keep_head(self, connection: sa.Connection, head: tuple[int, str]) -> None:
        transaction = connection.get_transaction()
        if connection.in_nested_transaction():  # may be taken back alone
            self._heads.pop(transaction, None)
        elif transaction is not None:
            self._heads[transaction] = head

    def records(
        self,
        *,
        client: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Record]:
        """The records, oldest first, as a stream; of one client, actor or action, from `since` until before `until`."""
        query = sa.select(*_COLUMNS).order_by(_records.c.number)
        for column, value in ((_records.c.client, client), (_records.c.actor, actor), (_records.c.action, action)):
            query = query if value is None else query.where(column == value)
        query = query if since is None else query.where(_records.c.at >= stamp(since))
        query = query if until is None else query.where(_records.c.at < stamp(until))
        with self.store.snapshot() as connection:
            for row in connection.execution_options(yield_per=FETCHED).execute(query):
                yield Record(*row)

    def newest(self, action: str, outcome: str = "done") -> Record | None:
        """The last record of an action, None when there is none."""
        query = sa.select(*_COLUMNS).where(_records.c.action == action, _records.c.outcome == outcome)
        with self.store.snapshot() as connection:
            row = connection.execute(query.order_by(_records.c.number.desc()).limit(1)).one_or_none()
        return None if row is None else Record(*row)

    def export(self, **which: Any) -> Iterator[str]:
        """The records as JSON lines (`records`'s filters)."""
        return (json.dumps(asdict(record)) for record in self.records(**which))

    def head(self) -> tuple[int, str]:
        """Number and hash of the last record; 0 and `FIRST` while there is none."""
        with self.store.snapshot() as connection:
            found = connection.execute(_LAST).one_or_none()
        return (0, FIRST) if found is None else (found.number, found.hash)

    def checkpoint(self) -> Checkpoint | None:
        """Signs where the chain stands now; None when it is empty. Raises `DataError` where nothing can be signed."""
        if self.checkpoints is None:
            raise DataError("a checkpoint needs the master key: set security.master_key")
        number, digest = self.head()
        return self.checkpoints.sign(number, digest, self.clock()) if number else None

    def verify(self) -> Verdict:
        """Walks the whole chain and holds it against the checkpoints and the head."""
        signed = self.checkpoints.all() if self.checkpoints is not None else []
        if forged := next((c for c in signed if not c.holds), None):
            return Verdict(0, "forged_checkpoint", forged.number, len(signed))
        expected = {c.number: c.hash for c in signed}
        last = max(expected, default=0)
        count, reason, bad = self._walk(expected)
        if not reason:
            with self.store.snapshot() as connection:
                guarded = _is_guarded(connection)
            if last > count:
                reason, bad = "truncated", count + 1
            elif not guarded:
                reason = "not_append_only"
        return Verdict(count, reason, bad, len(signed), last)

    def _walk(self, expected: dict[int, str]) -> tuple[int, str, int]:
        """How many records are whole, and the first fault with its record."""
        query = sa.select(_records.c.number, _records.c.before, _records.c.hash, _WORDS).order_by(_records.c.number)
        number, before, sha = 0, FIRST, hashlib.sha256
        with self.store.snapshot() as connection:
            for part in connection.execution_options(yield_per=FETCHED).execute(query).partitions():
                for found, previous, digest, words in part:
                    number += 1
                    if found != number:
                        return number - 1, "removed", number
                    if sha(words.encode()).hexdigest() != digest:
                        return number - 1, "edited", number
                    if previous != before:
                        return number - 1, "reordered", number
                    if number in expected and expected[number] != digest:
                        return number - 1, "rewritten", number
                    before = digest
        return number, "", 0


def _is_guarded(connection: sa.Connection) -> bool:
    """Whether the database itself still refuses to change a record."""
    if connection.dialect.name == "sqlite":
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_records'"
        return int(connection.execute(sa.text(query)).scalar_one()) == len(_SQLITE_TRIGGERS)
    query = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'audit_records'::regclass AND NOT tgisinternal AND tgenabled = 'O'"
    return int(connection.execute(sa.text(query)).scalar_one()) == len(_POSTGRES_TRIGGERS) - 1
