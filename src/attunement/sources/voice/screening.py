"""Why a segment is left out: reason codes, each counted and kept by the pipeline.

Speaking rates: Tauroza & Allison, "Speech rates in British English", 1990 (as it is cited; the paper was not at hand): a lecture under
100 words a minute is slower, a conversation over 260 faster than normal. Those are of whole talks; a segment of a few seconds spreads
wider, so the bounds here are a third of the slow and 1.4 of the fast one (0.55 to 6 words a second): outside is a fault of the engine.
Compression over 2.4 as a sign of a loop is Whisper's own threshold (Radford et al. 2022).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from attunement.records import SpokenSegment
from attunement.sources.voice.language import LEAST_WORDS, Language, language_of

REASONS = {
    "no_words": "nothing in it is a word",
    "low_confidence": "fewer of its words are expected to be right than voice.least_confidence",
    "speech_rate": "words a second that nobody speaks",
    "repeats": "the same words over and over: the engine was in a loop",
    "other_language": "surely in another language than voice.language",
}
SLOWEST, FASTEST = 0.55, 6.0
"""Words a second."""
_RATE_SECONDS = 2.0
"""Shorter segments have no rate: "Yes." after a breath is slow, "I don't know" fast."""
_MOST_COMPRESSION = 2.4
_LOOPED_WORDS = 8
"""A loop is the same 1-8 words four times at least, over this many words ("no, no, no, no" is none)."""
_SURE_OF_LANGUAGE = 0.99
"""Of a single segment: its text is short."""


@dataclass(frozen=True)
class Screen:
    """What a segment must be. `least_confidence` and `language` as in `VoiceSettings`."""

    least_confidence: float = 0.6
    language: str = "en"

    def reasons(self, segment: SpokenSegment) -> list[str]:
        """The codes (of `REASONS`) for which it is left out, in their order; none: it stays."""
        words = re.findall(r"\w+(?:['\u2019-]\w+)*", segment.text)
        if not words:
            return ["no_words"]
        found = {
            "low_confidence": segment.confidence < self.least_confidence,
            "speech_rate": not _spoken_rate(len(words), segment.end_seconds - segment.start_seconds),
            "repeats": loops(words) or compression(segment.text) > _MOST_COMPRESSION,
            "other_language": len(words) >= LEAST_WORDS and self._foreign(language_of(segment.text)),
        }
        return [code for code, holds in found.items() if holds]

    def _foreign(self, language: Language) -> bool:
        return language.is_other_than(self.language) and language.probability >= _SURE_OF_LANGUAGE


def _spoken_rate(words: int, seconds: float) -> bool:
    return seconds < _RATE_SECONDS or SLOWEST <= words / seconds <= FASTEST


def compression(text: str) -> float:
    """How many times smaller zlib makes it; ordinary speech of a segment is 1 to 2."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def loops(words: Sequence[str]) -> bool:
    """Whether 1 to 8 words come four times or more one after the other."""
    said = [word.casefold() for word in words]
    for size in range(1, 9):
        run = size  # words that are the same as those `size` before, and the first ones
        for place in range(size, len(said)):
            run = run + 1 if said[place] == said[place - size] else size
            if run >= max(4 * size, _LOOPED_WORDS):
                return True
    return False
