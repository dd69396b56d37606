"""Definitions become sentences, labels names, and what defines nothing is empty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunement.sources.knowledge.importing.cleaning import clean_text, definition, label, normalised


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("A <goal directed BCT> that sets goals.", "A goal directed BCT that sets goals."),
        ("ideas of Baddeley &amp; Hitch<br /><br />on memory", "Ideas of Baddeley & Hitch on memory."),
        ("Fear of open places. [wikipedia:Agoraphobia]", "Fear of open places."),
        ("Fear of open places http://en.wikipedia.org/wiki/Agoraphobia", "Fear of open places."),
        (r"Atkinson \\\'s model of memory", "Atkinson 's model of memory."),
        ("a negative  emotion\nfelt at a loss", "A negative emotion felt at a loss."),
        ("Feeling < 3 on a scale of 10", "Feeling < 3 on a scale of 10."),
        ("ADD DEFINITION HERE", ""),
        ("Write definition here.", ""),
        ("No definition submitted yet.", ""),
        ("kept in a person\u00e2\u0080\u0099s mind", "Kept in a person’s mind."),
        ("None", ""),
        ("none.", ""),
        ("sad mood", ""),
        ("", ""),
    ],
)
def test_definition(raw: str, clean: str) -> None:
    assert definition(raw) == clean


def test_labels_are_the_same_whatever_their_case_accents_and_plural() -> None:
    assert normalised("Anxiety Disorders") == normalised("anxiety disorder") == normalised("anxiety-disorder")
    assert normalised("cliché") == normalised("Cliche")
    assert normalised("stress") == "stress" and normalised("phobias") == "phobia" and normalised("therapies") == "therapy"
    assert normalised("psychosis") != normalised("psychoses")
    assert label("visual_word_recognition.") == "visual word recognition"


@given(st.text(max_size=200))
def test_cleaning_is_stable(text: str) -> None:
    once = clean_text(text)
    assert "\n" not in once
    assert definition(text) == "" or definition(text)[-1] in ".!?"
