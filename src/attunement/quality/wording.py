"""The words of texts: folded, in shingles, how alike two texts are and how varied many."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

SHINGLE_WORDS = 3

_WORD = re.compile(r"[^\W_]+")


def fold(text: str) -> list[str]:
    """The words of `text` without case, accents, punctuation and apostrophes (so "don't" is "do n't" is "dont")."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = re.sub(r"(?<!\s)\s*['\u2019`\u00b4]\s*", "", plain.replace(" n't", "n't"))
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)) if not plain.isascii() else plain)


def shingles(text: str) -> frozenset[str]:
    """The word 3-grams of the folded text; a text under 3 words is one."""
    words = fold(text)
    return frozenset(" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1)))


def likeness(first: frozenset[str], second: frozenset[str]) -> float:
    """The Jaccard index of two sets of shingles, 0-1: exactly what curation estimates by MinHash."""
    either = len(first | second)
    return len(first & second) / either if either else 1.0


def words(text: str) -> list[str]:
    """The words as they are counted for distinct-n: lower case, apostrophes within a word stay."""
    return re.findall(r"\w+(?:'\w+)?", text.casefold())


def distinct(texts: Sequence[str], n: int) -> float:
    """distinct-n (Li 2016): the share of different n-grams among all."""
    grams = [gram for text in texts for gram in _grams(words(text), n)]
    return round(len(set(grams)) / len(grams), 4) if grams else 0.0


def variety(texts: Sequence[str]) -> dict[str, float]:
    """What every report says of how varied the words are: distinct-1 to distinct-3, and the share of texts that come once or first."""
    return {f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)} | {
        "different_texts": round(len(set(texts)) / max(1, len(texts)), 4)
    }


def _grams(words: list[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)
