"""A recording's segments as turns: segments of one speaker joined, listeners' sounds merged instead of cutting what the other says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attunement.records import SpokenSegment
from attunement.sources.knowledge.segmentation import units
from attunement.sources.voice.lexicon_counts import is_question, words_of

BACKCHANNELS = frozenset(
    "mm mhm mmhmm mm-hmm mm-hm hm hmm uh-huh uh huh yeah yep yes yup right okay ok sure oh ah wow really i see exactly absolutely good great "
    "true of course".split()
)
MOST_BACKCHANNEL_WORDS = 3


@dataclass(frozen=True)
class SpokenTurn:
    """What one speaker says in one go. `places` are the indices of its segments; times in seconds."""

    speaker: str
    role: str
    text: str
    places: tuple[int, ...]
    start_seconds: float
    end_seconds: float
    confidences: tuple[float, ...]
    backchannels: int = 0
    """How many sounds of the listener were merged into it."""


def turns_of(segments: Sequence[SpokenSegment]) -> list[SpokenTurn]:
    """The turns of a recording, in order.

    A listener's "mm-hmm" between two stretches of one speaker does not end that speaker's turn, unless it answers a question.
    """
    joined = _joined([_turn(place, segment) for place, segment in enumerate(segments) if segment.text.strip()])
    kept: list[SpokenTurn] = []
    for place, turn in enumerate(joined):
        before, after = (kept[-1] if kept else None), (joined[place + 1] if place + 1 < len(joined) else None)
        if before and after and before.speaker == after.speaker and is_backchannel(turn.text) and not _asks(before.text):
            kept[-1] = replace(before, backchannels=before.backchannels + 1)
        else:
            kept.append(turn)
    return _joined(kept)


def is_backchannel(text: str) -> bool:
    """Whether a turn only shows that somebody listens."""
    words = words_of(text)
    return 0 < len(words) <= MOST_BACKCHANNEL_WORDS and all(word in BACKCHANNELS for word in words) and "?" not in text


def between(start: float, end: float, rejected: Sequence[Mapping[str, Any]], least_seconds: float) -> int:
    """How many segments of `least_seconds` or more were left out between two times."""
    spans = [(float(row.get("start_seconds", -1)), float(row.get("end_seconds", -1))) for row in rejected]
    return sum(b - a >= least_seconds and a >= start and b <= end for a, b in spans)


def _asks(text: str) -> bool:
    return is_question(units(text)[-1])


def _turn(place: int, segment: SpokenSegment) -> SpokenTurn:
    times = segment.start_seconds, segment.end_seconds
    return SpokenTurn(segment.speaker, segment.role, segment.text.strip(), (place,), *times, (segment.confidence,))


def _joined(turns: Sequence[SpokenTurn]) -> list[SpokenTurn]:
    out: list[SpokenTurn] = []
    for turn in turns:
        if out and out[-1].speaker == turn.speaker:
            last = out[-1]
            out[-1] = replace(
                last,
                role=last.role or turn.role,
                text=f"{last.text} {turn.text}",
                places=(*last.places, *turn.places),
                end_seconds=turn.end_seconds,
                confidences=(*last.confidences, *turn.confidences),
                backchannels=last.backchannels + turn.backchannels,
            )
        else:
            out.append(turn)
    return out
