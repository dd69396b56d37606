"""True courses of invented clients: what a questionnaire would give without any error. Sizes and shares with sources: docs/change.md.

A course is made in standard deviations of the clinical group, so that every measure gets the same course in its own points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from attunement.progress.findings import IMPROVING, REGRESSING, STABLE
from attunement.progress.measures import Measure

KINDS: Mapping[str, tuple[str, float]] = {
    "gradual": (IMPROVING, 0.40),
    "sudden": (IMPROVING, 0.17),
    "steady": (STABLE, 0.27),
    "worse": (REGRESSING, 0.03),
    "blow": (REGRESSING, 0.03),
    "slight": (IMPROVING, 0.08),
    "slight_worse": (REGRESSING, 0.02),
}
"""What becomes of a client in a course of treatment, its class, and its share: nine tenths by Gyani 2013 (63.7 % reliably better, 6.6 %
reliably worse, the rest neither), three in ten of those better by a sudden gain; a tenth changes by less than matters (ours)."""
CLEAR = ("gradual", "sudden", "steady", "worse", "blow")
"""The kinds whose class is beyond doubt: stable within half of what matters to people, or changed by at least all of it."""
GAIN_MEAN, GAIN_SD = 1.31, 0.45
"""Of those who get better, in SD: 8.1 points of the PHQ-9, what the 4.66 points of all in Tickell 2019 need when 63.7 % get better."""
LOSS_MEAN, LOSS_SD = 1.20, 0.30
JUMP = (1.0, 1.4)
"""A sudden gain or a blow, in reliable changes. Tang and DeRubeis 1999: on average 11 points of the BDI."""
TURN_WEEKS = 10.36
"""Gradual change slows down and ends here: J Med Internet Res 2024, 26:e60502, table 5."""
START = {"phq9": (15.47, 3.5), "gad7": (13.2, 3.2), "pcl5": (45.0, 10.0)}
"""Mean and SD of true scores at the start: Tickell 2019 (SD less the error); J Med Internet Res 2022, 24:e29384; ours."""


@dataclass
class Course:
    """Times of sessions and the true change at each, in SD from the start (below 0 is better)."""

    kind: str
    times: list[datetime] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)
    """Places of the first session after a sudden move of at least one reliable change."""
    relapses: list[int] = field(default_factory=list)


def pick_kind(rng: Generator, shares: Mapping[str, float] | None = None) -> str:
    """A kind of course by its share."""
    weights = {kind: share for kind, (_, share) in KINDS.items()} if shares is None else shares
    names = list(weights)
    odds = np.array([weights[name] for name in names], dtype=float)
    return str(names[int(rng.choice(len(names), p=odds / odds.sum()))])


def session_times(rng: Generator, start: datetime, count: int, gap_days: float) -> list[datetime]:
    """`count` sessions about `gap_days` apart, in working hours, with a break of two or three weeks now and then."""
    times, day = list[datetime](), 0.0
    hour = int(rng.integers(9, 18))
    for _ in range(count):
        at = (start + timedelta(days=round(day))).replace(
            hour=hour, minute=int(rng.choice([0, 15, 30, 45])), second=0, microsecond=0
        )
        times.append(at)
        day += max(2.0, gap_days * float(rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 2, 3])) + float(rng.integers(-1, 2)))
    return times


def treatment(
    rng: Generator, kind: str, times: list[datetime], measure: Measure, room: float = math.inf
) -> tuple[list[float], list[int]]:
    """The true change at each time of one course of treatment, in SD, and the places of its jumps. No more than `room` SD better."""
    n = len(times)
    weeks = np.array([(at - times[0]) / timedelta(weeks=1) for at in times])
    important, reliable = measure.important / measure.default.sd, measure.reliable / measure.default.sd
    if kind in ("sudden", "blow"):
        return _jump(rng, kind, n, reliable, room)
    if kind == "steady":
        end = _drawn(rng, 0.0, important / 4, -important / 2, important / 2)
    elif kind in ("slight", "slight_worse"):
        end = float(rng.uniform(important / 2, important)) * (-1 if kind == "slight" else 1)
    elif kind == "worse":
        end = _drawn(rng, LOSS_MEAN, LOSS_SD, important, 3.0)
    else:
        end = -_drawn(rng, GAIN_MEAN, GAIN_SD, important, max(important, room))
    turn = min(TURN_WEEKS, weeks[-1]) if kind in ("gradual", "slight") else weeks[-1]
    part = np.minimum(weeks / turn, 1.0) if turn else np.zeros(n)
    grown = 1 - (1 - part) ** 2 if kind in ("gradual", "slight") else part
    return [float(value) for value in end * grown], []


def _jump(rng: Generator, kind: str, n: int, reliable: float, room: float) -> tuple[list[float], list[int]]:
    """A level, and from one session to the next another one; a little more of the same comes slowly."""
    place = int(rng.integers(3, max(4, n - 3)))
    size = reliable * float(rng.uniform(*JUMP))
    slow = size * float(rng.uniform(0, 0.3))
    if kind == "sudden":
        size, slow = min(size, room), min(slow, max(0.0, room - size))
    at = np.arange(n)
    moved = size * (at >= place) + slow * at / max(n - 1, 1)
    return [float(value) for value in (-moved if kind == "sudden" else moved)], [place] if size >= reliable else []


def _drawn(rng: Generator, mean: float, sd: float, low: float, high: float) -> float:
    """A normal draw within bounds; the nearer bound where a hundred draws fall outside."""
    for value in rng.normal(mean, sd, 100):
        if low <= value <= high:
            return float(value)
    return float(min(max(mean, low), high))


def true_scores(measure: Measure, start: float, shift: NDArray[np.float64], strength: float = 1.0) -> NDArray[np.float64]:
    """The course in points of a measure, from `start`, a little inside its ends; `strength` 0-1 is how far this measure follows."""
    width = measure.high - measure.low
    points: NDArray[np.float64] = start + measure.worse * strength * shift * measure.default.sd
    return np.clip(points, measure.low + 0.02 * width, measure.high - 0.02 * width)


def filled_in(rng: Generator, measure: Measure, true: NDArray[np.float64], correlation: float = 0.0) -> NDArray[np.int64]:
    """What clients tick: the true score with the measure's error, whole points within its range.

    `correlation` of one error with the next: 0 is what the reliability says; more means good and bad weeks that nobody calls change.
    """
    noise = rng.normal(0.0, 1.0, len(true))
    if correlation:
        for place in range(1, len(noise)):
            noise[place] = correlation * noise[place - 1] + math.sqrt(1 - correlation**2) * noise[place]
    return np.clip(np.rint(true + measure.error * noise), measure.low, measure.high).astype(np.int64)


def ticks(rng: Generator, measure: Measure, totals: NDArray[np.int64], weights: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Answers that give each total: so many of all steps of all items, without putting any back, by the items' weights."""
    values = sorted(answer.value for answer in measure.answers)
    least, most, items = values[0], values[-1], len(measure.items)
    steps = most - least
    odds = np.repeat(np.log(weights), steps) + rng.gumbel(size=(len(totals), steps * items))
    order = np.argsort(np.argsort(-odds, axis=1), axis=1)
    taken = order < (totals - least * items)[:, np.newaxis]
    counts = taken.reshape(len(totals), items, steps).sum(axis=2) + least
    reverse = np.array([item.reverse for item in measure.items])
    counts[:, reverse] = least + most - counts[:, reverse]
    return [tuple(row) for row in counts.tolist()]
