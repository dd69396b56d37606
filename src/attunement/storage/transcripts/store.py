"""`TranscriptStore`: keeps what was said and answered, with its audit record, and gives it back in order; for documents (`filing.py`), too.

A row is committed to the SQL store together with its record before `add` returns; MongoDB gets it afterwards, from a
thread (`draining.py`). So a reply never waits for MongoDB, and what was kept before a power cut is kept after it. While the SQL store
itself is down it goes into the spool, a file of this machine, and from there into the SQL store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError as ExistsError

from attunement.errors import DataError, StoreDownError
from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clock import stamp, utc_now
from attunement.security.codes import valid_id
from attunement.security.grouped import GroupedWriter
from attunement.security.holds import deletions
from attunement.security.vault import Vault
from attunement.storage.transcripts.bodies import Bodies, NoBodies, RefusedError
from attunement.storage.transcripts.records import DOCUMENT, TRANSCRIPT, WORDS, Row, Transcript, seal, together, unseal
from attunement.storage.transcripts.spool import Spool
from attunement.storage.transcripts.tables import MONGODB, OUTBOX, SQL, erasures, transcripts

log = logging.getLogger("attunement.storage.transcripts")

T = TypeVar("T")
BATCH = 200
ERASED_AGAIN_SECONDS = 600.0
"""An erasure is carried out again for so long: another replica may have been about to put what it deletes."""


class TranscriptStore:
    """Transcripts of one vault; their words in `bodies`, by default in the SQL store. For any number of threads and processes."""

    def __init__(self, vault: Vault, bodies: Bodies | None = None) -> None:
        self.vault, self.bodies, self.spool = vault, bodies or NoBodies(), Spool(vault.settings.home)
        self._elsewhere = bodies is not None and not isinstance(bodies, NoBodies)
        self._writer = GroupedWriter(vault.audit)

    def add(self, transcript: Transcript, act: Act) -> None:
        """Keeps a transcript and records it as `inference:create`; the same again changes nothing. On disk when this returns.

        One without a client is not kept where `stores.anonymous_days` is 0. Raises `ShreddedError` for a deleted client,
        `StoreDownError` where neither the SQL store nor the spool takes it.
        """
        if not transcript.client_id and not self.vault.settings.stores.anonymous_days:
            return
        self.keep(seal(self.vault.cipher, transcript), act)

    def keep(self, sealed: Row, act: Act) -> None:
        """The same for a row that is sealed already, of whatever kind."""
        row = {**sealed, "actor": act.actor}
        if self.spool.count():  # what came before goes in before it
            self.spool.put(row)
            return
        try:
            self._write(row)
        except StoreDownError as error:
            log.warning("transcripts wait in the spool: %s", error)
            self.spool.put(row)

    def read(self, act: Act, *, client: str = "", session: str = "", last: int = 0) -> list[Transcript]:
        """The transcripts of a client, of a session, or of a client's session, oldest first; only the `last` ones with a number.

        Reading a client's is recorded (`context:read`). A session without a client is asked for with no `client`, and gives
        those alone. Raises `StoreDownError` while a store that holds them does not answer.
        """
        which = {"kind": TRANSCRIPT, "client": valid_id("client", client) if client else ""}
        if session or not client:
            which["session"] = valid_id("session", session)
        found = self.find(which, lambda row: unseal(self.vault.cipher, row), last=last)
        if client:
            with self.vault.audit.begin() as connection:
                self.vault.audit.append(connection, Entry(act.actor, "context:read", client, request=act.request))
        return found

    def find(self, which: Mapping[str, str], opened: Callable[[Row], T], *, last: int = 0, heads: bool = False) -> list[T]:
        """What `opened` makes of the rows with such columns, oldest first; `heads` leaves out the columns of `WORDS`. Not on record."""
        query = sa.select(*(column for column in transcripts.c if not (heads and column.name in WORDS)))
        for name, value in which.items():
            query = query.where(transcripts.c[name] == value)
        query = query.order_by(transcripts.c.number.desc()).limit(last) if last else query.order_by(transcripts.c.number)

        def found(reading: AbstractContextManager[sa.Connection]) -> list[T]:
            rows = self._rows(query, which, last, reading)
            return [opened(row) for row in (rows if heads else self.bodies.filled(rows))]

        try:
            return found(self.vault.store.reading(*_writers(which["client"], which.get("session", ""))))
        except DataError:  # a replica may not know yet that something was deleted
            return found(self.vault.store.snapshot())

    def waiting(self) -> dict[str, int]:
        """How many transcripts and documents wait: in the `spool` for the SQL store, in the `outbox` for MongoDB; and erasures."""
        count = sa.select(sa.func.count())
        with self.vault.store.snapshot() as connection:
            outbox = connection.execute(count.select_from(transcripts).where(transcripts.c.place == OUTBOX)).scalar_one()
            erased = connection.execute(count.select_from(erasures)).scalar_one()
        return {"spool": self.spool.count(), "outbox": int(outbox), "erasures": int(erased)}

    def drain(self) -> int:
        """Moves a batch on from the spool and from the outbox, and carries out erasures; how many moved. Raises `StoreDownError`."""
        return self._drain_spool() + (self._drain_outbox() if self._elsewhere else 0)

    def close(self) -> None:
        self.spool.close()
        self.bodies.close()

    def _rows(
        self, query: sa.Select[Any], which: Mapping[str, str], last: int, reading: AbstractContextManager[sa.Connection]
    ) -> list[Row]:
        waiting = self.spool.of(**which)  # before the others: what moves on meanwhile is then seen there
        with reading as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        rows = rows[::-1] if last else rows
        known = {row["id"] for row in rows}
        rows += [{**row, "place": SQL} for row in waiting if row["id"] not in known]
        return rows[-last:] if last else rows

    def _write(self, *rows: Row) -> None:
        """Commits rows (each with its `actor`) together with their records; those that are there already are let be."""
        place = OUTBOX if self._elsewhere else SQL
        inserts = [(transcripts, {**_without_actor(row), "place": place}) for row in rows]
        try:
            self._writer.write(inserts, *map(_entry, rows))
        except ExistsError:
            if len(rows) > 1:
                for row in rows:
                    self._write(row)
                return
            with self.vault.store.snapshot() as connection:
                if connection.execute(sa.select(transcripts.c.id).where(transcripts.c.id == rows[0]["id"])).first() is None:
                    raise
        self.vault.store.wrote(*{who for row in rows for who in _writers(row["client"], row["session"])})

    def _drain_spool(self) -> int:
        rows = self.spool.first(BATCH)
        if rows:
            clients = {row["client"] for row in rows}
            with self.vault.store.snapshot() as connection:
                gone = set(connection.execute(sa.select(deletions.c.client).where(deletions.c.client.in_(clients))).scalars())
            if kept := [row for row in rows if row["client"] not in gone]:
                self._write(*kept)
            self.spool.drop([row["id"] for row in rows])
        return len(rows)

    def _drain_outbox(self) -> int:
        self._erase()  # first: what is kept again after a deletion has the same id
        heads = sa.select(transcripts.c.id, transcripts.c.kind).where(transcripts.c.place == OUTBOX)
        heads = heads.order_by(transcripts.c.number).limit(BATCH)
        with self.vault.store.snapshot() as connection:
            ids = together(map(dict, connection.execute(heads).mappings()))
            query = sa.select(transcripts).where(transcripts.c.id.in_(ids)).order_by(transcripts.c.number)
            rows = [dict(row) for row in connection.execute(query).mappings()]
        try:
            if rows:
                self.bodies.put(rows)
                self._mark_moved([row["id"] for row in rows])
        except RefusedError:
            for row in rows:
                self._move(row)
        return len(rows)

    def _move(self, row: Row) -> None:
        """One by itself; what is refused for good stays in the SQL store, and keeps nothing behind it waiting."""
        try:
            self.bodies.put([row])
            self._mark_moved([row["id"]])
        except RefusedError as error:
            log.error("the %s %s stays in the SQL store: %s", row["kind"], row["id"], error)
            with self.vault.store.begin() as connection:
                connection.execute(transcripts.update().where(transcripts.c.id == row["id"]).values(place=SQL))

    def _mark_moved(self, ids: Sequence[str]) -> None:
        """Takes the words out of rows that are in MongoDB; what was deleted here meanwhile is deleted there."""
        here = transcripts.c.id.in_(ids)
        moved: dict[str, Any] = {"place": MONGODB, **dict.fromkeys(WORDS)}
        with self.vault.store.begin() as connection:
            connection.execute(transcripts.update().where(here).values(**moved))
            left = set(connection.execute(sa.select(transcripts.c.id).where(here)).scalars())
        if gone := [one for one in ids if one not in left]:
            self.bodies.remove(gone)

    def _erase(self) -> None:
        with self.vault.store.snapshot() as connection:
            wanted = connection.execute(sa.select(erasures)).all()
        settled = stamp(utc_now() - timedelta(seconds=ERASED_AGAIN_SECONDS))
        for row in wanted:
            self.bodies.erase(row.client, row.before, row.kind)
            if row.at < settled:
                same = (erasures.c.kind == row.kind) & (erasures.c.client == row.client) & (erasures.c.before == row.before)
                with self.vault.store.begin() as connection:
                    connection.execute(erasures.delete().where(same))


def made_now(when: datetime | None = None) -> str:
    """`Transcript.created` for now."""
    return stamp(when or datetime.now(UTC))


def _entry(row: Row) -> Entry:
    if row["kind"] == DOCUMENT:
        return Entry(row["actor"], "client:write", row["client"], request=row["request"], target=row["id"])
    return Entry(row["actor"], "inference:create", row["client"], request=row["request"])


def _without_actor(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "actor"}


def _writers(client: str, session: str) -> list[str]:
    """Who must see at once what was kept."""
    return [f"{kind}:{name}" for kind, name in (("client", client), ("session", session)) if name]
