"""Signed checkpoints of the audit log: how many records there were and what the last one's hash was, by Ed25519.

They lie in a file outside of the database (`audit-checkpoints.jsonl` in the home, or where `security.audit_checkpoints`
says: a disk that only grows, or another machine's). The signing key is a data key like others, wrapped by the master key; who
can write to the database alone can neither sign nor take a line away.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attunement.errors import DataError
from attunement.security.clock import stamp
from attunement.security.keys import KeyRing
from attunement.storage.files import canonical

SIGNER = "audit-signing"
"""The subject of the ring whose key is the seed of the signing key."""
FILE = "audit-checkpoints.jsonl"
EVERY_RECORDS = 100
EVERY_SECONDS = 300.0


@dataclass(frozen=True)
class Checkpoint:
    """After record `number` the head of the chain was `hash`. `holds`: the signature is by our key."""

    number: int
    hash: str
    at: str
    holds: bool = True


class Checkpoints:
    """Signs checkpoints into a file, and reads them back."""

    def __init__(
        self, path: Path, ring: KeyRing, *, every_records: int = EVERY_RECORDS, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self.path, self._ring = path, ring
        self._every, self._seconds = every_records, every_seconds
        self._since, self._last = 0, None if not path.exists() else datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        self._lock = threading.Lock()

    def count(self, records: int) -> None:
        """So many more records were written."""
        with self._lock:
            self._since += records

    @property
    def pending(self) -> int:
        """How many records this process wrote since its last checkpoint."""
        with self._lock:
            return self._since

    def due(self, now: datetime) -> bool:
        """Whether enough records, or enough time with at least one, went by since the last checkpoint of this process."""
        with self._lock:
            late = self._last is None or (now - self._last).total_seconds() >= self._seconds
            return self._since >= self._every or (late and self._since > 0)

    def sign(self, number: int, digest: str, now: datetime) -> Checkpoint:
        """Signs and writes one, flushed to disk."""
        point = Checkpoint(number, digest, stamp(now))
        signature = self._key().sign(_text(point)).hex()
        line = canonical({"number": number, "hash": digest, "at": point.at, "signature": signature}) + "\n"
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(file, line.encode())
            os.fsync(file)
        finally:
            os.close(file)
        with self._lock:
            self._since, self._last = 0, now
        return point

    def all(self) -> list[Checkpoint]:
        """Every checkpoint with whether its signature holds. Raises `DataError` for a line that is none."""
        if not self.path.exists():
            return []
        public, out = self._key().public_key(), []
        with open(self.path, encoding="utf-8") as file:
            for place, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    point = Checkpoint(int(row["number"]), str(row["hash"]), str(row["at"]))
                    held = _verified(public, bytes.fromhex(row["signature"]), point)
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(f"{self.path}, line {place} is no checkpoint: it was damaged or edited") from error
                out.append(Checkpoint(point.number, point.hash, point.at, held))
        return out

    def set_aside(self, now: datetime) -> Path | None:
        """Puts the file away under another name, for a log that was restored from before: what it lost is no forgery.

        The file stays, as evidence of how far the log had come. None when there is none.
        """
        if not self.path.exists():
            return None
        aside = self.path.with_name(f"{self.path.name}.until-{stamp(now)[:19].replace(':', '')}")
        self.path.rename(aside)
        with self._lock:
            self._last = None
        return aside

    def sign_text(self, text: bytes) -> str:
        """A signature in hex of another text than a checkpoint's, which begins with what it is."""
        return self._key().sign(text).hex()

    def public_key(self) -> str:
        """The public key in hex, to keep elsewhere: with it anybody can check the signatures."""
        return self._key().public_key().public_bytes_raw().hex()

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._ring.key_for(SIGNER).secret)


def text_holds(public_key: str, text: bytes, signature: str) -> bool:
    """Whether a signature of `sign_text` holds, by the public key in hex. Raises `DataError` for what is neither."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), text)
        return True
    except InvalidSignature:
        return False
    except ValueError as error:
        raise DataError("a public key has 64 hex digits, a signature 128") from error


def _text(point: Checkpoint) -> bytes:
    return canonical(["attunement-audit-checkpoint", point.number, point.hash, point.at]).encode()


def _verified(public: Ed25519PublicKey, signature: bytes, point: Checkpoint) -> bool:
    try:
        public.verify(signature, _text(point))
        return True
    except InvalidSignature:
        return False
