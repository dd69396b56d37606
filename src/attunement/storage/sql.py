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
from sqlalchemy.exc import DatabaseError, IntegrityError, ProgrammingError

from attunement.errors import DataError

SCHEMA_VERSION = 1
FILE = "attunement.db"
BUSY_SECONDS = 10.0

metadata = sa.MetaData()
_schema = sa.Table("schema", metadata, sa.Column("version", sa.Integer, primary_key=True))


class Store:
    """A database. `begin()` is a transaction that writes; concurrent writers wait for one another."""

    def __init__(self, url: str | sa.URL) -> None:
        sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS} if sqlite else {})
        if sqlite:
            sa.event.listen(self._engine, "connect", _configure)
            sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        with self.begin() as connection:
            there = sa.inspect(connection).has_table(_schema.name)
            found = connection.execute(sa.select(_schema.c.version)).scalar() if there else None
            if found is not None and found > SCHEMA_VERSION:  # before anything is made in it
                raise DataError(f"the store {self} was written by a newer attunement: upgrade this one")
            metadata.create_all(connection)
            if found is None:
                connection.execute(_schema.insert().values(version=SCHEMA_VERSION))

    def __str__(self) -> str:
        return self._engine.url.render_as_string()  # without its password

    @classmethod
    def at_home(cls, home: Path) -> Store:
        """The store in the folder `home`, which is made (0700), as the file is (0600)."""
        home = home.expanduser()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / FILE
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        return cls(sa.URL.create("sqlite", database=str(path.resolve())))  # a path may hold what means something in a URL

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is taken back when the block raises.

        Raises `DataError` when the database cannot be used: no database, damaged, full, or busy for `BUSY_SECONDS`.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except (IntegrityError, ProgrammingError):  # ours to mend, not the user's
            raise
        except DatabaseError as error:
            busy = "locked" in str(error.orig)
            told = "another attunement is writing to it; try again when it is done" if busy else error.orig
            raise DataError(f"the store {self} cannot be used: {told}") from error

    def close(self) -> None:
        self._engine.dispose()


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own late BEGIN would let two writers read the same state
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
        connection.execute(f"PRAGMA {pragma}")
