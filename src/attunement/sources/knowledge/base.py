"""The knowledge base: concepts with search by words and by meaning, fused by their ranks, and what is related to what.

Reciprocal-rank fusion (Cormack 2009): a concept's score is the sum over the rankings of weight / (k + rank).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from attunement.config import Settings
from attunement.embedding import Embedder
from attunement.errors import ConfigError, DataError
from attunement.sources.knowledge import licences
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.cleaning import normalised
from attunement.sources.knowledge.store import ConceptStore, Ranked, SqliteConcepts

MODES = ("hybrid", "words", "meaning")
FUSION_K, MEANING_WEIGHT = 10, 3.0
"""How fast ranks lose weight (Cormack 2009: 60), and the weight of the ranking by meaning beside that by words (1); both chosen by
cross-validation over the graded queries of `benchmarks/sources.py`."""
POOL = 100
"""How far down each ranking is read."""


@dataclass(frozen=True)
class Hit:
    """A found concept; `also` are ids of concepts of the same name, further down, in other sources or senses."""

    concept: Concept
    score: float
    also: Sequence[str] = ()


def fuse(rankings: Iterable[tuple[float, Ranked]], k: int = FUSION_K) -> Ranked:
    """One ranking of several, each with its weight; ties by id."""
    scores: dict[str, float] = {}
    for weight, ranking in rankings:
        for rank, (concept_id, _) in enumerate(ranking, 1):
            scores[concept_id] = scores.get(concept_id, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def approaches(concept: Concept, related: Iterable[Concept]) -> tuple[str, ...]:
    """Therapeutic approaches to `concept`; see `KnowledgeBase.approaches`."""
    if concept.therapeutic_approaches:
        return tuple(concept.therapeutic_approaches)
    names = {normalised(name) for name in (concept.label, *concept.synonyms)}
    others = [other for other in related if other.therapeutic_approaches]
    namesakes = [other for other in others if names & {normalised(name) for name in (other.label, *other.synonyms)}]
    above = [other for other in others if other.concept_id in concept.parents]
    return tuple(next((other.therapeutic_approaches for other in [*namesakes, *above]), ()))


class KnowledgeBase:
    """Concepts of a store. Iterates and counts them; `search` answers in milliseconds once the first has loaded the model."""

    def __init__(self, store: ConceptStore, embedder: Embedder | None = None) -> None:
        self.store = store
        self.embedder = embedder or Embedder()

    def __len__(self) -> int:
        return len(self.store.vectors()[0])

    def __iter__(self) -> Iterator[Concept]:
        return iter(self.store.all())

    def get(self, concept_id: str) -> Concept | None:
        """The concept of that id, or None."""
        return next(iter(self.store.get([concept_id])), None)

    def related(self, concept: Concept) -> list[Concept]:
        """What is related to `concept`, the surest relation first: hierarchy, same name, mentions, neighbours."""
        return self.store.get(concept.related_concepts)

    def approaches(self, concept: Concept) -> tuple[str, ...]:
        """Therapeutic approaches to `concept`: its own, else those of a namesake (by name or synonym), else of what stands right above."""
        return approaches(concept, self.related(concept))

    def usable(self, use: str) -> list[Concept]:
        """The concepts whose licence allows `use` (`licences.USES`): what an export may hold."""
        return licences.usable(self, use)

    def ranked(self, query: str, mode: str = "hybrid") -> Ranked:
        """The first hundred ids for `query` with their scores, the best first. Raises `ConfigError` for a mode not in `MODES`."""
        if mode not in MODES:
            raise ConfigError(f"a mode of search is one of {', '.join(MODES)}, not '{mode}'")
        if not query.strip():
            return []
        rankings = []
        if mode != "meaning":
            rankings.append((1.0, self.store.by_words(query, POOL)))
        if mode != "words":
            rankings.append((MEANING_WEIGHT, self.store.by_vector(self.embedder.encode([query])[0], POOL)))
        return rankings[0][1] if len(rankings) == 1 else fuse(rankings)[:POOL]

    def search(self, query: str, limit: int = 10, mode: str = "hybrid") -> list[Hit]:
        """The best `limit` concepts for `query`, one a name."""
        ranked = self.ranked(query, mode)
        concepts = {concept.concept_id: concept for concept in self.store.get(concept_id for concept_id, _ in ranked)}
        by_name: dict[str, list[tuple[str, float]]] = {}
        for concept_id, score in ranked:
            by_name.setdefault(normalised(concepts[concept_id].label), []).append((concept_id, score))
        return [
            Hit(concepts[group[0][0]], group[0][1], tuple(concept_id for concept_id, _ in group[1:]))
            for group in list(by_name.values())[:limit]
        ]

    def stats(self) -> dict[str, Any]:
        """Counts: concepts, distinct names, by source, licence and category, what was left out and why, and how many relate."""
        concepts, files = self.store.all(), self.store.files()
        by_id = {concept.concept_id: concept for concept in concepts}
        left_out: Counter[str] = Counter()
        for row in files.values():
            left_out.update(row["facts"].get("left_out", {}))
        return {
            "concepts": len(concepts),
            "distinct_labels": len({normalised(concept.label) for concept in concepts}),
            "files": len(files),
            "sources": dict(Counter(concept.source for concept in concepts).most_common()),
            "licences": {
                licence: {"concepts": count, "uses": [use for use in licences.USES if licences.allows(licence, use)]}
                for licence, count in Counter(concept.licence for concept in concepts).most_common()
            },
            "categories": dict(Counter(concept.category for concept in concepts).most_common()),
            "left_out": dict(left_out),
            "with_related": sum(bool(concept.related_concepts) for concept in concepts),
            "with_approaches": sum(
                bool(approaches(c, (by_id[key] for key in c.related_concepts if key in by_id))) for c in concepts
            ),
        }


def open_store(settings: Settings) -> ConceptStore:
    """The configured store: `knowledge.store`'s database, else SQLite in the home. Raises `ConfigError` for another kind of address."""
    if settings.knowledge.store:
        if not settings.knowledge.store.startswith("postgresql"):
            raise ConfigError(
                "knowledge.store takes an address like postgresql+psycopg://user@host/database, or nothing for SQLite"
            )
        from attunement.sources.knowledge.postgres import PostgresConcepts

        return PostgresConcepts(settings.knowledge.store)
    return SqliteConcepts.at_home(settings.home)


def open_base(settings: Settings) -> KnowledgeBase:
    """The base over what was imported. Raises `DataError` when nothing was, or with another embedding model."""
    base = KnowledgeBase(open_store(settings), Embedder(settings.embedding))
    if not len(base):
        raise DataError("no concepts are there yet: bring them with  attune knowledge import PATH")
    models = {row["facts"].get("model") for row in base.store.files().values()}
    if models - {None, settings.embedding.model}:
        told = ", ".join(sorted(str(model) for model in models))
        raise DataError(
            f"the concepts were imported with {told}, not '{settings.embedding.model}' (embedding.model): import them again"
        )
    return base
