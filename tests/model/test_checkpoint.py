"""Which checkpoint a path means, and advice that works where there is none."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import ConfigError, ModelError
from attunement.model.checkpoint import ADAPTER, find_checkpoint, read_description
from attunement.model.moe_lora import load_adapter_file, load_moe
from attunement.model.sparse_export import plan_export
from attunement.security.age_files import IDENTITY_VARIABLE, new_identity
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


def test_an_encrypted_adapter_loads_as_the_plain_one(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipient = new_identity(tmp_path / "age.key")
    monkeypatch.delenv(IDENTITY_VARIABLE, raising=False)
    out = ["--out", str(tmp_path / "sealed"), "--encrypt-to", recipient]
    assert CliRunner().invoke(app, ["export", "--run", str(tiny_run), *out, "--format", "hf-moe"]).exception is not None
    result = CliRunner().invoke(app, ["export", "--run", str(tiny_run), *out, "--format", "adapter"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sealed" / ADAPTER).read_bytes().startswith(b"age-encryption.org/v1")
    with pytest.raises(ConfigError, match="is encrypted: say where"):
        load_moe(tmp_path / "sealed", "cpu")
    monkeypatch.setenv(IDENTITY_VARIABLE, str(tmp_path / "age.key"))
    read_description(tmp_path / "sealed")
    plain, sealed = load_adapter_file(find_checkpoint(tiny_run)), load_adapter_file(tmp_path / "sealed")
    assert plain.keys() == sealed.keys() and all(plain[name].equal(sealed[name]) for name in plain)
    with pytest.raises(ModelError, match="is encrypted: export the run"):
        plan_export(tmp_path / "sealed")
