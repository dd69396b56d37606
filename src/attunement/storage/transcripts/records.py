"""A transcript, open and sealed; documents (`documents.py`) are rows of the same tables. What is sealed is the same bytes
wherever it lies: outbox, spool, SQL, MongoDB.

A client's is sealed with the client's key. One without a client is sealed with a key of its day, which is destroyed when the
day is past `stores.anonymous_days`: so it ends everywhere at once, in backups, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attunement.errors import DataError
from attunement.security.codes import valid_id
from attunement.security.fields import FieldCipher
from attunement.storage.files import content_hash

TABLE = "transcripts"
"""Stands in the associated data of each ciphertext."""
TRANSCRIPT, DOCUMENT = "transcript", "document"
"""What a row is: its `kind`."""
SAID = ("turns", "reply", "safety")
WORDS = (*SAID, "content")
"""The sealed columns that move to MongoDB: of a transcript those of `SAID`, of a document `content`."""
DAY_KEY = "transcripts:"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
MOST_MODEL_CHARACTERS = 128
Row = dict[str, Any]


@dataclass(frozen=True)
class Transcript:
    """One request with its reply. `turns` are what the model was given last ([{"role", "content"}, ...]), `created` is a stamp."""

    request_id: str
    session_id: str
    turns: Sequence[Mapping[str, str]] = field(repr=False)
    reply: str = field(repr=False)
    model_version: str
    safety: Mapping[str, Any] = field(repr=False)
    created: str
    client_id: str = ""

    def __post_init__(self) -> None:
        valid_id("request_id", self.request_id), valid_id("session_id", self.session_id)
        if self.client_id and valid_id("client_id", self.client_id).startswith(DAY_KEY):
            raise DataError(f"a client_id does not begin with {DAY_KEY}")
        if not STAMP.fullmatch(self.created) or len(self.model_version) > MOST_MODEL_CHARACTERS:
            raise DataError("a transcript has a stamp and the name of a model")

    @property
    def subject(self) -> str:
        """Whose key it is sealed with."""
        return subject_of(self.client_id, self.created)


def subject_of(client: str, created: str) -> str:
    return client or f"{DAY_KEY}{created[:10]}"


def seal(cipher: FieldCipher, transcript: Transcript) -> Row:
    """The row of a transcript. Its id comes from client, session and request: the same request again is the same row."""
    row = content_hash(["transcript", transcript.client_id, transcript.session_id, transcript.request_id])[:40]
    words = {"turns": [dict(t) for t in transcript.turns], "reply": transcript.reply, "safety": dict(transcript.safety)}
    return {
        "id": row,
        "kind": TRANSCRIPT,
        "client": transcript.client_id,
        "session": transcript.session_id,
        "request": transcript.request_id,
        "created": transcript.created,
        "model": transcript.model_version,
        **cipher.encrypt_row(TABLE, row, transcript.subject, words),
    }


def unseal(cipher: FieldCipher, row: Mapping[str, Any]) -> Transcript:
    """The inverse. Raises `IntegrityError` for what was changed or moved, `ShreddedError` where the key is destroyed."""
    subject = subject_of(row["client"], row["created"])
    words = cipher.decrypt_row(TABLE, row["id"], subject, {name: row[name] for name in SAID})
    return Transcript(
        row["request"],
        row["session"],
        words["turns"],
        words["reply"],
        row["model"],
        words["safety"],
        row["created"],
        row["client"],
    )


def together(heads: Iterable[Row]) -> list[str]:
    """The ids that move at once, of rows in their order: transcripts up to the first document, or that document alone, for its size."""
    out: list[str] = []
    for head in heads:
        if head["kind"] == DOCUMENT:
            return out or [head["id"]]
        out.append(head["id"])
    return out
