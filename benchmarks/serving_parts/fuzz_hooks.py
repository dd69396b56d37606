"""Loaded by Schemathesis (`SCHEMATHESIS_HOOKS`): three of four calls that name a client, session or goal as the description allows name one that is there.

Left to itself it makes ids up, and no route of a journal gets past "no such client". What is against the description stays as it was made.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import MutableMapping
from typing import Any

import schemathesis

from attunement.security.codes import ID
from serving_parts.fuzz_journal import CLIENT, GOAL, SESSIONS

SPANS = ("90d", "12w", "2026", "2024..2026", "last month", "2026-Q1")
THERE = {"client_id": (CLIENT,), "session_id": SESSIONS, "goal_id": (GOAL,), "timeframe": SPANS, "zone": ("UTC", "Europe/Berlin")}


STATUSES = "FUZZ_STATUSES"
"""Variable with the file that gets a line for each answer: its status and its operation."""
PERSON = "FUZZ_PERSON"
"""Variable that says: a session's cookie is sent, so no key and no cookie that Schemathesis made up of the description (they would be refused)."""


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    with open(os.environ[STATUSES], "a", encoding="utf-8") as out:
        out.write(f"{response.status_code} {case.operation.label}\n")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if PERSON in os.environ:
        for made in (case.headers, case.cookies):
            for name in [name for name in made or {} if name.lower() in ("authorization", "cookie", "attunement")]:
                del made[name]
    for values in (case.path_parameters, case.query):
        _put(values)
    if isinstance(case.body, dict) and case.operation.path == "/api/v1/inference":
        _put(case.body)  # so that replies with a history are among them


def _put(values: MutableMapping[str, Any] | None) -> None:
    for name in (values or {}).keys() & THERE.keys():
        made, choices = values[name], THERE[name]
        if not isinstance(made, str) or not _allowed(name, made):
            continue
        chance = zlib.crc32(f"{name} {made}".encode("utf-8", "replace"))
        if chance % 4:
            values[name] = choices[chance // 4 % len(choices)]


def _allowed(name: str, made: str) -> bool:
    if name in ("timeframe", "zone"):
        return len(made) <= 40
    return len(made) <= 64 and re.fullmatch(ID.pattern, made) is not None
