"""Consent withdrawn stays withdrawn, however the files change; and what is held out stays held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attunement.config import load_settings
from attunement.curation.manifest import Manifest
from attunement.curation.pipeline import DataPipeline
from attunement.curation.provenance import kept_examples, plan_withdrawal, record_withdrawal, runs_made_from, side_effects
from attunement.embedding import Embedder
from attunement.errors import DataError
from attunement.records import ProcessedDataset
from attunement.storage.files import read_jsonl

EMBEDDER = Embedder()
WORDS = "river stone window garden letter winter bridge candle market harbour violin orchard mirror ladder meadow engine".split()


def talk(number: int, turns: int = 1) -> dict[str, list[dict[str, str]]]:
    def words(k: int) -> str:
        return " ".join(
            WORDS[(number * 7 + k * 3 + i * (number % 5 + 1)) % len(WORDS)] + str((number + i) % 17) for i in range(14)
        )

    messages = []
    for k in range(turns):
        messages += [
            {"role": "user", "content": f"I feel lost about {words(2 * k)}, what can I do?"},
            {"role": "assistant", "content": f"You feel lost about {words(2 * k)}; tell me about {words(2 * k + 1)}."},
        ]
    return {"messages": messages}


def write(path: Path, talks: list[dict[str, list[dict[str, str]]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(t) + "\n" for t in talks), encoding="utf-8")


def build(out: Path, *sources: Path) -> ProcessedDataset:
    return DataPipeline(load_settings().settings, out, embedder=EMBEDDER).process_datasets(sources)


def stories(out: Path) -> dict[str, dict[str, object]]:
    return {story["conversation_id"]: story for story in read_jsonl(out / "provenance.jsonl")}


def said(out: Path, text: str) -> bool:
    return any(text in p.read_text(encoding="utf-8") for p in out.rglob("*.jsonl"))


@pytest.mark.parametrize("change", ["insert", "rename", "second source"])
def test_a_withdrawn_conversation_stays_out(tmp_path: Path, change: str) -> None:
    source, out = tmp_path / "in" / "a.jsonl", tmp_path / "out"
    write(source, [talk(i) for i in range(12)])
    build(out, tmp_path / "in")
    gone = talk(3)["messages"][0]["content"]
    wanted = next(s["conversation_id"] for s in stories(out).values() if s["origin"]["locator"] == "line 4")  # type: ignore[index]
    record_withdrawal(out, plan_withdrawal(out, str(wanted))["entries"])
    sources = [tmp_path / "in"]
    if change == "insert":
        write(source, [talk(50), *(talk(i) for i in range(12))])
    elif change == "rename":
        source.rename(source.with_name("b.jsonl"))
    else:
        write(tmp_path / "more" / "c.jsonl", [talk(60), talk(3)])
        sources.append(tmp_path / "more")
    build(out, *sources)
    assert not said(out, gone) and said(out, talk(4)["messages"][0]["content"])


def test_a_withdrawn_source_takes_its_copies_along(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i) for i in range(12)])
    write(tmp_path / "in" / "copy.jsonl", [talk(2), talk(40), talk(41)])
    out = tmp_path / "out"
    build(out, tmp_path / "in")
    record_withdrawal(out, plan_withdrawal(out, "a.jsonl")["entries"])
    build(out, tmp_path / "in")
    assert not said(out, talk(2)["messages"][0]["content"]) and said(out, talk(40)["messages"][0]["content"])


def test_a_withdrawn_source_stays_out_under_another_name(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i) for i in range(12)])
    write(tmp_path / "in" / "b.jsonl", [talk(40), talk(41)])
    out = tmp_path / "out"
    build(out, tmp_path / "in")
    record_withdrawal(out, plan_withdrawal(out, "a.jsonl")["entries"])
    (tmp_path / "in" / "a.jsonl").rename(tmp_path / "in" / "z.jsonl")
    build(out, tmp_path / "in")
    assert not said(out, talk(2)["messages"][0]["content"]) and said(out, talk(40)["messages"][0]["content"])


def test_a_withdrawal_changes_no_example_that_it_does_not_name(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i, turns=1 + i % 3) for i in range(60)])
    out = tmp_path / "out"
    build(out, tmp_path / "in")
    before = kept_examples(out)
    for wanted in list(stories(out))[:5]:
        plan = plan_withdrawal(out, wanted)
        record_withdrawal(out, plan["entries"])
        build(out, tmp_path / "in")
        after = kept_examples(out)
        assert side_effects(before, after, plan["examples"]) == {"added": [], "moved": [], "gone": []}
        assert before.keys() - after.keys() == {i for ids in plan["examples"].values() for i in ids}
        before = after


def test_what_else_a_withdrawal_changes_is_told() -> None:
    before, after = {"x-1": "train", "x-2": "train", "x-3": "test"}, {"x-2": "test", "x-4": "train"}
    assert side_effects(before, after, {"train": ["x-1"]}) == {"added": ["x-4"], "moved": ["x-2"], "gone": ["x-3"]}


def test_every_run_that_saw_it_is_named(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i) for i in range(12)])
    out, runs = tmp_path / "out", tmp_path / "runs"
    build(out, tmp_path / "in")
    (runs / "first").mkdir(parents=True)
    (runs / "first" / "dataset.json").write_text(json.dumps({"dataset_sha256": Manifest.load(out).data["dataset_sha256"]}))
    for wanted in list(stories(out))[:2]:
        plan = plan_withdrawal(out, wanted)
        record_withdrawal(out, plan["entries"])
        build(out, tmp_path / "in")
        assert runs_made_from(plan["datasets"], runs) == ["first"]


def test_a_build_of_nothing_leaves_the_dataset(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i) for i in range(12)])
    (tmp_path / "nothing").mkdir()
    out = tmp_path / "out"
    build(out, tmp_path / "in")
    before = (out / "train.jsonl").read_bytes()
    with pytest.raises(DataError, match="no conversations found"):
        build(out, tmp_path / "nothing")
    assert before and (out / "train.jsonl").read_bytes() == before


def test_sources_of_which_nothing_can_be_read_leave_the_dataset(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i) for i in range(12)])
    out = tmp_path / "out"
    build(out, tmp_path / "in")
    before = (out / "train.jsonl").read_bytes()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.json").write_text('{"messages": [', encoding="utf-8")
    with pytest.raises(DataError, match=r"none could be read; the first: a.json \(file\) is broken JSON"):
        build(out, tmp_path / "bad")
    assert before and (out / "train.jsonl").read_bytes() == before


def test_an_export_keeps_the_splits(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [talk(i, turns=3) for i in range(80)])
    out, exported = tmp_path / "out", tmp_path / "exported"
    pipeline = DataPipeline(load_settings().settings, out, embedder=EMBEDDER)
    pipeline.export_lora_format(pipeline.process_datasets([tmp_path / "in"]), exported)
    for split in ("train", "validation", "test"):
        ids = [row["id"] for row in read_jsonl(out / f"{split}.jsonl")]
        assert ids and [row["id"] for row in read_jsonl(exported / f"{split}.jsonl")] == ids


def test_a_talk_within_a_longer_one_stays_in_its_split(tmp_path: Path) -> None:
    short = [talk(i) for i in range(80)]
    longer = [{"messages": s["messages"] + talk(i + 200, turns=3)["messages"]} for i, s in enumerate(short)]
    write(tmp_path / "in" / "short.jsonl", short)
    write(tmp_path / "in" / "longer.jsonl", longer)
    out = tmp_path / "out"
    build(out, tmp_path / "in")
    trained = (out / "train.jsonl").read_text(encoding="utf-8")
    held = [row for split in ("validation", "test") for row in read_jsonl(out / f"{split}.jsonl")]
    assert held and not any(row["messages"][-1]["content"] in trained for row in held)
