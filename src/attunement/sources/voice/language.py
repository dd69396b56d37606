"""Which language a recording is in, by its text (py3langid), or by what the engine itself heard.

An engine of one language writes words of that language whatever is spoken: what PocketSphinx hears of Dutch reads as English, so only
low confidence tells. Text of subtitles, and of Whisper, is in the language that was spoken.

Source: Lui & Baldwin, "langid.py: an off-the-shelf language identification tool", ACL 2012 (of 10 words and more it is seldom wrong).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from attunement.errors import MissingExtraError

LEAST_WORDS = 12
"""Fewer say nothing certain."""
LEAST_PROBABILITY = 0.9
_MOST_CHARACTERS = 20_000
"""Enough to tell it; py3langid's time grows with the length."""


@dataclass(frozen=True)
class Language:
    """ISO 639-1 `code`, empty where it cannot be told; `probability` 0-1; `by` "text" or "sound"."""

    code: str = ""
    probability: float = 0.0
    by: str = ""

    def is_other_than(self, wanted: str) -> bool:
        """Whether it is surely another language than `wanted`: what cannot be told is not left out."""
        return bool(self.code) and self.code != wanted and self.probability >= LEAST_PROBABILITY


def language_of(text: str, heard: Mapping[str, float] | None = None) -> Language:
    """`heard`: probabilities by `Transcriber.languages()`, which go before the text. Raises `MissingExtraError`."""
    if heard:
        code = max(heard, key=lambda name: heard[name])
        return Language(code, round(heard[code], 4), "sound")
    if len(text.split()) < LEAST_WORDS and len(text) < 6 * LEAST_WORDS:  # Chinese and Thai write no spaces
        return Language()
    code, probability = _identifier().classify(text[:_MOST_CHARACTERS])
    return Language(str(code), round(float(probability), 4), "text")


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingExtraError("telling languages apart", "voice") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
