"""TensorBoard's events tell what `metrics.jsonl` tells, also after a run went on; without TensorBoard its extra is named."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attunement.errors import MissingExtraError
from attunement.storage.files import read_jsonl
from attunement.training.board import FOLDER, Board
from attunement.training.data import dataset_of
from attunement.training.system import TrainingSystem
from conftest import TINY_MODEL, TINY_TRAINING


def test_the_events_are_the_metrics(tiny_dataset: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    run = tmp_path / "run"
    for hours in (1e-9, 1.0):  # the first ends after a step, the second goes on
        system = TrainingSystem(run)
        if hours == 1.0:
            system.extend(hours)
        system.initialize_model(TINY_MODEL)
        system.train(dataset_of(tiny_dataset), replace(TINY_TRAINING, max_steps=7, max_duration_hours=1e-9, tensorboard=True))
    told = accumulator.EventAccumulator(str(run / FOLDER))
    told.Reload()
    rows = list(read_jsonl(run / "metrics.jsonl"))
    events = told.Scalars("train/loss")
    assert [event.step for event in events] == [row["step"] for row in rows] == list(range(1, 8))
    assert [event.value for event in events] == pytest.approx([row["loss"] for row in rows], rel=1e-6)
    assert len(told.Scalars("train/validation_loss")) == sum(row["validation_loss"] is not None for row in rows)


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"attunement\[tensorboard\]"):
        Board(tmp_path, 0)
