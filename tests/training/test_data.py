"""Examples and their order: complete, repeatable, the same after a resume, and clear about bad lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.model.base import load_tokenizer
from attunement.model.chat import IGNORED, Encoded
from attunement.training.data import StepBatches, collate, dataset_of, load_examples

EXAMPLES = [Encoded([i] * (1 + i % 7), [IGNORED] * (i % 7) + [i]) for i in range(1, 24)]


def steps(count: int, first: int = 0, micro: int = 2, seed: int = 3) -> list[list[list[int]]]:
    """The first ids of each micro-batch's rows, of `count` steps."""
    batches = StepBatches(EXAMPLES, batch_size=5, micro_batch_size=micro, pad=0, seed=seed, first_step=first)
    found = []
    for _, step in zip(range(count), batches, strict=False):
        found.append([part.input_ids[:, 0].tolist() for part in step])
    return found


def test_an_epoch_holds_every_example_once() -> None:
    batches = StepBatches(EXAMPLES, batch_size=5, micro_batch_size=2, pad=0, seed=3)
    assert batches.steps_per_epoch == 5
    for epoch in (steps(10)[:5], steps(10)[5:]):
        assert sorted(i for step in epoch for part in step for i in part) == list(range(1, 24))
    assert steps(10)[:5] != steps(10)[5:]


def test_a_resumed_run_sees_what_it_would_have_seen() -> None:
    whole = steps(12)
    for first in (1, 4, 5, 7):
        assert steps(12 - first, first) == whole[first:]
    assert steps(5, seed=4) != whole[:5]


def test_micro_batches_hold_the_same_examples() -> None:
    def flat(found: list[list[list[int]]]) -> list[list[int]]:
        return [[i for part in step for i in part] for step in found]

    assert flat(steps(5, micro=1)) == flat(steps(5, micro=5)) == flat(steps(5, micro=99))


def test_padding_is_neither_seen_nor_learned() -> None:
    batch = collate([Encoded([5, 6, 7], [IGNORED, 6, 7]), Encoded([8], [8])], pad=9)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"messages": [{"role": "user", "content": "hi"}]}', "line 2: the last message must be the assistant's"),
        ('{"text": "hi"}', "line 2: no example in chat form"),
        ("{broken", "line 2: no example in chat form"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    good = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}'
    (tmp_path / "train.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=words):
        load_examples(tmp_path / "train.jsonl", load_tokenizer("attunement-base"), 64)


def test_a_folder_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train\.jsonl: build a dataset first"):
        dataset_of(tmp_path)
