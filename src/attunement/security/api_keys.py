"""Service accounts and their API keys: `attn_PREFIX_SECRET`, shown once, kept as a hash, narrow, short-lived, rotated.

The prefix finds the row, and names the key in lists and in the log. The secret has 256 random bits, so that a plain SHA-256
keeps it: there is nothing to guess. Two keys of a service overlap while one takes the other's place.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from attunement.config import AccessSettings
from attunement.errors import DataError, StoreDownError
from attunement.security.accounts import NAME, new_id
from attunement.security.acting import REFUSED, Act
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, utc_now
from attunement.security.permissions import GRANTS, Role
from attunement.storage.sql import metadata

START = "attn_"
FORM = re.compile(r"attn_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")
TOUCH_SECONDS = 60.0
LONGEST_DAYS = 366.0
MOST_KNOWN = 1000

_services = sa.Table(
    "service_accounts",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)
_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("prefix", sa.String(12), primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("service", sa.ForeignKey("service_accounts.id"), nullable=False, index=True),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
    sa.Column("revoked", sa.Double),
    sa.Column("last_used", sa.Double),
)


@dataclass(frozen=True)
class Key:
    """What is known of a key after it was shown. `status` is live, expired or revoked; times are seconds since 1970."""

    prefix: str
    service: str
    name: str
    scopes: frozenset[str]
    created: float
    expires: float
    last_used: float | None
    status: str


class ApiKeys:
    """The service accounts and keys in a store."""

    def __init__(self, audit: AuditLog, settings: AccessSettings, clock: Clock = utc_now) -> None:
        self._audit, self._store, self._settings, self._clock = audit, audit.store, settings, clock
        self._touched: dict[str, float] = {}
        self._lately: OrderedDict[str, tuple[float, Key]] = OrderedDict()
        """Keys that were let in, by their hash, with until when they are without the store."""

    def create(self, name: str, scopes: Iterable[str], act: Act, days: float | None = None) -> str:
        """A service account with its first key, which is shown this once. Raises `DataError`."""
        wanted = sorted(set(scopes))
        if not NAME.fullmatch(name):
            raise DataError("a name has 3 to 64 letters, digits and any of . @ + - _ inside")
        if not wanted or set(wanted) - set(GRANTS[Role.SERVICE]):
            raise DataError(f"give one or more of the scopes {', '.join(GRANTS[Role.SERVICE])}")
        service, now = new_id("s"), self._now()
        try:
            with self._audit.begin() as connection:
                connection.execute(_services.insert().values(id=service, name=name, scopes=wanted, created=now))
                key = self._make(connection, service, now, days)
                self._record(connection, act, "create", service)
        except IntegrityError as error:
            raise DataError(f"there is a service '{name}' already: rotate its key, or take another name") from error
        return key

    def rotate(self, name: str, act: Act, days: float | None = None, overlap_hours: float = 24) -> str:
        """A new key for a service; those that it has hold `overlap_hours` longer at most. Raises `DataError`."""
        now = self._now()
        with self._audit.begin() as connection:
            service = self._service(connection, name)
            ends = now + overlap_hours * 3600
            old = (_keys.c.service == service) & (_keys.c.expires > ends)
            connection.execute(_keys.update().where(old).values(expires=ends))
            key = self._make(connection, service, now, days)
            self._record(connection, act, "rotate", service)
        return key

    def revoke(self, name_or_prefix: str, act: Act) -> int:
        """Ends the key with a prefix, or all keys of a service, at once; how many. Raises `DataError` for none."""
        wanted = name_or_prefix.removeprefix(START).partition("_")[0]
        named = sa.select(_services.c.id).where(_services.c.name == name_or_prefix)
        with self._audit.begin() as connection:
            which = _keys.c.revoked.is_(None) & ((_keys.c.prefix == wanted) | _keys.c.service.in_(named))
            services = set(connection.execute(sa.select(_keys.c.service).where(which)).scalars())
            ended = connection.execute(_keys.update().where(which).values(revoked=self._now())).rowcount
            for service in services:
                self._record(connection, act, "revoke", service)
        for known in [known for known, (_, key) in self._lately.items() if key.prefix == wanted or key.service in services]:
            self._lately.pop(known, None)
        if not ended:
            raise DataError(f"there is no key or service '{name_or_prefix}' to revoke: list them with  attune accounts key list")
        return int(ended)

    def all(self) -> list[Key]:
        """Every key, by service, newest first."""
        query = sa.select(_keys, _services.c.name, _services.c.scopes).join(_services)
        with self._store.snapshot() as connection:
            rows = connection.execute(query.order_by(_services.c.name, _keys.c.created.desc())).all()
        return [self._key(row) for row in rows]

    def find(self, shown: str, act: Act) -> Key | None:
        """The live key that was shown, None for any other. The time it takes tells nothing of the secret.

        What was a key once, or begins like one, is on record: somebody has an old key, or half of one. While the store does not answer, a key
        that this process let in lately (`access.key_grace_seconds`) is let in: nobody in distress is to be turned away for that.
        """
        parts = FORM.fullmatch(shown)
        if parts is None:
            return None
        query = sa.select(_keys, _services.c.name, _services.c.scopes).join(_services).where(_keys.c.prefix == parts[1])
        try:
            with self._store.snapshot() as connection:
                row = connection.execute(query).first()
        except StoreDownError:
            until, known = self._lately.get(_hash(shown), (0.0, None))
            if known is None or time.monotonic() > until or known.expires <= self._now():
                raise
            return known
        right = hmac.compare_digest(row.hash if row else "0" * 64, _hash(shown))
        if row is None:
            return None
        key, now = self._key(row), self._now()
        if not right or key.status != "live":
            self._lately.pop(_hash(shown), None)  # revoked elsewhere
            with self._audit.begin() as connection:
                self._audit.append(connection, Entry(key.service, "service_keys:use", outcome=REFUSED, request=act.request))
            return None
        if now - max(key.last_used or 0, self._touched.get(key.prefix, 0)) > TOUCH_SECONDS:
            self._touched[key.prefix] = now  # one of the requests that come at once notes it, the others need not wait to write
            with suppress(StoreDownError), self._store.begin() as connection:
                connection.execute(_keys.update().where(_keys.c.prefix == key.prefix).values(last_used=now))
        self._remember(_hash(shown), key)
        return key

    def _remember(self, shown: str, key: Key) -> None:
        if self._settings.key_grace_seconds:
            self._lately[shown] = time.monotonic() + self._settings.key_grace_seconds, key
            self._lately.move_to_end(shown)
            while len(self._lately) > MOST_KNOWN:
                self._lately.popitem(last=False)

    def _now(self) -> float:
        return self._clock().timestamp()

    def _make(self, connection: sa.Connection, service: str, now: float, days: float | None) -> str:
        days = self._settings.key_days if days is None else days
        if not 0 < days <= LONGEST_DAYS:
            raise DataError(f"a key holds for up to {LONGEST_DAYS:.0f} days")
        prefix = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(12))
        shown = f"{START}{prefix}_{secrets.token_urlsafe(32)}"
        values = {"prefix": prefix, "hash": _hash(shown), "service": service, "created": now}
        connection.execute(_keys.insert().values(**values, expires=now + timedelta(days=days).total_seconds()))
        return shown

    def _service(self, connection: sa.Connection, name: str) -> str:
        found = connection.execute(sa.select(_services.c.id).where(_services.c.name == name)).scalar()
        if found is None:
            raise DataError(f"there is no service '{name}': list them with  attune accounts key list")
        return str(found)

    def _record(self, connection: sa.Connection, act: Act, what: str, service: str) -> None:
        self._audit.append(connection, Entry(act.actor, f"service_keys:{what}", request=act.request, target=service))

    def _key(self, row: sa.Row[Any]) -> Key:
        status = "revoked" if row.revoked is not None else "expired" if row.expires <= self._now() else "live"
        scopes = frozenset(row.scopes)
        return Key(row.prefix, row.service, row.name, scopes, row.created, row.expires, row.last_used, status)


def _hash(shown: str) -> str:
    return hashlib.sha256(shown.encode("utf-8", "replace")).hexdigest()
