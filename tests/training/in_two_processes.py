"""What `test_processes` runs in each of two processes: python in_two_processes.py FOLDER, in a launcher's environment.

Each scenario is a run of its own below FOLDER; something goes wrong in the second process only.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from attunement.model.moe_lora import MoEModel
from attunement.model.sharding import base_parameters_here
from attunement.records import TrainingConfig
from attunement.training.data import dataset_of
from attunement.training.system import TrainingSystem
from conftest import TINY_MODEL, TINY_TRAINING

TRAINING = replace(TINY_TRAINING, micro_batch_size=3, devices=1)
"""8 examples a step in 3 micro-batches of 3, 3 and 2: for two processes an uneven share."""
Change = Callable[[int, Any], Any]


def train(
    folder: Path, name: str, training: TrainingConfig = TRAINING, change: Change | None = None, base: str = "base"
) -> TrainingSystem:
    """A run; `change` gets the number of each training pass and what the model gave, and gives what it gives instead."""
    real, calls = MoEModel.forward, [0]

    def forward(self: MoEModel, *arguments: Any, **options: Any) -> Any:
        out = real(self, *arguments, **options)
        calls[0] += self.training
        return change(calls[0], out) if change and self.training else out

    MoEModel.forward = forward  # type: ignore[method-assign]
    system = TrainingSystem(folder / name)
    try:
        system.run(replace(TINY_MODEL, base=str(folder / base)), dataset_of(folder / "dataset"), training)
    finally:
        MoEModel.forward = real  # type: ignore[method-assign]
    return system


def out_of_memory_at(call: int) -> Change:
    def change(number: int, out: Any) -> Any:
        if number == call:
            raise MemoryError("none left")
        return out

    return change


def no_number_at(call: int) -> Change:
    return lambda number, out: replace(out, language_loss=out.language_loss * math.nan) if number == call else out


def sigterm_at(call: int) -> Change:
    def change(number: int, out: Any) -> Any:
        if number == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return out

    return change


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    second = torch.distributed.get_rank() == 1
    # The second process has one or two of a step's three passes: its ninth is in the seventh step or before.
    train(folder, "whole")
    split = train(folder, "split", replace(TRAINING, strategy="fsdp"))
    assert split.processes.sharded and split._model
    told = {"here": base_parameters_here(split._model), "all": sum(p.numel() for p in split._model.base.parameters())}
    (folder / f"split-{int(second)}.json").write_text(json.dumps(told))
    train(folder, "memory", change=out_of_memory_at(13) if second else None)
    train(folder, "divergence", change=no_number_at(13) if second else None)
    train(folder, "window", replace(TRAINING, max_duration_hours=1e-9))
    try:
        train(folder, "interrupted", change=sigterm_at(13) if second else None)
        raise AssertionError("the signal is noted")
    except KeyboardInterrupt:
        train(folder, "interrupted")
    if (folder / "sparse").is_dir():
        train(folder, "sparse-split", replace(TRAINING, strategy="fsdp", gradient_checkpointing=True), base="sparse")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
