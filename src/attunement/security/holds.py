"""Legal holds: while one lies on a client, nothing of the client is deleted, by retention, on request or by destroying the key.

Setting a hold and deleting wait for one another: a hold that is set before a deletion is committed keeps everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.acting import Act
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, stamp, utc_now
from attunement.security.codes import valid_id
from attunement.storage.sql import metadata

_holds = sa.Table(
    "legal_holds",
    metadata,
    sa.Column("client", sa.String(64), primary_key=True),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("since", sa.String(27), nullable=False),
    sa.Column("set_by", sa.String(64), nullable=False),
)
deletions = sa.Table(
    "client_deletions",
    metadata,
    sa.Column("client", sa.String(64), primary_key=True),
    sa.Column("at", sa.String(27), nullable=False),
    sa.Column("requested_by", sa.String(64), nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("certificate", sa.JSON),
)
"""Clients whose data were deleted, with what there was of each kind and the certificate: ids, numbers and dates."""
_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('attunement.holds'))")


@dataclass(frozen=True)
class Hold:
    """`reason` is a code, as the number of a case; `since` a stamp."""

    client: str
    reason: str
    since: str
    set_by: str


class Holds:
    """The legal holds in a store."""

    def __init__(self, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._audit, self._clock = audit, clock

    def set(self, client: str, reason: str, act: Act) -> None:
        """Puts a hold on a client. Raises `DataError` where there is one, or where the client's data are deleted already."""
        valid_id("client", client), valid_id("a reason code", reason)
        with self._audit.begin() as connection:
            lock(connection)
            refuse_deleted(connection, client)
            if held := _of(connection, client):
                raise DataError(f"{client} is under a hold since {held.since[:10]} ({held.reason}): release that first")
            connection.execute(_holds.insert().values(client=client, reason=reason, since=stamp(self._clock()), set_by=act.actor))
            self._audit.append(connection, Entry(act.actor, "retention:hold", client, request=act.request, target=reason))

    def release(self, client: str, reason: str, act: Act) -> None:
        """Lifts the hold on a client; `reason` is why. Raises `DataError` where there is none."""
        valid_id("client", client), valid_id("a reason code", reason)
        with self._audit.begin() as connection:
            lock(connection)
            if not connection.execute(_holds.delete().where(_holds.c.client == client)).rowcount:
                raise DataError(f"there is no hold on {client}: list them with  attune retention holds")
            self._audit.append(connection, Entry(act.actor, "retention:release", client, request=act.request, target=reason))

    def all(self) -> list[Hold]:
        """Every hold, oldest first."""
        with self._audit.store.snapshot() as connection:
            return [Hold(*row) for row in connection.execute(sa.select(_holds).order_by(_holds.c.since, _holds.c.client))]


def lock(connection: sa.Connection) -> None:
    """Keeps other holds and deletions waiting until the transaction ends (SQLite: every transaction that writes does)."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)


def is_held(connection: sa.Connection, client: str) -> bool:
    """Whether a hold lies on a client; to be asked after `lock`."""
    return _of(connection, client) is not None


def refuse_held(connection: sa.Connection, client: str) -> None:
    """Raises `DataError` where a hold lies on a client; to be asked after `lock`, in the transaction that deletes."""
    if held := _of(connection, client):
        raise DataError(f"{client} is under a legal hold since {held.since[:10]} ({held.reason}): nothing of it is deleted")


def refuse_deleted(connection: sa.Connection, client: str) -> None:
    """Raises `DataError` where a client's data were deleted."""
    if at := connection.execute(sa.select(deletions.c.at).where(deletions.c.client == client)).scalar():
        raise DataError(f"the data of {client} were deleted on {at[:10]}")


def _of(connection: sa.Connection, client: str) -> Hold | None:
    row = connection.execute(sa.select(_holds).where(_holds.c.client == client)).one_or_none()
    return None if row is None else Hold(*row)
