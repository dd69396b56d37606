"""What the judges see of a text: its sentence vector, its words and word pairs by hash, and a few countable things.

All three are computed once a text and shared by all judges. Nothing here is trained, so a feature means the same in
every judge and every version.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from attunement.embedding import Embedder

KEPT_TEXTS = 4096
MAX_CHARACTERS = 20_000
"""Of longer texts the first and the last half of this are looked at."""
SURFACE = (
    "words", "sentences", "question_marks", "ends_with_question", "exclamations", "first_person", "second_person", "negations",
    "upper_case", "longest_word", "type_token_ratio", "emoji",
)  # fmt: skip
"""The countable features, in their order."""

_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[?!.,;:]|[^\w\s]")
_STRAIGHT = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"'})
_FIRST = frozenset("i i'm i've i'd i'll im ive my me mine myself we our us".split())
_SECOND = frozenset("you you're you've you'd you'll your yours yourself u ur youre".split())
_NOT = frozenset(
    "no not never nothing nobody none don't doesn't didn't can't cannot won't isn't wasn't dont cant wont nor".split()
)

Dense = NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """Hashes of the words and word pairs of a text with how often each stands there, `[m]` each; `surface` is `[12]`."""

    hashes: NDArray[np.uint32]
    counts: NDArray[np.float32]
    surface: NDArray[np.float32]


def fold_text(text: str) -> str:
    """`text` without invisible characters, with straight quotes and compatible forms of letters."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS // 2]} {text[-MAX_CHARACTERS // 2 :]}"
    text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT)
    return text if text.isascii() else "".join(c for c in text if unicodedata.category(c) != "Cf")


def words_of(text: str, prefix: str = "") -> Words:
    """`prefix` keeps the words of one field (such as the context) apart from those of another."""
    plain = fold_text(text)
    tokens = _TOKEN.findall(plain.casefold())
    grams = Counter(tokens)
    grams.update(f"{a} {b}" for a, b in zip(["<", *tokens], [*tokens, ">"], strict=True))
    hashes = np.fromiter((xxhash.xxh32_intdigest((prefix + gram).encode()) for gram in grams), dtype=np.uint32, count=len(grams))
    counts = np.fromiter(grams.values(), dtype=np.float32, count=len(grams))
    return Words(hashes, counts, _surface(plain, tokens))


def _surface(text: str, tokens: Sequence[str]) -> NDArray[np.float32]:
    words = [t for t in tokens if t[0].isalnum()]
    count = max(1, len(words))
    values = [
        np.log1p(len(words)),
        np.log1p(len(re.findall(r"[.!?]+", text))),
        np.log1p(text.count("?")),
        text.rstrip("\"') ").endswith("?"),
        np.log1p(text.count("!")),
        sum(w in _FIRST for w in words) / count,
        sum(w in _SECOND for w in words) / count,
        sum(w in _NOT for w in words) / count,
        sum(c.isupper() for c in text) / max(1, sum(c.isalpha() for c in text)),
        min(30, max(map(len, words), default=0)) / 10,
        len(set(words)) / count,
        0.0 if text.isascii() else np.log1p(sum(unicodedata.category(c) == "So" for c in text)),
    ]
    return np.asarray(values, dtype=np.float32)


class Features:
    """Computes and keeps the features of the newest texts; one of these serves all judges."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._words: OrderedDict[tuple[str, str], Words] = OrderedDict()

    def vectors(self, texts: Sequence[str]) -> Dense:
        """Sentence vectors `[n, d]`; an empty text has the zero vector, so that 'nothing before' is nothing."""
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        out = np.zeros((len(texts), self.embedder.dimensions), dtype=np.float32)
        if spoken:
            out[spoken] = self.embedder.encode([fold_text(texts[i]) for i in spoken])
        return out

    def words(self, text: str, prefix: str = "") -> Words:
        """`words_of`, kept."""
        key = (prefix, text)
        if key not in self._words:
            self._words[key] = words_of(text, prefix)
            if len(self._words) > KEPT_TEXTS:
                self._words.popitem(last=False)
        return self._words[key]


def pair_vectors(text: Dense, before: Dense) -> Dense:
    """Vectors of texts and of what was said before, `[n, d]` each, as `[n, 4d]`: both, their product, their distance."""
    scale = np.float32(np.sqrt(text.shape[1]))
    return np.concatenate([text, before, text * before * scale, np.abs(text - before)], axis=1)
