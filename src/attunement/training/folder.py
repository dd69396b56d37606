"""What a run's folder says of the run: settings, data, environment, and how far it is (`training.system` lists the files)."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attunement import __version__
from attunement.model.moe_lora import MoEModel
from attunement.records import TrainingConfig, TrainingDataset, to_dict
from attunement.security.age_files import read_jsonl
from attunement.storage.files import read_json, write_json, write_jsonl
from attunement.training.data import hash_of
from attunement.training.loop import Plan, Position
from attunement.training.processes import Processes


def describe(
    run_dir: Path,
    key: str,
    model: MoEModel,
    config: TrainingConfig,
    plan: Plan,
    dataset: TrainingDataset,
    examples: int,
    processes: Processes,
) -> None:
    """Writes what is known before the first step; `examples` is how many there are to learn."""
    told = {
        "key": key,
        "model": to_dict(model.config),
        "training": to_dict(config),
        "steps": to_dict(plan),
        "trainable_parameters": sum(p.numel() for p in model.trainable_parameters()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "examples": examples,
    }
    write_json(run_dir / "config.json", told)
    paths = {name: str(path.resolve()) for name in ("train", "validation", "test") if (path := getattr(dataset, name))}
    write_json(run_dir / "dataset.json", {"dataset_sha256": hash_of(dataset), **paths})
    shared = {"processes": processes.size, "base": "split" if processes.sharded else "whole"}
    write_json(run_dir / "environment.json", environment(model.device) | shared)
    if not (run_dir / "examples.jsonl").exists():
        kept = ("id", "source", "conversation_id", "licence", "licence_class")
        write_jsonl(run_dir / "examples.jsonl", ({k: row.get(k, "") for k in kept} for row in read_jsonl(dataset.train)))
    if not (run_dir / "run.json").exists():
        write_json(run_dir / "run.json", {"key": key, "status": "running", "step": 0, "best": "", "last": "", "metrics": {}})


def write_state(
    run_dir: Path, status: str, position: Position, metrics: Mapping[str, float], adjusted: Mapping[str, Any] | None = None
) -> None:
    """Writes `run.json`; `adjusted` is what recovery changed."""
    told = {
        "key": read_json(run_dir / "config.json")["key"],
        "status": status,
        "stopped": position.stopped,
        "step": position.step,
        "best": position.best or position.last,
        "last": position.last,
        "metrics": metrics,
        "adjusted": adjusted or {},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(run_dir / "run.json", told)


def figures(position: Position) -> dict[str, float]:
    """Steps, seconds, and the best validation loss where there is one."""
    found = {"steps": float(position.step), "seconds": round(position.elapsed_seconds, 2)}
    if math.isfinite(position.best_loss):
        perplexity = math.exp(min(position.best_loss, 50.0))
        found |= {"validation_loss": round(position.best_loss, 5), "validation_perplexity": round(perplexity, 3)}
    return found


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and threads: what a figure needs to be understood later."""
    packages = ("torch", "transformers", "lightning", "safetensors", "tokenizers")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "attunement": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "device": f"{device.type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str:
    """Of the repository that the command runs in, with a mark where files differ from it; empty outside of one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()
