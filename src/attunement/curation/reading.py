"""Step 1, read: every source file becomes shards of conversations on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attunement.config import DataSettings
from attunement.curation.dedup import signature
from attunement.curation.shards import Workspace, key_of, save_array
from attunement.readers.files import ReadFailure, SourceFile, read
from attunement.records import Conversation, from_dict, to_dict
from attunement.storage.files import file_hash, read_json, read_jsonl, write_json, write_jsonl

READ_VERSION = 5
"""Raised when readers give other records for the same bytes, so that old shards are made again."""


@dataclass(frozen=True)
class ReadShard:
    """One shard of read conversations. `sha256` is of the rows; `rows` counts conversations, failures and withdrawn."""

    file: SourceFile
    path: Path
    sha256: str
    rows: int

    @property
    def signatures(self) -> Path:
        return self.path.with_suffix(".npy")

    def load(self) -> Iterator[dict[str, Any]]:
        """Rows `{"kind": conversation|failure|withdrawn, ...}`; `conversation_of` makes the record."""
        return read_jsonl(self.path)


def conversation_of(row: dict[str, Any]) -> Conversation:
    return from_dict(Conversation, row["conversation"])


def spoken_text(conversation: Conversation) -> str:
    """What duplicates are found by: what was said, without who said it."""
    return "\n".join(turn.text for turn in conversation.turns if turn.role != "system")


def read_shards(
    file: SourceFile, settings: DataSettings, workspace: Workspace, withdrawn: Sequence[str], advance: Callable[[int], None]
) -> list[ReadShard]:
    """The shards of one file, from the work folder where they stand already. `advance` is told of rows read."""
    key = key_of(
        "read",
        READ_VERSION,
        file.name,
        file.sha256,
        file.source,
        file.licence,
        file.licence_class,
        file.share,
        file.recipe.model_dump(mode="json"),
        settings.max_record_bytes,
        settings.shard_conversations,
        settings.minhash_permutations,
        sorted(withdrawn),
    )
    folder = workspace.path("read", key)
    done = folder / "done.json"
    if not done.exists():
        shards = [
            _write_shard(folder / f"{number:05d}.jsonl", rows, settings, advance)
            for number, rows in enumerate(_blocks(file, settings, set(withdrawn)))
        ]
        write_json(done, {"shards": shards})
    return [ReadShard(file, folder / s["name"], s["sha256"], s["rows"]) for s in read_json(done)["shards"]]


def _blocks(file: SourceFile, settings: DataSettings, withdrawn: set[str]) -> Iterator[list[dict[str, Any]]]:
    block: list[dict[str, Any]] = []
    for found in read(file, max_record_bytes=settings.max_record_bytes):
        if isinstance(found, ReadFailure):
            block.append({"kind": "failure", **to_dict(found)})
        elif found.conversation_id in withdrawn or found.origin.record_sha256 in withdrawn:
            # The text is gone for good; the id stays, so that the count of what came in still adds up.
            block.append({"kind": "withdrawn", "conversation_id": found.conversation_id})
        else:
            block.append({"kind": "conversation", "conversation": to_dict(found)})
        if len(block) == settings.shard_conversations:
            yield block
            block = []
    if block:
        yield block


def _write_shard(
    path: Path, rows: list[dict[str, Any]], settings: DataSettings, advance: Callable[[int], None]
) -> dict[str, Any]:
    signatures = np.zeros((len(rows), settings.minhash_permutations), dtype=np.uint32)
    for i, row in enumerate(rows):
        if row["kind"] == "conversation":
            signatures[i] = signature(spoken_text(conversation_of(row)), settings.minhash_permutations)
    save_array(path.with_suffix(".npy"), signatures)
    write_jsonl(path, rows)
    advance(len(rows))
    return {"name": path.name, "rows": len(rows), "sha256": file_hash(path)}
