"""Words as the tagger reads them: runs of letters or of digits, single signs, line breaks; and what a word looks like by itself.

Of a word there count: itself, its beginning and end, its shape, the lists of names and places that it stands in, and the group of words
of like meaning that it belongs to (clusters of the packaged sentence encoder's word pieces). Nothing but the word decides these, so they
are computed once.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attunement.errors import ModelError

WORD = re.compile(r"[^\W\d_]{1,40}|\d{1,20}|\n\s*|[^\w\s]|_")
Floats = NDArray[np.float32]
LISTS = Path(__file__).parent / "lists.npz"
CLUSTERS = 256
LOOKS = ("word", "shape", "prefix", "suffix", "lists", "group", "end")
"""What there is of a word, in the order of `Looks.of`."""
KEPT_WORDS = 100_000
TRUTHS = tuple(tuple(bool(bits >> i & 1) for i in range(6)) for bits in range(1 << 6))


class Word(NamedTuple):
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
    """`Xx` for Anna, `XX` for MRN, `dd` for 12 (up to 6), signs as they are."""
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
    """Hashes of folded words, sorted: first names, surnames, parts of names of cities, large places, common first names, usual words;
    and the hashes of word pieces with the group of each."""

    first: NDArray[np.uint32]
    last: NDArray[np.uint32]
    city: NDArray[np.uint32]
    large: NDArray[np.uint32]
    common: NDArray[np.uint32]
    usual: NDArray[np.uint32]
    pieces: NDArray[np.uint32]
    groups: NDArray[np.uint8]

    @classmethod
    def read(cls, path: Path | None = None) -> Lists:
        """Those in `path` (default: the shipped ones). Raises `ModelError`."""
        try:
            with np.load(path or LISTS, allow_pickle=False) as found:
                return cls(**{f.name: found[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"the lists of names {path or LISTS} cannot be read: install the package again ({error})") from error

    def write(self, path: Path) -> None:
        """Writes them for `read`."""
        np.savez_compressed(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    def bits(self, word: str) -> int:
        """One bit a list, the first ones lowest: whether `word` stands in it."""
        found = self._met.get(word)
        if found is None:
            if len(self._met) > KEPT_WORDS:
                self._met.clear()
            found = self._met[word] = self._bits.get(hashed(fold(word)), 0)
        return found

    def has(self, word: str) -> tuple[bool, ...]:
        """One truth value a list."""
        return TRUTHS[self.bits(word)]

    def group(self, word: str) -> int:
        """The group of a word in lower case; `CLUSTERS` for words that are no single piece."""
        return self._groups.get(hashed(word), CLUSTERS)

    @cached_property
    def _met(self) -> dict[str, int]:
        return {}

    @cached_property
    def _bits(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for i, known in enumerate((self.first, self.last, self.city, self.large, self.common, self.usual)):
            for number in known.tolist():
                found[number] = found.get(number, 0) | 1 << i
        return found

    @cached_property
    def _groups(self) -> dict[int, int]:
        return dict(zip(self.pieces.tolist(), self.groups.tolist(), strict=True))


class Looks:
    """Numbers for what words are by themselves."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists
        self._kept: dict[str, tuple[int, ...]] = {}

    def of(self, words: Sequence[Word]) -> NDArray[np.uint64]:
        """One row a word, one number for each of `LOOKS`."""
        if len(self._kept) > KEPT_WORDS:
            self._kept.clear()
        rows = []
        for word in words:
            found = self._kept.get(word.text)
            if found is None:
                found = self._kept[word.text] = self._look(word.text)
            rows.append(found)
        return np.asarray(rows, dtype=np.uint64).reshape(len(rows), len(LOOKS))

    def _look(self, word: str) -> tuple[int, ...]:
        low = word.lower()
        kind = (
            "n"
            if word.isdigit()
            else "s"
            if not word.isalpha()
            else "l"
            if word.islower()
            else "1"
            if len(word) == 1
            else "u"
            if word.isupper()
            else "t"
        )
        told = low if not word.isdigit() else "0" * min(len(word), 6)
        return (
            hashed(told),
            hashed(shape(word)),
            hashed("^" + low[:3]),
            hashed("$" + low[-3:]),
            hashed(f"{self.lists.bits(word) if word.isalpha() else 64}{kind}"),
            hashed(f"{self.lists.group(told)}g"),
            hashed(f"{low[-2:]}{min(len(word), 8)}{kind}"),
        )
