"""A run's checkpoints: each whole or not there, the newest that is whole, and what is no longer needed.

Beside the model's own files (`model.checkpoint`) one holds all that a run goes on from: `state.safetensors` (the optimiser's moments by
parameter), `state.json` (where the run stands) and `checksums.json`. Its name ends in the step, by which they are ordered.
"""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from attunement.errors import DataError, IntegrityError, ModelError
from attunement.model.checkpoint import atomic_folder, read_description
from attunement.model.moe_lora import MoEModel, load_adapter_file
from attunement.records import to_dict
from attunement.storage.files import file_hash, read_json, write_json
from attunement.training.loop import OUT_OF_TIME, Position, Tuning, moments, put_moments
from attunement.training.recovery import Events

log = logging.getLogger("attunement.training")

STATE, PLACE, CHECKSUMS = "state.safetensors", "state.json", "checksums.json"
KEPT = 2
"""Of the newest, beside the best: a damaged one has one before it."""


class Checkpoints:
    """Those in `folder`; one that is damaged is noted in `events`."""

    def __init__(self, folder: Path, events: Events) -> None:
        self.folder, self._events = folder, events

    def names(self) -> list[str]:
        """The newest first."""
        found = [path.name for path in self.folder.iterdir() if _step(path.name).isdigit()] if self.folder.is_dir() else []
        return sorted(found, key=_step, reverse=True)

    def newest(self, *, before: str = "") -> Position:
        """Where the newest one that is whole (and older than `before`) stands; the start, if there is none."""
        for name in self.names():
            if before and _step(name) >= _step(before):
                continue
            try:
                return self._position(name)
            except (DataError, ModelError, KeyError, TypeError) as error:
                log.warning("the checkpoint %s cannot be used (%s): going on from the one before it", name, error)
                self._events.write("damaged_checkpoint", int(_step(name)), "the one before it is taken", checkpoint=name)
        return Position()

    def _position(self, name: str) -> Position:
        """Raises `IntegrityError` when one of the checkpoint's files is not what was written."""
        folder = self.folder / name
        read_description(folder)
        for file, wanted in read_json(folder / CHECKSUMS).items():
            if not (folder / file).is_file() or file_hash(folder / file) != wanted:
                raise IntegrityError(f"{folder / file} is missing or damaged (its checksum differs)")
        state = read_json(folder / PLACE)
        state["best_loss"] = math.inf if state["best_loss"] is None else state["best_loss"]
        position = Position(**{f.name: state[f.name] for f in fields(Position)})
        if position.stopped == OUT_OF_TIME:  # a run that goes on got more time
            position.stopped = ""
        return position

    def write(self, name: str, model: MoEModel, tuning: Tuning | None) -> Path:
        """Writes `model`, and with `tuning` what a resume needs."""
        with atomic_folder(self.folder / name) as temporary:
            model.write_files(temporary)
            if tuning is not None:
                position = tuning.position
                best = position.best_loss if math.isfinite(position.best_loss) else None
                save_file(moments(model, _inner(tuning.optimizers())), temporary / STATE)
                write_json(temporary / PLACE, {**to_dict(position), "best_loss": best, "guard": tuning.guard.state()})
                write_json(temporary / CHECKSUMS, {path.name: file_hash(path) for path in sorted(temporary.iterdir())})
        return self.folder / name

    def restore(self, tuning: Tuning) -> None:
        """Adapters, moments and guard as they were at the position of `tuning`."""
        folder = self.folder / tuning.position.last
        tuning.model.load_adapter(load_adapter_file(folder))
        put_moments(tuning.model, _inner(tuning.optimizers()), load_file(folder / STATE))
        tuning.guard.restore(read_json(folder / PLACE)["guard"])

    def prune(self, best: str) -> None:
        """Removes all but `best`, the newest few, and what was the best then: a run may go back to either of them."""
        newest, older = self.names()[:KEPT], self.names()[KEPT:]
        kept = {best, *map(self._best_at, newest)}
        for name in older:
            if name not in kept:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _best_at(self, name: str) -> str:
        """The best one when `name` was written; empty where that is damaged, as none goes back to it."""
        try:
            return str(read_json(self.folder / name / PLACE)["best"])
        except (DataError, KeyError, TypeError):
            return ""

    def forget_after(self, last: str) -> None:
        """Removes those after `last` (all, if it is empty): a run that is killed now must not go on from one that is not stable."""
        for name in self.names():
            if _step(name) > _step(last):
                shutil.rmtree(self.folder / name)


def _step(name: str) -> str:
    return name.rpartition("-")[2]


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser inside Lightning's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)  # type: ignore[no-any-return]
