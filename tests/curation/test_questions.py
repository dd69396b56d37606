from __future__ import annotations

import pytest

from attunement.config import DataSettings
from attunement.curation.questions import CONTEXTUAL, EXTRACTED, Candidate, first_fault, make_pairs, sentences
from attunement.records import Conversation, Origin, Turn

ORIGIN = Origin("test", "test.json", "0" * 64, "line 1", "1" * 64, "CC0", "R")
SETTINGS = DataSettings()


def talk(*turns: tuple[str, str], number: int = 1) -> Conversation:
    return Conversation(f"c-{number:016x}", [Turn(role, text, role) for role, text in turns], ORIGIN)


def pairs(*conversations: Conversation, **settings: object) -> list[Candidate]:
    return list(make_pairs(list(conversations), SETTINGS.model_copy(update=settings)))


def test_the_question_in_the_turn_is_extracted_word_for_word() -> None:
    turn = "My sister moved out last month. How do I stop missing her so much?"
    (pair,) = pairs(talk(("client", turn), ("therapist", "Missing her shows how close you were.")), contextual_share=0.0)
    assert pair.question_type == EXTRACTED
    assert pair.question == "How do I stop missing her so much?"
    assert pair.context == (("client", turn),)


def test_the_same_turn_whole_is_the_contextual_question() -> None:
    turn = "My sister moved out last month. How do I stop missing her so much?"
    (pair,) = pairs(talk(("client", turn), ("therapist", "Missing her shows how close you were.")), contextual_share=1.0)
    assert (pair.question_type, pair.question, pair.context) == (CONTEXTUAL, turn, ())


def test_a_short_turn_is_led_in_by_the_words_that_the_answer_takes_up() -> None:
    conversation = talk(
        ("client", "The garden was my grandfather's great love. I eat too late at night."),
        ("therapist", "Tell me more about him."),
        ("client", "I miss him."),
        ("therapist", "His garden and the love in it stay with you."),
    )
    second = pairs(conversation, contextual_share=1.0)[1]
    assert second.question == "The garden was my grandfather's great love. I miss him."
    assert second.context == ()


def test_a_statement_without_history_gets_the_question_that_the_answer_answers() -> None:
    conversation = talk(
        ("client", "I lie awake until three every night this week."), ("therapist", "Try to get up and read until you are tired.")
    )
    (pair,) = pairs(conversation, contextual_share=1.0)
    assert pair.question.startswith("I lie awake until three every night this week. ")
    assert pair.question.endswith("?")


def test_a_bare_question_stays_extracted_whatever_the_share() -> None:
    (pair,) = pairs(talk(("client", "What is grief?"), ("therapist", "It is love with nowhere to go.")), contextual_share=1.0)
    assert pair.question_type == EXTRACTED


def test_half_are_contextual_over_many_and_each_conversation_decides_alone() -> None:
    conversations = [
        talk(
            ("client", f"I worry about my exam number {i}. What if I fail it?"),
            ("therapist", "What would failing it mean to you?"),
            number=i,
        )
        for i in range(1, 401)
    ]
    found = pairs(*conversations)
    assert 170 < sum(p.question_type == CONTEXTUAL for p in found) < 230
    assert found[100:] == pairs(*conversations[100:])
    assert [p.conversation_id for p in found] == [c.conversation_id for c in conversations]


def test_context_starts_with_the_client_and_keeps_to_its_length() -> None:
    turns = [("therapist", "Hello there.")] + [
        (role, f"{role} says thing number {i} here.") for i in range(8) for role in ("client", "therapist")
    ]
    for pair in pairs(talk(*turns), max_context_turns=4):
        assert len(pair.context) <= 4
        assert not pair.context or pair.context[0][0] == "client"


def test_a_therapist_who_speaks_first_or_twice_makes_no_pair() -> None:
    assert pairs(talk(("therapist", "Welcome, how are you?"), ("therapist", "Take your time."), ("client", "Fine."))) == []


TALK = (
    "Why do we worry at night? When the house is quiet there is nothing to hold the mind, and so the mind holds on to itself. "
    "Worry feels like work. It feels as if something would be solved if only we went on with it a little longer, and yet it never is. "
    "The worry list is a simple tool. You choose a quarter of an hour in the afternoon, you sit down, and you write every worry on paper. "
    "When a worry comes at night, you tell it that its time is tomorrow. Most people find that worry list feels strange for a week. Then worry list becomes a habit like any other. "
    "After two weeks many of them sleep better than before, and some are surprised by how little there was to write down at all."
)


def test_a_talk_gives_passages_with_rhetorical_or_made_questions() -> None:
    found = pairs(talk(("narrator", TALK)))
    assert len(found) == 2
    extracted = next(p for p in found if p.question_type == EXTRACTED)
    assert extracted.question == "Why do we worry at night?"
    contextual = next(p for p in found if p.question_type == CONTEXTUAL)
    assert "worry list" in contextual.question and contextual.question.endswith("?")
    assert " ".join(p.answer for p in found) == TALK.removeprefix("Why do we worry at night? ")


def test_ids_are_of_the_content() -> None:
    one = pairs(talk(("client", "I feel low today."), ("therapist", "What happened this morning?")))
    again = pairs(talk(("client", "I feel low today."), ("therapist", "What happened this morning?")))
    other = pairs(talk(("client", "I feel low today."), ("therapist", "What happened this evening?")))
    assert one == again
    assert one[0].pair_id != other[0].pair_id
    assert one[0].pair_id.startswith("x-") and len(one[0].pair_id) == 18


@pytest.mark.parametrize(
    ("question", "answer", "fault"),
    [
        ("Hm", "That sounds like a long day to me.", "question_too_short"),
        ("I am so tired.", "I see.", "answer_too_short"),
        ("I am so tired.", "word " * 601, "answer_too_long"),
        ("I am so tired today.", "i am so tired, today", "answer_repeats_question"),
        ("I am so tired today.", "What would rest look like for you?", None),
    ],
)
def test_reasons(question: str, answer: str, fault: str | None) -> None:
    assert first_fault(Candidate("x-1", "c-1", 1, question, answer, (), EXTRACTED), SETTINGS) == fault


def test_sentences_lose_nothing_but_spaces() -> None:
    text = 'He said "no?" Then he left... \n A new line! And a rest'
    assert "".join(sentences(text)).replace(" ", "") == text.replace(" ", "").replace("\n", "")
