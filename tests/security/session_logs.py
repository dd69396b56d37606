"""A table in the shape of a session log, for the tests: summary, notes and emotional state are encrypted."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from attunement.security.audit import Entry
from attunement.security.vault import Vault
from attunement.storage.sql import metadata

NAME = "test_session_logs"
SECRETS = ("summary", "notes", "emotional_state")
TOLD = {
    "c-1": {"summary": "Ann slept at her sister's house", "notes": "nightmares about the flood", "emotional_state": {"word": "hopeless-zq", "score": 0.1}},
    "c-2": {"summary": "Bob went back to the bakery", "notes": None, "emotional_state": {"word": "calmer-zq", "score": 0.7}},
}  # fmt: skip

logs = metadata.tables.get(NAME)
if logs is None:
    logs = sa.Table(
        NAME,
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        *(sa.Column(name, sa.LargeBinary) for name in SECRETS),
    )


def write(vault: Vault, number: int, client: str) -> None:
    closed = vault.cipher.encrypt_row(NAME, str(number), client, TOLD[client])
    with vault.audit.begin() as connection:
        connection.execute(logs.insert().values(id=number, client=client, at="2026-11-27T09:00:00.000000Z", **closed))
        vault.audit.append(connection, Entry("u-ann", "session_log:create", client))


def read(vault: Vault, client: str) -> list[dict[str, Any]]:
    with vault.store.begin() as connection:
        rows = connection.execute(sa.select(logs).where(logs.c.client == client).order_by(logs.c.id)).mappings().all()
    return [{name: row[name] for name in SECRETS} for row in vault.cipher.decrypt_rows(NAME, rows, SECRETS)]
