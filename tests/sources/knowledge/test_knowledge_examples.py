"""Questions about concepts: grounded in what they cite, asked in several ways, read by `attune data build`."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from attunement.quality.panel import Judges
from attunement.readers.files import discover, read
from attunement.records import Conversation
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.examples import (
    FORMS,
    KnowledgeQuestion,
    KnowledgeQuestions,
    coherence,
    evidence_sentences,
    inside,
    psychology_example,
    untraced,
)
from attunement.sources.knowledge.share import cited, conversation_of, licence_class, row_of, write_share
from attunement.sources.knowledge.written import written_concepts

CONCEPTS = {concept.concept_id: concept for concept in written_concepts()}
QUESTIONS = list(KnowledgeQuestions(CONCEPTS.values(), random.Random(7)))


def first(form: str, concept_id: str) -> KnowledgeQuestion:
    return next(q for q in QUESTIONS if q.form == form and q.concept_ids[0] == f"attunement:{concept_id}")


def test_every_form_is_asked_and_every_answer_is_grounded() -> None:
    kinds = Counter(question.form for question in QUESTIONS)
    assert set(kinds) == set(FORMS) and min(kinds.values()) > 50
    assert [question for question in QUESTIONS if untraced(question, CONCEPTS)] == []
    assert len({question.example_id for question in QUESTIONS}) == len(QUESTIONS)


def test_each_question_has_several_wordings() -> None:
    asked = {q.question.replace("grief", "{}") for q in KnowledgeQuestions([CONCEPTS["attunement:grief"]], random.Random(1), 8)}
    assert len([question for question in asked if question.count("{}") == 1]) >= 8


@pytest.mark.parametrize(
    "added",
    [
        "It cures depression in three weeks.",
        "Prolonged exposure is a relaxation exercise.",
        "1. Avoid every reminder.",
        "Recommended: CBT (NICE NG1).",
    ],
)
def test_a_sentence_that_no_cited_concept_holds_is_found(added: str) -> None:
    question = first("steps", "pe")
    assert untraced(replace(question, answer=f"{question.answer}\n{added}"), CONCEPTS) == [added]


def test_another_concepts_sentence_is_no_ground() -> None:
    question = first("definition", "grief")
    foreign = CONCEPTS["attunement:shame"].content
    assert len(untraced(replace(question, answer=foreign), CONCEPTS)) == 3


def test_answers_say_what_the_concept_says() -> None:
    assert (
        first("brief", "splitting").answer
        == "Splitting is seeing oneself or others as all good or all bad, with the two kept apart."
    )
    steps = first("steps", "safety-planning").answer.splitlines()
    assert [line.split(". ")[0] for line in steps[1:]] == ["1", "2", "3", "4", "5", "6"]
    assert steps[-1] == "6. Make the surroundings safe by limiting access to lethal means."
    contrast = first("contrast", "safety-planning")
    assert contrast.concept_ids == ("attunement:safety-planning", "attunement:no-suicide-contract")
    told = first("evidence", "ptsd")
    assert "Advised against: Psychological debriefing" in told.answer and not told.checked
    assert "attunement:emdr" in told.concept_ids
    assert first("evidence", "insomnia").checked


def test_evidence_names_every_row() -> None:
    for concept in CONCEPTS.values():
        told = " ".join(evidence_sentences(concept))
        assert all(row["approach"] in told and row["guideline"].split(" (")[0] in told for row in concept.evidence)


def test_nobody_is_diagnosed() -> None:
    for question in QUESTIONS:
        if question.form == "vignette" and CONCEPTS[question.concept_ids[0]].category == "clinical_diagnosis":
            assert "a qualified clinician would have to assess" in question.answer.split(". ")[0]
            assert question.answer.endswith("A few lines are never enough for a diagnosis.")
    assert "stay with the person" in first("vignette", "suicidality").answer


def test_names_stand_rightly_within_a_sentence() -> None:
    written = {
        inside(CONCEPTS[f"attunement:{name}"]) for name in ("emdr", "grief", "gottman", "socratic-questioning", "pride-skills")
    }
    assert written == {"EMDR", "grief", "Gottman method couples therapy", "Socratic questioning", "PRIDE skills"}


def test_a_concept_without_our_fields_is_asked_about_too() -> None:
    bare = Concept("mfoem:1", "Awe", "emotion", "A feeling of wonder at something vast", "mfoem", "CC-BY-3.0")
    made = list(KnowledgeQuestions([bare], random.Random(1)))
    assert {q.form for q in made} == {"definition"} and {q.answer for q in made} == {
        "Awe: A feeling of wonder at something vast."
    }
    assert not untraced(made[0], {"mfoem:1": bare})
    assert psychology_example(bare).content == bare.content


def test_the_folder_is_a_source_of_the_knowledge_share(tmp_path: Path) -> None:
    bare = Concept(
        "cogat:1", "Set shifting", "cognition", "Set shifting is moving between tasks. It takes effort.", "cogat", "CC-BY-SA-3.0"
    )
    concepts = {**CONCEPTS, bare.concept_id: bare}
    chosen = [*QUESTIONS[:6], *KnowledgeQuestions([bare], random.Random(1)), first("evidence", "ptsd")]
    chosen.append(replace(QUESTIONS[0], answer="Therapy is magic."))
    counts = write_share(tmp_path, chosen, concepts, scores=[0.5] * len(chosen))
    assert counts == {"written": 9, "ungrounded": 1, "unchecked_evidence": 1}
    found = [talk for file in discover([tmp_path]) for talk in read(file, max_record_bytes=1 << 20)]
    assert len(found) == 9 and all(isinstance(talk, Conversation) and talk.share == "knowledge" for talk in found)
    kinds = Counter(talk.origin.licence_class for talk in found if isinstance(talk, Conversation))
    assert kinds == {"R": 6, "SA": 3}
    talk = next(t for t in found if isinstance(t, Conversation) and t.origin.licence_class == "SA")
    assert talk.metadata["concept_ids"] == "cogat:1" and talk.metadata["group"] == "knowledge/cogat:1"
    assert [turn.role for turn in talk.turns] == ["system", "client", "therapist"]


def test_a_conversation_cites_its_concepts() -> None:
    question = first("contrast", "safety-planning")
    talk = conversation_of(question, CONCEPTS, 0.8)
    assert talk.share == "knowledge" and talk.metadata["concept_ids"] == list(question.concept_ids)
    assert cited([row_of(question, CONCEPTS, 0.8)]) == set(question.concept_ids)


def test_licence_classes() -> None:
    assert [licence_class(name) for name in ("Apache-2.0", "CC-BY-4.0", "CC-BY-4.0 AND CC-BY-SA-3.0", "CC-BY-NC-SA-4.0")] == [
        "R", "R", "SA", "NC",
    ]  # fmt: skip


def test_answers_fit_their_questions_as_the_judge_of_coherence_sees_it() -> None:
    judges = Judges()
    chosen = [next(q for q in QUESTIONS if q.form == form) for form in ("definition", "contrast", "steps")]
    point = judges.operating_point("coherence")
    assert all(score >= point for score in coherence(judges, chosen))
