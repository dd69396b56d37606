"""The second factor: time-based codes (RFC 6238) from an app on the person's telephone, and recovery codes for its loss.

The secret is encrypted in the store; a code is good once; ten recovery codes of 120 random bits are kept as hashes, each
good once. Wrong codes are slowed down like wrong passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from attunement.errors import AccessError, DataError
from attunement.security import throttle
from attunement.security.accounts import Account
from attunement.security.acting import REFUSED, Act
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, utc_now
from attunement.security.sessions import end_all
from attunement.storage.sql import metadata

STEP_SECONDS = 30
DRIFT_STEPS = 1
"""A code of the step before or after is taken, too: telephones' clocks are off by seconds (RFC 6238, 5.2: at most one)."""
RECOVERY_CODES = 10
ISSUER = "Attunement"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

_factors = sa.Table(
    "second_factors",
    metadata,
    sa.Column("account", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("confirmed", sa.Boolean, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
)
_recovery = sa.Table(
    "recovery_codes",
    metadata,
    sa.Column("account", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("hash", sa.String(64), primary_key=True),
)


class Cipher(Protocol):
    """`attunement.security.fields.FieldCipher`."""

    def encrypt(self, value: Any, *, table: str, column: str, row: str, subject: str) -> bytes | None: ...

    def decrypt(self, value: bytes | None, *, table: str, column: str, row: str, subject: str) -> Any: ...


@dataclass(frozen=True)
class Enrolment:
    """What the person's app takes, once: the secret in base 32, or the address that a QR code holds."""

    secret: str
    address: str


class SecondFactors:
    """The second factors in a store."""

    def __init__(self, audit: AuditLog, cipher: Cipher, clock: Clock = utc_now) -> None:
        self._audit, self._store, self._cipher, self._clock = audit, audit.store, cipher, clock

    def has(self, account: str, connection: sa.Connection | None = None) -> bool:
        """Whether an account has a factor that was confirmed by a code."""
        query = sa.select(_factors.c.confirmed).where(_factors.c.account == account)
        if connection is not None:
            return bool(connection.execute(query).scalar())
        with self._store.snapshot() as own:
            return bool(own.execute(query).scalar())

    def enrol(self, account: Account, act: Act) -> Enrolment:
        """A new secret, which counts from the first code on. Raises `AccessError` where there is a confirmed one: what has

        been shown only a password must not replace it.
        """
        import pyotp

        secret = pyotp.random_base32(32)
        sealed = self._cipher.encrypt(secret, **_place(account.id))
        with self._audit.begin() as connection:
            mine = _factors.c.account == account.id
            if connection.execute(sa.select(_factors.c.confirmed).where(mine)).scalar():
                raise AccessError("enrolled", "there is a second factor already: an administrator can take it away")
            values = {"secret": sealed, "confirmed": False, "last_step": 0}
            throttle.upsert(connection, _factors, {"account": account.id}, values)
            self._record(connection, act, "enrol", account.id)
        return Enrolment(secret, pyotp.TOTP(secret).provisioning_uri(name=account.name, issuer_name=ISSUER))

    def confirm(self, account: str, code: str, act: Act) -> list[str]:
        """Takes a code of the app, or a recovery code. The first one of a new secret gives the recovery codes, else none.

        Raises `AccessError`: `credentials` for a wrong or used one, `wait` after failures.
        """
        return self._shown(account, code, act, "confirm")

    def renew_recovery(self, account: str, code: str, act: Act) -> list[str]:
        """New recovery codes in place of the old, for a code of the app: a found recovery code must not bring ten more.

        Raises `AccessError` as `confirm` does.
        """
        return self._shown(account, code, act, "renew_recovery")

    def _shown(self, account: str, code: str, act: Act, what: str) -> list[str]:
        """Judges a code, once; recovery codes where they are new."""
        renewed = what == "renew_recovery"
        now = self._clock().timestamp()
        with self._audit.begin() as connection:
            made = throttle.attempt_code(connection, account, now)
        if not isinstance(made, throttle.Attempt):
            raise AccessError("wait", "too many failures: wait before the next try", made)
        with self._store.snapshot() as connection:
            row = connection.execute(sa.select(_factors).where(_factors.c.account == account)).first()
        step = self._step(row, code, now) if row else 0
        with self._audit.begin() as connection:
            may = not renewed or bool(step and row and row.confirmed)
            right = may and self._use(connection, account, step, code)
            codes = self._first(connection, account) if right and row and (renewed or not row.confirmed) else []
            if right:
                throttle.succeeded(connection, made, now)
                self._record(connection, act, what, account)
            else:
                record = {"actor": account, "action": f"second_factor:{what}", "outcome": REFUSED, "request": act.request}
                self._audit.append(connection, Entry(**record))
        if not right:
            raise AccessError("credentials", "the code is wrong or was used before")
        return codes

    def remove(self, account: str, act: Act) -> None:
        """Takes a factor away, as for a lost telephone; the account's sessions end. Raises `DataError` for none."""
        with self._audit.begin() as connection:
            connection.execute(_recovery.delete().where(_recovery.c.account == account))
            if not connection.execute(_factors.delete().where(_factors.c.account == account)).rowcount:
                raise DataError("this account has no second factor")
            end_all(connection, account)
            self._record(connection, act, "remove", account)

    # --- inside ---------------------------------------------------------------------------------------------

    def _step(self, row: sa.Row[Any], code: str, now: float) -> int:
        """The time step that a code belongs to; 0 for none. All are compared, whichever fits."""
        import pyotp

        wanted = re.sub(r"\s", "", code)
        totp = pyotp.TOTP(self._cipher.decrypt(row.secret, **_place(row.account)))
        current, found = int(now) // STEP_SECONDS, 0
        for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
            if hmac.compare_digest(totp.generate_otp(step).encode(), wanted.encode("utf-8", "replace")):
                found = step
        return found

    def _use(self, connection: sa.Connection, account: str, step: int, code: str) -> bool:
        """Whether a code is good, which it is not again: of two at once one finds its row gone or the step taken."""
        mine = (_factors.c.account == account) & (_factors.c.last_step < step)
        if step:
            used = connection.execute(_factors.update().where(mine).values(last_step=step))
        else:
            confirmed = sa.select(_factors.c.account).where(_factors.c.account == account, _factors.c.confirmed)
            row = (_recovery.c.account == account) & (_recovery.c.hash == _hash(code)) & _recovery.c.account.in_(confirmed)
            used = connection.execute(_recovery.delete().where(row))
        return bool(used.rowcount)

    def _first(self, connection: sa.Connection, account: str) -> list[str]:
        connection.execute(_factors.update().where(_factors.c.account == account).values(confirmed=True))
        return _new_codes(connection, account)

    def _record(self, connection: sa.Connection, act: Act, what: str, account: str) -> None:
        self._audit.append(connection, Entry(act.actor, f"second_factor:{what}", request=act.request, target=account))


def _new_codes(connection: sa.Connection, account: str) -> list[str]:
    codes = ["-".join("".join(secrets.choice(_BASE32) for _ in range(4)) for _ in range(6)) for _ in range(RECOVERY_CODES)]
    connection.execute(_recovery.delete().where(_recovery.c.account == account))
    connection.execute(_recovery.insert(), [{"account": account, "hash": _hash(code)} for code in codes])
    return codes


def _hash(code: str) -> str:
    return hashlib.sha256(re.sub(r"[\s-]", "", code).upper().encode("utf-8", "replace")).hexdigest()


def _place(account: str) -> dict[str, str]:
    return {"table": _factors.name, "column": "secret", "row": account, "subject": "system"}
