"""Recordings for tests: the packaged samples as if they had been heard, with times at 2.5 words a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attunement
from attunement.readers.files import discover, read
from attunement.records import Conversation, SpokenSegment, Transcript

SAMPLES = Path(attunement.__file__).parent / "samples" / "conversations"
WORDS_PER_SECOND = 2.5


def heard(rows: Sequence[tuple[str, str, str]], **more: object) -> Transcript:
    """A transcript of (speaker, role, text) rows, half a second between them."""
    segments, at = [], 0.0
    for speaker, role, text in rows:
        end = at + len(text.split()) / WORDS_PER_SECOND
        segments.append(SpokenSegment(text, round(at, 2), round(end, 2), 0.9, speaker=speaker, role=role))
        at = end + 0.5
    text = " ".join(segment.text for segment in segments)
    given = {"source": "own", "licence": "Apache-2.0", "title": "A talk", "metadata": {"url": "http://127.0.0.1/talk"}, **more}
    return Transcript("t-1", text, segments=segments, duration_seconds=at, **given)  # type: ignore[arg-type]


def sample(name: str) -> Conversation:
    (file,) = discover([SAMPLES / name])
    (talk,) = read(file, max_record_bytes=1 << 20)
    assert isinstance(talk, Conversation)
    return talk


def session(*names: str) -> Transcript:
    """The sessions of the samples one after the other, as one recording; all of them without names."""
    files = names or tuple(path.name for path in sorted((SAMPLES / "transcripts").glob("*.txt")))
    turns = [turn for name in files for turn in sample(f"transcripts/{name}").turns]
    return heard([("S1" if turn.role == "therapist" else "S2", turn.role, turn.text) for turn in turns])
