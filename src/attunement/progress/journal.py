"""The journal of clients in the store: what is logged is committed with its audit record, encrypted for the client, and never overwritten.

Rows come in by group commit (`GroupedWriter`), so that many callers share one wait for the disk. A session is one row, found by client and session
id: the same again changes nothing. A read is on record before it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.exc import IntegrityError as ExistsError

from attunement.errors import ConflictError, DataError
from attunement.progress import sealing
from attunement.progress.findings import MeasureScore
from attunement.progress.journey import ClientSummary, Event, Goal, Journey, LoggedSession, Rating
from attunement.progress.tables import (
    CONTENT,
    EVENT,
    GOAL,
    MEASURE,
    MILESTONE,
    RATING,
    STATE,
    VECTOR,
    WORDS,
    change,
    entries,
    formers,
    in_zone,
    sessions,
    zone_of,
)  # fmt: skip
from attunement.records import Milestone
from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clock import stamp
from attunement.security.codes import valid_id
from attunement.security.grouped import GroupedWriter, Insert
from attunement.security.holds import refuse_deleted
from attunement.security.vault import Vault
from attunement.storage.files import canonical, content_hash

MOST_ROWS = 500
Rows = Sequence[Mapping[str, Any]]
_EVER = ("", "9999")


@dataclass(frozen=True)
class NewEntry:
    """An entry to be written. `row` is its id; empty: it is made of what the entry says. `content` is plain JSON."""

    kind: str
    at: datetime
    content: Mapping[str, Any]
    row: str = ""

    def __post_init__(self) -> None:
        zone_of(self.at)  # refused before anything is made of it


class Journal:
    """Sessions and entries of clients, through one vault; for any number of threads and processes."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._writer = GroupedWriter(vault.audit)

    # --- writing -------------------------------------------------------------------------------------------

    def add(
        self,
        session: LoggedSession,
        digest: str,
        vector: NDArray[np.float32] | None,
        new: Sequence[NewEntry],
        act: Act,
        also: Sequence[Insert] = (),
        on_record: Sequence[Entry] = (),
    ) -> LoggedSession:
        """Writes a session with its entries and `also` (rows of others), all or nothing; gives it as it stands.

        One that is there already, with the same `digest`, is given as it stands. Raises `ConflictError` where what was logged under the id is another
        session, `ShreddedError` or `DataError` for a deleted client.
        """
        client, log = valid_id("client", session.log.client_id), session.log
        row = row_of(client, valid_id("session", log.session_id))
        written = stamp(self.vault.audit.clock())
        words = sealing.words_of(session, digest)
        closed = self.vault.cipher.encrypt_row(
            sessions.name, row, client, {STATE: sealing.state_of(session), WORDS: words, VECTOR: sealing.packed(vector)}
        )
        values = {
            "id": row, "client": client, "session": log.session_id, "at": stamp(log.timestamp), "zone": zone_of(log.timestamp), "version": 1,
            "author": act.actor, "logged_at": written, "signed_by": "", "signed_at": "", **closed,
        }  # fmt: skip
        rows: list[Insert] = [(sessions, values), *((entries, self._closed(client, entry, act)) for entry in new), *also]
        try:
            self._write(client, rows, act, log.session_id, on_record)
        except ExistsError:
            found = self.find(client, log.session_id)
            if found is None:
                raise
            if found[1] != digest:
                raise ConflictError(
                    f"the session {log.session_id} is logged already and says something else: correct that one, or choose another session id"
                ) from None
            return found[0]
        return replace(session, version=1, author=act.actor, logged_at=datetime.fromisoformat(written))

    def add_entry(
        self, client: str, entry: NewEntry, act: Act, also: Sequence[Insert] = (), on_record: Sequence[Entry] = ()
    ) -> tuple[str, bool]:
        """Writes one entry; its id, and whether it is new. The same again changes nothing.

        Raises `ConflictError` where an entry with its `row` says something else.
        """
        if not entry.row:
            entry = replace(entry, row=self.derived_id(client, entry.kind, stamp(entry.at), canonical(entry.content)))
        values = self._closed(valid_id("client", client), entry, act)
        try:
            self._write(client, [(entries, values), *also], act, entry.row, on_record)
        except ExistsError:
            if not self.has_entry(client, entry.row):
                raise
            if canonical(self.entry(client, entry.row)[CONTENT]) != canonical(entry.content):
                raise ConflictError(
                    f"a {entry.kind} of that id or time is there already and says something else: correct the entry {entry.row}"
                ) from None
            return entry.row, False
        return entry.row, True

    def correct(
        self, client: str, session: str, version: int, changes: Mapping[str, Any], made: Sequence[str], vector: Any, act: Act
    ) -> None:
        """A new version of a session's words (fields of `sealing.words_of`); what they were is kept, and the signature is gone with them.

        `vector` is the new summary's, where that changed; None for an empty one. Raises `ConflictError` where another version stands by now.
        """
        row = row_of(valid_id("client", client), valid_id("session", session))
        new: dict[str, Any] = {WORDS: {**changes, "made": list(made)}}
        if "summary" in changes:
            new[VECTOR] = sealing.packed(vector)
        with self.vault.audit.begin() as connection:
            refuse_deleted(connection, client)
            change(self.vault, connection, sessions, row, client, new, act.actor, version)
            self.vault.audit.append(connection, Entry(act.actor, "session:correct", client, request=act.request, target=session))

    def correct_entry(self, client: str, row: str, version: int, changes: Mapping[str, Any], act: Act) -> None:
        """A new version of an entry's content; what it was is kept. Raises as `correct`."""
        with self.vault.audit.begin() as connection:
            refuse_deleted(connection, valid_id("client", client))
            change(self.vault, connection, entries, valid_id("entry", row), client, {CONTENT: changes}, act.actor, version)
            self.vault.audit.append(connection, Entry(act.actor, "progress:correct", client, request=act.request, target=row))

    def has_entry(self, client: str, row: str) -> bool:
        """Whether the client has an entry with this id."""
        query = sa.select(entries.c.id).where(entries.c.id == row, entries.c.client == client)
        with self.vault.store.snapshot() as connection:
            return connection.execute(query).first() is not None

    def entry(self, client: str, row: str) -> dict[str, Any]:
        """An entry as its row, opened, with its `version`. Raises `DataError` where the client has no such one."""
        query = sa.select(entries).where(entries.c.id == row, entries.c.client == client)
        with self.vault.store.snapshot() as connection:
            rows = _rows(connection, query)
        if not rows:
            raise DataError("the client has no such entry in the journal")
        (found,) = self.vault.cipher.decrypt_rows(entries.name, rows, (CONTENT,))
        return found

    def sign(self, client: str, session: str, version: int, act: Act) -> None:
        """Signs a version of a session. Raises `ConflictError` where another version stands by now, or it is signed."""
        row = row_of(valid_id("client", client), valid_id("session", session))
        mine = sessions.c.id == row
        with self.vault.audit.begin() as connection:
            found = connection.execute(sa.select(sessions).where(mine).with_for_update()).mappings().one_or_none()
            if found is None:
                raise no_session()
            if found["version"] != version:
                raise ConflictError(f"version {found['version']} stands now: read it before you sign it")
            if found["signed_by"]:
                raise ConflictError(f"{found['signed_by']} has signed it already")
            when = stamp(self.vault.audit.clock())
            connection.execute(sessions.update().where(mine).values(signed_by=act.actor, signed_at=when))
            self.vault.audit.append(connection, Entry(act.actor, "session:sign", client, request=act.request, target=session))

    def keep_vectors(self, client: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keeps embeddings of sessions that lack theirs: made of their words, so nothing new and not on record."""
        with self.vault.store.begin() as connection:
            for session, vector in vectors.items():
                row = row_of(client, session)
                closed = self.vault.cipher.encrypt(
                    sealing.packed(vector), table=sessions.name, column=VECTOR, row=row, subject=client
                )
                connection.execute(
                    sessions.update().where(sessions.c.id == row, sessions.c.vector.is_(None)).values(vector=closed)
                )

    # --- reading -------------------------------------------------------------------------------------------

    def record_read(self, client: str, act: Act, action: str = "client:read") -> None:
        """Puts a read on record, before what is read is given."""
        self._writer.write((), Entry(act.actor, action, valid_id("client", client), request=act.request))

    def summaries(self, own: Collection[str] | None, after: str, limit: int, act: Act) -> list[ClientSummary]:
        """Clients by id, those past `after`, at most `limit`: those of `own`, with or without sessions; where it is None, all who have any. On record."""
        self._writer.write((), Entry(act.actor, "client:list", request=act.request))
        wanted = None if own is None else sorted(client for client in own if client > after)[:limit]
        unsigned = sa.func.sum(sa.case((sessions.c.signed_by == "", 1), else_=0))
        query = sa.select(sessions.c.client, sa.func.count(), sa.func.max(sessions.c.at), unsigned).group_by(sessions.c.client)
        query = query.where(sessions.c.client > after if wanted is None else sessions.c.client.in_(wanted))
        with self.vault.store.snapshot() as connection:
            rows = connection.execute(query.order_by(sessions.c.client).limit(limit)).all()
        found = {row[0]: ClientSummary(row[0], row[1], datetime.fromisoformat(row[2]), int(row[3])) for row in rows}
        return [found.get(client) or ClientSummary(client) for client in (found if wanted is None else wanted)]

    def find(self, client: str, session: str) -> tuple[LoggedSession, str] | None:
        """A session and the digest of what it was logged from; None where there is none."""
        query = sa.select(sessions).where(sessions.c.id == row_of(client, session))
        with self.vault.store.snapshot() as connection:
            rows = _rows(connection, query)
        if not rows:
            return None
        (found,) = self._opened(rows, words=True)
        return sealing.session_of(found), found[WORDS]["digest"]

    def history(self, client: str, session: str) -> list[LoggedSession]:
        """Every version of a session, oldest first, the one that stands last. Raises `DataError` where there is none."""
        found = self.find(client, session)
        if found is None:
            raise no_session()
        with self.vault.store.snapshot() as connection:
            before = formers(self.vault, connection, client, row_of(client, session)).get(row_of(client, session), [])
        return [*(sealing.session_of(each["was"]) for each in before), found[0]]

    def journey(self, client: str, start: datetime | None = None, end: datetime | None = None, *, words: bool = True) -> Journey:
        """What the journal holds of a client from `start` to `end` (not included): sessions, scores and events within, goals with their ratings
        before `end`, milestones. Without `words` sessions have no texts: what trends need, at half the cost. Not on record: the caller's."""
        first, last = (stamp(when) if when else ever for when, ever in zip((start, end), _EVER, strict=True))
        with self.vault.store.reading(f"client:{client}") as connection:
            of = (sessions.c.client == client, sessions.c.at >= first, sessions.c.at < last)
            columns = [column for column in sessions.c if column.name != VECTOR and (words or column.name != WORDS)]
            found = _rows(connection, sa.select(*columns).where(*of).order_by(sessions.c.at, sessions.c.id))
            query = sa.select(entries).where(entries.c.client == client, entries.c.at < last).order_by(entries.c.at, entries.c.id)
            kept = [row for row in _rows(connection, query) if row["kind"] in (GOAL, RATING) or row["at"] >= first]
        opened = self._opened(found, words=words)
        entry_rows = self.vault.cipher.decrypt_rows(entries.name, kept, (CONTENT,))
        return _journey(client, [sealing.session_of(row) for row in opened], entry_rows)

    def with_words(self, client: str, session_ids: Sequence[str]) -> dict[str, LoggedSession]:
        """Some sessions of a client whole, by id, in the order of time. Not on record: the caller's."""
        found: list[dict[str, Any]] = []
        columns = [column for column in sessions.c if column.name != VECTOR]
        with self.vault.store.reading(f"client:{client}") as connection:
            wanted = [row_of(client, session) for session in session_ids]
            for place in range(0, len(wanted), MOST_ROWS):
                some = wanted[place : place + MOST_ROWS]
                query = sa.select(*columns).where(sessions.c.id.in_(some), sessions.c.client == client)
                found += _rows(connection, query)
        opened = self._opened(sorted(found, key=lambda row: (row["at"], row["id"])), words=True)
        return {row["session"]: sealing.session_of(row) for row in opened}

    def goals(self, client: str) -> Sequence[Goal]:
        """A client's goals with their ratings. Not on record: the caller's."""
        query = sa.select(entries).where(entries.c.client == client, entries.c.kind.in_((GOAL, RATING)))
        with self.vault.store.reading(f"client:{client}") as connection:
            rows = _rows(connection, query.order_by(entries.c.at, entries.c.id))
        return _journey(client, (), self.vault.cipher.decrypt_rows(entries.name, rows, (CONTENT,))).goals

    def vectors(self, client: str, start: datetime, end: datetime) -> dict[str, NDArray[np.float32]]:
        """The embeddings of a client's summaries in a time span, by session id; those that lack one are not in it."""
        of = (
            sessions.c.client == client,
            sessions.c.at >= stamp(start),
            sessions.c.at < stamp(end),
            sessions.c.vector.is_not(None),
        )
        query = sa.select(sessions.c.id, sessions.c.client, sessions.c.session, sessions.c.vector).where(*of)
        with self.vault.store.reading(f"client:{client}") as connection:
            rows = _rows(connection, query)
        opened = self.vault.cipher.decrypt_rows(sessions.name, rows, (VECTOR,))
        return {row["session"]: sealing.unpacked(row[VECTOR]) for row in opened}

    def derived_id(self, client: str, *parts: str) -> str:
        """An id that is the same for the same parts of a client and tells nobody else what they are."""
        return self.vault.cipher.blind_index("\n".join(parts), table=entries.name, column="id", subject=client).hex()

    # --- inside --------------------------------------------------------------------------------------------

    def _closed(self, client: str, entry: NewEntry, act: Act) -> dict[str, Any]:
        closed = self.vault.cipher.encrypt_row(entries.name, entry.row, client, {CONTENT: dict(entry.content)})
        return {
            "id": entry.row, "client": client, "at": stamp(entry.at), "zone": zone_of(entry.at), "kind": entry.kind, "version": 1, "author": act.actor,
            "logged_at": stamp(self.vault.audit.clock()), **closed,
        }  # fmt: skip

    def _write(self, client: str, rows: Sequence[Insert], act: Act, target: str, on_record: Sequence[Entry]) -> None:
        def check(connection: sa.Connection) -> None:
            refuse_deleted(connection, client)

        entry = Entry(act.actor, "client:write", client, request=act.request, target=target)
        self._writer.write(rows, entry, *on_record, check=check)
        self.vault.store.wrote(f"client:{client}")

    def _opened(self, rows: list[dict[str, Any]], *, words: bool) -> list[dict[str, Any]]:
        return self.vault.cipher.decrypt_rows(sessions.name, rows, (STATE, WORDS) if words else (STATE,))


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    """Rows as dicts: a third of what SQLAlchemy's mappings cost, where there are hundreds."""
    found = connection.execute(query)
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found]


def row_of(client: str, session: str) -> str:
    """The primary key of a session: of ids alone, so that the same session finds its row."""
    return content_hash(["session", client, session])[:40]


def no_session() -> DataError:
    return DataError("the client has no such session in the journal")


def _journey(client: str, logged: Sequence[LoggedSession], rows: Rows) -> Journey:
    by_kind: dict[str, list[tuple[str, datetime, Mapping[str, Any]]]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append((row["id"], in_zone(row["at"], row["zone"]), row["content"]))
    scores = [
        MeasureScore(c["measure"], c["total"], at, tuple(c["items"]), c.get("session", ""), row, c.get("prorated", False))
        for row, at, c in by_kind.get(MEASURE, ())
    ]
    events = [Event(at, c["event"], c["title"], row) for row, at, c in by_kind.get(EVENT, ())]
    marks = [
        Milestone(row, c["title"], at, c.get("note", ""), "set_by_hand", c["by"]) for row, at, c in by_kind.get(MILESTONE, ())
    ]
    return Journey(client, logged, scores, _goals(by_kind), events, marks)


def _goals(by_kind: Mapping[str, Sequence[tuple[str, datetime, Mapping[str, Any]]]]) -> list[Goal]:
    ratings: dict[str, list[Rating]] = {}
    closed: dict[str, datetime] = {}
    for row, at, c in by_kind.get(RATING, ()):
        if c.get("closes"):
            closed[c["goal"]] = at
        else:
            ratings.setdefault(c["goal"], []).append(Rating(at, c["attainment"], c["percent"], c["note"], row))
    return [
        Goal(
            c["goal"], c["title"], at, {int(k): v for k, v in c["levels"].items()}, c["weight"], tuple(ratings.get(c["goal"], ())),
            closed.get(c["goal"]),
        )
        for _, at, c in by_kind.get(GOAL, ())
    ]  # fmt: skip
