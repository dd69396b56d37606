"""The local SQL store: SQLite in the user's home, closed to everybody else; another database by its URL.

Tables belong to the modules that use them (`Store.create`). The file's `schema` table says which version wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from attunement.errors import DataError, StoreDownError
from attunement.storage import postgres, revisions
from attunement.storage.postgres import Limits
from attunement.storage.replica import Marks, Replica

SCHEMA_VERSION = 1
FILE = "attunement.db"
BUSY_SECONDS = 10.0
SNAPSHOT = "attunement_snapshot"
_READS: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

metadata = sa.MetaData()
_schema = sa.Table("schema", metadata, sa.Column("version", sa.Integer, primary_key=True))


class Store:
    """A database. `begin()` is a transaction that writes; concurrent writers wait for one another.

    `tables` are those that it holds: the shared `metadata`, unless something is kept apart (the keys). One that lacks a revision
    is refused, but for who is about to apply it (`behind`).
    """

    def __init__(
        self,
        url: str | sa.URL,
        tables: sa.MetaData = metadata,
        *,
        limits: Limits | None = None,
        replica: str = "",
        behind: bool = False,
    ) -> None:
        self.tables = tables
        self.is_sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        limits = limits or Limits()
        if self.is_sqlite:
            self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        else:
            self._engine = postgres.engine(url, limits)
        self._replica = Replica(postgres.engine(replica, limits), Marks()) if replica else None
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _configure)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        if _schema.name not in tables.tables:
            _schema.to_metadata(tables)
        with self.begin() as connection:
            self._make(connection, behind)

    def _make(self, connection: sa.Connection, behind: bool) -> None:
        """Adds the tables that are not there, in a store of this version or an older one; `behind` leaves one that is as it is."""
        there = sa.inspect(connection).has_table(_schema.name)
        found = connection.execute(sa.select(_schema.c.version)).scalar() if there else None
        if found is not None and found > SCHEMA_VERSION:  # before anything is made in it
            raise DataError(f"the store {self} was written by a newer attunement: upgrade this one")
        ours = self.tables is metadata  # keys and the spool have a table or two, and no revisions
        revision = revisions.of(connection) if ours else ""
        if ours and found is not None:
            if not revision:
                revisions.stamp(connection, revisions.BASELINE)
            if behind:
                return
            revisions.refuse_behind(revision or revisions.BASELINE)
        self.tables.create_all(connection)
        if found is None:
            connection.execute(_schema.insert().values(version=SCHEMA_VERSION))
            if ours and not revision:
                revisions.stamp(connection, revisions.HEAD)

    def __str__(self) -> str:
        return self._engine.url.render_as_string()  # without its password

    @classmethod
    def at_home(cls, home: Path, file: str = FILE, tables: sa.MetaData = metadata, *, behind: bool = False) -> Store:
        """The store in the folder `home`, which is made (0700), as the file is (0600)."""
        home = home.expanduser()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / file
        with suppress(FileExistsError):
            # Only when it is new: a process that closes any descriptor of a file gives up all its locks on it (POSIX), and another one
            # would take the log of our open connections away, with what was written
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return cls(
            sa.URL.create("sqlite", database=str(path.resolve())), tables, behind=behind
        )  # a path may hold what means something in a URL

    @contextmanager
    def begin(self, *, patient: bool = False) -> Iterator[sa.Connection]:
        """A connection in a transaction, which is taken back when the block raises; `patient` is without time-outs.

        Raises `StoreDownError` while the database does not answer or is busy (`BUSY_SECONDS`), `DataError` when it cannot be
        used: no database, damaged.
        """
        with self._told(), self._engine.begin() as connection, postgres.patient(connection) if patient else nullcontext():
            yield connection

    @contextmanager
    def snapshot(self, *, patient: bool = False) -> Iterator[sa.Connection]:
        """A connection that only reads, and sees the store as it was at one moment while others go on writing."""
        with self._told(), self._engine.connect() as connection:
            options = {SNAPSHOT: True} if self.is_sqlite else _READS
            with connection.execution_options(**options).begin(), postgres.patient(connection) if patient else nullcontext():
                yield connection

    @contextmanager
    def reading(self, *who: str) -> Iterator[sa.Connection]:
        """A `snapshot` for `who` (sessions, clients, accounts): from the replica where it has all that they `wrote`.

        Without a replica, or while it does not answer or lags behind, from the primary. Not for what must be true now, as who
        may sign in.
        """
        with ExitStack() as stack:
            connection = self._of_replica(who, stack)
            if connection is None:
                connection = stack.enter_context(self.snapshot())
            else:
                stack.enter_context(self._told())
            yield connection

    def wrote(self, *who: str) -> None:
        """Notes that `who` have just committed a write, for their next `reading`; nothing without a replica."""
        if self._replica is not None:
            with self._told(), self._engine.connect() as connection:
                lsn = connection.execute(sa.text("SELECT CAST(pg_current_wal_lsn() AS text)")).scalar_one()
            self._replica.marks.put(who, lsn)

    def share_marks(self, marks: Marks) -> None:
        """Has all replicas of the service know who wrote what."""
        if self._replica is not None:
            self._replica.marks = marks

    def _of_replica(self, who: tuple[str, ...], stack: ExitStack) -> sa.Connection | None:
        """A connection to the replica on `stack`, when it is as far as `who` need."""
        replica = self._replica
        if replica is None or replica.away() or (lsn := replica.marks.needed(who)) is None:
            return None
        with ExitStack() as tried:
            try:
                connection = tried.enter_context(replica.engine.connect()).execution_options(**_READS)
                tried.enter_context(connection.begin())
                if replica.is_as_far(connection, lsn):
                    stack.push(tried.pop_all())
                    return connection
            except (DatabaseError, InterfaceError, PoolTimeout):
                replica.lost()
        return None

    def scrub(self, table: sa.Table) -> bool:
        """Rids the files of what was deleted from `table`; False when that could not be: another process reads, or may not.

        SQLite's log is emptied (its pages are zeroed at once, `secure_delete`); PostgreSQL writes the table anew, but its own log
        keeps what was written until it is recycled.
        """
        try:
            if self.is_sqlite:
                return self._empty_log()
            with (
                self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
                postgres.patient(connection),
            ):
                connection.exec_driver_sql(f"VACUUM FULL {connection.dialect.identifier_preparer.format_table(table)}")
                connection.exec_driver_sql("CHECKPOINT")  # the table's former file is removed at the next one
                return True
        except DatabaseError:
            return False

    def _empty_log(self) -> bool:
        raw = self._engine.raw_connection()  # outside of any transaction, which SQLAlchemy would begin
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (busy, *_) = cursor.fetchone() or (1,)
            return not busy
        finally:
            raw.close()

    def up(self) -> bool:
        """Whether the database answers now."""
        try:
            with self.snapshot() as connection:
                connection.execute(sa.select(1))
        except DataError:
            return False
        return True

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, ProgrammingError):  # ours to mend, not the user's
            raise
        except (DatabaseError, InterfaceError, PoolTimeout) as error:
            cause = getattr(error, "orig", error)
            busy = self.is_sqlite and "locked" in str(cause)
            told = "another attunement is writing to it; try again when it is done" if busy else cause
            down = (
                busy
                or isinstance(error, PoolTimeout | InterfaceError)
                or (isinstance(error, OperationalError) and not self.is_sqlite)
            )
            kind = StoreDownError if down else DataError
            raise kind(f"the store {self} cannot be used: {' '.join(str(told).split())}") from error

    def close(self) -> None:
        self._engine.dispose()
        if self._replica is not None:
            self._replica.engine.dispose()


def _begin_sqlite(connection: sa.Connection) -> None:
    """A writer locks at once, else two could read the same state; who only reads keeps nobody out."""
    reads = connection.get_execution_options().get(SNAPSHOT)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _configure(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver's own late BEGIN would let two writers read the same state
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "secure_delete=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
        connection.execute(f"PRAGMA {pragma}")
