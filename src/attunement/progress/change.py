"""Whether a change is real, and whether the course is as expected: one client, one measure (the rules in words: docs/change.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from attunement.progress.findings import (
    DETERIORATED,
    IMPROVED,
    RECOVERED,
    UNCHANGED,
    ExpectedResponse,
    MeasureScore,
    ReliableChange,
)
from attunement.progress.measures import Measure

WEEK = timedelta(weeks=1)
EXPECTED_SCORES = 4
"""So many scores before a course is compared with the expected one: at the third some who get well late look no different (Saunders 2019)."""
EXPECTED_Z = 1.2816
"""The worst tenth of those who began there is off track: the worse end of an 80 % band."""


def change_of(measure: Measure, first: float, last: float) -> ReliableChange:
    """Jacobson and Truax's verdict on two totals.

    Recovered: reliably better, from the clinical range to outside of it. Improved: reliably better. Deteriorated: reliably worse.
    """
    change = last - first
    better = -measure.worse * change
    if abs(change) <= measure.reliable:
        status = UNCHANGED
    elif better < 0:
        status = DETERIORATED
    else:
        status = RECOVERED if measure.is_clinical(first) and measure.is_recovered(last) else IMPROVED
    told = _change_told(measure, status, first, last)
    return ReliableChange(status, first, last, change, measure.reliable, measure.cutoff, told)


def _change_told(measure: Measure, status: str, first: float, last: float) -> str:
    points = abs(last - first)
    way = "no points" if not points else f"{points:g} {'point' if points == 1 else 'points'} {'up' if last > first else 'down'}"
    than = "more" if points > measure.reliable else "not more"
    words = f"From {first:g} to {last:g}: {way}, {than} than the {measure.reliable:.1f} that two fillings-in may differ by chance"
    if status == RECOVERED:
        words += f", and out of the clinical range (it {'begins' if measure.higher_is_worse else 'ends'} at {measure.cutoff:g})"
        if measure.recovered is not None:
            words += f" to {measure.recovered:g} or {'less' if measure.higher_is_worse else 'more'}"
    return f"{words}. {measure.default.explained()}"


def expected_response(measure: Measure, scores: Sequence[MeasureScore]) -> ExpectedResponse | str:
    """Whether the last score is as expected of somebody who began with the first one, or in words why that cannot be said.

    The band holds 80 % of them: the error of both scores, and how far people differ, which grows as the expected change comes.
    """
    course = measure.expected
    if course is None:
        return f"no expected course of {measure.code} is known"
    if len(scores) < EXPECTED_SCORES:
        return f"expected course: {len(scores)} of at least {EXPECTED_SCORES} scores"
    first, last = scores[0], scores[-1]
    weeks = (last.at - first.at) / WEEK
    if weeks > course.horizon_weeks:
        return f"expected course: it is known for {course.horizon_weeks:g} weeks, and these are {weeks:.0f}"
    if not measure.is_clinical(first.total):
        return f"expected course: known for those who begin in the clinical range, and {first.total:g} is outside"
    share = course.share(weeks)
    expected = first.total * share
    spread = course.spread * first.total * course.part(weeks)
    deviation = math.hypot(measure.error, share * measure.error, spread)
    low = max(measure.low, expected - EXPECTED_Z * deviation)
    high = min(measure.high, expected + EXPECTED_Z * deviation)
    on_track = last.total <= high if measure.higher_is_worse else last.total >= low
    told = (
        f"After {weeks:.0f} weeks {expected:.1f} is expected of somebody who began with {first.total:g}; eight in ten score "
        f"{low:.1f} to {high:.1f}, this client {last.total:g}: {'on' if on_track else 'not on'} track. Source: {course.sample} ({course.source})."
    )
    return ExpectedResponse(on_track, last.total, expected, (low, high), told)
