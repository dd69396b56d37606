"""The spool: a file of this machine that transcripts and documents wait in while the SQL store itself does not answer, sealed as everywhere.

As safe as the disk that the home lies on: in a container that is a volume, not the container's own layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from attunement.storage.sql import Store
from attunement.storage.transcripts.records import Row, together
from attunement.storage.transcripts.tables import columns

FILE = "transcripts-spool.db"
spool_tables = sa.MetaData()
_spool = sa.Table("spooled_transcripts", spool_tables, *columns(sa.Column("actor", sa.String(64), nullable=False)))


class Spool:
    """Rows in `transcripts-spool.db` of the home; the file is made when something first goes in."""

    def __init__(self, home: Path) -> None:
        self._home = home.expanduser()
        self._store: Store | None = None

    def put(self, row: Row) -> None:
        """Keeps a row with its `actor`, on disk when this returns; the same again changes nothing."""
        with self._opened().begin() as connection:
            connection.execute(sqlite.insert(_spool).values(**row).on_conflict_do_nothing(index_elements=["id"]))

    def first(self, most: int) -> list[Row]:
        """The oldest rows that move together, each with `actor`."""
        if not self.exists():
            return []
        heads = sa.select(_spool.c.id, _spool.c.kind).order_by(_spool.c.number).limit(most)
        with self._opened().snapshot() as connection:
            ids = together(map(dict, connection.execute(heads).mappings()))
            query = sa.select(_spool).where(_spool.c.id.in_(ids)).order_by(_spool.c.number)
            rows = connection.execute(query).mappings().all()
        return [{name: value for name, value in row.items() if name != "number"} for row in rows]

    def of(self, **which: str) -> list[Row]:
        """The rows of a client or session, oldest first."""
        if not self.exists():
            return []
        query = sa.select(_spool).order_by(_spool.c.number)
        for name, value in which.items():
            query = query.where(_spool.c[name] == value)
        with self._opened().snapshot() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def drop(self, ids: Sequence[str]) -> None:
        with self._opened().begin() as connection:
            connection.execute(_spool.delete().where(_spool.c.id.in_(ids)))

    def count(self) -> int:
        if not self.exists():
            return 0
        with self._opened().snapshot() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(_spool)).scalar_one())

    def exists(self) -> bool:
        return (self._home / FILE).exists()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store.at_home(self._home, FILE, spool_tables)
            _renew(self._store)
        return self._store

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _renew(store: Store) -> None:
    """Adds the columns that the file of a version before lacks: what waits in it is not lost with the upgrade."""
    with store.begin() as connection:
        there = {column["name"] for column in sa.inspect(connection).get_columns(_spool.name)}
        for column in _spool.c:
            if column.name not in there:
                told = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {_spool.name} ADD COLUMN {told}")
