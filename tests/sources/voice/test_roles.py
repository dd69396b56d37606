"""Who is who in a talk, by the shipped judge, with punctuation and as a recogniser hears it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from attunement.quality import roles as turns
from attunement.quality.heads import folds_of
from attunement.quality.labelled import Session
from attunement.quality.own_sets import written_sessions
from attunement.quality.panel import Judges
from attunement.records import SpokenSegment, Turn
from attunement.sources.voice.roles import Role, roles_of

SAMPLES = Path(str(resources.files("attunement").joinpath("samples", "conversations")))
THERAPY = [
    ("B", "Hi. Sorry, I'm a bit early."),
    ("A", "That's fine, come in. What would you like to talk about today?"),
    ("B", "I had the argument with my brother again, and I haven't slept since Tuesday."),
    ("A", "It sounds as if that argument has stayed with you all week."),
    ("B", "Yeah. I keep going over it. I always do that, I say nothing and then I hate myself for it."),
    ("A", "When you say you hate yourself for it, what goes through your mind?"),
    ("B", "That I'm weak, I suppose. My dad used to say that."),
    ("A", "So part of this is an old voice. How much do you believe it now, sitting here?"),
    ("B", "Less than at night."),
]
SHOW = [
    ("x", "Welcome back to the programme. My guest today has kept bees for forty years. How did you begin?"),
    ("y", "Well, my grandfather left me two hives and no instructions, and I got stung eleven times that first summer."),
    ("x", "Eleven! And our listeners will want to know: why did you go on?"),
    ("y", "Because of the sound. We opened the hive in May and the whole garden hummed. I was lost after that."),
    ("x", "And then you wrote the book. What did the publishers say?"),
    ("y", "They laughed, mostly. One of them said nobody reads about insects, and it sold out in a month."),
]


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def names(found: dict[str, Role]) -> dict[str, str]:
    return {speaker: role.name for speaker, role in found.items()}


@pytest.mark.parametrize("heard", [False, True], ids=["written", "heard"])
def test_therapist_and_client_host_and_guest(judges: Judges, heard: bool) -> None:
    for said, wanted in ((THERAPY, {"A": "therapist", "B": "client"}), (SHOW, {"x": "host", "y": "guest"})):
        talk = [Turn("", turns.as_heard(text) if heard else text, speaker=who) for who, text in said]
        found = roles_of(talk, judges)
        assert names(found) == wanted
        assert all(0.5 < role.probability <= 1 for role in found.values())


def test_names_do_not_matter_and_segments_will_do(judges: Judges) -> None:
    swapped = [
        SpokenSegment(text, i, i + 1, speaker={"A": "client", "B": "therapist"}[who]) for i, (who, text) in enumerate(THERAPY)
    ]
    assert names(roles_of(swapped, judges)) == {"client": "therapist", "therapist": "client"}


def test_a_third_person_and_who_says_nothing(judges: Judges) -> None:
    third = Turn("", "I worry about him, he never talks to me about it.", speaker="C")
    found = roles_of([*(Turn("", text, speaker=who) for who, text in THERAPY), third, Turn("", " ", speaker="D")], judges)
    assert names(found) == {"A": "therapist", "B": "client", "C": "client"}
    assert roles_of([], judges) == {}
    assert roles_of([Turn("", "Yes.", speaker="S1")], judges) == {}


def test_who_speaks_alone_is_a_lecturer(judges: Judges) -> None:
    blocks = (SAMPLES / "talks" / "evening_college_speech.vtt").read_text(encoding="utf-8").split("\n\n")
    lines = [" ".join(line for line in block.splitlines() if "-->" not in line) for block in blocks[1:]]
    found = roles_of([Turn("", line, speaker="S1") for line in lines], judges)
    assert names(found) == {"S1": "lecturer"}


def test_whole_sessions_as_heard(judges: Judges) -> None:
    """Sessions of our own, which the judge has learnt from: a check of the chain, no figure of its worth."""
    sessions = [s for s in written_sessions() if folds_of([s.session_id])[0] == 0][:6]
    for session in sessions:
        found = roles_of([Turn("", turns.as_heard(text), speaker=f"_{role}") for role, text, _ in session.turns], judges)
        assert names(found) == {"_therapist": "therapist", "_client": "client"}


def test_what_the_judge_learns_from() -> None:
    rows = turns.turns_by_role(
        [Session("s", (("therapist", "Hello?", ""), ("client", "It's me.", ""), ("", "Hm", "")), "", "x", "R")]
    )
    assert [(e.text, e.labels, e.context) for e in rows] == [
        ("Hello?", ("therapist",), ()),
        ("It's me.", ("client",), ("Hello?",)),
    ]
    assert turns.as_heard("Well, it's - \u201cfine\u201d. OK?") == "well it's fine ok"
    scenes = turns.written_scenes()
    assert {e.labels[0] for e in scenes} == {"client", "therapist"} and not any("{" in e.text for e in scenes)
    assert len(turns.written_roles()) == 82
    heard = [e for e in turns.mixed(scenes) if e.text == turns.as_heard(e.text)]
    assert 0.4 < len(heard) / len(scenes) < 0.6
