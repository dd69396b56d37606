"""Training examples: chat JSON lines as token ids, packed into rows, in an order that a seed and a step determine.

Only the last reply of each example is learned. A micro-batch is one row of whole examples, one behind the other: nothing is
padded, and no token sees another example's (`model.attention`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attunement.errors import DataError
from attunement.model.chat import IGNORED, Encoded, encode_example
from attunement.records import TrainingDataset
from attunement.security.age_files import read_jsonl
from attunement.storage.files import content_hash, file_hash, read_json
from attunement.training.mixture import Mixture

DOMAIN_OF_SHARE = {
    "standard": "mental_health", "voice": "mental_health", "dual_persona": "mental_health",
    "knowledge": "psychology", "edge_case": "bias_detection",
}  # fmt: skip
"""The domain of an example whose row names none."""


@dataclass(frozen=True)
class Example(Encoded):
    """What is learned of one row: `domain` is a place in the model's `expert_domains`, -1 for none."""

    domain: int = -1
    share: str = ""

    @property
    def learned(self) -> int:
        """How many tokens are learned; the first is never."""
        return sum(label != IGNORED for label in self.labels[1:])


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


def load_examples(path: Path, tokenizer: Any, longest: int, domains: Sequence[str] = ()) -> list[Example]:
    """Every example of a split. Raises `DataError` that names the line which is no example."""
    out: list[Example] = []
    try:
        for number, row in enumerate(read_jsonl(path), 1):
            messages = row["messages"]
            if len(messages) < 2 or messages[-1]["role"] != "assistant":
                raise DataError(f"{path}, line {number}: the last message must be the assistant's")
            found = encode_example(tokenizer, messages, longest)
            out.append(Example(found.ids, found.labels, _domain(row, domains), str(row.get("share", ""))))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}, line {len(out) + 1}: no example in chat form (messages with role and content)") from error
    return out


def _domain(row: Mapping[str, Any], domains: Sequence[str]) -> int:
    name = row.get("domain") or DOMAIN_OF_SHARE.get(str(row.get("share", "")), "")
    return domains.index(name) if name in domains else -1


@dataclass(frozen=True)
class Batch:
    """Whole examples in one row: `input_ids`, `labels` and `domains` are `[1, T]`, `lengths` the examples' own.

    An example's first token is never a label: it would be predicted from the example before. `weight` is its share of the
    step's learned tokens, `number` its place among the step's micro-batches.
    """

    input_ids: Tensor
    labels: Tensor
    domains: Tensor
    lengths: tuple[int, ...]
    weight: float = 1.0
    number: int = 0

    def to(self, device: torch.device) -> Batch:
        moved = {name: getattr(self, name).to(device) for name in ("input_ids", "labels", "domains")}
        return replace(self, **moved)


def pack(examples: Sequence[Example]) -> Batch:
    """`examples` as one row."""
    lengths = tuple(len(e.ids) for e in examples)
    ids = torch.tensor([token for e in examples for token in e.ids]).unsqueeze(0)
    labels = torch.tensor([label for e in examples for label in (IGNORED, *e.labels[1:])]).unsqueeze(0)
    domains = torch.repeat_interleave(torch.tensor([e.domain for e in examples]), torch.tensor(lengths)).unsqueeze(0)
    return Batch(ids, labels, domains, lengths)


def parts(chosen: Sequence[int], lengths: Sequence[int], most: int, most_tokens: int) -> list[list[int]]:
    """`chosen` in micro-batches of at most `most` examples and, unless one alone is longer, `most_tokens` tokens."""
    out: list[list[int]] = []
    held = 0
    for example in chosen:
        if not out or len(out[-1]) == most or held + lengths[example] > most_tokens:
            out.append([])
            held = 0
        out[-1].append(example)
        held += lengths[example]
    return out


def deal(costs: Sequence[int], hands: int, *, equal: bool) -> list[list[tuple[int, bool]]]:
    """Which of the things that cost so much each of `hands` takes, and whether it counts there.

    The dearest first, each to the hand that has least to do and is not full. With `equal` all take equally many: who lacks one
    takes a thing that is another's, and it does not count.
    """
    full = -(-len(costs) // hands)
    taken: list[list[int]] = [[] for _ in range(hands)]
    for thing in sorted(range(len(costs)), key=lambda i: -costs[i]):
        min((hand for hand in taken if len(hand) < full), key=lambda hand: sum(costs[i] for i in hand)).append(thing)
    cheapest = min(range(len(costs)), key=lambda i: costs[i], default=0)
    spare = [full - len(hand) if equal else 0 for hand in taken]
    return [[*((i, True) for i in sorted(hand)), *[(cheapest, False)] * lacks] for hand, lacks in zip(taken, spare, strict=True)]


class StepBatches(torch.utils.data.IterableDataset[list[Batch]]):
    """The optimiser steps from `first_step` on: each a list of micro-batches that make one batch.

    Step `n` holds the same examples however often the run was interrupted before it, and however its micro-batches are cut. Of
    several `hands` (processes) number `hand` gets its part of them; `equal` is `deal`'s.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        mixture: Mixture,
        *,
        batch_size: int,
        micro_batch_size: int,
        micro_batch_tokens: int,
        first_step: int = 0,
        hand: int = 0,
        hands: int = 1,
        equal: bool = False,
    ) -> None:
        self._hand, self._hands, self._equal = hand, hands, equal
        self._examples, self._mixture, self._batch = examples, mixture, batch_size
        self.micro_batch_size, self.micro_batch_tokens = micro_batch_size, micro_batch_tokens
        self._lengths = [len(e.ids) for e in examples]
        self._kept: tuple[int, NDArray[np.int64]] | None = None
        self.first_step = first_step
        self.steps_per_epoch = -(-mixture.size // batch_size)

    def __iter__(self) -> Iterator[list[Batch]]:
        step = self.first_step
        while True:
            yield self.batches(step)
            step += 1

    def batches(self, step: int) -> list[Batch]:
        """This hand's micro-batches of one step."""
        cut = parts(self.chosen(step), self._lengths, self.micro_batch_size, self.micro_batch_tokens)
        learned = [sum(self._examples[i].learned for i in part) for part in cut]
        total = max(1, sum(learned))
        dealt = deal([sum(self._lengths[i] for i in part) for part in cut], self._hands, equal=self._equal)[self._hand]
        return [
            replace(pack([self._examples[i] for i in cut[n]]), weight=learned[n] / total if counts else 0.0, number=n)
            for n, counts in dealt
        ]

    def chosen(self, step: int) -> list[int]:
        """The examples of one step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        return [int(i) for i in order[place * self._batch : (place + 1) * self._batch]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._kept is None or self._kept[0] != epoch:
            self._kept = (epoch, self._mixture.order(epoch))
        return self._kept[1]

    def seen(self, steps: int) -> NDArray[np.int64]:
        """How often each example is seen in the first `steps` steps."""
        counts = np.zeros(len(self._examples), dtype=np.int64)
        for step in range(steps):
            np.add.at(counts, self.chosen(step), 1)
        return counts

    def mixture(self, steps: int) -> dict[str, Any]:
        """What the first `steps` steps show, by share (`Mixture.report`)."""
        return self._mixture.report(self._lengths, self.seen(steps))
