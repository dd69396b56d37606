"""How much a full build makes of each share: enough for the given sources, and no more than the written material can vary.

A mixture is as big as its scarcest share allows. The shares that can only be given (standard, voice) say how big it may become;
what edge cases, dual personas and knowledge then lack is made, with a margin, since some of it will be left out again. What the
written beats and scenarios can give at most bounds the whole in turn: there is no use in a thousand edge cases where dual
personas end at a tenth of that. How many examples so many conversations give was measured (`benchmarks/full_preset.py curves`).
Pairs that wait for clinical review count as examples here: accepted, they come in, and nothing has to be made again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from attunement.config import Settings
from attunement.providers.opening import OFFLINE

MADE = ("edge_case", "dual_persona", "knowledge")
"""The shares that can be made."""
Curve = tuple[tuple[int, int], ...]
"""(conversations, examples of them), growing; the last point is about what the written material can vary."""
WRITTEN: dict[str, Curve] = {
    "edge_case": ((0, 0), (125, 733), (250, 1368), (500, 2314), (1000, 3363)),
    "dual_persona": ((0, 0), (50, 286), (100, 471), (200, 675), (400, 922)),
}
BY_MODEL = 5.0
"""Examples of a conversation that a language model writes: a careful guess, not measured. The written ones give 5.7 before they repeat."""
OF_QUESTION = 0.9
"""Examples of a question about a concept: the rest is a near-duplicate, incoherent to the judge, or held. Over 6,200 concepts it was .99, of
our own 409 alone more repeat one another."""
MARGIN = 1.15
STEP = {"edge_case": 25, "dual_persona": 10, "knowledge": 50}
"""Sizes are rounded up to these (edge cases have 25 categories), so that a few conversations more or less change nothing."""


@dataclass(frozen=True)
class Size:
    """How many conversations of a share are made, and a sentence that says why so many."""

    conversations: int
    why: str


def sizes(available: Mapping[str, int], settings: Settings, *, questions: int) -> dict[str, Size]:
    """For each share that is made its size. `available` counts the given examples by share; `questions` is how many can be asked."""
    target, full = settings.data.target_balance, settings.full
    offline = full.provider == OFFLINE
    most = {
        **{share: float(WRITTEN[share][-1][1]) if offline else BY_MODEL * full.most for share in WRITTEN},
        "knowledge": OF_QUESTION * questions,
    }
    bounds = {
        share: (available.get(share, 0) + most.get(share, 0.0)) / target[share]
        for share in target
        if target[share] and (share in MADE or available.get(share))
    }
    limit = min(bounds, key=lambda share: bounds[share])
    told = f"{bounds[limit]:,.0f} examples are what {limit} allows in all"
    wished = {"edge_case": full.edge_cases, "dual_persona": full.personas, "knowledge": full.questions}
    out = {}
    for share in MADE:
        lacking = max(0.0, target.get(share, 0.0) * bounds[limit] - available.get(share, 0))
        wish = wished[share]
        if wish is not None:
            out[share] = Size(wish, "as set")
        elif not lacking:
            out[share] = Size(0, f"{told}, and {available.get(share, 0):,} of {share} are given")
        else:
            out[share] = Size(
                _conversations(share, lacking, offline, full.most, questions), f"{told}: {lacking:,.0f} of {share} lack"
            )
    return out


def _conversations(share: str, examples: float, offline: bool, most: int, questions: int) -> int:
    """How many conversations give so many examples, with the margin, rounded up; at most what there can be."""
    wanted = MARGIN * examples
    if share == "knowledge":
        number, most = wanted / OF_QUESTION, questions
    elif offline:
        number, most = _at(WRITTEN[share], wanted), WRITTEN[share][-1][0]
    else:
        number = wanted / BY_MODEL
    return min(most, STEP[share] * ceil(number / STEP[share]))


def _at(curve: Curve, examples: float) -> float:
    """The conversations for so many examples, straight between the measured points."""
    for (few, low), (many, high) in itertools.pairwise(curve):
        if examples <= high:
            return few + (many - few) * (examples - low) / (high - low)
    return curve[-1][0]
