"""A preference tuning that is not done: the folder beside the new run's in which it lies, and what it goes on from.

    key.json                what names the tuning: the first run's adapter, settings, pairs
    reference.safetensors   DPO's reference, two numbers a pair
    metrics.jsonl           one line a step
    checkpoints/step-N/     adapter.safetensors, state.safetensors (the optimiser's moments, generators of random numbers),
                            state.json (schedule, generators, time), trainer_state.json (Transformers' own), checksums.json

Transformers would write the whole base and three pickles a checkpoint; here it is tensors and JSON.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from attunement.errors import DataError
from attunement.model.checkpoint import ADAPTER, atomic_folder
from attunement.model.moe_lora import MoEModel, load_adapter_file
from attunement.storage.files import atomic_write, file_hash, read_json, write_json
from attunement.training.checkpoints import CHECKSUMS, KEPT, PLACE, STATE
from attunement.training.loop import moments, put_moments

log = logging.getLogger("attunement.training")

TRAINER_STATE = "trainer_state.json"
"""Transformers' name for it."""
REFERENCE, METRICS = "reference.safetensors", "metrics.jsonl"
GENERATOR = "generator/"
Row = Mapping[str, Any]


class Unfinished:
    """The tuning that `key` names, in `folder`. Raises `DataError` where another one lies there."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._started, self._seconds = folder, time.monotonic(), 0.0
        if (folder / "key.json").is_file() and read_json(folder / "key.json") != key:
            raise DataError(
                f"{folder} holds an unfinished tuning with another run, settings or pairs: give the same again, or remove it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "key.json", key)

    @property
    def seconds(self) -> float:
        """Taken so far, over all restarts."""
        return self._seconds + time.monotonic() - self._started

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- checkpoints --------------------------------------------------------------------------------

    def _names(self) -> list[Path]:
        """The newest first."""
        found = (p for p in (self.folder / "checkpoints").glob("step-*") if p.name.removeprefix("step-").isdigit())
        return sorted(found, reverse=True)

    def newest(self) -> Path | None:
        """The newest checkpoint that is whole, with the rows of `metrics.jsonl` up to it; None for the start."""
        found = next((path for path in self._names() if _is_whole(path)), None)
        step = 0 if found is None else int(found.name.removeprefix("step-"))
        rows = [row for row in _rows(self.folder / METRICS) if row["step"] <= step]
        with atomic_write(self.folder / METRICS) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        if found is not None:
            self._seconds = float(read_json(found / PLACE)["seconds"])
        return found

    def write(self, model: MoEModel, trainer: Any) -> None:
        """A checkpoint of a Transformers trainer over `model`, whole or not at all; the oldest go."""
        optimizer, schedule = _inner(trainer.optimizer), trainer.lr_scheduler
        version, keys, *numpy_rest = np.random.get_state()
        tensors = {
            f"{GENERATOR}torch": torch.get_rng_state(),
            f"{GENERATOR}numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            **({f"{GENERATOR}cuda": torch.cuda.get_rng_state()} if model.device.type == "cuda" else {}),
        }
        place = {
            "seconds": round(self.seconds, 2),
            "schedule": schedule.state_dict(),
            "rates": [group["lr"] for group in optimizer.param_groups],
            "python": random.getstate(),
            "numpy": [version, *numpy_rest],
        }
        with atomic_folder(self.folder / "checkpoints" / f"step-{trainer.state.global_step:06d}") as temporary:
            save_file({name: tensor.cpu().contiguous() for name, tensor in model.adapter_state().items()}, temporary / ADAPTER)
            save_file({**moments(model, optimizer), **tensors}, temporary / STATE)
            write_json(temporary / PLACE, place)
            trainer.state.save_to_json(str(temporary / TRAINER_STATE))
            write_json(temporary / CHECKSUMS, {path.name: file_hash(path) for path in sorted(temporary.iterdir())})
        for path in self._names()[KEPT:]:
            shutil.rmtree(path)

    # --- DPO's reference ----------------------------------------------------------------------------

    def reference(self) -> dict[str, list[float]]:
        """The columns that `keep_reference` was given; empty where there are none yet."""
        path = self.folder / REFERENCE
        return {name: tensor.tolist() for name, tensor in load_file(path).items()} if path.is_file() else {}

    def keep_reference(self, columns: Mapping[str, torch.Tensor]) -> None:
        temporary = self.folder / f".{REFERENCE}.tmp"
        save_file({name: tensor.cpu().contiguous() for name, tensor in columns.items()}, temporary)
        temporary.replace(self.folder / REFERENCE)


def put_adapter(checkpoint: Path, model: MoEModel) -> None:
    model.load_adapter(load_adapter_file(checkpoint))


def put_optimizer(checkpoint: Path, model: MoEModel, trainer: Any) -> None:
    """Moments, rates and schedule as they were."""
    optimizer, place = _inner(trainer.optimizer), read_json(checkpoint / PLACE)
    put_moments(model, optimizer, load_file(checkpoint / STATE))
    trainer.lr_scheduler.load_state_dict(place["schedule"])
    for group, rate in zip(optimizer.param_groups, place["rates"], strict=True):
        group["lr"] = rate


def put_generators(checkpoint: Path) -> None:
    """Python's, NumPy's and PyTorch's generators of random numbers as they were: what dropout draws is what it would have been."""
    state, place = load_file(checkpoint / STATE), read_json(checkpoint / PLACE)
    version, keys, gauss = place["python"]
    random.setstate((version, tuple(keys), gauss))
    name, *rest = place["numpy"]
    np.random.set_state((name, state[f"{GENERATOR}numpy"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state[f"{GENERATOR}torch"])
    if f"{GENERATOR}cuda" in state:
        torch.cuda.set_rng_state(state[f"{GENERATOR}cuda"])


def _is_whole(checkpoint: Path) -> bool:
    try:
        sums: dict[str, str] = read_json(checkpoint / CHECKSUMS)
        whole = all((checkpoint / name).is_file() and file_hash(checkpoint / name) == wanted for name, wanted in sums.items())
    except DataError:
        whole = False
    if not whole:
        log.warning("the checkpoint %s is damaged: going on from the one before it", checkpoint)
    return whole


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser inside Accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)  # type: ignore[no-any-return]
