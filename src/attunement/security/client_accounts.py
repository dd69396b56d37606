"""What the accounts know of a client, as a kind of a client's data: the client's own account, and which clinicians have the client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security import accounts, throttle, totp  # noqa: F401 - with their tables
from attunement.security.clients import register
from attunement.security.sessions import end_all
from attunement.security.vault import Vault
from attunement.storage.sql import metadata

_accounts, _roles = metadata.tables["accounts"], metadata.tables["account_roles"]
_assignments, _identities = metadata.tables["client_assignments"], metadata.tables["account_identities"]


class _ClientAccounts:
    """The kind `accounts`."""

    kind = "accounts"
    about = "the client's own account, and the clinicians that have the client"
    tables: tuple[sa.Table, ...] = (_accounts, _identities)  # their names are not encrypted

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        for row in connection.execute(sa.select(_accounts).where(_accounts.c.client == client)):
            roles = sorted(connection.execute(sa.select(_roles.c.role).where(_roles.c.account == row.id)).scalars())
            times = {"created": row.created, "last_sign_in": row.last_sign_in}
            yield {"id": row.id, "what": "account", "name": row.name, "status": row.status, "roles": roles, **times}
        query = sa.select(_assignments).where(_assignments.c.client == client).order_by(_assignments.c.since)
        for row in connection.execute(query):
            yield {"id": row.account, "what": "clinician", "since": row.since}

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        raise DataError("accounts and assignments are changed with  attune accounts")

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        """`before` changes nothing: an account does not age."""
        if before:
            return 0
        count = connection.execute(_assignments.delete().where(_assignments.c.client == client)).rowcount
        for account in connection.execute(sa.select(_accounts.c.id).where(_accounts.c.client == client)).scalars().all():
            end_all(connection, account)
            throttle.forget(connection, account)
            for table in reversed(metadata.sorted_tables):
                for column in table.c:
                    if any(key.column is _accounts.c.id for key in column.foreign_keys):
                        connection.execute(table.delete().where(column == account))
            count += connection.execute(_accounts.delete().where(_accounts.c.id == account)).rowcount
        return int(count)

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        if before:
            return []
        of_accounts = sa.select(_accounts.c.client).where(_accounts.c.client != "")
        return sorted(set(connection.execute(of_accounts.union(sa.select(_assignments.c.client))).scalars()))

    def oldest(self, connection: sa.Connection) -> str:
        return ""


register(_ClientAccounts())
