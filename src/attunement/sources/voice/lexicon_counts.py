"""How often somebody uses words of each category: our own word lists, counted sentence by sentence.

A contraction is read as its two words ("don't": do, not), since recognisers and typists differ in how they write them. A phrase counts
as one word of its category.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "lexicon"
Counts = NDArray[np.float64]
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[a-z]+(?:'[a-z]+)*(?:-[a-z]+(?:'[a-z]+)*)*")
_CLITICS = {"m": "am", "re": "are", "ve": "have", "ll": "will", "d": "would"}
_IRREGULAR = {
    "can't": ("can", "not"), "cannot": ("can", "not"), "won't": ("will", "not"), "shan't": ("shall", "not"), "ain't": ("is", "not"),
    "let's": ("let", "us"), "gonna": ("going", "to"), "wanna": ("want", "to"), "gotta": ("got", "to"), "dunno": ("do", "not", "know"),
    "y'all": ("y'all",), "o'clock": ("o'clock",),
}  # fmt: skip
_WHOLE = re.compile(r"(?:uh|mm|mhm|hmm|co|step)-[a-z]+")
_WH = frozenset("what who whom whose which where when why how".split())
_AUXILIARY = frozenset("am is are was were do does did have has can could will would shall should may might must".split())
_SUBJECTS = frozenset("i you he she it we they that this there".split())


@cache
def written(name: str) -> Mapping[str, Any]:
    """A file of the folder `lexicon`, as plain data."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, contractions as their two words. A number in digits is one word."""
    return [word for found in _WORD.findall(text.lower().replace("\u2019", "'")) for word in _parts(found)]


@cache
def _parts(found: str) -> tuple[str, ...]:
    if found in _IRREGULAR:
        return _IRREGULAR[found]
    if "-" in found and not _WHOLE.fullmatch(found):
        return tuple(word for part in found.split("-") for word in _parts(part))
    stem, mark, clitic = found.rpartition("'")
    if not mark:
        return (found,)
    if clitic == "t" and stem.endswith("n"):
        return (stem[:-1], "not")
    return (stem, _CLITICS.get(clitic, "'s")) if stem else (clitic,)


class Categories:
    """Named lists of words, stems (`*` at the end) and phrases."""

    def __init__(self, lists: Mapping[str, str]) -> None:
        self.names = tuple(lists)
        self._exact: dict[str, list[int]] = {}
        self._stems: dict[str, list[int]] = {}
        self._phrases: dict[tuple[str, ...], list[int]] = {}
        for number, told in enumerate(lists.values()):
            singles, *phrases = told.split("|")
            for word in singles.split():
                (self._stems if word.endswith("*") else self._exact).setdefault(word.rstrip("*"), []).append(number)
            for phrase in phrases:
                self._phrases.setdefault(tuple(phrase.split()), []).append(number)
        self._longest = max((len(phrase) for phrase in self._phrases), default=0)
        self._known: dict[str, tuple[int, ...]] = {}

    def of(self, word: str) -> tuple[int, ...]:
        """The numbers of the categories that `word` belongs to; digits are a `number` where there is such a category."""
        if word not in self._known:
            found = set(self._exact.get(word, ()))
            for end in range(2, len(word) + 1):
                found.update(self._stems.get(word[:end], ()))
            if word[0].isdigit() and "number" in self.names:
                found.add(self.names.index("number"))
            self._known[word] = tuple(sorted(found))
        return self._known[word]

    def count(self, words: Sequence[str]) -> Counts:
        """How many of `words` are of each category, `[categories]`."""
        counts = np.zeros(len(self.names))
        for word in words:
            for number in self.of(word):
                counts[number] += 1
        for phrase in self._phrases_in(words):
            for number in self._phrases[phrase]:
                counts[number] += 1
        return counts

    def said(self, words: Sequence[str], name: str) -> Counter[str]:
        """Which words and phrases of category `name` are among `words`, and how often."""
        number = self.names.index(name)
        found = Counter(word for word in words if number in self.of(word))
        found.update(" ".join(phrase) for phrase in self._phrases_in(words) if number in self._phrases[phrase])
        return found

    def _phrases_in(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        ends = range(2, self._longest + 1)
        return [p for at in range(len(words)) for n in ends if (p := tuple(words[at : at + n])) in self._phrases and len(p) == n]


@cache
def categories() -> Categories:
    """The categories of `words.toml`."""
    return Categories(written("words")["categories"])


@cache
def style_words() -> tuple[str, ...]:
    """The closed-class words whose rates tell a manner of speaking."""
    return tuple(dict.fromkeys(written("words")["styles"]["words"].split()))


def is_question(sentence: str) -> bool:
    """Whether a sentence asks: by its question mark, or by its first words where recognised text has none.

    "what i mean is ..." is none: after a question word stands an auxiliary, or soon one with its subject behind it.
    """
    if "?" in sentence:
        return True
    words = words_of(sentence)
    while words and words[0] in ("so", "and", "but", "well", "okay", "ok", "um", "uh", "now", "right"):
        words = words[1:]
    if len(words) < 3 or sentence.rstrip().endswith((".", "!")):
        return False
    if words[0] in _WH:
        if words[1] in _SUBJECTS:
            return False
        inverted = (a in _AUXILIARY and b in _SUBJECTS for a, b in itertools.pairwise(words[1:8]))
        return words[0] == "who" or words[1] in _AUXILIARY or words[1] == "'s" or any(inverted)
    return words[0] in _AUXILIARY and words[1] in _SUBJECTS
