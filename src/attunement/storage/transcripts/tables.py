"""The tables of transcripts, and their kind in a client's record: export, deletion, retention, legal holds.

The SQL store always knows which transcripts there are; `place` says where their words lie: `sql` here, `outbox` here until they
are in MongoDB, `mongodb` there. What is deleted here while words may lie there is entered into `transcript_erasures` in the
same transaction, and carried out as soon as MongoDB answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.clients import register
from attunement.security.clock import stamp, utc_now
from attunement.security.throttle import upsert
from attunement.storage.sql import metadata
from attunement.storage.transcripts.records import TABLE, Transcript, unseal

if TYPE_CHECKING:
    from attunement.security.vault import Vault

SQL, OUTBOX, MONGODB = "sql", "outbox", "mongodb"
_big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def columns() -> list[sa.Column[Any]]:
    """What a sealed transcript is made of."""
    return [
        sa.Column("number", _big, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("created", sa.String(27), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        *(sa.Column(name, sa.LargeBinary) for name in ("turns", "reply", "safety")),
    ]


transcripts = sa.Table(
    TABLE,
    metadata,
    *columns(),
    sa.Column("place", sa.String(8), nullable=False),
    sa.Index("transcripts_client", "client", "created"),
    sa.Index("transcripts_session", "session", "number"),
    sa.Index("transcripts_place", "place", "number"),
)
erasures = sa.Table(
    "transcript_erasures",
    metadata,
    sa.Column("client", sa.String(64), primary_key=True),
    sa.Column("before", sa.String(27), nullable=False),
    sa.Column("at", sa.String(27), nullable=False),
)
"""What is to be deleted from MongoDB: a client's (or, for "", nobody's) transcripts from before a stamp."""
_EVER = "9999"


def delete(connection: sa.Connection, client: str, before: str = "") -> int:
    """Deletes a client's transcripts (or, for "", those of nobody), or those older than a stamp; how many."""
    which = transcripts.c.client == client
    which = which & (transcripts.c.created < before) if before else which
    beyond = which & (transcripts.c.place != SQL)
    if connection.execute(sa.select(transcripts.c.id).where(beyond).limit(1)).first() is not None:
        told = connection.execute(sa.select(erasures.c.before).where(erasures.c.client == client)).scalar() or ""
        upsert(connection, erasures, {"client": client}, {"before": max(told, before or _EVER), "at": stamp(utc_now())})
    return int(connection.execute(transcripts.delete().where(which)).rowcount)


class _Transcripts:
    """The kind `transcripts`."""

    kind = "transcripts"
    about = "conversations with the model: what was said, what it answered, what the safety gate did"
    tables: tuple[sa.Table, ...] = ()  # words are encrypted: what is left on freed pages is closed by the key

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        from attunement.storage.transcripts.mongo import opened_bodies
        from attunement.storage.transcripts.spool import Spool

        query = sa.select(transcripts).where(transcripts.c.client == client).order_by(transcripts.c.number)
        with Spool(vault.settings.home) as spool:  # what is not in the SQL store yet; first, as it may get there meanwhile
            waiting = {row["id"]: row for row in spool.of(client=client)}
        with opened_bodies(vault.settings) as bodies:
            for rows in connection.execute(query).mappings().partitions(200):
                for row in bodies.filled([dict(row) for row in rows]):
                    waiting.pop(row["id"], None)
                    yield _told(row["id"], unseal(vault.cipher, row))
        for row in waiting.values():
            yield _told(row["id"], unseal(vault.cipher, row))

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        raise DataError("a transcript is what was said and is not changed: add an entry to the record that corrects it")

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        return delete(connection, client, before)

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        query = sa.select(transcripts.c.client).distinct().where(transcripts.c.client != "").order_by(transcripts.c.client)
        query = query.where(transcripts.c.created < before) if before else query
        return list(connection.execute(query).scalars())

    def oldest(self, connection: sa.Connection) -> str:
        query = sa.select(sa.func.min(transcripts.c.created)).where(transcripts.c.client != "")
        return connection.execute(query).scalar() or ""


def _told(row: str, found: Transcript) -> dict[str, Any]:
    told = {"id": row, "at": found.created, "session": found.session_id, "request": found.request_id}
    said = {"turns": list(found.turns), "reply": found.reply, "safety": dict(found.safety)}
    return {**told, "model_version": found.model_version, **said}


register(_Transcripts())
