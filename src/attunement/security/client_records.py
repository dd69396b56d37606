"""Entries in a client's record: notes of any kind, encrypted for the client. Corrected entries keep what they said before.

Small on purpose: sessions, measures and goals have modules of their own, and register with `clients.py` as this one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.accounts import new_id
from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clients import register
from attunement.security.clock import Clock, stamp, utc_now
from attunement.security.codes import valid_id
from attunement.security.holds import refuse_deleted
from attunement.security.vault import Vault
from attunement.storage.sql import metadata

records = sa.Table(
    "client_records",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("client", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.String(27), nullable=False, index=True),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("title", sa.LargeBinary),
    sa.Column("text", sa.LargeBinary),
)
_former = sa.Table(
    "client_record_versions",
    metadata,
    sa.Column("record", sa.ForeignKey("client_records.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("client", sa.String(64), nullable=False, index=True),
    sa.Column("replaced_at", sa.String(27), nullable=False),
    sa.Column("replaced_by", sa.String(64), nullable=False),
    sa.Column("title", sa.LargeBinary),
    sa.Column("text", sa.LargeBinary),
)
"""What corrected entries said before, encrypted anew for their place here."""
WORDS = ("title", "text")


class ClientRecords:
    """Entries of clients, through one vault."""

    def __init__(self, vault: Vault, clock: Clock = utc_now) -> None:
        self._vault, self._clock = vault, clock

    def add(self, client: str, title: str, text: str, act: Act) -> str:
        """A new entry; gives its id. Raises `ShreddedError` where the client's data were deleted."""
        row = new_id("r")
        closed = self._vault.cipher.encrypt_row(records.name, row, valid_id("client", client), {"title": title, "text": text})
        values = {"id": row, "client": client, "at": stamp(self._clock()), "author": act.actor, "version": 1, **closed}
        with self._vault.audit.begin() as connection:
            refuse_deleted(connection, client)
            connection.execute(records.insert().values(**values))
            self._vault.audit.append(connection, Entry(act.actor, "client:write", client, request=act.request, target=row))
        return row

    def of(self, client: str, act: Act) -> list[dict[str, Any]]:
        """A client's entries, oldest first, with their history. On record."""
        with self._vault.audit.begin() as connection:
            found = list(_Records().export(self._vault, connection, client))
            self._vault.audit.append(connection, Entry(act.actor, "client:read", client, request=act.request))
        return found


class _Records:
    """The kind `records`."""

    kind = "records"
    about = "entries of the record, with what they said before they were corrected"
    tables: tuple[sa.Table, ...] = ()  # words are encrypted: what is left on freed pages is closed by the key

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        query = sa.select(records).where(records.c.client == client).order_by(records.c.at, records.c.id)
        rows = vault.cipher.decrypt_rows(records.name, map(dict, connection.execute(query).mappings()), WORDS)
        before = sa.select(_former).where(_former.c.client == client).order_by(_former.c.record, _former.c.version)
        former: dict[str, list[dict[str, Any]]] = {}
        for row in connection.execute(before).mappings().all():
            opened = vault.cipher.decrypt_row(_former.name, _place(row.record, row.version), client, {n: row[n] for n in WORDS})
            told = {"version": row.version, "replaced_at": row.replaced_at, "replaced_by": row.replaced_by, **opened}
            former.setdefault(row.record, []).append(told)
        for found in rows:
            yield {**{k: v for k, v in found.items() if k != "client"}, "before": former.get(found["id"], [])}

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        if not changes or set(changes) - set(WORDS) or not all(isinstance(v, str) for v in changes.values()):
            raise DataError(f"of an entry {' and '.join(WORDS)} can be corrected, with text")
        mine = (records.c.id == row) & (records.c.client == client)
        found = connection.execute(sa.select(records).where(mine).with_for_update()).mappings().one_or_none()
        if found is None:
            raise DataError("the client has no such entry: its id stands in the export")
        was = vault.cipher.decrypt_row(records.name, row, client, {name: found[name] for name in WORDS})
        kept = vault.cipher.encrypt_row(_former.name, _place(row, found["version"]), client, was)
        when = stamp(vault.audit.clock())
        values = {"record": row, "version": found["version"], "client": client, "replaced_at": when, "replaced_by": by, **kept}
        connection.execute(_former.insert().values(**values))
        new = vault.cipher.encrypt_row(records.name, row, client, {**was, **changes})
        connection.execute(records.update().where(mine).values(version=found["version"] + 1, **new))

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        which = records.c.client == client
        which = which & (records.c.at < before) if before else which
        ids = sa.select(records.c.id).where(which)
        connection.execute(_former.delete().where(_former.c.record.in_(ids)))
        return int(connection.execute(records.delete().where(which)).rowcount)

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        query = sa.select(records.c.client).distinct().order_by(records.c.client)
        query = query.where(records.c.at < before) if before else query
        return list(connection.execute(query).scalars())

    def oldest(self, connection: sa.Connection) -> str:
        return connection.execute(sa.select(sa.func.min(records.c.at))).scalar() or ""


def _place(record: str, version: int) -> str:
    return f"{record}:{version}"


register(_Records())
