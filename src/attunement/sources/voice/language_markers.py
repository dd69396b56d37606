"""Markers of how somebody speaks that words alone give: their values against norms, with standard errors.

A category's rate is compared with the mean and deviation of real speakers (`lexicon/norms.json`: statistics, no text); the z-scores,
weighed by published correlations, go through the normal distribution: 0.5 is how the middle speaker talks. These mark language. They
assess no person, and nothing clinical follows from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.sources.knowledge.segmentation import units
from attunement.sources.voice.lexicon_counts import FOLDER, Counts, categories, is_question, words_of, written

TRAITS = ("neuroticism", "extraversion", "openness", "agreeableness", "conscientiousness")
"""In the order of the table's columns."""
INTERPERSONAL = ("self_focus", "we_ness", "hedging", "affirmation", "dominance")
LEXICAL = (*TRAITS, *INTERPERSONAL, "questions")
RESAMPLES, SEED = 200, 17
"""Of the bootstrap by sentence that gives standard errors: 200 are enough for two digits (Efron and Tibshirani 1993, ch. 6)."""
PRIOR_WORDS = 100.0
"""A rate is drawn towards the norm as if so many words at the norm's rate had been said besides: few words give no extreme z-scores."""
MOST_Z = 3.0
GROUPS = ("therapist", "client")
"""Roles with norms of their own: a therapist says "you" three times as often as a client, whoever she is. Others: all speakers."""
EVIDENCE_CATEGORIES, EVIDENCE_WORDS = 5, 4


@dataclass(frozen=True)
class Said:
    """What one speaker said: sentences, their category counts `[n, c]`, words `[n]`, and which ask `[n]`."""

    sentences: tuple[str, ...]
    counts: Counts
    words: Counts
    asks: Counts

    @property
    def total(self) -> int:
        return int(self.words.sum())


def said_of(texts: Sequence[str]) -> Said:
    """The sentences of `texts`, counted. What has no punctuation is cut by length (`segmentation.units`)."""
    kept = [(sentence, words) for text in texts for sentence in units(text) if (words := words_of(sentence))]
    counts = np.asarray([categories().count(words) for _, words in kept]).reshape(len(kept), len(categories().names))
    lengths = np.asarray([len(words) for _, words in kept], dtype=np.float64)
    asks = np.asarray([is_question(sentence) for sentence, _ in kept], dtype=np.float64)
    return Said(tuple(sentence for sentence, _ in kept), counts, lengths, asks)


@cache
def norms() -> Mapping[str, Any]:
    """By group of speakers (`all` or one of `GROUPS`) `mean` and `sd` of each category's rate and of the markers' raw scores."""
    return dict(json.loads((FOLDER / "norms.json").read_text(encoding="utf-8")))


@cache
def _weights() -> dict[str, NDArray[np.float64]]:
    """Each marker's weight of each category, `[c]`."""
    told, names = written("personality"), categories().names
    found = {
        trait: np.asarray([told["correlations"].get(name, [0] * 5)[place] for name in names], dtype=np.float64)
        for place, trait in enumerate(TRAITS)
    }
    found |= {
        marker: np.asarray([told["interpersonal"][marker].get(name, 0) for name in names], dtype=np.float64)
        for marker in INTERPERSONAL
    }
    return found


def group_of(role: str) -> str:
    """Whose norms somebody in `role` is held against."""
    return role if role in GROUPS else "all"


def z_scores(counts: Counts, words: Counts, role: str = "") -> Counts:
    """Category counts `[..., c]` of texts of `words` `[...]` words as deviations from the norm, `[..., c]`."""
    rows = norms()[group_of(role)]["rates"]
    mean, sd = (np.asarray([rows[name][key] for name in categories().names]) for key in ("mean", "sd"))
    rates = (counts + PRIOR_WORDS * mean) / (words[..., None] + PRIOR_WORDS)
    return np.asarray(np.clip((rates - mean) / sd, -MOST_Z, MOST_Z))


def raw_scores(said: Said, role: str = "", drawn: Counts | None = None) -> dict[str, Counts]:
    """The markers of `said` before they are placed among speakers; with `drawn` `[r, n]` (how often each sentence), `[r]` of each."""
    drawn = np.ones((1, len(said.words))) if drawn is None else drawn
    words = drawn @ said.words
    z = z_scores(drawn @ said.counts, words, role)
    found = {name: np.asarray(z @ weights) for name, weights in _weights().items()}
    found["questions"] = (drawn @ said.asks) / np.maximum(drawn.sum(1), 1)
    return found


def placed(name: str, raw: Counts, role: str = "") -> Counts:
    """Raw scores as shares of speakers that lie below, 0-1, were they normally distributed."""
    norm = norms()[group_of(role)]["markers"][name]
    z = (np.asarray(raw) - norm["mean"]) / norm["sd"]
    return np.asarray([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in np.atleast_1d(z)])


def draws(sentences: int, resamples: int = RESAMPLES, seed: int = SEED) -> Counts:
    """How often each sentence comes in each bootstrap sample, `[resamples, sentences]`."""
    return np.random.default_rng(seed).multinomial(sentences, np.full(sentences, 1 / sentences), resamples).astype(np.float64)


def lexical_markers(said: Said, role: str = "") -> dict[str, tuple[float, float]]:
    """Value (0-1) and standard error of each of `LEXICAL`; nothing of nobody's words."""
    if not said.total:
        return {}
    value, spread = raw_scores(said, role), raw_scores(said, role, draws(len(said.words)))
    both = {name: (placed(name, value[name], role)[0], placed(name, spread[name], role).std()) for name in LEXICAL}
    return {name: (round(float(place), 4), round(float(error), 4)) for name, (place, error) in both.items()}


def lexical_evidence(name: str, said: Said, role: str = "") -> tuple[str, ...]:
    """The categories that moved the marker most, with direction, rate against the norm, and the commonest words with counts."""
    if name == "questions":
        return (f"{int(said.asks.sum())} of {len(said.asks)} sentences ask",)
    z, weights, names = z_scores(said.counts.sum(0), said.words.sum(), role), _weights()[name], categories().names
    moved = sorted(range(len(names)), key=lambda i: -abs(z[i] * weights[i]))[:EVIDENCE_CATEGORIES]
    words = [word for sentence in said.sentences for word in words_of(sentence)]
    told = []
    for i in moved:
        if z[i] * weights[i] == 0:
            continue
        common = ", ".join(f"{w} {n}" for w, n in categories().said(words, names[i]).most_common(EVIDENCE_WORDS)) or "none"
        way = "raises" if z[i] * weights[i] > 0 else "lowers"
        rate, usual = 100 * said.counts[:, i].sum() / said.total, 100 * norms()[group_of(role)]["rates"][names[i]]["mean"]
        told.append(f"{names[i]} {way} it: {rate:.1f} % of the words, usually {usual:.1f} % ({common})")
    return tuple(told)
