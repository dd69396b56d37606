"""When a therapist changes persona: danger, hysteresis, and what the shipped judges read of words that are new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunement.quality.panel import Judges
from attunement.sources.personas.switching import SAFETY_STAYS, STAYS, ContextSwitcher, NeedDetector, Reading

FELT, THOUGHT = Reading("none", False, 0.05), Reading("none", False, 0.95)
RATHER = Reading("none", False, 0.7)
DANGER, MAYBE = Reading("elevated", True, 0.1), Reading("elevated", False, 0.1)


def followed(*readings: Reading) -> list[str]:
    switcher = ContextSwitcher()
    return [switcher.observe(reading) for reading in readings]


def test_a_single_unsure_turn_changes_nothing() -> None:
    assert followed(FELT, FELT, RATHER, FELT, RATHER) == ["listening"] * 5


def test_two_likely_turns_or_one_sure_one_change_the_persona() -> None:
    assert followed(FELT, FELT, RATHER, RATHER)[-2:] == ["listening", "thought_work"]
    assert followed(FELT, FELT, THOUGHT)[-1] == "thought_work"


def test_a_persona_stays_for_some_turns() -> None:
    assert followed(FELT, THOUGHT, THOUGHT)[:STAYS] == ["listening"] * STAYS


def test_danger_is_taken_up_at_once_and_left_late() -> None:
    said = followed(FELT, DANGER, FELT, FELT, FELT)
    assert said == ["listening", *["safety"] * SAFETY_STAYS, "listening"]
    assert followed(THOUGHT, DANGER)[-1] == "safety" and followed(DANGER) == ["safety"]


def test_unsure_danger_needs_doubt_before_it() -> None:
    assert followed(FELT, MAYBE)[-1] == "listening"
    assert followed(FELT, MAYBE, MAYBE)[-1] == "safety"
    assert followed(Reading("possible", False, 0.1), MAYBE)[-1] == "safety"


@given(st.lists(st.sampled_from([FELT, THOUGHT, RATHER, DANGER, MAYBE]), min_size=1, max_size=30))
def test_no_course_flips_each_turn_and_sure_danger_is_never_passed_over(readings: list[Reading]) -> None:
    said = followed(*readings)
    assert all(need == "safety" for need, reading in zip(said, readings, strict=True) if reading.danger and reading.sure)
    calm = [i for i in range(2, len(said)) if "safety" not in said[i - 2 : i + 1]]
    assert not [i for i in calm if said[i] != said[i - 1] != said[i - 2]], "a persona that was just taken up is not left at once"


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("I held her hand until it got cold. I can't say any more right now.", "listening"),
        ("If I fail this interview it proves that I'm worthless. That's how I see it.", "thought_work"),
        ("I'm going to kill myself tonight, I have the pills here.", "safety"),
    ],
)
def test_the_shipped_judges_read_plain_words(text: str, need: str) -> None:
    (reading,) = NeedDetector(Judges()).read([text])
    assert reading.need == need
