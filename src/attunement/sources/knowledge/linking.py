"""Which concepts an example speaks of: found by name, kept where the context fits, added to its metadata.

A lexicon finds the names (`lexicon`). A name of one word, or an abbreviation that could mean several things, counts only if
its surroundings are near enough to the concept's definition, and nearer than to the word's other senses
(`written/senses.toml`): the depression of an economy or the attachment of an e-mail is no concept of ours. Of several
concepts with one name the nearest is taken. Precision and recall: `benchmarks/sources.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np

from attunement.embedding import Embedder, Vectors
from attunement.records import Conversation, QAPair
from attunement.sources import WRITTEN
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.lexicon import Lexicon, Mention, tokens

TrainingExample = QAPair | Conversation
"""What can be enriched: a question with its answer, or a whole conversation."""
Example = TypeVar("Example", bound=TrainingExample)
SENSES = WRITTEN / "senses.toml"
NEAR_ENOUGH = 0.15
"""Least cosine of surroundings and definition for a doubtful name without other senses."""
NEARER_BY = 0.0
"""By how much a definition must be nearer than the word's other senses."""
SURROUNDINGS_WORDS = 12
"""A sentence shorter than this is read together with its neighbours."""
_ADDRESS = re.compile(
    r"https?://\S+|www\.\S+|(?<![^\s@])[^\s@]+@[^\s@]+\.\w+|(?<![\w-])[\w-]+\.(?:com|org|net|gov|edu)\S*", re.IGNORECASE
)
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+|\n|$)")


@dataclass(frozen=True)
class Link:
    """A concept in a text: characters `[start, end)`, and how near its surroundings are to its definition (cosine)."""

    concept_id: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class _Case:
    """A mention with what it is judged by."""

    text_number: int
    mention: Mention
    around: str


class Linker:
    """Finds concepts in texts. Vectors of definitions are computed once, when a definition is first needed."""

    def __init__(self, concepts: Iterable[Concept], embedder: Embedder | None = None) -> None:
        self.concepts: Mapping[str, Concept] = {concept.concept_id: concept for concept in concepts}
        self._embedder = embedder or Embedder()
        self._lexicon = Lexicon(self.concepts.values())
        self._vectors: dict[str, Vectors] = {}

    def links(self, text: str) -> list[Link]:
        """The concepts that `text` speaks of, in its order."""
        return self.links_of([text])[0]

    def links_of(self, texts: Sequence[str]) -> list[list[Link]]:
        """`links` of each text; all surroundings are encoded together."""
        cases = [_Case(n, m, surroundings(text, m)) for n, text in enumerate(texts) for m in self._named(text)]
        self._encode([case.around for case in cases])
        found: list[list[Link]] = [[] for _ in texts]
        for case in cases:
            if link := self._judged(case):
                found[case.text_number].append(link)
        return found

    def _named(self, text: str) -> list[Mention]:
        barred = _barred(text)
        return [m for m in self._lexicon.mentions(text) if not any(a < m.end and m.start < b for a, b in barred)]

    def _judged(self, case: _Case) -> Link | None:
        """The nearest of the concepts with this name, if it is near enough."""
        here = self._vector(case.around)
        scores = {i: float(here @ self._vector(self.concepts[i].content)) for i in case.mention.concept_ids}
        best = max(scores, key=lambda i: scores[i])
        senses = _senses().get(case.mention.key, ())
        if case.mention.doubtful or senses:
            others = [float(here @ self._vector(sense)) for sense in senses]
            if scores[best] < (NEAR_ENOUGH if not others else max(NEAR_ENOUGH, max(others) + NEARER_BY)):
                return None
        return Link(best, case.mention.start, case.mention.end, round(scores[best], 4))

    def _vector(self, text: str) -> Vectors:
        if text not in self._vectors:
            self._encode([text])
        return self._vectors[text]

    def _encode(self, texts: Sequence[str]) -> None:
        """Surroundings are forgotten with the next call; definitions and senses stay."""
        kept = {concept.content for concept in self.concepts.values()} | {s for told in _senses().values() for s in told}
        self._vectors = {text: vector for text, vector in self._vectors.items() if text in kept or text in texts}
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        self._vectors.update(zip(new, np.asarray(self._embedder.encode(new)), strict=True))


def enrich_training_data(examples: Sequence[Example], knowledge: Iterable[Concept] | Linker) -> list[Example]:
    """The examples with the concepts that they speak of under `metadata["concepts"]`.

    Each is `{"concept_id", "field", "start", "end", "score"}`; `field` is `question`, `answer`, or `turns[N]`; the span is in
    characters of that field. An example that speaks of none gets an empty list. The order is kept, nothing else changes.
    """
    linker = knowledge if isinstance(knowledge, Linker) else Linker(knowledge)
    places = [(n, field, text) for n, example in enumerate(examples) for field, text in _fields(example)]
    noted: list[list[dict[str, Any]]] = [[] for _ in examples]
    for (n, field, _), links in zip(places, linker.links_of([text for _, _, text in places]), strict=True):
        noted[n] += [
            {"concept_id": k.concept_id, "field": field, "start": k.start, "end": k.end, "score": k.score} for k in links
        ]
    return [
        replace(example, metadata={**example.metadata, "concepts": found}) for example, found in zip(examples, noted, strict=True)
    ]


def _fields(example: TrainingExample) -> list[tuple[str, str]]:
    if isinstance(example, QAPair):
        return [("question", example.question), ("answer", example.answer)]
    return [(f"turns[{n}]", turn.text) for n, turn in enumerate(example.turns)]


def surroundings(text: str, mention: Mention) -> str:
    """The sentence that a mention stands in, with its neighbours where it is short."""
    parts = [m.span() for m in _SENTENCE.finditer(text)]
    here = [n for n, (a, b) in enumerate(parts) if a < mention.end and mention.start < b]
    if not here:
        return text
    first, last = here[0], here[-1]
    while len(text[parts[first][0] : parts[last][1]].split()) < SURROUNDINGS_WORDS and (first > 0 or last < len(parts) - 1):
        first, last = max(0, first - 1), min(len(parts) - 1, last + 1)
    return text[parts[first][0] : parts[last][1]].strip()


@cache
def _written() -> Mapping[str, Any]:
    return tomllib.loads(SENSES.read_text(encoding="utf-8"))


@cache
def _senses() -> Mapping[str, tuple[str, ...]]:
    return {" ".join(t.form for t in tokens(word)): tuple(told) for word, told in _written()["senses"].items()}


def _barred(text: str) -> list[tuple[int, int]]:
    """Spans that contain names and never mean a concept: web addresses and phrases such as "don't worry"."""
    parts = tokens(text)
    forms = [t.form for t in parts]
    found = [m.span() for m in _ADDRESS.finditer(text)]
    for phrase in _never():
        for n, word in enumerate(forms):
            if word == phrase[0] and tuple(forms[n : n + len(phrase)]) == phrase:
                found.append((parts[n].start, parts[n + len(phrase) - 1].end))
    return found


@cache
def _never() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(t.form for t in tokens(phrase)) for phrase in _written()["never"])
