"""Training examples: chat JSON lines as token ids, in an order that a seed and a step determine.

Only the last reply of each example is learned. Examples of like length share a batch, so that little is padded:
shuffled, sorted by length within blocks, cut, and the batches shuffled again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attunement.errors import DataError
from attunement.model.chat import IGNORED, Encoded, encode_example
from attunement.records import TrainingDataset
from attunement.storage.files import content_hash, file_hash, read_json, read_jsonl

BLOCK_BATCHES = 32
"""Batches per block that is sorted by length: enough to pad little, few enough to stay random."""


def dataset_of(folder: Path) -> TrainingDataset:
    """The splits in a folder that `attune data build` wrote. Raises `DataError` when there are none."""
    missing = [name for name in ("train.jsonl", "validation.jsonl") if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} has no {missing[0]}: build a dataset first with  attune data build SOURCE --out {folder}")
    test = folder / "test.jsonl"
    manifest = folder / "manifest.json"
    named = read_json(manifest)["dataset_sha256"] if manifest.is_file() else ""
    return TrainingDataset(folder / "train.jsonl", folder / "validation.jsonl", test if test.is_file() else None, named)


def hash_of(dataset: TrainingDataset) -> str:
    """The hash that names the set: its own, or that of its splits' files."""
    return dataset.dataset_sha256 or content_hash([file_hash(p) for p in (dataset.train, dataset.validation)])


def load_examples(path: Path, tokenizer: Any, longest: int) -> list[Encoded]:
    """Every example of a split. Raises `DataError` that names the line which is no example."""
    out = []
    try:
        for number, row in enumerate(read_jsonl(path), 1):
            messages = row["messages"]
            if len(messages) < 2 or messages[-1]["role"] != "assistant":
                raise DataError(f"{path}, line {number}: the last message must be the assistant's")
            out.append(encode_example(tokenizer, messages, longest))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}, line {len(out) + 1}: no example in chat form (messages with role and content)") from error
    return out


@dataclass(frozen=True)
class Batch:
    """`input_ids`, `attention_mask` and `labels`, each `[B, T]`, padded on the right."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


def collate(examples: list[Encoded], pad: int) -> Batch:
    """`examples` as one batch."""
    width = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), width), pad)
    labels = torch.full((len(examples), width), IGNORED)
    mask = torch.zeros(len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length], labels[row, :length] = torch.tensor(example.ids), torch.tensor(example.labels)
        mask[row, :length] = 1
    return Batch(ids, mask, labels)


class StepBatches(torch.utils.data.IterableDataset[list[Batch]]):
    """The optimiser steps from `first_step` on: each a list of micro-batches that make one batch.

    Step `n` holds the same examples however often the run was interrupted before it.
    """

    def __init__(
        self, examples: list[Encoded], *, batch_size: int, micro_batch_size: int, pad: int, seed: int, first_step: int = 0
    ) -> None:
        self._examples, self._batch, self._micro = examples, batch_size, min(micro_batch_size, batch_size)
        self._pad, self._seed, self._first = pad, seed, first_step
        self.steps_per_epoch = -(-len(examples) // batch_size)

    def __iter__(self) -> Iterator[list[Batch]]:
        epoch, skip = divmod(self._first, self.steps_per_epoch)
        while True:
            for chosen in self._order(epoch)[skip:]:
                parts = [chosen[i : i + self._micro] for i in range(0, len(chosen), self._micro)]
                yield [collate([self._examples[i] for i in part], self._pad) for part in parts]
            epoch, skip = epoch + 1, 0

    def _order(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._examples)).tolist()
        batches = []
        for start in range(0, len(order), BLOCK_BATCHES * self._batch):
            block = sorted(order[start : start + BLOCK_BATCHES * self._batch], key=lambda i: len(self._examples[i].ids))
            batches += [block[i : i + self._batch] for i in range(0, len(block), self._batch)]
        return [batches[i] for i in rng.permutation(len(batches))]
