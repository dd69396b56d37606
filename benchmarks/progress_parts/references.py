"""The greatest difference of our statistics to those of kept libraries and of published worked examples (goal: 1e-9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymannkendall
import ruptures
from scipy import stats

from attunement.progress import statistics
from attunement.progress.measures import cutoff_between, measure_of, reliable_change

SERIES, SEED = 500, 90_010
GOAL = 1e-9


def measured() -> dict[str, Any]:
    """All figures of the part."""
    rng = np.random.default_rng(SEED)
    worst = dict.fromkeys(
        ("theil_sen", "mann_kendall", "mann_kendall_with_tied_times", "least_squares", "change_points", "yearly_amplitude"), 0.0
    )
    for number in range(SERIES):
        n = int(rng.integers(5, 80))
        t = np.sort(rng.uniform(0, 200, n)) if number % 2 else np.sort(rng.integers(0, 60, n)).astype(float)
        y = rng.integers(0, int(rng.integers(3, 28)), n).astype(float)
        if len(set(t)) < 3 or len(set(y)) < 2:
            continue
        pairs = statistics.Pairs(t, y)
        ours, theirs = pairs.theil_sen(), stats.theilslopes(y, t, 0.95)
        assert ours is not None
        _worse(worst, "theil_sen", (ours.slope, ours.intercept, ours.low, ours.high), tuple(theirs))
        order = statistics.Pairs(np.arange(n, dtype=float), y).mann_kendall()
        known = pymannkendall.original_test(y)
        _worse(worst, "mann_kendall", (order.s, order.tau, order.z, order.p), (known.s, known.Tau, known.z, known.p))
        tied = pairs.mann_kendall()
        z = (
            0.0 if not tied.s else tied.z * abs(tied.s) / max(abs(tied.s) - 1, 1e-12)
        )  # kendalltau does not correct for continuity
        if abs(tied.s) > 1:
            kendall = stats.kendalltau(t, y, method="asymptotic").pvalue
            _worse(worst, "mann_kendall_with_tied_times", (2 * stats.norm.sf(abs(z)),), (kendall,))
        fit, line = statistics.line(t, y), stats.linregress(t, y)
        _worse(worst, "least_squares", (fit.slope, fit.error), (line.slope, line.stderr))
        _worse(worst, "change_points", *_levels(y, n))
        _worse(worst, "yearly_amplitude", *_season(rng, n))
    return {
        "goal": GOAL,
        "series": SERIES,
        "greatest_difference": worst,
        "within_goal": all(value <= GOAL for value in worst.values()),
        "published_examples": _published(),
    }


def _worse(worst: dict[str, float], name: str, ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    worst[name] = max(worst[name], *(abs(float(a) - float(b)) for a, b in zip(ours, theirs, strict=True)))


def _levels(y: np.ndarray, n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The cost of our levels beside those of ruptures' pure-Python PELT, in squared errors."""
    error, penalty = 2.47, 2.5 + 2 * np.log(n)
    ours = statistics.change_points(y, error, penalty=float(penalty), least=3)
    theirs = ruptures.Pelt(model="l2", min_size=3, jump=1).fit(y / error).predict(pen=float(penalty))[:-1] if n >= 6 else []

    def cost(places: list[int]) -> float:
        return statistics.squared_error(y / error, places) + penalty * len(places)

    return (cost(ours),), (cost(theirs),)


def _season(rng: np.random.Generator, n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The amplitude against a direct solution by `scipy.linalg`."""
    from scipy.linalg import lstsq

    t = np.sort(rng.uniform(0, 150, n + 20))
    days = t * 7 % 365.2425
    y = 3 * np.cos(2 * np.pi * days / 365.2425) + rng.normal(0, 2, len(t))
    wave = statistics.yearly(t, y, days)
    assert wave is not None
    angle = 2 * np.pi * days / 365.2425
    fit = lstsq(np.column_stack([np.ones(len(t)), t, np.cos(angle), np.sin(angle)]), y)[0]
    return (wave.amplitude,), (float(np.hypot(fit[2], fit[3])),)


def _published() -> list[dict[str, Any]]:
    """Worked examples: what was printed, what we compute, and whether it rounds to the same."""
    gad7, pcl5 = measure_of("gad7"), measure_of("pcl5")
    rows = [
        (
            "Jacobson and Truax 1991, their couple: (47.5 - 32.5) / S_diff of SD 7.5, r .80; figures from memory",
            3.16,
            15 / (reliable_change(7.5, 0.8) / 1.96),
            2,
        ),
        ("Bischoff 2020, GAD-7 (its SD was worked back from this, so a check of the formula only)", 5.59, gad7.reliable, 2),
        ("PCL-5 by alpha .91 of the same table, SD 12.4 (the project's notes: 10.3)", 10.3, reliable_change(12.4, 0.91), 1),
        ("PCL-5 by test-retest .82, SD 12.4 (the project's notes: 14.6; Marx 2022: 15)", 14.6, pcl5.reliable, 1),
        (
            "GAD-7 by alpha .89, SD 3.4 of the general population: IAPT's 4 is the next whole point",
            4.0,
            float(np.ceil(reliable_change(3.4, 0.89))),
            0,
        ),
        ("PHQ-9 by alpha .89, SD 6.18: IAPT's 6 is the next whole point", 6.0, float(np.ceil(reliable_change(6.18, 0.89))), 0),
        (
            "cut-off c of two groups with one SD lies half-way (Jacobson and Truax 1991)",
            50.0,
            cutoff_between(40, 7.5, 60, 7.5),
            1,
        ),
    ]
    return [
        {"example": name, "printed": printed, "ours": round(ours, 6), "same_when_rounded": round(ours, places) == printed}
        for name, printed, ours, places in rows
    ]
