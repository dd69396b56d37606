"""Dialogue pairs of recordings: who answers whom, what listeners' sounds do, and what is left out with its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from recorded import heard, sample, session

from attunement.quality.panel import Judges
from attunement.sources.knowledge.linking import Linker
from attunement.sources.knowledge.written import written_concepts
from attunement.sources.voice.dialogue import construct
from attunement.sources.voice.personality import profiles_of
from attunement.sources.voice.turns import turns_of


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def test_a_therapist_answers_a_client_and_never_the_other_way(judges: Judges) -> None:
    talk = session("bitten_nails.txt")
    pairs = construct([talk], {"t-1": profiles_of(talk.segments, judges)}, judges=judges)
    assert len(pairs) >= 5
    for pair in pairs:
        first, last = pair.metadata["segments"]
        assert (talk.segments[first].role, talk.segments[last].role) == ("client", "therapist")
        assert (pair.prompt, pair.response) == (talk.segments[first].text, talk.segments[last].text)
        assert pair.metadata["start_seconds"] == talk.segments[first].start_seconds
        assert pair.metadata["end_seconds"] == talk.segments[last].end_seconds
        assert pair.metadata["kind"] == "question_answer" and pair.metadata["content_type"] == "therapy"
        assert pair.metadata["licence"] == "Apache-2.0" and pair.metadata["url"] == "http://127.0.0.1/talk"
        assert pair.metadata["confidence"] == pytest.approx(0.9) and 0 <= pair.metadata["style_distance"] <= 2
    assert pairs[2].metadata["context"][-1] == pairs[1].response
    assert len({pair.metadata["id"] for pair in pairs}) == len(pairs)
    assert [p.metadata["id"] for p in construct([talk], judges=judges)] == [p.metadata["id"] for p in pairs]


def test_a_listeners_sound_does_not_cut_a_turn() -> None:
    rows = [
        ("C", "client", "It began in March."), ("T", "therapist", "Mm-hmm."), ("C", "client", "And then it got worse."),
        ("T", "therapist", "Did you tell her?"), ("C", "client", "Yes."), ("T", "therapist", "And how was that?"),
    ]  # fmt: skip
    turns = turns_of(heard(rows).segments)
    assert [turn.text for turn in turns] == [
        "It began in March. And then it got worse.", "Did you tell her?", "Yes.", "And how was that?",
    ]  # fmt: skip
    assert turns[0].backchannels == 1 and turns[0].places == (0, 2)


def test_nothing_is_paired_over_what_was_not_heard(judges: Judges) -> None:
    rows = [
        ("C", "client", "I could not sleep again last night."), ("T", "therapist", "That sounds like a long night."),
        ("C", "client", "It was, and the day too."), ("T", "therapist", "Hard."),
        ("C", "client", "I went out for a walk then."), ("T", "therapist", "What was the walk like for you?"),
    ]  # fmt: skip
    talk = heard(rows)
    pause = [*talk.segments[:5], replace(talk.segments[5], start_seconds=99.0, end_seconds=101.0)]
    left_out = Counter[str]()
    construct([replace(talk, segments=pause)], judges=judges, left_out=left_out)
    assert left_out == {"short_response": 1, "long_pause": 1}
    gap = [{"start_seconds": 0.5, "end_seconds": 2.0, "reasons": ["low_confidence"]}]
    left_out.clear()
    pairs = construct([replace(talk, metadata={"rejected": gap})], judges=judges, left_out=left_out)
    assert left_out == {"speech_missing": 1, "short_response": 1} and [p.response for p in pairs] == [rows[5][2]]


def test_a_guest_answers_a_host(judges: Judges) -> None:
    turns = sample("talks/kitchen_table_podcast.srt").turns
    talk = heard([(turn.speaker, turn.speaker.lower(), turn.text) for turn in turns])
    pairs = construct([talk], judges=judges)
    assert (
        pairs and {pair.speaker for pair in pairs} == {"Guest"} and pairs[0].metadata["content_type"] in ("podcast", "interview")
    )
    bare = heard(
        [("S2" if turn.speaker == "Guest" else "S1", "", turn.text) for turn in turns], metadata={"content_type": "interview"}
    )
    assert {pair.speaker for pair in construct([bare], judges=judges)} == {"S2"}  # the one who asks less


def test_a_client_without_a_therapist_is_not_learned(judges: Judges) -> None:
    rows = [("C", "client", "I cannot get up in the morning any more."), ("X", "", "What is the time of day that is worst?")] * 3
    for kind in ("therapy", "interview"):
        left_out = Counter[str]()
        assert construct([heard(rows, metadata={"content_type": kind})], judges=judges, left_out=left_out) == []
        assert left_out == {"nobody_answers": 1}
    alone = heard(rows[::2], metadata={"content_type": "monologue"})
    assert construct([alone], judges=judges) == []


def test_a_lecture_gives_questions_that_its_own_words_answer(judges: Judges) -> None:
    (turn,) = sample("talks/grief_is_not_a_staircase.vtt").turns
    lines = [line for line in turn.text.split("\n") if line.strip()] if "\n" in turn.text else turn.text.split(". ")
    talk = heard([("S1", "lecturer", line) for line in lines])
    pairs = construct([talk], judges=judges, linker=Linker(written_concepts(), judges.embedder))
    assert pairs
    for pair in pairs:
        places = pair.metadata["segments"]
        assert pair.response in " ".join(talk.segments[n].text for n in places)
        assert pair.metadata["start_seconds"] == talk.segments[places[0]].start_seconds
        assert (
            pair.prompt.endswith("?") and pair.metadata["kind"] == "contextual" and pair.metadata["response_role"] == "lecturer"
        )
