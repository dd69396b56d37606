"""`attune config` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli import main as entry
from attunement.cli.main import app
from attunement.config import fields

runner = CliRunner()
ROOT = Path(__file__).resolve().parents[2]


def test_show_tells_value_and_origin_of_every_setting(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[model]\nlora_rank = 3\n")
    result = runner.invoke(app, ["config", "show", "--json", "--recipe", str(path), "--set", "training.seed=4"])
    rows = json.loads(result.stdout)
    assert rows.keys() == {key for key, _ in fields()}
    assert rows["model.lora_rank"] == {"value": 3, "origin": f"recipe {path}"}
    assert rows["training.seed"] == {"value": 4, "origin": "--set"}
    assert rows["home"]["origin"] == "environment"
    assert rows["serving.port"] == {"value": 8000, "origin": "default"}


def test_show_is_a_table_for_people() -> None:
    result = runner.invoke(app, ["config", "show", "--set", "training.seed=4"])
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["training.seed", "4", "--set"] in lines
    assert ["serving.port", "8000", "default"] in lines


def test_docs_is_the_file_in_docs() -> None:
    result = runner.invoke(app, ["config", "docs"])
    assert result.stdout == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_a_wrong_setting_is_one_line_and_exit_code_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["attune", "config", "show", "--set", "modle.base=x"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 3
    told = capsys.readouterr().err
    assert "did you mean 'model.base'" in told
    assert "Traceback" not in told


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["attune", "--debug", "config", "show", "--set", "modle.base=x"])
    with pytest.raises(entry.UserError):
        entry.main()


def test_the_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout.startswith("attune 0.")
