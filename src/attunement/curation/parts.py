"""The parts of a full build: what is made for the shares that the given sources leave short, in `<out>/sources`.

Who makes them is told from outside (`Parts`); here they are sources like any other, with a `source.toml` of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from attunement.readers.files import SourceFile, discover
from attunement.storage.files import read_json

FULL = "full"
PARTS = "sources"
FACTS = ".parts.json"
"""Beside the parts, hidden: what each of them is, by share, and what made it."""


class Parts(Protocol):
    """Makes the parts below `folder` and writes `FACTS` there; what stands already and would come out the same is left.

    `available` counts the examples of the given sources by share, after all steps but the balance; `tick` is called for every
    conversation that is made.
    """

    def __call__(self, available: Mapping[str, int], folder: Path, tick: Callable[[], None]) -> None: ...


def source_files(paths: Sequence[Path], out: Path, preset: str | None) -> list[SourceFile]:
    """What is to be read: below `paths`, and of a full build its parts. Raises `DataError` as `discover` does.

    A dataset that lies among its sources must not read itself.
    """
    parts = out / PARTS
    if preset == FULL:
        parts.mkdir(parents=True, exist_ok=True)  # empty, too: with it files have the same names before and after
    found = discover([*paths, parts], preset=None) if preset == FULL else discover(paths, preset=preset)
    own = out.resolve()
    files = []
    for file in found:
        if preset == FULL and in_parts(file.path, out):
            files.append(file)
        elif not file.path.resolve().is_relative_to(own):
            files.append(replace(file, skip_reason="is part of a dataset") if _in_dataset(file.path) else file)
    return files


def in_parts(path: Path, out: Path) -> bool:
    """Whether a file is one of the parts of the dataset in `out`."""
    return path.resolve().is_relative_to((out / PARTS).resolve())


def facts_of(out: Path, preset: str | None) -> dict[str, Any]:
    """What was made for the dataset in `out`, by share."""
    path = out / PARTS / FACTS
    return {share: row["facts"] for share, row in read_json(path).items()} if preset == FULL and path.is_file() else {}


def _in_dataset(path: Path) -> bool:
    """Whether a file lies in a folder that a build made: what was made of conversations is no source of them."""
    return any((folder / "manifest.json").is_file() and (folder / "provenance.jsonl").is_file() for folder in path.parents)
