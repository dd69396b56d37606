"""From words and from who speaks when to segments: one speaker, no long pause, seldom longer than half a minute.

A word belongs to the speaker in whose stretch its middle lies, or whose stretch is nearest.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from attunement.records import SpokenSegment, SpokenWord
from attunement.sources.voice.diarisation import Stretch

LONGEST_PAUSE_SECONDS = 1.2
"""Longer silence ends a segment: median gaps between turns are about .2 s, pauses within a turn mostly under 1 s (Heldner & Edlund 2010)."""
LONGEST_SECONDS = 30.0


def segmented(words: Sequence[SpokenWord], stretches: Sequence[Stretch]) -> list[SpokenSegment]:
    """The segments of a recording in order. `words` and `stretches` are sorted by time; without stretches nobody is named.

    Confidence is left at 1.0.
    """
    speakers = speakers_of(words, stretches)
    parts: list[list[tuple[SpokenWord, str]]] = []
    for word, speaker in zip(words, speakers, strict=True):
        if not parts or _ends(parts[-1], word, speaker):
            parts.append([])
        parts[-1].append((word, speaker))
    return [segment_of([word for word, _ in part], part[0][1]) for part in parts]


def speakers_of(words: Sequence[SpokenWord], stretches: Sequence[Stretch]) -> list[str]:
    """Who says each word."""
    if not stretches:
        return [""] * len(words)
    starts = [stretch.start_seconds for stretch in stretches]
    found = []
    for word in words:
        middle = (word.start_seconds + word.end_seconds) / 2
        place = max(bisect.bisect_right(starts, middle) - 1, 0)
        near = stretches[max(place - 1, 0) : place + 2]
        found.append(min(near, key=lambda s: max(s.start_seconds - middle, middle - s.end_seconds, 0.0)).speaker)
    return found


def _ends(part: Sequence[tuple[SpokenWord, str]], word: SpokenWord, speaker: str) -> bool:
    first, last = part[0][0], part[-1][0]
    return (
        speaker != part[-1][1]
        or word.start_seconds - last.end_seconds > LONGEST_PAUSE_SECONDS
        or word.end_seconds - first.start_seconds > LONGEST_SECONDS
    )


def segment_of(words: Sequence[SpokenWord], speaker: str) -> SpokenSegment:
    """One segment of words in a row, of which there is one at least."""
    text = " ".join(word.text for word in words)
    return SpokenSegment(text, words[0].start_seconds, words[-1].end_seconds, words=tuple(words), speaker=speaker)


def spread_words(segment: SpokenSegment) -> list[SpokenWord]:
    """The words of a segment that only its beginning and end are known of (subtitles), spread evenly by their letters."""
    texts = segment.text.split()
    ends = list(itertools.accumulate(len(text) + 1 for text in texts))
    scale = (segment.end_seconds - segment.start_seconds) / max(1, ends[-1] if ends else 1)
    starts = [segment.start_seconds + scale * at for at in (0, *ends[:-1])]
    return [
        SpokenWord(text, start, start + scale * (len(text) + 1), segment.confidence)
        for text, start in zip(texts, starts, strict=True)
    ]
