"""A trained classifier over `features`: one linear model of sentence vectors, one of words, stacked and calibrated.

Training is deterministic and takes seconds to minutes. What is kept is numbers only (`.npz`, no pickle). The stack is
fitted on predictions for examples whose group the two models had not seen, so its probabilities are frequencies: of what
gets 0.8, about eight in ten are right.

Shapes: n texts, C classes, D dense features, F kept words.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from attunement.errors import DataError, ModelError
from attunement.quality.features import Dense, Features, Words, pair_vectors

FOLDS = 5
MAX_WORDS = 40_000
"""Words and pairs that a head keeps: those that stand in most texts."""
STRENGTHS = {"dense": (0.0003, 0.003, 0.03), "sparse": (0.5, 2.0, 8.0)}
"""Inverse regularisation that is tried (sum of losses + |weight|^2 / 2C); the best on the first fold is taken."""
MAX_STEPS = 200
STACK_PULL = 1e-3
"""Draws the stack towards the plain mean where there are few examples."""
SHORT_TURN_WORDS = 12
"""Of the context the last turn is read, and the one before it too where the last is shorter than this."""
FORMAT_VERSION = 1

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """What a head reads and says. `multilabel`: classes do not exclude each other. `context`: reads what was said before."""

    classes: tuple[str, ...]
    multilabel: bool = False
    context: bool = False


@dataclass(frozen=True)
class Seen:
    """What a head sees of n texts: dense features `[n, D]` and words, with those of what was said before."""

    dense: Dense
    words: Sequence[tuple[Words, ...]]

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: NDArray[np.int64]) -> Seen:
        """The same of some rows."""
        return Seen(self.dense[rows], [self.words[i] for i in rows])


def look(features: Features, shape: Shape, texts: Sequence[str], contexts: Sequence[Sequence[str]]) -> Seen:
    """What a head of `shape` sees of `texts`, each after its context (oldest first)."""
    if not texts:
        return Seen(np.zeros((0, 0), dtype=np.float32), [])
    if not shape.context:
        words: list[tuple[Words, ...]] = [(features.words(text),) for text in texts]
        dense = features.vectors(texts)
    else:
        before = [_before(context) for context in contexts]
        words = [(features.words(t), features.words(b, "before:")) for t, b in zip(texts, before, strict=True)]
        both = features.vectors([*texts, *before])
        dense = pair_vectors(both[: len(texts)], both[len(texts) :])
    surface = np.stack([np.concatenate([part.surface for part in row]) for row in words])
    return Seen(np.concatenate([dense, surface], axis=1), words)


def _before(context: Sequence[str]) -> str:
    if len(context) > 1 and len(context[-1].split()) < SHORT_TURN_WORDS:
        return f"{context[-2]}\n{context[-1]}"
    return context[-1] if context else ""


@dataclass
class Head:
    """Weights of the two models, `[C, D]` and `[F, C]`, and of the stack; `thresholds` `[C]` is the operating point."""

    shape: Shape
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    dense_weight: NDArray[np.float32]
    dense_bias: NDArray[np.float32]
    vocabulary: NDArray[np.uint32]
    idf: NDArray[np.float32]
    sparse_weight: NDArray[np.float32]
    sparse_bias: NDArray[np.float32]
    stack_weight: NDArray[np.float32]
    stack_bias: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    notes: dict[str, Any] = field(default_factory=dict)

    def predict(self, seen: Seen) -> NDArray[np.float64]:
        """Calibrated probabilities `[n, C]`; a row adds up to 1 unless `multilabel`."""
        if not len(seen):
            return np.zeros((0, len(self.shape.classes)))
        return probabilities(self.shape, self._stack(self.logits(seen)))

    def logits(self, seen: Seen) -> Logits:
        """The two models' logits, `[n, 2C]`."""
        dense = ((seen.dense - self.mean) / self.deviation).astype(np.float64) @ self.dense_weight.T + self.dense_bias
        sparse = np.tile(self.sparse_bias.astype(np.float64), (len(seen), 1))
        for row, parts in enumerate(seen.words):
            places, values = _weighed(parts, self.vocabulary, self.idf)
            sparse[row] += values @ self.sparse_weight[places]
        return np.concatenate([dense, sparse], axis=1)

    def _stack(self, logits: Logits) -> Logits:
        return _stacked(self.shape, logits, self.stack_weight, self.stack_bias)

    def to_bytes(self) -> bytes:
        """As `.npz`: the large arrays in 16 bits, shape and notes as JSON."""
        about = {"format_version": FORMAT_VERSION, "shape": asdict(self.shape), "notes": self.notes}
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {name: arrays[name].astype(np.float16) for name in ("dense_weight", "sparse_weight", "idf")}
        text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=text, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Head:
        """The inverse of `to_bytes`. Raises `ModelError`."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                about = json.loads(found["about"].tobytes())
                arrays = {n: found[n].astype(np.uint32 if n == "vocabulary" else np.float32) for n in _ARRAYS}
            shape = Shape(**{**about["shape"], "classes": tuple(about["shape"]["classes"])})
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"the judge {where} is damaged: train it again with  attune quality train") from error
        if about.get("format_version") != FORMAT_VERSION:
            raise ModelError(f"the judge {where} was written by another version: train it again with  attune quality train")
        return cls(shape, **arrays, notes=about["notes"])


_ARRAYS = (
    "mean", "deviation", "dense_weight", "dense_bias", "vocabulary", "idf", "sparse_weight", "sparse_bias", "stack_weight",
    "stack_bias", "thresholds",
)  # fmt: skip


def probabilities(shape: Shape, logits: Logits) -> NDArray[np.float64]:
    """`[n, C]` of stacked logits `[n, C]`."""
    if shape.multilabel:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _stacked(shape: Shape, logits: Logits, weight: NDArray[Any], bias: NDArray[Any]) -> Logits:
    """Each class from its own two logits: `weight` `[2, C]`."""
    classes = len(shape.classes)
    return np.asarray(logits[:, :classes] * weight[0] + logits[:, classes:] * weight[1] + bias)


def _weighed(
    parts: Sequence[Words], vocabulary: NDArray[np.uint32], idf: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places in the vocabulary, and TF-IDF values (1 + log count; length 1), of a text's words."""
    hashes = np.concatenate([part.hashes for part in parts])
    counts = np.concatenate([part.counts for part in parts]).astype(np.float64)
    places = np.minimum(np.searchsorted(vocabulary, hashes), len(vocabulary) - 1)
    known = vocabulary[places] == hashes
    places = places[known]
    values = (1 + np.log(counts[known])) * idf[places]
    return places, values / max(1e-9, float(np.sqrt(np.square(values).sum())))


# --- training ---------------------------------------------------------------------------------------------------


def folds_of(groups: Sequence[str], folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each example by the hash of its group: the same whenever and wherever."""
    return np.asarray([xxhash.xxh64_intdigest(group.encode()) % folds for group in groups], dtype=np.int64)


def targets_of(shape: Shape, labels: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Labels as `[n, C]` of 0 and 1."""
    place = {name: i for i, name in enumerate(shape.classes)}
    out = np.zeros((len(labels), len(shape.classes)))
    for row, names in enumerate(labels):
        out[row, [place[name] for name in names]] = 1
    return out


def fit(shape: Shape, seen: Seen, targets: NDArray[np.float64], groups: Sequence[str], notes: Mapping[str, Any]) -> Head:
    """Trains a head on what was seen of the texts and their targets `[n, C]`. Raises `DataError` when a class has no example."""
    for name, count in zip(shape.classes, targets.sum(0), strict=True):
        if not count:
            raise DataError(f"there is no example of '{name}' to learn from: give more data")
    fold = folds_of(groups)
    strengths = _choose_strengths(shape, seen, targets, fold)
    stacked = np.zeros((len(seen), 2 * len(shape.classes)))
    for number in np.unique(fold):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        part = _fit_parts(shape, seen.take(train), targets[train], strengths)
        stacked[test] = part.logits(seen.take(test))
    head = _fit_parts(shape, seen, targets, strengths)
    head.stack_weight, head.stack_bias = _fit_stack(shape, stacked, targets)
    head.thresholds = _best_thresholds(shape, probabilities(shape, head._stack(stacked)), targets)
    head.notes = {**notes, "strengths": strengths, "examples": len(seen)}
    return head


def _choose_strengths(shape: Shape, seen: Seen, targets: NDArray[np.float64], fold: NDArray[np.int64]) -> dict[str, float]:
    """By the log loss on the first fold of each model alone."""
    first = fold.min()
    train, test = np.flatnonzero(fold != first), np.flatnonzero(fold == first)
    classes, chosen = len(shape.classes), {}
    before, after = seen.take(train), seen.take(test)
    for number, (kind, tried) in enumerate(STRENGTHS.items()):
        losses = {}
        for strength in tried:
            strengths = {"dense": STRENGTHS["dense"][0], "sparse": STRENGTHS["sparse"][0], kind: strength}
            head = _fit_parts(shape, before, targets[train], strengths, only=kind)
            logits = head.logits(after)[:, number * classes : (number + 1) * classes]
            losses[strength] = _log_loss(shape, probabilities(shape, logits), targets[test])
        chosen[kind] = min(losses, key=lambda s: losses[s])
    return chosen


def _log_loss(shape: Shape, found: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    found = np.clip(found, 1e-7, 1 - 1e-7)
    loss = targets * np.log(found)
    if shape.multilabel:
        loss += (1 - targets) * np.log(1 - found)
    return float(-loss.sum() / max(1, len(targets)))


def _fit_parts(shape: Shape, seen: Seen, targets: NDArray[np.float64], strengths: Mapping[str, float], only: str = "") -> Head:
    """The two models, not yet stacked; with `only` the other one stays nothing."""
    from scipy.sparse import csr_matrix

    classes = len(shape.classes)
    mean, deviation = seen.dense.mean(0), seen.dense.std(0)
    deviation[deviation < 1e-6] = 1.0
    vocabulary, idf = _vocabulary(seen.words)
    dense_weight, dense_bias = np.zeros((classes, seen.dense.shape[1])), np.zeros(classes)
    sparse_weight, sparse_bias = np.zeros((classes, len(vocabulary))), np.zeros(classes)
    if only != "sparse":
        x = ((seen.dense - mean) / deviation).astype(np.float64)
        dense_weight, dense_bias = _logistic(shape, x, targets, strengths["dense"])
    if only != "dense":
        found = [_weighed(parts, vocabulary, idf) for parts in seen.words]
        starts = np.cumsum([0, *(len(places) for places, _ in found)])
        values, places = (np.concatenate([pair[i] for pair in found]) for i in (1, 0))
        matrix = csr_matrix((values, places, starts), shape=(len(seen), len(vocabulary)))
        sparse_weight, sparse_bias = _logistic(shape, matrix, targets, strengths["sparse"])
    single = np.float32
    return Head(
        shape,
        mean.astype(single),
        deviation.astype(single),
        dense_weight.astype(single),
        dense_bias.astype(single),
        vocabulary,
        idf,
        np.ascontiguousarray(sparse_weight.T, dtype=single),
        sparse_bias.astype(single),
        np.full((2, classes), 0.5, dtype=single),
        np.zeros(classes, dtype=single),
        np.full(classes, 0.5, dtype=single),
    )


def _vocabulary(words: Sequence[tuple[Words, ...]]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Hashes that stand in at least two texts, ascending, at most `MAX_WORDS`, and their smoothed inverse frequency."""
    hashes, counts = np.unique(np.concatenate([part.hashes for row in words for part in row]), return_counts=True)
    if (counts > 1).any():
        hashes, counts = hashes[counts > 1], counts[counts > 1]
    kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_WORDS])
    return hashes[kept].astype(np.uint32), (np.log((1 + len(words)) / (1 + counts[kept])) + 1).astype(np.float32)


def _logistic(shape: Shape, x: Any, targets: NDArray[np.float64], strength: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Regularised logistic regression by L-BFGS, all classes at once: weights `[C, features]`, biases `[C]`.

    One against rest when multilabel, else multinomial with every class counting the same in sum ('balanced').
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    n, classes = targets.shape
    features = x.shape[1]
    weight = np.ones((n, 1)) if shape.multilabel else (n / classes / targets.sum(0))[targets.argmax(1)][:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = flat[:-classes].reshape(features, classes), flat[-classes:]
        logits = x @ w + b
        if shape.multilabel:
            value = (np.logaddexp(0, logits) - targets * logits).sum()
        else:
            value = (weight * (logsumexp(logits, axis=1, keepdims=True) - (targets * logits).sum(1, keepdims=True))).sum()
        error = weight * (probabilities(shape, logits) - targets)
        gradient = np.concatenate([(x.T @ error + w / strength).ravel(), error.sum(0)])
        return float(value + np.square(w).sum() / (2 * strength)) / n, gradient / n

    start = np.zeros((features + 1) * classes)
    start[-classes:] = np.log((targets.sum(0) + 1) / (n + 2)) if shape.multilabel else 0.0
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS, "ftol": 1e-7}).x
    return flat[:-classes].reshape(features, classes).T, flat[-classes:]


def _fit_stack(shape: Shape, logits: Logits, targets: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights `[2, C]` and biases `[C]` that make the joined probabilities likeliest; unweighted, so they are calibrated."""
    from scipy.optimize import minimize

    n, classes = targets.shape
    first, second = logits[:, :classes], logits[:, classes:]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = flat[: 2 * classes].reshape(2, classes), flat[2 * classes :]
        found = probabilities(shape, _stacked(shape, logits, weight, bias))
        error = (found - targets) / n
        pull = STACK_PULL * (weight - 0.5)
        gradient = [(error * part).sum(0) + 2 * towards for part, towards in zip((first, second), pull, strict=True)]
        penalty = STACK_PULL * float(np.square(weight - 0.5).sum())
        return _log_loss(shape, found, targets) + penalty, np.concatenate([*gradient, error.sum(0)])

    start = np.concatenate([np.full(2 * classes, 0.5), np.zeros(classes)])
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return flat[: 2 * classes].reshape(2, classes).astype(np.float32), flat[2 * classes :].astype(np.float32)


def _best_thresholds(shape: Shape, found: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float32]:
    """Multilabel: the probability from which each class's F1 is best. Else unused: the likeliest class is the label."""
    if not shape.multilabel:
        return np.full(len(shape.classes), 0.5, dtype=np.float32)
    out = []
    for probability, target in zip(found.T, targets.T, strict=True):
        order = np.argsort(-probability, kind="stable")
        hits = np.cumsum(target[order])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + target.sum())
        out.append(probability[order[int(np.argmax(f1))]])
    return np.asarray(out, dtype=np.float32)
