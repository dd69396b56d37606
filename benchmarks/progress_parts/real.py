"""What the analysis says of short real series. Nothing is known to be true here: honest is to say little.

`MIV6.3A_surveys.csv` (automisc): importance, readiness and confidence of smokers (0-10) before a talk, after it and a week later.
`survey_wai_logs.csv` (mh-simulation): working alliance (36-252) of simulated patients over their sessions, which have no dates: a week apart.
Neither is one of our measures, so each gets one made for this: error from the scatter between neighbours, bounds from the scale.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from attunement.progress.findings import MeasureScore
from attunement.progress.measures import Measure
from attunement.progress.trends import analyze

START = datetime(2024, 1, 1, 10, tzinfo=UTC)


def measured(shared: Path) -> dict[str, Any]:
    """All figures of the part."""
    data = shared / "data"
    return {
        "smokers": _smokers(data / "automisc" / "MIV6.3A_surveys.csv"),
        "alliance": _alliance(data / "mh-simulation" / "survey_wai_logs.csv"),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _measure(code: str, low: int, high: int, sd: float, error: float) -> Measure:
    """A measure of one item whose total is the scale, with the error that neighbours show."""
    note = "made for the benchmark"
    return Measure.model_validate(
        {
            "code": code, "title": code, "about": note, "low": low, "high": high, "higher_is_worse": False,
            "cutoff": (low + high) / 2, "important": max(1.0, 0.1 * (high - low)), "important_source": note,
            "licence": note, "source": note, "checked": note,
            "items": [{"text": note}], "answers": [{"label": str(v), "value": v} for v in range(low, high + 1)],
            "bands": [{"name": "all", "low": low, "high": high}], "missing": {"allowed": 0, "source": note, "checked": note},
            "reliabilities": [
                {"kind": "retest", "value": min(max(1 - (error / sd) ** 2, 0.01), 0.99), "sd": sd, "sample": note, "source": note,
                 "checked": note, "default": True, "why": note}
            ],
        }
    )  # fmt: skip


def _smokers(path: Path) -> dict[str, Any]:
    found = {}
    for name in ("importance", "readiness", "confidence"):
        cells = [[row[f"{when}_{name}"] for when in ("pre", "post", "week_later")] for row in _rows(path)]
        rows = [[float(cell) for cell in row] for row in cells if "N/A" not in row]
        table = np.array(rows)
        # from the end of the talk to a week later little should move: its scatter is taken for the error of two
        error = float(np.std(table[:, 2] - table[:, 1])) / np.sqrt(2)
        measure = _measure(name, 0, 10, float(table[:, 0].std()), error)
        said: Counter[str] = Counter()
        status: Counter[str] = Counter()
        for row in rows:
            times = (START, START + timedelta(hours=1), START + timedelta(weeks=1))
            trend = analyze([MeasureScore(name, value, at) for value, at in zip(row, times, strict=True)], measure)
            said[trend.trajectory] += 1
            status[trend.change.status if trend.change else "none"] += 1
        found[name] = {
            "people": len(rows), "trajectory": dict(said), "reliable_change_before_to_week_later": dict(status),
            "mean_change": round(float((table[:, 2] - table[:, 0]).mean()), 2), "reliable": round(measure.reliable, 2),
        }  # fmt: skip
    return found


def _alliance(path: Path) -> dict[str, Any]:
    series: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in _rows(path):
        if row["composite_wai"]:
            series[row["pairing_id"]].append((int(row["session_id"]), float(row["composite_wai"])))
    steps = np.concatenate([np.diff([value for _, value in sorted(pairs)]) for pairs in series.values() if len(pairs) > 1])
    values = np.array([value for pairs in series.values() for _, value in pairs])
    measure = _measure("alliance", 36, 252, float(values.std()), float(steps.std()) / np.sqrt(2))
    said: Counter[str] = Counter()
    points = flat = 0
    for pairs in series.values():
        scores = [MeasureScore("alliance", value, START + timedelta(weeks=number)) for number, value in pairs]
        trend = analyze(scores, measure)
        said[trend.trajectory] += 1
        points, flat = points + len(trend.change_points), flat + len(trend.plateaus)
    lengths = Counter(len(pairs) for pairs in series.values())
    return {
        "series": len(series), "sessions_in_a_series": {str(length): count for length, count in sorted(lengths.items())},
        "trajectory": dict(said), "change_points": points, "plateaus": flat,
        "mean_change_a_session": round(float(steps.mean()), 2), "error": round(measure.error, 2),
    }  # fmt: skip
