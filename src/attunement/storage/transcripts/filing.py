"""`Documents`: documents of clients' records, over the store of transcripts: the same tables, outbox, spool and retention."""

from __future__ import annotations

from contextlib import suppress

from attunement.errors import DocumentError, StoreDownError
from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clock import stamp
from attunement.security.codes import valid_id
from attunement.storage.transcripts.documents import Document, check, content_of, id_of, seal_document, unsealed
from attunement.storage.transcripts.records import DOCUMENT, Row
from attunement.storage.transcripts.store import TranscriptStore


class Documents:
    """Documents of one vault. For any number of threads and processes."""

    def __init__(self, store: TranscriptStore) -> None:
        self._store, self._vault = store, store.vault

    @property
    def most_bytes(self) -> int:
        return self._vault.settings.stores.document_bytes

    def add(self, client: str, title: str, media_type: str, content: bytes, act: Act) -> Document:
        """Keeps a document, on disk with its record (`client:write`) when this returns; the same again changes nothing, and gives what stands.

        Raises `DocumentError` for what is not taken, `ShreddedError` for a deleted client, `StoreDownError` where neither the SQL store
        nor the spool takes it.
        """
        check(title, media_type, content, self.most_bytes)
        cipher = self._vault.cipher
        row = id_of(cipher, client, title, media_type, content)
        made = Document(row, title, media_type, len(content), stamp(self._vault.audit.clock()), act.actor)
        self._store.keep(seal_document(cipher, client, made, content, act.request), act)
        with suppress(StoreDownError):  # it waits in the spool
            return (self._heads(client, row) or [made])[0]
        return made

    def of(self, client: str, act: Act) -> list[Document]:
        """A client's documents without their contents, oldest first. On record (`client:read`)."""
        found = self._heads(client)
        self._record(client, act, "")
        return found

    def get(self, client: str, document: str, act: Act) -> tuple[Document, bytes]:
        """A document with its content. On record. Raises `DocumentError` (`unknown`); `StoreDownError` while what holds it is away."""

        def opened(row: Row) -> tuple[Document, bytes]:
            return unsealed(self._vault.cipher, row), content_of(self._vault.cipher, row)

        found = self._store.find({**_which(client), "id": valid_id("document", document)}, opened)
        if not found:
            raise DocumentError("unknown", "the client has no such document: list them")
        self._record(client, act, document)
        return found[0]

    def _heads(self, client: str, document: str = "") -> list[Document]:
        which = {**_which(client), **({"id": document} if document else {})}
        return self._store.find(which, lambda row: unsealed(self._vault.cipher, row), heads=True)

    def _record(self, client: str, act: Act, target: str) -> None:
        with self._vault.audit.begin() as connection:
            entry = Entry(act.actor, "client:read", client, request=act.request, target=target or "documents")
            self._vault.audit.append(connection, entry)


def _which(client: str) -> dict[str, str]:
    return {"kind": DOCUMENT, "client": valid_id("client", client)}
