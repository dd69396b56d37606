"""The seam to TRL: its DPO and ORPO trainers over a `MoEModel`'s adapters.

Why each of their methods is overridden here is told in docs/decisions/009-preference-tuning.md. Nothing of a trainer goes to
disk but our own checkpoints (`training.unfinished`), and nothing to the outside: no model cards, no reports, no telemetry.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from attunement.config import PreferenceSettings
from attunement.errors import MissingExtraError, ModelError
from attunement.model.base import import_bitsandbytes
from attunement.model.chat import IGNORED
from attunement.model.experts import ExpertFeedForward
from attunement.model.moe_lora import MoEModel
from attunement.training.pairs import SIDES, Pair
from attunement.training.recovery import Divergence
from attunement.training.signals import Signals
from attunement.training.unfinished import Unfinished, put_adapter, put_generators, put_optimizer

import_bitsandbytes()  # Transformers' callbacks import PEFT, which imports it
from transformers import PrinterCallback, TrainerCallback  # noqa: E402

WARM_UP_SHARE = 0.1
LOGGED = {
    "loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm",
    "rewards/accuracies": "reward_accuracy", "rewards/margins": "reward_margin",
}  # fmt: skip
"""What `metrics.jsonl` takes over from TRL, and how it is called there."""
Row = dict[str, Any]


def require_trl() -> None:
    """Raises `MissingExtraError` where TRL is not installed."""
    try:
        import datasets  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("preference tuning", "prefer") from error


@dataclass(frozen=True)
class Watch:
    """What looks on: `write` takes one row a step, `check` gives figures for the row before a checkpoint, `signals` tell
    when to stop, which is done after a checkpoint."""

    write: Callable[[Row], None]
    check: Callable[[], Row]
    signals: Signals = field(default_factory=Signals)


def tune(
    model: MoEModel,
    tokenizer: Any,
    pairs: Sequence[Pair],
    settings: PreferenceSettings,
    *,
    progress: Progress,
    unfinished: Unfinished,
    watch: Watch,
) -> int:
    """Goes on training the adapters of `model` in place, with the model as it is now for the reference; returns the steps.

    It goes on from the newest checkpoint in `unfinished`, as if it had not been interrupted. The routers rest: the losses that keep
    them even and drawn to domains are not TRL's. Raises `Divergence` as soon as a loss is no number.
    """
    from datasets import Dataset

    make = {"dpo": _dpo, "orpo": _orpo}[settings.method]
    with tempfile.TemporaryDirectory() as folder, _quiet(), _routers_at_rest(model), _own_forward(model.base):
        kind, config, row = make(progress, unfinished)
        arguments = config(output_dir=folder, **_arguments(model, len(pairs), settings))
        assert arguments.device.type == model.device.type
        arguments._n_gpu = min(1, arguments._n_gpu)  # one process, one GPU: TRL refuses what Transformers would do with more
        trainer = kind(
            model=model.base,
            args=arguments,
            train_dataset=Dataset.from_list([row(pair) for pair in pairs]),
            processing_class=tokenizer,
            callbacks=[_Told(progress, watch, model, settings.checkpoint_interval)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.tuned, trainer.unfinished = model, unfinished
        start, (_, total) = unfinished.newest(), steps_of(len(pairs), settings)
        if start is not None and _step(start) >= total:  # Transformers would take one step more
            put_adapter(start, model)
        else:
            trainer.train(resume_from_checkpoint=None if start is None else str(start))
        model.eval()
        return max(int(trainer.state.global_step), 0 if start is None else _step(start))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def steps_of(pairs: int, settings: PreferenceSettings) -> tuple[int, int]:
    """Steps in an epoch and in all."""
    per_epoch = -(-pairs // settings.batch_size)
    total = per_epoch * settings.epochs
    return per_epoch, min(total, settings.max_steps) if settings.max_steps else total


def _arguments(model: MoEModel, pairs: int, settings: PreferenceSettings) -> dict[str, Any]:
    """TRL's arguments. `max_length` is none of them: pairs are cut already, at their oldest turns."""
    micro = min(settings.micro_batch_size, settings.batch_size)
    _, total = steps_of(pairs, settings)
    return {
        "beta": settings.beta,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, int(total * WARM_UP_SHARE)),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": -(-settings.batch_size // micro),
        "seed": settings.seed,
        "use_cpu": model.device.type == "cpu",
        "bf16": False,  # no autocast: the base is in its own precision, the adapters in float32
        "gradient_checkpointing": False,  # `MoEModel.enable_checkpointing` keeps the routing's state
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": settings.checkpoint_interval,
        "eval_strategy": "no",
        "push_to_hub": False,
    }


class _Guarded:
    """What both trainers must do otherwise than TRL and Transformers."""

    tuned: MoEModel
    unfinished: Unfinished

    def training_step(self, *arguments: Any, **options: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*arguments, **options)  # type: ignore[misc]
        if not torch.isfinite(loss):
            raise Divergence(f"loss {float(loss):.3g} at step {self.state.global_step + 1}")  # type: ignore[attr-defined]
        return loss

    def _send_telemetry(self) -> None:
        """TRL's would tell the hub about each trainer that is made."""

    # Theirs hold the whole base, and pickles.

    def _save_checkpoint(self, *_: Any, **__: Any) -> None:
        self.unfinished.write(self.tuned, self)

    def _load_from_checkpoint(self, checkpoint: str, *_: Any, **__: Any) -> None:
        put_adapter(Path(checkpoint), self.tuned)

    def _load_optimizer_and_scheduler(self, checkpoint: str) -> None:
        put_optimizer(Path(checkpoint), self.tuned, self)

    def _load_rng_state(self, checkpoint: str) -> None:
        put_generators(Path(checkpoint))


def _dpo(progress: Progress, unfinished: Unfinished) -> tuple[Any, Any, Callable[[Pair], Row]]:
    from trl import DPOConfig, DPOTrainer

    class Trainer(_Guarded, DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            """Ids come as this package makes them (`training.pairs`)."""
            return dataset

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            """With the model as it is before its first step: TRL's own leaves a file in a cache and draws a bar."""
            if columns := unfinished.reference():
                for column, values in columns.items():
                    dataset = dataset.add_column(column, values)
                return dataset
            task, found = progress.add_task("reference", total=len(dataset)), []
            for start in range(0, len(dataset), batch_size):
                rows = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
                batch = self._prepare_inputs(self.data_collator(rows))
                found.append(torch.stack(self.compute_ref_log_probs(self.model, batch)))
                progress.advance(task, len(rows))
            sides = zip(SIDES, torch.cat(found, 1), strict=True)
            unfinished.keep_reference({f"ref_{side}_logps": values for side, values in sides})
            return self._precompute_ref_logps(dataset, name, batch_size)

    def config(**arguments: Any) -> Any:
        return DPOConfig(precompute_ref_log_probs=True, max_length=None, **arguments)

    def row(pair: Pair) -> Row:
        return {"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}

    return Trainer, config, row


def _orpo(_: Progress, __: Unfinished) -> tuple[Any, Any, Callable[[Pair], Row]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental is told in docs/training.md
        try:
            from trl.experimental.orpo import ORPOConfig, ORPOTrainer
        except ImportError as error:
            raise ModelError("the installed TRL has no ORPO: take --method dpo, or another version of TRL") from error

    class Trainer(_Guarded, ORPOTrainer):  # type: ignore[misc]
        def tokenize_row(self, feature: Row, model: Any = None) -> Row:
            """Ids come as this package makes them (`training.pairs`)."""
            return {}

    def row(pair: Pair) -> Row:
        out: Row = {"prompt": "", **dict.fromkeys(SIDES, "")}  # TRL asks for texts, too
        for side, reply in zip(SIDES, (pair.chosen, pair.rejected), strict=True):
            ids = pair.prompt + reply
            out[f"{side}_input_ids"], out[f"{side}_attention_mask"] = ids, [1] * len(ids)
            out[f"{side}_labels"] = [IGNORED] * len(pair.prompt) + reply
        return {**out, "prompt_input_ids": pair.prompt, "prompt_attention_mask": [1] * len(pair.prompt)}

    return Trainer, ORPOConfig, row


class _Told(TrainerCallback):  # type: ignore[misc]
    """Writes a row a step, draws the bar, and stops at a checkpoint when it is asked to."""

    def __init__(self, progress: Progress, watch: Watch, model: MoEModel, interval: int) -> None:
        self._progress, self._watch, self._model, self._interval = progress, watch, model, interval
        self._task = progress.add_task("prefer")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:  # the last one sums up
            return
        row = {own: round(float(logs[name]), 6) for name, own in LOGGED.items() if name in logs}
        checked = self._checked() if state.global_step % self._interval == 0 and state.global_step < state.max_steps else {}
        self._watch.write({"step": state.global_step, "validation_loss": None, **row, **checked})
        told = f"prefer (loss {row['loss']:.3f})"
        self._progress.update(self._task, total=state.max_steps, completed=state.global_step, description=told)

    def _checked(self) -> Row:
        """The figures of a checkpoint. The trainer knows of the base alone, whose mode must be what it was."""
        base = self._model.base
        before = base.training
        found = self._watch.check()
        base.train(before)
        return found

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._watch.signals:
            control.should_save = control.should_training_stop = True


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars of `datasets`, and without what TRL and Transformers tell each other about renamed arguments."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if not before:
            enable_progress_bars()


@contextmanager
def _routers_at_rest(model: MoEModel) -> Iterator[None]:
    routers = [m.router.weight for m in model.modules() if isinstance(m, ExpertFeedForward)]
    for weight in routers:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in routers:
            weight.requires_grad_(True)


@contextmanager
def _own_forward(base: Any) -> Iterator[None]:
    """After the block the base's forward pass is its own: TRL puts another in its place."""
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):
            vars(base).pop(name, None)
