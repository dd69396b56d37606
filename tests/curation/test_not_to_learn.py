"""A helper's slip, marked `"learn": false`: never an answer to learn, but there for what answers it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.readers.shapes import spoken_of
from attunement.readers.turns import to_turns
from attunement.records import Turn
from attunement.sources.edge_cases.generator import EdgeCaseGenerator
from attunement.sources.edge_cases.run import generate_folder
from attunement.storage.files import read_jsonl

SLIP = "Well, had you not been warned about the traffic on that road?"
TALK = [
    {"role": "client", "text": "I crashed the car last week and I keep hearing the sound of it at night."},
    {"role": "therapist", "text": SLIP, "learn": False},
    {"role": "client", "text": "You sound like everybody else. As if I had wanted it to happen."},
    {"role": "therapist", "text": "I did sound like that, and I am sorry. It was a blow, and I asked about blame. What was the sound like?"},
]  # fmt: skip


def built(folder: Path, source: Path) -> dict:  # type: ignore[type-arg]
    settings = load_settings(
        overrides=("data.min_coherence=0", "data.release_unreviewed=true", "data.review=off", "data.contextual_share=0")
    ).settings
    DataPipeline(settings, folder).process_datasets([source])
    return json.loads((folder / "quality_report.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("key", ["turns", "messages"])
def test_a_marked_turn_is_context_and_no_answer(tmp_path: Path, key: str) -> None:
    (tmp_path / "talks.jsonl").write_text(json.dumps({key: TALK}) + "\n", encoding="utf-8")
    pairs = built(tmp_path / "out", tmp_path / "talks.jsonl")["pairs"]
    assert (pairs["in"], pairs["kept"], pairs["rejected_by_reason"]) == (2, 1, {"not_to_learn": 1})
    (example,) = [row for split in ("train", "validation", "test") for row in read_jsonl(tmp_path / "out" / f"{split}.jsonl")]
    *before, answer = [message["content"] for message in example["messages"]]
    assert "I am sorry" in answer and SLIP in before
    (left_out,) = [row for row in read_jsonl(tmp_path / "out" / "rejected.jsonl") if row["kind"] == "pair"]
    assert (left_out["step"], left_out["answer"]) == ("pair", SLIP)


@pytest.mark.parametrize(("mark", "marked"), [(False, True), (0, True), ("no", True), (True, False), (None, False), ("", False)])
def test_only_a_plain_no_marks_a_turn(mark: object, marked: bool) -> None:
    for turn in ({"role": "helper", "text": SLIP}, {"type": "ai", "data": {"content": SLIP}}):
        (said,) = spoken_of([{**turn, "learn": mark}]) or []
        assert (len(said) == 4) == marked


def test_joined_with_a_marked_turn_nothing_is_learnt() -> None:
    spoken = [("client", "Hello.", None), ("therapist", "Hm.", None, False), ("therapist", "Go on.", None)]
    assert to_turns(spoken)[1] == Turn("therapist", "Hm.\nGo on.", "therapist", learn=False)  # type: ignore[arg-type]


def test_written_slips_are_marked_all_the_way_into_the_build(tmp_path: Path) -> None:
    generator = EdgeCaseGenerator(only=("stalking_harassment",))
    prompts = [p for p in generator.generate_prompts(12) if p.scenario["course"] == "ruptures_and_repairs"]
    generate_folder(generator, prompts, tmp_path / "edge-cases", most=len(prompts))
    slips = {text for beat in generator.grammar("stalking_harassment").beats if not beat.learn for text in beat.therapist}
    rows = list(read_jsonl(tmp_path / "edge-cases" / "conversations.jsonl"))
    marked = [turn["text"] for row in rows for turn in row["turns"] if turn.get("learn") is False]
    assert len(slips) == 4 and marked and set(marked) <= slips
    report = built(tmp_path / "out", tmp_path / "edge-cases")
    assert report["pairs"]["rejected_by_reason"]["not_to_learn"] == len(marked)
    examples = list(read_jsonl(tmp_path / "out" / "train.jsonl"))
    assert examples and not slips & {row["messages"][-1]["content"] for row in examples}
    assert slips & {message["content"] for row in examples for message in row["messages"]}
