"""A run's model card (Mitchell 2019), `model_card.md`: what it is, what it learned from and under which licences, its figures and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attunement.model.export import CAUTION
from attunement.storage.files import read_json, read_jsonl, write_text

NOT_FREE = {"NC": "not for commercial use", "N": "no licence to pass it on", "SA": "to be shared alike"}
"""Classes of licences that bind whoever passes the model on; R is free."""
LIMITS = f"""\
## What it is for, and what it is not
For people who build and check therapeutic dialogue models. {CAUTION} Nothing that
comes out of it may reach a person in distress without a qualified human in charge and the gate of `attune serve`.

A held-out perplexity tells how well it predicts replies like those it was shown, not whether they help anybody. `attune eval run` judges
replies beside the base's and measures whether it answers alike whoever somebody says that they are."""


def write_card(run_dir: Path, name: str = "") -> Path:
    """Writes the card of the finished run in `run_dir`, called `name` if the folder is not yet."""
    parts = {name: read_json(run_dir / f"{name}.json") for name in ("config", "dataset", "environment", "run")}
    path = run_dir / "model_card.md"
    write_text(path, "\n".join([*_model(name or run_dir.name, parts), *_data(run_dir), *_figures(parts["run"]), LIMITS, ""]))
    return path


def _model(name: str, parts: Mapping[str, Any]) -> Iterator[str]:
    config, run = parts["config"], parts["run"]
    model, training = config["model"], config["training"]
    yield f"# {name}"
    yield ""
    yield (
        f"`{model['base']}` as a Mixture of {model['num_experts']} experts, top {model['top_k']}, by LoRA of rank {model['lora_rank']}: "
        f"{config['trainable_parameters']:,} of {config['parameters']:,} parameters were trained."
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| made with | attunement {parts['environment']['attunement']}, {parts['environment']['device']} |"
    yield f"| commit | {parts['environment'].get('commit') or 'not known'} |"
    yield f"| dataset | {parts['dataset']['dataset_sha256']} |"
    yield f"| domains | {', '.join(model['expert_domains'])} |"
    yield f"| steps | {run['step']:,} of {training['batch_size']} examples; ended by: {run['stopped']} |"
    yield f"| checkpoint | {run['best']} |"
    yield ""


def _data(run_dir: Path) -> Iterator[str]:
    rows = list(read_jsonl(run_dir / "examples.jsonl"))
    counts = Counter((row["source"], row.get("licence", ""), row.get("licence_class", "")) for row in rows)
    yield "## What it may have learned from"
    yield "| source | examples | licence |"
    yield "|---|---|---|"
    for (source, licence, kind), count in counts.most_common():
        bound = f", **{NOT_FREE[kind]}**" if kind in NOT_FREE else ""
        yield f"| {source} | {count:,} | {licence or 'not known'}{bound} |"
    yield ""
    yield "Each example and its conversation stand in `examples.jsonl`; `attune data withdraw` names the runs that have seen one."
    yield ""


def _figures(run: Mapping[str, Any]) -> Iterator[str]:
    yield "## Figures"
    yield "| | |"
    yield "|---|---|"
    for name, value in run["metrics"].items():
        yield f"| {name.replace('_', ' ')} | {value:,.5g} |"
    yield ""
