"""`attune data build --preset full`: what lacks is made, the balance holds in training and over all, and all of it can be traced."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import attunement
from attunement.cli.main import app
from attunement.config import load_settings
from attunement.curation.export import example_row, pair_of_row
from attunement.curation.pipeline import DataPipeline
from attunement.errors import ConfigError, DataError
from attunement.records import SHARES
from attunement.sources.full_parts import FullParts
from attunement.sources.full_sizes import WRITTEN, sizes
from attunement.sources.knowledge.share import SYSTEM, licence_class
from attunement.storage.files import file_hash, read_json, read_jsonl

SAMPLES = Path(attunement.__file__).parent / "samples" / "conversations"
TARGET = dict(zip(SHARES, (0.30, 0.25, 0.20, 0.15, 0.10), strict=True))
SMALL = ("full.edge_cases=25", "full.personas=12", "full.questions=40", "data.release_unreviewed=true", "data.min_coherence=0")
"""Enough for every share to be there; what waits for review is let in, as hardly a dialogue would be left otherwise."""


def given(folder: Path, *, voice: bool = True) -> Path:
    """Some of the packaged samples, the transcripts among them as recorded talk: there are too few talks."""
    left_out = ("broken", "clinic_chat*", "peer_support*", "skills*", *(() if voice else ("talks",)))
    shutil.copytree(SAMPLES, folder, ignore=shutil.ignore_patterns(*left_out))
    if voice:
        told = (folder / "source.toml").read_text(encoding="utf-8")
        (folder / "source.toml").write_text(told + '\n[[files]]\nmatch = "transcripts/*"\nshare = "voice"\n', encoding="utf-8")
    return folder


def build(source: Path, out: Path, *overrides: str, home: Path) -> dict[str, Any]:
    settings = load_settings(overrides=("data.balance=enforce", f"home={home}", *SMALL, *overrides)).settings
    pipeline = DataPipeline(settings, out, preset="full")
    pipeline.parts = FullParts(settings, pipeline.judges)
    pipeline.process_datasets([source])
    report: dict[str, Any] = read_json(out / "quality_report.json")
    return report


def bytes_of(out: Path) -> dict[str, str]:
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and "work" not in p.relative_to(out).parts]
    return {p.relative_to(out).as_posix(): file_hash(p) for p in files if p.name != "manifest.json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    build(given(folder / "given"), folder / "out", home=folder / "home")
    return folder


def examples(out: Path, *splits: str) -> list[dict[str, Any]]:
    return [row for split in splits for row in read_jsonl(out / f"{split}.jsonl")]


def test_the_balance_holds_in_training_and_over_all(place: Path) -> None:
    out, told = place / "out", read_json(place / "out" / "quality_report.json")["balance"]
    assert told["met"] and not told["missing"]
    for splits, key in ((("train",), "train_share"), (("train", "validation", "test"), "share")):
        rows = examples(out, *splits)
        counts = Counter(row["share"] for row in rows)
        for share in SHARES:
            assert abs(counts[share] / len(rows) - TARGET[share]) <= 0.01, (splits, counts)
            assert told["shares"][share][key] == pytest.approx(counts[share] / len(rows), abs=1e-4)
    limits = told["shares"][told["limits"]]
    assert limits["available"] / limits["target"] == min(row["available"] / row["target"] for row in told["shares"].values())
    assert any(note.startswith(f"{told['limits']} limits the size") and "For more, " in note for note in told["notes"])
    pairs = read_json(out / "quality_report.json")["pairs"]
    assert pairs["rejected_by_reason"]["over_share"] == sum(row["left_out"] for row in told["shares"].values())
    page = (out / "quality_report.html").read_text(encoding="utf-8")
    assert "(limits the size)" in page and "The balance is met" in page and "Made for edge case: 25 conversations" in page


def test_who_asks_about_a_concept_is_told(place: Path) -> None:
    """A trainee: without it a model would learn to speak to clients like a textbook."""
    rows = examples(place / "out", "train")
    for row in rows:
        first = row["messages"][0]
        assert (first == {"role": "system", "content": SYSTEM}) == (row["share"] == "knowledge")
        again = example_row(pair_of_row(row, "train"))
        assert again["messages"] == row["messages"]


def test_what_was_made_is_traced_to_its_beats_and_concepts(place: Path) -> None:
    wanted = {"edge_case": "beats", "dual_persona": "course", "knowledge": "concept_ids"}
    for share, key in wanted.items():
        row = next(row for row in examples(place / "out", "train") if row["share"] == share)
        told = CliRunner().invoke(app, ["data", "trace", row["id"], "--out", str(place / "out"), "--json"])
        story = json.loads(told.stdout)
        assert story["made_of"][key] and story["origin"]["locator"] and "sources/" in story["origin"]["file"]
        shown = CliRunner().invoke(app, ["data", "trace", row["id"], "--out", str(place / "out")]).stdout
        assert f"{key} " in shown and str(story["made_of"][key])[:20] in shown
    assert {r["licence"] for r in examples(place / "out", "train") if r["share"] == "knowledge"} == {"Apache-2.0"}
    card = (place / "out" / "dataset_card.md").read_text(encoding="utf-8")
    assert "Apache-2.0, written for Attunement" in card and "attunement-knowledge-apache-2.0" in card
    assert "made for this set" in card and "no clinician has seen them" in card


def test_the_same_again_makes_nothing_and_an_interruption_changes_no_byte(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = FullParts._make

    def counted(self: FullParts, share: str, *rest: Any) -> dict[str, Any]:
        made.append(share)
        if len(made) == 2 and not (tmp_path / "out" / "train.jsonl").exists():
            raise KeyboardInterrupt  # in the middle of the second part
        return real(self, share, *rest)

    monkeypatch.setattr(FullParts, "_make", counted)
    before = bytes_of(place / "out")
    build(place / "given", place / "out", home=place / "home")
    assert made == [] and bytes_of(place / "out") == before
    with pytest.raises(KeyboardInterrupt):
        build(place / "given", tmp_path / "out", home=place / "home")
    assert made == ["edge_case", "dual_persona"]
    build(place / "given", tmp_path / "out", home=place / "home")
    assert made[2:] == ["dual_persona", "knowledge"]  # the part that stood is not made again
    assert bytes_of(tmp_path / "out") == before
    (tmp_path / "out" / "sources" / "knowledge" / "Apache-2.0" / "knowledge.jsonl").unlink()
    build(place / "given", tmp_path / "out", home=place / "home")
    assert made[4:] == ["knowledge"] and bytes_of(tmp_path / "out") == before


def test_a_missing_share_is_told_and_strict_fails(tmp_path: Path) -> None:
    talks = given(tmp_path / "given", voice=False)
    command = ["data", "build", str(talks), "--preset", "full", "--out", str(tmp_path / "out"), "--set", f"home={tmp_path}/home"]
    for override in SMALL:
        command += ["--set", override]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert (
        "not met: there are no voice examples: the mixture is 37.5 % standard, 31.3 % edge_case, 18.8 % knowledge" in done.stdout
    )
    assert 'share = "voice" in its source.toml' in done.stdout and "wait for review" in done.stdout
    assert CliRunner().invoke(app, [*command, "--strict"]).exit_code == 4
    rows = examples(tmp_path / "out", "train", "validation", "test")
    assert Counter(row["share"] for row in rows)["edge_case"] / len(rows) == pytest.approx(0.3125, abs=0.01)


def test_withdrawing_keeps_the_parts(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(place / "out", tmp_path / "out")
    monkeypatch.setenv("ATTUNE_HOME", str(place / "home"))
    row = next(row for row in examples(tmp_path / "out", "train") if row["share"] == "edge_case")
    done = CliRunner().invoke(app, ["data", "withdraw", row["conversation_id"], "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    rows = examples(tmp_path / "out", "train", "validation", "test")
    assert row["id"] not in {r["id"] for r in rows} and {r["share"] for r in rows} == set(SHARES)


def test_what_waits_for_review_stays_out(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "out", tmp_path / "out")
    told = build(place / "given", tmp_path / "out", "data.release_unreviewed=false", home=place / "home")
    waits = {share: row["waits_for_review"] for share, row in told["balance"]["shares"].items()}
    assert waits["edge_case"] > 50 and waits["dual_persona"] > 20
    assert sum(waits.values()) == told["pairs"]["rejected_by_reason"]["held_for_review"]
    assert any(f"{sum(waits.values()):,} pairs wait for clinical review" in note for note in told["balance"]["notes"])


def test_the_sizes_follow_the_scarcest_share() -> None:
    settings = load_settings().settings
    small = sizes({"standard": 600, "voice": 200}, settings, questions=5000)
    assert small["edge_case"].conversations == 50 and "1,000 examples are what voice allows in all: 250" in small["edge_case"].why
    assert (small["dual_persona"].conversations, small["knowledge"].conversations) == (30, 200)
    vast = sizes({"standard": 10**6, "voice": 10**6}, settings, questions=5000)
    assert vast["dual_persona"].conversations == WRITTEN["dual_persona"][-1][0] and "dual_persona allows" in vast["knowledge"].why
    assert vast["edge_case"].conversations < WRITTEN["edge_case"][-1][0]
    enough = sizes({"standard": 600, "voice": 200, "edge_case": 900}, settings, questions=5000)
    assert enough["edge_case"].conversations == 0 and "900 of edge_case are given" in enough["edge_case"].why
    wished = sizes({"standard": 600}, load_settings(overrides=("full.edge_cases=7", "full.questions=0")).settings, questions=5000)
    assert (wished["edge_case"].conversations, wished["edge_case"].why, wished["knowledge"].conversations) == (7, "as set", 0)


@pytest.fixture
def concepts(tmp_path: Path) -> Path:
    def row(label: str, what: str, licence: str) -> dict[str, str]:
        told = f"{label} is a technique of psychotherapy in which the therapist helps the client to {what} while an emotion is strong."
        return {"concept_id": f"own:{label.split()[0].casefold()}", "label": label, "category": "therapeutic_technique",
                "content": told, "source": "own", "licence": licence}  # fmt: skip

    rows = [
        row("Slow answering", "wait before a reply to a partner", "CC-BY-4.0"),
        row("Worry hour", "put a worry off until a fixed time of the day", "CC-BY-SA-3.0"),
        row("Grief letter", "write an unsent letter about grief and guilt to somebody who died", "our own, not to be passed on"),
    ]
    path = tmp_path / "concepts" / "ours.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("allowed", "found"), [("[]", {"R", "SA", "N"}), ('["R"]', {"R"})])
def test_a_named_knowledge_folder_is_asked_about_by_its_licences(
    tmp_path: Path, concepts: Path, allowed: str, found: set[str]
) -> None:
    overrides = (f"full.knowledge={concepts.parent}", f"data.licence_allow={allowed}", f"home={tmp_path / 'home'}")
    settings = load_settings(overrides=(*overrides, "full.edge_cases=0", "full.personas=0", "full.questions=8")).settings
    FullParts(settings)({"standard": 100}, tmp_path / "parts")
    rows = {p.parent.name: list(read_jsonl(p)) for p in (tmp_path / "parts" / "knowledge").rglob("*.jsonl")}
    assert {licence_class(name.replace("-and-", " AND ")) for name in rows} == found
    assert sum(map(len, rows.values())) == 8 and any(r["subject"].startswith("own:") for r in rows["CC-BY-4.0"])
    told = read_json(tmp_path / "parts" / ".parts.json")
    assert told["edge_case"]["facts"]["conversations"] == 0 and told["knowledge"]["facts"]["conversations"] == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("full.knowledge=nowhere", "nowhere does not exist"),
        ("full.knowledge=empty", "empty holds no file of a format that is read"),
        ("full.provider=openai", "the provider 'openai' needs the name of a model"),
        ("full.provider=nobody", "the provider 'nobody' needs the name of a model"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_read(
    tmp_path: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["data", "build", "empty", "--preset", "full", "--out", "out", "--set", override])
    assert isinstance(done.exception, ConfigError | DataError) and message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_nothing_given_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no conversations found in"):
        build(tmp_path / "empty", tmp_path / "out", home=tmp_path / "home")
    assert list((tmp_path / "out" / "sources").iterdir()) == []
