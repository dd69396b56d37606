"""The tables of the journal, and their kinds in a client's record: export, correction, deletion, retention, legal holds.

Everything that says anything about a person is encrypted under the client's key, the embedding of a summary too (it leaks the text). In the clear stand
ids, times, who wrote and signed, and of an entry its kind. What is corrected keeps what it was in `progress_former`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa

from attunement.errors import ConflictError, DataError
from attunement.security.clients import register
from attunement.security.clock import stamp
from attunement.storage.sql import metadata

if TYPE_CHECKING:
    from attunement.security.vault import Vault

STATE, WORDS, VECTOR, CONTENT = "state", "words", "vector", "content"
MEASURE, GOAL, RATING, EVENT, MILESTONE = "measure", "goal", "rating", "event", "milestone"
ENTRY_KINDS = (MEASURE, GOAL, RATING, EVENT, MILESTONE)

sessions = sa.Table(
    "progress_sessions",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("session", sa.String(64), nullable=False),
    sa.Column("at", sa.String(27), nullable=False),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("logged_at", sa.String(27), nullable=False),
    sa.Column("signed_by", sa.String(64), nullable=False),
    sa.Column("signed_at", sa.String(27), nullable=False),
    *(sa.Column(name, sa.LargeBinary) for name in (STATE, WORDS, VECTOR)),
    sa.Index("progress_sessions_client", "client", "at"),
)
"""`at` is when it took place (UTC) and `zone` the time zone that it was told in; `state` what trends read, `words` what people read."""
entries = sa.Table(
    "progress_entries",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("at", sa.String(27), nullable=False),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("logged_at", sa.String(27), nullable=False),
    sa.Column(CONTENT, sa.LargeBinary),
    sa.Index("progress_entries_client", "client", "at"),
)
former = sa.Table(
    "progress_former",
    metadata,
    sa.Column("row", sa.String(40), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("client", sa.String(64), nullable=False, index=True),
    sa.Column("replaced_at", sa.String(27), nullable=False),
    sa.Column("replaced_by", sa.String(64), nullable=False),
    sa.Column(CONTENT, sa.LargeBinary),
)
"""What corrected rows were, whole, encrypted anew for their place here."""
CLOSED = {sessions.name: (STATE, WORDS), entries.name: (CONTENT,)}
"""The encrypted columns that a person may read; a vector is made of the summary."""
_TO_CORRECT = {
    sessions.name: {"summary": WORDS, "notes": WORDS, "observations": WORDS, "focus": WORDS},
    entries.name: {"title": CONTENT, "note": CONTENT},
}
"""What a correction on a client's request may change (`attune clients correct`), and where it stands."""


YEARS = (1900, 2199)
"""What may be written into a journal lies in these."""


def zone_of(when: datetime) -> str:
    """The time zone of `when` as it is kept: `Europe/Berlin`, or an offset as `+02:00`.

    Raises `DataError` without one, and for a time of no living client's: a slip of the pen must not stretch a journey over centuries.
    """
    offset = when.utcoffset()
    if offset is None:
        raise DataError("a time needs its time zone: 2026-03-01T10:00+01:00")
    if not YEARS[0] <= when.year <= YEARS[1]:
        raise DataError(f"a time lies in the years {YEARS[0]} to {YEARS[1]}: look at its year")
    key = getattr(when.tzinfo, "key", None)
    if isinstance(key, str):
        return key
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def in_zone(at: str, zone: str) -> datetime:
    """A stamp as the time that was told: in its zone."""
    return datetime.fromisoformat(at).astimezone(_zone(zone))


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    if name[:1] in "+-":
        offset = timedelta(hours=int(name[1:3]), minutes=int(name[4:6]))
        return timezone(-offset if name[0] == "-" else offset)
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:  # a zone that this machine's database does not have: the moment is right all the same
        return UTC


def keep_former(vault: Vault, connection: sa.Connection, table: sa.Table, found: Mapping[str, Any], by: str) -> None:
    """Puts a row as it stands into `progress_former`, before it is changed. Raises `ConflictError` where another did that meanwhile."""
    client, row, version = found["client"], found["id"], found["version"]
    opened = vault.cipher.decrypt_row(table.name, row, client, {name: found[name] for name in CLOSED[table.name]})
    plain = {name: found[name] for name in found if name not in (*opened, VECTOR)}
    closed = vault.cipher.encrypt_row(former.name, former_place(row, version), client, {CONTENT: {**plain, **opened}})
    when = stamp(vault.audit.clock())
    values = {"row": row, "version": version, "client": client, "replaced_at": when, "replaced_by": by, **closed}
    connection.execute(former.insert().values(**values))


def former_place(row: str, version: int) -> str:
    return f"{row}:{version}"


def formers(vault: Vault, connection: sa.Connection, client: str, row: str = "") -> dict[str, list[dict[str, Any]]]:
    """What rows of a client (or one of them) were before they were corrected, oldest first, by row."""
    query = sa.select(former).where(former.c.client == client).order_by(former.c.row, former.c.version)
    query = query.where(former.c.row == row) if row else query
    out: dict[str, list[dict[str, Any]]] = {}
    for found in connection.execute(query).mappings().all():
        place = former_place(found["row"], found["version"])
        opened = vault.cipher.decrypt_row(former.name, place, client, {CONTENT: found[CONTENT]})[CONTENT]
        told = {"version": found["version"], "replaced_at": found["replaced_at"], "replaced_by": found["replaced_by"]}
        out.setdefault(found["row"], []).append({**told, "was": opened})
    return out


def change(
    vault: Vault,
    connection: sa.Connection,
    table: sa.Table,
    row: str,
    client: str,
    new: Mapping[str, Any],
    by: str,
    version: int = 0,
) -> None:
    """Changes encrypted fields of a row (`new`: column to the fields in it) and keeps what it was; the new version is not signed.

    Raises `DataError` where there is none, `ConflictError` where it is not at `version` any more (0: whichever).
    """
    mine = (table.c.id == row) & (table.c.client == client)
    found = connection.execute(sa.select(table).where(mine).with_for_update()).mappings().one_or_none()
    if found is None:
        raise DataError("the client has no such entry: its id stands in the export")
    if version and found["version"] != version:
        raise ConflictError(
            f"it was changed meanwhile: version {found['version']} stands now; read that, and send the change with it"
        )
    keep_former(vault, connection, table, dict(found), by)
    opened = vault.cipher.decrypt_row(table.name, row, client, {name: found[name] for name in new if name != VECTOR})
    changed = {name: fields if name == VECTOR else {**(opened[name] or {}), **fields} for name, fields in new.items()}
    values: dict[str, Any] = {"version": found["version"] + 1, **vault.cipher.encrypt_row(table.name, row, client, changed)}
    if table is sessions:
        values |= {"signed_by": "", "signed_at": ""}
    connection.execute(table.update().where(mine).values(**values))


class _Kind:
    """A table of the journal as a kind of a client's record."""

    tables: tuple[sa.Table, ...] = ()  # words are encrypted: what is left on freed pages is closed by the key

    def __init__(self, kind: str, about: str, table: sa.Table) -> None:
        self.kind, self.about, self._table = kind, about, table
        register(self)

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        table = self._table
        query = sa.select(table).where(table.c.client == client).order_by(table.c.at, table.c.id)
        rows = [{k: v for k, v in row.items() if k != VECTOR} for row in connection.execute(query).mappings()]
        opened = vault.cipher.decrypt_rows(table.name, rows, CLOSED[table.name])
        before = formers(vault, connection, client)
        for row in opened:
            yield {**{k: v for k, v in row.items() if k != "client"}, "before": before.get(row["id"], [])}

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        fields = _TO_CORRECT[self._table.name]
        if not changes or set(changes) - set(fields) or not all(isinstance(v, str) for v in changes.values()):
            raise DataError(f"of an entry {', '.join(fields)} can be corrected, with text")
        new: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            new.setdefault(fields[name], {})[name] = value
        if "summary" in changes:
            new[VECTOR] = None  # type: ignore[assignment]  # made anew when it is next looked for
        change(vault, connection, self._table, row, client, new, by)

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        which = self._table.c.client == client
        which = which & (self._table.c.at < before) if before else which
        connection.execute(former.delete().where(former.c.row.in_(sa.select(self._table.c.id).where(which))))
        return int(connection.execute(self._table.delete().where(which)).rowcount)

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        query = sa.select(self._table.c.client).distinct().order_by(self._table.c.client)
        query = query.where(self._table.c.at < before) if before else query
        return list(connection.execute(query).scalars())

    def oldest(self, connection: sa.Connection) -> str:
        return connection.execute(sa.select(sa.func.min(self._table.c.at))).scalar() or ""


_Kind("sessions", "sessions of the journal: summary, notes, emotional state, what they were before they were edited", sessions)
_Kind("progress", "questionnaires, goals and their ratings, events and milestones of the journal", entries)
