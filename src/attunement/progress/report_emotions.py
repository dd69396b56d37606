"""The emotions part of the report: what was estimated from a client's words, session by session, or month by month where there are many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import sqrt
from statistics import fmean, stdev

from attunement.progress.charts import Chart, Frame, Series, small_chart
from attunement.progress.journey import Journey, LoggedSession
from attunement.records import EmotionalTrend

CHARTED_FROM = 3
"""Fewer sessions than this are told in the table only."""
SHOWN_EMOTIONS = 6
"""How many emotions get a chart: the strongest."""
MONTHLY_FROM = 120
"""From so many sessions on, emotions are shown as means of months."""
SLOW, WEEKS_A_YEAR = 0.02, 52.18
WHOLE = {"valence": ("unpleasant −1", "pleasant +1"), "arousal": ("calm −1", "excited +1")}
"""What is known of a state as a whole, from -1 to 1, shown under the emotions, with words for the ends."""
Point = tuple[datetime, float, float | None]
"""When, how strong, half of its 95 % interval."""


@dataclass(frozen=True)
class EmotionPart:
    name: str
    words: str
    known: bool
    chart: Chart | None


class Emotions:
    """`trends` by emotion; `day` writes a date."""

    def __init__(
        self, journey: Journey, trends: Mapping[str, EmotionalTrend], frame: Frame, day: Callable[[datetime], str]
    ) -> None:
        self.journey, self.trends, self.frame, self.day = journey, trends, frame, day

    @cached_property
    def felt(self) -> Sequence[LoggedSession]:
        return [s for s in self.journey.sessions if s.attended and s.log.emotional_state.emotions]

    @property
    def charted(self) -> bool:
        return len(self.felt) >= CHARTED_FROM

    @property
    def monthly(self) -> bool:
        return len(self.felt) >= MONTHLY_FROM

    @cached_property
    def names(self) -> Sequence[str]:
        """All emotions in the sessions, most felt over all of them first."""
        values: dict[str, list[float]] = defaultdict(list)
        for session in self.felt:
            for name, value in session.log.emotional_state.emotions.items():
                values[name].append(value)
        return sorted(values, key=lambda name: (-sum(values[name]), name))

    @cached_property
    def shown(self) -> Sequence[str]:
        """What gets a chart: the strongest emotions, then valence and arousal where they were estimated or given."""
        states = [session.log.emotional_state for session in self.felt]
        whole = [name for name in WHOLE if any(name in state.uncertainty or getattr(state, name) for state in states)]
        return [*self.names[:SHOWN_EMOTIONS], *whole]

    @property
    def weaker(self) -> Sequence[str]:
        return self.names[SHOWN_EMOTIONS:]

    @cached_property
    def parts(self) -> Sequence[EmotionPart]:
        return [self._emotion(name, n) for n, name in enumerate(self.shown, 1)]

    def _points(self, name: str) -> list[Point]:
        """(when, strength, half of its 95 % interval): of each session, or of each month where there are many."""
        points: list[Point] = []
        for session in self.felt:
            state = session.log.emotional_state
            if name in WHOLE or name in state.emotions:
                value = getattr(state, name) if name in WHOLE else state.emotions[name]
                half = 1.96 * state.uncertainty[name] if name in state.uncertainty else None
                points.append((session.log.timestamp, value, half))
        if not self.monthly:
            return points
        months: dict[tuple[int, int], list[Point]] = defaultdict(list)
        for point in points:
            local = point[0].astimezone(self.frame.axis.zone)
            months[local.year, local.month].append(point)
        return [_mean_of(datetime(*month, 15, tzinfo=self.frame.axis.zone), inside) for month, inside in months.items()]

    def _emotion(self, name: str, number: int) -> EmotionPart:
        points = self._points(name)
        trend = self.trends.get(name)
        words = trend_words(trend)
        low, high = WHOLE.get(name, ("none 0", "full 1"))
        least, middle = (-1.0, "0") if name in WHOLE else (0.0, "0.5")
        ticks = {least: low, (least + 1) / 2: middle, 1.0: high}
        series = Series("mean of a month" if self.monthly else "each session", points, least, 1.0, ticks)
        what = "months" if self.monthly else "sessions"
        title = f"{name.replace('_', ' ').capitalize()} over time, {len(points)} {what}: {points[0][1]:.2f} on {self.day(points[0][0])} to {points[-1][1]:.2f} on {self.day(points[-1][0])}".replace(
            "-", "−"
        )
        told = (title, f"{words} Mean {fmean(v for _, v, _ in points):.2f}. All figures stand in the table under the charts.")
        chart = small_chart(f"emotion-{number}", series, self.frame, told) if len(points) >= CHARTED_FROM else None
        return EmotionPart(name.replace("_", " "), words, trend is not None, chart)

    @cached_property
    def rows(self) -> Sequence[Sequence[str]]:
        """A row for each session or month: its date, then each emotion that has a chart, with its interval."""
        names = self.shown
        found: dict[datetime, dict[str, str]] = defaultdict(dict)
        for name in names:
            for at, value, half in self._points(name):
                found[at][name] = f"{value:.2f}".replace("-", "−") + (f" ± {half:.2f}" if half is not None else "")
        return [
            [f"{at:%b %Y}" if self.monthly else self.day(at), *(found[at].get(name, "") for name in names)]
            for at in sorted(found)
        ]


def _mean_of(at: datetime, points: Sequence[Point]) -> Point:
    """The mean of a month. Its interval is that of the spread between sessions, which holds the error of each."""
    values = [value for _, value, _ in points]
    half = 1.96 * stdev(values) / sqrt(len(values)) if len(values) > 1 else points[0][2]
    return at, fmean(values), half


def trend_words(trend: EmotionalTrend | None) -> str:
    if trend is None:
        return "Not enough data for a trend."
    slow = abs(trend.slope_per_week) < SLOW  # tiny figures a week are told by the year
    times, unit, (low, high) = (WEEKS_A_YEAR, "year", trend.interval) if slow else (1.0, "week", trend.interval)
    known = f"95 % interval {low * times:+.2f} to {high * times:+.2f}".replace("-", "−") if (low, high) != (0.0, 0.0) else ""
    if known and low <= 0 <= high:
        return f"No clear trend (slope a {unit}, {known})."
    return f"{'Rises' if trend.slope_per_week > 0 else 'Falls'} by {abs(trend.slope_per_week * times):.2f} a {unit}{f' ({known})' if known else ''}."
