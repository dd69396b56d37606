"""A document of a client's record, checked, open and sealed: a letter, a form, a picture, what was said as text.

It is a row of the table of transcripts: `content` holds its bytes and moves to MongoDB, `about` (title, media type, size, who
added it) stays in the SQL store, so that a list asks no other database. Both are sealed with the client's key.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from attunement.errors import DocumentError
from attunement.security.clients import Attachment
from attunement.security.codes import valid_id
from attunement.security.fields import FieldCipher
from attunement.storage.files import canonical
from attunement.storage.transcripts.records import DOCUMENT, TABLE, Row

if TYPE_CHECKING:
    from attunement.security.vault import Vault

MEDIA_TYPES: Mapping[str, tuple[str, bytes]] = {
    "text/plain": (".txt", b""),
    "text/markdown": (".md", b""),
    "text/csv": (".csv", b""),
    "application/json": (".json", b""),
    "application/pdf": (".pdf", b"%PDF-"),
    "image/png": (".png", b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": (".jpg", b"\xff\xd8\xff"),
}
"""What is taken: media type to the suffix of its files and the bytes that they begin with; without such bytes it is text in UTF-8."""
MOST_TITLE_CHARACTERS = 200
NOT_IN_A_LINE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, halves of characters, ends of lines and paragraphs."""


@dataclass(frozen=True)
class Document:
    """A document without its content. `bytes` is its length, `added_at` a stamp, `added_by` an account."""

    id: str
    title: str = field(repr=False)
    media_type: str
    bytes: int
    added_at: str
    added_by: str

    @property
    def file(self) -> str:
        """A name for it that says nothing of the client."""
        return self.id + MEDIA_TYPES[self.media_type][0]


def check(title: str, media_type: str, content: bytes, most_bytes: int) -> None:
    """Raises `DocumentError` for what is not taken: what it says of itself is not repeated."""
    if not title.strip() or len(title) > MOST_TITLE_CHARACTERS or any(unicodedata.category(c) in NOT_IN_A_LINE for c in title):
        raise DocumentError("title", f"a document has a title of 1 to {MOST_TITLE_CHARACTERS} characters, in one line")
    if media_type not in MEDIA_TYPES:
        raise DocumentError("media_type", f"documents are of the media types {', '.join(MEDIA_TYPES)}")
    if len(content) > most_bytes:
        raise DocumentError("too_large", f"the document is longer than {most_bytes:,} bytes: send it in parts")
    if not content:
        raise DocumentError("content", "the document is empty")
    begins = MEDIA_TYPES[media_type][1]
    if not (content.startswith(begins) if begins else _is_text(content)):
        told = "does not begin as such a file does" if begins else "is not text in UTF-8"
        raise DocumentError("content", f"the document {told}: its media type is another than {media_type}")


def seal_document(cipher: FieldCipher, client: str, about: Document, content: bytes, request: str) -> Row:
    """The row of a document."""
    told = {name: value for name, value in asdict(about).items() if name not in ("id", "added_at")}
    closed = cipher.encrypt_row(TABLE, about.id, client, {"about": told, "content": content})
    plain = {"id": about.id, "kind": DOCUMENT, "client": client, "session": "", "request": request}
    return {**plain, "created": about.added_at, "model": "", **closed}


def id_of(cipher: FieldCipher, client: str, title: str, media_type: str, content: bytes) -> str:
    """The same for the same document of a client. Keyed with the client's key: from an id nobody tells that a content was guessed."""
    told = canonical([title, media_type, hashlib.sha256(content).hexdigest()])
    return "d" + cipher.blind_index(told, table=TABLE, column="content", subject=valid_id("client", client)).hex()


def unsealed(cipher: FieldCipher, row: Mapping[str, Any]) -> Document:
    """What a row says of its document. Raises `IntegrityError` for what was changed or moved, `ShreddedError`."""
    told = cipher.decrypt_row(TABLE, row["id"], row["client"], {"about": row["about"]})["about"]
    return Document(id=row["id"], added_at=row["created"], **told)


def content_of(cipher: FieldCipher, row: Mapping[str, Any]) -> bytes:
    """The bytes of a row's document. Raises as `unsealed` does."""
    return bytes(cipher.decrypt_row(TABLE, row["id"], row["client"], {"content": row["content"]})["content"])


def exported(vault: Vault, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it stands in a client's export."""
    found = unsealed(vault.cipher, row)
    return {**asdict(found), "content": Attachment(found.file, content_of(vault.cipher, row))}


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False
