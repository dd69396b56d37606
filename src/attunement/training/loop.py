"""One run's loop on PyTorch Lightning: the steps, and what is written between them (of several processes, by the first).

`Tuning` takes one optimiser step per call, over micro-batches; `Journal` writes metrics and checkpoints, validates,
and stops the run when its time, its patience or its steps are over.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.progress import Progress

from attunement.errors import ModelError
from attunement.model.experts import ROUTER_LOSSES
from attunement.model.moe_lora import MoEModel
from attunement.records import TrainingConfig, TrainingMetrics, to_dict
from attunement.storage.files import atomic_write
from attunement.training.board import Board
from attunement.training.data import Batch
from attunement.training.processes import Processes
from attunement.training.recovery import Adjusted, Events, LossGuard
from attunement.training.signals import Signals

ALL_DONE, OUT_OF_TIME = "all steps done", "the training window is over"
"""Why a run ended, beside patience."""
SEED_STRIDE = 1_000_003
"""More than a run has steps: no two micro-batches draw the same dropout."""


@dataclass(frozen=True)
class Plan:
    """What a short or long run makes of its `TrainingConfig`, whose figures are upper limits; all in steps."""

    total: int
    warmup: int
    interval: int
    per_epoch: int

    @classmethod
    def of(cls, config: TrainingConfig, steps_per_epoch: int) -> Plan:
        """At most a tenth of the run is warm-up, and there is at least one checkpoint an epoch."""
        total = steps_per_epoch * config.epochs
        total = min(total, config.max_steps) if config.max_steps else total
        warmup = min(config.warmup_steps, max(1, total // 10))
        return cls(total, warmup, max(1, min(config.checkpoint_interval, steps_per_epoch, total)), steps_per_epoch)

    def told(self, config: TrainingConfig) -> str:
        """In a line, beside what was asked for."""
        return (
            f"{self.total:,} steps ({self.per_epoch:,} an epoch), warm-up {self.warmup:,} (at most {config.warmup_steps:,}), "
            f"a checkpoint every {self.interval:,} (at most {config.checkpoint_interval:,}), at most {config.max_duration_hours:g} hours"
        )

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at `step`: linear warm-up, then a cosine down to a tenth."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.total - self.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass
class Position:
    """Where a run stands; what a resumed one goes on from."""

    step: int = 0
    elapsed_seconds: float = 0.0
    best_loss: float = math.inf
    best: str = ""
    last: str = ""
    without_improvement: int = 0
    stopped: str = ""


class Tuning(lightning.LightningModule):
    """The optimisation. One Lightning batch is the list of micro-batches of one step.

    With `draws_domains` the router is drawn to the tokens' domains: with a single one it would leave the other experts idle.
    """

    def __init__(
        self,
        model: MoEModel,
        config: TrainingConfig,
        plan: Plan,
        position: Position,
        adjusted: Adjusted,
        events: Events,
        *,
        draws_domains: bool,
        processes: Processes | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.config, self.plan, self.position = model, config, plan, position
        self.adjusted, self.events, self.guard = adjusted, events, LossGuard()
        self.draws_domains, self.processes = draws_domains, processes or Processes()
        self.last_loss, self.last_rate, self.last_tokens = math.nan, 0.0, 0
        self.last: dict[str, float] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        decayed = [p for p in self.model.trainable_parameters() if p.ndim > 1]
        plain = [p for p in self.model.trainable_parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.config.learning_rate, betas=(0.9, 0.95))

    def transfer_batch_to_device(self, batch: list[Batch], device: torch.device, dataloader_idx: int) -> list[Batch]:
        return [part.to(device) for part in batch]

    def training_step(self, batch: list[Batch], batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.last_rate = self.config.learning_rate * self.adjusted.rate_factor * self.plan.rate(self.position.step)
        for group in optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = self.last_rate
        parameters = self.model.trainable_parameters()
        mine = self.processes.together(lambda: self._passes(batch))
        self.processes.add_gradients(parameters)
        loss, tokens, *router = self.processes.sums(mine)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_clip))
        if self.guard.allows(loss, norm):
            self.processes.together(optimizer.step)  # type: ignore[union-attr]
        else:
            self.events.write(
                "odd_loss", self.position.step, "its update is left out", loss=loss, threshold=self.guard.threshold()
            )
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.position.step += 1
        self.last_loss, self.last_tokens = loss, int(tokens)
        router_losses = {f"router_{name}": round(float(value), 6) for name, value in zip(ROUTER_LOSSES, router, strict=True)}
        self.last = {"gradient_norm": round(norm, 6), **router_losses}

    def _passes(self, batch: list[Batch]) -> list[float]:
        """Forward and backward; gives the weighted loss, the tokens, and the weighted router losses.

        Weighted by learned tokens, so that neither the split into micro-batches nor that over processes changes the step.
        """
        loss, tokens, router = 0.0, 0, torch.zeros(len(ROUTER_LOSSES))
        for part in batch:
            # Dropout by the micro-batch: after a resume, and in whichever process it runs, it is what it would have been.
            torch.manual_seed((self.config.seed + self.position.step + part.number * SEED_STRIDE) % 2**32)
            domains = part.domains if self.draws_domains else None
            out = self.model(part.input_ids, None, part.labels, lengths=part.lengths, domains=domains)
            self.manual_backward(out.loss * part.weight)
            loss += out.language_loss.item() * part.weight
            tokens += part.input_ids.numel() if part.weight else 0
            router += out.router_losses.float().cpu() * part.weight
        return [loss, tokens, *router.tolist()]


class Journal(lightning.Callback):
    """Writes down what happens and decides when it is over.

    `validate` gives the validation loss in nats, None without validation data; `save(tuning, epoch)` writes a
    checkpoint; `signals` notes when one asks to stop.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        validate: Callable[[], float | None],
        save: Callable[[Tuning, int], None],
        signals: Signals,
        progress: Progress,
        board: Board | None = None,
    ) -> None:
        self._log = run_dir / "metrics.jsonl"
        self._validate, self._save, self._signals, self._progress = validate, save, signals, progress
        self._board = board
        # One bar, however often the run goes back to a checkpoint.
        self._task = progress.tasks[0].id if progress.tasks else progress.add_task("train")
        self._before = 0.0
        self._started = self._last = self._saving = 0.0
        self._steps: deque[float] = deque(maxlen=64)

    def on_fit_start(self, trainer: Any, pl_module: lightning.LightningModule) -> None:
        module = _tuning(pl_module)
        self._before, self._started, self._last = module.position.elapsed_seconds, time.monotonic(), time.monotonic()
        self._progress.update(self._task, total=module.plan.total, completed=module.position.step)
        if module.processes.first:
            self._forget_after(module.position.step)

    def on_train_start(self, trainer: Any, pl_module: lightning.LightningModule) -> None:
        self._signals.listen()

    def on_train_batch_end(
        self, trainer: Any, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = _tuning(pl_module)
        position, plan, config, now = module.position, module.plan, module.config, time.monotonic()
        taken = max(1e-9, now - self._last)
        self._steps.append(taken)
        # What a checkpoint and one more step would take must fit in as well. A signal counts once all processes know it.
        needed = self._saving + statistics.median(self._steps)
        position.elapsed_seconds, needed, stop = module.processes.most(
            self._before + now - self._started, needed, self._signals.caught
        )
        metrics = TrainingMetrics(position.step, module.last_loss, module.last_rate, round(module.last_tokens / taken, 1))
        told = f"train (loss {module.last_loss:.2f}, {metrics.tokens_per_second:,.0f} tokens/s)"
        self._progress.update(self._task, completed=position.step, description=told)
        window = (config.max_duration_hours + module.adjusted.extra_hours) * 3600
        out_of_time = position.elapsed_seconds + needed > window
        over = position.step >= plan.total or out_of_time
        if over or position.step % plan.interval == 0:
            metrics = self._checkpoint(module, metrics)
            if not over and position.without_improvement >= config.early_stopping_patience:
                position.stopped = f"no improvement in {config.early_stopping_patience} validations"
            elif over:
                position.stopped = OUT_OF_TIME if position.step < plan.total else ALL_DONE
        elif stop:
            self._keep(module)
        trainer.should_stop = bool(position.stopped or stop)
        if module.processes.first:
            self._write({**to_dict(metrics), **module.last})
        self._last = time.monotonic()

    def _checkpoint(self, module: Tuning, metrics: TrainingMetrics) -> TrainingMetrics:
        position, plan = module.position, module.plan
        loss = self._validate()
        if loss is None:  # nothing to choose by: the last checkpoint is the one to take, and patience never ends
            position.best = _name(position, plan)
        elif loss < position.best_loss:
            position.best_loss, position.best, position.without_improvement = loss, _name(position, plan), 0
        else:
            position.without_improvement += 1
        self._keep(module)
        perplexity = None if loss is None else math.exp(min(loss, 50.0))
        return replace(metrics, validation_loss=loss, perplexity=perplexity)

    def _keep(self, module: Tuning) -> None:
        started = time.monotonic()
        module.position.last = _name(module.position, module.plan)
        self._save(module, _epoch(module.position, module.plan))
        self._saving = time.monotonic() - started

    def _forget_after(self, step: int) -> None:
        """Rows past the checkpoint that the run goes on from would stand twice."""
        if self._log.exists():
            rows = [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            with atomic_write(self._log) as file:
                file.writelines(json.dumps(row) + "\n" for row in rows if row["step"] <= step)

    def _write(self, row: Mapping[str, Any]) -> None:
        with open(self._log, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board:
            self._board.write(row)


def _tuning(module: lightning.LightningModule) -> Tuning:
    assert isinstance(module, Tuning)
    return module


def _epoch(position: Position, plan: Plan) -> int:
    return -(-position.step // plan.per_epoch)


def _name(position: Position, plan: Plan) -> str:
    return f"epoch-{_epoch(position, plan):03d}-step-{position.step:06d}"


def moments(model: MoEModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's moments by parameter name, for safetensors."""
    out = {}
    for name, parameter in model.named_trainable():
        for key, value in optimizer.state.get(parameter, {}).items():
            out[f"{name}/{key}"] = value.detach().cpu().contiguous()
    return out


def put_moments(model: MoEModel, optimizer: torch.optim.Optimizer, state: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `moments`. Raises `ModelError` when a moment is missing."""
    try:
        for name, parameter in model.named_trainable():
            optimizer.state[parameter] = {
                "step": state[f"{name}/step"],
                "exp_avg": state[f"{name}/exp_avg"].to(parameter.device),
                "exp_avg_sq": state[f"{name}/exp_avg_sq"].to(parameter.device),
            }
    except KeyError as error:
        raise ModelError(f"the checkpoint's optimiser state lacks {error}: train again into another --out") from error
