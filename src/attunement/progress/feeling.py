"""The emotional state that a client's words tell of, and how sure that is.

The emotion judge reads each sentence (28 labels of GoEmotions, calibrated); a sentence counts by its words. Strengths are of Ekman's six groups
(what is neutral is left out), valence and arousal as in `quality.emotion`. The uncertainty is what another half hour with the same person might
have moved: turns are what varies, not words. The judge's own error (docs/quality.md) is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attunement.progress.sentences import Sentence, word_count
from attunement.quality import emotion
from attunement.quality.labelled import EKMAN, EMOTIONS
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item, Verdict
from attunement.records import EmotionalState

LEAST_WORDS = 5
"""Of a client who said less nothing is estimated."""
NAMES = tuple(name for name in EKMAN if name != "neutral")
FIGURES = (*NAMES, "valence", "arousal")
PRIOR_TURNS = 2
PRIOR_VARIANCE = 0.25
"""Of valence and arousal between turns, as if `PRIOR_TURNS` turns had shown it: two turns that happen to agree do not make it sure."""

Floats = NDArray[np.float64]


def read_feelings(judges: Judges, said: Sequence[Sentence]) -> list[Verdict]:
    """What the emotion judge finds in each sentence, in one batch."""
    return judges.judge("emotion", [Item(sentence.text) for sentence in said])


def strength(verdict: Verdict) -> float:
    """How far a sentence is from neutral, 0-1."""
    return 1.0 - float(verdict.labels.get("neutral", 1.0))


def state_of(said: Sequence[Sentence], verdicts: Sequence[Verdict]) -> EmotionalState | None:
    """The state of a client who said `said`, as the emotion judge reads it; None where there are too few words, or not in English."""
    read = [(s, v) for s, v in zip(said, verdicts, strict=True) if not {"not_english", "empty"} & set(v.reasons)]
    words = sum(word_count(sentence.text) for sentence, _ in read)
    if words < LEAST_WORDS or 2 * words < sum(sentence.words for sentence in said):
        return None
    found = np.asarray([[v.labels[name] for name in EMOTIONS] for _, v in read], dtype=np.float64)
    rows = np.column_stack(
        [
            emotion.ekman(found)[:, [list(EKMAN).index(name) for name in NAMES]],
            [emotion.valence(v.labels) for _, v in read],
            [emotion.arousal(v.labels) for _, v in read],
        ]
    )
    weights = np.asarray([s.words for s, _ in read], dtype=np.float64)
    turns = np.asarray([s.turn for s, _ in read])
    if len(set(turns.tolist())) == 1:  # one long answer: its sentences vary
        turns = np.arange(len(read))
    means, errors = mean_and_error(rows, weights, turns)
    told = {name: round(float(value), 4) for name, value in zip(FIGURES, means, strict=True)}
    uncertainty = {name: round(float(value), 4) for name, value in zip(FIGURES, errors, strict=True)}
    return EmotionalState(
        {name: told[name] for name in NAMES}, told["valence"], told["arousal"], uncertainty=uncertainty, words=words
    )


def mean_and_error(rows: Floats, weights: Floats, groups: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Means `[8]` of `rows` `[n, 8]` (`FIGURES`) by `weights` `[n]`, and their standard errors.

    Rows of one group go together: the error is of the groups' means, by their weights (Kish's effective number of them), with the
    spread drawn towards what it would be if nothing were known, p (1 - p) for a share.
    """
    means = (rows * weights[:, None]).sum(0) / weights.sum()
    names, place = np.unique(groups, return_inverse=True)
    count = len(names)
    heavy = np.bincount(place, weights)
    between = np.stack([np.bincount(place, weights * column) for column in rows.T], axis=1) / heavy[:, None]
    share = heavy / heavy.sum()
    spread = (share[:, None] * (between - means) ** 2).sum(0) * count / max(count - 1, 1)
    prior = np.append(means[:-2] * (1 - means[:-2]), [PRIOR_VARIANCE, PRIOR_VARIANCE])
    pooled = ((count - 1) * spread + PRIOR_TURNS * prior) / (count - 1 + PRIOR_TURNS)
    return means, np.sqrt(np.maximum(pooled, 0.0) * (share**2).sum())
