"""What `analyze` says of simulated clients after 12 questionnaires, beside what is true of them.

Truth is taken from the scores without error: a client is improving or regressing when the twelfth true score differs from the first by at
least what matters to people (minimal important difference), stable when by at most half of that; between lie the slight ones, whose way is
the sign of the difference and who are reported apart and in `everybody`. The seeds here were used for nothing else.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from attunement.progress.findings import IMPROVING, REGRESSING, STABLE, MeasureScore, MeasureTrend
from attunement.progress.measures import Measure, measure_of
from attunement.progress.simulator import SimulatedJourney, simulate
from attunement.progress.trends import analyze, overall

SEEDS = {"main": 90_001, "runs": 90_002, "years": 90_003}
SCORES = 12
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 9.0)
WITHIN = 2


@dataclass(frozen=True)
class Case:
    """A client after 12 questionnaires."""

    journey: SimulatedJourney
    measure: Measure
    scores: Sequence[MeasureScore]
    true: np.ndarray
    found: MeasureTrend

    @property
    def effect(self) -> float:
        return float(self.true[-1] - self.true[0])

    @property
    def truth(self) -> str:
        return STABLE if abs(self.effect) <= self.measure.important / 2 else REGRESSING if self.effect > 0 else IMPROVING

    @property
    def clear(self) -> bool:
        return not self.measure.important / 2 < abs(self.effect) < self.measure.important


def measured(clients: int) -> dict[str, Any]:
    """All figures of the part."""
    began = time.perf_counter()
    main = list(_cases(simulate(clients, 0.6, SEEDS["main"])))
    runs = list(_cases(simulate(clients // 2, 0.6, SEEDS["runs"], correlation=0.3)))
    figures = {
        "goals": {"trajectory_right": 0.90, "false_alarm_regressing": 0.05, "change_point_within_2_sessions": 0.80},
        "seeds": SEEDS,
        "at_12_scores": _figures(main),
        "where_errors_come_in_runs": {"correlation": 0.3, **_figures(runs, short=True)},
        "change_points": _change_points(main),
        "change_points_over_three_years": _relapses(simulate(clients // 10, 3, SEEDS["years"])),
        "expected_course": _alerts(main),
        "all_measures_together": _together(main),
        "simpler_rules": _simpler(main),
        "seconds": 0.0,
    }
    figures["seconds"] = round(time.perf_counter() - began, 1)
    return figures


def _cases(journeys: Iterable[SimulatedJourney]) -> Iterable[Case]:
    for one in journeys:
        code = one.truth.measure
        scores = [score for score in one.journey.scores if score.measure == code][:SCORES]
        if len(scores) < SCORES or one.truth.first_course < SCORES:
            continue  # a course that was over before
        measure = measure_of(code)
        yield Case(one, measure, scores, np.array(one.truth.true_scores[code][:SCORES]), analyze(scores, measure))


def _right(cases: Sequence[Case]) -> float | None:
    return round(sum(case.found.trajectory == case.truth for case in cases) / len(cases), 4) if cases else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _figures(cases: Sequence[Case], short: bool = False) -> dict[str, Any]:
    clear = [case for case in cases if case.clear]
    stable = [case for case in cases if case.truth == STABLE]
    by_truth = {way: _right([case for case in clear if case.truth == way]) for way in (IMPROVING, STABLE, REGRESSING)}
    figures: dict[str, Any] = {
        "clients": len(cases),
        "clear": len(clear),
        "right": _right(clear),
        "right_balanced": round(sum(value or 0.0 for value in by_truth.values()) / 3, 4),
        "right_by_truth": by_truth,
        "right_everybody_with_slight_changes": _right(cases),
        "false_alarm_regressing_of_stable": _share(sum(case.found.trajectory == REGRESSING for case in stable), len(stable)),
    }
    if short:
        return figures
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        table[case.truth if case.clear else f"slight_{case.truth}"][case.found.trajectory] += 1
    figures["confusion_truth_then_said"] = {truth: dict(said) for truth, said in sorted(table.items())}
    figures["right_by_measure"] = {
        code: {
            "right": _right([c for c in clear if c.measure.code == code]),
            "clients": sum(c.measure.code == code for c in clear),
        }
        for code in ("phq9", "gad7", "pcl5")
    }
    figures["by_effect_in_sd"] = _by_effect(cases)
    return figures


def _by_effect(cases: Sequence[Case]) -> list[dict[str, Any]]:
    rows = []
    for low, high in pairwise(BINS):
        for way, sign in (("better", -1), ("worse", 1)):
            of_bin = [c for c in cases if low <= sign * c.effect / c.measure.default.sd < high]
            said = Counter(case.found.trajectory for case in of_bin)
            if of_bin:
                rows.append(
                    {
                        "sd": [low, high],
                        "way": way,
                        "clients": len(of_bin),
                        **{k: round(v / len(of_bin), 3) for k, v in said.items()},
                    }
                )
    return rows


def _place(scores: Sequence[MeasureScore], at: Any) -> int | None:
    return next((place for place, score in enumerate(scores) if score.at >= at), None)


def _change_points(cases: Sequence[Case]) -> dict[str, Any]:
    """True jumps of at least a reliable change within the 12 scores, and what is found where there is none."""
    found = {"all": [0, 0], "three_scores_on_both_sides": [0, 0]}
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for case in cases:
        said = [_place(case.scores, point.at) or 0 for point in case.found.change_points]
        for at in case.journey.truth.change_points:
            place = _place(case.scores, at)
            if place is None or place == 0 or at > case.scores[-1].at:
                continue
            hit = any(abs(one - place) <= WITHIN for one in said)
            size = abs(case.true[place] - case.true[place - 1]) / case.measure.reliable
            kinds = ["all"] + (["three_scores_on_both_sides"] if 3 <= place <= SCORES - 3 else [])
            for kind in kinds:
                found[kind][0] += hit
                found[kind][1] += 1
            if 3 <= place <= SCORES - 3:
                step = "1.0-1.2" if size < 1.2 else "1.2-1.4" if size < 1.4 else "1.4 and more"
                sizes[step][0] += hit
                sizes[step][1] += 1
    none = {
        kind: [case for case in cases if case.journey.truth.kind == kind] for kind in ("steady", "slight", "gradual", "worse")
    }
    return {
        "within_2_sessions": {kind: {"share": _share(*pair), "jumps": pair[1]} for kind, pair in found.items()},
        "by_size_in_reliable_changes": {size: {"share": _share(*pair), "jumps": pair[1]} for size, pair in sorted(sizes.items())},
        "said_where_there_is_no_jump": {
            kind: {"share": _share(sum(bool(c.found.change_points) for c in of_kind), len(of_kind)), "clients": len(of_kind)}
            for kind, of_kind in none.items()
        },
    }


def _relapses(journeys: Iterable[SimulatedJourney]) -> dict[str, Any]:
    """All jumps of three-year journeys: sudden gains, blows, relapses at once."""
    hits = jumps = said = clients = 0
    for one in journeys:
        scores = [score for score in one.journey.scores if score.measure == one.truth.measure]
        points = analyze(scores, measure_of(one.truth.measure)).change_points
        places = [_place(scores, point.at) or 0 for point in points]
        clients, said = clients + 1, said + len(places)
        for at in one.truth.change_points:
            place = _place(scores, at)
            if place is not None and 3 <= place <= len(scores) - 3:
                jumps += 1
                hits += any(abs(found - place) <= WITHIN for found in places)
    return {
        "clients": clients,
        "jumps": jumps,
        "within_2_sessions": _share(hits, jumps),
        "said_per_client": round(said / clients, 2),
    }


def _alerts(cases: Sequence[Case]) -> dict[str, Any]:
    """Who is called not on track at the fourth to twelfth score, by truth at the twelfth."""
    ever: dict[str, list[bool]] = defaultdict(list)
    last: dict[str, list[bool]] = defaultdict(list)
    for case in cases[:1500]:
        key = case.truth if case.clear else "slight"
        alarms = []
        for count in (4, 6, 8, 10, 12):
            expected = analyze(case.scores[:count], case.measure).expected
            alarms.append(expected is not None and not expected.on_track)
        if any(analyze(case.scores[:count], case.measure).expected is not None for count in (4, 12)):
            ever[key].append(any(alarms))
            last[key].append(alarms[-1])
    return {
        key: {
            "clients": len(ever[key]),
            "ever_not_on_track": _share(sum(ever[key]), len(ever[key])),
            "at_12": _share(sum(last[key]), len(last[key])),
        }
        for key in sorted(ever)
    }


def _together(cases: Sequence[Case]) -> dict[str, Any]:
    """`overall` of all of a client's measures: the worse one decides."""
    said: Counter[bool] = Counter()
    for case in cases:
        if case.truth != STABLE:
            continue
        until, found = case.scores[-1].at, [case.found]
        for code in {score.measure for score in case.journey.journey.scores} - {case.measure.code}:
            others = [score for score in case.journey.journey.scores if score.measure == code and score.at <= until]
            found.append(analyze(others, measure_of(code)))
        said[overall("x", SCORES, found).trajectory == REGRESSING] += 1
    return {"stable_clients": said.total(), "false_alarm_regressing": _share(said[True], said.total())}


def _simpler(cases: Sequence[Case]) -> dict[str, Any]:
    """What simpler rules would say of the clear ones: the simulation is no easy one if they do badly."""
    clear = [case for case in cases if case.clear]

    def by(threshold: Any) -> dict[str, Any]:
        right = alarms = stable = 0
        for case in clear:
            change, least = threshold(case)
            said = STABLE if abs(change) <= least else REGRESSING if change > 0 else IMPROVING
            right += said == case.truth
            stable += case.truth == STABLE
            alarms += case.truth == STABLE and said == REGRESSING
        return {"right": _share(right, len(clear)), "false_alarm": _share(alarms, stable)}

    def slope(case: Case) -> float:
        t = np.array([(score.at - case.scores[0].at).total_seconds() for score in case.scores])
        return float(np.polyfit(t, [score.total for score in case.scores], 1)[0] * t[-1])

    return {
        "last_less_first_over_reliable_change": by(lambda c: (c.scores[-1].total - c.scores[0].total, c.measure.reliable)),
        "least_squares_over_half_of_what_matters": by(lambda c: (slope(c), c.measure.important / 2)),
        "mann_kendall_p_below_0.05": by(lambda c: (np.sign(c.found.trend.tau), 0 if c.found.trend.p < 0.05 else 2)),
    }
