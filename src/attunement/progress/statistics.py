"""The statistics of a series of scores: slope, test of a trend, change points, plateau, season. Arrays in, plain values out; nothing clinical.

`t` are times in weeks, rising or equal, `y` the scores beside them, both float64 of length n. `error` is the standard error of measurement of
a score. The rules that use these figures stand in `trends.py`, the references that they equal in `benchmarks/progress.py` (part `references`).
Speed: all of it is vectorised; only pairs of scores cost n x n (2 MB and about 5 ms each at n = 500).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Series = NDArray[np.float64]

WEEKS_A_YEAR = 365.2425 / 7
GUARD = 2.5
"""A score further from the Theil-Sen line than so many errors counts as so many: one terrible day must not make a slope."""
BEND_SCORES = 8
"""From so many scores on a bend can be told from scatter."""
KNOTS = 60
"""So many places are tried for the bend of a bent line."""


@dataclass(frozen=True)
class Slope:
    """Theil and Sen's slope, its intercept at t = 0 and the interval of the slope (Sen 1968, as `scipy.stats.theilslopes`)."""

    slope: float
    intercept: float
    low: float
    high: float


@dataclass(frozen=True)
class Tendency:
    """Mann and Kendall's test. `s` is pairs that rise less pairs that fall, `tau` its share of all pairs, `p` two-sided."""

    s: float
    tau: float
    z: float
    p: float


@dataclass(frozen=True)
class Line:
    """A straight line by least squares: slope with its standard error, and the residual standard deviation."""

    slope: float
    error: float
    residual: float


@dataclass(frozen=True)
class Yearly:
    """A yearly wave beside a straight line: `amplitude` with standard error, month (1-12) of the top and of the bottom, p of an F-test."""

    amplitude: float
    error: float
    high_month: int
    low_month: int
    p: float


class Pairs:
    """All pairs of a series, once: the differences that Theil-Sen and Mann-Kendall both need."""

    def __init__(self, t: Series, y: Series) -> None:
        first, second = _pairs(len(t))
        self.t, self.y = t, y
        self.apart, self.differ = t[second] - t[first], y[second] - y[first]

    def theil_sen(self, confidence: float = 0.95) -> Slope | None:
        """The median slope; None where all times are the same. As `scipy.stats.theilslopes(y, t, confidence)`, intercept included."""
        later = self.apart > 0
        slopes = (self.differ if later.all() else self.differ[later]) / (self.apart if later.all() else self.apart[later])
        count = len(slopes)
        if not count:
            return None
        variance = (_ties(len(self.t)) - _tied(self.t) - _tied(self.y)) / 18
        places = {(count - 1) // 2, count // 2}
        from scipy.special import ndtri

        half = -float(ndtri((1 - confidence) / 2)) * math.sqrt(max(variance, 0.0))
        upper = min(round((count + half) / 2), count - 1)
        lower = max(round((count - half) / 2) - 1, 0)
        slopes.partition(sorted(places | {lower, upper}))
        middle = float(np.mean(slopes[sorted(places)]))
        intercept = float(np.median(self.y) - middle * np.median(self.t))
        return Slope(middle, intercept, float(slopes[lower]), float(slopes[upper]))

    def mann_kendall(self) -> Tendency:
        """The test of a trend for any spacing, with the variance for ties in scores and in times; equal times count as no pair."""
        n = len(self.t)
        signs = np.sign(self.differ)
        s = float(signs.sum() if (self.apart > 0).all() else signs[self.apart > 0].sum())
        variance = _kendall_variance(self.t, self.y)
        z = 0.0 if not s or variance <= 0 else (s - math.copysign(1, s)) / math.sqrt(variance)
        return Tendency(s, s / (n * (n - 1) / 2) if n > 1 else 0.0, z, _two_sided(z))


@lru_cache(maxsize=16)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of both members of all pairs, the earlier first; those of 16 lengths are kept (2 MB at n = 500)."""
    return np.triu_indices(n, 1)


def _ties(n: int | NDArray[np.int64]) -> Any:
    return n * (n - 1) * (2 * n + 5)


def _counts(values: Series) -> NDArray[np.int64]:
    return np.unique(values, return_counts=True)[1].astype(np.int64)


def _tied(values: Series) -> float:
    return float(_ties(_counts(values)).sum())


def _kendall_variance(t: Series, y: Series) -> float:
    """Variance of S without a trend (Kendall 1970), ties in both; without ties in the times it is Mann and Kendall's."""
    n, x, z = len(t), _counts(t), _counts(y)
    variance = float(_ties(n) - _ties(x).sum() - _ties(z).sum()) / 18
    if len(x) < n and n > 2:
        threes = float((x * (x - 1) * (x - 2)).sum()) * float((z * (z - 1) * (z - 2)).sum()) / (9 * n * (n - 1) * (n - 2))
        twos = float((x * (x - 1)).sum()) * float((z * (z - 1)).sum()) / (2 * n * (n - 1))
        variance += threes + twos
    return variance


def _two_sided(z: float) -> float:
    return math.erfc(abs(z) / math.sqrt(2))


def line(t: Series, y: Series) -> Line:
    """The straight line by least squares; the slope's error is infinite where it cannot be had."""
    n, across = len(t), t - t.mean()
    spread = float(across @ across)
    if spread <= 0 or n < 3:
        return Line(0.0, math.inf, math.inf)
    slope = float(across @ y) / spread
    left = y - y.mean() - slope * across
    residual = math.sqrt(float(left @ left) / (n - 2))
    return Line(slope, residual / math.sqrt(spread), residual)


def guarded_line(t: Series, y: Series, start: Slope, error: float) -> Line:
    """The line by least squares after scores far from the line `start` were drawn in to `GUARD` errors: one step of an M-estimate.

    About as exact as least squares where errors are normal (Theil-Sen needs a tenth more scores at n = 12), and as unmoved by outliers as
    Theil-Sen. Its error is of the scatter about the best line with one bend, for a change that slows down is no error, or of `error`,
    whichever is greater.
    """
    near = start.intercept + start.slope * t
    drawn = near + np.clip(y - near, -GUARD * error, GUARD * error)
    fitted = line(t, drawn)
    if not math.isfinite(fitted.error):
        return fitted
    scatter = fitted.residual
    if len(t) >= BEND_SCORES:
        scatter = math.sqrt(bent_errors(t, drawn)[1] / (len(t) - 4))
    spread = float(((t - t.mean()) ** 2).sum())
    return Line(fitted.slope, max(scatter, error) / math.sqrt(spread), scatter)


def bent_errors(t: Series, y: Series) -> tuple[float, float]:
    """What a straight line leaves over (sum of squares), and the best line with one bend (least squares, `KNOTS` places tried)."""
    base, _ = np.linalg.qr(np.column_stack([np.ones(len(t)), t - t.mean()]))
    left = y - base @ (base.T @ y)
    straight = float(left @ left)
    inner = np.unique(t)[2:-2]
    if not len(inner):
        return straight, straight
    knots = inner[np.linspace(0, len(inner) - 1, min(len(inner), KNOTS)).astype(np.int64)]
    hinges = np.maximum(t[:, np.newaxis] - knots, 0)
    hinges -= base @ (base.T @ hinges)
    norms = (hinges * hinges).sum(axis=0)
    usable = norms > 1e-9
    gains = (hinges[:, usable].T @ left) ** 2 / norms[usable]
    return straight, max(0.0, straight - float(gains.max(initial=0.0)))


# --- change points --------------------------------------------------------------------------------


def change_points(y: Series, error: float, *, penalty: float, least: int) -> list[int]:
    """Places where a new level begins, by PELT with squared error (Killick 2012; `ruptures`' C version).

    A level more must lower the squared error by `penalty` times the square of `error`; every level lasts at least `least` scores.
    """
    if len(y) < 2 * least:
        return []
    from ruptures.detection import KernelCPD

    scaled = np.ascontiguousarray(((y - y.mean()) / error)[:, np.newaxis])
    found = KernelCPD(kernel="linear", min_size=least).fit(scaled).predict(pen=penalty)
    return [int(place) for place in found[:-1]]


def level_means(y: Series, places: list[int]) -> list[float]:
    """Mean of each level between change points."""
    edges = [0, *places, len(y)]
    return [float(y[start:end].mean()) for start, end in pairwise(edges)]


def squared_error(y: Series, places: list[int]) -> float:
    """What the levels leave over: the sum of squared distances to their means."""
    edges = [0, *places, len(y)]
    return float(sum(((y[a:b] - y[a:b].mean()) ** 2).sum() for a, b in pairwise(edges)))


# --- plateau --------------------------------------------------------------------------------------


def plateau_start(
    t: Series, y: Series, error: float, *, change: float, weeks: float, least: int
) -> tuple[int, float, float, float] | None:
    """The longest end of a series whose slope is equivalent to none: (its first place, low, high, margin), or None.

    Two one-sided tests of 5 %: the 90 % interval of the least-squares slope lies within the margin on both sides of 0. The margin gives less
    than `change` over the stretch, or over `weeks` where it is shorter. The slope's standard error is of the scatter that is there or of
    `error`, whichever is greater. All ends of at least `least` scores are looked at, the longest first.
    """
    n = len(t)
    if n < least:
        return None
    from scipy.stats import t as student

    # Sums over each end of the series, from the last score backwards: one pass for all ends.
    x, z = t - t[-1], y - y.mean()
    count = np.arange(n, 0, -1, dtype=np.float64)
    sums = [np.cumsum(part[::-1])[::-1] for part in (x, z, x * x, x * z, z * z)]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = sums[2] - sums[0] ** 2 / count
        slope = (sums[3] - sums[0] * sums[1] / count) / spread
        left = np.maximum(sums[4] - sums[1] ** 2 / count - slope**2 * spread, 0)
        scatter = np.maximum(np.sqrt(left / (count - 2)), error)
        half = student.ppf(0.95, np.maximum(count - 2, 1)) * scatter / np.sqrt(spread)
        margin = change / np.maximum(-x, weeks)
        within = (np.abs(slope) + half < margin) & (count >= least) & (spread > 0)
    places = np.flatnonzero(within)
    if not len(places):
        return None
    start = int(places[0])
    return start, float(slope[start] - half[start]), float(slope[start] + half[start]), float(margin[start])


# --- season ---------------------------------------------------------------------------------------


def yearly(t: Series, y: Series, day_of_year: Series) -> Yearly | None:
    """A wave of one year beside a straight line, by least squares. None where the times do not tell the two apart.

    The F-test counts only as many scores as are worth one of their own: n (1 - a) / (1 + a), a the residuals' correlation from one score
    to the next where it is positive, for a low that lasts weeks is no season.
    """
    from scipy.stats import f as fisher

    n = len(t)
    angle = 2 * np.pi * day_of_year / 365.2425
    plain = np.column_stack([np.ones(n), t - t.mean()])
    design = np.column_stack([plain, np.cos(angle), np.sin(angle)])
    if np.linalg.matrix_rank(design) < 4:
        return None
    fit = np.linalg.lstsq(design, y, rcond=None)[0]
    left = y - design @ fit
    without = y - plain @ np.linalg.lstsq(plain, y, rcond=None)[0]
    full, null = float(left @ left), float(without @ without)
    if full <= 1e-12 * max(null, 1e-300):
        correlation, full = 0.0, max(full, 1e-12 * null)
    else:
        correlation = min(max(float(left[1:] @ left[:-1]) / full, 0.0), 0.99)
    worth = n * (1 - correlation) / (1 + correlation)
    free = worth - 4
    if free <= 0 or null <= 0:
        return None
    p = float(fisher.sf((null - full) / 2 / (full / free), 2, free)) if null > full else 1.0
    amplitude = float(np.hypot(fit[2], fit[3]))
    covariance = full / free * np.linalg.inv(design.T @ design)[2:, 2:] * n / worth
    direction = fit[2:] / amplitude if amplitude else np.array([1.0, 0.0])
    error = math.sqrt(max(float(direction @ covariance @ direction), 0.0))
    top = float(np.arctan2(fit[3], fit[2])) % (2 * np.pi)
    return Yearly(amplitude, error, _month(top), _month(top + np.pi), p)


def _month(angle: float) -> int:
    """The month (1-12) of an angle of the year."""
    day = angle % (2 * math.pi) / (2 * math.pi) * 365.2425
    ends = (31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
    return 1 + sum(day >= end for end in ends)
