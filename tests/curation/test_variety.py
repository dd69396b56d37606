"""The report's figures of variety on counts that can be checked by hand."""

from __future__ import annotations

import math

import pytest

from attunement.curation.questions import Candidate
from attunement.curation.variety import FEW, LABELS, SAMPLE, SCORES, Variety, divergence
from attunement.quality.wording import distinct


def pair(number: int, answer: str) -> Candidate:
    return Candidate(f"x-{number:016x}", "c-0", 1, "Why?", answer, (), "extracted")


def judged(score: float, emotion: str = "joy", topic: int = 0) -> dict[str, object]:
    return {**dict.fromkeys(SCORES, score), **dict.fromkeys(LABELS, "none"), "emotion": emotion, "topic": topic}


def test_distinct_and_divergence() -> None:
    assert distinct(["a b a b"], 1) == 0.5 and distinct(["a b a b"], 2) == pytest.approx(2 / 3, abs=1e-4) and distinct([], 3) == 0
    assert divergence({"a": 3}, {"a": 30}) == 0 and divergence({"a": 3}, {"b": 1}) == pytest.approx(1)
    assert divergence({}, {"a": 1}) == 1


def test_a_source_that_is_unlike_the_others_is_named() -> None:
    variety = Variety()
    for i in range(FEW):
        variety.add("warm", pair(i, "I hear you."), judged(0.9))
        variety.add("warm too", pair(i + 100, "I hear you, too."), judged(0.9))
        variety.add("cold", pair(i + 200, "No."), judged(0.1, "anger"))
    variety.add("small", pair(999, "Well."), judged(0.5))
    found = variety.consistency()
    assert found["sources_compared"] == 3 and {row["source"] for row in found["unlike"] if row["divergence"] > 0.9} == {"cold"}
    spread = variety.spread_by_source()
    assert spread["cold"]["scores"]["helper"] == {"mean": 0.1, "lower_quartile": 0.125, "median": 0.125, "upper_quartile": 0.125}
    assert spread["cold"]["labels"]["emotion"] == {"anger": 1.0}


def test_the_sample_is_bounded_and_the_same_in_any_order() -> None:
    first, second = Variety(), Variety()
    rows = [(pair(i * 7919 % 10_007, f"Answer number {i}. Is it?"), judged(0.5, topic=i % 4)) for i in range(SAMPLE + 500)]
    for row in rows:
        first.add("a", *row)
    for row in reversed(rows):
        second.add("a", *row)
    assert first.diversity(256) == second.diversity(256) and first.patterns() == second.patterns()
    assert first.diversity(256)["answers_sampled"] == SAMPLE and first.diversity(256)["topics_covered"] == round(4 / 256, 4)
    assert first.diversity(4)["topic_entropy"] == pytest.approx(1.0) and math.isclose(first.patterns()["answers_that_ask"], 1.0)
    assert first.patterns()["openings"] == {}
