"""The escrow: a second copy of the data keys, for the day on which the machine is lost. There is one, and it is replaced.

A backup of the data is kept for long and holds no key. The keys are copied into one file, still wrapped, sealed as a whole by
the master key, and written anew at each backup, each shredding and each rotation; what was there before is wiped. Other
copies of it are the owner's to count: `docs/security-design.md` says what holds for them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attunement.errors import DataError, IntegrityError
from attunement.security.keys import KeyRing
from attunement.security.master_key import KEY_BYTES, NONCE_BYTES
from attunement.security.private_files import read_private, write_private
from attunement.storage.files import canonical

FORMAT = "attunement-key-escrow-1"
ABOUT = b"attunement key escrow"


def write_escrow(ring: KeyRing, path: Path) -> int:
    """Writes the escrow of all live keys, and the ledger of the shredded; returns how many keys are in it."""
    rows = [{**row, "wrapped": row["wrapped"] and base64.b64encode(row["wrapped"]).decode()} for row in ring.rows()]
    secret, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    wrapped = base64.b64encode(ring.master.wrap(secret, ABOUT)).decode()
    head = canonical({"format": FORMAT, "master_id": ring.master.key_id, "wrapped": wrapped}).encode() + b"\n"
    write_private(path, head + nonce + AESGCM(secret).encrypt(nonce, canonical(rows).encode(), head))
    return sum(row["wrapped"] is not None for row in rows)


def read_escrow(ring: KeyRing, path: Path) -> list[dict[str, Any]]:
    """The rows in an escrow. Raises `IntegrityError` for a changed one, `ConfigError` when its master key is not here."""
    head, _, sealed = read_private(path, "the escrow").partition(b"\n")
    try:
        told = json.loads(head)
        wrapped, master_id = base64.b64decode(told["wrapped"]), str(told["master_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no escrow of keys") from error
    secret = ring.master.unwrap(wrapped, ABOUT, master_id)
    try:
        text = AESGCM(secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], head + b"\n")
    except (InvalidTag, ValueError) as error:
        raise IntegrityError(f"the escrow {path} was changed") from error
    rows: list[dict[str, Any]] = json.loads(text)
    return [{**row, "wrapped": row["wrapped"] and base64.b64decode(row["wrapped"])} for row in rows]


def apply_ledger(ring: KeyRing, subjects: Iterable[str]) -> int:
    """Shreds what a ledger says was shredded, for a store that was restored from before; returns how many were not yet."""
    known = {subject for subject, _ in ring.ledger()}
    fresh = [subject for subject in subjects if subject not in known]
    for subject in fresh:
        ring.shred(subject)
    return len(fresh)
