"""Who is who in a talk: therapist and client, host and guest, or a lecturer, from what each speaker says.

The judge `role` reads every turn with the two before it. Over a talk its log-probabilities are summed for each speaker under one
constraint: the two who say most have opposite roles (therapist and client, or host and guest). Who holds the floor alone is a lecturer,
or the host of a programme; the judge `content_type` tells. Figures: `benchmarks/results/voice.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attunement.quality.panel import Judges
from attunement.quality.roles import BEFORE, TURN_ROLES
from attunement.quality.verdicts import Item

SETTINGS = (("therapist", "client"), ("host", "guest"))
"""Who meets whom."""
ALONE = 0.9
"""A speaker with this share of the words holds the floor alone."""
WEIGHT = 0.5
"""What a turn's log-probability counts: turns of one talk are not independent of each other."""
LEAST = 1e-3
"""No single turn is surer than this."""
FLOOR_WORDS = 40
"""Of less speech than this by one person alone nothing is said."""


class Turnlike(Protocol):
    """What is read of a turn; a `Turn` and a `SpokenSegment` are such."""

    @property
    def speaker(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Role:
    """One of `SPEAKER_ROLES`, and how probable it is, 0-1."""

    name: str
    probability: float


def roles_of(turns: Sequence[Turnlike], judges: Judges) -> dict[str, Role]:
    """The role of each speaker of a talk; a speaker of whom nothing can be told is left out. The turns are in order of time."""
    said = [(turn.speaker, turn.text) for turn in turns if turn.text.strip()]
    words: Counter[str] = Counter()
    for speaker, text in said:
        words[speaker] += len(text.split())
    if not words:
        return {}
    main = [name for name, _ in words.most_common(2)]
    if words[main[0]] >= ALONE * words.total():
        return _alone(main[0], said, judges) if words[main[0]] >= FLOOR_WORDS else {}
    likely = _likelihoods(said, judges)
    pairs = {(setting, order): 0.0 for setting in SETTINGS for order in permutations(main)}
    for setting, order in pairs:
        pairs[setting, order] = sum(likely[name][TURN_ROLES.index(role)] for name, role in zip(order, setting, strict=True))
    shares = _softmax(np.asarray(list(pairs.values())))
    setting, order = list(pairs)[int(shares.argmax())]
    found = {name: Role(role, round(float(shares.max()), 4)) for name, role in zip(order, setting, strict=True)}
    for name in words:
        if name not in found:
            own = _softmax(np.asarray([likely[name][TURN_ROLES.index(role)] for role in setting]))
            found[name] = Role(setting[int(own.argmax())], round(float(own.max() * shares.max()), 4))
    return found


def _likelihoods(said: Sequence[tuple[str, str]], judges: Judges) -> dict[str, NDArray[np.float64]]:
    """Each speaker's weighed sum of log-probabilities, `[4]` in the order of `TURN_ROLES`."""
    texts = [text for _, text in said]
    items = [Item(text, tuple(texts[max(0, i - BEFORE) : i])) for i, text in enumerate(texts)]
    out: dict[str, NDArray[np.float64]] = {}
    for (speaker, _), verdict in zip(said, judges.judge("role", items), strict=True):
        row = WEIGHT * np.log(np.asarray([max(LEAST, verdict.labels[name]) for name in TURN_ROLES]))
        out[speaker] = out.get(speaker, np.zeros(len(TURN_ROLES))) + row
    return out


def _alone(speaker: str, said: Sequence[tuple[str, str]], judges: Judges) -> dict[str, Role]:
    """A lecturer, or the host of a programme of one; whoever says a few words beside is left out."""
    kind = judges.judge("content_type", [Item("", turns=tuple(said))])[0].labels
    programme = kind["podcast"] / max(1e-9, kind["podcast"] + kind["monologue"] + kind["speech"])
    name, probability = ("host", programme) if programme > 0.5 else ("lecturer", 1 - programme)
    return {speaker: Role(name, round(probability, 4))}


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max())
    return np.asarray(shifted / shifted.sum())
