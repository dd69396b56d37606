"""What may stand in a column that is not encrypted: codes and ids of a fixed form, never words of a person.

No space, no control character, no quote: what is written here cannot forge a second line in a log or carry a sentence.
"""

from __future__ import annotations

import re

from attunement.errors import DataError

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
ACTION = re.compile(r"[a-z][a-z0-9_]{0,30}:[a-z][a-z0-9_]{0,30}", re.ASCII)


def valid_id(what: str, value: str) -> str:
    """`value` when it is an id. Raises `DataError`, which does not repeat it: it may be what must not be told."""
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise DataError(f"{what} must be an id of at most 64 letters, digits and . _ : - that starts with a letter or digit")
    return value


def valid_action(value: str) -> str:
    """`value` when it is the code of an action, `noun:verb`, as in the table of permissions. Raises `DataError`."""
    if not isinstance(value, str) or not ACTION.fullmatch(value):
        raise DataError("an action must be a code of lower case, noun:verb, as client:read or keys:rotate")
    return value
