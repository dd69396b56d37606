"""Step 4, score: coherence of each pair from sentence vectors. By far the longest step, so each shard is kept."""

from __future__ import annotations

from attunement.config import EmbeddingSettings
from attunement.curation.pairing import PairShard, candidate_of
from attunement.curation.shards import Workspace, key_of
from attunement.embedding import Embedder
from attunement.quality.coherence import coherence
from attunement.storage.files import read_json, write_json

SCORE_VERSION = 1


def score_shard(shard: PairShard, embedder: Embedder, workspace: Workspace) -> dict[int, float]:
    """Scores by row of `shard`, for all rows without fault. 4 decimals.

    Duplicate pairs are scored too: which pair stays depends on the other shards, and this result must not.
    """
    settings: EmbeddingSettings = embedder.settings
    key = key_of("scores", SCORE_VERSION, shard.sha256, settings.model, settings.max_tokens, settings.runtime, settings.precision)
    path = workspace.path("scores", key, ".json")
    if not path.exists():
        write_json(path, _score(shard, embedder))
    return {int(row): score for row, score in read_json(path).items()}


def _score(shard: PairShard, embedder: Embedder) -> dict[str, float]:
    rows = [(i, candidate_of(row)) for i, row in enumerate(shard.load()) if row["fault"] is None]
    if not rows:
        return {}
    # The nearest turn before the question: in a dialogue mostly a text that is encoded anyway, as another pair's answer.
    before = [pair.context[-1][1] if pair.context else "" for _, pair in rows]
    count = len(rows)
    vectors = embedder.encode(
        [p.question for _, p in rows] + [p.answer for _, p in rows] + [b or rows[0][1].question for b in before]
    )
    context = vectors[2 * count :].copy()
    context[[i for i, text in enumerate(before) if not text]] = 0.0
    scores = coherence(vectors[:count], vectors[count : 2 * count], context)
    return {str(row): round(float(score), 4) for (row, _), score in zip(rows, scores, strict=True)}
