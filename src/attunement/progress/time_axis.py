"""The time axis of the report's charts: true to the calendar of the reader's zone, with marks that never cover each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from zoneinfo import ZoneInfo

GAP_TIMES, GAP_AT_LEAST = 3.0, timedelta(days=42)
"""Scores are further apart than usual where the time between is 3 times the median and 6 weeks: the line breaks there."""
SHRUNK_UNDER = 0.35
"""An axis shows the whole timeframe unless its entries fill less than this share of it."""
DAY_STEPS, MONTH_STEPS = (1, 2, 7, 14), (1, 2, 3, 6, 12, 24, 60, 120)
LETTER = 7.4
"""Room for a letter of a badge."""


@dataclass(frozen=True)
class Mark:
    """Something on the time line. `label` is its number in the legend (crises: !1, !2); `kind` says in words what it is."""

    at: datetime
    label: str
    kind: str
    title: str
    crisis: bool = False


@dataclass(frozen=True)
class Badge:
    """One or several marks drawn as one label, centred at `x`; `lines` are where each of them stands."""

    x: float
    width: float
    text: str
    lines: Sequence[float]


@dataclass(frozen=True)
class TimeAxis:
    """From `start` to `end` (aware), drawn from `left` to `right`."""

    start: datetime
    end: datetime
    left: float
    right: float
    zone: ZoneInfo

    def x(self, at: datetime) -> float:
        # of timestamps: datetimes of one zone subtract by the wall clock, an hour off over a change of the clocks
        start = self.start.timestamp()
        share = (at.timestamp() - start) / (self.end.timestamp() - start)
        return round(self.left + (self.right - self.left) * min(1.0, max(0.0, share)), 1)

    def ticks(self, room: float) -> list[tuple[float, str, str]]:
        """(x, label, second line) of ticks that are `room` apart at least; the second line is the year, where it begins."""
        found, year = [], 0
        for at, by_year in self._steps(room):
            text = str(at.year) if by_year else at.strftime("%b") if at.day == 1 else f"{at.day} {at:%b}"
            found.append((self.x(at), text, str(at.year) if at.year != year and not by_year else ""))
            year = at.year
        return found

    def _steps(self, room: float) -> Iterator[tuple[datetime, bool]]:
        length, wide = self.end - self.start, self.right - self.left
        most = max(1.0, wide / room)
        first = self.start.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        for days in DAY_STEPS:
            if length / timedelta(days=days) <= most:
                first -= timedelta(days=first.weekday() if days >= 7 else 0)
                yield from ((at, False) for at in self._inside(first + timedelta(days=n * days) for n in range(int(most) + 3)))
                return
        step = next(
            (m for m in MONTH_STEPS if length / timedelta(days=30.44 * m) <= most), 12 * (1 + int(length.days / 365 / most))
        )
        month = (first.year * 12 + first.month - 1) // step * step
        months = (datetime((month + n * step) // 12, (month + n * step) % 12 + 1, 1) for n in range(int(most) + 3))
        yield from ((at, step >= 12) for at in self._inside(months))

    def _inside(self, walls: Iterator[datetime]) -> Iterator[datetime]:
        """Those of the local times that the axis shows, each as that day begins in the zone, whatever the clocks do."""
        for wall in walls:
            at = wall.replace(tzinfo=self.zone)
            if self.start <= at <= self.end:
                yield at

    def badges(self, marks: Sequence[Mark]) -> list[Badge]:
        """Labels for `marks`, in order of time. Those that would cover each other become one: 4, 5 and 6 become 4–6."""
        found: list[Badge] = []
        groups: list[list[Mark]] = []
        for mark in sorted(marks, key=lambda m: m.at):
            group = [mark]
            badge = self._badge(group)
            while found and badge.x - badge.width / 2 < found[-1].x + found[-1].width / 2 + 1:
                found.pop()
                group = groups.pop() + group
                badge = self._badge(group)
            found.append(badge)
            groups.append(group)
        return found

    def _badge(self, group: Sequence[Mark]) -> Badge:
        text = group[0].label if len(group) == 1 else f"{group[0].label}–{group[-1].label.lstrip('!')}"
        lines, width = [self.x(mark.at) for mark in group], 8 + LETTER * len(text)
        middle = min(max((lines[0] + lines[-1]) / 2, self.left + width / 2), self.right - width / 2)
        return Badge(round(middle, 1), round(width, 1), text, lines)


def fitted(start: datetime, end: datetime, times: Sequence[datetime]) -> tuple[datetime, datetime, bool]:
    """The span that the charts show of the timeframe, and whether it is less than the whole."""
    inside = [at for at in times if start <= at < end]
    if not inside or end - start < timedelta(hours=1):
        return start, max(end, start + timedelta(hours=1)), False
    first, last = min(inside), max(inside)
    margin = max((last - first) * 0.03, timedelta(days=1))
    if last - first + 2 * margin >= (end - start) * SHRUNK_UNDER:
        return start, end, False
    return max(start, first - margin), min(end, last + margin), True


def gaps(times: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Where nothing was measured for much longer than is usual in this series."""
    pairs = list(pairwise(times))
    if len(pairs) < 2:
        return []
    usual = timedelta(seconds=median((after - before).total_seconds() for before, after in pairs))
    return [(before, after) for before, after in pairs if after - before > max(GAP_TIMES * usual, GAP_AT_LEAST)]
