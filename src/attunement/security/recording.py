"""Training, deployment, builds and decisions on record, where there is a vault to record them in.

Where nobody ever made a master key (`attune keys init`) there are no accounts and no clients, and nothing is recorded: a
first training, or `make demo`, makes no store. With one, what cannot be recorded is not done.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import sqlalchemy as sa

from attunement.config import Settings
from attunement.security.agreements import Agreements
from attunement.security.audit import AuditLog, Entry
from attunement.security.entry import local_operator, operator_act
from attunement.security.incidents import raise_incident
from attunement.security.vault import Vault, master_path, open_store
from attunement.storage.sql import Store

log = logging.getLogger("attunement.incidents")


def has_vault(settings: Settings) -> bool:
    """Whether a master key was made, in the file or the variable that the settings name."""
    if variable := settings.security.master_key_variable:
        return bool(os.environ.get(variable))
    return master_path(settings).exists()


def note(settings: Settings, permission: str, action: str, target: str = "", outcome: str = "done") -> None:
    """Asks the table whether the local operator may, and records `action`, where there is a vault. Raises `AccessError`."""
    if not has_vault(settings):
        operator_act(None, permission)
        return
    with Vault.open(settings) as vault:
        act = operator_act(vault.audit, permission)
        with vault.audit.begin() as connection:
            vault.audit.append(connection, Entry(act.actor, action, outcome=outcome, target=as_target(target)))


@contextmanager
def noted(settings: Settings, permission: str, begins: str, ends: str, target: str = "") -> Iterator[None]:
    """Records `begins` before the block and `ends` after it: done, or failed where it raised or was interrupted."""
    note(settings, permission, begins, target)
    try:
        yield
    except BaseException:
        note(settings, permission, ends, target, "failed")
        raise
    note(settings, permission, ends, target)


def recorder(settings: Settings, store: Store, permission: str, action: str) -> Callable[[sa.Connection, str], None] | None:
    """What a stage calls within its own transaction on `store` with what it does something to; None without a vault.

    Where the audit log lies in another database it is written there just before the stage's own commit.
    """
    if not has_vault(settings):
        operator_act(None, permission)
        return None
    other = bool(settings.security.store)

    def record(connection: sa.Connection, target: str) -> None:
        if other:
            note(settings, permission, action, target)
            return
        log = AuditLog(store)
        log.append(connection, Entry(operator_act(None, permission).actor, action, target=as_target(target)))

    return record


def agreements_of(settings: Settings) -> Callable[[str], bool]:
    """Whether a Business Associate Agreement with the provider at a host is in force, as the store has it when asked."""

    def in_force(host: str) -> bool:
        if not has_vault(settings):
            return False
        with closing(open_store(settings)) as store:
            return Agreements(AuditLog(store)).in_force(host)

    return in_force


def incidents_of(settings: Settings) -> Callable[[str], str]:
    """What the software tells of personal data that it stopped, by types and counts; gives the incident's id.

    It is recorded as an incident of the kind `blocked`, with its audit record, before anything else happens. Without a vault there
    is a line in the log in its place, and the id is "".
    """

    def blocked(told: str) -> str:
        if not has_vault(settings):
            log.error("stopped: %s; to have this recorded as an incident, make a vault: attune keys init", told)
            return ""
        with Vault.open(settings) as vault:
            return raise_incident(vault, "blocked", told, actor=local_operator().id, block=False).id

    return blocked


def as_target(name: str) -> str:
    """`name` as an audit record's target: other characters than an id's become `_`; "" for nothing."""
    return re.sub(r"[^A-Za-z0-9._:-]", "_", name).lstrip("._:-")[:64]
