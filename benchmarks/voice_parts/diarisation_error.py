"""The diarisation error rate: what of the speech is missed, heard where there is none, or given to the wrong speaker (NIST, 2009).

Time is cut at every border of reference and hypothesis, so the figure is exact; within `collar` seconds of a border of the reference
nothing is counted. Labels are matched one to one so that they agree the longest. Several may speak at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Labelled = tuple[float, float, str]
"""Start and end in seconds, and who speaks."""


def error_rate(reference: Sequence[Labelled], heard: Sequence[Labelled], collar: float = 0.25) -> dict[str, float]:
    """`rate` and its parts `missed`, `false_alarm` and `confused`, each over the reference's speech, and `seconds` of that."""
    from scipy.optimize import linear_sum_assignment

    borders = [border for start, end, _ in reference for border in (start, end)]
    around = [(border - collar, border + collar) for border in borders]
    cuts = np.unique(
        [x for rows in (reference, heard) for start, end, _ in rows for x in (start, end)] + [x for pair in around for x in pair]
    )
    lengths, middles = np.diff(cuts), (cuts[1:] + cuts[:-1]) / 2
    counted = lengths * ~_within(middles, around) if collar else lengths
    said, found = _active(middles, reference), _active(middles, heard)
    agree = (said * counted) @ found.T
    rows, columns = linear_sum_assignment(-agree)
    right = float(agree[rows, columns].sum())
    many, guessed = said.sum(0), found.sum(0)
    total = float((many * counted).sum())
    missed = float((np.maximum(many - guessed, 0) * counted).sum())
    false = float((np.maximum(guessed - many, 0) * counted).sum())
    confused = float((np.minimum(many, guessed) * counted).sum()) - right
    parts = {"missed": missed, "false_alarm": false, "confused": confused}
    over = max(total, 1e-9)
    return {"rate": (missed + false + confused) / over, **{name: value / over for name, value in parts.items()}, "seconds": total}


def _active(moments: np.ndarray, rows: Sequence[Labelled]) -> np.ndarray:
    """`[speakers, moments]`: 1 where a speaker speaks."""
    names = sorted({name for *_, name in rows})
    return (
        np.stack([_within(moments, [(a, b) for a, b, who in rows if who == name]) for name in names]).astype(float)
        if names
        else np.zeros((1, len(moments)))
    )


def _within(moments: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    inside = np.zeros(len(moments), dtype=bool)
    for start, end in spans:
        inside |= (moments > start) & (moments < end)
    return inside
