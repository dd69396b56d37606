"""`TrainingSystem`: a base model and a dataset in, a Mixture of LoRA experts with its figures out.

A run is a folder:

    config.json        model and training settings, and what the run made of them
    dataset.json       the hash of the data it saw (`attune data withdraw` looks here)
    environment.json   versions, commit, device, threads
    examples.jsonl     id, source, conversation and licence of every example it may have seen (`attune train list --contains`)
    metrics.jsonl      one line a step; tensorboard/ the same for TensorBoard (`training.tensorboard`)
    events.jsonl       what went wrong, and what was done about it
    checkpoints/       the newest and the best: adapter.safetensors, moe.json, state.safetensors, state.json, checksums.json
    run.json           status, best checkpoint, figures
    mixture.json       how often each source share was seen; routing.json which experts served which domain
    loss.png routing.png training.html model_card.md
"""

from __future__ import annotations

import gc
import logging
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attunement.errors import DataError, ModelError
from attunement.model.base import base_sha256, load_base, pick_device, resolve_base
from attunement.model.moe_lora import MoEModel, load_adapter_file
from attunement.model.sharding import split_base
from attunement.records import ModelConfig, TrainedModel, TrainingConfig, TrainingDataset, to_dict
from attunement.storage.files import content_hash, exclusive, read_json, write_json
from attunement.training.board import Board
from attunement.training.card import write_card
from attunement.training.checkpoints import Checkpoints
from attunement.training.data import Example, StepBatches, hash_of, load_examples
from attunement.training.folder import describe, figures, write_state
from attunement.training.loop import OUT_OF_TIME, Journal, Plan, Position, Tuning
from attunement.training.mixture import Mixture
from attunement.training.plot import draw_loss, draw_routing, write_page
from attunement.training.processes import LostProcessError, Processes, RestartError, devices_wanted, splits_base
from attunement.training.recovery import RATE_CUT, Adjusted, Divergence, Events, is_out_of_memory
from attunement.training.signals import Signals
from attunement.training.validation import loss_of, routing_of
from attunement.training.workers import train_in_workers

log = logging.getLogger("attunement.training")


class TrainingSystem:
    """The contract's training system, over one run's folder.

    `train` on a folder that holds an unfinished run with the same settings and data goes on from its last
    checkpoint; on a finished one it gives back what is there.
    """

    def __init__(self, run_dir: Path = Path("runs/first"), *, quiet: bool = True, device: str = "auto") -> None:
        self.run_dir, self.quiet, self.device = Path(run_dir), quiet, device
        self._model: MoEModel | None = None
        self._tokenizer: Any = None
        self._saved: Tuning | None = None
        """While a checkpoint of a run is written, whose."""
        self._position = Position()
        self._adjusted = Adjusted()
        self._events = Events(self.run_dir)
        self._checkpoints = Checkpoints(self.run_dir / "checkpoints", self._events)
        self._rolled_back_to = ""
        self._fresh: dict[str, torch.Tensor] = {}
        self.processes = Processes.found()
        self._placed = True

    # --- the contract -------------------------------------------------------------------------------

    def run(self, model: ModelConfig, dataset: TrainingDataset, config: TrainingConfig) -> TrainedModel:
        """`initialize_model` and `train`; a base that will be split is never whole on a device."""
        if not self._starts_workers(config):
            self._placed = not splits_base(config, model, self.processes)
            self.initialize_model(model)
            return self.train(dataset, config)
        return self._train_in_workers(model, dataset, config)

    def initialize_model(self, config: ModelConfig) -> MoEModel:
        """The base with fresh experts and adapters; it answers exactly as the base does. Raises `ModelError`."""
        if config.architecture != "moe":
            raise ModelError(f"model.architecture must be 'moe', not '{config.architecture}'")
        base, self._tokenizer = load_base(
            config.base,
            str(self._device),
            rope_scaling=config.rope_scaling,
            quantization=config.quantization,
            placed=self._placed,
        )
        self._model = MoEModel(base, config)
        self._fresh = {name: tensor.cpu().clone() for name, tensor in self._model.adapter_state().items()}
        return self._model

    def train(self, dataset: TrainingDataset, config: TrainingConfig) -> TrainedModel:
        """Trains the model of `initialize_model` (the default one if there was none), with several devices in new processes.

        Ctrl-C and SIGTERM end a run at a checkpoint: the same call goes on from it. Raises `DataError`, `ModelError`.
        """
        model = self._model or self.initialize_model(ModelConfig())
        if self._starts_workers(config):
            self._model = None  # unless the caller holds it, the first worker needs its place
            return self._train_in_workers(model.config, dataset, config)
        busy = f"another training runs in {self.run_dir}: wait for it or choose another --out"
        processes, self._events.silent = self.processes, not self.processes.first
        try:
            processes.connect(self._device)
            with ExitStack() as held:
                processes.told(lambda: held.enter_context(exclusive(self.run_dir / ".lock", busy)))
                trained = self._found(model.config, config, dataset) or self._train(model, dataset, config)
            processes.close()
            return trained
        except RuntimeError as error:
            if processes.lost(error):
                raise LostProcessError(error) from error
            raise

    def save_checkpoint(self, model: MoEModel, epoch: int) -> Path:
        """Writes a checkpoint of `model`, whole or not at all; during training with all that a resume needs."""
        return self._checkpoints.write(self._position.last or f"epoch-{epoch:03d}", model, self._saved)

    # --- a run --------------------------------------------------------------------------------------

    def key(self, model: ModelConfig, training: TrainingConfig, dataset: TrainingDataset) -> str:
        """What names a run: settings, data and base; not on how many devices it runs, which it may change on the way."""
        learning = {name: value for name, value in to_dict(training).items() if name not in ("devices", "nodes", "strategy")}
        return content_hash([to_dict(model), learning, hash_of(dataset), base_sha256(resolve_base(model.base))])

    def _found(self, model: ModelConfig, training: TrainingConfig, dataset: TrainingDataset) -> TrainedModel | None:
        """The finished run in the folder, if it is this one; sets the position of an unfinished one."""
        key, path = self.key(model, training, dataset), self.run_dir / "run.json"
        there = self.processes.told(lambda: {"key": key, "run": read_json(path) if path.is_file() else None})
        if key != there["key"]:
            raise DataError("this process sees another base or other data than the first one: give all machines the same files")
        if not (run := there["run"]):
            return None
        if run["key"] != key:
            raise DataError(f"{self.run_dir} holds a run with other settings or data: choose another --out, or remove it")
        self._adjusted = Adjusted(**run.get("adjusted", {}))
        if run["status"] == "finished":
            return TrainedModel(self.run_dir, self.run_dir / "checkpoints" / run["best"], run["metrics"])
        self._position = self._newest()
        return None

    def _newest(self, before: str = "") -> Position:
        """Where the newest whole checkpoint stands, as the first process sees it."""
        return Position(**self.processes.told(lambda: to_dict(self._checkpoints.newest(before=before))))

    @property
    def _device(self) -> torch.device:
        """This process's own."""
        own = self.processes.several and self.device in ("auto", "cuda") and torch.cuda.is_available()
        return pick_device(f"cuda:{self.processes.local_rank}" if own else self.device)

    def _starts_workers(self, config: TrainingConfig) -> bool:
        return not self.processes.several and devices_wanted(config, self.device) * config.nodes > 1

    def _train_in_workers(self, model: ModelConfig, dataset: TrainingDataset, config: TrainingConfig) -> TrainedModel:
        many = devices_wanted(config, self.device)
        train_in_workers(self.run_dir, model, dataset, config, devices=many, device=self.device, quiet=self.quiet)
        run = read_json(self.run_dir / "run.json")
        return TrainedModel(self.run_dir, self.run_dir / "checkpoints" / run["best"], run["metrics"])

    def extend(self, hours: float) -> None:
        """Gives a run whose window is over `hours` more. Raises `DataError` where it ended for another reason."""
        run = read_json(self.run_dir / "run.json")
        if run["status"] == "finished" and run["stopped"] != OUT_OF_TIME:
            raise DataError(
                f"the run {self.run_dir} ended for another reason than time ({run['stopped']}): start another with more "
                "training.epochs, or a larger training.early_stopping_patience"
            )
        adjusted = {**run.get("adjusted", {}), "extra_hours": run.get("adjusted", {}).get("extra_hours", 0.0) + hours}
        write_json(self.run_dir / "run.json", {**run, "status": "interrupted", "adjusted": adjusted})
        self._events.write("window", run["step"], f"extended by {hours:g} hours")

    def _train(self, model: MoEModel, dataset: TrainingDataset, config: TrainingConfig) -> TrainedModel:
        processes = self.processes
        processes.sharded = splits_base(config, model.config, processes)
        examples, held_out = self._load(model, dataset)
        mixture = Mixture([e.share for e in examples], config.source_balance, config.max_repeats, config.seed)
        batches = StepBatches(
            examples,
            mixture,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size,
            micro_batch_tokens=config.micro_batch_tokens,
            hand=processes.rank,
            hands=processes.size,
            equal=processes.sharded,
        )
        plan = Plan.of(config, batches.steps_per_epoch)
        draws_domains = len({e.domain for e in examples} - {-1}) > 1
        if processes.first:
            key = self.key(model.config, config, dataset)
            describe(self.run_dir, key, model, config, plan, dataset, len(examples), processes)
            if not self.quiet:
                shared = f", {processes.size} processes" if processes.several else ""
                Console(stderr=True, highlight=False).print(f"  schedule: {plan.told(config)}{shared}", soft_wrap=True)
        if config.gradient_checkpointing:
            model.enable_checkpointing()
        if processes.sharded:
            split_base(model, self._device)
        with Signals() as signals, self._progress() as progress:
            while True:
                tuning = Tuning(
                    model,
                    config,
                    plan,
                    self._position,
                    self._adjusted,
                    self._events,
                    draws_domains=draws_domains,
                    processes=processes,
                )
                batches.first_step = self._position.step
                largest = self._adjusted.micro_batch_size or config.micro_batch_size
                batches.micro_batch_size = min(largest, -(-config.batch_size // processes.size))  # something to do for each
                journal = Journal(
                    self.run_dir,
                    validate=lambda: loss_of(model, held_out, batches.micro_batch_size, config.micro_batch_tokens, processes),
                    save=self._save,
                    signals=signals,
                    progress=progress,
                    board=(board := Board(self.run_dir, self._position.step) if config.tensorboard and processes.first else None),
                )
                gc.collect()  # what a step that failed for memory held lies in cycles with its trainer
                try:
                    self._fit(tuning, journal, batches)
                    break
                except (Divergence, MemoryError, RuntimeError) as error:
                    self._recover(error, tuning, batches)
                finally:
                    if board:
                        board.close()
        if caught := int(processes.most(signals.caught)[0]):
            self._write_state("interrupted")
            self._events.write("interrupted", self._position.step, "a checkpoint was written", signal=caught)
            raise KeyboardInterrupt
        return self._finish(tuning, batches, held_out)

    def _recover(self, error: BaseException, tuning: Tuning, batches: StepBatches) -> None:
        """Adjusts the settings and goes back to a checkpoint, or raises what ends the run: a `ModelError`, or `error` itself."""
        memory, step = is_out_of_memory(error), tuning.position.step
        if not memory and not isinstance(error, Divergence):
            raise error
        adjusted = self._adjusted
        adjusted.retries += 1
        if adjusted.retries > tuning.config.max_retries:
            raise ModelError(
                f"the run failed {adjusted.retries} times, the last time at step {step} ({error}): see {self._events.path}; "
                + ("lower model.context_length" if memory else "take a lower training.learning_rate")
                + f" and train into another --out (training.max_retries is {tuning.config.max_retries})"
            ) from error
        if memory:
            if batches.micro_batch_size == 1:
                raise ModelError(
                    "memory is used up by a single example: lower model.context_length or set training.gradient_checkpointing=true"
                ) from error
            adjusted.micro_batch_size = max(1, batches.micro_batch_size // 2)
            action = f"micro-batches of {adjusted.micro_batch_size}, back to a checkpoint"
        else:
            adjusted.rate_factor *= RATE_CUT
            action = f"learning rate times {adjusted.rate_factor:g}, back to a checkpoint"
        # A second divergence before the next checkpoint: the one that it went on from is not stable.
        again = not memory and self._rolled_back_to == self._position.last and bool(self._position.last)
        elapsed = self._position.elapsed_seconds
        kind = "out_of_memory" if memory else "divergence"
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        if memory and self.processes.sharded:
            self._start_again(kind, step, action, reason)
        self._position = self._newest(before=self._position.last if again else "")
        self._position.elapsed_seconds = elapsed  # what was in vain counts for the window, too
        self._rolled_back_to = self._position.last
        self._write_state("running")  # before anything is removed: a run that is killed now knows what was adjusted
        if self.processes.first:
            self._checkpoints.forget_after(self._position.last)
        if not self._position.last:
            tuning.model.load_adapter(self._fresh)
        self._events.write(kind, step, action, reason=reason, checkpoint=self._position.last)
        log.warning("%s at step %d: %s %s", kind.replace("_", " "), step, action, self._position.last or "(the start)")
        tuning.model.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _start_again(self, kind: str, step: int, action: str, reason: str) -> NoReturn:
        """Where the base is split the others wait for this process in the midst of the model, and nothing can be said to them: it writes
        down what is to change, whichever it is, and all start again. Raises `RestartError`."""
        self._position = self._checkpoints.newest()
        write_state(self.run_dir, "running", self._position, figures(self._position), to_dict(self._adjusted))
        self._events.silent = False
        self._events.write(kind, step, action, reason=reason, checkpoint=self._position.last)
        raise RestartError(f"memory is used up at step {step}: {action}; the same command goes on")

    def _load(self, model: MoEModel, dataset: TrainingDataset) -> tuple[list[Example], list[Example]]:
        """The examples to learn and those held out, of which there may be none. Raises `DataError`."""
        longest, domains = model.config.context_length, model.config.expert_domains
        examples = load_examples(dataset.train, self._tokenizer, longest, domains)
        held_out = load_examples(dataset.validation, self._tokenizer, longest, domains)
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
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment
        from lightning.pytorch.strategies import SingleDeviceStrategy
        from lightning.pytorch.utilities.exceptions import SIGTERMException

        if tuning.position.step >= tuning.plan.total or tuning.position.stopped:
            return
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = lightning.Trainer(
            accelerator="gpu" if tuning.model.device.type == "cuda" else "cpu",
            # To Lightning each process is one alone: what several tell each other is in `processes`, once a step.
            strategy=SingleDeviceStrategy(tuning.model.device),
            devices=1,
            plugins=[LightningEnvironment()],
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
                tuning.on_train_start = lambda: self._checkpoints.restore(tuning)  # type: ignore[method-assign]
            with suppress(SIGTERMException):  # of a SIGTERM before the first step, which `signals` has noted as well
                trainer.fit(tuning, loader)
        tuning.model.eval()

    def _save(self, tuning: Tuning, epoch: int) -> None:
        if self.processes.first:
            self._saved = tuning
            self.save_checkpoint(tuning.model, epoch)
            self._saved = None
            self._write_state("running")
            self._checkpoints.prune(tuning.position.best)  # only after run.json names the new ones
        self.processes.most(0)  # no process is past a checkpoint that may not stand

    def _write_state(self, status: str) -> None:
        if self.processes.first:
            write_state(self.run_dir, status, self._position, figures(self._position), to_dict(self._adjusted))

    def _finish(self, tuning: Tuning, batches: StepBatches, held_out: list[Example]) -> TrainedModel:
        position = tuning.position
        best = self.run_dir / "checkpoints" / position.best
        tuning.model.load_adapter(load_adapter_file(best))
        routing = routing_of(tuning.model, held_out, batches.micro_batch_size, tuning.config.micro_batch_tokens, self.processes)
        if self.processes.first:
            write_json(self.run_dir / "mixture.json", batches.mixture(position.step))
            write_json(self.run_dir / "routing.json", routing)
            self._write_state("finished")
            draw_loss(self.run_dir)
            draw_routing(self.run_dir)
            write_page(self.run_dir)
            write_card(self.run_dir)
        self.processes.most(0)
        return TrainedModel(self.run_dir, best, figures(position))

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=Console(stderr=True), disable=self.quiet or not self.processes.first)
