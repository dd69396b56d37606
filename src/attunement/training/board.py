"""TensorBoard events of a run, beside `metrics.jsonl` (`training.tensorboard`, extra `tensorboard`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attunement.errors import MissingExtraError

FOLDER = "tensorboard"


class Board:
    """Writes each number of a step's row as a scalar. What was written for steps after `step` is taken back when a run goes on."""

    def __init__(self, run_dir: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("training.tensorboard", "tensorboard") from error
        self._writer: Any = SummaryWriter(str(run_dir / FOLDER), purge_step=step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """One step's metrics."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(f"train/{name}", value, row["step"])

    def close(self) -> None:
        """Writes what is still held back."""
        self._writer.close()
