"""What is left out of what was heard, by its reason; languages; sentences from bare words."""

from __future__ import annotations

import pytest

from attunement.records import SpokenSegment, SpokenWord
from attunement.sources.voice.language import language_of
from attunement.sources.voice.punctuating import punctuated
from attunement.sources.voice.screening import REASONS, Screen

GOOD = "I walked to the river and back, and I slept a little better on the night after that."
DUTCH = "Ik ben gisteren met mijn zus naar de stad gegaan en toen hebben we samen een nieuwe jas gekocht."
GERMAN = "Ich bin gestern mit meiner Schwester in die Stadt gefahren und dann haben wir zusammen eine Jacke gekauft."


@pytest.mark.parametrize(
    ("text", "seconds", "confidence", "reasons"),
    [
        (GOOD, 6.0, 0.9, []),
        ("Yes.", 0.4, 0.9, []),
        ("No, no, no, no, I did not say that.", 3.0, 0.9, []),
        ("...", 2.0, 0.9, ["no_words"]),
        (GOOD, 6.0, 0.59, ["low_confidence"]),
        (GOOD, 2.2, 0.9, ["speech_rate"]),
        ("Well then.", 9.0, 0.9, ["speech_rate"]),
        ("thank you for watching " * 6, 9.0, 0.9, ["repeats"]),
        ("you " * 9, 4.0, 0.9, ["repeats"]),
        (DUTCH, 7.0, 0.9, ["other_language"]),
        (GERMAN, 7.0, 0.2, ["low_confidence", "other_language"]),
    ],
)
def test_a_segment_is_left_out_for_its_reason(text: str, seconds: float, confidence: float, reasons: list[str]) -> None:
    found = Screen(least_confidence=0.6, language="en").reasons(SpokenSegment(text, 3.0, 3.0 + seconds, confidence))
    assert found == reasons and set(found) <= set(REASONS)


def test_the_language_is_told_by_text_or_by_the_engine_and_not_of_few_words() -> None:
    assert language_of(GOOD).code == "en" and not language_of(GOOD).is_other_than("en")
    assert (
        language_of(DUTCH).code == "nl" and language_of(DUTCH).is_other_than("en") and not language_of(DUTCH).is_other_than("nl")
    )
    assert language_of("Guten Tag").code == "" and not language_of("Guten Tag").is_other_than("en")
    heard = language_of(GOOD, {"en": 0.02, "fr": 0.97})
    assert (heard.code, heard.by) == ("fr", "sound") and heard.is_other_than("en")


def bare(text: str) -> list[SpokenWord]:
    """Words of 0.3 s; `/` is a pause of half a second, `,` of a fifth."""
    at, words = 0.0, []
    for token in text.split():
        if token in "/,":
            at += 0.5 if token == "/" else 0.2
        else:
            words.append(SpokenWord(token, at, at + 0.3, 0.5))
            at += 0.3
    return words


@pytest.mark.parametrize(
    ("heard", "written"),
    [
        ("i went home / it was monday / i'm fine", "I went home. It was Monday. I'm fine."),
        ("you have carried this , what helped you", "You have carried this. What helped you?"),
        ("when i was a student i believed it / when did it start", "When I was a student I believed it. When did it start?"),
        ("what we call lazy is tired / do you agree", "What we call lazy is tired. Do you agree?"),
        ("so / how are you / it's cold isn't it", "So how are you? It's cold isn't it?"),
        ("that is the day that he left , and then he wrote", "That is the day that he left and then he wrote."),
    ],
)
def test_bare_words_become_sentences(heard: str, written: str) -> None:
    words = bare(heard)
    made = punctuated(words)
    assert " ".join(word.text for word in made) == written
    assert [(w.start_seconds, w.confidence) for w in made] == [(w.start_seconds, w.confidence) for w in words]
    assert punctuated([]) == []
