"""Where an adapter lies on disk: folders that stand are whole, and a run's folder leads to its best checkpoint."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attunement.errors import DataError, IntegrityError, ModelError
from attunement.security.age_files import open_file, seal_file
from attunement.storage.files import file_hash, read_json, write_json

ADAPTER, DESCRIPTION = "adapter.safetensors", "moe.json"
DENSE, SPARSE = "dense", "sparse"
"""What kind of base a checkpoint's adapter is for: `kind` in `moe.json`, "dense" where it is not said."""
FORMAT, FORMAT_VERSION = "attunement-moe-lora", 1


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `path` only when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in (path for path in temporary.rglob("*") if path.is_file()):
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        if path.exists():  # a folder cannot be swapped in one step: keep the old one until the new one stands
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that `path` means: itself, or the best one of the run in it. Raises `ModelError`."""
    if (path / DESCRIPTION).is_file():
        return path
    if not path.is_dir():
        raise ModelError(f"there is no model at {path}: give the folder of a run or of a checkpoint")
    if not (path / "run.json").is_file():
        raise ModelError(
            f"{path} holds neither a checkpoint ({DESCRIPTION}) nor a run (run.json): train one with  attune train run"
        )
    best = read_json(path / "run.json").get("best")
    if not best:
        raise ModelError(f"the run {path} has no checkpoint yet: go on with  attune train resume {shlex.quote(str(path))}")
    return path / "checkpoints" / str(best)


def write_description(folder: Path, fields: dict[str, Any]) -> None:
    """`moe.json`, with the hash of the adapter that lies beside it."""
    write_json(
        folder / DESCRIPTION,
        {"format": FORMAT, "format_version": FORMAT_VERSION, "adapter_sha256": file_hash(folder / ADAPTER), **fields},
    )


def read_description(folder: Path) -> dict[str, Any]:
    """The checked content of `moe.json`. Raises `ModelError` for a foreign one, `IntegrityError` for a damaged one."""
    try:
        found = read_json(folder / DESCRIPTION)
    except DataError as error:
        raise ModelError(f"the checkpoint {folder} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ModelError(f"{folder / DESCRIPTION} does not describe a model of this program: take another checkpoint")
    if found.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"the checkpoint {folder} has format {found.get('format_version')}: a newer attunement wrote it, update yours"
        )
    if not (folder / ADAPTER).is_file() or _plain_hash(folder / ADAPTER) != found.get("adapter_sha256"):
        raise IntegrityError(f"{folder / ADAPTER} is missing or damaged (its checksum differs): take another checkpoint")
    return found


def seal_checkpoint(folder: Path, recipients: Sequence[str]) -> None:
    """Encrypts a checkpoint's weights in their place, for `recipients` (`age1...`); `moe.json` keeps the hash of the plain ones."""
    seal_file(folder / ADAPTER, recipients)


def _plain_hash(path: Path) -> str:
    """SHA-256 of a file, of an encrypted one as it is inside."""
    with open_file(path) as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
