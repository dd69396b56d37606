"""`TrainingSystem`: it learns, says what it did, goes on after interruptions with the same weights, and refuses clearly."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attunement.errors import DataError, ModelError
from attunement.records import ModelConfig
from attunement.storage.files import read_json, read_jsonl
from attunement.training.data import dataset_of
from attunement.training.loop import Plan
from attunement.training.system import TrainingSystem
from conftest import TINY_MODEL, TINY_TRAINING, write_tiny_dataset


def test_a_run_learns_and_says_what_it_did(tiny_run: Path) -> None:
    rows = list(read_jsonl(tiny_run / "metrics.jsonl"))
    run, config = read_json(tiny_run / "run.json"), read_json(tiny_run / "config.json")
    checked = [row["validation_loss"] for row in rows if row["validation_loss"] is not None]
    assert [row["step"] for row in rows] == list(range(1, 19))
    assert len(checked) == 3 and checked[-1] < checked[0] / 2
    assert run["status"] == "finished" and run["stopped"] == "all steps done" and run["step"] == 18
    assert run["metrics"]["validation_loss"] == pytest.approx(min(checked), abs=1e-4)
    assert config["steps"] == {"total": 18, "warmup": 1, "interval": 6, "per_epoch": 6}
    assert config["trainable_parameters"] < config["parameters"] / 5
    assert (tiny_run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tiny_run / "checkpoints").iterdir()} == {run["best"], run["last"]}


def test_a_finished_run_is_given_back(tiny_run: Path, tiny_dataset: Path) -> None:
    before = (tiny_run / "run.json").stat().st_mtime_ns
    system = TrainingSystem(tiny_run)
    system.initialize_model(TINY_MODEL)
    trained = system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    assert trained.checkpoint.is_dir() and trained.metrics["steps"] == 18
    assert (tiny_run / "run.json").stat().st_mtime_ns == before


def test_other_settings_never_overwrite_a_run(tiny_run: Path, tiny_dataset: Path) -> None:
    system = TrainingSystem(tiny_run)
    system.initialize_model(TINY_MODEL)
    with pytest.raises(DataError, match="other settings or data: choose another --out"):
        system.train(dataset_of(tiny_dataset), replace(TINY_TRAINING, epochs=9))


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest import TINY_MODEL, TINY_TRAINING
from attunement.training.data import dataset_of
from attunement.training.system import TrainingSystem
system = TrainingSystem(Path(sys.argv[2]))
system.initialize_model(TINY_MODEL)
try:
    system.train(dataset_of(Path(sys.argv[1])), TINY_TRAINING)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(dataset: Path, run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(dataset), str(run), str(Path(__file__).parents[1])]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})


def wait_for_steps(run: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    log, deadline = run / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= count):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_ends_with_the_same_weights(
    how: signal.Signals, tiny_run: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(tiny_dataset, run)
    wait_for_steps(run, 8, process)
    process.send_signal(how)
    assert process.wait(60) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    left = read_json(run / "run.json")
    assert left["status"] == ("interrupted" if how == signal.SIGINT else "running") and 6 <= left["step"] < 18
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    trained = system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    whole, again = (
        load_file(r / "checkpoints" / read_json(r / "run.json")["best"] / "adapter.safetensors") for r in (tiny_run, run)
    )
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == list(range(1, 19))
    assert trained.metrics["validation_loss"] == pytest.approx(
        read_json(tiny_run / "run.json")["metrics"]["validation_loss"], rel=1e-3
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-4)


def test_two_trainings_in_one_folder_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    from attunement.storage.files import exclusive

    system = TrainingSystem(tmp_path / "run")
    system.initialize_model(TINY_MODEL)
    with exclusive(tmp_path / "run" / ".lock", "taken"), pytest.raises(DataError, match="another training runs"):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)


def test_time_and_patience_end_a_run(tiny_dataset: Path, tmp_path: Path) -> None:
    for name, changes, words in (
        ("time", {"max_duration_hours": 1e-9}, "the training window is over"),
        (
            "patience",
            {"learning_rate": 1e-12, "early_stopping_patience": 1, "epochs": 4, "checkpoint_interval": 1},
            "no improvement in 1",
        ),
    ):
        system = TrainingSystem(tmp_path / name)
        system.initialize_model(replace(TINY_MODEL, dropout=0.0))
        trained = system.train(dataset_of(tiny_dataset), replace(TINY_TRAINING, **changes))
        run = read_json(tmp_path / name / "run.json")
        assert words in run["stopped"] and run["step"] < 24
        assert trained.checkpoint.is_dir()


def test_a_loss_that_is_no_number_is_told(tiny_dataset: Path, tmp_path: Path) -> None:
    system = TrainingSystem(tmp_path / "run")
    model = system.initialize_model(TINY_MODEL)
    with torch.no_grad():
        model.trainable_parameters()[0].fill_(math.nan)
    with pytest.raises(ModelError, match=r"lower training\.learning_rate"):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)


def test_an_empty_dataset_is_told(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("")
    system = TrainingSystem(tmp_path / "run")
    system.initialize_model(TINY_MODEL)
    with pytest.raises(DataError, match="has no examples"):
        system.train(dataset_of(tmp_path), TINY_TRAINING)


def test_without_validation_data_a_run_says_so_and_ends_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, run = write_tiny_dataset(tmp_path / "dataset", train=16), tmp_path / "run"
    (dataset / "validation.jsonl").write_text("")
    labels: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.legend", lambda axes, **_: labels.extend(axes.get_legend_handles_labels()[1]))
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    patience = replace(TINY_TRAINING, early_stopping_patience=1, checkpoint_interval=1)
    trained = system.train(dataset_of(dataset), patience)
    told = [record.getMessage() for record in caplog.records if record.name == "attunement.training"]
    assert len(told) == 1 and told[0].startswith(f"no validation data: {dataset / 'validation.jsonl'} is empty")
    assert "no early stopping" in told[0] and "data.validation_share" in told[0]
    rows, state = list(read_jsonl(run / "metrics.jsonl")), read_json(run / "run.json")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {row["validation_loss"] for row in rows} == {row["perplexity"] for row in rows} == {None}
    assert state["stopped"] == "all steps done" and state["best"] == state["last"] == trained.checkpoint.name
    assert trained.checkpoint.is_dir() and not {"validation_loss", "validation_perplexity"} & set(trained.metrics)
    assert labels == ["training, mean of 1 steps"]


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    dataset, run = write_tiny_dataset(tmp_path / "dataset"), tmp_path / "runs" / "first"
    (dataset / "train.jsonl").write_text("")
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    with pytest.raises(DataError, match="has no examples"):
        system.train(dataset_of(dataset), TINY_TRAINING)
    assert not (tmp_path / "runs").exists()


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be 'moe'"):
        TrainingSystem(tmp_path).initialize_model(ModelConfig(architecture="dense"))


def test_a_checkpoint_outside_training(tmp_path: Path) -> None:
    system = TrainingSystem(tmp_path / "run")
    model = system.initialize_model(TINY_MODEL)
    folder = system.save_checkpoint(model, 2)
    assert folder == tmp_path / "run" / "checkpoints" / "epoch-002"
    assert {p.name for p in folder.iterdir()} == {"adapter.safetensors", "moe.json"}


def test_a_damaged_state_is_told(tiny_run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    state = read_json(run / "run.json")
    (run / "run.json").write_text(json.dumps({**state, "status": "interrupted"}))
    (run / "checkpoints" / state["last"] / "state.json").write_text("{")
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    with pytest.raises(DataError, match=r"state\.json is not valid JSON"):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)


def test_the_plan_of_short_and_long_runs() -> None:
    short = Plan.of(replace(TINY_TRAINING, epochs=2, max_steps=0), 10)
    assert (short.total, short.warmup, short.interval) == (20, 2, 10)
    long = Plan.of(replace(TINY_TRAINING, epochs=100, warmup_steps=1000, checkpoint_interval=1000), 5000)
    assert (long.total, long.warmup, long.interval) == (500_000, 1000, 1000)
    assert Plan.of(replace(TINY_TRAINING, max_steps=3), 10).total == 3
    assert short.rate(0) == 0.5 and short.rate(1) == 1.0 and short.rate(20) == pytest.approx(0.1)
    assert all(short.rate(i) >= short.rate(i + 1) for i in range(2, 19))
