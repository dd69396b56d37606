"""What a figure was measured on: machine, commit and day, for every result file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
DATA = Path(__file__).resolve().parent / "data"
"""Test sets of our own."""


def describe() -> dict[str, Any]:
    """Processor, cores, memory, load, Python, commit."""
    processor = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor()
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**20, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": __import__("torch").__version__,
    }


def write(name: str, figures: dict[str, Any]) -> Path:
    """Writes `results/<name>.json` and prints it."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(figures, indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    print(text)
    return path


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
