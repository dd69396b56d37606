"""How reliable each marker is by the number of words, and whether a style tells speakers apart: `measure(shared, home)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attunement.quality.panel import Judges
from attunement.sources.voice.language_markers import LEXICAL, PRIOR_WORDS, Said, raw_scores, said_of
from attunement.sources.voice.personality import AXES, EMPATHY, Response, axis_scores, empathy_scores
from voice_parts.people import SPOKEN, Speaker, speakers

SIZES = (50, 100, 200, 400, 800)
WANTED, MOST_WORDS, LEAST_SPEAKERS = 0.7, 5000, 40
MOST_SENTENCES, MOST_RESPONSES = 24, 12
"""Of each speaker so many, from the beginning, go through encoder and judges: an hour's work otherwise on two shared cores."""
PARTS = dict[str, np.ndarray]


def reliability(data: Path, judges: Judges) -> Iterator[dict[str, Any]]:
    """Two samples of n words of each speaker of a spoken session, sentence by sentence in turn; their correlation over speakers.

    Each figure is less its group's mean (set and role) first: that therapists ask more than clients is no reliability.
    `least_words` is where r(n) = n / (n + k) reaches 0.7 (Spearman-Brown), k by least squares over all sizes, weighed by speakers.
    Gives the table three times: with the markers of words, with the axes too, with empathy too (AnnoMI alone for both).
    """
    people = speakers(data, SPOKEN)
    told: dict[str, Any] = {
        "made_of": {
            "sets": "spoken sessions: AnnoMI and HLQC of AutoMISC, recordings in both once",
            "speakers": len(people),
            "by_encoder_and_judges": f"AnnoMI alone; the first {MOST_SENTENCES} sentences, {MOST_RESPONSES} responses of each",
            "how": " ".join((reliability.__doc__ or "").split()),
            "prior_words": PRIOR_WORDS,
        },
        "markers": {},
    }
    few = [s for s in people if s.source == "annomi"]
    for figures in (_lexical(people), _axes(few, judges), _empathy(few, judges)):
        for marker, (halves, of) in figures:
            found = {n: _correlation(halves, of, n) for n in SIZES}
            told["markers"][marker] = _least({n: row for n, row in found.items() if row[1] >= LEAST_SPEAKERS // 2})
        yield told


Halves = Sequence[tuple[str, np.ndarray, Any]]
"""Of each speaker the group, the words of each unit (sentence, response), and what is counted of them."""


Figures = Iterator[tuple[str, tuple[Halves, Callable[[Any, np.ndarray], float]]]]


def _lexical(people: Sequence[Speaker]) -> Figures:
    words: Halves = [(s.group, t.words, (t, s.role)) for s, t in ((s, said_of(s.turns)) for s in people)]
    for name in LEXICAL:
        yield name, (words, lambda of, chosen, name=name: float(raw_scores(of[0], of[1], chosen[None])[name][0]))


def _axes(people: Sequence[Speaker], judges: Judges) -> Figures:
    said = [(s, said_of(s.turns)) for s in people]
    near = axis_scores_of(said, judges)
    for name in AXES:
        rows: Halves = [
            (s.group, t.words[:MOST_SENTENCES], (near[s.name][name], t.words[:MOST_SENTENCES])) for s, t in said if s.name in near
        ]
        yield name, (rows, lambda of, chosen: float((of[0] * of[1])[chosen > 0].sum() / of[1][chosen > 0].sum()))


def _empathy(people: Sequence[Speaker], judges: Judges) -> Figures:
    helped = [
        (s, [Response(a, b) for a, b in zip(s.turns, s.before, strict=True) if b][:MOST_RESPONSES])
        for s in people
        if s.role == "therapist"
    ]
    found = {s.name: empathy_scores(given, judges) for s, given in helped if given}
    for name in EMPATHY:
        rows: Halves = [
            (s.group, np.asarray([len(r.text.split()) for r in given], dtype=float), found[s.name][name])
            for s, given in helped
            if given
        ]
        yield name, (rows, lambda of, chosen: float(of[chosen > 0].mean()))


_NEAR: dict[str, dict[str, np.ndarray]] = {}


def axis_scores_of(said: Sequence[tuple[Speaker, Said]], judges: Judges) -> dict[str, dict[str, np.ndarray]]:
    """By speaker with enough words each axis over the first sentences; computed once in a run."""
    for s, t in said:
        if t.total >= 2 * SIZES[0] and s.name not in _NEAR:
            _NEAR[s.name] = axis_scores(t.sentences[:MOST_SENTENCES], judges)
    return _NEAR


def _correlation(halves: Halves, of: Callable[[Any, np.ndarray], float], n: int) -> tuple[float, int]:
    groups: list[str] = []
    pairs: list[tuple[float, float]] = []
    for group, words, counted in halves:
        one, two = _halves(words, n)
        if one is not None and two is not None:
            groups.append(group)
            pairs.append((of(counted, one), of(counted, two)))
    if len(pairs) < LEAST_SPEAKERS // 2:
        return 0.0, len(pairs)
    values = np.asarray(pairs)
    for group in set(groups):
        here = np.asarray([g == group for g in groups])
        values[here] -= values[here].mean(0)
    return float(np.corrcoef(values.T)[0, 1]), len(pairs)


def _halves(words: np.ndarray, n: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Which units make up each half of at least n words: each unit goes to the half that has fewer words so far."""
    chosen, totals = np.zeros((2, len(words))), [0.0, 0.0]
    for place, count in enumerate(words):
        half = int(totals[1] < totals[0])
        chosen[half, place] = 1
        totals[half] += count
        if min(totals) >= n:
            return chosen[0], chosen[1]
    return None, None


def _least(found: Mapping[int, tuple[float, int]]) -> dict[str, Any]:
    by_words = {str(n): {"reliability": round(r, 3), "speakers": count} for n, (r, count) in found.items()}
    grid = np.geomspace(5, 50000, 2000)
    sizes, values, weights = np.asarray([(n, r, count) for n, (r, count) in found.items()], dtype=float).T
    misfit = (((sizes[:, None] / (sizes[:, None] + grid) - values[:, None]) ** 2) * weights[:, None]).sum(0)
    k = float(grid[int(misfit.argmin())])
    least = math.ceil(k * WANTED / (1 - WANTED) / 10) * 10
    return {"least_words": least if least <= MOST_WORDS else None, "extrapolated_words": least, "by_words": by_words}


def measure(shared: Path) -> dict[str, Any]:
    """Reliability of the markers, what tells speakers and pairs apart, and naturalness, anew."""
    from voice_parts import naturalness, pairs

    data, judges = shared / "data", Judges()
    *_, table = reliability(data, judges)
    return {"reliability": table, "pairs": pairs.measure(data, judges), "naturalness": naturalness.measure(data)}
