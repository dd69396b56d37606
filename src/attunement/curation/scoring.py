"""Step 4, judge: what the judges say of each pair. By far the longest step (sentence vectors), so each shard is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attunement.curation.pairing import PairShard, candidate_of
from attunement.curation.questions import Candidate
from attunement.curation.shards import Workspace, key_of
from attunement.quality.appropriateness import blocked_by_rules, unsafe_after
from attunement.quality.bias import detect_many
from attunement.quality.crisis import assess_turns
from attunement.quality.labelled import EMPATHY
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.storage.files import read_json, write_json

SCORE_VERSION = 3
TOGETHER = 500
"""Shards of many small files are judged together up to so many pairs: a batch of a few texts wastes the encoder."""
SUSPECT = 0.8
"""Share of the bias judge's operating point from which an answer is read sentence by sentence."""
BIASED = 0.5
"""`bias_score` from which an answer is held for review."""

Judged = Mapping[str, Any]
"""What the judges say of a pair; `holds` are the codes for which it goes to clinical review."""


def judge_shards(shards: Sequence[PairShard], judges: Judges, workspace: Workspace) -> Iterator[dict[int, Judged]]:
    """For each shard what the judges say by row, for all rows without fault. Scores have 4 decimals.

    Duplicate pairs are judged too: which pair stays depends on the other shards, and this result must not.
    """
    how = judges.fingerprint()
    group: list[PairShard] = []
    for number, shard in enumerate(shards, 1):
        group.append(shard)
        if sum(s.rows for s in group) >= TOGETHER or number == len(shards):
            paths = [workspace.path("scores", key_of("scores", SCORE_VERSION, s.sha256, how), ".json") for s in group]
            todo: list[tuple[PairShard, Path]] = [(s, path) for s, path in zip(group, paths, strict=True) if not path.exists()]
            for (_, path), found in zip(todo, _judge_group([s for s, _ in todo], judges), strict=True):
                write_json(path, found)
            for path in paths:
                yield {int(row): judged for row, judged in read_json(path).items()}
            group = []


def _judge_group(shards: Sequence[PairShard], judges: Judges) -> list[dict[str, Judged]]:
    rows: list[tuple[int, int, Candidate]] = [
        (place, i, candidate_of(row))
        for place, shard in enumerate(shards)
        for i, row in enumerate(shard.load())
        if row["fault"] is None
    ]
    out: list[dict[str, Judged]] = [{} for _ in shards]
    for (place, i, _), judged in zip(rows, judge_pairs(judges, [pair for _, _, pair in rows]), strict=True):
        out[place][str(i)] = judged
    return out


def judge_pairs(judges: Judges, pairs: Sequence[Candidate]) -> list[Judged]:
    """All judges over pairs, each text encoded once."""
    if not pairs:
        return []
    asked = [Item(pair.question) for pair in pairs]
    replies = [Item(pair.answer, (*[text for _, text in pair.context][-1:], pair.question)) for pair in pairs]
    fits = judges.judge("coherence", replies)
    danger = assess_turns(judges, [pair.question for pair in pairs])
    emotion = judges.judge("emotion", asked)
    told = {name: judges.judge(name, replies) for name in ("helper", "behaviour", *EMPATHY)}
    unsafe = unsafe_after(judges, replies)
    bias = detect_many(judges, [pair.answer for pair in pairs], suspect=SUSPECT)
    topics = judges.topics([pair.question for pair in pairs])
    least = judges.operating_point("unsafe")
    out: list[Judged] = []
    for i, pair in enumerate(pairs):
        risk, kind = unsafe[i]
        holds = [
            *blocked_by_rules(pair.answer),
            *([kind] if risk >= least else []),
            *([str(f["code"]) for f in bias[i].findings] if bias[i].bias_score >= BIASED else []),
            *([f"client_{code}" for code in danger[i].reasons] if danger[i].level == "imminent" else []),
        ]
        out.append(
            {
                "coherence": fits[i].score,
                "fit": fits[i].label,
                "crisis": danger[i].score,
                "danger": danger[i].kind,
                "level": danger[i].level,
                "emotion": emotion[i].label,
                "unsafe": risk,
                "bias": bias[i].bias_score,
                "helper": told["helper"][i].score,
                "behaviour": told["behaviour"][i].label,
                **{name: told[name][i].score for name in EMPATHY},
                "topic": topics[i],
                "holds": list(dict.fromkeys(holds)),
            }
        )
    return out
