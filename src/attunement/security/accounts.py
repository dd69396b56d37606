"""Accounts of persons: their roles, which clinician has which client, and the password half of signing in.

Changes of what an account may do end its sessions. A first password is shown once, holds for some days and must be
replaced; nothing here ever gives a password or its hash out.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from attunement.config import AccessSettings
from attunement.errors import AccessError, DataError
from attunement.security import throttle
from attunement.security.acting import REFUSED, Act
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, utc_now
from attunement.security.passwords import Passwords, one_time_password
from attunement.security.permissions import ALONE, PERSONS, Role
from attunement.security.sessions import end_all
from attunement.storage.sql import metadata

ACTIVE, DISABLED = "active", "disabled"
NAME = re.compile(r"[\w][\w.@+-]{1,62}[\w]")
WRONG = "the name or the password is wrong"

_accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("password", sa.String(200), nullable=False),
    sa.Column("one_time_until", sa.Double),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("last_sign_in", sa.Double),
)
_roles = sa.Table(
    "account_roles",
    metadata,
    sa.Column("account", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("role", sa.String(32), primary_key=True),
)
_assignments = sa.Table(
    "client_assignments",
    metadata,
    sa.Column("account", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("client", sa.String(64), primary_key=True),
    sa.Column("since", sa.Double, nullable=False),
)
_identities = sa.Table(
    "account_identities",
    metadata,
    sa.Column("issuer", sa.String(255), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("account", sa.ForeignKey("accounts.id"), nullable=False),
)


@dataclass(frozen=True)
class Account:
    """Of a person. `client` is whose record a client's account is; `must_change` while the password is a one-time one."""

    id: str
    name: str
    status: str
    roles: frozenset[Role]
    client: str
    must_change: bool
    created: float
    last_sign_in: float | None


class Accounts:
    """The accounts in a store."""

    def __init__(self, audit: AuditLog, settings: AccessSettings, clock: Clock = utc_now) -> None:
        self._audit, self._store, self._settings, self._clock = audit, audit.store, settings, clock
        self.passwords = Passwords(settings)

    # --- kept by an administrator ---------------------------------------------------------------------

    def create(self, name: str, roles: Iterable[Role], act: Act, client: str = "") -> tuple[Account, str]:
        """A new account and its one-time password, which is shown this once. Raises `DataError`."""
        name, held = _name(name), _checked(roles, client)
        account, password = new_id("a"), one_time_password()
        hashed, now = self.passwords.hash(password), self._now()
        try:
            with self._audit.begin() as connection:
                connection.execute(
                    _accounts.insert().values(
                        id=account, name=name, status=ACTIVE, client=client, password=hashed, created=now,
                        one_time_until=now + self._settings.one_time_password_hours * 3600,
                    )
                )  # fmt: skip
                connection.execute(_roles.insert(), [{"account": account, "role": role} for role in held])
                self._record(connection, act, "accounts:create", account)
                self._record_roles(connection, act, account, frozenset(), held)
        except IntegrityError as error:
            raise DataError(f"there is an account '{name}' already") from error
        return self.get(account), password

    def set_roles(self, name: str, roles: Iterable[Role], act: Act, client: str = "") -> None:
        """Other roles for an account; its sessions end. Raises `DataError`, also for the last administrator's."""
        held = _checked(roles, client)
        with self._audit.begin() as connection:
            account = self._one(connection, name)
            before = self._roles(connection, [account])[account]
            self._keep_an_administrator(connection, account, Role.ADMINISTRATOR in held)
            connection.execute(_roles.delete().where(_roles.c.account == account))
            connection.execute(_roles.insert(), [{"account": account, "role": role} for role in held])
            connection.execute(_accounts.update().where(_accounts.c.id == account).values(client=client))
            end_all(connection, account)
            self._record_roles(connection, act, account, before, held)

    def set_status(self, name: str, status: str, act: Act) -> None:
        """Disables an account, whose sessions end, or makes it active again. Raises `DataError`."""
        with self._audit.begin() as connection:
            account = self._one(connection, name)
            self._keep_an_administrator(connection, account, status == ACTIVE)
            connection.execute(_accounts.update().where(_accounts.c.id == account).values(status=status))
            end_all(connection, account)
            self._record(connection, act, "accounts:enable" if status == ACTIVE else "accounts:disable", account)

    def reset(self, name: str, act: Act) -> str:
        """A new one-time password in place of the old; sessions end, waits after failures too. Raises `DataError`."""
        password = one_time_password()
        hashed, until = self.passwords.hash(password), self._now() + self._settings.one_time_password_hours * 3600
        with self._audit.begin() as connection:
            account = self._one(connection, name)
            mine = _accounts.c.id == account
            connection.execute(_accounts.update().where(mine).values(password=hashed, one_time_until=until))
            throttle.forget(connection, account)
            end_all(connection, account)
            self._record(connection, act, "accounts:reset", account)
        return password

    def unlock(self, name: str, act: Act) -> None:
        """Forgets an account's failures. Raises `DataError`."""
        with self._audit.begin() as connection:
            account = self._one(connection, name)
            throttle.forget(connection, account)
            self._record(connection, act, "accounts:unlock", account)

    def assign(self, name: str, client: str, act: Act, *, take_away: bool = False) -> None:
        """Gives a clinician a client, or takes the client away; holds from their next request on. Raises `DataError`."""
        with self._audit.begin() as connection:
            account = self._one(connection, name)
            if Role.CLINICIAN not in self._roles(connection, [account])[account]:
                raise DataError(f"'{name}' is no clinician: give the role first")
            row = (_assignments.c.account == account) & (_assignments.c.client == client)
            connection.execute(_assignments.delete().where(row))
            if not take_away:
                connection.execute(_assignments.insert().values(account=account, client=client, since=self._now()))
            action = "client:unassign" if take_away else "client:assign"
            self._record(connection, act, action, account, client=client)

    def link(self, name: str, issuer: str, subject: str, act: Act) -> None:
        """Lets who is `subject` at an OpenID Connect provider sign in to an account. Raises `DataError`."""
        with self._audit.begin() as connection:
            account = self._one(connection, name)
            throttle.upsert(connection, _identities, {"issuer": issuer, "subject": subject}, {"account": account})
            self._record(connection, act, "accounts:link", account)

    # --- read ---------------------------------------------------------------------------------------------

    def get(self, account: str) -> Account:
        """The account with an id. Raises `DataError`."""
        with self._store.snapshot() as connection:
            return self.read(account, connection)

    def read(self, account: str, connection: sa.Connection) -> Account:
        """The same, as `connection` sees it."""
        found = self._read(connection, _accounts.c.id == account)
        if not found:
            raise DataError("there is no such account")
        return found[0]

    def named(self, name: str) -> Account:
        """The account with a name. Raises `DataError`."""
        with self._store.snapshot() as connection:
            return self._read(connection, _accounts.c.id == self._one(connection, name))[0]

    def all(self) -> list[Account]:
        """All accounts, by name."""
        with self._store.snapshot() as connection:
            return self._read(connection, sa.true())

    def clients_of(self, account: Account, connection: sa.Connection) -> frozenset[str]:
        """The clients whose data a reach of OWN covers."""
        if account.client:
            return frozenset({account.client})
        if Role.CLINICIAN not in account.roles:
            return frozenset()
        query = sa.select(_assignments.c.client).where(_assignments.c.account == account.id)
        return frozenset(connection.execute(query).scalars())

    def linked(self, issuer: str, subject: str) -> Account | None:
        """The active account of who is `subject` at a provider."""
        row = (_identities.c.issuer == issuer) & (_identities.c.subject == subject)
        with self._store.snapshot() as connection:
            found = self._read(connection, _accounts.c.id == sa.select(_identities.c.account).where(row).scalar_subquery())
        return found[0] if found and found[0].status == ACTIVE else None

    # --- the password half of signing in -------------------------------------------------------------------

    def verify(self, name: str, password: str, act: Act) -> Account:
        """The account, if the password is its own. Raises `AccessError`: `credentials`, or `wait` after failures.

        A name that there is not takes the same steps, and so the same time, as one that there is.
        """
        with self.passwords.turn():
            return self._verify(name, password, act)

    def _verify(self, name: str, password: str, act: Act) -> Account:
        name, now = _normal(name), self._now()
        with self._audit.begin() as connection:
            throttle.sweep(connection, now)
            known = name if NAME.fullmatch(name) else ""  # PostgreSQL takes no NUL, and no account is called otherwise
            row = connection.execute(sa.select(_accounts).where(_accounts.c.name == known)).first()
            made = throttle.attempt(connection, row.id if row else f"unknown:{name}", act.address, now)
        if not isinstance(made, throttle.Attempt):
            raise AccessError("wait", "too many failures: wait before the next try", made)
        right = self.passwords.matches(row.password if row else None, password)  # outside: it takes long, others must write
        if row is None or not right or row.status != ACTIVE or now > (row.one_time_until or now):
            with self._audit.begin() as connection:
                self._refuse(connection, act, row.id if row else "unknown")
            raise AccessError("credentials", WRONG)
        fresh = self.passwords.hash(password) if self.passwords.is_outdated(row.password) else row.password
        with self._audit.begin() as connection:
            throttle.succeeded(connection, made, now)
            mine = (_accounts.c.id == row.id) & (_accounts.c.password == row.password)  # not changed or disabled meanwhile
            changed = connection.execute(_accounts.update().where(mine).values(password=fresh, last_sign_in=now))
            if not changed.rowcount:
                self._refuse(connection, act, row.id)
            else:
                self._audit.append(connection, Entry(actor=row.id, action="session:create", request=act.request))
        if not changed.rowcount:
            raise AccessError("credentials", WRONG)
        return self.get(row.id)

    def change_password(self, account: Account, current: str, new: str, act: Act, keep: str = "") -> None:
        """A person's own new password; their other sessions end. Raises `AccessError` or `DataError`."""
        self.verify(account.name, current, act)
        self.passwords.check(new, [account.name])
        if _normal_password(new) == _normal_password(current):
            raise DataError("the new password is the old one")
        hashed = self.passwords.hash(new)
        with self._audit.begin() as connection:
            mine = _accounts.c.id == account.id
            connection.execute(_accounts.update().where(mine).values(password=hashed, one_time_until=None))
            end_all(connection, account.id, but=keep)
            self._record(connection, act, "accounts:password", account.id)

    # --- inside ---------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock().timestamp()

    def _record(self, connection: sa.Connection, act: Act, action: str, account: str, client: str = "") -> None:
        self._audit.append(connection, Entry(act.actor, action, client, request=act.request, target=account))

    def _record_roles(
        self, connection: sa.Connection, act: Act, account: str, before: frozenset[Role], after: frozenset[Role]
    ) -> None:
        for word, roles in (("give", after - before), ("take", before - after)):
            for role in sorted(roles):
                self._record(connection, act, f"accounts:{word}_{role}", account)

    def _refuse(self, connection: sa.Connection, act: Act, account: str) -> None:
        self._audit.append(connection, Entry(actor=account, action="session:create", outcome=REFUSED, request=act.request))

    def _one(self, connection: sa.Connection, name: str) -> str:
        wanted = _accounts.c.name == (_normal(name) if NAME.fullmatch(_normal(name)) else "")
        found = connection.execute(sa.select(_accounts.c.id).where(wanted)).scalar()
        if found is None:
            raise DataError(f"there is no account '{name}': list them with  attune accounts list")
        return str(found)

    def _keep_an_administrator(self, connection: sa.Connection, account: str, stays: bool) -> None:
        query = (
            sa.select(_accounts.c.id)
            .join(_roles, _roles.c.account == _accounts.c.id)
            .where(_roles.c.role == Role.ADMINISTRATOR, _accounts.c.status == ACTIVE)
        )
        if not stays and set(connection.execute(query).scalars()) == {account}:
            raise DataError("this is the last administrator: make another one first")

    def _roles(self, connection: sa.Connection, accounts: Iterable[str]) -> dict[str, frozenset[Role]]:
        held: dict[str, set[Role]] = {account: set() for account in accounts}
        for row in connection.execute(sa.select(_roles).where(_roles.c.account.in_(held))):
            held[row.account].add(Role(row.role))
        return {account: frozenset(roles) for account, roles in held.items()}

    def _read(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Account]:
        rows = connection.execute(sa.select(_accounts).where(where).order_by(_accounts.c.name)).all()
        held = self._roles(connection, [row.id for row in rows])
        return [
            Account(
                row.id, row.name, row.status, held[row.id], row.client, row.one_time_until is not None, row.created,
                row.last_sign_in,
            )
            for row in rows
        ]  # fmt: skip


def new_id(kind: str) -> str:
    """A random id of 16 letters and digits that begins with `kind`, one letter: it fits into an audit record."""
    return kind + secrets.token_hex(8)[:15]


def _normal(name: str) -> str:
    return unicodedata.normalize("NFKC", name[:256]).casefold().strip()


def _normal_password(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _name(name: str) -> str:
    found = _normal(name)
    if not NAME.fullmatch(found):
        raise DataError("a name has 3 to 64 letters, digits and any of . @ + - _ inside")
    return found


def _checked(roles: Iterable[Role], client: str) -> frozenset[Role]:
    held = frozenset(roles)
    if not held or held - set(PERSONS):
        raise DataError(f"give one or more of the roles {', '.join(PERSONS)}")
    if held & ALONE and len(held) > 1:
        raise DataError(f"{' and '.join(sorted(ALONE))} are held alone, by an account of their own")
    if (Role.CLIENT in held) != bool(client):
        raise DataError("an account of a client, and no other, names its client")
    return held
