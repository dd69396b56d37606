"""How far a segment can be trusted: the share of its words that are expected to be right (1 - word error rate, 0-1).

An engine's posteriors are too sure or too unsure, another engine's in another way. A small logistic model over a few features of the
segment, fitted on speech whose words are known, turns them into the expected share. What ships (`weights/hearing.json`) was fitted on
*synthetic* speech, clean and noisy: it says nothing certain of real recordings. It leaves the ratio to noise unused (weight 0): with it,
quiet alone made reversed speech trusted. `fit` makes a model of a user's own recordings with their references. An engine that no model
was fitted for gets the mean of its words' probabilities and `calibrated = False`.

Sources: Jiang, "Confidence measures for speech recognition: a survey", 2005; Guo et al., "On calibration of modern neural networks",
2017 (expected calibration error); Papke & Wooldridge 1996 (logistic regression on a share).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import DataError, MissingExtraError
from attunement.records import SpokenWord
from attunement.storage.files import write_json

FEATURES = ("log_posterior", "mean_posterior", "least_posterior", "doubtful_share", "words_per_second", "snr_db", "log_words")
_DOUBTFUL = 0.3
"""A word below it counts as doubtful."""
_LEAST_EXAMPLES = 30
_RIDGE = 1.0
"""Penalty of the squared weights (features have unit variance), of about as many examples: keeps few examples from extreme weights."""
_FRAME = 400
"""25 ms at 16 kHz."""
Figures = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Logistic model of an engine: `weights` for features that `mean` and `spread` bring to zero and one. `made` tells of what."""

    engine: str
    weights: Sequence[float]
    bias: float
    mean: Sequence[float]
    spread: Sequence[float]
    made: Mapping[str, Any] = field(default_factory=dict)

    def expected(self, features: Figures) -> Figures:
        """`features[n, 7]` (NaN: not known, taken as the mean) to the expected share of right words [n]."""
        scaled = np.nan_to_num((np.atleast_2d(features) - np.asarray(self.mean)) / np.asarray(self.spread))
        return _logistic(np.clip(scaled, -4, 4) @ np.asarray(self.weights) + self.bias)


def snr_db(samples: NDArray[np.float32]) -> float:
    """Rough ratio of speech to noise of a piece: 90th over 10th percentile of the energies of frames of 25 ms, 0-60 dB; NaN if too short.

    It needs pauses: in a piece that is spoken through it comes out too low.
    """
    frames = len(samples) // _FRAME
    if frames < 8:
        return math.nan
    energy = np.mean(samples[: frames * _FRAME].reshape(frames, _FRAME).astype(np.float64) ** 2, axis=1)
    quiet, loud = np.percentile(energy, (10, 90))
    return float(np.clip(10 * np.log10((loud + 1e-12) / (quiet + 1e-12)), 0, 60))


def features_of(words: Sequence[SpokenWord], snr: float = math.nan) -> Figures:
    """[7] in the order of `FEATURES`, of a segment with one word at least."""
    sure = np.clip([word.confidence for word in words], 1e-6, 1.0)
    seconds = max(0.1, words[-1].end_seconds - words[0].start_seconds)
    return np.asarray(
        [np.log(sure).mean(), sure.mean(), sure.min(), (sure < _DOUBTFUL).mean(), len(words) / seconds, snr, math.log(len(words))]
    )


class Confidence:
    """Confidence of an engine's segments; `calibrated` tells whether a model stands behind it."""

    def __init__(self, engine: str, calibration: Calibration | None = None) -> None:
        self.calibration = calibration or shipped().get(engine)

    @property
    def calibrated(self) -> bool:
        return self.calibration is not None

    def of(self, words: Sequence[SpokenWord], snr: float = math.nan) -> float:
        """Of a segment; 0 without words. `snr`: of the piece that it was heard in, by `snr_db`."""
        if not words:
            return 0.0
        if self.calibration is None:
            return round(float(np.mean([word.confidence for word in words])), 4)
        return round(float(self.calibration.expected(features_of(words, snr))[0]), 4)


def right_share(reference: str, heard: str) -> float:
    """1 - word error rate, not below 0, without case and punctuation. An empty reference: 1 if nothing was heard."""
    said, found = plain(reference), plain(heard)
    if not said:
        return float(not found)
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtraError("calibration", "voice") from error
    return max(0.0, 1.0 - float(jiwer.wer(said, found)))


def plain(text: str) -> str:
    """Lower-case words alone; apostrophes stay, a hyphen parts words."""
    return " ".join(re.findall(r"\w+(?:'\w+)*", text.lower().replace("\u2019", "'")))


def example(words: Sequence[SpokenWord], reference: str, snr: float = math.nan) -> tuple[Figures, float] | None:
    """(features, true share) for `fit` of a stretch that was heard as `words` and holds `reference`; None where no word was heard."""
    return (features_of(words, snr), right_share(reference, " ".join(word.text for word in words))) if words else None


def fit(engine: str, features: Figures, right: Figures, *, made: Mapping[str, Any] | None = None) -> Calibration:
    """A model of `features[n, 7]` and the true shares `right[n]`, by Newton's method. Raises `DataError` with under 30 segments."""
    if len(features) < _LEAST_EXAMPLES:
        raise DataError(
            f"{len(features)} segments are too few to calibrate: give recordings with {_LEAST_EXAMPLES} segments or more"
        )
    mean = np.nan_to_num(np.nanmean(np.where(np.isnan(features).all(0), 0.0, features), axis=0))
    spread = np.maximum(np.nanstd(np.where(np.isnan(features).all(0), 0.0, features), axis=0), 1e-3)
    rows = np.column_stack([np.clip(np.nan_to_num((features - mean) / spread), -4, 4), np.ones(len(features))])
    penalty = np.diag([_RIDGE] * len(FEATURES) + [1e-3])
    weights = np.zeros(rows.shape[1])
    for _ in range(50):
        said = _logistic(rows @ weights)
        slope = rows.T @ (right - said) - penalty @ weights
        bend = (rows * (said * (1 - said))[:, None]).T @ rows + penalty
        step = np.linalg.solve(bend, slope)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return Calibration(engine, weights[:-1].tolist(), float(weights[-1]), mean.tolist(), spread.tolist(), dict(made or {}))


def calibration_error(said: Figures, right: Figures, bins: int = 10) -> float:
    """Expected calibration error: mean distance of said and true share over `bins` bins of what was said, by their size."""
    place = np.minimum((said * bins).astype(int), bins - 1)
    inside = [place == number for number in range(bins)]
    return float(sum(abs(said[rows].mean() - right[rows].mean()) * rows.mean() for rows in inside if rows.any()))


def save(path: Path, calibrations: Sequence[Calibration]) -> None:
    """Writes models as JSON, one an engine."""
    rounded = {
        c.engine: {"features": FEATURES, "weights": _rounded(c.weights), "bias": round(c.bias, 5), "mean": _rounded(c.mean),
                   "spread": _rounded(c.spread), "made": dict(c.made)}
        for c in calibrations
    }  # fmt: skip
    write_json(path, rounded)


def load(path: Path) -> dict[str, Calibration]:
    """Models by engine. Raises `DataError` for what `save` did not write."""
    try:
        return _read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no calibration of this version: make it again with `attune voice calibrate`") from error


def shipped() -> dict[str, Calibration]:
    """The models of the package, by engine."""
    return _read((files("attunement.sources.voice") / "weights" / "hearing.json").read_text(encoding="utf-8"))


def _read(text: str) -> dict[str, Calibration]:
    made = {}
    for engine, row in json.loads(text).items():
        figures = [[float(x) for x in row[name]] for name in ("weights", "mean", "spread")]
        if tuple(row["features"]) != FEATURES or any(len(f) != len(FEATURES) or not np.isfinite(f).all() for f in figures):
            raise ValueError("other features")
        made[engine] = Calibration(engine, figures[0], float(row["bias"]), figures[1], figures[2], row.get("made", {}))
    return made


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in values]


def _logistic(x: Figures) -> Figures:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))
