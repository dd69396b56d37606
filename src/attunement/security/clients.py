"""What is held about a client, by kind: the registry through which a whole record is exported, corrected, aged out and deleted.

A module that keeps data about clients registers a `ClientData` when it is imported, and is named in `BUILT_IN` (or imported by
the doors, where it stands above this layer); nothing else has to be changed for its rows to be part of exports, certificates,
retention and legal holds.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from attunement.errors import DataError

if TYPE_CHECKING:
    from attunement.security.vault import Vault

BUILT_IN = (
    "attunement.security.client_records",
    "attunement.security.client_accounts",
    "attunement.storage.transcripts.tables",
)
"""Modules that register a kind when they are imported."""
KIND = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)


@dataclass(frozen=True)
class Attachment:
    """A value of an exported row that becomes a file of its own, `name`, in a folder of its kind."""

    name: str
    content: bytes = field(repr=False)


class ClientData(Protocol):
    """One kind of data about clients. Everything happens in the transaction of `connection`; auditing is the caller's.

    `kind` is its code, `about` says what it is to a reader, `tables` are those whose freed pages may hold words in the clear.
    """

    kind: str
    about: str
    tables: tuple[sa.Table, ...]

    def export(self, vault: Vault, connection: sa.Connection, client: str) -> Iterator[dict[str, Any]]:
        """Every row of a client, opened, as plain JSON values and `Attachment`s."""

    def correct(
        self, vault: Vault, connection: sa.Connection, client: str, row: str, changes: Mapping[str, Any], by: str
    ) -> None:
        """Changes fields of one row and keeps what they were. Raises `DataError` for what cannot be corrected here."""

    def delete(self, connection: sa.Connection, client: str, before: str = "") -> int:
        """Deletes a client's rows, or those that are older than the stamp `before`; how many."""

    def clients(self, connection: sa.Connection, before: str = "") -> Iterable[str]:
        """The clients with rows, or with rows older than the stamp `before`."""

    def oldest(self, connection: sa.Connection) -> str:
        """The stamp of the oldest row; "" where there is none, or where rows of this kind do not age."""


_KINDS: dict[str, ClientData] = {}


def register(data: ClientData) -> ClientData:
    """Makes a kind part of every client's record. Raises `ValueError` for a code that is none or is taken."""
    if not KIND.fullmatch(data.kind) or _KINDS.get(data.kind, data) is not data:
        raise ValueError(f"'{data.kind}' is no code of a kind of data, or is taken")
    _KINDS[data.kind] = data
    return data


def kinds() -> Mapping[str, ClientData]:
    """Every registered kind by its code."""
    for module in BUILT_IN:
        importlib.import_module(module)
    return dict(sorted(_KINDS.items()))


def kind_of(code: str) -> ClientData:
    """The kind with a code. Raises `DataError`."""
    found = kinds()
    if code not in found:
        raise DataError(f"there is no kind of data '{code}': they are {', '.join(found)}")
    return found[code]
