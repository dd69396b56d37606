"""The learned part: which words are names, places, dates, organisations and numbers of somebody, by what stands around them.

A maximum-entropy tagger over hashed features: what the word and the three to each side are by themselves (`words.Looks`), and pairs of
these. The best sequence of labels is found by Viterbi, with how often labels follow each other. In NumPy alone. Weights: `weights.npz`,
made by `scripts/phi/train.py` (`weights.md` says of what).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import ModelError
from attunement.security.phi.identifiers import TYPES, PHISpan, letter
from attunement.security.phi.words import LOOKS, Floats, Lists, Looks, Word

WEIGHTS = Path(__file__).parent / "weights.npz"
LABELS = ("O", *TYPES)
REACH = 3
BUCKETS = 1 << 17
WORD, SHAPE, PREFIX, SUFFIX, LISTED, GROUP, END = range(len(LOOKS))
ALONE = (
    *((place, look) for place in range(-REACH, REACH + 1) for look in (WORD, LISTED, GROUP)),
    *((place, look) for place in (-1, 0, 1) for look in (SHAPE, SUFFIX, END)),
    (0, PREFIX),
)
"""Single features: (place beside the word, what of the word there)."""
PAIRS = (
    ((-1, LISTED), (0, LISTED)), ((0, LISTED), (1, LISTED)), ((-1, WORD), (0, LISTED)), ((1, WORD), (0, LISTED)), ((-2, WORD), (-1, WORD)), ((1, WORD), (2, WORD)),
    ((-1, GROUP), (0, LISTED)), ((1, GROUP), (0, LISTED)), ((-2, GROUP), (-1, GROUP)), ((-1, WORD), (1, WORD)), ((-2, WORD), (0, LISTED)), ((2, WORD), (0, LISTED)),
    ((-1, SHAPE), (0, SHAPE)), ((0, SHAPE), (1, SHAPE)), ((0, GROUP), (1, GROUP)), ((-1, LISTED), (1, LISTED)), ((-3, WORD), (-2, WORD)), ((-2, LISTED), (-1, LISTED)),
)  # fmt: skip
FEATURES = len(ALONE) + len(PAIRS) + 1
MIX = np.uint64(0x9E3779B97F4A7C15)
OUTSIDE = 0.6
"""Added to the score of every type against `O`: recall first. Chosen by F2 on templates that were left out."""


def features(looks: NDArray[np.uint64], spaced: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Buckets `[words, FEATURES]` of one text's words, whose looks are `[words, len(LOOKS)]`."""
    count = len(looks)
    wide = np.zeros((count + 2 * REACH, looks.shape[1]), np.uint64)
    wide[REACH : REACH + count] = looks
    at = {place: wide[REACH + place : REACH + place + count] for place in range(-REACH, REACH + 1)}
    out = np.empty((count, FEATURES), np.uint64)
    for i, (place, look) in enumerate(ALONE):
        out[:, i] = at[place][:, look] + np.uint64(i * 7919)
    for i, ((p, a), (q, b)) in enumerate(PAIRS, len(ALONE)):
        out[:, i] = at[p][:, a] * np.uint64(31) + at[q][:, b] * np.uint64(1000003) + np.uint64(i * 7919)
    out[:, -1] = at[0][:, LISTED] * np.uint64(2) + spaced
    return ((out * MIX) >> np.uint64(64 - 17)).astype(np.int64)


def save(path: Path, table: Floats, follows: Floats, notes: Mapping[str, Any] | None = None) -> None:
    """Writes the weights `[BUCKETS, labels]` in 8 bits with one scale a label, and how labels follow each other `[labels, labels]`."""
    scale = np.abs(table).max(0) / 127 + 1e-9
    codes = np.clip(np.rint(table / scale), -127, 127).astype(np.int8)
    np.savez_compressed(path, codes=codes, scale=scale.astype(np.float32), follows=follows.astype(np.float32), **(notes or {}))


class Tagger:
    """Marks words of texts. Loads at the first use; `path` names other weights. Raises `ModelError` when they cannot be read."""

    def __init__(self, lists: Lists, path: Path | None = None) -> None:
        self.path = path or WEIGHTS
        self._looks = Looks(lists)

    @cached_property
    def _weights(self) -> tuple[Floats, Floats]:
        try:
            with np.load(self.path, allow_pickle=False) as found:
                table, follows = found["codes"].astype(np.float32) * found["scale"], found["follows"]
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the PHI tagger's weights {self.path} cannot be read: install the package again ({error})"
            ) from error
        if table.shape != (BUCKETS, len(LABELS)) or follows.shape != (len(LABELS), len(LABELS)):
            raise ModelError(f"the PHI tagger's weights {self.path} are of another version: install the package again")
        return table, follows

    def spans(self, texts: Sequence[str], words: Sequence[Sequence[Word]]) -> list[list[PHISpan]]:
        """What it marks in each of `texts`, whose words are `words`."""
        return [list(self._marked(text, parts)) for text, parts in zip(texts, words, strict=True)]

    def _marked(self, text: str, words: Sequence[Word]) -> Iterable[PHISpan]:
        if not words:
            return
        table, follows = self._weights
        found = features(self._looks.of(words), np.asarray([w.spaced for w in words], np.uint64))
        scores = np.empty((len(words), len(LABELS)), np.float32)
        for at in range(0, len(words), 512):  # what it works on stays small for long texts
            scores[at : at + 512] = table[found[at : at + 512]].sum(1)
        scores[:, 1:] += OUTSIDE
        best = viterbi(scores, follows)
        at = 0
        while at < len(words):
            kind, end = int(best[at]), at + 1
            while end < len(words) and best[end] == kind:
                end += 1
            if kind and (span := _span(text, words, at, end, LABELS[kind], scores)):
                yield span
            at = end


def _span(text: str, words: Sequence[Word], at: int, end: int, kind: str, scores: Floats) -> PHISpan | None:
    """Words `at` to `end` as a span, without signs at its ends."""
    while at < end and not words[at].text[0].isalnum() and words[at].text not in {"(", "#", "+"}:
        at += 1
    while (
        end > at
        and not words[end - 1].text[-1].isalnum()
        and not (words[end - 1].text == "." and end - at > 1 and len(words[end - 2].text) == 1)
    ):
        end -= 1
    if at == end:
        return None
    start, stop = words[at].start, words[end - 1].end
    part = scores[at:end]
    chance = 1 / (1 + np.exp(part[:, 0] - part[:, LABELS.index(kind)]))
    return PHISpan(start, stop, kind, round(float(chance.mean()), 3), letter(kind, text[start:stop]), "model")


def viterbi(scores: Floats, follows: Floats) -> NDArray[np.int64]:
    """The best sequence of labels for `scores` `[words, labels]`, where `follows[a, b]` is added for label b after a."""
    count = len(scores)
    back = np.zeros(scores.shape, np.int64)
    best = scores[0]
    for i in range(1, count):
        paths = best[:, None] + follows
        back[i] = paths.argmax(0)
        best = paths.max(0) + scores[i]
    out = np.empty(count, np.int64)
    out[-1] = best.argmax()
    for i in range(count - 1, 0, -1):
        out[i - 1] = back[i, out[i]]
    return out
