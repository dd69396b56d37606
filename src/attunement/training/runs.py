"""Runs as folders: which there are, what they have seen, and how they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.storage.files import read_json, read_jsonl


def runs_in(folder: Path, contains: str = "") -> list[dict[str, Any]]:
    """`run.json` of each run below `folder`, with its name; with `contains` only those that may have seen that source,
    conversation or example."""
    found = sorted(folder.glob("*/run.json"))
    return [{"run": p.parent.name, **read_json(p)} for p in found if not contains or has_seen(p.parent, contains)]


def has_seen(run_dir: Path, name: str) -> bool:
    """Whether `name` is a source, conversation or example of the run's training split."""
    path = run_dir / "examples.jsonl"
    return path.is_file() and any(name in (row["id"], row["source"], row["conversation_id"]) for row in read_jsonl(path))


def differences(run_dirs: Sequence[Path]) -> dict[str, list[Any]]:
    """For each setting in which the runs differ, and for each figure, a value a run (None where one has none).

    Raises `DataError` for a folder that holds no run.
    """
    tables = []
    for path in run_dirs:
        if not (path / "run.json").is_file():
            raise DataError(f"{path} holds no run: list them with  attune train list")
        parts = {name: read_json(path / f"{name}.json") for name in ("config", "dataset", "environment", "run")}
        kept = {
            k: parts["config"].get(k) for k in ("model", "training", "preference", "steps", "trainable_parameters", "examples")
        }
        run = {k: parts["run"].get(k) for k in ("status", "stopped", "step", "metrics", "adjusted")}
        names = {"dataset": parts["dataset"]["dataset_sha256"][:16], "environment": parts["environment"]}
        tables.append(dict(_flat({**kept, **names, "result": run})))
    every = list(dict.fromkeys(name for table in tables for name in table))
    rows = {name: [table.get(name) for table in tables] for name in every}
    return {name: values for name, values in rows.items() if name.startswith("result.") or len(set(map(repr, values))) > 1}


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, part in value.items():
        if isinstance(part, dict):
            yield from _flat(part, f"{before}{name}.")
        else:
            yield f"{before}{name}", part
