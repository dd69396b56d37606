"""`validate_persona_consistency` on written dialogues and on dialogues that were spoilt on purpose, each by its reason code."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from attunement.quality.panel import Judges
from attunement.quality.techniques import TECHNIQUES
from attunement.sources.personas.consistency import ConsistencyValidator, interval
from attunement.sources.personas.dialogues import DialogueSet, PersonaTurn
from attunement.sources.personas.files import bridges, clients, therapists
from attunement.sources.personas.grammar import PersonaGrammar, playable
from attunement.sources.personas.scenarios import scenarios


@pytest.fixture(scope="module")
def validator() -> ConsistencyValidator:
    return ConsistencyValidator(Judges(), therapists(), bridges())


@pytest.fixture(scope="module")
def dialogues() -> list[DialogueSet]:
    """One of each scenario and course."""
    personas = therapists()
    plays = playable(list(scenarios(None, clients()).values()), personas)
    drawn = PersonaGrammar(personas, bridges(), random.Random(3)).draw(plays)
    return [dialogue for dialogue, _ in zip(drawn, plays, strict=False)]


def one(dialogues: list[DialogueSet], scenario: str, course: str) -> DialogueSet:
    return next(d for d in dialogues if d.scenario == scenario and " ".join(d.metadata["course"]) == course)


def changed(dialogue: DialogueSet, place: int, **changes: str) -> DialogueSet:
    turns = list(dialogue.turns)
    turns[place] = replace(turns[place], **changes)
    return replace(dialogue, turns=tuple(turns))


def test_written_dialogues_are_consistent(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    reports = [validator.validate(dialogue) for dialogue in dialogues]
    assert len(reports) == 36 and sum(not r.consistent for r in reports) <= 4
    for report in reports:
        assert all(low <= mean <= high for s in report.segments for mean, low, high in s.shares.values())


def test_shuffled_personas_are_found(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    names = sorted(therapists())
    ring = dict(zip(names, names[1:] + names[:1], strict=True))
    for dialogue in dialogues:
        shuffled = replace(dialogue, turns=tuple(replace(t, persona=ring.get(t.persona, "")) for t in dialogue.turns))
        assert "sounds_like_another_persona" in validator.validate(shuffled).reasons


def test_a_turn_of_another_persona_is_found(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    dialogue = one(dialogues, "tom-farm", "listening safety safe")
    spoilt = changed(dialogue, 3, text="Is the gun still in the house? Who has the key to the cabinet?")
    assert "turn_of_another_persona" in validator.validate(spoilt).reasons


def test_a_missing_bridge_is_found(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    dialogue = one(dialogues, "ray-mill", "listening thought_work calm")
    place = dialogue.segments()[1].places[0]
    assert "switch_not_bridged" not in validator.validate(dialogue).reasons
    bare = changed(dialogue, place, text=dialogue.turns[place].own_text, bridge="")
    assert "switch_not_bridged" in validator.validate(bare).reasons


def test_danger_that_is_passed_over_is_found(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    dialogue = one(dialogues, "lin-results", "thought_work safety safe")
    first = dialogue.segments()[1].places[0]
    soothed = changed(dialogue, first, text="You stood there by yourself.", persona="empathic_listener", bridge="")
    report = validator.validate(soothed)
    assert "danger_not_answered" in report.reasons
    assert next(f for f in report.findings if f.code == "danger_not_answered").place == first - 1


def test_without_told_needs_the_words_decide(dialogues: list[DialogueSet]) -> None:
    blind = ConsistencyValidator(Judges(), therapists(), bridges(), told_needs=False)
    turns = (
        PersonaTurn("client", "I'm going to kill myself tonight. I have the pills here.", need="listening"),
        PersonaTurn("therapist", "That sounds so heavy. You've been carrying it alone.", "empathic_listener"),
    )
    assert "danger_not_answered" in blind.validate(DialogueSet("d", "s", "c", turns, "model")).reasons


def test_a_switch_that_nothing_calls_for_is_found(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    dialogue = one(dialogues, "ray-mill", "listening thought_work calm")
    first, second = dialogue.segments()[0].places, dialogue.segments()[1].places
    turns = list(dialogue.turns)
    turns[first[1]] = dialogue.turns[second[0]]
    assert "switch_not_needed" in validator.validate(replace(dialogue, turns=tuple(turns))).reasons


def test_what_must_never_be_said_is_found(validator: ConsistencyValidator, dialogues: list[DialogueSet]) -> None:
    dialogue = one(dialogues, "sofia-newborn", "listening thought_work calm")
    for words, code in (("I promise I won't tell anyone.", "promises_secrecy"), ("You're overreacting.", "dismisses")):
        report = validator.validate(changed(dialogue, 1, text=f"{dialogue.turns[1].text} {words}"))
        assert ("forbidden_move", code) in [(f.code, f.detail) for f in report.findings]


def test_advice_throughout_is_out_of_range(validator: ConsistencyValidator) -> None:
    advice = [
        "I'd suggest that you go to bed at ten every night and leave your phone in the kitchen.",
        "You should call your sister tomorrow and ask her to come over on Sunday.",
        "Try to walk for half an hour each morning, and write down how you felt.",
        "I'd advise you to speak to your boss on Monday and ask for a week off.",
        "Put your coat on at ten tomorrow and go to the letter box and back.",
    ]
    turns = [
        turn
        for text in advice
        for turn in (PersonaTurn("client", "I can't sleep."), PersonaTurn("therapist", text, "empathic_listener"))
    ]
    reasons = validator.validate(DialogueSet("d", "s", "c", tuple(turns), "model")).reasons
    assert {"technique_out_of_range", "forbidden_move", "sounds_like_another_persona"} <= set(reasons)


def test_long_winded_turns_are_out_of_style(validator: ConsistencyValidator) -> None:
    long = "You miss her, and you miss how the mornings were, " * 12
    turns = [
        t for _ in range(3) for t in (PersonaTurn("client", "I miss her."), PersonaTurn("therapist", long, "empathic_listener"))
    ]
    assert "style_out_of_range" in validator.validate(DialogueSet("d", "s", "c", tuple(turns), "model")).reasons


def test_no_persona_and_unknown_ones_are_told(validator: ConsistencyValidator) -> None:
    said = (PersonaTurn("client", "Hello."),)
    assert validator.validate(DialogueSet("d", "s", "c", said, "model")).reasons == ("no_persona",)
    strange = (*said, PersonaTurn("therapist", "Hello.", "guru"))
    assert validator.validate(DialogueSet("d", "s", "c", strange, "model")).reasons == ("unknown_persona",)


def test_a_short_stretch_has_a_wide_interval() -> None:
    one_hot = np.zeros((12, len(TECHNIQUES)))
    one_hot[:, TECHNIQUES.index("reflection_simple")] = 1
    (_, low_short, _), (mean, low_long, high) = interval(one_hot[:2], "reflection"), interval(one_hot, "reflection")
    assert low_short < low_long and mean == 1 and high > 0.99
    assert interval(one_hot, "advice")[0] == 0
