"""Which checkpoint a path means, and advice that works where there is none."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import ModelError
from attunement.model.checkpoint import find_checkpoint
from attunement.storage.files import read_json, write_json


def test_a_run_leads_to_its_best_checkpoint(tiny_run: Path) -> None:
    best = tiny_run / "checkpoints" / read_json(tiny_run / "run.json")["best"]
    assert find_checkpoint(tiny_run) == find_checkpoint(best) == best


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="holds neither a checkpoint"):
        find_checkpoint(tmp_path)


def test_the_advice_for_a_run_without_checkpoint_works(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called from another folder than the run's, and with a space in its path."""
    run = tmp_path / "my runs" / "first"
    shutil.copytree(tiny_run, run)
    shutil.rmtree(run / "checkpoints")
    state = read_json(run / "run.json")
    write_json(run / "run.json", {**state, "status": "running", "step": 0, "best": "", "last": "", "metrics": {}})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        find_checkpoint(Path("my runs/first"))
    advice = str(caught.value).split("go on with  attune ")[1]
    result = CliRunner().invoke(app, shlex.split(advice))
    assert result.exit_code == 0, result.output
    assert find_checkpoint(Path("my runs/first")).is_dir()
