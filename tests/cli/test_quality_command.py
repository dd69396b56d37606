"""`attune quality` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.quality import own_sets
from attunement.quality.judges import JUDGES

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def attune(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_the_list_tells_figures_data_and_licences() -> None:
    rows = json.loads(attune("quality", "list", "--json"))
    assert [row["judge"] for row in rows] == list(JUDGES)
    told = attune("quality", "list")
    assert all(name in told for name in JUDGES)


def test_train_then_score_with_the_own_weights(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = own_sets.written_empathy("exploration")[::3]
    monkeypatch.setattr(own_sets, "written_empathy", lambda _: some)
    (tmp_path / "sets").mkdir()
    told = attune("quality", "train", "exploration", "--data", tmp_path / "sets")
    assert f"{len(some)} examples" in told and "without epitome" in told and (home / "judges" / "exploration.npz").is_file()
    (row,) = [r for r in json.loads(attune("quality", "list", "--json")) if r["judge"] == "exploration"]
    assert row["weights"] == "home" and row["data"] == {"written/empathy": "R"}
    assert "written/empathy (R)" in attune("quality", "list") and "macro f1" in attune("quality", "list")
    (tmp_path / "in.jsonl").write_text(
        json.dumps({"text": "What happened then?", "context": "I lost it."}) + "\n{\n", encoding="utf-8"
    )
    attune("quality", "score", "exploration", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", code=4)
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert first["label"] in ("1", "2") and second == {"error": "is not valid JSON"}
