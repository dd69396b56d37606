"""The work folder of a build: shards that are done once, found again by the hash of what made them.

    work/read/<key>/00000.jsonl   conversations of one source file, with 00000.npy, their signatures
    work/pairs/<key>.jsonl        pairs of one read shard, with <key>.npy
    work/scores/<key>.json        coherence of one shard's pairs

A key is the hash of the input's content and of the settings that matter, so a resumed, repeated or changed build
redoes only what it must, and what nothing refers to any more is removed at the end (`sweep`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attunement.storage.files import atomic_write, content_hash, exclusive


class Workspace:
    """Paths below `work/` and the record of which of them this build used."""

    def __init__(self, out: Path) -> None:
        self.root = out / "work"
        self._used: set[Path] = set()

    def path(self, step: str, key: str, suffix: str = "") -> Path:
        """The place for `key`'s result in `step`; it counts as used by this build."""
        path = self.root / step / f"{key}{suffix}"
        self._used.add(path)
        return path

    def sweep(self) -> int:
        """Removes the results that this build did not use (of changed settings, withdrawn texts); how many.

        And the unfinished files of builds that were killed: only one build runs here, so they are nobody's.
        """
        for path in self.root.parent.rglob(".*.tmp"):
            path.unlink()
        removed = 0
        for step in ("read", "pairs", "scores"):
            folder = self.root / step
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path not in self._used:
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                    removed += 1
        return removed

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time in a folder. Raises `DataError` when another one runs there."""
        busy = f"another build is running in {self.root.parent}: wait for it or choose another --out"
        with exclusive(self.root / "lock", busy):
            yield


def key_of(*parts: Any) -> str:
    """A short name for what `parts` (plain data) determine."""
    return content_hash(list(parts))[:24]


def save_array(path: Path, array: NDArray[Any]) -> None:
    with atomic_write(path, binary=True) as file:
        np.save(file, array, allow_pickle=False)
