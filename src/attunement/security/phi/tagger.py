"""The learned part: which words are names, places, dates, organisations and numbers of somebody, by what stands around them.

Convolutions over the words' own vectors (`words.Looks`), in NumPy alone: five blocks with a residual, each seeing further than the one
before (31 words to each side). Weights: `weights.npz`, made by `scripts/phi/train.py`; see `weights.md`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import ModelError
from attunement.security.phi.identifiers import TYPES, PHISpan, letter
from attunement.security.phi.words import MEANING, Floats, Lists, Look, Looks, Word

WEIGHTS = Path(__file__).parent / "weights.npz"
WIDTH, BLOCKS = 128, 5
DILATIONS = (1, 2, 4, 8, 16)
PARTS = {"trigrams": 32, "prefix": 16, "suffix": 24, "shape": 16}
"""Dimensions of what is learned of a word's letters."""
LABELS = ("O", *(f"{place}-{kind}" for kind in TYPES for place in "BI"))
GAP = 32
"""Empty places between two texts, as far as the convolutions see."""
CHUNK = 4096
KEPT_WORDS = 50_000
"""Words whose vectors stay in memory (38 MB)."""
OUTSIDE = 0.35
"""A word is marked where `O` has less than this share: recall first."""


def save(path: Path, weights: Mapping[str, Any]) -> None:
    """Writes the network's weights in 16 bits."""
    np.savez_compressed(path, **{name: np.asarray(value, dtype=np.float16) for name, value in weights.items()})


class Tagger:
    """Marks words of texts. Loads at the first use; `path` names other weights. Raises `ModelError` when they cannot be read."""

    def __init__(self, lists: Lists, path: Path | None = None) -> None:
        self.path = path or WEIGHTS
        self._looks = Looks(lists)
        self._kept: OrderedDict[str, Floats] = OrderedDict()

    @cached_property
    def _weights(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(self.path, allow_pickle=False) as found:
                return {name: found[name].astype(np.float32) for name in found.files}
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the PHI tagger's weights {self.path} cannot be read: install the package again ({error})"
            ) from error

    def spans(self, texts: Sequence[str], words: Sequence[Sequence[Word]]) -> list[list[PHISpan]]:
        """What it marks in each of `texts`, whose words are `words`."""
        out: list[list[PHISpan]] = [[] for _ in texts]
        for group in _groups([len(w) for w in words]):
            chances = self.chances([words[i] for i in group])
            for i, rows in zip(group, chances, strict=True):
                out[i] = list(decoded(words[i], rows, texts[i]))
        return out

    def chances(self, texts: Sequence[Sequence[Word]]) -> list[Floats]:
        """For each text the chances `[words, labels]` of every word's label."""
        total = sum(len(words) + GAP for words in texts)
        hidden, real = np.zeros((total, WIDTH), np.float32), np.zeros((total, 1), np.float32)
        places, at = [], 0
        own = self._own({word.text for words in texts for word in words})
        for words in texts:
            if words:
                end = at + len(words)
                spaced = np.asarray([[word.spaced] for word in words], dtype=np.float32)
                hidden[at:end] = np.stack([own[word.text] for word in words]) + spaced * self._weights["spaced"]
                real[at:end] = 1
            places.append((at, at + len(words)))
            at += len(words) + GAP
        rows = self._read(hidden, real)
        return [rows[start:end] for start, end in places]

    def _own(self, words: set[str]) -> dict[str, Floats]:
        """Each word's own vector `[WIDTH]`, before its neighbours are seen."""
        found = {word: self._kept[word] for word in words if word in self._kept}
        new = [word for word in words if word not in found]
        if new:
            made = dict(zip(new, self._vectors(self._looks.of(new)), strict=True))
            found.update(made)
            self._kept.update(made)
            while len(self._kept) > KEPT_WORDS:
                self._kept.popitem(last=False)
        return found

    def _vectors(self, looks: Sequence[Look]) -> Floats:
        w = self._weights
        trigrams = np.asarray([look.trigrams for look in looks])
        known = (trigrams >= 0)[..., None]
        letters = (w["trigrams.weight"][np.maximum(trigrams, 0)] * known).sum(1) / np.maximum(known.sum(1), 1)
        affixes = np.asarray([look.affixes for look in looks])
        parts = [
            np.stack([look.meaning for look in looks]).reshape(len(looks), MEANING) * 8,
            letters,
            w["prefix.weight"][affixes[:, 0]],
            w["suffix.weight"][affixes[:, 1]],
            w["shape.weight"][[look.shape for look in looks]],
            np.asarray([look.flags for look in looks], dtype=np.float32),
        ]
        return np.asarray(np.concatenate(parts, 1) @ w["own.weight"].T + w["own.bias"], dtype=np.float32)

    def _read(self, hidden: Floats, real: Floats) -> Floats:
        w = self._weights
        for i, step in enumerate(DILATIONS):
            seen = _normal(hidden, w[f"norms.{i}.weight"], w[f"norms.{i}.bias"]) * real
            wide = np.zeros((len(seen), 3 * WIDTH), dtype=np.float32)
            wide[step:, :WIDTH], wide[:, WIDTH:-WIDTH], wide[:-step, -WIDTH:] = seen[:-step], seen, seen[step:]
            moved = wide @ w[f"blocks.{i}.weight"].T + w[f"blocks.{i}.bias"]
            hidden = hidden + np.maximum(moved, 0) * real
        rows = _normal(hidden, w[f"norms.{BLOCKS}.weight"], w[f"norms.{BLOCKS}.bias"]) @ w["out.weight"].T + w["out.bias"]
        rows = np.exp(rows - rows.max(1, keepdims=True))
        return np.asarray(rows / rows.sum(1, keepdims=True), dtype=np.float32)


def _normal(values: Floats, scale: Floats, shift: Floats) -> Floats:
    centred = values - values.mean(1, keepdims=True)
    spread = np.sqrt(np.einsum("ij,ij->i", centred, centred)[:, None] / values.shape[1] + 1e-5)
    return centred / spread * scale + shift


def _groups(sizes: Sequence[int]) -> Iterable[list[int]]:
    """Texts that are read together: about `CHUNK` words."""
    group: list[int] = []
    total = 0
    for i, size in enumerate(sizes):
        if group and total + size > CHUNK:
            yield group
            group, total = [], 0
        group.append(i)
        total += size + GAP
    if group:
        yield group


def decoded(words: Sequence[Word], chances: Floats, text: str, outside: float = OUTSIDE) -> Iterable[PHISpan]:
    """The spans of a text: words that are probably something, joined while they go on with the same type.

    A word's type is the one with the largest sum of beginning and going on; a new span begins where that is likelier.
    """
    if not len(words):
        return
    kinds = tuple(TYPES)
    begins, goes = chances[:, 1::2], chances[:, 2::2]
    both = begins + goes
    best = both.argmax(1)
    marked = chances[:, 0] < 1 - outside
    at = 0
    while at < len(words):
        if not marked[at] or words[at].text == "\n":
            at += 1
            continue
        kind, end = int(best[at]), at + 1
        while end < len(words) and marked[end] and int(best[end]) == kind and begins[end, kind] <= goes[end, kind]:
            end += 1
        last = end
        while last > at + 1 and words[last - 1].text == "\n":
            last -= 1
        start, stop, name = words[at].start, words[last - 1].end, kinds[kind]
        if any(c.isalnum() for c in text[start:stop]):
            score = float(1 - chances[at:last, 0].mean())
            yield PHISpan(start, stop, name, round(score, 3), letter(name, text[start:stop]), "model")
        at = end
