"""Retention: what is older than its kind's policy is deleted, and that is recorded. A legal hold keeps everything.

`security.retention` says how many days each kind is kept; a kind without a policy is kept until somebody deletes it. One
transaction a client and kind, so a run that is stopped goes on with the next; a second run finds nothing to do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from attunement.config import Settings
from attunement.errors import ConfigError, UserError
from attunement.security.acting import Act
from attunement.security.audit import Entry
from attunement.security.clients import ClientData, kinds
from attunement.security.clock import stamp
from attunement.security.holds import is_held, lock
from attunement.security.rights import sweep_deleted
from attunement.security.vault import Vault
from attunement.storage.transcripts.aging import ANONYMOUS, expire
from attunement.storage.transcripts.records import DAY_KEY

log = logging.getLogger("attunement.security.retention")

AUDIT = "audit"
"""The audit log's policy: how long it is kept at least. Nothing here deletes from it."""
SERVICE = Act("system:retention")
LOOK_SECONDS = 600.0


@dataclass(frozen=True)
class Deleted:
    """What a run deleted (or would): `rows` of a kind, of so many clients; `held` clients were kept by a legal hold."""

    kind: str
    days: int
    rows: int
    clients: int
    held: int


class Retention:
    """The policies of the settings over a vault's store."""

    def __init__(self, vault: Vault) -> None:
        self._vault, self._policies = vault, vault.settings.security.retention
        if unknown := sorted(set(self._policies) - {AUDIT, *kinds()}):
            raise ConfigError(f"security.retention names '{unknown[0]}': the kinds are {', '.join([AUDIT, *kinds()])}")

    def run(self, act: Act, *, dry_run: bool = False) -> list[Deleted]:
        """Deletes what is past its time, clients' or nobody's, and what is left of deleted clients; with `dry_run` it only counts."""
        done = [self._kind(data, act, dry_run) for kind, data in kinds().items() if kind in self._policies]
        if rows := expire(self._vault, act, dry_run=dry_run):
            done.append(Deleted(ANONYMOUS, self._vault.settings.stores.anonymous_days, rows, 0, 0))
        if not dry_run:
            for client, _ in self._vault.ring.ledger():
                if not client.startswith(DAY_KEY):
                    sweep_deleted(self._vault, client, act)
            with self._vault.audit.begin() as connection:
                self._vault.audit.append(connection, Entry(act.actor, "retention:run", request=act.request))
        return done

    def overdue_days(self) -> dict[str, float]:
        """By kind with a policy, how many days its oldest row is past it; 0 where none is. Rows under a hold count too."""
        now, found = self._vault.audit.clock(), {}
        with self._vault.store.snapshot() as connection:
            for kind, data in kinds().items():
                if kind in self._policies:
                    oldest, limit = data.oldest(connection), stamp(now - timedelta(days=self._policies[kind]))
                    found[kind] = 0.0 if not oldest or oldest >= limit else _days(oldest, limit)
        return found

    def last_run(self) -> str:
        """When a run was last finished, as a stamp; "" for never."""
        last = ""
        for record in self._vault.audit.records(action="retention:run"):
            last = record.at
        return last

    def _kind(self, data: ClientData, act: Act, dry_run: bool) -> Deleted:
        days, rows, clients, held = self._policies[data.kind], 0, 0, 0
        before = stamp(self._vault.audit.clock() - timedelta(days=days))
        with self._vault.store.snapshot() as connection:
            wanted = list(data.clients(connection, before))
        for client in wanted:
            count = self._client(data, client, before, act, dry_run)
            rows, clients, held = rows + (count or 0), clients + bool(count), held + (count is None)
        return Deleted(data.kind, days, rows, clients, held)

    def _client(self, data: ClientData, client: str, before: str, act: Act, dry_run: bool) -> int | None:
        """How many rows went, with their record; None under a hold."""
        with self._vault.audit.begin() as connection:
            lock(connection)
            if is_held(connection, client):
                return None
            if dry_run:
                with _taken_back(connection):
                    return data.delete(connection, client, before)
            if count := data.delete(connection, client, before):
                entry = Entry(act.actor, "retention:delete", client, request=act.request, target=data.kind)
                self._vault.audit.append(connection, entry)
            return count


@contextmanager
def _taken_back(connection: sa.Connection) -> Iterator[None]:
    point = connection.begin_nested()
    try:
        yield
    finally:
        point.rollback()


@contextmanager
def scheduled(settings: Settings) -> Iterator[None]:
    """Runs the retention while the block does, each `security.retention_hours`, in a thread; not at all with 0.

    Several processes may do it: a run that finds nothing does nothing. What goes wrong is logged, and tried again.
    """
    if not settings.security.retention_hours:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_repeat, args=(settings, stop), name="retention", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _repeat(settings: Settings, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with Vault.open(settings) as vault:
                due_before = stamp(vault.audit.clock() - timedelta(hours=settings.security.retention_hours))
                retention = Retention(vault)
                if retention.last_run() < due_before:
                    for done in retention.run(SERVICE):
                        log.info("retention: %d rows of %s deleted", done.rows, done.kind)
        except UserError as error:
            log.warning("the retention did not run: %s", error)
        stop.wait(LOOK_SECONDS)


def _days(earlier: str, later: str) -> float:
    from datetime import datetime

    return round((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() / 86400, 2)
