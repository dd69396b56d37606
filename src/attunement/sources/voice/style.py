"""A speaker's style as a vector, and how far a response lies from it.

What a sentence is about moves its vector more than who says it. So the style is the rates of closed-class words, which hardly depend on
the topic (Mosteller and Wallace 1964; Pennebaker 2011), each against real speakers' norm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attunement.records import PersonalityProfile
from attunement.sources.voice.language_markers import norms
from attunement.sources.voice.lexicon_counts import style_words, words_of

STYLE_PRIOR_WORDS = 100.0
"""A text is read as if so many words at the norm's rates had been said besides. Of 0, 60, 100 and 200 it told speakers apart best, and
square roots of rates did so better than deviations (`benchmarks/voice_parts/pairs.py`, docs/LOG.md)."""


def function_rates(texts: Sequence[str]) -> NDArray[np.float64]:
    """How the square root of each closed-class word's rate differs from the norm's, `[w]` (Hellinger: rare words count too)."""
    words = [word for text in texts for word in words_of(text)]
    mean = np.asarray([norms()["all"]["style"][word]["mean"] for word in style_words()])
    counts = Counter(words)
    rates = (np.asarray([counts[word] for word in style_words()]) + STYLE_PRIOR_WORDS * mean) / (len(words) + STYLE_PRIOR_WORDS)
    return np.asarray(np.sqrt(rates) - np.sqrt(mean))


def style_vector(texts: Sequence[str]) -> NDArray[np.float64]:
    """The style of what somebody says, of length 1; empty where nothing is said."""
    if not any(words_of(text) for text in texts):
        return np.zeros(0)
    rates = function_rates(texts)
    return np.asarray(rates / max(float(np.linalg.norm(rates)), 1e-9))


def style_distance(text: str, profile: PersonalityProfile) -> float:
    """Cosine distance of a text's style from the speaker's, 0-2 (1: nothing in common); 1 for a text without words."""
    if not words_of(text):
        return 1.0
    rates = function_rates([text])
    return float(1 - rates @ np.asarray(profile.style) / max(float(np.linalg.norm(rates)), 1e-9))
