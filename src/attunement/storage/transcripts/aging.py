"""Transcripts without a client end after `stores.anonymous_days`: their rows are deleted and the keys of their days destroyed."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clock import stamp
from attunement.security.vault import Vault
from attunement.storage.transcripts.records import DAY_KEY
from attunement.storage.transcripts.tables import delete, transcripts

ANONYMOUS = "anonymous_transcripts"


def expire(vault: Vault, act: Act, *, dry_run: bool = False) -> int:
    """Deletes what is past its days, with its record; how many rows. Again is no error: it does what was left."""
    limit = vault.audit.clock() - timedelta(days=vault.settings.stores.anonymous_days)
    before = stamp(limit)
    if dry_run:
        old = (transcripts.c.client == "") & (transcripts.c.created < before)
        with vault.store.snapshot() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(transcripts).where(old)).scalar_one())
    with vault.audit.begin() as connection:
        if count := delete(connection, "", before):
            entry = Entry(act.actor, "retention:delete", request=act.request, target=ANONYMOUS)
            vault.audit.append(connection, entry)
    for subject in vault.ring.live(DAY_KEY):
        if subject < f"{DAY_KEY}{before[:10]}":  # the day has ended before the limit
            vault.shred(subject, actor=act.actor, request=act.request)
    return count
