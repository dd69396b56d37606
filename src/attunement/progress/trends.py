"""What is found in a client's scores, by stated rules (in words: docs/change.md), and the sentences that say the evidence.

A trajectory says which way the scores go by more than their own unreliability; it never says why. The numbers are in `statistics.py`, the
verdicts on single changes in `change.py`. The constants were chosen on simulated clients whose seeds no reported figure uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from attunement.errors import DataError
from attunement.progress import statistics
from attunement.progress.change import change_of, expected_response
from attunement.progress.findings import (
    DETERIORATED,
    IMPROVING,
    NOT_ENOUGH,
    REGRESSING,
    STABLE,
    ChangePoint,
    MeasureScore,
    MeasureTrend,
    Plateau,
    Season,
    Trend,
    TrendAnalysis,
)
from attunement.progress.measures import Measure
from attunement.records import EmotionalState, EmotionalTrend

if TYPE_CHECKING:
    from attunement.progress.statistics import Line, Series

WEEK = timedelta(weeks=1)
TREND_SCORES, TREND_WEEKS = 5, 3.0
"""Fewer scores, or all of them within less time, and there is no trajectory."""
BETTER_Z, WORSE_Z = 1.645, 1.96
"""The fitted change must be more than so many standard errors: its 90 % interval lies below 0 for better, its 95 % interval above it for
worse. Worse asks for more because people who drift a little within what matters to nobody would be called worse too often (more than 1 in 20),
and because the expected course warns of nearly all of them before."""
POINTS_SCORES, LEVEL_SCORES = 8, 3
"""Change points are looked for from so many scores on; a level lasts at least so many."""
POINTS_PENALTY, LINE_BONUS, BEND_BONUS = (2.5, 2.0), 8.0, 10.0
"""A level more costs 2.5 + 2 ln n squared errors; levels must also beat a straight and a bent line by more than these allow."""
RECENT_WEEKS = 26.0
"""A reliable move to a new level within so many weeks of the last score decides the trajectory, whatever the slope of it all."""
PLATEAU_SCORES, PLATEAU_WEEKS = 8, 12.0
"""A plateau needs so many scores, and a slope that surely gives less than a reliable change over it, or over so many weeks if it is shorter."""
SEASON_SCORES, SEASON_YEARS, SEASON_MONTHS, SEASON_P = 24, 2.0, 8, 0.01
EMOTION_STATES, EMOTION_POINTS = 5, 100
"""An emotion's trend needs so many states; of more than 100 neighbours are averaged."""
PAIR_POINTS = 1000
"""Of more scores than this neighbours are averaged before pairs are made: a score a day for years says no more than a score a week."""
WAITING = (
    "A change is not the effect of a treatment. Most people who seek help at their worst get better without any: on a waiting list alone "
    "the PHQ-9 fell from 13.6 to 7.0 in 16 weeks."
)


def analyze(scores: Sequence[MeasureScore], measure: Measure, sessions: Sequence[tuple[str, datetime]] = ()) -> MeasureTrend:
    """All that is found in the scores of one measure, in any order. `sessions` are ids with their times, for change points.

    DataError where a score is of another measure, outside its range, or its time has no zone.
    """
    ordered = _checked(scores, measure)
    if not ordered:
        return MeasureTrend(measure.code, (), NOT_ENOUGH, (f"There is no score of {measure.title}.",), not_enough=("no score",))
    t = np.array([(one.at - ordered[0].at) / WEEK for one in ordered])
    y = np.array([one.total for one in ordered], dtype=np.float64)
    found = MeasureTrend(measure.code, ordered, NOT_ENOUGH)
    missing = list[str]()
    if len(ordered) >= 2:
        found = replace(found, change=change_of(measure, y[0].item(), y[-1].item()))
    else:
        missing.append("reliable change: 1 of at least 2 scores")
    expected = expected_response(measure, ordered)
    found = replace(found, expected=None if isinstance(expected, str) else expected)
    if isinstance(expected, str):
        missing.append(expected)
    found, fitted = _with_trend(found, measure, t, y, missing)
    found = _with_points(found, measure, t, y, sessions, missing)
    found = _with_plateaus(found, measure, t, y, missing)
    found = _with_season(found, measure, t, y, missing)
    trajectory, why = _trajectory(found, measure, t, y, fitted)
    evidence = [why, *_evidence(found, measure)]
    return replace(found, trajectory=trajectory, evidence=tuple(evidence), not_enough=tuple(missing))


def _checked(scores: Sequence[MeasureScore], measure: Measure) -> tuple[MeasureScore, ...]:
    for one in scores:
        if one.measure != measure.code:
            raise DataError(f"a score of {one.measure!r} among those of {measure.code!r}: give each measure its own series")
        if one.at.tzinfo is None:
            raise DataError(f"{measure.code}: the score of {one.at.isoformat()} has no time zone; give one, such as +00:00")
        measure.of_total(one.total)
    return tuple(sorted(scores, key=lambda one: (one.at, measure.worse * one.total)))


# --- trend and trajectory -------------------------------------------------------------------------


def _with_trend(
    found: MeasureTrend, measure: Measure, t: Series, y: Series, missing: list[str]
) -> tuple[MeasureTrend, Line | None]:
    """The Theil-Sen slope with Mann and Kendall's test, and the line that decides the trajectory."""
    if len(t) < TREND_SCORES:
        missing.append(f"trend: {len(t)} of at least {TREND_SCORES} scores")
        return found, None
    if t[-1] - t[0] < TREND_WEEKS:
        missing.append(f"trend: {len(t)} scores within {t[-1] - t[0]:.1f} of at least {TREND_WEEKS:g} weeks")
        return found, None
    pairs = statistics.Pairs(*_thinned(t, y, PAIR_POINTS))
    slope, test = pairs.theil_sen(), pairs.mann_kendall()
    if slope is None:  # three weeks and more apart, so there are two times
        raise AssertionError
    trend = Trend(slope.slope, (slope.low, slope.high), test.tau, test.p, len(t))
    return replace(found, trend=trend), statistics.guarded_line(t, y, slope, measure.error)


def _thinned(t: Series, y: Series, most: int) -> tuple[Series, Series]:
    """Means of neighbours, so that at most `most` are left."""
    if len(t) <= most:
        return t, y
    edges = np.linspace(0, len(t), most + 1).astype(np.int64)[:-1]
    counts = np.diff(np.append(edges, len(t)))
    return np.add.reduceat(t, edges) / counts, np.add.reduceat(y, edges, axis=0) / (
        counts if y.ndim == 1 else counts[:, np.newaxis]
    )


def _trajectory(found: MeasureTrend, measure: Measure, t: Series, y: Series, fitted: Line | None) -> tuple[str, str]:
    """The trajectory and the sentence that says why: first a reliable move of late, then the fitted change."""
    if fitted is None:
        return NOT_ENOUGH, f"Too little to say which way it goes: {_few(t)}."
    moved = _moved_of_late(found, measure)
    if moved is not None:
        step = moved.after - moved.before
        way = REGRESSING if measure.worse * step > 0 else IMPROVING
        return way, (
            f"The level moved from {moved.before:.1f} to {moved.after:.1f} about {_day(moved.at)}, {abs(step):.1f} points "
            f"{_way(measure, step)}: more than the {measure.reliable:.1f} that are reliable."
        )
    weeks = float(t[-1] - t[0])
    change = fitted.slope * weeks
    level, z = (95, WORSE_Z) if measure.worse * change > 0 else (90, BETTER_Z)
    half = z * fitted.error * weeks
    told = f"{len(t)} scores over {weeks:.0f} weeks: fitted change {change:+.1f} points ({level} % interval {change - half:+.1f} to {change + half:+.1f})"
    if abs(change) <= half:
        return STABLE, f"{told}: within the error of the measure."
    if abs(change) < measure.important / 2:
        return STABLE, f"{told}: sure, but less than half of the {measure.important:g} points that matter to people."
    return (
        REGRESSING if measure.worse * change > 0 else IMPROVING
    ), f"{told}: {_way(measure, change)}, by more than the measure's error."


def _few(t: Series) -> str:
    return f"{len(t)} scores over {t[-1] - t[0]:.1f} weeks, and {TREND_SCORES} over {TREND_WEEKS:g} weeks are needed"


def _moved_of_late(found: MeasureTrend, measure: Measure) -> ChangePoint | None:
    if not found.change_points:
        return None
    last = found.change_points[-1]
    late = (found.scores[-1].at - last.at) / WEEK <= RECENT_WEEKS
    return last if late and abs(last.after - last.before) > measure.reliable else None


# --- change points, plateaus, season --------------------------------------------------------------


def _with_points(
    found: MeasureTrend, measure: Measure, t: Series, y: Series, sessions: Sequence[tuple[str, datetime]], missing: list[str]
) -> MeasureTrend:
    if len(t) < POINTS_SCORES:
        missing.append(f"change points: {len(t)} of at least {POINTS_SCORES} scores")
        return found
    places = _places(measure, t, y)
    means = statistics.level_means(y, places)
    points = []
    for number, place in enumerate(places):
        between = (found.scores[place - 1].at, found.scores[place].at)
        around = tuple(name for name, at in sorted(sessions, key=lambda pair: pair[1]) if between[0] <= at <= between[1])
        points.append(ChangePoint(between[1], between, means[number], means[number + 1], around))
    return replace(found, change_points=tuple(points))


def _places(measure: Measure, t: Series, y: Series) -> list[int]:
    """Where levels begin: by PELT, where levels say more than a straight or a bent line, and differ by what matters to people."""
    fixed, growing = POINTS_PENALTY
    penalty = fixed + growing * math.log(len(y))
    places = statistics.change_points(y, measure.error, penalty=penalty, least=LEVEL_SCORES)
    if not places:
        return []
    unit = measure.error**2
    straight, bent = statistics.bent_errors(t, y)
    cost = statistics.squared_error(y, places) / unit + penalty * len(places)
    if cost > min(straight / unit + LINE_BONUS, bent / unit + BEND_BONUS):
        return []
    while places:
        means = statistics.level_means(y, places)
        steps = [abs(after - before) for before, after in pairwise(means)]
        least = int(np.argmin(steps))
        if steps[least] >= measure.important:
            break
        places.pop(least)
    return places


def _with_plateaus(found: MeasureTrend, measure: Measure, t: Series, y: Series, missing: list[str]) -> MeasureTrend:
    """The longest flat end of each level."""
    if len(t) < PLATEAU_SCORES:
        missing.append(f"plateau: {len(t)} of at least {PLATEAU_SCORES} scores")
        return found
    times = [one.at for one in found.scores]
    places = {one.at: place for place, one in reversed(list(enumerate(found.scores)))}  # of scores at one time the first
    starts = [places[point.at] for point in found.change_points]
    plateaus = []
    for start, end in zip([0, *starts], [*starts, len(t)], strict=True):
        flat = statistics.plateau_start(
            t[start:end], y[start:end], measure.error, change=measure.reliable, weeks=PLATEAU_WEEKS, least=PLATEAU_SCORES
        )
        if flat is not None:
            first = start + flat[0]
            mean = float(y[first:end].mean())
            plateaus.append(Plateau(times[first], times[end - 1], mean, (flat[1], flat[2]), flat[3], end - first))
    return replace(found, plateaus=tuple(plateaus))


def _with_season(found: MeasureTrend, measure: Measure, t: Series, y: Series, missing: list[str]) -> MeasureTrend:
    """A yearly wave: sure (p < 0.01) and as high as the measure's error."""
    years = float(t[-1] - t[0]) / statistics.WEEKS_A_YEAR
    months = {one.at.month for one in found.scores}
    if len(t) < SEASON_SCORES or years < SEASON_YEARS or len(months) < SEASON_MONTHS:
        missing.append(
            f"season: {len(t)} scores over {years:.1f} years in {len(months)} months of the year; "
            f"{SEASON_SCORES} over {SEASON_YEARS:g} years in {SEASON_MONTHS} are needed"
        )
        return found
    days = np.array([one.at.timetuple().tm_yday - 0.5 for one in found.scores])
    wave = statistics.yearly(t, y, days)
    if wave is None or wave.p >= SEASON_P or wave.amplitude < measure.error:
        return found
    half = 1.96 * wave.error
    interval = (max(0.0, wave.amplitude - half), wave.amplitude + half)
    return replace(found, season=Season(wave.high_month, wave.low_month, wave.amplitude, interval, wave.p, years))


# --- words ----------------------------------------------------------------------------------------

_MONTHS = ("January February March April May June July August September October November December").split()


def _day(at: datetime) -> str:
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def _way(measure: Measure, change: float) -> str:
    return "worse" if measure.worse * change > 0 else "better"


def _evidence(found: MeasureTrend, measure: Measure) -> list[str]:
    """A sentence with figures for each finding."""
    lines, scores = list[str](), found.scores
    lines.append(
        f"{measure.title}: last {scores[-1].total:g} on {_day(scores[-1].at)} ({measure.band(scores[-1].total)}), {len(scores)} in all."
    )
    if found.change is not None:
        lines.append(f"{found.change.status.capitalize()}. {found.change.explanation}")
    if found.trend is not None:
        low, high = found.trend.interval
        lines.append(
            f"Slope {found.trend.slope_per_week:+.2f} points a week (Theil-Sen, 95 % interval {low:+.2f} to {high:+.2f}); "
            f"Mann-Kendall tau {found.trend.tau:+.2f}, p = {found.trend.p:.3f}."
        )
    if found.expected is not None:
        lines.append(found.expected.explanation)
    lines += [
        f"The level moved from {point.before:.1f} to {point.after:.1f} between {_day(point.between[0])} and {_day(point.between[1])}."
        for point in found.change_points
    ]
    lines += [
        f"Level from {_day(flat.start)} to {_day(flat.end)} at {flat.mean:.1f}: the slope (90 % interval {flat.interval[0]:+.2f} to "
        f"{flat.interval[1]:+.2f} a week) is surely within {flat.margin:.3f} on both sides of none ({flat.points} scores)."
        for flat in found.plateaus
    ]
    if found.season is not None:
        season = found.season
        lines.append(
            f"Yearly course over {season.years:.1f} years: highest in {_MONTHS[season.high_month - 1]}, lowest in "
            f"{_MONTHS[season.low_month - 1]}, {season.amplitude:.1f} points to each side (p = {season.p:.4f})."
        )
    return lines


# --- emotions and the whole -----------------------------------------------------------------------


def emotional_trends(states: Sequence[tuple[datetime, EmotionalState]]) -> list[EmotionalTrend]:
    """Theil-Sen slope a week with its 95 % interval for each emotion, valence and arousal; none with fewer than 5 states in 3 weeks.

    An emotion that a state does not name counts as 0 there.
    """
    ordered = sorted(states, key=lambda pair: pair[0])
    if len(ordered) < EMOTION_STATES or (ordered[-1][0] - ordered[0][0]) / WEEK < TREND_WEEKS:
        return []
    names = sorted({name for _, state in ordered for name in state.emotions})
    t = np.array([(at - ordered[0][0]) / WEEK for at, _ in ordered])
    table = np.array([[*(state.emotions.get(name, 0.0) for name in names), state.valence, state.arousal] for _, state in ordered])
    t, table = _thinned(t, table, EMOTION_POINTS)
    found = list[EmotionalTrend]()
    for name, column in zip([*names, "valence", "arousal"], table.T, strict=True):
        slope = statistics.Pairs(t, np.ascontiguousarray(column)).theil_sen()
        if slope is not None:
            found.append(EmotionalTrend(name, slope.slope, (slope.low, slope.high)))
    return found


def overall(
    client_id: str, sessions_count: int, measures: Sequence[MeasureTrend], emotions: Sequence[EmotionalTrend] = ()
) -> TrendAnalysis:
    """One trajectory of several measures, by the first of these that holds.

    Regressing: half or more of those that can be judged regress, or one does whose last score is also reliably worse than its first (with
    several measures one of them says worse by chance too often). Improving: any improves and none regresses: a worsening must not hide behind
    another measure's improvement. Stable: any is stable, or regresses alone.
    Emotions do not decide it: they are a model's estimate and not a questionnaire.
    """
    judged = [one for one in measures if one.trajectory != NOT_ENOUGH]
    worse = [one for one in judged if one.trajectory == REGRESSING]
    sure = any(one.change is not None and one.change.status == DETERIORATED for one in worse)
    if worse and (sure or 2 * len(worse) >= len(judged)):
        trajectory = REGRESSING
    elif not worse and any(one.trajectory == IMPROVING for one in judged):
        trajectory = IMPROVING
    else:
        trajectory = STABLE if judged else NOT_ENOUGH
    evidence = [f"{one.measure}: {one.trajectory.replace('_', ' ')}. {one.evidence[0]}" for one in measures if one.evidence]
    return TrendAnalysis(
        client_id,
        sessions_count,
        trajectory,
        tuple(measures),
        tuple(emotions),
        tuple(evidence),
        tuple(_caveats(measures, emotions)),
    )


def _caveats(measures: Sequence[MeasureTrend], emotions: Sequence[EmotionalTrend]) -> list[str]:
    caveats = []
    if not measures:
        caveats.append("There is no questionnaire: which way it goes cannot be said from sessions alone.")
    if any(one.trajectory == IMPROVING or (one.change is not None and one.change.change) for one in measures):
        caveats.append(WAITING)
    ways = {one.trajectory for one in measures}
    if {IMPROVING, REGRESSING} <= ways:
        caveats.append("The measures go different ways: read each of them.")
    if any(one.change is not None and one.change.status == DETERIORATED for one in measures):
        caveats.append(
            "Reliably worse means more than chance, not why: look for what happened before asking what to do about it."
        )
    if any(one.trajectory not in (NOT_ENOUGH,) for one in measures):
        caveats.append(
            "Of 20 clients whose state does not change about one is called worse by chance, and more where good and bad weeks come in runs."
        )
    if any(score.prorated for one in measures for score in one.scores):
        caveats.append("Some questionnaires had unanswered items, which count as the mean of the others.")
    if emotions:
        caveats.append(
            "Emotions are a model's estimate from the client's words, no measurement; they do not decide the trajectory."
        )
    return caveats
