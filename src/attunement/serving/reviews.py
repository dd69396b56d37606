"""The clinical review queue and its alerts: what the gate flagged, for people to look at, the nearest danger first.

A row is written before the reply is given, encrypted under the client's key, with its audit record in the same transaction. A row about
danger is an alert, too: it names no words, is sent to `serving.alert_webhook`, and stands until somebody takes it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.accounts import new_id
from attunement.security.acting import Act
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import stamp
from attunement.security.fields import FieldCipher
from attunement.security.grouped import GroupedWriter, Insert
from attunement.serving.kept import KeptKind, subject_of
from attunement.storage.sql import metadata

Decision = Literal["approve", "correct", "escalate", "dismiss"]
DECISIONS: Mapping[str, str] = {
    "approve": "what the service did was right",
    "correct": "it should have answered otherwise: the correction says how",
    "escalate": "somebody else must act, who was told",
    "dismiss": "there was nothing to look at",
}
PRIORITIES = ("imminent", "elevated", "withheld", "feedback", "possible")
"""What comes first in the queue."""
ALERTS = ("imminent", "elevated")
MOST = 200
WORDS = ("content", "note")

reviews = sa.Table(
    "clinical_reviews",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("at", sa.String(27), nullable=False, index=True),
    sa.Column("client", sa.String(64), nullable=False, index=True),
    sa.Column("session", sa.String(64), nullable=False),
    sa.Column("request", sa.String(64), nullable=False, index=True),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("reasons", sa.String(400), nullable=False),
    sa.Column("model", sa.String(120), nullable=False),
    sa.Column("content", sa.LargeBinary),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("decided_at", sa.String(27), nullable=False),
    sa.Column("decided_by", sa.String(64), nullable=False),
    sa.Column("note", sa.LargeBinary),
    sa.Column("taken_by", sa.String(64), nullable=False),
    sa.Column("taken_at", sa.String(27), nullable=False),
    sa.Column("sent_at", sa.String(27), nullable=False),
    sa.Index("clinical_reviews_open", "decision", "rank", "at"),
)
referrals = sa.Table(
    "crisis_referrals",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("year", sa.Integer, nullable=False, index=True),
    sa.Column("place", sa.String(8), nullable=False),
)
"""One row for each time that somebody was referred to a crisis service: no person, no day (California SB 243 counts years)."""
KeptKind("reviews", "what the safety gate flagged, with the words before it, and what people decided", reviews, WORDS)


@dataclass(frozen=True)
class Flagged:
    """What the gate flagged. `priority` is one of `PRIORITIES`; `reasons` are codes; `talk` ends with the client's words."""

    priority: str
    action: str
    reasons: Sequence[str]
    talk: Sequence[Mapping[str, str]] = field(repr=False)
    reply: str = field(repr=False)
    request: str = "-"
    client: str = ""
    session: str = ""
    model: str = ""
    place: str = ""
    referred: bool = False
    """Whether the reply named a crisis service."""


class ClinicalReviews:
    """The queue over a store, for any number of threads."""

    def __init__(self, audit: AuditLog, cipher: FieldCipher) -> None:
        self._audit, self._cipher, self._store = audit, cipher, audit.store
        self._writer = GroupedWriter(audit)

    def flag(self, flagged: Flagged, act: Act) -> str:
        """Puts it into the queue; its id. Returns when it is on disk."""
        row, inserts, entry = self.rows(flagged, act)
        self._writer.write(inserts, entry)
        return row

    def rows(self, flagged: Flagged, act: Act) -> tuple[str, list[Insert], Entry]:
        """What `flag` writes, for who writes it together with what it is about: the id, the rows, the audit record."""
        row, now = new_id("v"), self._audit.clock()
        words = {"content": {"talk": list(flagged.talk), "reply": flagged.reply}, "note": None}
        values = {
            "id": row, "at": stamp(now), "client": flagged.client, "session": flagged.session, "request": flagged.request,
            "rank": PRIORITIES.index(flagged.priority), "action": flagged.action, "reasons": " ".join(flagged.reasons)[:400],
            "model": flagged.model[:120], "decision": "", "decided_at": "", "decided_by": "", "taken_by": "", "taken_at": "",
            "sent_at": "", **self._cipher.encrypt_row(reviews.name, row, subject_of(flagged.client), words),
        }  # fmt: skip
        inserts: list[Insert] = [(reviews, values)]
        if flagged.referred:
            inserts.append((referrals, {"id": new_id("n"), "year": now.year, "place": flagged.place}))
        return row, inserts, Entry(act.actor, "review:create", flagged.client, request=act.request, target=row)

    def open(self, act: Act, *, limit: int = 50, decided: bool = False) -> list[dict[str, Any]]:
        """What waits for a decision (or was decided), nearest danger first, oldest first within; with its words. On record."""
        query = sa.select(reviews).where((reviews.c.decision != "") if decided else (reviews.c.decision == ""))
        query = query.order_by(*((reviews.c.decided_at.desc(),) if decided else (reviews.c.rank, reviews.c.at)), reviews.c.id)
        with self._audit.begin() as connection:
            rows = list(map(dict, connection.execute(query.limit(min(limit, MOST))).mappings()))
            found = [_told(row) | self._words(row) for row in rows]
            for client in sorted({row["client"] for row in rows}) or [""]:
                self._audit.append(connection, Entry(act.actor, "review:read", client, request=act.request))
        return found

    def decide(self, row: str, decision: Decision, note: str, act: Act) -> dict[str, Any]:
        """Decides one. Raises `DataError` for one that is not there or was decided."""
        if decision not in get_args(Decision):
            raise DataError(f"the decisions are {', '.join(DECISIONS)}")
        with self._audit.begin() as connection:
            found = connection.execute(sa.select(reviews).where(reviews.c.id == row).with_for_update()).mappings().one_or_none()
            if found is None:
                raise DataError("there is no such review")
            if found["decision"]:
                raise DataError(f"it was decided already ({found['decision']})")
            subject = subject_of(found["client"])
            closed = self._cipher.encrypt(note, table=reviews.name, column="note", row=row, subject=subject) if note else None
            done = {"decision": decision, "decided_at": stamp(self._audit.clock()), "decided_by": act.actor, "note": closed}
            connection.execute(reviews.update().where(reviews.c.id == row).values(**done))
            self._audit.append(connection, Entry(act.actor, "review:decide", found["client"], request=act.request, target=row))
        return _told({**found, **done})

    # --- alerts ---------------------------------------------------------------------------------------------

    def alerts(self, act: Act, clients: frozenset[str] | None = None, *, limit: int = 50) -> list[dict[str, Any]]:
        """Alerts that nobody took on yet, nearest danger first; of `clients` alone where these are given. Without words. On record."""
        query = sa.select(reviews).where(reviews.c.rank < len(ALERTS), reviews.c.taken_by == "")
        query = query if clients is None else query.where(reviews.c.client.in_(sorted(clients)))
        with self._audit.begin() as connection:
            rows = connection.execute(query.order_by(reviews.c.rank, reviews.c.at).limit(min(limit, MOST))).mappings()
            found = [_told(dict(row)) for row in rows]
            self._audit.append(connection, Entry(act.actor, "alert:read", request=act.request))
        return found

    def take(self, row: str, act: Act, clients: frozenset[str] | None = None) -> dict[str, Any]:
        """Takes an alert on. Raises `DataError` for one that is not there (or not of `clients`), or that somebody has."""
        mine = (reviews.c.id == row) & (reviews.c.rank < len(ALERTS))
        with self._audit.begin() as connection:
            found = connection.execute(sa.select(reviews).where(mine).with_for_update()).mappings().one_or_none()
            if found is None or (clients is not None and found["client"] not in clients):
                raise DataError("there is no such alert")
            if found["taken_by"]:
                raise DataError(f"{found['taken_by']} has taken it on already")
            done = {"taken_by": act.actor, "taken_at": stamp(self._audit.clock())}
            connection.execute(reviews.update().where(mine).values(**done))
            entry = Entry(act.actor, "alert:acknowledge", found["client"], request=act.request, target=row)
            self._audit.append(connection, entry)
        return _told({**found, **done})

    def unsent(self, limit: int = 20, after: tuple[str, str] = ("", "")) -> list[dict[str, Any]]:
        """Alerts that were not sent yet, oldest first; those after the one with this `at` and `id`."""
        at, row = after
        later = (reviews.c.at > at) | ((reviews.c.at == at) & (reviews.c.id > row))
        query = sa.select(reviews).where(reviews.c.rank < len(ALERTS), reviews.c.sent_at == "", later)
        query = query.order_by(reviews.c.at, reviews.c.id).limit(limit)
        with self._store.snapshot() as connection:
            return [_told(dict(row)) for row in connection.execute(query).mappings()]

    def sent(self, row: str) -> None:
        """Says that an alert reached whom it is for; a second time changes nothing."""
        with self._audit.begin() as connection:
            when = stamp(self._audit.clock())
            first = connection.execute(reviews.update().where(reviews.c.id == row, reviews.c.sent_at == "").values(sent_at=when))
            if first.rowcount:
                self._audit.append(connection, Entry("system:alerts", "alert:send", target=row))

    def referred(self, year: int) -> dict[str, int]:
        """How often somebody was referred to a crisis service in a year, by place."""
        query = sa.select(referrals.c.place, sa.func.count()).where(referrals.c.year == year).group_by(referrals.c.place)
        with self._store.snapshot() as connection:
            return {place or "unknown": count for place, count in connection.execute(query)}

    def _words(self, row: Mapping[str, Any]) -> dict[str, Any]:
        closed = {name: row[name] for name in WORDS}
        opened = self._cipher.decrypt_row(reviews.name, row["id"], subject_of(row["client"]), closed)
        return {**(opened["content"] or {}), "note": opened["note"] or ""}


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its words."""
    names = (
        "id",
        "at",
        "client",
        "session",
        "request",
        "action",
        "model",
        "decision",
        "decided_at",
        "decided_by",
        "taken_by",
        "taken_at",
    )
    return {**{name: row[name] for name in names}, "priority": PRIORITIES[row["rank"]], "reasons": row["reasons"].split()}
