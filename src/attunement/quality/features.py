"""What the judges see of a text: its sentence vector, its words and word pairs by hash, and a few countable things.

All three are computed once a text and shared by all judges. Words are the encoder's word pieces, which its tokeniser finds
anyway (in Rust, many texts at once), so that they cost next to nothing beside the vector. Nothing here is trained, so a
feature means the same in every judge and every version.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import Embedder, tokenizer

KEPT_TEXTS = 8192
MAX_CHARACTERS = 20_000
"""Of longer texts the first and the last half of this are looked at."""
SURFACE = (
    "words", "sentence_ends", "question_marks", "ends_with_question", "exclamations", "first_person", "second_person", "negations",
    "upper_case", "word_parts", "distinct", "unknown",
)  # fmt: skip
"""The countable features, in their order."""
PAIR = np.uint32(0x85EBCA6B)
PREFIXES = {"": 0, "before:": 0x27D4EB2F, "asked:": 0x165667B1, "other:": 0x9E3779B1, "shared:": 0xC2B2AE3D}
"""Keeps the words of one field (such as what was said before) apart from those of another."""

_STRAIGHT = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"'})
_FIRST = "i me my mine myself we our us im ive"
_SECOND = "you your yours yourself u ur"
_NOT = "no not never nothing nobody none cannot nor don doesn didn won isn wasn haven couldn shouldn wouldn dont"

PIECE = 900
"""Characters of a piece: about what the encoder reads of a text."""
_COMMON = frozenset(
    "the and of to you that it i my for with but have be this not are they she will would what when how just like know feel your don't "
    "i'm it's im dont about there been were because if or at from we our out up go get why who think want".split()
)
"""Frequent English words that are none of Spanish, French, German or Dutch."""

Dense = NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """Hashes of the word pieces and pairs of a text with how often each stands there, `[m]` each; `surface` is `[12]`."""

    hashes: NDArray[np.uint32]
    counts: NDArray[np.float32]
    surface: NDArray[np.float32]

    def under(self, prefix: str) -> Words:
        """The same words as those of the field `prefix` (one of `PREFIXES`)."""
        return Words(self.hashes ^ np.uint32(PREFIXES[prefix]), self.counts, self.surface) if prefix else self


def fold_text(text: str) -> str:
    """`text` without invisible characters, with straight quotes and compatible forms of letters."""
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS // 2]} {text[-MAX_CHARACTERS // 2 :]}"
    if text.isascii():
        return text.replace("`", "'")
    text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT)
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


@lru_cache(maxsize=1024)
def looks_english(text: str) -> bool:
    """Whether a text of five words or more holds some of English's most frequent ones; shorter ones are let pass if in Latin."""
    words: list[str] = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text[:2000].casefold())
    if not words:
        return True
    if len(words) < 5:
        return sum(c.isascii() for word in words for c in word) * 2 >= sum(map(len, words))
    return sum(word in _COMMON for word in words) >= 0.1 * len(words)


def pieces(text: str) -> Iterator[str]:
    """`text` in overlapping pieces of `PIECE` characters that end at white space; a short text is its own."""
    start, end = 0, len(text)
    while end - start > PIECE * 1.3:
        cut = text.rfind(" ", start + PIECE // 2, start + PIECE)
        cut = cut if cut > 0 else start + PIECE
        yield text[start:cut]
        start = max(start + 1, cut - PIECE // 6)
    yield text[start:]


class Pieces:
    """The packaged tokeniser's vocabulary, as far as the countable features need it."""

    def __init__(self) -> None:
        self._tokenizer = tokenizer()
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        size = max(vocabulary.values()) + 1

        def marked(words: Iterable[str]) -> NDArray[np.bool_]:
            out = np.zeros(size, dtype=bool)
            out[[vocabulary[word] for word in words if word in vocabulary]] = True
            return out

        self._kinds = {
            "word": marked(w for w in vocabulary if w[0].isalnum()),
            "part": marked(w for w in vocabulary if w.startswith("##")),
            "end": marked(".!?"),
            "question": marked("?"),
            "exclamation": marked("!"),
            "first": marked(_FIRST.split()),
            "second": marked(_SECOND.split()),
            "not": marked(_NOT.split()),
            "unknown": marked(["[UNK]"]),
        }

    def words_of(self, texts: Sequence[str]) -> list[Words]:
        """The words of each text, which `fold_text` has been over."""
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._words(text, np.asarray(encoding.ids, dtype=np.uint32)) for text, encoding in zip(texts, found, strict=True)]

    def _words(self, text: str, ids: NDArray[np.uint32]) -> Words:
        framed = np.concatenate([[np.uint32(0)], ids, [np.uint32(0)]]).astype(np.uint32)
        pairs = (framed[:-1] + np.uint32(1)) * PAIR ^ (framed[1:] * np.uint32(0x9E3779B1))
        hashes, counts = np.unique(np.concatenate([ids, pairs]), return_counts=True)
        return Words(hashes, counts.astype(np.float32), self._surface(text, ids))

    def _surface(self, text: str, ids: NDArray[np.uint32]) -> NDArray[np.float32]:
        share = {kind: int(np.count_nonzero(marks[ids])) for kind, marks in self._kinds.items()}
        words, pieces = share["word"], max(1, len(ids))
        values = [
            np.log1p(words),
            np.log1p(share["end"]),
            np.log1p(share["question"]),
            text.rstrip("\"') ").endswith("?"),
            np.log1p(share["exclamation"]),
            share["first"] / max(1, words),
            share["second"] / max(1, words),
            share["not"] / max(1, words),
            sum(map(str.isupper, text)) / max(1, len(text)),
            share["part"] / pieces,
            len(np.unique(ids)) / pieces,
            np.log1p(share["unknown"]),
        ]
        return np.asarray(values, dtype=np.float32)


class Features:
    """Computes and keeps the features of the newest texts; one of these serves all judges."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._words: OrderedDict[str, Words] = OrderedDict()

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces()

    def vectors(self, texts: Sequence[str]) -> Dense:
        """Sentence vectors `[n, d]` for what is compared; an empty text has the zero vector, so 'nothing before' is nothing."""
        return self._vectors(texts, self.embedder.encode)

    def class_vectors(self, texts: Sequence[str]) -> Dense:
        """The same for what is told apart by classes."""
        return self._vectors(texts, self.embedder.encode_classes)

    def _vectors(self, texts: Sequence[str], encode: Callable[[Sequence[str]], Dense]) -> Dense:
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        out = np.zeros((len(texts), self.embedder.dimensions), dtype=np.float32)
        if spoken:
            out[spoken] = encode([fold_text(texts[i]) for i in spoken])
        return out

    def words(self, texts: Sequence[str], prefix: str = "") -> list[Words]:
        """The words of each text, under `prefix`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._words]
        found = dict(zip(new, self._pieces.words_of([fold_text(text) for text in new]), strict=True))
        found |= {text: self._words[text] for text in texts if text in self._words}
        for text in new:
            self._words[text] = found[text]
        while len(self._words) > KEPT_TEXTS:
            self._words.popitem(last=False)
        return [found[text].under(prefix) for text in texts]


def pair_vectors(text: Dense, before: Dense) -> Dense:
    """Vectors of texts and of what was said before, `[n, d]` each, as `[n, 4d]`: both, their product, their distance."""
    scale = np.float32(np.sqrt(text.shape[1]))
    return np.concatenate([text, before, text * before * scale, np.abs(text - before)], axis=1)
