"""Business Associate Agreements: which outside providers may be given protected health information, and until when (45 CFR 164.504(e)).

An agreement is for the host that a provider is reached at. It is in force from the day it was signed to the day it expires, or is
ended. The software keeps dates and a contact; the agreement itself, and what it promises, are the organisation's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.accounts import new_id
from attunement.security.acting import Act, one_line
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, utc_now
from attunement.security.codes import valid_id
from attunement.storage.sql import metadata

_agreements = sa.Table(
    "business_associates",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("provider", sa.String(64), nullable=False, index=True),
    sa.Column("signed", sa.String(10), nullable=False),
    sa.Column("expires", sa.String(10), nullable=False),
    sa.Column("ended", sa.String(10), nullable=False),
    sa.Column("contact", sa.String(200), nullable=False),
)


@dataclass(frozen=True)
class Agreement:
    """One agreement. Days are ISO dates; `expires` and `ended` are "" for never. `contact` is whom to call at the provider."""

    id: str
    provider: str
    signed: str
    expires: str
    ended: str
    contact: str

    def in_force(self, day: date) -> bool:
        """Whether it holds on a day (UTC); the last day counts."""
        text = day.isoformat()
        return self.signed <= text and not (self.expires and self.expires < text) and not (self.ended and self.ended <= text)


class Agreements:
    """The agreements in a store."""

    def __init__(self, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._audit, self._clock = audit, clock

    def add(self, provider: str, signed: date, expires: date | None, contact: str, act: Act) -> Agreement:
        """A new agreement with the provider at a host. Raises `DataError`."""
        if expires is not None and expires < signed:
            raise DataError("the agreement expires before it was signed")
        if signed > self._clock().date():
            raise DataError("the agreement is signed on a day to come: add it when it holds")
        host, until = valid_host(provider), expires.isoformat() if expires else ""
        made = Agreement(new_id("b"), host, signed.isoformat(), until, "", one_line(contact, 200))
        with self._audit.begin() as connection:
            connection.execute(_agreements.insert().values(**vars(made)))
            self._audit.append(connection, Entry(act.actor, "agreements:add", request=act.request, target=made.id))
        return made

    def end(self, identifier: str, act: Act) -> None:
        """Ends an agreement today. Raises `DataError` for none that runs."""
        mine = (_agreements.c.id == valid_id("an agreement", identifier)) & (_agreements.c.ended == "")
        with self._audit.begin() as connection:
            if not connection.execute(_agreements.update().where(mine).values(ended=self._clock().date().isoformat())).rowcount:
                raise DataError("there is no such agreement that has not ended: attune agreements list")
            self._audit.append(connection, Entry(act.actor, "agreements:end", request=act.request, target=identifier))

    def all(self) -> list[Agreement]:
        """Every agreement, by provider, newest first; ended ones stay on record."""
        query = sa.select(_agreements).order_by(_agreements.c.provider, _agreements.c.signed.desc(), _agreements.c.id)
        with self._audit.store.snapshot() as connection:
            return [Agreement(*row) for row in connection.execute(query)]

    def in_force(self, host: str) -> bool:
        """Whether one with the provider at `host` is in force today."""
        return any(a.in_force(self._clock().date()) for a in self.all() if a.provider == host.casefold())


def valid_host(host: str) -> str:
    """`host` in lower case when it can be one. Raises `DataError`."""
    found = host.strip().casefold()
    parts: Iterable[str] = found.split(".")
    if not found.isascii() or len(found) > 64 or not all(p and p.replace("-", "").isalnum() for p in parts):
        raise DataError("name the provider by its host, as api.openai.com")
    return found


def is_outside(host: str) -> bool:
    """Whether what is sent to `host` leaves this machine."""
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.casefold().rstrip(".") != "localhost"
