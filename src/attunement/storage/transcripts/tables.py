"""The tables of transcripts and documents, and their kinds in a client's record: export, deletion, retention, legal holds.

The SQL store always knows which of them there are; `place` says where their words lie: `sql` here, `outbox` here until they
are in MongoDB, `mongodb` there. What is deleted here while words may lie there is entered into `transcript_erasures` in the
same transaction, and carried out as soon as MongoDB answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.clients import register
from attunement.security.clock import stamp, utc_now
from attunement.security.throttle import upsert
from attunement.storage.sql import metadata
from attunement.storage.transcripts.documents import exported
from attunement.storage.transcripts.records import DOCUMENT, SAID, TABLE, TRANSCRIPT, Transcript, unseal

if TYPE_CHECKING:
    from attunement.security.vault import Vault

SQL, OUTBOX, MONGODB = "sql", "outbox", "mongodb"
_big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def columns(own: sa.Column[Any]) -> list[sa.Column[Any]]:
    """What a sealed row is made of, with a table's `own`. `session`, `model` and those of `SAID` are a transcript's; `about` and `content` a
    document's. `content` is the last: SQLite reads through what lies before a column, and it may be 12 MiB."""
    return [
        sa.Column("number", _big, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("kind", sa.String(10), nullable=False, server_default=TRANSCRIPT),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("created", sa.String(27), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        *(sa.Column(name, sa.LargeBinary) for name in ("about", *SAID)),
        own,
        sa.Column("content", sa.LargeBinary),
    ]


transcripts = sa.Table(
    TABLE,
    metadata,
    *columns(sa.Column("place", sa.String(8), nullable=False)),
    sa.Index("transcripts_client", "client", "created"),
    sa.Index("transcripts_session", "session", "number"),
    sa.Index("transcripts_place", "place", "number"),
)
erasures = sa.Table(
    "transcript_erasures",
    metadata,
    sa.Column("kind", sa.String(10), primary_key=True, server_default=TRANSCRIPT),
    sa.Column("client", sa.String(64), primary_key=True),
    sa.Column("before", sa.String(27), nullable=False),
    sa.Column("at", sa.String(27), nullable=False),
)
"""What is to be deleted from MongoDB: a kind of a client's (or, for "", nobody's) from before a stamp."""
_EVER = "9999"


def delete(connection: sa.Connection, client: str, before: str = "", kind: str = TRANSCRIPT) -> int:
    """Deletes a kind of a client's (or, for "", what is nobody's), or what is older than a stamp; how many."""
    which = (transcripts.c.client == client) & (transcripts.c.kind == kind)
    which = which & (transcripts.c.created < before) if before else which
    beyond = which & (transcripts.c.place != SQL)
    if connection.execute(sa.select(transcripts.c.id).where(beyond).limit(1)).first() is not None:
        same = (erasures.c.client == client) & (erasures.c.kind == kind)
        told = connection.execute(sa.select(erasures.c.before).where(same)).scalar() or ""
        values = {"before": max(told, before or _EVER), "at": stamp(utc_now())}
        upsert(connection, erasures, {"kind": kind, "client": client}, values)
    return int(connection.execute(transcripts.delete().where(which)).rowcount)


class _Rows:
    """One kind of rows as a kind of a client's record."""

    tables: tuple[sa.Table, ...] = ()  # words are encrypted: what is left on freed pages is closed by the key

    def __init__(self, kind: str, about: str, of: str, opened: Callable[[Vault, Mapping[str, Any]], dict[str, Any]]) -> None:
        self.kind, self.about, self._of, self._opened = kind, about, of, opened
        self._ours = transcripts.c.kind == of

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        from attunement.storage.transcripts.mongo import opened_bodies
        from attunement.storage.transcripts.spool import Spool

        with Spool(vault.settings.home) as spool:  # what is not in the SQL store yet; first, as it may get there meanwhile
            waiting = {row["id"]: row for row in spool.of(client=client, kind=self._of)}
        ids = sa.select(transcripts.c.id).where(self._ours, transcripts.c.client == client).order_by(transcripts.c.number)
        with opened_bodies(vault.settings) as bodies:
            for part in connection.execute(ids).scalars().partitions(1 if self._of == DOCUMENT else 200):
                query = sa.select(transcripts).where(transcripts.c.id.in_(part)).order_by(transcripts.c.number)
                for row in bodies.filled([dict(row) for row in connection.execute(query).mappings()]):
                    waiting.pop(row["id"], None)
                    yield self._opened(vault, row)
        for row in waiting.values():
            yield self._opened(vault, row)

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        raise DataError(f"a {self._of} is kept as it was and is not changed: add an entry to the record that corrects it")

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        return delete(connection, client, before, self._of)

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        query = sa.select(transcripts.c.client).distinct().where(self._ours, transcripts.c.client != "")
        query = query.where(transcripts.c.created < before) if before else query
        return list(connection.execute(query.order_by(transcripts.c.client)).scalars())

    def oldest(self, connection: sa.Connection) -> str:
        query = sa.select(sa.func.min(transcripts.c.created)).where(self._ours, transcripts.c.client != "")
        return connection.execute(query).scalar() or ""


def _told(vault: Vault, row: Mapping[str, Any]) -> dict[str, Any]:
    found: Transcript = unseal(vault.cipher, row)
    told = {"id": row["id"], "at": found.created, "session": found.session_id, "request": found.request_id}
    said = {"turns": list(found.turns), "reply": found.reply, "safety": dict(found.safety)}
    return {**told, "model_version": found.model_version, **said}


register(
    _Rows(
        "transcripts",
        "conversations with the model: what was said, what it answered, what the safety gate did",
        TRANSCRIPT,
        _told,
    )
)
register(
    _Rows("documents", "letters, forms and pictures that were added to the record, each a file of its own", DOCUMENT, exported)
)
