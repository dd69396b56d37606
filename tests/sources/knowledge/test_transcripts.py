"""Talks cut by topic and made into questions that the speaker's own words answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attunement.embedding import Embedder
from attunement.quality.panel import Judges
from attunement.readers.files import discover, read
from attunement.records import Conversation, Transcript
from attunement.sources.knowledge.linking import Linker
from attunement.sources.knowledge.segmentation import Tiling, boundaries, pk, units, window_diff
from attunement.sources.knowledge.transcripts import integrate_expert_transcripts, segments, transcript_of
from attunement.sources.knowledge.written import written_concepts

SLEEP = (
    "Insomnia is rarely about the night alone. People lie awake and watch the clock. The bed becomes a place of effort. "
    "So they go to bed earlier, and lie awake longer. Sleep restriction turns this round. It limits the time in bed. "
    "The body then builds up pressure to sleep. After some weeks the nights grow solid. We keep a sleep diary all the while. "
    "A fixed hour for rising is the anchor of the whole treatment. "
)
GRIEF = (
    "Grief has no timetable. A widow told me that she still sets two cups on the table. Her sons wanted her to move on. "
    "She wanted to remember her husband. Mourning goes back and forth between loss and the tasks of living. "
    "Some days she weeps over his coat, on others she repairs the fence. The bond with the dead man does not have to be cut. "
    "Bereaved people need someone who can listen to the same story again. Anniversaries bring the sorrow back. That is no relapse. "
)
ANGER = (
    "Anger is a signal before it is a problem. A father shouted at his children each evening. His jaw was tight an hour before. "
    "We looked for the first sign in the body. Then we looked at the thought that came with it. He thought that they mocked him. "
    "Beneath the anger there was shame about his lost job. He learned to step outside for two minutes. "
    "He came back and said what he needed in a quiet voice. The shouting became rare within a month. "
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="module")
def linker(embedder: Embedder) -> Linker:
    return Linker(written_concepts(), embedder)


def test_a_talk_is_cut_where_its_topic_changes(embedder: Embedder) -> None:
    parts = segments(Transcript("t", SLEEP + GRIEF + ANGER), embedder, Tiling(window=5, smooth=0, strictness=1.0))
    assert [part.start for part in parts] == pytest.approx([0, 10, 20], abs=1)
    assert " ".join(part.text for part in parts) == (SLEEP + GRIEF + ANGER).strip()


def test_each_part_gets_questions_in_the_speakers_words(embedder: Embedder, linker: Linker) -> None:
    talk = Transcript("t-1", SLEEP + GRIEF + ANGER, "Evening lecture", "Dr Example", "own", "Apache-2.0")
    pairs = integrate_expert_transcripts([talk], linker, embedder)
    about = {concept_id for pair in pairs for concept_id in pair.metadata["about"]}
    assert {"attunement:insomnia", "attunement:grief", "attunement:anger"} & about
    sentences = units(talk.text)
    for pair in pairs:
        first, last = pair.metadata["sentences"]
        assert pair.answer == " ".join(sentences[first : last + 1])
        assert pair.question.endswith("?") and pair.source_type == "expert_transcript"
        assert pair.metadata["licence"] == "Apache-2.0" and pair.metadata["question_type"] == "contextual"
        assert all(c["field"] in ("question", "answer") for c in pair.metadata["concepts"])
    assert len({pair.metadata["id"] for pair in pairs}) == len(pairs)


def test_a_talk_from_subtitles_becomes_a_transcript(embedder: Embedder, linker: Linker) -> None:
    folder = Path(__file__).parents[3] / "src" / "attunement" / "samples" / "conversations" / "talks"
    found = [
        talk for file in discover([folder / "grief_is_not_a_staircase.vtt"]) for talk in read(file, max_record_bytes=1 << 20)
    ]
    assert isinstance(found[0], Conversation)
    transcript = transcript_of(found[0])
    pairs = integrate_expert_transcripts([transcript], linker, embedder)
    assert transcript.licence == found[0].origin.licence and pairs
    assert any("attunement:grief" in pair.metadata["about"] for pair in pairs)


def test_a_passage_that_does_not_answer_is_left_out(embedder: Embedder, linker: Linker) -> None:
    aside = (
        "We sold the old bus for parts. The worry came later. " + "Wheels, doors and mirrors went to three garages in town. " * 4
    )
    talks = [Transcript("a", aside), Transcript("b", GRIEF)]
    kept = integrate_expert_transcripts(talks, linker, embedder, judges=Judges())
    assert {pair.metadata["transcript"] for pair in integrate_expert_transcripts(talks, linker, embedder)} == {"a", "b"}
    assert {pair.metadata["transcript"] for pair in kept} == {"b"}
    assert all(pair.semantic_score > 0 for pair in kept)


def test_short_and_empty_talks(embedder: Embedder, linker: Linker) -> None:
    assert segments(Transcript("t", ""), embedder) == []
    assert integrate_expert_transcripts([Transcript("t", "Hello. Bye.")], linker, embedder) == []
    assert boundaries(np.eye(3, dtype=np.float32)) == []


def test_captions_without_full_stops_are_cut_by_length() -> None:
    words = [f"word{n}" for n in range(130)]
    found = units(" ".join(words))
    assert [len(part.split()) for part in found] == [25, 25, 25, 25, 25, 5]
    assert " ".join(found).split() == words


def test_measures_of_cuts() -> None:
    assert pk([10, 20], [10, 20], 30) == window_diff([10, 20], [10, 20], 30) == 0
    assert pk([10, 20], [], 30) == pytest.approx(10 / 25)
    assert 0 < pk([10, 20], [11, 20], 30) < pk([10, 20], [15], 30)
    assert window_diff([15], [5, 10, 15, 20, 25], 30) > pk([15], [15], 30)
    assert window_diff([10], list(range(1, 30)), 30) == 1


def test_deep_gaps_become_boundaries_and_keep_their_distance() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 8, axis=0)
    assert boundaries(vectors, Tiling(window=4, smooth=0, strictness=1.0, shortest=4)) == [8, 16, 24]
    assert boundaries(np.ones((30, 3), dtype=np.float32)) == []
