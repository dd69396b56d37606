"""What every change of accounts, sessions and keys carries with it: who acts, from where, for which request.

`Audit` is the log that it is written to, in the transaction of the change itself (`attunement.security.audit.AuditLog`).
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from attunement.storage.sql import Store

DONE, REFUSED = "done", "refused"


class Audit(Protocol):
    """Codes and ids only, never content. `begin` is a transaction of the log's store."""

    store: Store

    def begin(self) -> AbstractContextManager[sa.Connection]: ...

    def append(
        self,
        connection: sa.Connection,
        *,
        actor: str,
        action: str,
        client: str = "",
        outcome: str = DONE,
        request: str = "-",
    ) -> Any: ...


@dataclass(frozen=True)
class Act:
    """Who acts (an account's id, or `os:NAME` at the command line), in which request, from which network address."""

    actor: str
    request: str = "-"
    address: str = ""


def one_line(text: str, most: int = 80) -> str:
    """`text` as it may stand in a log or a list: no control or formatting characters, at most `most` characters."""
    clean = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * most])
    return re.sub(r" +", " ", clean).strip()[:most]
