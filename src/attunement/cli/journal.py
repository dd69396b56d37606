"""A client's journal as the local operator sees it, and what its commands share: options, times, answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from attunement.cli.acting import acting
from attunement.errors import DataError

if TYPE_CHECKING:
    from attunement.progress.tracking import ProgressTrackingSystem

Client = Annotated[str, typer.Argument(help="Id of the client.")]
Session = Annotated[str, typer.Argument(help="Id of the session.")]
At = Annotated[str, typer.Option("--at", metavar="TIME", help="When, with its time zone: 2026-03-02T10:00+01:00; default: now.")]
Span = Annotated[
    str, typer.Option("--timeframe", help="90d, 12w, 2026, 2026-Q1, 2026-02, 2024..2026, 2026-01-01..2026-03-01, 'last month'.")
]
Zone = Annotated[str, typer.Option(help="Time zone in which days begin.")]
MOST_BYTES = 10_000_000
Version = Annotated[int, typer.Option(help="The version that was read: another one by now is refused.")]


@contextmanager
def journal(
    action: str, recipe: Path | None, overrides: list[str] | None, client: str | None = None
) -> Iterator[ProgressTrackingSystem]:
    """The journal as the local operator sees it; its alarms go into the review queue of the same store."""
    from attunement.serving.journals import journal as over
    from attunement.serving.reviews import ClinicalReviews

    with acting(action, recipe, overrides, client) as (vault, act):
        yield over(vault, ClinicalReviews(vault.audit, vault.cipher)).by(act)


def span_of(text: str, zone: str, system: ProgressTrackingSystem) -> Any:
    from attunement.progress.timeframes import parse

    return parse(text, system.vault.audit.clock(), zone_of(zone))


def zone_of(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise DataError(f"there is no time zone '{name}': name one as Europe/Berlin") from None


def time_of(text: str) -> datetime:
    from attunement.security.clock import utc_now

    if not text:
        return utc_now()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"'{text}' is no time: write it as 2026-03-02T10:00+01:00") from None
    if found.utcoffset() is None:
        raise DataError(f"'{text}' needs its time zone: {text}+01:00, or {text}Z")
    return found


def answers_of(text: str) -> tuple[str, Any]:
    """`phq9=1,0,,2` as code and answers, `phq9=7` as code and total."""
    code, sign, given = text.partition("=")
    try:
        if not sign or not given.strip():
            raise ValueError
        if "," not in given:
            return code, float(given)
        return code, [int(each) if each.strip() else None for each in given.split(",")]
    except ValueError:
        raise DataError(f"'{text}' should be CODE=ANSWERS: phq9=2,1,1,0,1,1,0,1,0, or phq9=7 for a total") from None


def turns_of(path: Path) -> Any:
    from attunement.readers.files import ReadFailure, discover, read

    found = [each for file in discover([path]) for each in read(file, max_record_bytes=MOST_BYTES)]
    if failed := [each for each in found if isinstance(each, ReadFailure)]:
        raise DataError(f"{path} cannot be read as a conversation: {failed[0].error}")
    talks = [each for each in found if not isinstance(each, ReadFailure)]
    if len(talks) != 1:
        raise DataError(f"{path} holds {len(talks)} conversations: a session is one")
    return talks[0].turns


def tell(found: Any) -> None:
    from attunement.records import to_dict

    typer.echo(json.dumps(to_dict(found), ensure_ascii=False))
