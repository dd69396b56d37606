"""Examples and their order: complete, repeatable, the same after a resume, and clear about bad lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from attunement.errors import DataError
from attunement.model.base import load_tokenizer
from attunement.model.chat import IGNORED
from attunement.storage.files import write_jsonl
from attunement.training.data import Example, StepBatches, dataset_of, load_examples, pack
from attunement.training.mixture import Mixture

TARGET = {"standard": 0.3, "edge_case": 0.25, "voice": 0.2, "knowledge": 0.15, "dual_persona": 0.1}

EXAMPLES = [Example([i] * (1 + i % 7), [IGNORED] * (i % 7) + [i], share="standard") for i in range(1, 24)]


def step_batches(first: int = 0, micro: int = 2, seed: int = 3, tokens: int = 99, shares: list[str] | None = None) -> StepBatches:
    mixture = Mixture(shares or ["standard"] * len(EXAMPLES), TARGET, 2.0, seed)
    return StepBatches(EXAMPLES, mixture, batch_size=5, micro_batch_size=micro, micro_batch_tokens=tokens, first_step=first)


def steps(count: int, first: int = 0, **settings: int) -> list[list[list[int]]]:
    """The first ids of each micro-batch's examples, of `count` steps."""
    found = []
    for _, step in zip(range(count), step_batches(first, **settings), strict=False):
        found.append([[int(row[0]) for row in part.input_ids[0].split(part.lengths)] for part in step])
    return found


def test_an_epoch_holds_every_example_once() -> None:
    assert step_batches().steps_per_epoch == 5
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

    assert flat(steps(5, micro=1)) == flat(steps(5, micro=5)) == flat(steps(5, micro=99)) == flat(steps(5, tokens=8))
    assert all(sum(part.lengths) <= 8 for step in [step_batches(tokens=8, micro=9).batches(i) for i in range(5)] for part in step)


def test_a_row_holds_whole_examples_and_no_padding() -> None:
    examples = [Example([5, 6, 7], [IGNORED, 6, 7], 1), Example([8, 9], [8, 9])]
    batch = pack(examples)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]] and batch.lengths == (3, 2)
    assert batch.labels.tolist() == [[IGNORED, 6, 7, IGNORED, 9]] and [e.learned for e in examples] == [2, 1]
    assert batch.domains.tolist() == [[1, 1, 1, -1, -1]]


def test_what_was_seen_is_told_by_share() -> None:
    shares = ["standard"] * 20 + ["voice"] * 3
    found = step_batches(shares=shares)
    told = found.mixture(found.steps_per_epoch)
    assert told["voice"] | {"share_of_tokens": 0} == {
        "examples": 3, "target": 0.4, "share_of_examples": round(6 / 23, 4), "share_of_tokens": 0, "most_often": 2, "never_seen": 0,
    }  # fmt: skip
    assert told["standard"]["never_seen"] == 3 and told["standard"]["most_often"] == 1
    assert sum(row["share_of_tokens"] for row in told.values()) == pytest.approx(1, abs=1e-3)
    later = found.mixture(4 * found.steps_per_epoch)
    assert later["standard"]["never_seen"] == 0  # what an epoch leaves out comes in the next


def test_domains_come_from_the_row_or_its_share(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [
        {"messages": messages, **more}
        for more in ({}, {"share": "knowledge"}, {"share": "knowledge", "domain": "bias_detection"})
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    found = load_examples(
        tmp_path / "train.jsonl", load_tokenizer("attunement-base"), 64, ["psychology", "mental_health", "bias_detection"]
    )
    assert [e.domain for e in found] == [-1, 0, 2]


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
