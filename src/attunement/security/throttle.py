"""Waiting times after wrong passwords and codes: per account, per address, per both; nobody can lock others out for long.

An attempt is counted before it is judged, so that many at once count too, and taken back when it was right. While a
wait lasts nothing is counted, so it cannot be drawn out. An account that signed in from an address before is not slowed
there by failures elsewhere (OWASP's device cookie, with the address for the cookie); elsewhere it waits at most `Limit.most`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from attunement.storage.files import content_hash
from attunement.storage.sql import metadata

FORGOTTEN_SECONDS = 24 * 3600.0
KNOWN_SECONDS = 30 * 24 * 3600.0

_failures = sa.Table(
    "sign_in_failures",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
    sa.Column("last", sa.Double, nullable=False),
)
_known = sa.Table(
    "known_addresses",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("last", sa.Double, nullable=False),
)


@dataclass(frozen=True)
class Limit:
    """`free` failures cost nothing; the next one a second, each further one twice as long, `most` seconds at most."""

    free: int
    most: float

    def wait(self, failures: int) -> float:
        return 0.0 if failures < self.free else min(self.most, 2.0 ** min(failures - self.free, 30))


PAIR, ADDRESS, ACCOUNT, CODE = Limit(5, 900.0), Limit(30, 60.0), Limit(20, 900.0), Limit(5, 900.0)
"""One account from one address; all accounts from one address (a clinic behind one router); one account from everywhere but
known addresses: 900 s leave 96 guesses a day; a second factor, after the password was right."""


@dataclass(frozen=True)
class Attempt:
    """One that was counted: the waits that it set, by key."""

    keys: tuple[tuple[str, float], ...]
    known: str


def network(address: str) -> str:
    """What of an address a person has: all of IPv4, the first 64 bits of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(getattr(found, "ipv4_mapped", None) or found)


def attempt(connection: sa.Connection, account: str, address: str, now: float) -> Attempt | float:
    """Counts a sign-in that is about to be judged; or the seconds to wait before there may be one."""
    where = network(address)
    known = content_hash(["known", account, where])
    last = connection.execute(sa.select(_known.c.last).where(_known.c.key == known)).scalar()
    limits = [(content_hash(["pair", account, where]), PAIR), (content_hash(["address", where]), ADDRESS)]
    if last is None or now - last > KNOWN_SECONDS:
        limits.append((content_hash(["account", account]), ACCOUNT))
    return _count(connection, limits, known, now)


def attempt_code(connection: sa.Connection, account: str, now: float) -> Attempt | float:
    """The same for a second factor."""
    return _count(connection, [(content_hash(["code", account]), CODE)], "", now)


def succeeded(connection: sa.Connection, made: Attempt, now: float) -> None:
    """Takes an attempt back that was right: the account's failures from here are forgotten, those of the address stay."""
    for key, _ in made.keys[:1] + made.keys[2:]:
        connection.execute(_failures.delete().where(_failures.c.key == key))
    for key, until in made.keys[1:2]:
        row = _failures.c.key == key
        connection.execute(_failures.update().where(row).values(failures=_failures.c.failures - 1))
        connection.execute(_failures.update().where(row, _failures.c.until == until).values(until=0.0))
    if made.known:
        upsert(connection, _known, {"key": made.known}, {"last": now})


def forget(connection: sa.Connection, account: str) -> None:
    """Unlocks an account for those who are not at a known address."""
    keys = [content_hash([kind, account]) for kind in ("account", "code")]
    connection.execute(_failures.delete().where(_failures.c.key.in_(keys)))


def sweep(connection: sa.Connection, now: float) -> None:
    """Deletes what no longer counts."""
    connection.execute(_failures.delete().where(_failures.c.last < now - FORGOTTEN_SECONDS))
    connection.execute(_known.delete().where(_known.c.last < now - KNOWN_SECONDS))


def upsert(connection: sa.Connection, table: sa.Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """A row made or changed, in one statement that concurrent ones cannot break."""
    insert = _insert(connection)
    connection.execute(insert(table).values(**key, **values).on_conflict_do_update(index_elements=list(key), set_=values))


def _insert(connection: sa.Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _count(connection: sa.Connection, limits: Iterable[tuple[str, Limit]], known: str, now: float) -> Attempt | float:
    limits, insert, rows = list(limits), _insert(connection), {}
    for key, _ in sorted(limits):  # made or held: two at once must not both read the count before either writes it
        new = insert(_failures).values(key=key, failures=0, until=0.0, last=now)
        held = new.on_conflict_do_update(index_elements=["key"], set_={"key": key}).returning(*_failures.c)
        rows[key] = connection.execute(held).one()
    wait = max(row.until for row in rows.values()) - now
    if wait > 0:
        return float(wait)
    kept = []
    for key, limit in limits:
        count = (rows[key].failures if now - rows[key].last <= FORGOTTEN_SECONDS else 0) + 1
        until = now + limit.wait(count) if limit.wait(count) else 0.0
        connection.execute(_failures.update().where(_failures.c.key == key).values(failures=count, until=until, last=now))
        kept.append((key, until))
    return Attempt(tuple(kept), known)
