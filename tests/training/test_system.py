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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from attunement.errors import DataError, ModelError
from attunement.model.moe_lora import MoEModel
from attunement.records import ModelConfig
from attunement.storage.files import read_json, read_jsonl
from attunement.training.checkpoints import Checkpoints
from attunement.training.data import dataset_of
from attunement.training.loop import Plan
from attunement.training.recovery import Divergence, Events, LossGuard
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
    kept = {path.name for path in (tiny_run / "checkpoints").iterdir()}
    assert kept >= {run["best"], run["last"]} and len(kept) <= 3
    mixture, routing = read_json(tiny_run / "mixture.json"), read_json(tiny_run / "routing.json")
    assert mixture[""]["most_often"] == 3 and mixture[""]["never_seen"] == 0
    assert [len(layer) for layer in routing["no domain"]] == [4] * 6
    assert (tiny_run / "routing.png").read_bytes().startswith(b"\x89PNG")
    card = (tiny_run / "model_card.md").read_text(encoding="utf-8")
    assert "Mixture of 4 experts, top 2" in card
    assert f"| dataset | {read_json(tiny_run / 'dataset.json')['dataset_sha256']} |" in card and "validation perplexity" in card
    assert not (tiny_run / "events.jsonl").exists()
    assert {"router_balance", "router_z", "router_domain", "gradient_norm"} <= set(rows[0])


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
system.train(dataset_of(Path(sys.argv[1])), TINY_TRAINING)
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
def test_a_killed_run_ends_with_the_same_weights(tiny_run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(tiny_dataset, run)
    wait_for_steps(run, 8, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    left = read_json(run / "run.json")
    assert left["status"] == "running" and 6 <= left["step"] < 18
    goes_on_to_the_same_weights(run, tiny_run, tiny_dataset)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_the_same_weights(
    number: signal.Signals, tiny_run: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real signal, in the ninth step (two micro-batches each): it is finished and kept, then the call ends."""
    run = tmp_path / "run"
    system = TrainingSystem(run)

    def interrupt(call: int) -> None:
        if call == 17:
            os.kill(os.getpid(), number)

    failing(system.initialize_model(TINY_MODEL), interrupt, monkeypatch)
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    left = read_json(run / "run.json")
    assert (left["status"], left["step"]) == ("interrupted", 9) and signal.getsignal(number) is handler
    assert events_of(run) == [("interrupted", 9)]
    goes_on_to_the_same_weights(run, tiny_run, tiny_dataset)


def goes_on_to_the_same_weights(run: Path, tiny_run: Path, tiny_dataset: Path) -> None:
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    trained = system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    whole, again = (
        load_file(r / "checkpoints" / read_json(r / "run.json")["best"] / "adapter.safetensors") for r in (tiny_run, run)
    )
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == list(range(1, 19))
    assert trained.metrics["validation_loss"] == read_json(tiny_run / "run.json")["metrics"]["validation_loss"]
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    losses = ([row["loss"] for row in read_jsonl(r / "metrics.jsonl")] for r in (tiny_run, run))
    assert next(losses) == next(losses)


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


def failing(model: MoEModel, error: Callable[[int], BaseException | None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes the model's forward pass raise what `error` gives for the number of the call; counts training calls."""
    real, calls = model.forward, [0]

    def forward(*arguments: Any, **options: Any) -> Any:
        if model.training:
            calls[0] += 1
            if problem := error(calls[0]):
                raise problem
        return real(*arguments, **options)

    monkeypatch.setattr(model, "forward", forward)
    return calls


def events_of(run: Path) -> list[tuple[str, int]]:
    return [(row["kind"], row["step"]) for row in read_jsonl(run / "events.jsonl")]


def test_memory_that_never_suffices_is_told(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = TrainingSystem(tmp_path / "run")
    failing(system.initialize_model(TINY_MODEL), lambda _: MemoryError(), monkeypatch)
    with pytest.raises(ModelError, match="used up by a single example"):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    assert [kind for kind, _ in events_of(tmp_path / "run")] == ["out_of_memory", "out_of_memory"]


def test_another_error_is_not_taken_for_one(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = TrainingSystem(tmp_path / "run")
    failing(system.initialize_model(TINY_MODEL), lambda _: RuntimeError("shapes differ"), monkeypatch)
    with pytest.raises(RuntimeError, match="shapes differ"):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)


def test_divergence_goes_back_to_the_checkpoint_with_half_the_rate(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = TrainingSystem(tmp_path / "run")
    model = system.initialize_model(TINY_MODEL)
    real, calls, took = model.forward, [0], list[float]()

    def forward(*arguments: Any, **options: Any) -> Any:
        started = time.monotonic()
        out = real(*arguments, **options)
        took.append(time.monotonic() - started if model.training else 0.0)
        calls[0] += model.training
        return replace(out, language_loss=out.language_loss * math.nan) if model.training and calls[0] == 17 else out

    monkeypatch.setattr(model, "forward", forward)
    system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    run, rows = read_json(tmp_path / "run" / "run.json"), list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert events_of(tmp_path / "run") == [("divergence", 8)] and run["adjusted"]["rate_factor"] == 0.5
    assert run["metrics"]["seconds"] >= sum(took) - 0.5  # what was in vain counts for the window
    assert [row["step"] for row in rows] == list(range(1, 19)) and run["status"] == "finished"
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert rows[5]["learning_rate"] > 1.9 * rows[6]["learning_rate"]
    assert all(torch.isfinite(tensor).all() for tensor in model.adapter_state().values())


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the package catches it."""


def test_a_second_divergence_forgets_the_unstable_checkpoint_and_a_kill_then_forgets_nothing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice after the checkpoint of step 12: that of step 6 is taken. Killed before the next checkpoint, the run finds no newer one,
    and `run.json` has rate and retries and names what is there."""
    run = tmp_path / "run"
    system = TrainingSystem(run)
    model = system.initialize_model(TINY_MODEL)
    real, calls = model.forward, [0]

    def forward(*arguments: Any, **options: Any) -> Any:
        out = real(*arguments, **options)
        calls[0] += model.training
        if model.training and calls[0] == 31:
            raise Killed
        return replace(out, language_loss=out.language_loss * math.nan) if model.training and calls[0] in (27, 29) else out

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(Killed):
        system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    events = list(read_jsonl(run / "events.jsonl"))
    assert [row["checkpoint"].rpartition("-")[2] for row in events] == ["000012", "000006"]
    assert [path.name.rpartition("-")[2] for path in (run / "checkpoints").iterdir()] == ["000006"]
    state = read_json(run / "run.json")
    assert state["status"] == "running" and state["step"] == 6
    assert state["adjusted"] == {"micro_batch_size": 0, "rate_factor": 0.25, "extra_hours": 0.0, "retries": 2}
    assert {state["best"], state["last"]} == {path.name for path in (run / "checkpoints").iterdir()}
    again = TrainingSystem(run)
    again.initialize_model(TINY_MODEL)
    assert again.train(dataset_of(tiny_dataset), TINY_TRAINING).checkpoint.is_dir()
    rows = list(read_jsonl(run / "metrics.jsonl"))
    assert [row["step"] for row in rows] == list(range(1, 19))
    assert rows[6]["learning_rate"] < 0.26 * rows[5]["learning_rate"]


def test_what_a_run_may_go_back_to_keeps_its_best(tmp_path: Path) -> None:
    """The newest is the best now, the one before it stood when an older one was: that must not be gone after going back."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", Events(tmp_path))
    names = [f"epoch-001-step-{step:06d}" for step in (1, 2, 3, 4)]
    for name, best in zip(names, (0, 1, 1, 3), strict=True):
        (checkpoints.folder / name).mkdir(parents=True)
        (checkpoints.folder / name / "state.json").write_text(json.dumps({"best": names[best]}))
    checkpoints.prune(names[3])
    assert checkpoints.names() == [names[3], names[2], names[1]]
    (checkpoints.folder / names[2] / "state.json").write_text("{torn")
    checkpoints.prune(names[3])
    assert checkpoints.names() == [names[3], names[2]]


def test_a_rate_far_too_high_ends_with_advice(tiny_dataset: Path, tmp_path: Path) -> None:
    """Really divergent: nothing is patched. No weight becomes NaN, the retries are bounded, the book tells them."""
    system = TrainingSystem(tmp_path / "run")
    system.initialize_model(TINY_MODEL)
    with pytest.raises(ModelError, match=r"failed 2 times.*lower training\.learning_rate"):
        system.train(dataset_of(tiny_dataset), replace(TINY_TRAINING, learning_rate=1e6, max_retries=1, warmup_steps=0))
    assert [kind for kind, _ in events_of(tmp_path / "run") if kind == "divergence"] == ["divergence"]


def test_one_odd_loss_is_left_out_and_many_are_a_divergence() -> None:
    guard = LossGuard()
    assert all(guard.allows(2.0 + 0.01 * (i % 5), 1.0) for i in range(20))
    assert not guard.allows(9.0, 1.0) and guard.allows(2.0, 1.0) and not guard.allows(8.0, 1.0)
    again = LossGuard()
    again.restore(guard.state())
    for each in (guard, again):
        with pytest.raises(Divergence, match="3 of the last 8 losses"):
            each.allows(8.0, 1.0)
    with pytest.raises(Divergence, match="gradient norm inf"):
        LossGuard().allows(1.0, math.inf)


def test_a_window_that_is_over_can_be_extended(tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for extended in (False, True):
        system = TrainingSystem(run)
        if extended:
            system.extend(2.0)
        system.initialize_model(TINY_MODEL)
        system.train(dataset_of(tiny_dataset), replace(TINY_TRAINING, max_steps=7, max_duration_hours=1e-9))
        state = read_json(run / "run.json")
        assert (state["step"], state["stopped"]) == ((7, "all steps done") if extended else (1, "the training window is over"))
    assert events_of(run) == [("window", 1)]
    with pytest.raises(DataError, match=r"another reason than time \(all steps done\)"):
        TrainingSystem(run).extend(1.0)


def test_a_run_that_patience_ended_gets_no_more_time(tiny_dataset: Path, tmp_path: Path) -> None:
    system = TrainingSystem(tmp_path / "run")
    system.initialize_model(replace(TINY_MODEL, dropout=0.0))
    impatient = replace(TINY_TRAINING, learning_rate=1e-12, early_stopping_patience=1, epochs=4, checkpoint_interval=1)
    system.train(dataset_of(tiny_dataset), impatient)
    with pytest.raises(DataError, match=r"than time \(no improvement in 1 validations\): .*early_stopping_patience"):
        TrainingSystem(tmp_path / "run").extend(1.0)


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


@pytest.mark.parametrize("file", ["state.json", "adapter.safetensors", "state.safetensors", "checksums.json"])
def test_a_torn_checkpoint_is_passed_over(file: str, tiny_run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    state = read_json(run / "run.json")
    (run / "run.json").write_text(json.dumps({**state, "status": "interrupted"}))
    torn = run / "checkpoints" / state["last"] / file
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    trained = system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    assert events_of(run)[0][0] == "damaged_checkpoint"
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == list(range(1, 19))
    whole, again = (
        load_file(path / "adapter.safetensors") for path in (tiny_run / "checkpoints" / state["best"], trained.checkpoint)
    )
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_the_plan_is_told_beside_what_was_asked_for() -> None:
    config = replace(TINY_TRAINING, batch_size=32, epochs=3)
    assert Plan.of(config, 250).told(config) == (
        "750 steps (250 an epoch), warm-up 75 (at most 1,000), a checkpoint every 250 (at most 1,000), at most 12 hours"
    )


def test_the_plan_of_short_and_long_runs() -> None:
    short = Plan.of(replace(TINY_TRAINING, epochs=2, max_steps=0), 10)
    assert (short.total, short.warmup, short.interval) == (20, 2, 10)
    long = Plan.of(replace(TINY_TRAINING, epochs=100, warmup_steps=1000, checkpoint_interval=1000), 5000)
    assert (long.total, long.warmup, long.interval) == (500_000, 1000, 1000)
    assert Plan.of(replace(TINY_TRAINING, max_steps=3), 10).total == 3
    assert short.rate(0) == 0.5 and short.rate(1) == 1.0 and short.rate(20) == pytest.approx(0.1)
    assert all(short.rate(i) >= short.rate(i + 1) for i in range(2, 19))
