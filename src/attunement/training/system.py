"""`TrainingSystem`: a base model and a dataset in, a Mixture of LoRA experts with its figures out.

A run is a folder:

    config.json        model and training settings, and what the run made of them
    dataset.json       the hash of the data it saw (`attune data withdraw` looks here)
    environment.json   versions, device, threads
    metrics.jsonl      one line a step
    checkpoints/       the best and the last: adapter.safetensors, moe.json, state.safetensors, state.json
    run.json           status, best checkpoint, figures
    loss.png           the curve
"""

from __future__ import annotations

import logging
import math
import os
import platform
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from attunement import __version__
from attunement.errors import DataError, ModelError
from attunement.model.base import base_sha256, load_base, resolve_base
from attunement.model.chat import Encoded
from attunement.model.checkpoint import atomic_folder, read_description
from attunement.model.moe_lora import MoEModel, load_adapter_file
from attunement.records import ModelConfig, TrainedModel, TrainingConfig, TrainingDataset, to_dict
from attunement.storage.files import content_hash, exclusive, read_json, write_json
from attunement.training.data import StepBatches, collate, hash_of, load_examples
from attunement.training.loop import Journal, Plan, Position, Tuning, moments, put_moments
from attunement.training.plot import draw_loss

log = logging.getLogger("attunement.training")

STATE = "state.safetensors"
"""Moments of the optimiser, by parameter: with the adapter, all that a run goes on from."""


class TrainingSystem:
    """The contract's training system, over one run's folder.

    `train` on a folder that holds an unfinished run with the same settings and data goes on from its last
    checkpoint; on a finished one it gives back what is there.
    """

    def __init__(self, run_dir: Path = Path("runs/first"), *, quiet: bool = True, device: str = "auto") -> None:
        self.run_dir, self.quiet, self.device = Path(run_dir), quiet, device
        self._model: MoEModel | None = None
        self._tokenizer: Any = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._position = Position()

    # --- the contract -------------------------------------------------------------------------------

    def initialize_model(self, config: ModelConfig) -> MoEModel:
        """The base with fresh experts and adapters; it answers exactly as the base does. Raises `ModelError`."""
        if config.architecture != "moe":
            raise ModelError(f"model.architecture must be 'moe', not '{config.architecture}'")
        base, self._tokenizer = load_base(config.base, self.device)
        self._model = MoEModel(base, config)
        return self._model

    def train(self, dataset: TrainingDataset, config: TrainingConfig) -> TrainedModel:
        """Trains the model of `initialize_model` (the default one if there was none).

        Ctrl-C and SIGTERM end a run at a checkpoint: the same call goes on from it. Raises `DataError`, `ModelError`.
        """
        model = self._model or self.initialize_model(ModelConfig())
        busy = f"another training runs in {self.run_dir}: wait for it or choose another --out"
        with exclusive(self.run_dir / ".lock", busy):
            if done := self._found(model.config, config, dataset):
                return done
            return self._train(model, dataset, config)

    def save_checkpoint(self, model: MoEModel, epoch: int) -> Path:
        """Writes a checkpoint of `model`, whole or not at all; during training with all that a resume needs."""
        name = self._position.last or f"epoch-{epoch:03d}"
        folder = self.run_dir / "checkpoints" / name
        with atomic_folder(folder) as temporary:
            model.write_files(temporary)
            if self._optimizer is not None:
                save_file(moments(model, self._optimizer), temporary / STATE)
                write_json(temporary / "state.json", {**to_dict(self._position), "best_loss": _finite(self._position.best_loss)})
        return folder

    # --- a run --------------------------------------------------------------------------------------

    def key(self, model: ModelConfig, training: TrainingConfig, dataset: TrainingDataset) -> str:
        """What names a run: settings, data and base."""
        return content_hash([to_dict(model), to_dict(training), hash_of(dataset), base_sha256(resolve_base(model.base))])

    def _found(self, model: ModelConfig, training: TrainingConfig, dataset: TrainingDataset) -> TrainedModel | None:
        """The finished run in the folder, if it is this one; sets the position of an unfinished one."""
        if not (self.run_dir / "run.json").is_file():
            return None
        run = read_json(self.run_dir / "run.json")
        if run["key"] != self.key(model, training, dataset):
            raise DataError(f"{self.run_dir} holds a run with other settings or data: choose another --out, or remove it")
        if run["status"] == "finished":
            return TrainedModel(self.run_dir, self.run_dir / "checkpoints" / run["best"], run["metrics"])
        if run.get("last"):
            self._position = self._read_position(self.run_dir / "checkpoints" / run["last"])
        return None

    def _read_position(self, folder: Path) -> Position:
        read_description(folder)
        state = read_json(folder / "state.json")
        state["best_loss"] = math.inf if state["best_loss"] is None else state["best_loss"]
        return Position(**{f.name: state[f.name] for f in fields(Position)})

    def _train(self, model: MoEModel, dataset: TrainingDataset, config: TrainingConfig) -> TrainedModel:
        examples, held_out = self._load(dataset, model.config.context_length)
        batches = StepBatches(
            examples,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size,
            pad=self._tokenizer.pad_token_id,
            seed=config.seed,
            first_step=self._position.step,
        )
        plan = Plan.of(config, batches.steps_per_epoch)
        self._describe(model, config, plan, dataset, len(examples))
        tuning = Tuning(model, config, plan, self._position)
        with _signals() as interrupted, self._progress() as progress:
            journal = Journal(
                self.run_dir,
                validate=lambda: self._validation_loss(model, held_out, config.micro_batch_size),
                save=self._save,
                interrupted=interrupted,
                progress=progress,
            )
            self._fit(tuning, journal, batches)
        if interrupted:
            self._write_run("interrupted", tuning)
            raise KeyboardInterrupt
        return self._finish(tuning)

    def _load(self, dataset: TrainingDataset, longest: int) -> tuple[list[Encoded], list[Encoded]]:
        """The examples to learn and those held out, of which there may be none. Raises `DataError`."""
        examples = load_examples(dataset.train, self._tokenizer, longest)
        held_out = load_examples(dataset.validation, self._tokenizer, longest)
        if not examples:
            raise DataError(f"{dataset.train} has no examples: build the dataset from more conversations")
        if not held_out:
            log.warning(
                "no validation data: %s is empty, so there is no held-out perplexity and no early stopping; "
                "build the dataset from more conversations, or with a larger data.validation_share",
                dataset.validation,
            )
        return examples, held_out

    def _fit(self, tuning: Tuning, journal: Journal, batches: StepBatches) -> None:
        import lightning

        if tuning.position.step >= tuning.plan.total:
            return
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = lightning.Trainer(
            accelerator="gpu" if tuning.model.device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            max_steps=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[journal],
        )
        loader = torch.utils.data.DataLoader(batches, batch_size=None)
        tuning.model.train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice on workers and on the length of the loader
            if tuning.position.step:
                tuning.on_train_start = lambda: self._restore(tuning)  # type: ignore[method-assign]
            trainer.fit(tuning, loader)
        tuning.model.eval()

    def _restore(self, tuning: Tuning) -> None:
        folder = self.run_dir / "checkpoints" / tuning.position.last
        tuning.model.load_adapter(load_adapter_file(folder))
        put_moments(tuning.model, _inner(tuning.optimizers()), load_file(folder / STATE))

    def _save(self, tuning: Tuning, epoch: int) -> None:
        self._optimizer = _inner(tuning.optimizers())
        folder = self.save_checkpoint(tuning.model, epoch)
        self._optimizer = None
        self._write_run("running", tuning)
        keep = {tuning.position.best, tuning.position.last}
        for other in folder.parent.iterdir():  # only after run.json names the new ones
            if other.name not in keep:
                shutil.rmtree(other, ignore_errors=True)

    def _validation_loss(self, model: MoEModel, examples: list[Encoded], size: int) -> float | None:
        """Mean loss per learned token, in nats; None without examples."""
        if not examples:
            return None
        total, count = 0.0, 0
        ordered = sorted(examples, key=lambda e: len(e.ids))
        with torch.no_grad(), model.evaluating():
            for start in range(0, len(ordered), size):
                batch = collate(ordered[start : start + size], self._tokenizer.pad_token_id).to(model.device)
                losses = model(batch.input_ids, batch.attention_mask, batch.labels).token_losses
                total, count = total + float(losses.sum()), count + len(losses)
        return total / max(1, count)

    def _finish(self, tuning: Tuning) -> TrainedModel:
        position = tuning.position
        self._write_run("finished", tuning)
        best = self.run_dir / "checkpoints" / position.best
        tuning.model.load_adapter(load_adapter_file(best))
        draw_loss(self.run_dir)
        return TrainedModel(self.run_dir, best, _figures(tuning))

    # --- what is written ----------------------------------------------------------------------------

    def _write_run(self, status: str, tuning: Tuning) -> None:
        position = tuning.position
        write_json(
            self.run_dir / "run.json",
            {
                "key": read_json(self.run_dir / "config.json")["key"],
                "status": status,
                "stopped": position.stopped,
                "step": position.step,
                "best": position.best or position.last,
                "last": position.last,
                "metrics": _figures(tuning),
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _describe(self, model: MoEModel, config: TrainingConfig, plan: Plan, dataset: TrainingDataset, examples: int) -> None:
        write_json(
            self.run_dir / "config.json",
            {
                "key": self.key(model.config, config, dataset),
                "model": to_dict(model.config),
                "training": to_dict(config),
                "steps": to_dict(plan),
                "trainable_parameters": sum(p.numel() for p in model.trainable_parameters()),
                "parameters": sum(p.numel() for p in model.parameters()),
                "examples": examples,
            },
        )
        write_json(
            self.run_dir / "dataset.json",
            {
                "dataset_sha256": hash_of(dataset),
                **{name: str(path.resolve()) for name in ("train", "validation", "test") if (path := getattr(dataset, name))},
            },
        )
        write_json(self.run_dir / "environment.json", environment(model.device))
        if not (self.run_dir / "run.json").exists():
            write_json(
                self.run_dir / "run.json",
                {
                    "key": self.key(model.config, config, dataset),
                    "status": "running",
                    "step": 0,
                    "best": "",
                    "last": "",
                    "metrics": {},
                },
            )

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=Console(stderr=True), disable=self.quiet)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and threads: what a figure needs to be understood later."""
    packages = ("torch", "transformers", "lightning", "safetensors", "tokenizers")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "attunement": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "device": f"{device.type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _figures(tuning: Tuning) -> dict[str, float]:
    position = tuning.position
    figures = {"steps": float(position.step), "seconds": round(position.elapsed_seconds, 2)}
    if math.isfinite(position.best_loss):
        figures |= {
            "validation_loss": round(position.best_loss, 5),
            "validation_perplexity": round(math.exp(min(position.best_loss, 50.0)), 3),
        }
    return figures


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser inside Lightning's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)  # type: ignore[no-any-return]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Inside the block the first SIGINT or SIGTERM is noted in the list; a second one ends the process at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, note)
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
