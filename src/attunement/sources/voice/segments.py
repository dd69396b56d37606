"""From words and from who speaks when to segments: one speaker, no long pause, seldom longer than half a minute.

A word belongs to the speaker in whose stretch its middle lies, or whose stretch is nearest. A lone short word between two of
another speaker is theirs where the diariser's edges are no finer than that (a window of speech is longer than a word); a
backchannel that the diariser heard as a stretch of its own stays.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence

from attunement.records import SpokenSegment, SpokenWord
from attunement.sources.voice.diarisation import Stretch

LONGEST_PAUSE_SECONDS = 1.2
"""Longer silence ends a segment: median gaps between turns are about .2 s, pauses within a turn mostly under 1 s (Heldner & Edlund 2010)."""
LONGEST_SECONDS = 30.0


def segmented(
    words: Sequence[SpokenWord],
    stretches: Sequence[Stretch],
    punctuate: Callable[[Sequence[SpokenWord]], str] | None = None,
) -> list[SpokenSegment]:
    """The segments of a recording in order. `words` and `stretches` are sorted by time; without stretches nobody is named.

    `punctuate` gives the text of a segment's words; without it they are joined. Confidence is left at 1.0.
    """
    speakers = speakers_of(words, stretches)
    parts: list[list[tuple[SpokenWord, str]]] = []
    for word, speaker in zip(words, speakers, strict=True):
        if not parts or _ends(parts[-1], word, speaker):
            parts.append([])
        parts[-1].append((word, speaker))
    return [_segment([word for word, _ in part], part[0][1], punctuate) for part in parts]


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


def _segment(
    words: Sequence[SpokenWord], speaker: str, punctuate: Callable[[Sequence[SpokenWord]], str] | None
) -> SpokenSegment:
    text = punctuate(words) if punctuate else " ".join(word.text for word in words)
    return SpokenSegment(text, words[0].start_seconds, words[-1].end_seconds, words=tuple(words), speaker=speaker)


def turns_of(segments: Sequence[SpokenSegment]) -> list[list[SpokenSegment]]:
    """Consecutive segments of one speaker together: the turns of the talk."""
    return [list(group) for _, group in itertools.groupby(segments, key=lambda s: s.speaker)]
