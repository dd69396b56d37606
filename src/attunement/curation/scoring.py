"""Step 4, score: coherence of each pair from sentence vectors. By far the longest step, so each shard is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attunement.config import EmbeddingSettings
from attunement.curation.pairing import PairShard, candidate_of
from attunement.curation.questions import Candidate
from attunement.curation.shards import Workspace, key_of
from attunement.embedding import Embedder
from attunement.quality.coherence import coherence_of
from attunement.storage.files import read_json, write_json

SCORE_VERSION = 2
TOGETHER = 500
"""Shards of many small files are scored together up to so many pairs: a batch of a few texts wastes the encoder."""


def score_shards(shards: Sequence[PairShard], embedder: Embedder, workspace: Workspace) -> Iterator[dict[int, float]]:
    """For each shard its scores by row, for all rows without fault. 4 decimals.

    Duplicate pairs are scored too: which pair stays depends on the other shards, and this result must not.
    """
    group: list[PairShard] = []
    for number, shard in enumerate(shards, 1):
        group.append(shard)
        if sum(s.rows for s in group) >= TOGETHER or number == len(shards):
            paths = [_path(s, embedder.settings, workspace) for s in group]
            todo = [(s, path) for s, path in zip(group, paths, strict=True) if not path.exists()]
            for (_, path), scores in zip(todo, _score([s for s, _ in todo], embedder), strict=True):
                write_json(path, scores)
            for path in paths:
                yield {int(row): score for row, score in read_json(path).items()}
            group = []


def _path(shard: PairShard, settings: EmbeddingSettings, workspace: Workspace) -> Path:
    how = (settings.model, settings.max_tokens, settings.runtime, settings.precision)
    return workspace.path("scores", key_of("scores", SCORE_VERSION, shard.sha256, *how), ".json")


def _score(shards: Sequence[PairShard], embedder: Embedder) -> list[dict[str, float]]:
    rows: list[tuple[int, int, Candidate]] = [
        (place, i, candidate_of(row))
        for place, shard in enumerate(shards)
        for i, row in enumerate(shard.load())
        if row["fault"] is None
    ]
    scores = coherence_of(embedder, [(pair.question, pair.answer, [text for _, text in pair.context]) for _, _, pair in rows])
    out: list[dict[str, float]] = [{} for _ in shards]
    for (place, i, _), score in zip(rows, scores, strict=True):
        out[place][str(i)] = round(float(score), 4)
    return out
