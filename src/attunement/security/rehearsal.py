"""A rehearsed restore: a backup is put into an empty store that is thrown away, and looked at. Only that shows that it can be done.

The proposed rule of 2025 asks for restoration within 72 hours and for restores that were tried (90 FR 898, proposed 164.308(a)(13)
and 164.312(i)); the audit log keeps when it was done and how many seconds it took.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from attunement.errors import IntegrityError
from attunement.security.audit import AuditLog
from attunement.security.backup import Facts, Opener, restore_postgres, restore_sqlite
from attunement.security.keys import KeyRing
from attunement.security.private_files import wipe
from attunement.storage.sql import Store


@dataclass(frozen=True)
class Rehearsal:
    """What came back, how many audit records of it are whole, and how long it took."""

    facts: Facts
    audit_records: int
    seconds: float


def rehearse(path: Path, ring: KeyRing, opener: Opener, home: Path, scratch_store: str = "") -> Rehearsal:
    """Restores into a folder in `home` that is wiped afterwards, or into the empty PostgreSQL database `scratch_store`, which stays.

    Raises `IntegrityError` when the rows are not as many as the backup says, or the audit log in it is not whole.
    """
    began = time.monotonic()
    if scratch_store:
        store = Store(scratch_store)
        try:
            return _looked_at(store, restore_postgres(path, ring, opener, store), began)
        finally:
            store.close()
    folder = Path(tempfile.mkdtemp(prefix=".rehearsal-", dir=home.expanduser()))
    try:
        facts = restore_sqlite(path, ring, opener, folder)
        store = Store.at_home(folder, behind=True)  # a backup of a version before is looked at as it is
        try:
            return _looked_at(store, facts, began)
        finally:
            store.close()
    finally:
        for file in folder.iterdir():
            wipe(file)
        shutil.rmtree(folder)


def _looked_at(store: Store, facts: Facts, began: float) -> Rehearsal:
    with store.snapshot() as connection:
        for name, rows in facts.tables.items():
            found = connection.execute(sa.select(sa.func.count()).select_from(store.tables.tables[name])).scalar_one()
            if found != rows:
                raise IntegrityError(f"the restored table {name} has {found} rows, and the backup says {rows}")
    verdict = AuditLog(store).verify()
    if not verdict.whole:
        raise IntegrityError(f"the audit log in the backup is not whole: {verdict.reason} at record {verdict.first_bad}")
    return Rehearsal(facts, verdict.records, time.monotonic() - began)
