"""How varied generated conversations are: words, vectors, and how near each stands to its nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from attunement.embedding import Embedder, Vectors
from attunement.quality.wording import likeness, shingles, variety

Talk = Sequence[str]
"""The turns of a conversation, whoever says them."""


def variety_of(talks: Sequence[Talk], vectors: Vectors) -> dict[str, Any]:
    """Counts, distinct-n over all turns, and the dispersion of `vectors` (`talk_vectors`)."""
    turns = [text for talk in talks for text in talk]
    return {
        "turns": len(turns),
        "mean_turns": round(len(turns) / max(1, len(talks)), 2),
        **variety(turns),
        "dispersion": dispersion(vectors),
    }


def talk_vectors(talks: Sequence[Talk], embedder: Embedder) -> Vectors:
    """A vector `[n, d]` of length 1 for each conversation: the mean of its turns'."""
    if not talks:
        return np.zeros((0, 1), dtype=np.float32)
    encoded = embedder.encode([text for talk in talks for text in talk])
    ends = np.cumsum([len(talk) for talk in talks])
    means = np.stack([part.mean(0) for part in np.split(encoded, ends[:-1])])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def dispersion(vectors: Vectors) -> float:
    """1 - the mean cosine of two of `vectors` (of length 1); 0 for fewer than two."""
    many = len(vectors)
    if many < 2:
        return 0.0
    total = vectors.sum(0)
    return round(1 - float((total @ total - many) / (many * (many - 1))), 4)


def nearest(talks: Sequence[Talk]) -> list[float]:
    """For each conversation the likeness (Jaccard of word 3-grams) of the one that is most like it."""
    grams, out = [shingles("\n".join(talk)) for talk in talks], [0.0] * len(talks)
    for (i, first), (j, second) in combinations(enumerate(grams), 2):
        alike = likeness(first, second)
        out[i], out[j] = max(out[i], alike), max(out[j], alike)
    return out


def spread_of(likenesses: Sequence[float], limit: float) -> Mapping[str, float]:
    """Of what `nearest` gives: median, 90th percentile, highest, and the share that a build would drop (from `limit` on)."""
    if not likenesses:
        return {"median": 0.0, "p90": 0.0, "highest": 0.0, "near_duplicates": 0.0}
    found = np.asarray(likenesses)
    return {
        "median": round(float(np.median(found)), 4),
        "p90": round(float(np.percentile(found, 90)), 4),
        "highest": round(float(found.max()), 4),
        "near_duplicates": round(float((found >= limit).mean()), 4),
    }
