"""The report of generated edge cases: how many, why the rest is missing, how varied, what the safety reviewer found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attunement.embedding import Embedder
from attunement.records import Conversation
from attunement.sources.edge_cases.categories import AGE_BANDS, ATTACHMENTS, COURSES
from attunement.sources.edge_cases.outcome import Outcome
from attunement.sources.edge_cases.scenarios import FACTORS
from attunement.sources.talk_variety import nearest, spread_of, talk_vectors, variety_of

CELLS = len(COURSES) * len(AGE_BANDS) * len(ATTACHMENTS)
"""Of the scenario grid's closed factors: course x age band x attachment."""


def report_of(
    outcome: Outcome, embedder: Embedder, levels: Mapping[str, Mapping[str, int]], near_duplicate: float
) -> dict[str, Any]:
    """All figures, as a whole and by category. `levels` gives for each category how many levels each factor has to offer.

    `nearest_in_category` tells how like each conversation's nearest of its category is; from `near_duplicate` on a build drops one.
    """
    talks = [[turn.text for turn in c.turns] for c in outcome.conversations]
    vectors, near = talk_vectors(talks, embedder), list[float]()
    by_category: dict[str, list[int]] = {name: [] for name in levels}
    for number, conversation in enumerate(outcome.conversations):
        by_category[conversation.metadata["category"]].append(number)
    categories = {}
    for name, numbers in by_category.items():
        mine = [outcome.conversations[n] for n in numbers]
        rejected = Counter(r.reason for r in outcome.rejected if r.category == name)
        alike = nearest([talks[n] for n in numbers])
        near += alike
        categories[name] = {
            "conversations": len(mine),
            "rejected": dict(sorted(rejected.items())),
            **_safety(mine),
            **variety_of([talks[n] for n in numbers], vectors[numbers]),
            "nearest": spread_of(alike, near_duplicate),
            "coverage": _coverage(mine, levels[name]),
        }
    return {
        "conversations": len(outcome.conversations),
        "not_done": outcome.not_done,
        "rejected": dict(sorted(Counter(r.reason for r in outcome.rejected).items())),
        "unusable_answers": dict(sorted(outcome.unusable.items())),
        **_safety(outcome.conversations),
        **variety_of(talks, vectors),
        "nearest_in_category": spread_of(near, near_duplicate),
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


def _coverage(conversations: Sequence[Conversation], levels: Mapping[str, int]) -> dict[str, str]:
    """Of each factor, how many of its levels came."""
    used = {name: {c.metadata[name] for c in conversations} for name in FACTORS} | {
        "profile": {c.metadata["profile"] for c in conversations} - {""},
        "beats": {beat for c in conversations for beat in c.metadata["beats"].split()},
    }
    return {name: f"{len(used[name])} of {count}" for name, count in levels.items()}


def _cells(conversations: Sequence[Conversation]) -> set[tuple[str, str, str]]:
    return {(c.metadata["course"], c.metadata["age_band"], c.metadata["attachment"]) for c in conversations}
