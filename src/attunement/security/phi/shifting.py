"""Dates moved by a number of days, written as they were written: in figures, with the month's name, or as they are spoken."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from attunement.security.phi.dates import MONTHS

SHORT = {name[:3]: i for i, name in enumerate(MONTHS, 1)}
SPOKEN = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth "
    "eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh "
    "twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
NO_YEAR = 2024
"""Stands for the year of a date that tells none: a leap year."""
_FIGURES = re.compile(r"(\d{1,4})([./-])(\d{1,2})(?:\2(\d{1,4}))?(.*)", re.S)
_NAMED = re.compile(r"(?i)(?<![a-z])(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)([a-z]*)")
_DAY = re.compile(r"(?<!\d)(\d{1,2})(st|nd|rd|th)?(?!\d)")
_YEAR = re.compile(r"(?<!\d)(\d{4})(?!\d)")
_SPOKEN = re.compile(
    r"(?i)(?<![a-z])(?=[efnst])((?:twenty|thirty)[ -](?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|"
    + "|".join(w for w in SPOKEN if "-" not in w)
    + r")(?![a-z])"
)


def shifted(text: str, days: int) -> str | None:
    """The date in `text` `days` later, in the same form; None where it cannot be read."""
    try:
        return _figures(text, days) or _named(text, days)
    except (ValueError, OverflowError):
        return None


def _figures(text: str, days: int) -> str | None:
    match = _FIGURES.fullmatch(text)
    if not match:
        return None
    parts = [part for part in (match[1], match[3], match[4]) if part]
    numbers = [int(part) for part in parts]
    if len(parts[0]) == 4:
        order = "ymd"[: len(parts)]
    elif len(parts) == 2:
        order = "my" if len(parts[1]) == 4 else "md"
    else:
        order = "dmy" if numbers[0] > 12 or match[2] == "." else "mdy"
    found = dict(zip(order, numbers, strict=False))
    year = found.get("y", NO_YEAR)
    short = "y" in found and len(parts[order.index("y")]) < 4
    year += (2000 if year < 40 else 1900) if short else 0
    moved = date(year, found["m"], found.get("d", 15)) + timedelta(days)
    told = {"y": f"{moved.year % 100:02d}" if short else str(moved.year), "m": str(moved.month), "d": str(moved.day)}
    padded = order[0] == "y" or match[2] == "." or any(part.startswith("0") for part in parts)
    out = [told[kind].zfill(len(part)) if padded else told[kind] for kind, part in zip(order, parts, strict=False)]
    return match[2].join(out) + match[5]


def _named(text: str, days: int) -> str | None:
    month = _NAMED.search(text)
    if not month:
        return None
    day, year, spoken = _DAY.search(text), _YEAR.search(text), _SPOKEN.search(text)
    number = int(day[1]) if day else SPOKEN.index(spoken[1].lower().replace(" ", "-")) + 1 if spoken else 15
    moved = date(int(year[1]) if year else NO_YEAR, SHORT[month[1].lower()], number) + timedelta(days)
    name = MONTHS[moved.month - 1]
    name = name if month[2] or month[1].lower() == "may" else name[:3]
    changes: list[tuple[re.Match[str], Callable[[], str]]] = [(month, lambda: _as(month[0], name))]
    if day:
        changes.append((day, lambda: f"{moved.day}{_ending(moved.day) if day[2] else ''}"))
    elif spoken:
        changes.append((spoken, lambda: SPOKEN[moved.day - 1].replace("-", " " if " " in spoken[1] else "-")))
    if year:
        changes.append((year, lambda: str(moved.year)))
    for match, put in sorted(changes, key=lambda change: change[0].start(), reverse=True):
        text = text[: match.start()] + put() + text[match.end() :]
    return text


def _as(old: str, new: str) -> str:
    return new.upper() if old.isupper() and len(old) > 1 else new.capitalize() if old[:1].isupper() else new.lower()


def _ending(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
