"""The learned part: which words are names, places, dates, organisations and numbers of somebody, by what stands around them.

A maximum-entropy tagger over hashed features: what the word and the three to each side are by themselves (`words.Looks`), and pairs of
these. The best sequence of labels is found by Viterbi, with how often labels follow each other. In NumPy alone. Weights: `weights.npz`,
made by `scripts/phi/train.py` (`weights.md` says of what).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
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
BATCH = 4096
"""Words that are tagged together."""
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
        out: list[list[PHISpan]] = [[] for _ in texts]
        order = sorted((i for i, parts in enumerate(words) if parts), key=lambda i: len(words[i]))
        at = 0
        while at < len(order):  # texts of about one length together: what NumPy costs a call is paid once for all
            end, count = at + 1, len(words[order[at]])
            while end < len(order) and count + len(words[order[end]]) <= BATCH:
                count, end = count + len(words[order[end]]), end + 1
            batch = order[at:end]
            for i, spans in zip(batch, self._marked([texts[i] for i in batch], [words[i] for i in batch]), strict=True):
                out[i] = spans
            at = end
        return out

    def _marked(self, texts: Sequence[str], words: Sequence[Sequence[Word]]) -> Iterator[list[PHISpan]]:
        table, follows = self._weights
        found = np.concatenate(self._features(words))
        scores = np.zeros((len(found), len(LABELS)), np.float32)
        for at in range(0, len(found), 256):  # what is added to stays in the processor's cache
            part = scores[at : at + 256]
            for column in found[at : at + 256].T:
                part += table.take(column, 0)
        scores[:, 1:] += OUTSIDE
        each = np.split(scores, np.cumsum([len(parts) for parts in words])[:-1])
        for text, parts, of_text, best in zip(texts, words, each, viterbi(each, follows), strict=True):
            ends = (np.flatnonzero(best[1:] != best[:-1]) + 1).tolist()
            runs = pairwise([0, *ends, len(best)])
            marked = [_span(text, parts, at, end, LABELS[best[at]], of_text) for at, end in runs if best[at]]
            yield [span for span in marked if span]

    def _features(self, words: Sequence[Sequence[Word]]) -> list[NDArray[np.int64]]:
        """`features` of each text, worked out for all at once: `REACH` empty rows keep each from its neighbours."""
        counts = [len(parts) for parts in words]
        looks = np.zeros((sum(counts) + REACH * len(counts), len(LOOKS)), np.uint64)
        spaced = np.zeros(len(looks), np.uint64)
        starts = list(accumulate((count + REACH for count in counts), initial=0))[:-1]
        for start, parts in zip(starts, words, strict=True):
            looks[start : start + len(parts)] = self._looks.of(parts)
            spaced[start : start + len(parts)] = [word.spaced for word in parts]
        found = features(looks, spaced)
        return [found[start : start + count] for start, count in zip(starts, counts, strict=True)]


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


def viterbi(scores: Sequence[Floats], follows: Floats) -> list[NDArray[np.int64]]:
    """The best sequence of labels for each of `scores` `[words, labels]`, where `follows[a, b]` is added for label b after a.

    All go forward together, the longest first: those that have ended fall away from the end.
    """
    order = sorted(range(len(scores)), key=lambda i: -len(scores[i]))
    lengths = np.asarray([len(scores[i]) for i in order])
    wide = np.zeros((lengths[0], len(order), len(follows)), np.float32)
    for row, i in enumerate(order):
        wide[: len(scores[i]), row] = scores[i]
    going = [int((lengths > at).sum()) for at in range(lengths[0])]
    back = np.zeros(wide.shape, np.uint8)
    best = wide[0].copy()
    for at in range(1, lengths[0]):
        paths = best[: going[at], :, None] + follows
        back[at, : going[at]] = paths.argmax(1)
        best[: going[at]] = paths.max(1) + wide[at, : going[at]]
    labels = np.zeros((lengths[0], len(order)), np.int64)
    labels[lengths - 1, np.arange(len(order))] = best.argmax(1)
    for at in range(lengths[0] - 1, 0, -1):
        rows = np.arange(going[at])
        labels[at - 1, rows] = back[at, rows, labels[at, rows]]
    out: list[NDArray[np.int64]] = [labels[:0, 0]] * len(scores)
    for row, i in enumerate(order):
        out[i] = labels[: lengths[row], row]
    return out
