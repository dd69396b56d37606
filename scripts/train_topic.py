"""Trains the topic filter of `attune knowledge import` from our labels: `scripts/train_topic.py ../shared/knowledge`.

Prints accuracy, precision and recall of five-fold cross-validation and writes `sources/weights/topic.npz`. The threshold is the lowest
at which the kept part of the random labels is as precise as PRECISION out of fold; a label counts as many concepts as it stands for
(`stands_for`: those of its stratum by those drawn from it; 0 for the labels that were drawn because the filter was unsure).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.embedding import Embedder
from attunement.sources.knowledge import topic
from attunement.sources.knowledge.concepts import Concept
from attunement.sources.knowledge.hierarchy import Hierarchy
from attunement.sources.knowledge.importing.files import files_below, read
from attunement.sources.knowledge.importing.found import Node
from attunement.storage.files import atomic_write, read_jsonl

STRENGTHS = (0.3, 1.0, 3.0, 10.0)
PRECISION = 0.93
SEED = 17


def gather(path: Path) -> tuple[list[Concept], Hierarchy]:
    """Every defined concept below `path`, each id once."""
    concepts: dict[str, Concept] = {}
    nodes: dict[str, Node] = {}
    for file in files_below(path):
        found = read(file)
        for concept in found.concepts:
            concepts.setdefault(concept.concept_id, concept)
        nodes = {**found.hierarchy, **nodes}
    return list(concepts.values()), Hierarchy(nodes)


def train(seen: topic.Seen, concepts: list[Concept], rows: list[dict[str, Any]]) -> tuple[topic.TopicFilter, dict[str, float]]:
    by_id = {row["concept_id"]: row for row in rows}
    places, truth = topic.truth_of({key: row["on_topic"] for key, row in by_id.items()}, concepts)
    weights = np.array([by_id[concepts[place].concept_id]["stands_for"] for place in places])
    features = seen.features()[places]
    tried = {strength: topic.out_of_fold(features, truth, strength, SEED) for strength in STRENGTHS}
    strength = min(tried, key=lambda key: log_loss(tried[key], truth))
    found = tried[strength]
    threshold = choose(found, truth, weights)
    kept = found >= threshold
    figures = {
        "labels": len(places),
        "on_topic": int(truth.sum()),
        "strength": strength,
        "accuracy_of_all": round(float(((found >= 0.5) == truth).mean()), 3),
        "accuracy_of_random": round(float((((found >= 0.5) == truth) * weights).sum() / weights.sum()), 3),
        "threshold": threshold,
        "precision_of_random": round(float((weights * truth)[kept].sum() / weights[kept].sum()), 3),
        "recall_of_random": round(float((weights * truth)[kept].sum() / (weights * truth).sum()), 3),
    }
    weight, bias = topic.fit(features, truth, strength)
    return topic.TopicFilter(weight, bias, threshold), figures


def log_loss(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    found = np.clip(found, 1e-6, 1 - 1e-6)
    return float(-(truth * np.log(found) + (1 - truth) * np.log(1 - found)).mean())


def choose(found: NDArray[np.float64], truth: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    for threshold in np.arange(0.30, 0.95, 0.01):
        kept = found >= threshold
        if (weights * truth)[kept].sum() >= PRECISION * weights[kept].sum():
            return round(float(threshold), 2)
    return 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="folder with the sources")
    concepts, hierarchy = gather(parser.parse_args().path)
    trained, figures = train(topic.see(concepts, hierarchy, Embedder()), concepts, list(read_jsonl(topic.LABELS)))
    with atomic_write(topic.WEIGHTS, binary=True) as file:
        file.write(trained.to_bytes())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
