"""Search fuses two rankings, licences keep concepts out of exports, relations are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from few_concepts import WordVectors, few

from attunement.config import KnowledgeSettings, Settings
from attunement.embedding import Embedder
from attunement.errors import ConfigError, DataError
from attunement.sources.knowledge import licences, relations
from attunement.sources.knowledge.base import KnowledgeBase, fuse, open_base
from attunement.sources.knowledge.concepts import Concept, from_row, to_row
from attunement.sources.knowledge.store import SqliteConcepts
from attunement.sources.knowledge.topic import passage


@pytest.fixture
def embedder() -> WordVectors:
    return WordVectors()


@pytest.fixture
def concepts() -> list[Concept]:
    return few()


@pytest.fixture
def base(tmp_path: Path, concepts: list[Concept], embedder: Embedder) -> KnowledgeBase:
    store = SqliteConcepts.at_home(tmp_path)
    store.put("f", "1", concepts, embedder.encode([passage(c) for c in concepts]), {"left_out": {"off_topic": 3}})
    return KnowledgeBase(store, embedder)


def test_fusion_prefers_what_both_rankings_have() -> None:
    fused = fuse([(1.0, [("a", 9.0), ("b", 8.0)]), (1.0, [("b", 0.9), ("c", 0.8)])])
    assert [key for key, _ in fused] == ["b", "a", "c"]
    assert fused[0][1] == pytest.approx(1 / 12 + 1 / 11)
    assert [key for key, _ in fuse([(1.0, [("a", 1.0)]), (2.0, [("b", 1.0)])])] == ["b", "a"]


def test_search(base: KnowledgeBase) -> None:
    assert base.search("flashbacks after a trauma")[0].concept.concept_id in ("a:flashback", "a:ptsd")
    hits = base.search("insomnia", mode="words")
    assert [hit.concept.label for hit in hits] == ["insomnia"] or hits[0].concept.label.lower() == "insomnia"
    assert {hits[0].concept.concept_id, *hits[0].also} == {"a:insomnia", "b:insomnia"}, "one hit a name"
    assert base.search("  ") == [] and base.search("sleep", limit=1, mode="meaning")[0].score > 0
    assert len(base.search("sleep", limit=1)) == 1
    with pytest.raises(ConfigError, match="hybrid, words, meaning"):
        base.search("sleep", mode="magic")


def test_stats_and_licences(base: KnowledgeBase) -> None:
    found = base.stats()
    assert (found["concepts"], found["distinct_labels"], found["left_out"]) == (5, 4, {"off_topic": 3})
    assert found["licences"]["CC-BY-SA-3.0"] == {"concepts": 1, "uses": ["search", "redistribute", "commercial"]}
    assert {c.concept_id for c in base.usable("relicense")} == {"a:flashback", "a:ptsd", "a:insomnia"}
    assert {c.concept_id for c in base.usable("redistribute")} == {c.concept_id for c in base}
    assert "b:insomnia" not in {c.concept_id for c in base.usable("commercial")}


@pytest.mark.parametrize(
    ("licence", "kind"),
    [("CC0-1.0", "R"), ("CC-BY-4.0", "R"), ("WordNet-3.0", "R"), ("Apache-2.0", "R"), ("CC-BY-SA-3.0", "SA"), ("CC-BY-NC-4.0", "NC"),
     ("CC-BY-NC-SA-4.0", "NC"), ("CC-BY-ND-4.0", "N"), ("CC-BY-NC-ND-4.0", "N"), ("unknown", "N"), ("", "N"), ("CC-BY-4.0 or so", "N")],
)  # fmt: skip
def test_licence_classes(licence: str, kind: str) -> None:
    assert licences.licence_class(licence) == kind
    assert licences.allows(licence, "search")
    assert licences.allows(licence, "redistribute") == (kind != "N")
    assert licences.allows(licence, "relicense") == (kind == "R")
    with pytest.raises(DataError, match="a use is one of"):
        licences.allows(licence, "anything")


def test_relations(concepts: list[Concept], embedder: Embedder) -> None:
    ordered = sorted(concepts, key=lambda c: c.concept_id)
    found = relations.relations(ordered, [c.concept_id for c in ordered], embedder.encode([passage(c) for c in ordered]))
    assert found["a:insomnia"][:2] == ["a:sleep", "b:insomnia"], "the hierarchy first, then the same name"
    assert "a:insomnia" in found["a:sleep"]
    assert "a:flashback" in found["a:ptsd"], "mentioned in the definition"
    assert all(key not in others for key, others in found.items())
    linked = [replace(c, links=("a:sleep", "no:such")) if c.concept_id == "a:ptsd" else c for c in ordered]
    found = relations.relations(linked, [c.concept_id for c in ordered], embedder.encode([passage(c) for c in ordered]))
    assert found["a:ptsd"][0] == "a:sleep" and "no:such" not in found["a:ptsd"], (
        "what the source says comes first, if it is there"
    )


def test_namesakes_by_synonym(concepts: list[Concept]) -> None:
    ptsd = replace(concepts[0], concept_id="c:ptsd", label="PTSD", synonyms=("Post-traumatic stress disorder",))
    found = relations.namesakes([*concepts, ptsd])
    assert found["c:ptsd"] == ["a:ptsd"] and found["a:ptsd"] == ["c:ptsd"] and found["a:insomnia"] == ["b:insomnia"]


def test_approaches_come_from_a_namesake_or_from_above(tmp_path: Path, concepts: list[Concept], embedder: Embedder) -> None:
    other = replace(
        concepts[0], concept_id="c:ptsd", label="PTSD", synonyms=("post-traumatic stress disorder",), related_concepts=("a:ptsd",)
    )
    below = replace(
        concepts[0], concept_id="c:war", label="war neurosis", synonyms=(), parents=("a:ptsd",), related_concepts=("a:ptsd",)
    )
    near = replace(concepts[0], concept_id="c:near", label="near it", synonyms=(), related_concepts=("a:ptsd",))
    every = [*concepts, other, below, near]
    store = SqliteConcepts.at_home(tmp_path)
    store.put("f", "1", every, embedder.encode([passage(c) for c in every]), {})
    base = KnowledgeBase(store, embedder)
    assert [base.approaches(c) for c in (concepts[1], other, below, near)] == [
        ("EMDR", "CPT"),
        ("EMDR", "CPT"),
        ("EMDR", "CPT"),
        (),
    ]


def test_neighbours_need_the_threshold() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    assert relations.neighbours(["a", "b", "c"], vectors, cosine=0.7) == {"a": ["b"], "b": ["a"], "c": []}
    assert relations.neighbours(["a"], vectors[:1]) == {"a": []}


def test_the_longest_name_in_a_definition_is_related() -> None:
    named = [
        Concept(f"t:{n}", name, "cognition", "Told elsewhere.", "t", "CC0-1.0")
        for n, name in enumerate(("sleep disorder", "sleep", "insomnia", "CAT"))
    ]
    told = Concept("t:told", "waking", "cognition", "A Sleep Disorder, or insomnias; the cat sleeps.", "t", "CC0-1.0")
    assert relations.mentions([*named, told])["t:told"] == ["t:0", "t:2", "t:1"]


def test_rows_keep_everything_and_bear_new_fields(concepts: list[Concept]) -> None:
    assert [from_row(to_row(c)) for c in concepts] == concepts
    assert from_row({**to_row(concepts[0]), "from_the_future": 1}) == concepts[0]


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="attune knowledge import"):
        open_base(Settings(home=tmp_path))
    with pytest.raises(ConfigError, match="postgresql"):
        open_base(Settings(home=tmp_path, knowledge=KnowledgeSettings(store="mysql://x")))


def test_concepts_of_another_embedding_model_are_told(tmp_path: Path, concepts: list[Concept], embedder: Embedder) -> None:
    SqliteConcepts.at_home(tmp_path).put("f", "1", concepts[:1], embedder.encode(["x"]), {"model": "another"})
    with pytest.raises(DataError, match=r"imported with another, not 'attunement-minilm' \(embedding.model\): import them again"):
        open_base(Settings(home=tmp_path))
