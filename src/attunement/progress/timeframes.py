"""Days, ISO weeks, months, quarters, years as people's calendars have them: in a time zone, over clock changes and leap years.

A period starts with the first instant of its first local day and ends with that of the day after its last. Both are written with the zone's
offset of that instant (`+01:00`): two times of one `ZoneInfo` are compared and subtracted by the clock on the wall, which is an hour off when
the clocks change; these are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from attunement.errors import DataError
from attunement.records import Timeframe

DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY, MULTI_YEAR, CUSTOM = (
    "daily", "weekly", "monthly", "quarterly", "yearly", "multi_year", "custom",
)  # fmt: skip
LABELS = (DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY, MULTI_YEAR, CUSTOM)
YEARS, WEEKS = 3, 8
"""What `multi_year` and `custom` span where nothing is said."""
FIRST_YEAR, LAST_YEAR = 1900, 2200
MOST_DAYS = 366 * 100
_NAMED = {"day": DAILY, "week": WEEKLY, "month": MONTHLY, "quarter": QUARTERLY, "year": YEARLY}
_FORMS = "90d, 12w, 6m, 2y, today, last month, 2026, 2026-Q1, 2026-02, 2026-W05, 2026-02-03, 2024..2026 or 2026-01-01..2026-03-01"


def timeframe(label: str, at: datetime, zone: ZoneInfo, *, years: int = YEARS, weeks: int = WEEKS) -> Timeframe:
    """The period of kind `label` (one of `LABELS`) that holds `at`.

    `multi_year` is `years` calendar years, the one of `at` the last; `custom` is `weeks` ISO weeks, the one of `at` the last.
    Raises `DataError` for an unknown label, a span that is none, or a time without a zone.
    """
    day = _local_day(at, zone)
    if label == MULTI_YEAR:
        first, after = date(day.year - _count(years, "years") + 1, 1, 1), date(day.year + 1, 1, 1)
    elif label == CUSTOM:
        after = _monday(day) + timedelta(7)
        first = after - timedelta(7 * _count(weeks, "weeks"))
    else:
        first, after = _span(label, day)
    return _frame(first, after, label, zone)


def periods(
    start: datetime, end: datetime, label: str, zone: ZoneInfo, *, years: int = YEARS, weeks: int = WEEKS
) -> Iterator[Timeframe]:
    """The whole periods, oldest first, that hold anything of `start` (included) to `end` (not): each ends where the next starts.

    The first holds `start`. `multi_year` and `custom` are blocks counted from the year or the ISO week of `start`. A local day that a zone left
    out (Samoa's 30 December 2011) is none. Raises `DataError` as `timeframe` does.
    """
    day = _local_day(start, zone)
    _local_day(end, zone)
    first = _monday(day) if label == CUSTOM else date(day.year, 1, 1) if label == MULTI_YEAR else _span(label, day)[0]
    while True:
        if label == MULTI_YEAR:
            after = date(first.year + _count(years, "years"), 1, 1)
        elif label == CUSTOM:
            after = first + timedelta(7 * _count(weeks, "weeks"))
        else:
            after = _span(label, first)[1]
        frame = _frame(first, after, label, zone)
        if frame.start >= end:
            return
        if frame.start < frame.end:
            yield frame
        first = after


def parse(text: str, now: datetime, zone: ZoneInfo) -> Timeframe:
    """The timeframe that somebody asks for.

    `90d`, `12w`, `6m`, `2y`: so many local days (weeks, months, years) that end with today. `today`, `yesterday`, `this month`, `last quarter`;
    `2026`, `2026-Q1`, `2026-02`, `2026-W05`, `2026-02-03`: that period. `A..B` is from the start of A to the end of B, both included.

    Raises `DataError` with one line that names the forms.
    """
    wanted, today = text.strip().casefold(), _local_day(now, zone)
    try:
        if ".." in wanted:
            before, _, last = wanted.partition("..")
            first, after = _named(before.strip(), today)[0], _named(last.strip(), today)[1]
            label = MULTI_YEAR if re.fullmatch(r"\d{4} *\.\. *\d{4}", wanted) and after.year - first.year > 1 else CUSTOM
        elif rolling := re.fullmatch(r"(\d{1,5}) *([dwmy])", wanted):
            after, label = today + timedelta(1), CUSTOM
            first = _before(after, int(rolling[1]), rolling[2])
        else:
            first, after, label = _named(wanted, today)
        if not (first < after and first.year >= FIRST_YEAR and after.year <= LAST_YEAR):
            raise ValueError
    except (ValueError, OverflowError):
        raise DataError(f"{text.strip()[:40]!r} is no timeframe: give one such as {_FORMS}") from None
    return _frame(first, after, label, zone)


def first_instant(day: date, zone: ZoneInfo) -> datetime:
    """When `day` begins in `zone`, with the offset of that instant. Where the clocks skip midnight it begins with what follows."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    found = midnight.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) != midnight.replace(tzinfo=None):  # there is no such time on this day
        low, high = midnight.replace(fold=1).astimezone(UTC), found
        while high - low > timedelta(seconds=1):
            middle = (low + (high - low) / 2).replace(microsecond=0)
            low, high = (low, middle) if middle.astimezone(zone).date() >= day else (middle, high)
        found = high
    local = found.astimezone(zone)
    return local.replace(tzinfo=timezone(local.utcoffset() or timedelta()), fold=0)


def _frame(first: date, after: date, label: str, zone: ZoneInfo) -> Timeframe:
    return Timeframe(first_instant(first, zone), first_instant(after, zone), label)


def _local_day(at: datetime, zone: ZoneInfo) -> date:
    if at.utcoffset() is None:
        raise DataError(f"the time {at.isoformat()} has no time zone: write it with one, such as {at.isoformat()}+00:00")
    local = at.astimezone(zone)
    if not FIRST_YEAR <= local.year < LAST_YEAR:
        raise DataError(f"the year {local.year} is not between {FIRST_YEAR} and {LAST_YEAR - 1}: is the date right?")
    return local.date()


def _count(number: int, what: str) -> int:
    if not 1 <= number <= (100 if what == "years" else 5200):
        raise DataError(f"a timeframe of {number} {what} is none: give 1 or more, up to a hundred years")
    return number


def _monday(day: date) -> date:
    return day - timedelta(day.weekday())


def _span(label: str, day: date) -> tuple[date, date]:
    """First day of the period that holds `day`, and the first after it."""
    if label == DAILY:
        return day, day + timedelta(1)
    if label == WEEKLY:
        return _monday(day), _monday(day) + timedelta(7)
    months = {MONTHLY: 1, QUARTERLY: 3, YEARLY: 12}.get(label)
    if months is None:
        raise DataError(f"there is no timeframe '{label[:40]}': they are {', '.join(LABELS)}")
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    return first, _months_later(first, months)


def _months_later(day: date, months: int) -> date:
    """The same day so many months on, or the last of a shorter month."""
    count = day.year * 12 + day.month - 1 + months
    first = date(count // 12, count % 12 + 1, 1)
    last = (date((count + 1) // 12, (count + 1) % 12 + 1, 1) - first).days
    return first.replace(day=min(day.day, last))


def _before(after: date, number: int, unit: str) -> date:
    if not number:
        raise ValueError
    days = {"d": number, "w": 7 * number}.get(unit)
    if days is not None:
        if days > MOST_DAYS:
            raise ValueError
        return after - timedelta(days)
    return _months_later(after, -number * (12 if unit == "y" else 1))


def _named(text: str, today: date) -> tuple[date, date, str]:
    """The period that a name or a number stands for."""
    if text in ("today", "yesterday"):
        return *_span(DAILY, today - timedelta(text == "yesterday")), DAILY
    if found := re.fullmatch(r"(this|last) +(day|week|month|quarter|year)", text):
        label = _NAMED[found[2]]
        first, after = _span(label, today)
        return (first, after, label) if found[1] == "this" else (*_span(label, first - timedelta(1)), label)
    if re.fullmatch(r"\d{4}", text):
        return *_span(YEARLY, date(int(text), 1, 1)), YEARLY
    if found := re.fullmatch(r"(\d{4})-?q([1-4])", text):
        return *_span(QUARTERLY, date(int(found[1]), 3 * int(found[2]), 1)), QUARTERLY
    if found := re.fullmatch(r"(\d{4})-w(\d{2})", text):
        return *_span(WEEKLY, date.fromisocalendar(int(found[1]), int(found[2]), 1)), WEEKLY
    if found := re.fullmatch(r"(\d{4})-(\d{2})", text):
        return *_span(MONTHLY, date(int(found[1]), int(found[2]), 1)), MONTHLY
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return *_span(DAILY, date.fromisoformat(text)), DAILY
    raise ValueError(text)


def ago(days: int) -> str:
    """How long ago `days` days are, as people say it: yesterday, 12 days ago, 3 weeks ago, 7 months ago, 2 years ago."""
    if days < 2:
        return "today" if days < 1 else "yesterday"
    for most, length, unit in ((14, 1, "day"), (70, 7, "week"), (700, 30.4375, "month")):
        if days < most:
            return _so_many(round(days / length), unit)
    return _so_many(round(days / 365.25), "year")


def _so_many(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'} ago"
