"""The report of generated edge cases: how many, why the rest is missing, how varied, what the safety reviewer found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from attunement.embedding import Embedder
from attunement.quality.wording import distinct, likeness, shingles
from attunement.records import Conversation
from attunement.sources.categories import AGE_BANDS, ATTACHMENTS, COURSES
from attunement.sources.outcome import Outcome
from attunement.sources.scenarios import FACTORS

CELLS = len(COURSES) * len(AGE_BANDS) * len(ATTACHMENTS)
"""Of the scenario grid's closed factors: course x age band x attachment."""


def report_of(outcome: Outcome, embedder: Embedder, levels: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """All figures, as a whole and by category. `levels` gives for each category how many levels each factor has to offer."""
    vectors = _vectors(outcome.conversations, embedder)
    by_category: dict[str, list[int]] = {name: [] for name in levels}
    for number, conversation in enumerate(outcome.conversations):
        by_category[conversation.metadata["category"]].append(number)
    categories = {}
    for name, numbers in by_category.items():
        mine = [outcome.conversations[n] for n in numbers]
        rejected = Counter(r.reason for r in outcome.rejected if r.category == name)
        categories[name] = {
            "conversations": len(mine),
            "rejected": dict(sorted(rejected.items())),
            **_safety(mine),
            **_variety(mine, vectors[numbers]),
            "coverage": _coverage(mine, levels[name]),
        }
    return {
        "conversations": len(outcome.conversations),
        "turns": sum(len(c.turns) for c in outcome.conversations),
        "not_done": outcome.not_done,
        "rejected": dict(sorted(Counter(r.reason for r in outcome.rejected).items())),
        "unusable_answers": dict(sorted(outcome.unusable.items())),
        **_safety(outcome.conversations),
        **_variety(outcome.conversations, vectors, pairs=False),
        "grid_cells": {"covered": len(_cells(outcome.conversations)), "of": CELLS},
        "categories": categories,
        "rejections": [{"prompt_id": r.prompt_id, "reason": r.reason} for r in outcome.rejected],
    }


def _safety(conversations: Sequence[Conversation]) -> dict[str, Any]:
    told = [c.metadata for c in conversations]
    return {
        "clinical_review_required": sum(bool(row["clinical_review_required"]) for row in told),
        "crisis_levels": dict(sorted(Counter(row["crisis_level"] for row in told).items())),
        "flags": dict(sorted(Counter(flag for row in told for flag in row["flags"].split()).items())),
    }


def _variety(conversations: Sequence[Conversation], vectors: Any, *, pairs: bool = True) -> dict[str, Any]:
    """distinct-n over the turns; dispersion: 1 - mean cosine of two conversations; the most alike two by word 3-grams.

    `pairs` compares all conversations with each other, which is done within a category.
    """
    texts = [turn.text for c in conversations for turn in c.turns]
    many = len(conversations)
    total = vectors.sum(0) if many else np.zeros(1)
    mean_cosine = float((total @ total - many) / (many * (many - 1))) if many > 1 else 1.0
    out: dict[str, Any] = {f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)}
    out |= {"dispersion": round(1 - mean_cosine, 4), "different_turns": round(len(set(texts)) / max(1, len(texts)), 4)}
    if pairs:
        grams = [shingles("\n".join(turn.text for turn in c.turns)) for c in conversations]
        out["most_alike"] = round(max((likeness(a, b) for a, b in combinations(grams, 2)), default=0.0), 4)
        out["mean_turns"] = round(sum(len(c.turns) for c in conversations) / max(1, many), 2)
    return out


def _vectors(conversations: Sequence[Conversation], embedder: Embedder) -> Any:
    """A vector `[d]` of length 1 for each conversation: the mean of its turns'."""
    if not conversations:
        return np.zeros((0, 1), dtype=np.float32)
    encoded = embedder.encode([turn.text for c in conversations for turn in c.turns])
    ends = np.cumsum([len(c.turns) for c in conversations])
    means = np.stack([part.mean(0) for part in np.split(encoded, ends[:-1])])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _coverage(conversations: Sequence[Conversation], levels: Mapping[str, int]) -> dict[str, str]:
    """Of each factor, how many of its levels came."""
    used = {name: {c.metadata[name] for c in conversations} for name in FACTORS} | {
        "profile": {c.metadata["profile"] for c in conversations} - {""},
        "beats": {beat for c in conversations for beat in c.metadata["beats"].split()},
    }
    return {name: f"{len(used[name])} of {count}" for name, count in levels.items()}


def _cells(conversations: Sequence[Conversation]) -> set[tuple[str, str, str]]:
    return {(c.metadata["course"], c.metadata["age_band"], c.metadata["attachment"]) for c in conversations}
