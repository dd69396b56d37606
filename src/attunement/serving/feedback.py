"""What people say of replies: a rating, a correction, a comment. Encrypted under the client's key; a bad rating goes to the review queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from attunement.security.accounts import new_id
from attunement.security.acting import Act
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import stamp
from attunement.security.fields import FieldCipher
from attunement.security.grouped import GroupedWriter
from attunement.serving.kept import KeptKind, subject_of
from attunement.storage.sql import metadata

WORDS = ("correction", "comment")
MOST = 200
feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("at", sa.String(27), nullable=False, index=True),
    sa.Column("client", sa.String(64), nullable=False, index=True),
    sa.Column("request", sa.String(64), nullable=False, index=True),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("rating", sa.Integer, nullable=False),
    sa.Column("correction", sa.LargeBinary),
    sa.Column("comment", sa.LargeBinary),
)
KeptKind("feedback", "ratings of replies, with corrections and comments", feedback, WORDS)


@dataclass(frozen=True)
class Rated:
    """Feedback on the reply of `request`; `rating` is 1 (harmful) to 5 (helped)."""

    request: str
    rating: int
    correction: str = field(default="", repr=False)
    comment: str = field(default="", repr=False)
    client: str = ""


class Feedback:
    """Feedback over a store."""

    def __init__(self, audit: AuditLog, cipher: FieldCipher) -> None:
        self._audit, self._cipher = audit, cipher
        self._writer = GroupedWriter(audit)

    def add(self, rated: Rated, act: Act) -> str:
        """Keeps it; its id."""
        row = new_id("f")
        words = {"correction": rated.correction or None, "comment": rated.comment or None}
        closed = self._cipher.encrypt_row(feedback.name, row, subject_of(rated.client), words)
        values = {
            "id": row, "at": stamp(self._audit.clock()), "client": rated.client, "request": rated.request, "author": act.actor,
            "rating": rated.rating, **closed,
        }  # fmt: skip
        self._writer.write(
            [(feedback, values)], Entry(act.actor, "feedback:create", rated.client, request=act.request, target=row)
        )
        return row

    def latest(self, act: Act, limit: int = 50) -> list[dict[str, Any]]:
        """The newest, opened. On record."""
        query = sa.select(feedback).order_by(feedback.c.at.desc(), feedback.c.id).limit(min(limit, MOST))
        with self._audit.begin() as connection:
            rows = list(map(dict, connection.execute(query).mappings()))
            for client in sorted({row["client"] for row in rows}) or [""]:
                self._audit.append(connection, Entry(act.actor, "feedback:read", client, request=act.request))
        for row in rows:
            closed = {name: row[name] for name in WORDS}
            opened = self._cipher.decrypt_row(feedback.name, row["id"], subject_of(row["client"]), closed)
            row.update({name: value or "" for name, value in opened.items()})
        return rows
