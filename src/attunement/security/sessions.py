"""Sessions on the server's side: a random id in a cookie, its hash in the store; and the token against forged requests.

256 random bits; ends after some time without a request and after some time in any case; a new id at sign-in and whenever
what it may do changes, so that an id known before is worth nothing after (session fixation).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from attunement.config import AccessSettings
from attunement.security.acting import Act, one_line
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, utc_now
from attunement.storage.sql import metadata

TOUCH_SECONDS = 30.0
"""The time of the last request is written at most so often: it costs a transaction."""
ID_LENGTH = 16

_sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("account", sa.String(40), nullable=False, index=True),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("last_used", sa.Double, nullable=False),
    sa.Column("confirmed", sa.Boolean, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("agent", sa.String(120), nullable=False),
)


@dataclass(frozen=True)
class Session:
    """One browser's. `id` names it in lists and gives nothing away; `confirmed` once the second factor was shown."""

    id: str
    account: str
    created: float
    last_used: float
    confirmed: bool
    address: str
    agent: str


class Sessions:
    """The sessions in a store."""

    def __init__(self, audit: AuditLog, settings: AccessSettings, clock: Clock = utc_now) -> None:
        self._audit, self._store, self._clock = audit, audit.store, clock
        self._idle, self._longest = settings.session_idle_minutes * 60, settings.session_hours * 3600

    def start(self, account: str, act: Act, *, confirmed: bool = False, agent: str = "", before: str = "") -> str:
        """A new session; gives what the cookie holds. The one that the browser had `before` ends, whoever's it was."""
        token, now = secrets.token_urlsafe(32), self._clock().timestamp()
        with self._audit.begin() as connection:
            connection.execute(_sessions.delete().where(_sessions.c.created < now - self._longest))
            if before:
                connection.execute(_sessions.delete().where(_sessions.c.hash == _hash(before)))
            connection.execute(
                _sessions.insert().values(
                    hash=_hash(token), account=account, created=now, last_used=now, confirmed=confirmed,
                    address=act.address[:64], agent=one_line(agent, 120),
                )
            )  # fmt: skip
            self._audit.append(connection, Entry(actor=account, action="session:start", request=act.request))
        return token

    def find(self, token: str, connection: sa.Connection) -> Session | None:
        """The session of a cookie, unless it has ended. `used` must follow."""
        row = connection.execute(sa.select(_sessions).where(_sessions.c.hash == _hash(token))).first()
        return _session(row) if row is not None and self._is_live(row, self._clock().timestamp()) else None

    def used(self, token: str, session: Session) -> None:
        """Notes that a session was used now, from time to time."""
        now = self._clock().timestamp()
        if now - session.last_used > TOUCH_SECONDS:
            with self._store.begin() as connection:
                connection.execute(_sessions.update().where(_sessions.c.hash == _hash(token)).values(last_used=now))

    def of(self, account: str) -> list[Session]:
        """An account's live sessions, newest first."""
        now = self._clock().timestamp()
        query = sa.select(_sessions).where(_sessions.c.account == account).order_by(_sessions.c.created.desc())
        with self._store.snapshot() as connection:
            rows = connection.execute(query).all()
        return [_session(row) for row in rows if self._is_live(row, now)]

    def end(self, account: str, identifier: str, act: Act) -> bool:
        """Ends one session of an account, by its id; whether it had such a one."""
        if not re.fullmatch(r"[0-9a-f]+", identifier):
            return False
        mine = (_sessions.c.account == account) & (sa.func.substr(_sessions.c.hash, 1, ID_LENGTH) == identifier)
        with self._audit.begin() as connection:
            ended = connection.execute(_sessions.delete().where(mine)).rowcount > 0
            if ended:
                self._audit.append(connection, Entry(actor=act.actor, action="session:end", request=act.request))
        return ended

    def _is_live(self, row: sa.Row[Any], now: float) -> bool:
        return bool(now - row.last_used <= self._idle and now - row.created <= self._longest)


def end_all(connection: sa.Connection, account: str, but: str = "") -> None:
    """Ends an account's sessions, in the transaction that changes what it may do; `but` is a cookie's that stays."""
    mine = _sessions.c.account == account
    connection.execute(_sessions.delete().where(mine & (_sessions.c.hash != _hash(but)) if but else mine))


def forgery_token(token: str) -> str:
    """What an unsafe request must carry in a header beside the cookie: of the session alone, and it does not give the id away."""
    return hmac.new(token.encode(), b"attunement forgery token", hashlib.sha256).hexdigest()


def is_forged(token: str, shown: str) -> bool:
    """Whether the header's token is not that of the session in the cookie."""
    return not hmac.compare_digest(forgery_token(token).encode(), shown.encode("utf-8", "replace"))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _session(row: sa.Row[Any]) -> Session:
    return Session(row.hash[:ID_LENGTH], row.account, row.created, row.last_used, row.confirmed, row.address, row.agent)
