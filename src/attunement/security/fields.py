"""Encrypted fields: JSON values, or bytes, as AES-256-GCM ciphertexts that open only in their own place.

    byte 0       form: 1 JSON, 2 bytes as they are
    bytes 1-4    version of the subject's data key, big-endian
    bytes 5-16   nonce, random (NIST SP 800-38D 8.2.2: at most 2^32 fields a key; a client has thousands)
    the rest     ciphertext and its tag of 16 bytes

Associated data are table, column, row, subject, key version and form: a ciphertext that is moved to another place does not open. A
ciphertext is 33 bytes longer than what it holds: who sees the database sees how long a field is, and that it is NULL.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attunement.errors import IntegrityError
from attunement.security.keys import SYSTEM, DataKey, KeyRing
from attunement.storage.files import canonical

FORM, RAW = 1, 2
HEAD_BYTES, NONCE_BYTES, TAG_BYTES = 5, 12, 16
INDEX_BYTES = 16
Cipher = tuple[DataKey, AESGCM]


class FieldCipher:
    """Encrypts and decrypts the fields of rows with the data keys of a ring. `None` stays None."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    def encrypt_row(self, table: str, row: str, subject: str, values: Mapping[str, Any]) -> dict[str, bytes | None]:
        """`values` (column: JSON value, or bytes) of one row, encrypted for `subject`; `row` is its primary key as text."""
        key = self.ring.key_for(subject)
        cipher, version = AESGCM(key.secret), key.version.to_bytes(4, "big")
        out: dict[str, bytes | None] = {}
        for column, value in values.items():
            if value is None:
                out[column] = None
                continue
            nonce = os.urandom(NONCE_BYTES)
            form = RAW if isinstance(value, bytes) else FORM
            text = value if isinstance(value, bytes) else canonical(value).encode("utf-8", "surrogatepass")
            closed = cipher.encrypt(nonce, text, _place(table, column, row, key, form))
            out[column] = bytes([form]) + version + nonce + closed
        return out

    def decrypt_row(self, table: str, row: str, subject: str, values: Mapping[str, bytes | None]) -> dict[str, Any]:
        """The inverse. Raises `IntegrityError` for what was changed or moved, `ShreddedError` for a deleted client's."""
        return self._opened(table, row, subject, values, {})

    def _opened(
        self, table: str, row: str, subject: str, values: Mapping[str, bytes | None], ciphers: dict[tuple[str, int], Cipher]
    ) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for column, value in values.items():
            if value is None:
                out[column] = None
                continue
            if len(value) < HEAD_BYTES + NONCE_BYTES + TAG_BYTES or value[0] not in (FORM, RAW):
                raise IntegrityError(f"{table}.{column} of {row} is no encrypted field")
            version = int.from_bytes(value[1:HEAD_BYTES], "big")
            if (subject, version) not in ciphers:
                key = self.ring.key(subject, version)
                ciphers[subject, version] = key, AESGCM(key.secret)
            key, cipher = ciphers[subject, version]
            nonce, rest = value[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES], value[HEAD_BYTES + NONCE_BYTES :]
            try:
                text = cipher.decrypt(nonce, rest, _place(table, column, row, key, value[0]))
            except InvalidTag as error:
                raise IntegrityError(f"{table}.{column} of {row} was changed, or moved there from elsewhere") from error
            out[column] = text if value[0] == RAW else json.loads(text.decode("utf-8", "surrogatepass"))
        return out

    def encrypt(self, value: Any, *, table: str, column: str, row: str, subject: str) -> bytes | None:
        """One field."""
        return self.encrypt_row(table, row, subject, {column: value})[column]

    def decrypt(self, value: bytes | None, *, table: str, column: str, row: str, subject: str) -> Any:
        """One field."""
        return self.decrypt_row(table, row, subject, {column: value})[column]

    def decrypt_rows(
        self, table: str, rows: Iterable[Mapping[str, Any]], columns: Iterable[str], *, row: str = "id", subject: str = "client"
    ) -> list[dict[str, Any]]:
        """Many rows as they came from the database; `row` and `subject` name the columns that hold their id and client."""
        found, names = [dict(r) for r in rows], tuple(columns)
        self.ring.load(dict.fromkeys(str(r[subject]) for r in found))
        ciphers: dict[tuple[str, int], Cipher] = {}  # made once for all rows of a client: half of what a row costs
        for r in found:
            r.update(self._opened(table, str(r[row]), str(r[subject]), {name: r[name] for name in names}, ciphers))
        return found

    def blind_index(self, value: str, *, table: str, column: str, subject: str = SYSTEM) -> bytes:
        """16 bytes that are the same for the same value, to find a row by equality (HMAC-SHA-256).

        Under the system's key by default: whoever has that can try out guesses, and shredding a client leaves it standing, so
        delete it with the row. For values with many possibilities only.
        """
        secret = self.ring.key_for(subject).secret
        key = hmac.new(secret, f"blind index {table}.{column}".encode(), hashlib.sha256).digest()
        return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()[:INDEX_BYTES]


def _place(table: str, column: str, row: str, key: DataKey, form: int) -> bytes:
    """Where a field stands. The parts are told apart by their lengths: no two places give the same bytes."""
    subject, version = key.subject, str(key.version)
    told = f"{len(table)}:{table}{len(column)}:{column}{len(row)}:{row}{len(subject)}:{subject}{len(version)}:{version}"
    return (told + ("raw" if form == RAW else "")).encode("utf-8", "surrogatepass")
