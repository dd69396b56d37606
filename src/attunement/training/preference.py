"""The second stage: a trained run's adapters go on learning from pairs of replies (`attune train prefer`).

It gives a run's folder like that of `training.system`, which appears whole when all is done; until then it lies beside it
(`training.unfinished`), and the same call goes on with it. Beside what every run has:

    config.json        the first run's, with the settings of this stage under `preference`
    dataset.json       the first run's, with the pairs' file, hash and licences
    examples.jsonl     of both stages: what the first had seen, and the pairs that were learned
    preference.json    what it was worth on the held-out pairs, with intervals (`training.held_out`)
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attunement.config import PreferenceSettings
from attunement.errors import DataError, ModelError
from attunement.model.checkpoint import atomic_folder, find_checkpoint, read_description
from attunement.model.moe_lora import MoEModel, load_moe
from attunement.records import TrainedModel
from attunement.storage.files import content_hash, exclusive, file_hash, read_json, read_jsonl, write_json, write_jsonl
from attunement.training.card import write_card
from attunement.training.data import load_examples
from attunement.training.folder import environment, write_state
from attunement.training.held_out import SideScores, figures, log_probabilities
from attunement.training.loop import ALL_DONE, Position
from attunement.training.pairs import Pair, encode_pair, read_pairs, split
from attunement.training.plot import draw_preference, write_page
from attunement.training.recovery import Divergence
from attunement.training.signals import Signals
from attunement.training.trl_trainers import Watch, require_trl, steps_of, tune
from attunement.training.unfinished import METRICS, Unfinished

log = logging.getLogger("attunement.training")


@dataclass(frozen=True)
class _Material:
    """What is learned from and what is only measured; `validation` is the first stage's split, None where it is gone."""

    learned: list[Pair]
    held_out: list[Pair]
    validation: list[Any] | None


class PreferenceTuning:
    """Tunes the best checkpoint of the run in `run` on pairs; the new run's folder is `out`."""

    def __init__(
        self, run: Path, out: Path, settings: PreferenceSettings | None = None, *, quiet: bool = True, device: str = "auto"
    ) -> None:
        self.run, self.out, self.settings = run, out, settings or PreferenceSettings.model_construct()
        self.quiet, self.device = quiet, device

    def tune(self, pairs: Path) -> TrainedModel:
        """The tuned run; what is there already, if it is the same one.

        Nothing stands in `out` before all is done. The same call goes on with one that was interrupted or killed, from its newest
        checkpoint. Raises `DataError`, `ModelError` (also when the tuning diverges), `MissingExtraError` without TRL.
        """
        require_trl()
        rows = read_pairs(pairs)
        checkpoint = find_checkpoint(self.run)
        if not (self.run / "config.json").is_file():
            raise DataError(f"{self.run} is not a run's folder: give the one of  attune train run --out")
        settings = self.settings.model_dump(mode="json", exclude={"checkpoint_interval"})  # that changes no weight
        self.key = content_hash([read_description(checkpoint)["adapter_sha256"], settings, file_hash(pairs)])
        busy = f"another training runs in {self.out}: wait for it or choose another --out"
        with exclusive(self.out.with_name(f".{self.out.name}.lock"), busy):
            for left in self.out.parent.glob(f".{self.out.name}.*.tmp"):  # of a call that was killed: no other runs here
                shutil.rmtree(left)
            place = self.out.with_name(f".{self.out.name}.unfinished")
            done = self._found()
            if done is None:
                unfinished = Unfinished(place, self.key)
                with atomic_folder(self.out) as folder:
                    self._write(folder, checkpoint, pairs, rows, unfinished)
                done = self._found()
            shutil.rmtree(place, ignore_errors=True)
        assert done is not None
        return done

    def _found(self) -> TrainedModel | None:
        if not self.out.exists():
            return None
        if not (self.out / "run.json").is_file():
            raise DataError(f"{self.out} exists and holds no run: choose another --out, or remove it")
        run = read_json(self.out / "run.json")
        if run["key"] != self.key:
            raise DataError(f"{self.out} holds another run: choose another --out, or remove it")
        return TrainedModel(self.out, self.out / "checkpoints" / run["best"], run["metrics"])

    # --- the tuning ---------------------------------------------------------------------------------

    def _write(self, folder: Path, checkpoint: Path, pairs: Path, rows: list[dict[str, Any]], unfinished: Unfinished) -> None:
        try:
            model, tokenizer, _ = load_moe(checkpoint, self.device)
            material = self._material(model, tokenizer, rows)
            before, metrics = self._measure(model, material)
            metrics |= {"steps": float(self._tune(model, tokenizer, material, before, unfinished))}
            metrics |= {"seconds": round(unfinished.seconds, 2)}
            after, later = self._measure(model, material)
        except (DataError, ModelError):  # the same call would end so again
            unfinished.remove()
            raise
        shutil.copyfile(unfinished.folder / METRICS, folder / METRICS)
        told = self._told(material.held_out, before, after)
        write_json(
            folder / "preference.json", {**told, "validation_loss": [metrics["validation_loss"], later["validation_loss"]]}
        )
        metrics = {name: value for name, value in {**metrics, **later, **_flat(told)}.items() if value is not None}
        name = f"prefer-step-{int(metrics['steps']):06d}"
        (folder / "checkpoints" / name).mkdir(parents=True)
        model.write_files(folder / "checkpoints" / name)
        self._describe(folder, model, material, pairs, name)
        state = Position(step=int(metrics["steps"]), best=name, last=name, stopped=ALL_DONE)
        write_state(folder, "finished", state, metrics)
        write_card(folder, self.out.name)
        draw_preference(folder)
        write_page(folder, self.out.name)

    def _material(self, model: MoEModel, tokenizer: Any, rows: list[dict[str, Any]]) -> _Material:
        if model.config.quantization:
            raise ModelError(
                f"the base of {self.run} is held in {model.config.quantization}, which TRL trains only under adapters of PEFT: "
                'train a run with model.quantization=""'
            )
        longest = min(self.settings.max_length, model.config.context_length)
        parts = split(rows, self.settings.held_out_share, self.settings.seed)
        learned, held_out = ([encode_pair(tokenizer, row, longest) for row in part] for part in parts)
        if not learned:
            raise DataError(
                f"no pairs are left to learn from: {len(rows)} in too few conversations; give more, or lower preference.held_out_share"
            )
        if not held_out:
            log.warning("no pairs are held out (preference.held_out_share): what the tuning was worth is not measured")
        path = Path(read_json(self.run / "dataset.json").get("validation", ""))
        validation = load_examples(path, tokenizer, model.config.context_length) if path.is_file() else None
        return _Material(learned, held_out, validation)

    def _measure(self, model: MoEModel, material: _Material) -> tuple[SideScores | None, dict[str, Any]]:
        """Scores on the held-out pairs, and the loss on the first stage's validation split."""
        scores = SideScores.of(model, material.held_out) if material.held_out else None
        loss = None
        if material.validation:
            sums, counts = log_probabilities(model, material.validation)
            loss = -float(sums.sum() / counts.sum())
        if not all(math.isfinite(x) for x in (loss or 0.0, *(() if scores is None else scores.sums.flat))):
            raise _diverged("the tuned model gives no numbers")
        perplexity = None if loss is None else round(math.exp(min(loss, 50.0)), 3)
        return scores, {"validation_loss": None if loss is None else round(loss, 5), "validation_perplexity": perplexity}

    def _tune(
        self, model: MoEModel, tokenizer: Any, material: _Material, before: SideScores | None, unfinished: Unfinished
    ) -> int:
        if read_json(self.run / "config.json")["training"].get("gradient_checkpointing"):
            model.enable_checkpointing()
        columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=self.quiet)

        def check() -> dict[str, float]:
            told = self._told(material.held_out, before, SideScores.of(model, material.held_out) if before else None)
            return {f"held_out_{name}": told["reward"][name][-1] for name in ("accuracy", "margin")} if before else {}

        def write(row: Mapping[str, Any]) -> None:
            with open(unfinished.folder / METRICS, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

        with Signals() as signals, bar as progress:
            watch = Watch(write, check, signals)
            try:
                steps = tune(
                    model, tokenizer, material.learned, self.settings, progress=progress, unfinished=unfinished, watch=watch
                )
            except Divergence as error:
                raise _diverged(str(error)) from error
        if signals:
            log.warning("interrupted at step %d: the same command goes on from there", steps)
            raise KeyboardInterrupt
        return steps

    def _told(self, pairs: Sequence[Pair], before: SideScores | None, after: SideScores | None) -> dict[str, Any]:
        if before is None or after is None:
            return {"pairs": 0}
        names = [pair.row["conversation_id"] for pair in pairs]
        return figures(before, after, names, self.settings.beta, self.settings.seed)

    # --- what is written ----------------------------------------------------------------------------

    def _describe(self, folder: Path, model: MoEModel, material: _Material, pairs: Path, name: str) -> None:
        first = {part: read_json(self.run / f"{part}.json") for part in ("config", "dataset", "run")}
        per_epoch, total = steps_of(len(material.learned), self.settings)
        stage = {
            "key": self.key,
            "preference": self.settings.model_dump(mode="json"),
            "tuned_from": {
                "run": str(self.run.resolve()),
                "key": first["run"]["key"],
                "checkpoint": find_checkpoint(self.run).name,
            },
            "pairs": {"learned": len(material.learned), "held_out": len(material.held_out)},
            "steps": {**first["config"]["steps"], "total": total, "per_epoch": per_epoch, "interval": total},
        }
        write_json(folder / "config.json", {**first["config"], **stage})
        rows = [pair.row for part in (material.learned, material.held_out) for pair in part]
        seen = {
            "pairs": str(pairs.resolve()),
            "pairs_sha256": file_hash(pairs),
            "pairs_licences": sorted({str(row.get("licence") or "unknown") for row in rows} | set(_licences(first["dataset"]))),
        }
        write_json(folder / "dataset.json", {**first["dataset"], **seen})
        packages = {package: version(package) for package in ("trl", "accelerate", "datasets")}
        write_json(folder / "environment.json", {**environment(model.device), **packages})
        write_jsonl(folder / "examples.jsonl", self._seen(material.learned))

    def _seen(self, learned: Sequence[Pair]) -> Iterator[dict[str, str]]:
        earlier = self.run / "examples.jsonl"
        yield from read_jsonl(earlier) if earlier.is_file() else ()
        for pair in learned:
            kind = str(pair.row.get("licence") or "")
            yield {**{n: pair.row[n] for n in ("id", "source", "conversation_id")}, "licence": kind, "licence_class": kind}


def _flat(told: dict[str, Any]) -> dict[str, float]:
    """The figures after the tuning, for `run.json`."""
    return {
        f"{kind}_{name}": told[kind][name][-1]
        for kind in ("reward", "likelihood")
        if kind in told
        for name in ("accuracy", "margin")
    }


def _licences(dataset: dict[str, Any]) -> list[str]:
    """Of the pairs of an earlier tuning: what was learned under a licence stays so."""
    return list(dataset.get("pairs_licences", []))


def _diverged(what: str) -> ModelError:
    return ModelError(f"the tuning diverged ({what}) and nothing was written: take a lower preference.learning_rate")
