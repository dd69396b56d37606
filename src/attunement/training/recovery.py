"""What a run does when something breaks, and the book in which it is written.

out of memory   smaller micro-batches, the same batch by accumulation, on from the last checkpoint
divergence      on from the last checkpoint with half the rate
one odd step    its update is left out
killed          the next start goes on from the newest checkpoint that is whole
time or signal  a checkpoint, and a clean end (`loop.Journal`)

Several processes decide alike, as they know the same sums (`processes`). Where the base is split, memory that is used up in one
ends all; they start again with smaller micro-batches.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attunement.errors import AttunementError

HISTORY, LEAST_HISTORY = 64, 16
"""Steps by whose losses an odd one is told, and how many there must be."""
ODD_DEVIATIONS, ODD_SHARE = 8.0, 0.5
"""A loss is odd that lies this many (robust) deviations and this share of the median above the median."""
ODD_STEPS, ODD_WITHIN = 3, 8
"""So many odd steps among the last ones are a divergence."""
DEVIATION_OF_MAD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""
RATE_CUT = 0.5
USED_UP = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""CUDA, PyTorch's allocator on the CPU, and the system itself (safetensors' mapping of a file)."""


class Divergence(AttunementError):
    """The training runs away: caught by `TrainingSystem`, which rolls back."""


@dataclass
class LossGuard:
    """Looks at each step's loss and gradient before they reach the weights. Its history belongs to a checkpoint."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    odd: deque[bool] = field(default_factory=lambda: deque(maxlen=ODD_WITHIN))

    def allows(self, loss: float, gradient_norm: float) -> bool:
        """Whether the step may be taken. Raises `Divergence` for what is no number, or when odd steps are frequent."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise Divergence(f"loss {loss:.3g}, gradient norm {gradient_norm:.3g}")
        odd = len(self.losses) >= LEAST_HISTORY and loss > self.threshold()
        self.odd.append(odd)
        if sum(self.odd) >= ODD_STEPS:
            raise Divergence(
                f"{sum(self.odd)} of the last {len(self.odd)} losses lie above {self.threshold():.3g}, the last is {loss:.3g}"
            )
        if not odd:
            self.losses.append(loss)
        return not odd

    def threshold(self) -> float:
        """The loss from which a step is odd."""
        middle = statistics.median(self.losses)
        spread = DEVIATION_OF_MAD * statistics.median(abs(loss - middle) for loss in self.losses)
        return middle + max(ODD_DEVIATIONS * spread, ODD_SHARE * abs(middle))

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "odd": list(self.odd)}

    def restore(self, state: dict[str, Sequence[Any]]) -> None:
        self.losses.clear()
        self.losses.extend(state.get("losses", ()))
        self.odd.clear()
        self.odd.extend(state.get("odd", ()))


@dataclass
class Adjusted:
    """What recovery changed of a run's settings; kept in `run.json`, so that a restart knows it."""

    micro_batch_size: int = 0
    """0: as configured."""
    rate_factor: float = 1.0
    extra_hours: float = 0.0
    retries: int = 0


class Events:
    """`events.jsonl`: one line for each thing that went wrong or was decided, oldest first."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "events.jsonl"
        self.silent = False
        """Of several processes only the first one writes."""

    def write(self, kind: str, step: int, action: str, **details: Any) -> None:
        if self.silent:
            return
        row = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "kind": kind, "step": step, "action": action, **details}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up: CUDA's, the CPU allocator's, or Python's own."""
    import torch

    told = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in told for words in USED_UP)
