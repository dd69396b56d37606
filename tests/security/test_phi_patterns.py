"""No expression of the PHI detector that hostile text can slow down."""

from __future__ import annotations

import re
import time

import pytest

from attunement.security.phi import capitals, checks, detector, doubts, identifiers, people, shifting, surrogates, words
from attunement.security.phi.detector import PATTERNS

SIZE = 50_000
"""Two and a half times the longest text that the service takes (`serving.max_input_characters`); what is linear is told at any size."""
PIECES = ("a", "1 ", "a.", "Aa ", "-", " ", "1/1/", "12 Aa Aa ", "À", "'")
"""Tried on every expression, beside its own cues."""
PATIENCE = 0.05
"""Seconds of the processor, as wanted; the slowest takes half of it on a machine that others use too. What is quadratic takes seconds."""
OTHERS = [
    value
    for module in (people, shifting, surrogates, detector, identifiers, words, checks, capitals, doubts)
    for value in vars(module).values()
    if isinstance(value, re.Pattern)
]


def _seconds(expression: re.Pattern[str], text: str) -> float:
    """Of the processor, the best of up to five tries: other work on the machine is no fault of an expression."""
    best = 9.0
    for _ in range(5):
        start = time.thread_time()
        for _match in expression.finditer(text):
            pass
        best = min(best, time.thread_time() - start)
        if best < PATIENCE:
            break
    return best


@pytest.mark.parametrize(
    ("expression", "cues"),
    [*((p.expression, p.first) for p in PATTERNS), *((e, ()) for e in OTHERS)],
    ids=[*(p.name for p in PATTERNS), *(f"other{i}" for i in range(len(OTHERS)))],
)
def test_hostile_text_does_not_slow_an_expression(expression: re.Pattern[str], cues: tuple[str, ...]) -> None:
    for piece in (*PIECES, *(f"{cue} " for cue in cues[:2])):
        text = (piece * (SIZE // len(piece)))[: SIZE - 1] + "!"
        taken = _seconds(expression, text)
        assert taken < PATIENCE, f"{expression.pattern[:60]} takes {taken:.3f} s on {piece!r}"
