"""Emotion over the course of a recording, and whether a response's emotion fits what it answers and how the speaker is otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.quality.emotion import ekman
from attunement.quality.labelled import EMOTIONS
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import EmotionalPattern, SpokenSegment
from attunement.sources.voice.lexicon_counts import FOLDER

LEAST_WORDS = 3
"""A segment of fewer ("mm-hmm", "right") shows no emotion of its own: it goes with the run it stands in."""


def emotional_patterns(segments: Sequence[SpokenSegment], judges: Judges) -> list[EmotionalPattern]:
    """The likeliest of GoEmotions' labels (`neutral` too) over time: segments in a row with the same label are one pattern.

    `segments` are one speaker's, in order. `intensity` is the label's probability, weighed by the segments' words.
    """
    spoken = [segment for segment in segments if len(segment.text.split()) >= LEAST_WORDS]
    runs: list[tuple[str, list[SpokenSegment], list[float]]] = []
    for segment, verdict in zip(spoken, judges.judge("emotion", [Item(segment.text) for segment in spoken]), strict=True):
        if not runs or runs[-1][0] != verdict.label:
            runs.append((verdict.label, [], []))
        runs[-1][1].append(segment)
        runs[-1][2].append(verdict.labels[verdict.label])
    return [_pattern(*run) for run in runs]


def _pattern(emotion: str, segments: Sequence[SpokenSegment], intensities: Sequence[float]) -> EmotionalPattern:
    weights = [len(segment.text.split()) for segment in segments]
    intensity = float(np.average(intensities, weights=weights))
    return EmotionalPattern(emotion, round(intensity, 4), segments[0].start_seconds, segments[-1].end_seconds)


def shares_of(texts: Sequence[str], judges: Judges) -> NDArray[np.float64]:
    """How each text's emotion divides among Ekman's seven groups (neutral included), `[n, 7]`, rows of sum 1."""
    verdicts = judges.judge("emotion", [Item(text) for text in texts])
    found = ekman(np.asarray([[v.labels[name] for name in EMOTIONS] for v in verdicts]).reshape(len(texts), len(EMOTIONS)))
    return np.asarray(found / np.maximum(found.sum(1, keepdims=True), 1e-9))


@cache
def answers_table() -> Mapping[str, Any]:
    """`ratio[i][j]`: how much oftener emotion j answers emotion i than it comes at all, in real talks; and how it was made."""
    return dict(json.loads((FOLDER / "emotion_answers.json").read_text(encoding="utf-8")))


def emotional_fit(prompts: NDArray[np.float64], answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whether emotions `[n, 7]` answer those `[n, 7]` before them as people's do, 0-1; 0.5 is what chance would bring together."""
    ratio = np.asarray(answers_table()["ratio"])
    odds = np.einsum("ni,ij,nj->n", prompts, ratio, answers)
    return np.asarray(odds / (1 + odds))


DARK = "anger disappointment disgust embarrassment fear grief nervousness remorse sadness".split()
GLEE = "amusement excitement joy".split()
"""What hardly ever answers them: delight. Admiration, caring, love, gratitude, optimism and relief do, in therapy every day."""


def clash(prompts: Sequence[str], answers: Sequence[str], judges: Judges) -> NDArray[np.float64]:
    """How probably delight answers distress in each pair, `[n]`: P(any dark emotion before) x P(any glee after)."""
    dark, glee = (
        1
        - np.asarray([[1 - v.labels[name] for name in names] for v in judges.judge("emotion", [Item(t) for t in texts])]).prod(1)
        for texts, names in ((prompts, DARK), (answers, GLEE))
    )
    return np.asarray(dark * glee)


def emotional_likeness(own: NDArray[np.float64], answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much the emotions `[n, 7]` overlap with the speaker's mean `[7]`, 0-1 (1 less the total variation distance)."""
    return np.asarray(1 - np.abs(answers - own).sum(1) / 2)
