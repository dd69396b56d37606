"""The labelled texts of our own: their form, and that nothing of the test set is among what is trained on."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from attunement.quality.labelled import BEHAVIOURS, CLIENT_TALK, EMPATHY, written
from attunement.quality.own_sets import LATER_CRISIS, WRITTEN_CRISIS
from attunement.records import CRISIS_LEVELS

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "data" / "crisis-bench.jsonl"

CRISIS = (*WRITTEN_CRISIS, *LATER_CRISIS)


def bench() -> list[dict[str, object]]:
    return [json.loads(line) for line in BENCH.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("crisis", 1600),
        ("crisis_more", 1000),
        ("crisis_posts", 280),
        ("crisis_oblique", 400),
        ("crisis_scenes", 2000),
        ("crisis_scenes_more", 500),
        ("crisis_short", 500),
        ("crisis_bereaved", 400),
        ("bias", 800),
        ("bias_more", 500),
        ("helper", 500),
        ("empathy", 900),
        ("sessions", 60),
        ("content_type", 200),
        ("content_type_more", 200),
        ("technique", 600),
        ("technique_sessions", 60),
        ("need", 300),
        ("bench", 500),
    ],
)
def test_ids_are_unique_and_nothing_personal_stands_in_it(name: str, least: int) -> None:
    rows = bench() if name == "bench" else written(name)
    assert len({r["id"] for r in rows}) == len(rows) >= least
    text = json.dumps(rows, ensure_ascii=False)
    assert not re.search(r"https?://|www\.|\d{7}|\d ?mg\b|@\w+\.\w", text)


def test_labels_of_danger() -> None:
    for row in [*(row for name in CRISIS for row in written(name)), *bench()]:
        assert row["level"] in CRISIS_LEVELS and row["text"].strip()
        assert row["danger"] == (row["level"] != "none"), row["id"]
        assert row["whose"] in ("self", "third_person", "unclear") and row["when"] in ("now", "past", "future", "none")
    rows = bench()
    assert sum(not r["danger"] for r in rows) >= 300 and sum(bool(r["danger"]) for r in rows) >= 150


def test_the_test_set_is_not_among_what_is_trained_on() -> None:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z']+", text.lower())
        return set(zip(words, words[1:], words[2:], strict=False))

    trained = {row["id"]: shingles(row["text"]) for name in CRISIS for row in written(name)}
    holders: dict[tuple[str, ...], list[str]] = {}
    for identifier, words in trained.items():
        for word in words:
            holders.setdefault(word, []).append(identifier)
    for row in bench():
        own = shingles(str(row["text"]))
        shared = Counter(identifier for word in own for identifier in holders.get(word, ()))
        for identifier, both in shared.items():
            assert both <= 0.4 * max(3, len(own | trained[identifier])), (row["id"], identifier)


def test_labels_of_empathy() -> None:
    for row in written("empathy"):
        for component in EMPATHY:
            assert row[component] in (0, 1, 2)
            assert bool(row["spans"][component]) == (row[component] > 0), row["id"]
            assert all(span in row["response"] for span in row["spans"][component])


def test_labels_of_sessions() -> None:
    for row in written("sessions"):
        assert row["quality"] in ("high", "low")
        for turn in row["turns"]:
            assert (turn["behaviour"] in BEHAVIOURS) if turn["role"] == "therapist" else (turn["talk"] in CLIENT_TALK)


@pytest.mark.parametrize("name", ["content_type", "content_type_more"])
def test_labels_of_content_types(name: str) -> None:
    rows = written(name)
    for kind in ("interview", "podcast", "monologue", "speech"):
        assert sum(row["type"] == kind for row in rows) >= 50
    assert all(turn["role"] in ("therapist", "client", "narrator") for row in rows for turn in row["turns"])


def test_pairs_of_bias_differ_and_helpers_are_half_good() -> None:
    assert all(row["biased"].strip() != row["unbiased"].strip() for row in written("bias"))
    rows = written("helper")
    assert sum(row["good"] for row in rows) == len(rows) / 2
    assert all(bool(row["areas"]) != row["good"] and row["context"] and row["reply"].strip() for row in rows)
