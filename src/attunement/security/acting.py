"""What every change of accounts, sessions and keys carries with it: who acts, from where, for which request."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

REFUSED = "refused"
"""Outcome of an audit record of what was not let be."""


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
