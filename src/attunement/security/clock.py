"""The clock of security: UTC now. Whoever asks takes it as an argument, so that a test can set it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def stamp(when: datetime) -> str:
    """`when` as `2026-11-27T12:57:27.123456Z`: always 27 characters, and in the order of time when sorted as text."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
