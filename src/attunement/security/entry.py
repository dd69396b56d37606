"""The whole of signing in, over accounts, sessions, second factors, API keys and OpenID Connect: who stands at the door.

`opened` puts them together over the store of the settings; the service and the command line use nothing else.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from attunement.config import Settings
from attunement.errors import AccessError
from attunement.security.accounts import ACTIVE, Account, Accounts
from attunement.security.acting import REFUSED, Act
from attunement.security.api_keys import ApiKeys
from attunement.security.audit import AuditLog, Entry
from attunement.security.clock import Clock, utc_now
from attunement.security.fields import FieldCipher
from attunement.security.oidc import OpenIdConnect
from attunement.security.permissions import MUST_CONFIRM, Principal, Role, allowed
from attunement.security.sessions import Session, Sessions
from attunement.security.totp import SecondFactors
from attunement.security.vault import Vault
from attunement.storage.sql import Store, metadata

CALLBACK = "/api/v1/auth/oidc/callback"


class Access:
    """Everything that says who somebody is."""

    def __init__(
        self, audit: AuditLog, cipher: FieldCipher, settings: Settings, clock: Clock = utc_now, vault: Vault | None = None
    ) -> None:
        self.settings, self.audit, self.cipher, self.vault = settings.access, audit, cipher, vault
        self.accounts = Accounts(audit, settings.access, clock)
        self.sessions = Sessions(audit, settings.access, clock)
        self.factors = SecondFactors(audit, cipher, clock)
        self.keys = ApiKeys(audit, settings.access, clock)
        address = settings.access.public_url or f"http://{settings.serving.host}:{settings.serving.port}"
        issuer = settings.access.oidc_issuer
        self.oidc = OpenIdConnect(audit.store, settings.access, f"{address.rstrip('/')}{CALLBACK}", clock) if issuer else None

    # --- who it is ------------------------------------------------------------------------------------------

    def by_cookie(self, token: str) -> tuple[Principal, Session] | None:
        """Whose session a cookie holds, as the account is now: roles and assignments hold from the next request on."""
        with self.audit.store.snapshot() as connection:  # all in one: each costs a round of the database
            session = self.sessions.find(token, connection)
            if session is None:
                return None
            account = self.accounts.read(session.account, connection)
            if account.status != ACTIVE:
                return None
            waits = not session.confirmed and self.must_confirm(account, connection)
            pending = "password" if account.must_change else "second_factor" if waits else ""
            clients = self.accounts.clients_of(account, connection)
        self.sessions.used(token, session)
        return Principal(account.id, account.name, account.roles, clients, pending=pending), session

    def by_key(self, shown: str, act: Act) -> Principal | None:
        """The service whose live key was shown."""
        key = self.keys.find(shown, act)
        return Principal(key.service, key.name, frozenset({Role.SERVICE}), scopes=key.scopes) if key else None

    def must_confirm(self, account: Account, connection: sa.Connection | None = None) -> bool:
        """Whether the account signs in with a second factor: its roles ask for one, everybody's do, or it has one."""
        asked = self.settings.second_factor == "everyone" or bool(account.roles & MUST_CONFIRM)
        return asked or self.factors.has(account.id, connection)

    # --- signing in -----------------------------------------------------------------------------------------

    def sign_in(self, name: str, password: str, act: Act, agent: str = "", before: str = "") -> str:
        """A session's cookie for a right password. Raises `AccessError`."""
        account = self.accounts.verify(name, password, act)
        return self.sessions.start(account.id, act, agent=agent, before=before)

    def confirm(self, session: Session, code: str, act: Act, before: str) -> tuple[str, list[str]]:
        """A new cookie for a right second factor, and the recovery codes where it was the first. Raises `AccessError`."""
        codes = self.factors.confirm(session.account, code, act)
        return self.sessions.start(session.account, act, confirmed=True, agent=session.agent, before=before), codes

    def renew_recovery(self, session: Session, code: str, act: Act) -> list[str]:
        """New recovery codes for who has shown a second factor in this session and shows a code of the app again.

        Raises `AccessError`: `no_factor` where there is none.
        """
        if not self.factors.has(session.account):
            raise AccessError("no_factor", "there is no second factor here: enrol one first (POST /api/v1/auth/totp/enrol)")
        if not session.confirmed:
            raise AccessError("not_allowed", "show your second factor first (POST /api/v1/auth/totp)")
        return self.factors.renew_recovery(session.account, code, act)

    def change_password(self, session: Session, current: str, new: str, act: Act, before: str) -> str:
        """A new cookie after a change of password; the account's other sessions end. Raises `AccessError`, `DataError`."""
        self.accounts.change_password(self.accounts.get(session.account), current, new, act, keep=before)
        return self.sessions.start(session.account, act, confirmed=session.confirmed, agent=session.agent, before=before)

    def sign_in_elsewhere(self, state: str, code: str, act: Act, agent: str = "", before: str = "") -> str:
        """A session's cookie for who comes back from the OpenID Connect provider. Raises `AccessError`."""
        if self.oidc is None:
            raise AccessError("credentials", "no OpenID Connect provider is configured")
        identity = self.oidc.finish(state, code)
        account = self.accounts.linked(identity.issuer, identity.subject)
        if account is None:
            self.refuse("unknown", "session:create", act)
            raise AccessError("credentials", "no account is linked to this identity: ask an administrator")
        return self.sessions.start(account.id, act, confirmed=identity.second_factor, agent=agent, before=before)

    def refuse(self, actor: str, action: str, act: Act, client: str = "") -> None:
        """Puts a refusal on record."""
        record_refusal(self.audit, actor, action, act, client)


def record_refusal(audit: AuditLog, actor: str, action: str, act: Act, client: str = "") -> None:
    with audit.begin() as connection:
        audit.append(connection, Entry(actor, action, client, REFUSED, act.request))


def local_operator() -> Principal:
    """The operating system's user at the command line."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a process without a name, as in some containers
        user = "unknown"
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in user)[:48]
    return Principal(f"os:{safe}", user, frozenset({Role.OPERATOR}))


def operator_act(audit: AuditLog | None, action: str, client: str | None = None) -> Act:
    """What a command of the local operator carries with it. Raises `AccessError`, and records it in `audit`, where the table says no."""
    operator = local_operator()
    act, decision = Act(operator.id), allowed(operator, action, client)
    if not decision:
        if audit is not None:
            record_refusal(audit, operator.id, action, act, client or "")
        raise AccessError(decision.reason, f"the table of permissions does not let {operator.id} do {action}")
    return act


def anybody(store: Store) -> bool:
    """Whether a store has an account or a service: somebody who could sign in."""
    with store.snapshot() as connection:
        tables = ("accounts", "service_accounts")
        return any(connection.execute(sa.select(sa.literal(1)).select_from(metadata.tables[t]).limit(1)).scalar() for t in tables)


@contextmanager
def opened(settings: Settings, clock: Clock = utc_now) -> Iterator[Access]:
    """Everything over the store of the settings, closed at the end. Raises `ConfigError` without a master key."""
    vault = Vault.open(settings, clock=clock)
    try:
        yield Access(vault.audit, vault.cipher, settings, clock, vault)
    finally:
        vault.close()
