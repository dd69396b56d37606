"""The charts of the report: scores of a measure, goals, emotions. Each gives its drawing (wide and narrow) and the key to its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from attunement.progress import drawing
from attunement.progress.drawing import NARROW, WIDE, Canvas, Point
from attunement.progress.findings import MeasureTrend
from attunement.progress.measures import Measure
from attunement.progress.time_axis import Badge, Mark, TimeAxis, gaps

WEEK_SECONDS = 7 * 86400
MANY_MARKS, MANY_POINTS = 20, 160
MARK_LINES = {"mark": ("2 3", drawing.RULE, 1.0), "crisis": ("2 3", drawing.DANGER, 1.0), "change": ("8 3 2 3", drawing.INK, 1.3)}
"""Lanes of marks, the nearest to the plot first: dashes, colour and width of their lines."""
PLOT, SMALL, LANE, STRIP, AXIS = 216, 64, 21, 16, 34
"""Heights: of a measure's plot, of a small one, of a lane of marks, of the strip of sessions, of the labels of the time axis."""


@dataclass(frozen=True)
class SessionTick:
    at: datetime
    attended: bool
    crisis: bool


@dataclass(frozen=True)
class Frame:
    """What all charts of a report share: the span, and what stands on the time line."""

    axis: TimeAxis
    marks: Sequence[Mark]
    sessions: Sequence[SessionTick]

    def axis_for(self, left: float, right: float) -> TimeAxis:
        return TimeAxis(self.axis.start, self.axis.end, left, right, self.axis.zone)


@dataclass(frozen=True)
class Chart:
    """`svgs` are the wide and the narrow drawing; `key` says what each kind of line is: (code of the sample, words)."""

    svgs: Sequence[str]
    key: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Series:
    """Values over time with half the width of their 95 % interval, None where it is not known. `low` and `high` are the scale's ends."""

    name: str
    points: Sequence[tuple[datetime, float, float | None]]
    low: float
    high: float
    ticks: Mapping[float, str]


def score_chart(found: MeasureTrend, scale: Measure | None, frame: Frame, told: tuple[str, str]) -> Chart:
    """The scores of a measure; `told` are the title and the description of the drawing."""
    drawn = [_ScoreDrawing(found, scale, frame, width, told).draw() for width in (WIDE, NARROW)]
    return Chart([canvas.markup() for canvas, _ in drawn], drawn[0][1])


def small_chart(name: str, series: Series, frame: Frame, told: tuple[str, str], *, steps: bool = False) -> Chart:
    """One emotion or one goal; with `steps` a value holds until the next."""
    svgs = []
    for width in (WIDE, NARROW):
        left, right = (104, width - 16) if width == WIDE else (96, width - 10)
        canvas, axis, y = (
            Canvas(name, width, SMALL + AXIS + 12, *told),
            frame.axis_for(left, right),
            _vertical(series.low, series.high, 8, SMALL),
        )
        for value, label in series.ticks.items():
            canvas.line(left, y(value), right, y(value), colour="#c3cbd6", width=0.8)
            canvas.text(left - 6, y(value) + 4, label, anchor="end")
        points = [(axis.x(at), y(value)) for at, value, _ in series.points]
        for (_, value, half), (x, _) in zip(series.points, points, strict=True):
            if half is not None:
                ends = max(series.low, value - half), min(series.high, value + half)
                canvas.line(x, y(ends[0]), x, y(ends[1]), colour=drawing.TREND, width=1.2)
        line = [p for a, b in pairwise(points) for p in (a, (b[0], a[1]))] + points[-1:] if steps else points
        canvas.path(line, colour=drawing.SCORE, width=1.6)
        canvas.dots(points, _radius(len(points)))
        canvas.time_axis(axis, 8 + SMALL + 5)
        svgs.append(canvas.markup())
    bars = [("interval", "95 % interval of the estimate")] if any(half is not None for _, _, half in series.points) else []
    return Chart(svgs, [("score", series.name), *bars])


def _vertical(low: float, high: float, top: float, height: float) -> Callable[[float], float]:
    span = (high - low) or 1
    return lambda value: round(top + height * (high - min(high, max(low, value))) / span, 1)


def _radius(points: int) -> float:
    return 3.6 if points <= 60 else 2.4 if points <= MANY_POINTS else 1.4


class _ScoreDrawing:
    """One drawing of one measure's scores: grounds first, then lines, then the scores on top, marks above and sessions below."""

    def __init__(self, found: MeasureTrend, scale: Measure | None, frame: Frame, width: int, told: tuple[str, str]) -> None:
        self.found, self.scale, self.frame, self.width = found, scale, frame, width
        totals = [score.total for score in found.scores]
        self.low = scale.low if scale else min(totals)
        self.high = scale.high if scale else max(totals)
        lanes = {
            "mark": [mark for mark in frame.marks if not mark.crisis],
            "crisis": [mark for mark in frame.marks if mark.crisis],
            "change": [Mark(p.at, f"C{n}", "change", "") for n, p in enumerate(found.change_points, 1)],
        }
        self.left, self.right = 34.0, width - (148.0 if width == WIDE else 86.0)
        self.axis = frame.axis_for(self.left, self.right)
        self.lanes = [(kind, self.axis.badges(marks)) for kind, marks in lanes.items() if marks]
        self.crowded = len(lanes["mark"]) > MANY_MARKS
        self.top = 8.0 + LANE * len(self.lanes)
        self.bottom = self.top + PLOT
        self.y = _vertical(self.low, self.high, self.top, PLOT)
        self.canvas = Canvas(f"chart-{found.measure}", width, self.bottom + (STRIP if frame.sessions else 0) + AXIS, *told)
        self.points: list[Point] = [(self.axis.x(score.at), self.y(score.total)) for score in found.scores]
        self.key: list[tuple[str, str]] = []

    def draw(self) -> tuple[Canvas, Sequence[tuple[str, str]]]:
        self._bands()
        self._gaps()
        self._reliable()
        many = len(self.points) > MANY_POINTS
        if not many:
            self._trend()
        self._cutoff()
        for lane, (kind, badges) in reversed(list(enumerate(self.lanes, 1))):  # lines of the far lanes go behind the near ones
            self._marks(kind, badges, self.top - LANE * lane)
        self._scores()
        if many:  # the trend would not be seen under so many scores
            self._trend()
        self._sessions()
        return self.canvas, self.key

    def _bands(self) -> None:
        c, right = self.canvas, self.right
        bands = list(self.scale.bands) if self.scale else []
        severe = bands if self.scale is None or self.scale.higher_is_worse else bands[::-1]
        edges = sorted({self.low, self.high, *(band.low for band in bands)})
        for number, band in enumerate(severe):
            above = [edge for edge in edges if edge > band.low]
            top, bottom = self.y(min(above) if above else self.high), self.y(band.low)
            shade = drawing.BANDS[round(number * (len(drawing.BANDS) - 1) / max(1, len(severe) - 1))]
            c.rect((self.left, top, right - self.left, bottom - top), shade)
            lines = _wrapped(band.name, 20 if self.width == WIDE else 12)
            for n, line in enumerate(lines):
                c.text(right + 7, (top + bottom) / 2 + 4 + 12.5 * (n - (len(lines) - 1) / 2), line)
        labelled = -99.0
        for edge in edges:
            c.line(self.left - 4, self.y(edge), right, self.y(edge), colour=drawing.RULE if bands else "#c3cbd6", width=0.6)
            if abs(self.y(edge) - labelled) > 11:  # two limits may be too near for two numbers
                c.text(self.left - 7, self.y(edge) + 4, f"{edge:g}", anchor="end")
                labelled = self.y(edge)

    def _gaps(self) -> None:
        for before, after in gaps([score.at for score in self.found.scores]):
            x1, x2 = self.axis.x(before) + 3, self.axis.x(after) - 3
            self.canvas.rect((x1, self.top, x2 - x1, PLOT), drawing.GAP_FILL, opacity=0.22)
            if x2 - x1 > 60:
                self.canvas.text((x1 + x2) / 2, self.bottom - 6, "no score", anchor="middle", halo=True)

    def _reliable(self) -> None:
        change = self.found.change
        if change is None:
            return
        top, bottom = self.y(change.first + change.reliable), self.y(change.first - change.reliable)
        self.canvas.rect((self.left, top, self.right - self.left, bottom - top), drawing.RELIABLE_FILL, opacity=0.08)
        for edge in (change.first + change.reliable, change.first - change.reliable):
            if self.low <= edge <= self.high:
                y = self.y(edge)
                self.canvas.line(self.left, y, self.right, y, colour=drawing.RELIABLE, width=1.6, dash="1.5 4")
        words = f"within {change.reliable:.2f} of the first score ({change.first:g}): no reliable change"
        self.key.append(("reliable", words))

    def _cutoff(self) -> None:
        if self.scale is None:
            return
        y = self.y(self.scale.cutoff)
        self.canvas.line(self.left, y, self.right, y, colour=drawing.INK, width=1.6)
        # a label that scores would stand on is left out: the key says the same
        near = [
            min((abs(py - y + 8) for px, py in self.points if abs(px - end) < 76), default=99.0)
            for end in (self.left, self.right)
        ]
        if max(near) > 13:
            where, anchor = (self.left + 4, "start") if near[0] >= near[1] else (self.right - 4, "end")
            self.canvas.text(where, y - 4, f"cut-off {self.scale.cutoff:g}", anchor=anchor, colour=drawing.INK, halo=True)
        self.key.append(("cutoff", f"clinical cut-off, {self.scale.cutoff:g}"))

    def _trend(self) -> None:
        trend, scores = self.found.trend, self.found.scores
        if trend is None or len(scores) < 3:
            return
        weeks = [(score.at.timestamp() - scores[0].at.timestamp()) / WEEK_SECONDS for score in scores]
        middle = median(weeks)
        # Theil-Sen's line goes through the median of what is left when its slope is taken out
        level = median(score.total - trend.slope_per_week * (week - middle) for score, week in zip(scores, weeks, strict=True))
        x = {week: self.axis.x(score.at) for score, week in zip(scores, weeks, strict=True)}
        inside = self.canvas.clip((self.left, self.top, self.right - self.left, PLOT))
        pivot = (x[weeks[0]] + (x[weeks[-1]] - x[weeks[0]]) * (middle / weeks[-1] if weeks[-1] else 0), self._free(level))
        for end in (weeks[0], weeks[-1]):
            fan = [(x[end], self._free(level + slope * (end - middle))) for slope in trend.interval]
            self.canvas.area([pivot, *fan], drawing.TREND_FILL, 0.22, inside)
            for corner in fan:
                self.canvas.path([pivot, corner], colour=drawing.TREND, width=0.9, dash="2 2", into=inside)
        ends = [(x[end], self._free(level + trend.slope_per_week * (end - middle))) for end in (weeks[0], weeks[-1])]
        self.canvas.path(ends, colour=drawing.TREND, width=2.2, dash="9 5", into=inside)
        self.key.append(("trend", "trend with the 95 % interval of its slope"))

    def _free(self, value: float) -> float:
        """Where a value stands that may lie outside the scale; what does is cut by the plot's edge."""
        return round(self.top + PLOT * (self.high - value) / ((self.high - self.low) or 1), 1)

    def _marks(self, kind: str, badges: Sequence[Badge], y: float) -> None:
        """One lane of numbered marks. Many of the common kind get short lines, or nothing else would be seen."""
        dash, colour, width = MARK_LINES[kind]
        end = self.top + 8 if kind == "mark" and self.crowded else self.bottom
        for badge in badges:
            for x in badge.lines:
                self.canvas.line(x, y + 17, x, end, colour=colour, width=width, dash=dash)
        for badge in badges:
            fill, ink = (drawing.DANGER, "#ffffff") if kind == "crisis" else ("#ffffff", drawing.INK)
            edge = drawing.DANGER if kind == "crisis" else drawing.QUIET
            self.canvas.rect(
                (badge.x - badge.width / 2, y, badge.width, 17), fill, edge=edge, round_=0 if kind == "change" else 8
            )
            self.canvas.text(badge.x, y + 12.8, badge.text, anchor="middle", colour=ink, bold=kind == "crisis")

    def _scores(self) -> None:
        holes = {after for _, after in gaps([score.at for score in self.found.scores])}
        run: list[Point] = []
        width = 2.0 if len(self.points) <= MANY_POINTS else 1.0
        for score, point in zip(self.found.scores, self.points, strict=True):
            if score.at in holes:
                self.canvas.path(run, colour=drawing.SCORE, width=width)
                run = []
            run.append(point)
        self.canvas.path(run, colour=drawing.SCORE, width=width)
        self.canvas.dots(self.points, _radius(len(self.points)))
        self.key.insert(0, ("score", "score, each time it was filled in"))
        if holes:
            self.key.append(("gap", "grey, line broken: no score for much longer than usual"))

    def _sessions(self) -> None:
        y = self.bottom + STRIP if self.frame.sessions else self.bottom
        there = [(self.axis.x(s.at), s) for s in self.frame.sessions]
        ticks = "".join(f"M{x:g} {y - 11:g}v9" for x, s in there if s.attended)
        if ticks:
            self.canvas.add(
                "path",
                {
                    "d": ticks,
                    "stroke": drawing.QUIET,
                    "stroke-width": "1.3" if len(there) <= MANY_POINTS else "0.6",
                    "fill": "none",
                },
            )
            self.key.append(("session", "session held"))
        if missed := [(x, y - 6.5) for x, s in there if not s.attended]:
            self.canvas.dots(missed, 2.8, drawing.QUIET, hollow=True)
            self.key.append(("missed", "session missed"))
        for x in (x for x, s in there if s.crisis):
            self.canvas.area([(x - 5, y - 1.5), (x + 5, y - 1.5), (x, y - 12)], drawing.DANGER, 1)
        if any(s.crisis for _, s in there):
            self.key.append(("crisis", "session with a sign of danger"))
        self.canvas.time_axis(self.axis, y)


def _wrapped(text: str, room: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:3]
