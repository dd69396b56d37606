"""Memory that is really used up: a run in a process of its own whose address space is limited on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attunement.storage.files import read_json, read_jsonl, write_jsonl
from attunement.training.recovery import is_out_of_memory
from conftest import write_tiny_dataset

PROGRAM = """
import resource, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import TINY_MODEL, TINY_TRAINING
from attunement.training.data import dataset_of
from attunement.training.system import TrainingSystem

most = [0]

def held():
    size = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
    most[0] = max(most[0], size)
    return size

class Limited(TrainingSystem):
    def save_checkpoint(self, model, epoch):
        folder, rest = super().save_checkpoint(model, epoch), held()
        if self.run_dir.name == "limited" and resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
            assert most[0] - rest > 40 << 20, (rest, most)
            limit = rest + (most[0] - rest) * 3 // 4
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return folder

model = replace(TINY_MODEL, dropout=0.0, context_length=128)
training = replace(TINY_TRAINING, batch_size=8, micro_batch_size=8, micro_batch_tokens=10**6, epochs=1, checkpoint_interval=2)
for name in ("plain", "limited"):
    system = Limited(Path(sys.argv[1]) / name)
    system.initialize_model(model).register_forward_hook(lambda *_: held() and None)
    most[0] = 0
    system.train(dataset_of(Path(sys.argv[1]) / "dataset"), training)
"""
"""The limit lies a quarter below what a step of 8 examples takes; it is set with the first checkpoint."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits and tells a process's address space in this way")
def test_memory_used_up_halves_the_micro_batches_and_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    dataset = write_tiny_dataset(tmp_path / "dataset", train=24)
    rows = list(read_jsonl(dataset / "train.jsonl"))
    for row in rows:
        row["messages"][1]["content"] *= 8
    write_jsonl(dataset / "train.jsonl", rows)
    # A fixed threshold: large blocks go back to the system at once, so that what is held is what is in use.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parents[1])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    events, run = list(read_jsonl(tmp_path / "limited" / "events.jsonl")), read_json(tmp_path / "limited" / "run.json")
    for event in events:
        assert (event["kind"], event["step"]) == ("out_of_memory", 2) and event["checkpoint"].endswith("-000002")
        assert "allocate memory" in event["reason"].lower() or event["reason"] == "MemoryError"
    # By how much less a step of 4 takes depends on the allocator: one halving or more.
    assert len(events) in (1, 2, 3) and run["adjusted"]["micro_batch_size"] == 8 >> len(events)
    assert run["status"] == "finished" and run["adjusted"]["rate_factor"] == 1.0 and run["adjusted"]["retries"] == len(events)
    found, wanted = (list(read_jsonl(tmp_path / name / "metrics.jsonl")) for name in ("limited", "plain"))
    assert [row["step"] for row in found] == [1, 2, 3]
    for row, plain in zip(found, wanted, strict=True):  # the batch is the same, only its parts are smaller
        assert row["loss"] == pytest.approx(plain["loss"], rel=1e-3)
    assert not (tmp_path / "plain" / "events.jsonl").exists()


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("unable to mmap 2780408 bytes from file <state.safetensors>: Cannot allocate memory (12)"), True),
        (MemoryError(), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (OSError("out of memory"), False),
    ],
)
def test_what_says_that_memory_is_used_up(error: BaseException, memory: bool) -> None:
    assert is_out_of_memory(error) is memory
