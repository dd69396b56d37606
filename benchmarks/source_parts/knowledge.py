"""Concepts of psychology: counts, the topic filter, retrieval, neighbours, speed.

The folder of open sources is imported into a home of its own, which is kept for the next run. The topic filter's precision is of kept concepts
labelled by hand; retrieval is nDCG@10 on graded queries (BM25 with equal and with our weights, vectors, hybrid; fusion weights by
cross-validation); the threshold of neighbours is on judged pairs; the time is that of a search in 10,000 concepts.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.config import load_settings
from attunement.sources.knowledge import base as knowledge_base
from attunement.sources.knowledge import licences
from attunement.sources.knowledge.base import POOL, KnowledgeBase, fuse
from attunement.sources.knowledge.importing.cleaning import normalised
from attunement.sources.knowledge.integrator import PsychologyKnowledgeIntegrator
from attunement.sources.knowledge.store import FIELD_WEIGHTS, SqliteConcepts
from attunement.storage.files import read_jsonl

OURS = "attunement"
"""The source of our own concepts; they pass no filter."""
DATA = machine.DATA
TIMED_CONCEPTS, TIMED_ROUNDS = 10_000, 3
MEANING_WEIGHTS, FUSION_KS = (0.5, 1.0, 2.0, 3.0, 4.0, 8.0), (10, 30, 60)
FOLDS = 5
Ranker = Callable[[str], Sequence[str]]


def ndcg(found: Sequence[str], grades: Mapping[str, int], depth: int = 10) -> float:
    """Gain 2^grade - 1, discount log2(rank + 1) (Jarvelin 2002, as TREC has it); what nobody graded counts 0."""
    gains = [(2 ** grades.get(key, 0) - 1) / math.log2(rank + 1) for rank, key in enumerate(found[:depth], 1)]
    best = sorted(grades.values(), reverse=True)[:depth]
    ideal = sum((2**grade - 1) / math.log2(rank + 1) for rank, grade in enumerate(best, 1))
    return sum(gains) / ideal if ideal else 0.0


def one_a_name(base: KnowledgeBase, ids: Sequence[str]) -> list[str]:
    """What `search` shows: of concepts of the same name the first."""
    names: dict[str, str] = {}
    for concept in base.store.get(ids):
        names.setdefault(normalised(concept.label), concept.concept_id)
    return list(names.values())


def rankers(base: KnowledgeBase) -> dict[str, Ranker]:
    store = base.store

    def words(weights: tuple[float, float, float]) -> Ranker:
        return lambda query: one_a_name(base, [key for key, _ in store.by_words(query, POOL, weights)])

    return {
        "bm25_equal_weights": words((1.0, 1.0, 1.0)),
        "bm25": words(FIELD_WEIGHTS),
        "vectors": lambda query: one_a_name(base, [key for key, _ in base.ranked(query, "meaning")]),
        "hybrid": lambda query: one_a_name(base, [key for key, _ in base.ranked(query)]),
    }


def retrieval(base: KnowledgeBase) -> dict[str, Any]:
    there = {concept.concept_id for concept in base}
    rows = [
        {"query": row["query"], "grades": {key: grade for key, grade in row["grades"].items() if key in there}}
        for row in read_jsonl(DATA / "knowledge-queries.jsonl")
    ]
    out: dict[str, Any] = {"queries": len(rows), "graded": sum(len(row["grades"]) for row in rows)}
    scores = {}
    for name, rank in rankers(base).items():
        found = {row["query"]: rank(row["query"]) for row in rows}
        scores[name] = np.array([ndcg(found[row["query"]], row["grades"]) for row in rows])
        shown = [key in row["grades"] for row in rows for key in found[row["query"]][:10]]
        out[name] = {
            "ndcg_at_10": round(float(scores[name].mean()), 3),
            "graded_share_of_top_10": round(sum(shown) / len(shown), 3),
        }
    rng = np.random.default_rng(17)
    for against in ("bm25", "bm25_equal_weights"):
        gain = scores["hybrid"] - scores[against]
        means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(2000)]
        interval = [round(float(x), 3) for x in np.percentile(means, [2.5, 97.5])]
        out[f"hybrid_over_{against}"] = {"gain": round(float(gain.mean()), 3), "interval_95": interval}
    out["fusion"] = fusion(base, rows)
    return out


def fusion(base: KnowledgeBase, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """nDCG@10 by k and the weight of meaning, and with both chosen on the other folds."""
    choices = [(k, weight) for k in FUSION_KS for weight in MEANING_WEIGHTS]
    table = []
    for row in rows:
        words = base.store.by_words(row["query"], POOL)
        meaning = base.store.by_vector(base.embedder.encode([row["query"]])[0], POOL)
        fused = ([key for key, _ in fuse([(1.0, words), (weight, meaning)], k)][:POOL] for k, weight in choices)
        table.append([ndcg(one_a_name(base, found), row["grades"]) for found in fused])
    scores, fold = np.array(table), np.arange(len(rows)) % FOLDS
    chosen = [int(scores[fold != number].mean(0).argmax()) for number in range(FOLDS)]
    return {
        "by_k_and_weight": {
            f"{k}, {weight}": round(float(mean), 3) for (k, weight), mean in zip(choices, scores.mean(0), strict=True)
        },
        "cross_validated": round(float(np.mean([scores[fold == n, chosen[n]].mean() for n in range(FOLDS)])), 3),
        "chosen": [choices[place] for place in chosen],
    }


def topic_precision(base: KnowledgeBase) -> dict[str, Any]:
    """Of kept concepts drawn at random and labelled by hand; the interval is Wilson's."""
    kept = {concept.concept_id for concept in base}
    rows = [row for row in read_jsonl(DATA / "knowledge-topic.jsonl") if row["concept_id"] in kept]
    n, p = len(rows), sum(row["on_topic"] for row in rows) / max(1, len(rows))
    z = 1.96
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    written = {normalised(concept.label) for concept in base if concept.source == OURS}
    others = {normalised(concept.label) for concept in base} - written
    on_topic = [len(written) + round(share * len(others)) for share in (p, low, high)]
    return {
        "labelled": n,
        "precision": round(p, 3),
        "interval_95": [round(low, 3), round(high, 3)],
        "distinct_on_topic": {"estimate": on_topic[0], "interval_95": on_topic[1:]},
    }


def pairs(base: KnowledgeBase) -> dict[str, Any]:
    """Precision of neighbours by cosine, on judged pairs."""
    ids, vectors = base.store.vectors()
    place = {key: number for number, key in enumerate(ids)}
    rows = [row for row in read_jsonl(DATA / "knowledge-pairs.jsonl") if row["a"] in place and row["b"] in place]
    cosine = np.array([float(vectors[place[row["a"]]] @ vectors[place[row["b"]]]) for row in rows])
    related = np.array([row["related"] for row in rows], dtype=float)
    out: dict[str, Any] = {"judged": len(rows)}
    for threshold in (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7):
        above = cosine >= threshold
        out[f"from_{threshold}"] = {
            "pairs": int(above.sum()),
            "related": round(float(related[above].mean()), 3) if above.any() else None,
        }
    return out


def latency(base: KnowledgeBase, queries: Sequence[str]) -> dict[str, Any]:
    """Milliseconds of a search in 10,000 concepts: those of the base, some of them twice under other ids, their vectors a little moved."""
    concepts, (ids, vectors) = base.store.all(), base.store.vectors()
    assert ids == [concept.concept_id for concept in concepts]
    rng, want = np.random.default_rng(17), TIMED_CONCEPTS
    chosen = [number % len(concepts) for number in range(want)]
    copies = [replace(concepts[i], concept_id=f"{concepts[i].concept_id}/{n // len(concepts)}") for n, i in enumerate(chosen)]
    moved = vectors[chosen] + rng.normal(0, 0.01, (want, vectors.shape[1])).astype(np.float32)
    with tempfile.TemporaryDirectory() as home:
        store = SqliteConcepts.at_home(Path(home))
        store.put("timed", "", copies, moved / np.linalg.norm(moved, axis=1, keepdims=True), {})
        timed = KnowledgeBase(store, base.embedder)
        timed.search("warm up")
        out = {"concepts": len(timed)}
        for mode in knowledge_base.MODES:
            times = []
            for number in range(TIMED_ROUNDS):
                for query in queries:
                    started = time.perf_counter()
                    timed.search(f"{query} {mode} {'.' * number}", mode=mode)  # another text each time: no vector is remembered
                    times.append((time.perf_counter() - started) * 1000)
            ranked = np.percentile(times, [50, 95])
            out[f"{mode}_ms"] = {"median": round(float(ranked[0]), 1), "p95": round(float(ranked[1]), 1)}
        store.close()
    return out


def measure(shared: Path, home: Path) -> dict[str, Any]:
    settings = load_settings(overrides=[f"home={home}"]).settings
    integrator = PsychologyKnowledgeIntegrator(
        settings, progress=lambda done, total, path: print(f"\r{done}/{total}", end="", flush=True)
    )
    started = time.perf_counter()
    base = integrator.load_knowledge_base(shared / "knowledge")
    seconds = time.perf_counter() - started
    queries = [row["query"] for row in read_jsonl(DATA / "knowledge-queries.jsonl")]
    counts = base.stats()
    counts["usable"] = {use: len(base.usable(use)) for use in licences.USES}
    counts["related_median"] = statistics.median(len(concept.related_concepts) for concept in base)
    return {
        "machine": machine.describe(),
        "import": {
            "seconds": round(seconds, 1),
            "read": integrator.report.read,
            "unchanged": integrator.report.unchanged,
            "problems": len(integrator.report.problems),
        },
        "counts": counts,
        "topic_filter": topic_precision(base),
        "retrieval": retrieval(base),
        "neighbours": pairs(base),
        "search_in_10000": latency(base, queries),
    }
