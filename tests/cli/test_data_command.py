"""`attune data` as a user runs it: output, JSON, exit codes, one-line errors."""

from __future__ import annotations

import io
import json
import sys
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app, main
from attunement.storage.files import read_json, read_jsonl

SAMPLES = Path(str(resources.files("attunement"))) / "samples" / "conversations"
RUNNER = CliRunner()
FAST = (
    "--set", "embedding.max_tokens=64", "--set", "data.min_coherence=0", "--set", "data.review=off"
)  # fmt: skip


def attune(*arguments: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "dataset"
    told = attune("data", "build", str(SAMPLES), "--out", str(out), *FAST)
    assert "126 in, 124 kept, 1 left out, 1 failed" in told and "quality_report.html" in told
    assert "broken/truncated.json" in told
    return out


def test_build_for_programs_and_strictly(dataset: Path) -> None:
    answer = json.loads(attune("data", "build", str(SAMPLES), "--out", str(dataset), *FAST, "--json"))
    assert answer["conversations"]["in"] == 126 and set(answer) >= {"pairs", "splits", "processing_success_rate"}
    attune("data", "build", str(SAMPLES), "--out", str(dataset), *FAST, "--strict", code=4)


def test_licences(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.csv").write_bytes((SAMPLES / "letters.csv").read_bytes())
    result = RUNNER.invoke(
        app, ["data", "build", str(tmp_path / "letters.csv"), "--out", str(tmp_path / "out"), "--licence-allow", "R", "--json"]
    )
    assert json.loads(result.stdout)["conversations"]["rejected_by_reason"] == {"licence_not_allowed": 24}


def test_trace(dataset: Path) -> None:
    row = next(iter(read_jsonl(dataset / "train.jsonl")))
    told = attune("data", "trace", row["id"], "--out", str(dataset))
    assert "kept, split train" in told and "Apache-2.0" in told and row["messages"][-1]["content"].split("\n")[0][:40] in told
    assert json.loads(attune("data", "trace", row["conversation_id"], "--out", str(dataset), "--json"))["outcome"] == "kept"
    left = next(r for r in read_jsonl(dataset / "rejected.jsonl") if r["kind"] == "conversation")
    assert "left out at step select: near_duplicate of c-" in attune("data", "trace", left["id"], "--out", str(dataset))


def test_withdraw(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letters.csv").write_bytes((SAMPLES / "letters.csv").read_bytes())
    attune("data", "build", str(tmp_path / "in"), "--out", str(out))
    row = next(iter(read_jsonl(out / "train.jsonl")))
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs/one/dataset.json").write_text(
        json.dumps({"dataset_sha256": read_json(out / "manifest.json")["dataset_sha256"]})
    )
    told = attune("data", "withdraw", row["conversation_id"], "--out", str(out), "--runs", str(tmp_path / "runs"))
    assert row["conversation_id"] in told and "1 examples left train" in told and "one (train them again)" in told
    answer = json.loads(attune("data", "withdraw", "letters", "--out", str(out), "--json"))
    assert answer["withdrawn"] == ["letters"]


def test_withdrawing_everything_leaves_an_empty_dataset(tmp_path: Path) -> None:
    out = tmp_path / "out"
    attune("data", "build", str(SAMPLES / "letters.csv"), "--out", str(out))
    attune("data", "withdraw", "samples", "--out", str(out))
    assert all((out / f"{split}.jsonl").read_text() == "" for split in ("train", "validation", "test"))
    assert not any("letters" in p.read_text(encoding="utf-8") for p in (out / "work").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "build", "nowhere", "--out", "out"], "nowhere does not exist: give files or folders"),
        (["data", "build", ".", "--out", "out", "--preset", "other"], "they are 'full' and 'pixelated'"),
        (["data", "build", ".", "--out", "out"], "no conversations found in ."),
        (["data", "trace", "x-0", "--out", "out"], "holds no dataset: build one first"),
        (["data", "withdraw", "x", "--out", "nowhere"], "holds no dataset: build one first"),
        (["data", "fetch", "counselcat"], "did you mean 'counselchat'"),
        (["data", "fetch", "counselchat"], "add --accept-licence"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attune", *arguments])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert stop.value.code == 3 and words in error
    assert [line for line in error.splitlines() if line.startswith("error: ")] == [error.splitlines()[-1]]
