"""Errors as a client of the HTTP face reads them (RFC 9457): one line that says what to do, never what was sent."""

from __future__ import annotations

import http
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from attunement.errors import AccessError
from attunement.serving.service import ROLES

MEDIA_TYPE = "application/problem+json"
TEXT, TURN = "text", "turn"
"""Names of the two forms of an item of `conversation_context`: pydantic puts them into the path of an error."""


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field("about:blank", description="Kind of problem.")
    title: str = Field(description="The same for all problems of this status.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What to do about it; never what was sent.")


_FAULTS = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "holds half a character (an unpaired surrogate)",
    "string_too_short": "is empty: send what the client says now",
    "string_too_long": "is longer than {max_length:,} characters",
    "list_type": "must be a list",
    "too_long": "holds more than {max_length} turns: send the last ones",
    "literal_error": "must be one of {expected}",
    "no_time": "must be a time as 2026-03-02T10:00:00+01:00",
    "far_time": "lies too far away: look at its year",
    "timezone_aware": "needs its time zone: 2026-03-02T10:00:00+01:00",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "model_attributes_type": "must be text, or an object with role and content",
}
"""What pydantic calls a fault, in our words: its own name parts of the program and repeat what was sent."""


def responses(described: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """`described` (status to when it comes) for a route's OpenAPI description, with the body that they all have."""
    body = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": told, "content": body} for status, told in described.items()}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    content = Problem(title=http.HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def for_openai(told: JSONResponse) -> JSONResponse:
    """A problem with OpenAI's `error` in it, which its clients read; RFC 9457 allows members of one's own."""
    content = json.loads(bytes(told.body))
    kind = "invalid_request_error" if told.status_code < 500 else "server_error"
    content["error"] = {"message": content["detail"], "type": kind, "param": None, "code": None}
    headers = {name: value for name, value in told.headers.items() if name not in ("content-length", "content-type")}
    return JSONResponse(content, told.status_code, headers, media_type=MEDIA_TYPE)


NO_STORE = {409: "This service asks nobody to sign in, and keeps nothing"}
"""For the description of routes that need a store."""


def no_store() -> HTTPException:
    """What somebody reads who asks a service without a store for what it would keep."""
    return HTTPException(
        409, "this service asks nobody to sign in and keeps nothing: make an account with  attune accounts create"
    )


_STATUS = {"anonymous": 401, "credentials": 401, "wait": 429, "rate": 429, "enrolled": 409, "no_factor": 409}
"""Statuses of the reasons of `AccessError`; of others 403."""


def refusal(error: AccessError) -> JSONResponse:
    """What somebody reads who was not let in."""
    status, headers = _STATUS.get(error.reason, 403), {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="attunement"'
    if error.after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.after_seconds)))
    return problem(status, str(error), headers)


def explain(faults: Sequence[Mapping[str, Any]], wanted: str, fields: str) -> str:
    """The first of pydantic's `faults` in one line; a fault's `input`, which is what was sent, is never read.

    `wanted` are the fields that a body must have, `fields` those that it may have.
    """
    kind, path, known = faults[0]["type"], list(faults[0]["loc"][1:]), faults[0].get("ctx", {})
    if kind == "json_invalid":
        return f"the body is not valid JSON at character {path[0] + 1}: {known['error'].removesuffix(' at')}"
    if not path:
        return f"the body must be a JSON object with {wanted}, sent with Content-Type: application/json"
    if kind == "literal_error" and path[-1:] == ["role"]:
        known = {"expected": ", ".join(ROLES)}
    form = path.pop(2) if len(path) > 2 and path[2] in (TEXT, TURN) else ""
    if kind == "extra_forbidden":
        return f"{_where(path)} is not known: the fields are {'role and content' if form else fields}"
    return f"{_where(path)} {_FAULTS.get(kind, 'is not as /docs describes it').format_map(known)}"


def _where(path: Sequence[str | int]) -> str:
    """The path as its writer would put it: `conversation_context[0].role`. What is no name is not repeated."""
    names = (f"[{p}]" if isinstance(p, int) else f".{p}" if re.fullmatch(r"[\w-]{1,40}", p) else ".(no name)" for p in path)
    return "".join(names).removeprefix(".")
