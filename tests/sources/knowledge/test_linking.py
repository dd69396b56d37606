"""Concepts found in texts: by name, in the right sense, with true spans."""

from __future__ import annotations

import pytest

from attunement.embedding import Embedder
from attunement.records import Conversation, Origin, QAPair, Turn
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.lexicon import Lexicon, form
from attunement.sources.knowledge.linking import Linker, enrich_training_data
from attunement.sources.knowledge.written import written_concepts


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker(written_concepts(), Embedder())


def found(linker: Linker, text: str) -> list[tuple[str, str]]:
    return [(text[k.start : k.end], k.concept_id.removeprefix("attunement:")) for k in linker.links(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("They did cognitive behavioral therapy for six weeks.", [("cognitive behavioral therapy", "cbt")]),
        ("Obsessive compulsive disorder runs in the family.", [("Obsessive compulsive disorder", "ocd")]),
        ("She asks for exposure and response prevention.", [("exposure and response prevention", "erp")]),
        ("His panic attacks came back after the ptsd diagnosis.", [("panic attacks", "panic-attack"), ("ptsd", "ptsd")]),
        ("I felt distress. Tolerance came later.", []),
        ("See www.example.org/group-therapy for dates.", []),
        ("An open dialogue with your wife may help.", []),
        ("The clinic offers Open Dialogue in the first week.", [("Open Dialogue", "open-dialogue")]),
        ("", []),
    ],
)
def test_names_are_found_in_any_spelling(linker: Linker, text: str, expected: list[tuple[str, str]]) -> None:
    assert found(linker, text) == expected


@pytest.mark.parametrize(
    ("text", "concept", "linked"),
    [
        ("The depression of the economy put thousands of workers on the street.", "major-depression", False),
        ("Her depression makes mornings heavy, and she feels worthless.", "major-depression", True),
        ("The attachment of this e-mail is a PDF of two pages.", "attachment-theory", False),
        ("A child with a secure bond shows attachment by seeking comfort from its mother.", "attachment-theory", True),
        ("We act as soon as the client asks.", "act", False),
        ("In ACT, clients accept thoughts and commit to action that serves their values.", "act", True),
        ("Don't worry about the parking.", "worry", False),
        ("Nightly worry about what might go wrong keeps her anxious.", "worry", True),
        ("I EXPECT YOU TO ACT NOW AND NOT TO LET THE CAT OUT OF THE HOUSE", "act", False),
    ],
)
def test_a_word_counts_only_in_its_sense(linker: Linker, text: str, concept: str, linked: bool) -> None:
    assert (concept in [concept_id for _, concept_id in found(linker, text)]) is linked


def test_of_two_concepts_with_one_name_the_nearer_is_taken() -> None:
    therapy = Concept(
        "a:1", "Exposure", "therapeutic_technique", "Exposure is approaching feared situations in therapy.", "a", "x"
    )
    light = Concept("a:2", "Exposure", "research", "Exposure is the amount of light that reaches a camera's film.", "a", "x")
    linker = Linker([light, therapy], Embedder())
    assert linker.links("The therapist planned exposure to the feared lift.")[0].concept_id == "a:1"
    assert linker.links("The photographer chose a long exposure for the camera.")[0].concept_id == "a:2"


def test_examples_get_their_concepts_and_nothing_else_changes(linker: Linker) -> None:
    pair = QAPair("What is DBT?", "It teaches distress tolerance.", (), "expert_transcript", 0.9, {"id": "x-1"})
    origin = Origin("s", "f", "0", "line 1", "0", "Apache-2.0", "R")
    talk = Conversation("c-1", (Turn("client", "Hello."), Turn("therapist", "Let us try grounding techniques.")), origin)
    rich = enrich_training_data([pair], linker)[0]
    assert [(c["concept_id"], c["field"], c["start"], c["end"]) for c in rich.metadata["concepts"]] == [
        ("attunement:dbt", "question", 8, 11),
        ("attunement:distress-tolerance", "answer", 11, 29),
    ]
    assert rich.metadata["id"] == "x-1" and "concepts" not in pair.metadata and rich.question == pair.question
    assert [c["field"] for c in enrich_training_data([talk], linker)[0].metadata["concepts"]] == ["turns[1]"]
    assert enrich_training_data([QAPair("Hi?", "Yes.", (), "interview", 0.0, {})], linker)[0].metadata["concepts"] == []


def test_links_do_not_depend_on_what_else_is_linked(linker: Linker) -> None:
    texts = ["His anger frightens him.", "Grief comes in waves after the loss.", "Nothing here.", "His anger frightens him."]
    assert linker.links_of(texts) == [linker.links(text) for text in texts]


def test_forms() -> None:
    assert form("behaviours") == form("behavior") and form("mentalising") == form("mentalizing")
    assert form("counsellor's") == form("counselor") and form("therapies") == form("therapy")
    assert form("crisis") == "crisis" and form("stress") == "stress"


def test_the_longest_name_wins_and_none_overlap() -> None:
    lexicon = Lexicon(written_concepts())
    names = [m.name for m in lexicon.mentions("social anxiety disorder and generalised anxiety disorder and anxiety")]
    assert names == ["Social anxiety disorder", "Generalised anxiety disorder", "Anxiety"]
