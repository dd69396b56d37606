"""The local SQL store: SQLite in the user's home, closed to everybody else; another database by its URL.

Tables belong to the modules that use them (`Store.create`). The file's `schema` table says which version wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from attunement.errors import DataError

SCHEMA_VERSION = 1
FILE = "attunement.db"
BUSY_SECONDS = 10.0

metadata = sa.MetaData()
_schema = sa.Table("schema", metadata, sa.Column("version", sa.Integer, primary_key=True))


class Store:
    """A database. `begin()` is a transaction that writes; concurrent writers wait for one another."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS} if url.startswith("sqlite") else {})
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure)
            sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            with self.begin() as connection:
                metadata.create_all(connection)
                found = connection.execute(sa.select(_schema.c.version)).scalar()
                if found is None:
                    connection.execute(_schema.insert().values(version=SCHEMA_VERSION))
        except DatabaseError as error:
            raise DataError(f"the store {self._engine.url.render_as_string()} cannot be used: {error.orig}") from error
        if found is not None and found > SCHEMA_VERSION:
            raise DataError(
                f"the store {self._engine.url.render_as_string()} was written by a newer attunement: upgrade this one"
            )

    @classmethod
    def at_home(cls, home: Path) -> Store:
        """The store in the folder `home`, which is made (0700), as the file is (0600)."""
        home = home.expanduser()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / FILE
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        return cls(f"sqlite:///{path.resolve()}")

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is taken back when the block raises."""
        with self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own late BEGIN would let two writers read the same state
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
        connection.execute(f"PRAGMA {pragma}")
