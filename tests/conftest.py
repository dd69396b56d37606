"""Fixtures that all tests share."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attunement.records import ModelConfig, TrainingConfig
from attunement.storage.files import write_jsonl

if TYPE_CHECKING:
    from torch import Tensor

    from attunement.config import EmbeddingSettings
    from attunement.model.moe_lora import MoEModel

pytest_plugins = ["stores", "databases"]  # a second conftest.py would be taken for this one by those who import from it
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data; tests that need it skip with a printed reason where it is not there."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip("the real data (../shared/data) is not on this machine")
    return path


@pytest.fixture(scope="session", autouse=True)
def _no_home_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing here reads or writes the user's own home of Attunement, or sees the user's settings: fixtures of a module neither, which come before a test's own."""
    with pytest.MonkeyPatch.context() as patch:
        _hide_home(tmp_path_factory, patch)
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for each test, whatever the one before has set."""
    _hide_home(tmp_path_factory, monkeypatch)


def _hide_home(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("ATTUNE_")]:
        patch.delenv(name)
    patch.setenv("ATTUNE_HOME", str(tmp_path_factory.getbasetemp() / "attune-home"))


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A test that serves puts placeholders into the logs of its process; pytest's handlers live on into the next test."""
    yield
    for handler in {*logging.getLogger().handlers, logging.lastResort} - {None}:
        if handler is not None:
            handler.filters[:] = [one for one in handler.filters if type(one).__name__ != "Sanitiser"]


@pytest.fixture(scope="session", autouse=True)
def _one_encoder() -> Iterator[None]:
    """Half a second each time: the packaged encoder is built once for each setting. What an `Embedder` keeps stays its own."""
    from attunement import embedding, onnx_encoder

    built: dict[tuple[str, bool], embedding._Onnx] = {}
    real = embedding._Onnx

    def once(settings: EmbeddingSettings) -> embedding._Onnx:
        key = settings.model_dump_json(), onnx_encoder.multiplies_in_8_bits()
        if key not in built:
            built[key] = real(settings)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "_Onnx", once)
        yield


def write_tiny_dataset(folder: Path, train: int = 48) -> Path:
    """Chat JSON lines about feelings and days, made from lists: quick to learn, no one's words."""
    rng = random.Random(5)
    feelings, days = ["sad", "low", "tired", "angry", "lonely"], ["Monday", "winter", "my birthday", "the move"]
    for name, count in (("train", train), ("validation", 8), ("test", 8)):
        rows = []
        for number in range(count):
            feeling, day = rng.choice(feelings), rng.choice(days)
            messages = [
                {"role": "user", "content": f"I feel {feeling} since {day}."},
                {"role": "assistant", "content": f"That sounds hard. What was {day} like for you?"},
            ]
            rows.append({"id": f"x-{name}-{number}", "messages": messages})
        write_jsonl(folder / f"{name}.jsonl", rows)
    return folder


TINY_MODEL = ModelConfig(num_experts=4, lora_rank=4, lora_alpha=8, context_length=128, dropout=0.05)
TINY_TRAINING = TrainingConfig(batch_size=8, micro_batch_size=4, learning_rate=3e-3, epochs=3)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "dataset")


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Path) -> Path:
    """A finished run of the packaged base on the tiny dataset, 18 steps."""
    from attunement.training.data import dataset_of
    from attunement.training.system import TrainingSystem

    run = tiny_dataset.parent / "runs" / "tiny"
    system = TrainingSystem(run)
    system.initialize_model(TINY_MODEL)
    system.train(dataset_of(tiny_dataset), TINY_TRAINING)
    return run


def losses_one_by_one(model: MoEModel, ids: Tensor, labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """Losses of a packed row's sequences, each in a pass of its own with its backward pass."""
    import torch

    losses = []
    for part, wanted in zip(ids[0].split(tuple(lengths)), labels[0].split(tuple(lengths)), strict=True):
        one = model(part[None], None, wanted[None])
        one.token_losses.sum().backward()
        losses.append(one.token_losses)
    return torch.cat(losses)


def greedy(model: MoEModel, ids: Tensor, tokens: int) -> Tensor:
    """`ids` and the likeliest tokens after them, each by a whole pass."""
    import torch

    with torch.no_grad():
        for _ in range(tokens):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    return ids
