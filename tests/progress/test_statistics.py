"""The statistics beside the libraries that they equal, and what no shift, scale or order may change."""

from __future__ import annotations

import math

import numpy as np
import pymannkendall
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attunement.progress import statistics

EXACT = {"rel": 1e-9, "abs": 1e-9}
SCORES = st.lists(st.integers(0, 27), min_size=3, max_size=40)
TIMES = st.lists(st.integers(0, 200), min_size=40, max_size=40)


def arrays(scores: list[int], times: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.sort(np.array(times[: len(scores)], dtype=float)) / 7, np.array(scores, dtype=float)


@given(SCORES, TIMES)
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy.*")
def test_theil_sen_is_scipys(scores: list[int], times: list[int]) -> None:
    t, y = arrays(scores, times)
    ours = statistics.Pairs(t, y).theil_sen()
    if len(set(t)) == 1:
        assert ours is None
        return
    theirs = stats.theilslopes(y, t, 0.95)
    assert ours is not None
    assert (ours.slope, ours.intercept) == pytest.approx((theirs.slope, theirs.intercept), **EXACT)
    if math.isfinite(theirs.low_slope):  # with nearly all scores tied its variance is below 0, and it has no interval
        assert (ours.low, ours.high) == pytest.approx((theirs.low_slope, theirs.high_slope), **EXACT)
    assert ours.low <= ours.slope <= ours.high


@given(SCORES)
@settings(deadline=None)
def test_mann_kendall_is_pymannkendalls(scores: list[int]) -> None:
    y = np.array(scores, dtype=float)
    ours = statistics.Pairs(np.arange(len(y), dtype=float), y).mann_kendall()
    if len(set(scores)) == 1:  # it divides by zero there
        assert (ours.s, ours.z, ours.p) == (0, 0, 1)
        return
    known = pymannkendall.original_test(y)
    assert (ours.s, ours.tau, ours.z, ours.p) == pytest.approx((known.s, known.Tau, known.z, known.p), **EXACT)


@given(SCORES, TIMES)
@settings(deadline=None)
def test_with_tied_times_the_variance_is_kendalls(scores: list[int], times: list[int]) -> None:
    t, y = arrays(scores, times)
    ours = statistics.Pairs(t, y).mann_kendall()
    if len(set(t)) > 1 and len(set(y)) > 1 and abs(ours.s) > 1:
        z = ours.z * abs(ours.s) / (abs(ours.s) - 1)  # scipy does not correct for continuity
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(stats.kendalltau(t, y, method="asymptotic").pvalue, **EXACT)


@given(SCORES, TIMES, st.floats(-50, 50), st.floats(0.1, 20))
@settings(deadline=None)
def test_a_shift_changes_no_slope_and_a_factor_every_one_alike(
    scores: list[int], times: list[int], shift: float, factor: float
) -> None:
    t, y = arrays(scores, times)
    plain, moved = statistics.Pairs(t, y), statistics.Pairs(t, shift + factor * y)
    one, other = plain.theil_sen(), moved.theil_sen()
    if one is None or other is None:
        assert one is other
        return
    assert other.slope == pytest.approx(factor * one.slope, abs=1e-6)
    assert moved.mann_kendall().s == plain.mann_kendall().s
    later = statistics.Pairs(t + 1000, y).theil_sen()
    assert later is not None and later.slope == pytest.approx(one.slope, abs=1e-6)


def test_change_points_are_those_of_ruptures_own_pelt() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for n in (8, 15, 40, 90):
        y = rng.integers(0, 6, n) + 9.0 * (np.arange(n) > n // 2)
        ours = statistics.change_points(y, 2.5, penalty=8.0, least=3)
        assert ours == ruptures.Pelt(model="l2", min_size=3, jump=1).fit(y / 2.5).predict(pen=8.0)[:-1]
        found += len(ours)
        assert statistics.level_means(y, ours)[0] == pytest.approx(y[: [*ours, n][0]].mean())
    assert found >= 4
    assert statistics.change_points(np.ones(5), 1.0, penalty=8.0, least=3) == []


def test_a_line_is_scipys_and_a_bend_explains_what_it_bends() -> None:
    t = np.arange(20.0)
    y = np.maximum(20 - 2 * t, 6) + np.tile([0.5, -0.5], 10)
    known = stats.linregress(t, y)
    fit = statistics.line(t, y)
    assert (fit.slope, fit.error) == pytest.approx((known.slope, known.stderr), **EXACT)
    straight, bent = statistics.bent_errors(t, y)
    assert straight == pytest.approx(((y - known.intercept - known.slope * t) ** 2).sum()) and bent < straight / 10
    assert statistics.bent_errors(t[:4], y[:4])[0] == statistics.bent_errors(t[:4], y[:4])[1]
    assert math.isinf(statistics.line(np.zeros(5), y[:5]).error)


def test_one_terrible_day_makes_no_slope() -> None:
    t, y = np.arange(12.0), np.full(12, 8.0)
    y[-1] = 27
    pairs = statistics.Pairs(t, y).theil_sen()
    assert pairs is not None
    guarded, plain = statistics.guarded_line(t, y, pairs, 2.5), statistics.line(t, y)
    assert guarded.slope * 11 < 3.5 < plain.slope * 11
    assert guarded.error >= 2.5 / math.sqrt(((t - t.mean()) ** 2).sum()) - 1e-12


@given(st.lists(st.integers(0, 27), min_size=8, max_size=40), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_a_plateau_is_what_two_one_sided_tests_say(scores: list[int], seed: int) -> None:
    t = np.cumsum(np.random.default_rng(seed).integers(3, 20, len(scores))) / 7
    y = np.array(scores, dtype=float)
    found = statistics.plateau_start(t, y, 0.5, change=14.0, weeks=12.0, least=8)
    starts = []
    for start in range(len(y) - 7):
        part, values = t[start:], y[start:]
        known = stats.linregress(part, values)
        residual = max(math.sqrt(((values - known.intercept - known.slope * part) ** 2).sum() / (len(part) - 2)), 0.5)
        half = stats.t.ppf(0.95, len(part) - 2) * residual / math.sqrt(((part - part.mean()) ** 2).sum())
        begins = abs(values[:3].mean() - values.mean()) <= 1.96 * 0.5 / math.sqrt(3)
        if begins and abs(known.slope) + half < 14.0 / max(part[-1] - part[0], 12.0):
            starts.append(start)
    assert (found[0] if found else None) == (starts[0] if starts else None)


def test_a_season_is_found_with_its_months_and_not_in_noise() -> None:
    rng = np.random.default_rng(1)
    days = np.arange(0, 3 * 365.2425, 14)
    wave = 4 * np.cos(2 * np.pi * (days - 20) / 365.2425)  # highest on 21 January
    found = statistics.yearly(days / 7, 12 + wave + rng.normal(0, 2, len(days)), days % 365.2425)
    assert found is not None and (found.high_month, found.low_month) == (1, 7) and found.p < 1e-6
    assert found.amplitude == pytest.approx(4, abs=3 * found.error)
    false = sum(
        (statistics.yearly(days / 7, rng.normal(12, 2, len(days)), days % 365.2425) or found).p < 0.01 for _ in range(200)
    )
    assert false <= 8  # 1 % of 200, with room
    assert statistics.yearly(days / 7, np.ones(len(days)), np.zeros(len(days))) is None
