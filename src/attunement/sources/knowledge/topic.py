"""Which concepts belong: a small classifier over sentence vectors and the place in the hierarchy, trained on our own labels.

On topic is what a clinician, a psychology student or a therapy client could need to understand mental life, distress, its
assessment or its treatment (docs/knowledge.md has the rubric). Labels are ids with 0 or 1 (`written/topic_labels.jsonl`);
`scripts/train_topic.py` trains the weights from them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attunement import sources
from attunement.embedding import Embedder, Vectors
from attunement.errors import ModelError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.hierarchy import Hierarchy

WEIGHTS = Path(sources.__file__).parent / "weights" / "topic.npz"
LABELS = sources.WRITTEN / "topic_labels.jsonl"
SOURCES = (
    "bcio",
    "cogat",
    "doid",
    "maxo",
    "mf",
    "mfoem",
    "nbo",
    "openstax-introduction-sociology-3e",
    "openstax-psychology-2e",
    "symp",
    "wn30",
)
"""Of what share of a source is on topic the filter makes use."""
LABEL_SHARE, ABOVE_SHARE = 0.7, 1.2
"""How much the name and what stands above count beside the definition; chosen by cross-validation (docs/knowledge.md)."""


def passage(concept: Concept) -> str:
    """What the vector of a concept is made from, here and in search."""
    names = f"{concept.label} ({', '.join(list(concept.synonyms)[:5])})" if concept.synonyms else concept.label
    return f"{names}: {concept.content}"


@dataclass(frozen=True)
class Seen:
    """Vectors of n concepts `[n, d]`: of the passage, of the name, and the mean of the names above (zero where none stand);
    and the prefix of each id."""

    passages: Vectors
    labels: Vectors
    above: Vectors
    prefixes: Sequence[str]

    def features(self) -> NDArray[np.float64]:
        """`[n, 3 d + len(SOURCES)]`, of about unit length a part. A source that the filter does not know has zeros."""
        of_source = np.array([[prefix == source for source in SOURCES] for prefix in self.prefixes], dtype=np.float64)
        parts = [self.passages, self.labels * LABEL_SHARE, self.above * ABOVE_SHARE, of_source.reshape(-1, len(SOURCES))]
        return np.concatenate(parts, axis=1).astype(np.float64)


def see(concepts: Sequence[Concept], hierarchy: Hierarchy, embedder: Embedder) -> Seen:
    """The vectors of `concepts`; each distinct name above is encoded once."""
    above = [hierarchy.names_above(concept.concept_id) for concept in concepts]
    names = sorted({name for row in above for name in row})
    place = {name: number for number, name in enumerate(names)}
    encoded = embedder.encode(names)
    passages = embedder.encode([passage(concept) for concept in concepts])
    mean = np.zeros_like(passages)
    for number, row in enumerate(above):
        if row:
            mean[number] = encoded[[place[name] for name in row]].mean(0)
    prefixes = [concept.concept_id.split(":")[0] for concept in concepts]
    return Seen(passages, embedder.encode([concept.label for concept in concepts]), mean, prefixes)


@dataclass(frozen=True)
class TopicFilter:
    """Weights of `Seen.features`, bias, and the probability from which a concept is kept."""

    weight: NDArray[np.float64]
    bias: float
    threshold: float

    def probabilities(self, seen: Seen) -> NDArray[np.float64]:
        """`[n]`, the chance that each concept is on topic."""
        logits = seen.features() @ self.weight + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, weight=self.weight.astype(np.float32), bias=self.bias, threshold=self.threshold)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> TopicFilter:
        """The shipped filter. Raises `ModelError` when the file is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as found:
                return cls(found["weight"].astype(np.float64), float(found["bias"]), float(found["threshold"]))
        except (OSError, KeyError, ValueError) as error:
            raise ModelError(f"the topic filter {path} cannot be read: {error}") from error


def fit(features: NDArray[np.float64], truth: NDArray[np.float64], strength: float) -> tuple[NDArray[np.float64], float]:
    """Logistic regression with ridge `1 / (2 strength)`, the bias free: weight and bias."""
    from scipy.optimize import minimize

    sign = truth * 2 - 1

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = flat[:-1], flat[-1]
        margin = sign * (features @ weight + bias)
        pull = -sign / (1 + np.exp(np.clip(margin, -30, 30)))
        value = float(np.logaddexp(0, -margin).sum() + weight @ weight / (2 * strength))
        return value, np.append(features.T @ pull + weight / strength, pull.sum())

    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return found.x[:-1], float(found.x[-1])


def out_of_fold(features: NDArray[np.float64], truth: NDArray[np.float64], strength: float, seed: int) -> NDArray[np.float64]:
    """Probabilities `[n]` of each example by a model of the other four fifths."""
    fold = np.random.default_rng(seed).permutation(len(truth)) % 5
    out = np.zeros(len(truth))
    for number in range(5):
        weight, bias = fit(features[fold != number], truth[fold != number], strength)
        out[fold == number] = 1 / (1 + np.exp(-(features[fold == number] @ weight + bias)))
    return out


def truth_of(labels: Mapping[str, int], concepts: Sequence[Concept]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows of `concepts` that are labelled, and their labels."""
    rows = [number for number, concept in enumerate(concepts) if concept.concept_id in labels]
    return np.array(rows, dtype=np.int64), np.array([labels[concepts[row].concept_id] for row in rows], dtype=np.float64)
