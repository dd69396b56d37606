"""Conversations that came marked for clinical review: held in every mode, decided on, and released only where the settings say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.curation.review import ReviewQueue, read_held
from attunement.curation.selection import review_reasons
from attunement.errors import DataError
from attunement.records import Conversation, Origin
from attunement.storage.sql import Store

ASKED = "My brother and I have not spoken since the funeral, and now his birthday is on Sunday."
MARKED = [
    {"role": "client", "text": ASKED},
    {"role": "therapist", "text": "His birthday brings the silence between you closer. What do you wish could happen on Sunday?"},
]
PLAIN = [
    {"role": "client", "text": "I got the job at the library and I keep waiting for them to find out that I am a fraud."},
    {
        "role": "therapist",
        "text": "Part of you got the job and part of you waits to be found out. What does the fraud voice say?",
    },
]


def build(tmp_path: Path, *overrides: str, mark: Any = True) -> dict[str, Any]:
    rows = [{"turns": MARKED, "clinical_review_required": mark, "review_reasons": "category_x"}, {"turns": PLAIN}]
    source = tmp_path / "talks.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fixed = (
        f"home={tmp_path / 'home'}",
        "data.validation_share=0",
        "data.test_share=0",
        "data.contextual_share=0",
        "data.min_coherence=0",
    )
    DataPipeline(load_settings(overrides=(*fixed, *overrides)).settings, tmp_path / "out").process_datasets([source])
    report: dict[str, Any] = json.loads((tmp_path / "out" / "quality_report.json").read_text(encoding="utf-8"))
    return report


def kept(tmp_path: Path) -> str:
    return (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", ["hold", "list", "off"])
def test_held_in_every_mode_until_somebody_accepts(tmp_path: Path, mode: str) -> None:
    report = build(tmp_path, f"data.review={mode}")
    assert "funeral" not in kept(tmp_path) and "library" in kept(tmp_path)
    assert report["pairs"]["rejected_by_reason"] == {"held_for_review": 1}
    assert report["review"]["reasons"]["clinical_review_required"] == 1 and report["review"]["released_unreviewed"] == 0
    (held,) = read_held(tmp_path / "out")
    assert list(held.reasons)[:2] == ["clinical_review_required", "category_x"]
    assert "left out until a clinician accepts them" in (tmp_path / "out" / "dataset_card.md").read_text(encoding="utf-8")
    queue = ReviewQueue(Store.at_home(tmp_path / "home"))
    assert [e.id for e in queue.list("pending", "category_x")] == [held.hash[:12]]
    queue.decide(held.hash, "accepted", who="ana", why="sound")
    build(tmp_path, f"data.review={mode}")
    assert "funeral" in kept(tmp_path)
    queue.decide(held.hash, "rejected", who="ana", why="no", again=True)
    build(tmp_path, f"data.review={mode}", "data.release_unreviewed=true")
    assert "funeral" not in kept(tmp_path)


def test_released_only_where_the_settings_say_so_and_the_card_says_so(tmp_path: Path) -> None:
    report = build(tmp_path, "data.release_unreviewed=true")
    assert "funeral" in kept(tmp_path) and report["review"]["released_unreviewed"] == 1
    card = (tmp_path / "out" / "dataset_card.md").read_text(encoding="utf-8")
    assert "**1 examples come from conversations that were marked for clinical review, and no clinician has seen them**" in card
    assert "released_unreviewed" in (tmp_path / "out" / "provenance.jsonl").read_text(encoding="utf-8")
    assert len(list(read_held(tmp_path / "out"))) == 1  # still listed


@pytest.mark.parametrize(
    ("mark", "reasons"), [(False, 0), ("False", 0), ("no", 0), ("", 0), (True, 1), ("TRUE", 1), (1, 1), ("maybe", 1)]
)
def test_only_a_plain_no_is_none(mark: Any, reasons: int) -> None:
    origin = Origin("s", "f", "", "1", "", "none", "N")
    found = review_reasons(Conversation("c-1", (), origin, metadata={"clinical_review_required": mark}))
    assert len(found) == reasons


def test_a_whole_conversation_is_decided_at_once(tmp_path: Path) -> None:
    talk = [*MARKED, {"role": "client", "text": "That he rings me first, for once, and says he is sorry."}, *PLAIN[1:]]
    rows = [{"turns": turns, "clinical_review_required": True} for turns in (talk, PLAIN)]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = load_settings(overrides=(f"home={tmp_path / 'home'}", "data.min_coherence=0", "data.validation_share=0")).settings
    DataPipeline(settings, tmp_path / "out").process_datasets([tmp_path / "talks.jsonl"])
    queue, pairs = ReviewQueue(Store.at_home(tmp_path / "home")), list(read_held(tmp_path / "out"))
    long = next(p.conversation_id for p in pairs if ASKED in p.question)
    assert sorted(p.conversation_id == long for p in pairs) == [False, True, True]
    first = next(p for p in pairs if p.conversation_id == long)
    queue.decide(first.hash, "rejected", who="ana", why="too curt")
    (decided,) = queue.decide_conversation(long, "accepted", who="ben", why="sound")  # what was decided stays so
    assert (decided.status, decided.decisions[-1].who, decided.decisions[-1].why) == ("accepted", "ben", "sound")
    assert queue.find(first.hash).status == "rejected"
    with pytest.raises(DataError, match=r"all 2 pairs of c-.* were decided on before: decide anew with --again"):
        queue.decide_conversation(long, "rejected", who="ben", why="no")
    told = CliRunner().invoke(
        app, ["review", "reject", long, "--why", "no", "--by", "eva", "--again", "--set", f"home={tmp_path / 'home'}"]
    )
    assert told.exit_code == 0 and f"2 pairs of {long} rejected" in told.output
    history = queue.find(decided.hash).decisions
    assert [(d.decision, d.who, d.why) for d in history] == [("accepted", "ben", "sound"), ("rejected", "eva", "no")]
    assert all(d.when for d in history) and len(queue.list("pending")) == 1  # the other conversation's
    for unknown, message in (("c-ffff", "no dataset holds pairs"), ("c-", "more than one conversation begins")):
        with pytest.raises(DataError, match=message):
            queue.decide_conversation(unknown, "accepted", who="ana", why="x")
    DataPipeline(settings, tmp_path / "out").process_datasets([tmp_path / "talks.jsonl"])
    report = json.loads((tmp_path / "out" / "quality_report.json").read_text(encoding="utf-8"))
    assert report["pairs"]["rejected_by_reason"] == {"rejected_in_review": 2, "held_for_review": 1}
