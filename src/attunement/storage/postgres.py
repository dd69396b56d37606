"""PostgreSQL's engine: pooled, verified before use, and never waited for longer than the settings say. Extra `postgres`.

`statement_timeout` ends a statement that the server works on; a server that hangs answers nothing at all, and libpq would wait for
ever: `Bounded` gives up on its side, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from attunement.config import StoresSettings

GRACE_SECONDS = 1.0
"""The server's own time-out comes first: its error says more than our silence."""


@dataclass(frozen=True)
class Limits:
    """Connections that are kept (as many again at a rush), and the longest waits; None is for ever."""

    pool_size: int = 5
    connect_seconds: float = 10.0
    statement_seconds: float | None = None

    @classmethod
    def of(cls, stores: StoresSettings) -> Limits:
        return cls(stores.pool_size, stores.connect_seconds, stores.timeout_seconds)


def engine(url: str | sa.URL, limits: Limits) -> sa.Engine:
    """An engine for a PostgreSQL address. Raises `ModuleNotFoundError` without the extra."""
    made = sa.create_engine(
        url,
        pool_size=limits.pool_size,
        max_overflow=limits.pool_size,
        pool_timeout=limits.statement_seconds or 30.0,
        pool_pre_ping=True,
        pool_use_lifo=True,
        connect_args={"connect_timeout": max(1, round(limits.connect_seconds)), "application_name": "attunement"},
    )
    wait = limits.statement_seconds
    if wait is not None and made.dialect.driver == "psycopg":
        sa.event.listen(made, "do_connect", lambda dialect, record, args, options: _bounded().connect(*args, **options))
        sa.event.listen(made, "connect", lambda connection, record: _limit(connection, wait))
    return made


@contextmanager
def patient(connection: sa.Connection) -> Iterator[None]:
    """No time-out for what the transaction of `connection` does in the block: a backup, a migration."""
    raw: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql" or not hasattr(raw, "limit_seconds"):
        yield
        return
    (former, raw.limit_seconds), local = (raw.limit_seconds, None), "" if raw.autocommit else "LOCAL "
    connection.exec_driver_sql(f"SET {local}statement_timeout = 0")
    try:
        yield
    finally:
        raw.limit_seconds = former
        if not local and not raw.closed:
            connection.exec_driver_sql(f"SET statement_timeout = {int((former - GRACE_SECONDS) * 1000)}")


def _limit(connection: Any, seconds: float) -> None:
    connection.autocommit = True
    connection.execute(f"SET statement_timeout = {int(seconds * 1000)}")
    connection.autocommit = False
    connection.limit_seconds = seconds + GRACE_SECONDS


@cache
def _bounded() -> Any:
    import psycopg
    from psycopg.errors import _WaitTimeout

    class Bounded(psycopg.Connection[Any]):
        """A connection that is closed when the server has not answered within `limit_seconds`."""

        limit_seconds: float | None = None

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval=interval, timeout=self.limit_seconds if timeout is None else timeout)
            except _WaitTimeout:
                if timeout is not None:
                    raise
                self.pgconn.finish()  # what it was about to answer must not be taken for the answer to the next question
                raise psycopg.OperationalError(f"the server did not answer within {self.limit_seconds:g} s") from None

    return Bounded
