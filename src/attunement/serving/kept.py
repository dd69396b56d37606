"""Tables of the service that hold words about clients, as kinds of a client's record: exported, aged out and deleted with the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from attunement.errors import DataError
from attunement.security.clients import register
from attunement.security.keys import SYSTEM
from attunement.security.vault import Vault


class KeptKind:
    """A table with the columns `id`, `client` ("" for nobody's), `at`, and encrypted ones, `words`."""

    tables: tuple[sa.Table, ...] = ()  # words are encrypted: what is left on freed pages is closed by the key

    def __init__(self, kind: str, about: str, table: sa.Table, words: Sequence[str]) -> None:
        self.kind, self.about, self._table, self.words = kind, about, table, tuple(words)
        register(self)

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        query = sa.select(self._table).where(self._table.c.client == client).order_by(self._table.c.at, self._table.c.id)
        rows = list(map(dict, connection.execute(query).mappings()))
        for row in vault.cipher.decrypt_rows(self._table.name, rows, self.words):
            yield {name: value for name, value in row.items() if name != "client"}

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        raise DataError(f"{self.kind} are kept as they were said: they can be deleted, not corrected")

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        which = self._table.c.client == client
        which = which & (self._table.c.at < before) if before else which
        return int(connection.execute(self._table.delete().where(which)).rowcount)

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        """With `before` also "": what belongs to no client ages, too."""
        query = sa.select(self._table.c.client).distinct().order_by(self._table.c.client)
        query = query.where(self._table.c.at < before) if before else query.where(self._table.c.client != "")
        return list(connection.execute(query).scalars())

    def oldest(self, connection: sa.Connection) -> str:
        return connection.execute(sa.select(sa.func.min(self._table.c.at))).scalar() or ""


def subject_of(client: str) -> str:
    """Whose data key closes a row: the client's, or the system's where there is none."""
    return client or SYSTEM
