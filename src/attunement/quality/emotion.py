"""GoEmotions' 28 labels as Ekman's six (and neutral), and as a place between unpleasant and pleasant, calm and aroused.

Valence is GoEmotions' own grouping into positive, negative and ambiguous (Demszky 2020, figure 2); arousal the half of Russell's circumplex
(1980) in which a word for the emotion lies. Both are coarse on purpose: signs, not measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attunement.quality.labelled import EKMAN, EMOTIONS

POSITIVE = "admiration amusement approval caring desire excitement gratitude joy love optimism pride relief".split()
NEGATIVE = "anger annoyance disappointment disapproval disgust embarrassment fear grief nervousness remorse sadness".split()
AROUSED = "amusement anger annoyance desire disgust excitement fear joy nervousness surprise confusion curiosity".split()
CALM = "caring disappointment embarrassment gratitude grief relief remorse sadness realization".split()

VALENCE = {name: (name in POSITIVE) - (name in NEGATIVE) for name in EMOTIONS}
AROUSAL = {name: (name in AROUSED) - (name in CALM) for name in EMOTIONS}


def ekman(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities `[n, 7]` of Ekman's groups from those of the 28 emotions: that any member is there, were they independent."""
    members = ([EMOTIONS.index(name) for name in names.split()] for names in EKMAN.values())
    return np.stack([1 - (1 - found[:, group]).prod(1) for group in members], axis=1)


def grouped(labels: Mapping[str, float]) -> dict[str, float]:
    """The same of one verdict's labels, by name."""
    found = ekman(np.asarray([[labels[name] for name in EMOTIONS]]))[0]
    return {group: float(value) for group, value in zip(EKMAN, found, strict=True)}


def valence(labels: Mapping[str, float]) -> float:
    """-1 unpleasant to 1 pleasant: the labels' signs weighed by their probabilities."""
    return _weighed(labels, VALENCE)


def arousal(labels: Mapping[str, float]) -> float:
    """-1 calm to 1 aroused."""
    return _weighed(labels, AROUSAL)


def _weighed(labels: Mapping[str, float], signs: Mapping[str, int]) -> float:
    total = sum(labels.values())
    return round(sum(p * signs[name] for name, p in labels.items()) / total, 4) if total else 0.0
