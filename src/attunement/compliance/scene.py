"""What an assessment looks at, opened once: settings, home, store, keys, the audit log, and folders with data sets and models.

Looking changes nothing: without a master key no store is made, and a store is opened only where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from attunement.config import Settings
from attunement.errors import UserError
from attunement.security.accounts import ACTIVE, Account
from attunement.security.entry import Access
from attunement.security.vault import Vault


class Outcome(StrEnum):
    """`attention` is what a person should look at; `not_run` says why it could not be looked at."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    ATTENTION = "attention"
    NOT_APPLICABLE = "not_applicable"
    NOT_RUN = "not_run"


@dataclass(frozen=True)
class Finding:
    """What a check found. `evidence` is figures and names of settings, never content; `remedy` is what to do."""

    outcome: Outcome
    evidence: str
    remedy: str = ""
    rows: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Scene:
    """What the checks are given. `vault` is None where there is no master key; `closed` says why."""

    settings: Settings
    now: datetime
    vault: Vault | None
    closed: str = ""
    folders: Sequence[Path] = ()
    online: bool = False
    before: dict[str, Any] | None = None
    """The last report of before, when there is one."""

    @property
    def home(self) -> Path:
        return self.settings.home.expanduser()

    @property
    def access(self) -> Access | None:
        return Access(self.vault.audit, self.vault.cipher, self.settings, lambda: self.now) if self.vault else None

    def active_accounts(self) -> list[Account]:
        return [a for a in self.access.accounts.all() if a.status == ACTIVE] if self.access else []

    def days_since(self, when: str | float) -> float:
        """Days since a stamp or a number of seconds since 1970."""
        then = datetime.fromisoformat(when) if isinstance(when, str) else datetime.fromtimestamp(when, UTC)
        return (self.now - then).total_seconds() / 86400


@contextmanager
def opened(
    settings: Settings, now: datetime, folders: Sequence[Path] = (), *, online: bool = False, before: dict[str, Any] | None = None
) -> Iterator[Scene]:
    """The scene of an assessment at `now`."""
    closed = ""
    vault = None
    try:
        vault = Vault.open(settings, clock=lambda: now)
    except UserError as error:
        closed = str(error)
    try:
        yield Scene(settings, now, vault, closed, folders, online, before)
    finally:
        if vault is not None:
            vault.close()


def passed(evidence: str, **more: Any) -> Finding:
    return Finding(Outcome.PASS, evidence, **more)


def failed(evidence: str, remedy: str, **more: Any) -> Finding:
    return Finding(Outcome.FAIL, evidence, remedy, **more)


def look(evidence: str, remedy: str, **more: Any) -> Finding:
    return Finding(Outcome.ATTENTION, evidence, remedy, **more)


def not_applicable(evidence: str) -> Finding:
    return Finding(Outcome.NOT_APPLICABLE, evidence)


def not_run(evidence: str, remedy: str = "") -> Finding:
    return Finding(Outcome.NOT_RUN, evidence, remedy)


def graded(days: float | None, never: str, evidence: str, remedy: str, *, good: float, most: float) -> Finding:
    """Something that is to be done every `good` days: attention when it is late, fail after `most`, or when it never was."""
    if days is None:
        return failed(never, remedy)
    told = f"{evidence} {days:.1f} days ago"
    return passed(told) if days <= good else look(told, remedy) if days <= most else failed(told, remedy)
