"""Progress tracking, measured: `results/progress.json`, each part in its own field; a part run alone replaces its own only.

    python benchmarks/progress.py all                    # or some of: truth references real speed faults
    python benchmarks/progress.py truth --clients 6000   # more simulated clients

`truth`: trajectories, change points and alerts of simulated clients whose truth is known (docs/change.md says why it is a fair one).
`references`: the greatest difference to scipy, pymannkendall, ruptures and published worked examples. `real`: short real series
(../shared: readiness before, after and a week after a talk; the alliance of simulated patients), where nothing is known to be true.
`speed`: calls in a store of 10,000 clients and a million sessions and in a hundredth of it, SQLite and PostgreSQL (half an hour). `faults`: 10,000
sessions logged while the process, or PostgreSQL, is killed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

from attunement.storage.files import read_json

Options = argparse.Namespace


def _part(name: str) -> Any:
    return importlib.import_module(f"progress_parts.{name}")


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "truth": lambda chosen: _part("truth").measured(chosen.clients),
    "references": lambda _: _part("references").measured(),
    "real": lambda chosen: _part("real").measured(chosen.shared),
    "speed": lambda chosen: _part("speed").measured(chosen.store_clients),
    "faults": lambda chosen: _part("faults").measured(chosen.calls),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="+", choices=["all", *PARTS], metavar="PART", help=f"all, {', '.join(PARTS)}")
    parser.add_argument("--clients", type=int, default=4000, help="truth: so many simulated clients")
    parser.add_argument("--store-clients", type=int, default=10_000, help="speed: clients of the large store")
    parser.add_argument("--calls", type=int, default=10_000, help="faults: sessions to be logged")
    parser.add_argument("--shared", type=Path, default=machine.ROOT.parent / "shared")
    chosen = parser.parse_args()
    for name in PARTS if "all" in chosen.part else [part for part in PARTS if part in chosen.part]:
        write(name, {"machine": machine.describe(), **PARTS[name](chosen)})
    return 0


def write(part: str, figures: dict[str, Any]) -> None:
    """Puts a part's figures beside those of the other parts."""
    path = machine.RESULTS / "progress.json"
    before = read_json(path) if path.exists() else {}
    machine.write("progress", before | {part: figures})


if __name__ == "__main__":
    sys.exit(main())
