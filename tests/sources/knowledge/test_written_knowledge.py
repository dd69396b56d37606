"""The concepts of our own: whole, linked, graded, and nobody else's text."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.written import CHECKED, EVIDENCE_LEVELS, concepts_in, contrast_of, names_of, written_concepts

CONCEPTS = {concept.concept_id: concept for concept in written_concepts()}
NAMES = names_of(CONCEPTS.values())
ids = pytest.mark.parametrize("concept", CONCEPTS.values(), ids=CONCEPTS)


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?= [A-Z]|$)", text))


def test_there_are_as_many_as_the_guide_says() -> None:
    kinds = Counter(concept.category for concept in CONCEPTS.values())
    assert len(CONCEPTS) == len(written_concepts())
    assert kinds["therapy_modality"] + kinds["therapeutic_technique"] >= 190
    assert sum(bool(concept.evidence) for concept in CONCEPTS.values()) >= 60
    assert len(CONCEPTS) >= 400


@ids
def test_a_concept_is_defined_in_sentences_and_ours(concept: Concept) -> None:
    assert re.fullmatch(r"attunement:[a-z0-9-]+", concept.concept_id)
    assert (concept.source, concept.licence) == ("attunement", "Apache-2.0")
    assert 2 <= sentences(concept.content) <= 4 and concept.content.endswith(".")
    assert 15 <= len(concept.content.split()) <= 110
    assert "DSM" not in str(concept)


@ids
def test_every_link_of_a_concept_resolves(concept: Concept) -> None:
    assert concept.related_concepts and concept.concept_id not in concept.related_concepts
    for linked in (*concept.related_concepts, *concept.parents):
        assert linked in CONCEPTS
    assert set(concept.parents) <= set(concept.related_concepts)
    for approach in (*concept.therapeutic_approaches, *(row["approach"] for row in concept.evidence)):
        assert approach.casefold() in NAMES
    for contrast in concept.contrasts:
        label, told = contrast_of(contrast)
        assert label.casefold() in NAMES
        assert sentences(told) >= 1


@ids
def test_evidence_is_graded_and_says_how_it_was_checked(concept: Concept) -> None:
    for row in concept.evidence:
        assert set(row) == {"approach", "level", "guideline", "checked"}
        assert row["level"] in EVIDENCE_LEVELS and row["checked"] in CHECKED and row["guideline"]


def test_a_name_belongs_to_one_concept() -> None:
    owners: dict[str, set[str]] = {}
    for concept in CONCEPTS.values():
        for name in (concept.label, *concept.synonyms):
            owners.setdefault(name.casefold(), set()).add(concept.concept_id)
    assert {name: ids for name, ids in owners.items() if len(ids) > 1} == {}


def test_what_may_kill_is_never_an_approach() -> None:
    for concept in CONCEPTS.values():
        assert not {"No-suicide contract", "Psychological debriefing"} & set(concept.therapeutic_approaches)


def test_a_line_that_is_no_concept_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"concept_id": "x:1", "name": "Grounding"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.jsonl, concept 1: .*'name'.*fields concept_id"):
        concepts_in(tmp_path / "own.jsonl")
    (tmp_path / "own.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="concept 1"):
        concepts_in(tmp_path / "own.jsonl")
