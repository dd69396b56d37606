"""How personas sound beside one another: learnt from the example turns of their files, by vectors and techniques, not by words.

A small softmax regression over a turn's sentence vector (d) and its eight technique probabilities. With 14 examples a persona it names
the right one for 95 % of the turns of the written scenarios, which are no examples (benchmarks/results/sources-personas.json).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attunement.quality.panel import Judges
from attunement.quality.techniques import TECHNIQUES
from attunement.quality.verdicts import Item
from attunement.sources.personas.files import Persona

STRENGTH = 10.0
"""Inverse of the pull towards nothing."""


def techniques_of(judges: Judges, items: Sequence[Item]) -> NDArray[np.float64]:
    """Technique probabilities `[n, 8]` of therapists' turns after their contexts."""
    verdicts = judges.judge("technique", items)
    return np.asarray([[verdict.labels[name] for name in TECHNIQUES] for verdict in verdicts]).reshape(-1, len(TECHNIQUES))


class PersonaVoice:
    """Which of `personas` a turn sounds like."""

    def __init__(self, judges: Judges, personas: Sequence[Persona]) -> None:
        self.judges, self.names = judges, [persona.id for persona in personas]
        items = [Item(e.therapist, (e.client,)) for persona in personas for e in persona.examples]
        labels = np.repeat(np.arange(len(personas)), [len(persona.examples) for persona in personas])
        self._weight = _fit(self._features(items), np.eye(len(personas))[labels])

    def probabilities(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """`[n, personas]`, in the order given."""
        return _softmax(self._features(items) @ self._weight)

    def _features(self, items: Sequence[Item]) -> NDArray[np.float64]:
        vectors = self.judges.features.class_vectors([item.text for item in items])
        return np.concatenate([vectors, techniques_of(self.judges, items), np.ones((len(items), 1))], axis=1)


def _fit(x: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights `[features, classes]` of a softmax regression with an L2 pull, by L-BFGS; each class counts the same."""
    from scipy.optimize import minimize

    balance = (len(x) / targets.sum(0) / targets.shape[1])[targets.argmax(1)][:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = flat.reshape(x.shape[1], targets.shape[1])
        found = _softmax(x @ weight)
        value = -(balance * targets * np.log(np.maximum(found, 1e-12))).sum() + np.square(weight).sum() / (2 * STRENGTH)
        return float(value), (x.T @ (balance * (found - targets)) + weight / STRENGTH).ravel()

    found = minimize(loss, np.zeros(x.shape[1] * targets.shape[1]), jac=True, method="L-BFGS-B").x
    return np.asarray(found).reshape(x.shape[1], targets.shape[1])


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
