"""Training over several processes: really two of them, on the CPU with gloo, held against one."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from in_two_processes import TRAINING, out_of_memory_at, train
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, OlmoeConfig, OlmoeForCausalLM
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.errors import ConfigError, ModelError
from attunement.model.base import load_tokenizer
from attunement.storage.files import read_json, read_jsonl
from attunement.training import workers
from attunement.training.data import dataset_of, deal
from attunement.training.processes import Processes, devices_wanted, splits_base
from attunement.training.system import TrainingSystem
from conftest import TINY_MODEL, TINY_TRAINING, write_tiny_dataset

HERE = Path(__file__).parent
CLOSE = 1e-4
"""Of losses around 1 to 8 after 18 steps: sums of the same numbers in another order."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, two tiny bases, the runs of two processes, and those of one process beside them."""
    folder = tmp_path_factory.mktemp("processes")
    write_tiny_dataset(folder / "dataset")
    tokenizer = load_tokenizer("attunement-base")
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    torch.manual_seed(3)
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    if sparse := _has_peft():
        OlmoeForCausalLM(OlmoeConfig(**shape, num_experts=6, num_experts_per_tok=3)).save_pretrained(folder / "sparse")
        tokenizer.save_pretrained(folder / "sparse")
    both = [
        subprocess.Popen([sys.executable, HERE / "in_two_processes.py", folder], env=place) for place in workers._places(2, 1)
    ]
    try:
        train(folder, "one")
        train(folder, "one-memory", change=out_of_memory_at(20))  # the second pass of the seventh step
        if sparse:
            train(folder, "sparse-one", base="sparse")
        assert [process.wait(240) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    return folder


def _has_peft() -> bool:
    try:
        import peft  # noqa: F401
    except ImportError:
        return False
    return True


def rows(run: Path) -> list[Mapping[str, float]]:
    return list(read_jsonl(run / "metrics.jsonl"))


def events(run: Path) -> list[tuple[str, int]]:
    return [(row["kind"], row["step"]) for row in read_jsonl(run / "events.jsonl")]


def assert_alike(run: Path, other: Path) -> None:
    """Every loss, norm and validation of a run of 18 steps, and the weights that it ends with."""
    mine, its = rows(run), rows(other)
    assert [row["step"] for row in mine] == [row["step"] for row in its] == list(range(1, 19))
    for name in ("loss", "gradient_norm", "router_balance", "router_z", "validation_loss"):
        found, wanted = ([row[name] for row in each if row[name] is not None] for each in (mine, its))
        assert found == pytest.approx(wanted, abs=CLOSE), name
    assert mine[0]["loss"] - mine[-1]["loss"] > 0.1  # it learned
    first, second = (adapters(each) for each in (run, other))
    assert all(torch.allclose(first[name], tensor, atol=1e-3) for name, tensor in second.items())
    assert read_json(run / "routing.json").keys() == read_json(other / "routing.json").keys()


def adapters(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(run / "checkpoints" / read_json(run / "run.json")["last"] / "adapter.safetensors"))


def test_two_processes_take_the_steps_of_one(folder: Path) -> None:
    assert_alike(folder / "whole", folder / "one")
    told = read_json(folder / "whole" / "environment.json")
    assert (told["processes"], told["base"]) == (2, "whole")
    assert read_json(folder / "whole" / "mixture.json") == read_json(folder / "one" / "mixture.json")
    served = [sum(map(sum, read_json(folder / name / "routing.json")["no domain"])) for name in ("whole", "split", "one")]
    assert served[0] == served[1] == served[2]


def test_a_split_base_takes_the_same_steps_with_half_the_weights(folder: Path) -> None:
    assert_alike(folder / "split", folder / "one")
    told = [read_json(folder / f"split-{rank}.json") for rank in (0, 1)]
    config = read_json(folder / "split" / "config.json")
    frozen = config["parameters"] - config["trainable_parameters"]
    assert sum(each["here"] for each in told) == frozen
    assert all(each["here"] < 0.51 * frozen for each in told)
    assert read_json(folder / "split" / "environment.json")["base"] == "split"


def test_a_sparse_base_is_split_too(folder: Path) -> None:
    pytest.importorskip("peft")
    assert_alike(folder / "sparse-split", folder / "sparse-one")


def test_memory_used_up_in_one_process_halves_the_micro_batches_of_all(folder: Path) -> None:
    ((kind, step),) = events(folder / "memory")
    assert kind == "out_of_memory" and step in range(6, 12)
    run = read_json(folder / "memory" / "run.json")
    assert run["status"] == "finished" and run["adjusted"]["micro_batch_size"] == 1
    # One process that lost as much after the same checkpoint goes on alike.
    assert events(folder / "one-memory") == [("out_of_memory", 6)]
    assert_alike(folder / "memory", folder / "one-memory")


def test_a_loss_that_is_no_number_in_one_process_sends_all_back(folder: Path) -> None:
    ((kind, step),) = events(folder / "divergence")
    run = read_json(folder / "divergence" / "run.json")
    assert kind == "divergence" and step in range(6, 12) and run["adjusted"]["rate_factor"] == 0.5
    assert run["status"] == "finished" and all(math.isfinite(row["loss"]) for row in rows(folder / "divergence"))
    assert all(torch.isfinite(tensor).all() for tensor in adapters(folder / "divergence").values())


def test_a_window_that_is_over_ends_all(folder: Path) -> None:
    run = read_json(folder / "window" / "run.json")
    assert (run["status"], run["step"], run["stopped"]) == ("finished", 1, "the training window is over")


def test_a_signal_to_one_process_stops_all_and_they_go_on_to_the_same_bits(folder: Path) -> None:
    ((kind, step),) = events(folder / "interrupted")
    assert kind == "interrupted" and step in range(7, 12)
    mine, its = adapters(folder / "interrupted"), adapters(folder / "whole")
    assert all(torch.equal(mine[name], tensor) for name, tensor in its.items())
    losses = [[row["loss"] for row in rows(folder / name)] for name in ("interrupted", "whole")]
    assert losses[0] == losses[1] and len(losses[0]) == 18


SETS = (
    "model.num_experts=4", "model.lora_rank=4", "model.lora_alpha=8", "model.context_length=128", "model.dropout=0.05",
    "training.batch_size=8", "training.micro_batch_size=3", "training.learning_rate=3e-3", "training.devices=2",
)  # fmt: skip


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "attunement", "train", *map(str, words), "--json"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})


def wait_for_steps(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    log, deadline = run / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= count):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
def test_the_command_starts_workers_ends_with_them_and_goes_on_with_fewer(folder: Path, tmp_path: Path) -> None:
    """SIGTERM to the command, then SIGKILL to one worker, then the rest with one process: the losses of one that nobody disturbed."""
    run = tmp_path / "run"
    sets = [word for each in (*SETS, "training.epochs=10", "training.strategy=fsdp") for word in ("--set", each)]
    first = start("run", "--data", folder / "dataset", "--base", folder / "base", "--out", run, *sets)
    wait_for_steps(run, 2, first)
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 130 and told.splitlines() == ["interrupted: the same command goes on where it was"]
    left = read_json(run / "run.json")
    assert left["status"] == "interrupted" and left["step"] == len(rows(run)) >= 2
    second = start("resume", run)
    wait_for_steps(run, left["step"] + 8, second)
    os.kill(children(second)[1], signal.SIGKILL)
    _, told = second.communicate(timeout=60)
    assert second.returncode == 3
    assert told.splitlines() == [
        f"error: process 1 of the run was ended by SIGKILL, so the others ended as well: go on with  attune train resume {run}"
    ]
    seen = len(rows(run))
    done = CliRunner().invoke(app, ["train", "resume", str(run), "--devices", "1", "--json"])
    assert done.exit_code == 0, done.output
    one = TrainingSystem(tmp_path / "one")
    one.run(replace(TINY_MODEL, base=str(folder / "base")), dataset_of(folder / "dataset"), replace(TRAINING, epochs=10))
    found, wanted = (rows(each) for each in (run, tmp_path / "one"))
    assert [row["step"] for row in found] == list(range(1, 61)) and seen < 60
    losses = [[row["loss"] for row in each] for each in (found, wanted)]
    assert losses[0] == pytest.approx(losses[1], abs=CLOSE)
    assert read_json(run / "environment.json")["processes"] == 1


FAILS_ONCE = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from attunement.model.moe_lora import MoEModel
from attunement.training.workers import main
real, calls = MoEModel.forward, [0]
def forward(self, *arguments, **options):
    calls[0] += self.training
    failed = Path(os.environ["FAILED"])
    if calls[0] == 15 and os.environ["RANK"] == "1" and not failed.exists():
        failed.touch()
        raise MemoryError("none left")
    return real(self, *arguments, **options)
MoEModel.forward = forward
main()
"""


@pytest.mark.slow
def test_where_the_base_is_split_memory_used_up_starts_all_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORKER", (sys.executable, "-c", FAILS_ONCE))
    monkeypatch.setenv("FAILED", str(tmp_path / "failed"))
    run = tmp_path / "run"
    split = replace(TRAINING, devices=2, strategy="fsdp")
    TrainingSystem(run).run(replace(TINY_MODEL, base=str(folder / "base")), dataset_of(folder / "dataset"), split)
    assert events(run) == [("out_of_memory", 7)]
    assert read_json(run / "run.json")["adjusted"] == {
        "micro_batch_size": 1, "rate_factor": 1.0, "extra_hours": 0.0, "retries": 1,
    }  # fmt: skip
    assert_alike(run, folder / "one-memory")


def test_a_failing_worker_is_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    for name in ("train", "validation"):
        (tmp_path / "dataset" / f"{name}.jsonl").write_text("")
    with pytest.raises(ModelError, match="has no examples: build the dataset"):
        workers.train_in_workers(
            tmp_path / "run",
            replace(TINY_MODEL, base=str(folder / "base")),
            dataset_of(tmp_path / "dataset"),
            TRAINING,
            devices=1,
            device="cpu",
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


@given(st.lists(st.integers(1, 100), min_size=1, max_size=20), st.integers(1, 6), st.booleans())
def test_micro_batches_are_dealt_once_and_evenly(costs: Sequence[int], hands: int, equal: bool) -> None:
    dealt = deal(costs, hands, equal=equal)
    counting = [[thing for thing, counts in hand if counts] for hand in dealt]
    assert sorted(thing for hand in counting for thing in hand) == list(range(len(costs))) and len(dealt) == hands
    assert all(hand == sorted(hand) and len(hand) <= -(-len(costs) // hands) for hand in counting)
    if equal:
        assert {len(hand) for hand in dealt} == {-(-len(costs) // hands)}
    else:
        assert dealt == [[(thing, True) for thing in hand] for hand in counting]


def test_processes_are_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**environment: str) -> Processes:
        monkeypatch.setattr(os, "environ", environment)
        return Processes.found()

    assert found() == Processes()
    launched = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert found(**launched, LOCAL_RANK="1") == Processes(3, 4, 1)
    assert found(**launched) == Processes(3, 4, 0)
    slurm = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "9", "SLURM_NODELIST": "n[1-2]"}
    assert found(**slurm, SLURM_NTASKS_PER_NODE="2") == Processes(3, 4, 1)
    assert os.environ["MASTER_ADDR"] == "n1" and os.environ["WORLD_SIZE"] == "4"
    with pytest.raises(ConfigError, match="ntasks-per-node"):
        found(**slurm)
    assert found(SLURM_NTASKS="1", SLURM_PROCID="0") == Processes()


def test_what_is_wanted_and_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_wanted(TINY_TRAINING, "cpu") == 1 and devices_wanted(replace(TINY_TRAINING, devices=3), "cpu") == 3
    two = Processes(0, 2)
    assert not splits_base(TINY_TRAINING, TINY_MODEL, two)
    assert splits_base(replace(TINY_TRAINING, strategy="fsdp"), TINY_MODEL, two)
    assert not splits_base(replace(TINY_TRAINING, strategy="fsdp"), TINY_MODEL, Processes())
    with pytest.raises(ConfigError, match="cannot split a base in 8 or 4 bits"):
        splits_base(replace(TINY_TRAINING, strategy="fsdp"), replace(TINY_MODEL, quantization="4bit"), two)
    monkeypatch.setattr(os, "environ", {"MASTER_ADDR": "n1", "MASTER_PORT": "77", "NODE_RANK": "1"})
    assert [(place["RANK"], place["LOCAL_RANK"], place["WORLD_SIZE"]) for place in workers._places(2, 2)] == [
        ("2", "0", "4"),
        ("3", "1", "4"),
    ]
    monkeypatch.setattr(os, "environ", {"MASTER_ADDR": "n1"})
    with pytest.raises(ConfigError, match=r"training\.nodes is 2: start the same command on each with torchrun or srun"):
        workers._places(2, 2)
