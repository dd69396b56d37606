"""A long talk cut where its topic changes: text tiling (Hearst 1997) on sentence vectors, and how good a cut is.

At each gap between sentences the mean vector of the window before is compared with that of the window after. A gap's
depth is how far its similarity lies below the peaks on both sides, after smoothing; gaps that are deep against the talk's
own mean become boundaries. `pk` (Beeferman 1999) and `window_diff` (Pevzner and Hearst 2002) count how often two
cuts disagree about a window: 0 is perfect. Figures: `benchmarks/results/sources-segments.json`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import Vectors

LONGEST_UNIT_WORDS, CUT_WORDS = 60, 25
"""A sentence longer than the first (captions have no full stops) is cut into pieces of the second."""
LEAST_DEPTH = 1e-6
"""Below it is rounding: a talk whose sentences are all alike has no boundary."""
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+[\"')\u201d\u2019]*|\n|$)")


@dataclass(frozen=True)
class Tiling:
    """`window` sentences on each side of a gap; a mean over `smooth` gaps on each side; depth over mean + `strictness` deviations.

    No segment is shorter than `shortest` sentences. Defaults: best Pk on the sociology book (`benchmarks/sources.py`).
    """

    window: int = 12
    smooth: int = 1
    strictness: float = 1.5
    shortest: int = 6


def units(text: str) -> list[str]:
    """The sentences of a talk; what has no punctuation is cut by length. Nothing but outer spaces is lost."""
    found: list[str] = []
    for sentence in (m[0].strip() for m in _SENTENCE.finditer(text)):
        words = sentence.split()
        if len(words) > LONGEST_UNIT_WORDS:
            found += [" ".join(words[n : n + CUT_WORDS]) for n in range(0, len(words), CUT_WORDS)]
        elif sentence:
            found.append(sentence)
    return found


def boundaries(vectors: Vectors, tiling: Tiling | None = None) -> list[int]:
    """Places `1..n-1` at which a new segment begins, from the sentences' unit vectors `[n, d]`."""
    tiling = tiling or Tiling()
    if len(vectors) < 2 * tiling.shortest:
        return []
    depth = _depths(_smoothed(_similarities(vectors, tiling.window), tiling.smooth))
    least = max(LEAST_DEPTH, float(depth.mean() + tiling.strictness * depth.std()))
    chosen: list[int] = []
    for gap in np.argsort(-depth, kind="stable"):  # the deepest first; later ones keep their distance
        place = int(gap) + 1
        edges = (0, len(vectors), *chosen)
        if depth[gap] > least and all(abs(place - edge) >= tiling.shortest for edge in edges):
            chosen.append(place)
    return sorted(chosen)


def _similarities(vectors: Vectors, window: int) -> NDArray[np.float64]:
    """Cosine of the windows before and after each of the `n-1` gaps."""
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])
    count = len(vectors)
    gaps = np.arange(1, count)
    before = sums[gaps] - sums[np.maximum(0, gaps - window)]
    after = sums[np.minimum(count, gaps + window)] - sums[gaps]
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return np.asarray((before * after).sum(axis=1) / np.maximum(lengths, 1e-9))


def _smoothed(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    if reach == 0:
        return values
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, np.ones(2 * reach + 1) / (2 * reach + 1), mode="valid")


def _depths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each gap lies below the nearest peak to its left and to its right, summed."""
    depth = np.zeros(len(values))
    for gap, value in enumerate(values):
        for step in (-1, 1):
            place, peak = gap, value
            while 0 <= place + step < len(values) and values[place + step] >= peak:
                place += step
                peak = values[place]
            depth[gap] += peak - value
    return depth


def pk(reference: Sequence[int], found: Sequence[int], count: int) -> float:
    """The share of windows whose ends one cut parts and the other does not, 0-1. `count` is the number of sentences."""
    width = _width(reference, count)
    ours, theirs = _labels(reference, count), _labels(found, count)
    same_ours, same_theirs = ours[:-width] == ours[width:], theirs[:-width] == theirs[width:]
    return float((same_ours != same_theirs).mean())


def window_diff(reference: Sequence[int], found: Sequence[int], count: int) -> float:
    """The share of windows in which the numbers of boundaries differ, 0-1. Counts near misses less than `pk` forgives extra ones."""
    width = _width(reference, count)
    ours, theirs = _labels(reference, count), _labels(found, count)
    return float((ours[width:] - ours[:-width] != theirs[width:] - theirs[:-width]).mean())


def _width(reference: Sequence[int], count: int) -> int:
    """Half the mean length of the reference's segments, as both measures ask."""
    return max(1, min(count - 1, round(count / (len(reference) + 1) / 2)))


def _labels(places: Sequence[int], count: int) -> NDArray[np.int64]:
    labels = np.zeros(count, dtype=np.int64)
    labels[list(places)] = 1
    return np.asarray(labels.cumsum())
