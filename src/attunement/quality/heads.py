"""A trained classifier over `features`: one linear model of sentence vectors, one of words, stacked and calibrated.

Training is deterministic and takes seconds to minutes. What is kept is numbers only (`.npz`, no pickle). The stack is
fitted on predictions for examples whose group the two models had not seen, so its probabilities are frequencies: of what
gets 0.8, about eight in ten are right.

Shapes: n texts, C classes, D dense features, F kept words.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from attunement.errors import DataError, ModelError
from attunement.quality.features import Dense, Words

FOLDS = 5
MAX_WORDS = 40_000
"""Words and pairs that a head keeps: those that stand in most texts."""
STRENGTHS = {"dense": (0.0003, 0.003, 0.03), "sparse": (0.5, 2.0, 8.0)}
"""Inverse regularisation that is tried (sum of losses + |weight|^2 / 2C); the best on the first fold is taken."""
FEW_NEW = 0.25
"""Where less than this share of the examples is new to the encoder, one split of them serves instead of folds."""
MAX_STEPS = 200
STACK_PULL = 1e-3
"""Draws the stack towards the plain mean where there are few examples."""
FARTHEST = 5.0
QUOTIENTS, QUOTIENT_ROUNDS, CHANGE_PAYS = np.linspace(-1.5, 1.5, 25), 3, 0.3
"""Logarithms of thresholds that are tried, in how many rounds, and what a change must add over the square root of the examples:
of 442 transcripts a smaller gain did not last (macro-F1 .830 to .819)."""
FORMAT_VERSION = 2

Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """What a head reads and says. `multilabel`: classes do not exclude each other.

    `reads`: a `text`; a `message`, in which words weigh otherwise the longer it is; a `reply` with what was said before it; an
    `answer` with its question and context (for coherence); a whole `talk`, for how it is led; a `transcript`, for what kind of talk it is.
    """

    classes: tuple[str, ...]
    multilabel: bool = False
    reads: Literal["text", "message", "reply", "answer", "talk", "transcript"] = "text"

    @property
    def whole(self) -> bool:
        """Whether it reads all turns of a conversation."""
        return self.reads in ("talk", "transcript")


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


@dataclass
class Head:
    """Weights of the two models, `[C, D]` and `[F, C]`, and of the stack.

    `thresholds` `[C]`: multilabel, the probability from which a class is said; else the class with the highest quotient of its
    probability and its threshold is.
    """

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
    extras: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """What `looking` needs besides, by name; kept in 16 bits."""
    out_of_fold: NDArray[np.float64] | None = None
    """Of a head just trained: probabilities `[n, C]` of each example by models that had not seen its group; NaN for known ones."""

    def predict(self, seen: Seen) -> NDArray[np.float64]:
        """Calibrated probabilities `[n, C]`; a row adds up to 1 unless `multilabel`."""
        if not len(seen):
            return np.zeros((0, len(self.shape.classes)))
        return probabilities(self.shape, self._stack(self.logits(seen)))

    def said(self, found: NDArray[np.float64]) -> NDArray[np.int64]:
        """The place of the class that is said for each row of probabilities `[n, C]`, as `[n]`."""
        return np.asarray((found / np.maximum(self.thresholds, 1e-6)).argmax(1))

    def logits(self, seen: Seen) -> Logits:
        """The two models' logits, `[n, 2C]`."""
        dense_weight, sparse_weight = self._wide
        dense = _standardised(seen.dense, self.mean, self.deviation) @ dense_weight + self.dense_bias
        sparse = _weighed(seen.words, self.vocabulary, self.idf) @ sparse_weight + self.sparse_bias
        return np.concatenate([dense, sparse], axis=1)

    @cached_property
    def _wide(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The weights as products of one text with them would make them each time, which took most of a verdict's time."""
        return self.dense_weight.T.astype(np.float64), self.sparse_weight.astype(np.float64)

    def _stack(self, logits: Logits) -> Logits:
        return _stacked(self.shape, logits, self.stack_weight, self.stack_bias)

    def to_bytes(self) -> bytes:
        """As `.npz`: the large arrays in 16 bits, shape and notes as JSON."""
        about = {"format_version": FORMAT_VERSION, "shape": asdict(self.shape), "notes": self.notes}
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {name: arrays[name].astype(np.float16) for name in ("dense_weight", "sparse_weight", "idf")}
        arrays |= {f"extra_{name}": value.astype(np.float16) for name, value in self.extras.items()}
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
                extras = {n.removeprefix("extra_"): found[n].astype(np.float32) for n in found.files if n.startswith("extra_")}
                arrays = {n: found[n].astype(np.uint32 if n == "vocabulary" else np.float32) for n in _ARRAYS}
            shape = Shape(**{**about["shape"], "classes": tuple(about["shape"]["classes"])})
        except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"the judge {where} is damaged: train it again with  attune quality train") from error
        if about.get("format_version") != FORMAT_VERSION:
            raise ModelError(f"the judge {where} was written by another version: train it again with  attune quality train")
        return cls(shape, **arrays, notes=about["notes"], extras=extras)


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


def _standardised(dense: Dense, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Within `FARTHEST` deviations: what was all but the same in training must not decide on a text of another kind."""
    return np.asarray(np.clip((dense - mean) / deviation, -FARTHEST, FARTHEST), dtype=np.float64)


def _weighed(words: Sequence[tuple[Words, ...]], vocabulary: NDArray[np.uint32], idf: NDArray[np.float32]) -> Any:
    """TF-IDF values (1 + log count; rows of length 1) of texts' words as a sparse matrix `[n, F]`."""
    from scipy.sparse import csr_matrix

    hashes = np.concatenate([part.hashes for row in words for part in row])
    counts = np.concatenate([part.counts for row in words for part in row]).astype(np.float64)
    rows = np.repeat(np.arange(len(words)), [sum(len(part.hashes) for part in row) for row in words])
    places = np.minimum(np.searchsorted(vocabulary, hashes), len(vocabulary) - 1)
    known = vocabulary[places] == hashes
    rows, places = rows[known], places[known]
    values = (1 + np.log(counts[known])) * idf[places]
    lengths = np.sqrt(np.bincount(rows, np.square(values), minlength=len(words)))
    starts = np.searchsorted(rows, np.arange(len(words) + 1))
    return csr_matrix((values / np.maximum(lengths, 1e-9)[rows], places, starts), shape=(len(words), len(vocabulary)))


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


def fit(
    shape: Shape,
    seen: Seen,
    targets: NDArray[np.float64],
    groups: Sequence[str],
    notes: Mapping[str, Any],
    *,
    known: NDArray[np.bool_] | None = None,
) -> Head:
    """Trains a head on what was seen of the texts and their targets `[n, C]`.

    `known` marks the examples that the encoder itself was trained on: their vectors are better than those of new texts, so
    they teach the two models and never the stack. Raises `DataError` when a class has no example.
    """
    for name, count in zip(shape.classes, targets.sum(0), strict=True):
        if not count:
            raise DataError(f"there is no example of '{name}' to learn from: give more data")
    fold = folds_of(groups)
    if known is not None:
        fold = np.where(known, -1, fold)
    new = np.flatnonzero(fold >= 0)
    if len(new) < FEW_NEW * len(fold):  # all that is new is one fold, and the models learn from the rest alone
        fold[new] = 0
    strengths = _choose_strengths(shape, seen, targets, fold)
    stacked = np.zeros((len(seen), 2 * len(shape.classes)))
    for number in np.unique(fold[new]):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        head = _fit_parts(shape, seen.take(train), targets[train], strengths)
        stacked[test] = head.logits(seen.take(test))
    if len(np.unique(fold[new])) > 1:
        head = _fit_parts(shape, seen, targets, strengths)
    head.stack_weight, head.stack_bias = _fit_stack(shape, stacked[new], targets[new])
    head.out_of_fold = np.full(targets.shape, np.nan)
    head.out_of_fold[new] = probabilities(shape, head._stack(stacked[new]))
    head.thresholds = _best_thresholds(shape, head.out_of_fold[new], targets[new])
    head.notes = {**notes, "strengths": strengths, "examples": len(seen), "calibrated_on": len(new)}
    return head


def _choose_strengths(shape: Shape, seen: Seen, targets: NDArray[np.float64], fold: NDArray[np.int64]) -> dict[str, float]:
    """By the log loss on the first fold of each model alone."""
    first = fold[fold >= 0].min()
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
    classes = len(shape.classes)
    mean, deviation = seen.dense.mean(0), seen.dense.std(0)
    deviation[deviation < 1e-6] = 1.0
    vocabulary, idf = _vocabulary(seen.words)
    dense_weight, dense_bias = np.zeros((classes, seen.dense.shape[1])), np.zeros(classes)
    sparse_weight, sparse_bias = np.zeros((classes, len(vocabulary))), np.zeros(classes)
    if only != "sparse":
        x = _standardised(seen.dense, mean, deviation)
        dense_weight, dense_bias = _logistic(shape, x, targets, strengths["dense"])
    if only != "dense":
        matrix = _weighed(seen.words, vocabulary, idf)
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
    """Those by which each class's F1 is best; where classes exclude each other, the mean of their F1."""
    if not shape.multilabel:
        return _best_quotients(found, targets.argmax(1))
    out = []
    for probability, target in zip(found.T, targets.T, strict=True):
        order = np.argsort(-probability, kind="stable")
        hits = np.cumsum(target[order])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + target.sum())
        out.append(probability[order[int(np.argmax(f1))]])
    return np.asarray(out, dtype=np.float32)


def _best_quotients(found: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Thresholds `[C]` for probabilities `[n, C]`, one class after the other; each change must pay (`CHANGE_PAYS`)."""
    classes = found.shape[1]
    logs = np.log(np.maximum(found, 1e-9))

    def macro_f1(offset: NDArray[np.float64]) -> float:
        pairs = np.bincount(truth * classes + (logs - offset).argmax(1), minlength=classes**2).reshape(classes, classes)
        return float(np.mean(2 * pairs.diagonal() / np.maximum(1, pairs.sum(0) + pairs.sum(1))))

    offset, best = np.zeros(classes), macro_f1(np.zeros(classes))
    for _ in range(QUOTIENT_ROUNDS):
        for place in range(classes):
            tried = [np.where(np.arange(classes) == place, value, offset) for value in QUOTIENTS]
            values = [macro_f1(one) for one in tried]
            if max(values) > best + CHANGE_PAYS / math.sqrt(len(truth)):
                best, offset = max(values), tried[int(np.argmax(values))]
    return np.asarray(np.exp(offset - offset.max()), dtype=np.float32)
