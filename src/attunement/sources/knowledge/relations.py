"""What is related to what: above and below in the hierarchy, the same name, names in the definition, near in meaning."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from attunement.embedding import Vectors
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.importing.cleaning import normalised
from attunement.sources.knowledge.lexicon import Lexicon

NEIGHBOUR_COSINE = 0.65
"""From here on two concepts are neighbours: of 40 such pairs judged by hand 37 were related, of 40 at 0.55-0.65 30 (`benchmarks/sources.py`)."""
MOST = {"below": 10, "same": 5, "mentioned": 8, "near": 5}
COMMON_SHARE = 0.01
"""A name that stands in more of the definitions ("person", "process") says nothing where it stands."""
BLOCK = 1024
VERSION = 2
"""Counted up when the relations of the same concepts come out otherwise: the next import makes them again."""


def mentions(concepts: Sequence[Concept]) -> dict[str, list[str]]:
    """For each concept the others whose name stands in its definition, common names apart."""
    lexicon = Lexicon(concepts)
    named = {c.concept_id: {m.key: m.concept_ids[0] for m in lexicon.mentions(c.content)} for c in concepts}
    counts = Counter(name for names in named.values() for name in names)
    common = {name for name, count in counts.items() if count > max(3, COMMON_SHARE * len(concepts))}
    return {
        concept_id: [other for name, other in names.items() if name not in common and other != concept_id]
        for concept_id, names in named.items()
    }


def neighbours(
    ids: Sequence[str], vectors: Vectors, cosine: float = NEIGHBOUR_COSINE, most: int = MOST["near"]
) -> dict[str, list[str]]:
    """For each id the nearest others from `cosine` on; `vectors` `[n, d]` of length 1, compared block by block."""
    out = {}
    for start in range(0, len(ids), BLOCK):
        scores = vectors[start : start + BLOCK] @ vectors.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -1
        for row, found in enumerate(scores):
            near = np.argpartition(-found, min(most, len(found) - 1))[: most + 1]
            out[ids[start + row]] = [ids[i] for i in near[np.argsort(-found[near], kind="stable")][:most] if found[i] >= cosine]
    return out


def namesakes(concepts: Sequence[Concept]) -> dict[str, list[str]]:
    """For each concept the others of its name: the same name first, then a synonym that is the other's name, either way."""
    by_name: dict[str, list[str]] = defaultdict(list)
    by_synonym: dict[str, list[str]] = defaultdict(list)
    for concept in concepts:
        by_name[normalised(concept.label)].append(concept.concept_id)
        for synonym in concept.synonyms:
            by_synonym[normalised(synonym)].append(concept.concept_id)
    out = {}
    for concept in concepts:
        name = normalised(concept.label)
        named = [key for synonym in concept.synonyms for key in by_name.get(normalised(synonym), ())]
        found = dict.fromkeys([*by_name[name], *by_synonym.get(name, ()), *named])
        out[concept.concept_id] = [key for key in found if key != concept.concept_id]
    return out


def relations(concepts: Sequence[Concept], ids: Sequence[str], vectors: Vectors) -> dict[str, list[str]]:
    """`related_concepts` of every concept, the surest first: what the source says, parents, namesakes, below, mentions, neighbours."""
    known = {concept.concept_id for concept in concepts}
    below: dict[str, list[str]] = defaultdict(list)
    for concept in concepts:
        for parent in concept.parents:
            below[parent].append(concept.concept_id)
    same, mentioned, near = namesakes(concepts), mentions(concepts), neighbours(ids, vectors)
    out = {}
    for concept in concepts:
        own = concept.concept_id
        parts = [
            [other for other in concept.links if other in known],
            [parent for parent in concept.parents if parent in known],
            same[own][: MOST["same"]],
            below[own][: MOST["below"]],
            mentioned[own][: MOST["mentioned"]],
            near.get(own, []),
        ]
        out[own] = list(dict.fromkeys(other for part in parts for other in part if other != own))
    return out
