"""A build with its judges: misfits are left out with their kind, high risk waits for review, and decisions reach the next build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.curation.review import EDITS, ReviewQueue, read_held
from attunement.storage.sql import Store

DANGER = "I wrote my goodbye letters and tonight I will take all of my pills."


def talk(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


TALKS = [
    talk(
        "I lost my job in May and since then I lie awake with worry about the rent.",
        "Losing the job and the sleep at once is a lot. What goes through your mind about the rent at night?",
        "That we have to move in with my parents and that I have failed my children.",
        "So at night it turns from money into having failed them. What would your children say if they heard that?",
    ),
    talk(DANGER, "I'm glad you told me. Please call the emergency number now. Is somebody with you?"),
    talk(
        "My dog died on Sunday and the house is so quiet.",
        "To repot an orchid, soak its roots for ten minutes and cut off whatever is brown before you use fresh bark.",
    ),
]


def build(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    source = tmp_path / "talks.jsonl"
    source.write_text("".join(json.dumps({"messages": t}) + "\n" for t in TALKS), encoding="utf-8")
    settings = load_settings(
        overrides=(
            f"home={tmp_path / 'home'}",
            "data.validation_share=0",
            "data.test_share=0",
            "data.contextual_share=0",
            *overrides,
        )
    ).settings
    DataPipeline(settings, tmp_path / "out").process_datasets([source])
    report: dict[str, Any] = json.loads((tmp_path / "out" / "quality_report.json").read_text(encoding="utf-8"))
    return report


def kept(tmp_path: Path) -> str:
    return (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")


def test_high_risk_waits_for_review_and_the_next_build_follows(tmp_path: Path) -> None:
    report = build(tmp_path)
    assert report["pairs"]["rejected_by_reason"] == {"held_for_review": 1, "incoherent": 1}
    assert report["pairs"]["incoherent_by_reason"] == {"answers_another_question": 1}
    assert "client_suicide_intent" in report["review"]["reasons"] and "goodbye letters" not in kept(tmp_path)
    (held,) = read_held(tmp_path / "out")
    assert held.question == DANGER and held.scores["crisis"] > 0.7
    queue = ReviewQueue(Store.at_home(tmp_path / "home"))
    queue.decide(held.hash, "accepted", who="ana", why="asks and names help")
    build(tmp_path)
    assert "goodbye letters" in kept(tmp_path)
    assert '"decision":"accepted"' in (tmp_path / "out" / "provenance.jsonl").read_text(encoding="utf-8")
    queue.decide(held.hash, "edited", who="ana", why="shorter", answer="Please call 112 now. I stay with you.", again=True)
    build(tmp_path)
    assert "Please call 112 now." in kept(tmp_path) and "Is somebody with you?" not in kept(tmp_path)
    queue.decide(held.hash, "rejected", who="ana", why="no", again=True)
    report = build(tmp_path)
    assert report["pairs"]["rejected_by_reason"]["rejected_in_review"] == 1 and "goodbye letters" not in kept(tmp_path)


def test_listed_pairs_stay_and_without_review_nothing_is_looked_for(tmp_path: Path) -> None:
    build(tmp_path, "data.review=list")
    assert "goodbye letters" in kept(tmp_path) and len(list(read_held(tmp_path / "out"))) == 1
    report = build(tmp_path, "data.review=off", "data.min_coherence=0")
    assert report["pairs"]["rejected"] == 0 and list(read_held(tmp_path / "out")) == []
    assert not (tmp_path / "out" / EDITS).exists()


def test_the_report_tells_distributions_consistency_and_variety(tmp_path: Path) -> None:
    report = build(tmp_path)
    (spread,) = report["distributions"].values()
    assert 0.1 < spread["scores"]["coherence"]["mean"] <= 1 and sum(spread["labels"]["emotion"].values()) > 0.99
    assert report["consistency"] == {"divergence": {}, "mean_divergence": None, "sources_compared": 0, "unlike": []}
    assert report["diversity"]["answers_sampled"] == 2 and 0 < report["diversity"]["distinct_1"] <= 1
    assert report["patterns"]["answers_that_ask"] == 1.0
    page = (tmp_path / "out" / "quality_report.html").read_text(encoding="utf-8")
    assert "What the judges say, by source" in page and "For clinical review" in page
