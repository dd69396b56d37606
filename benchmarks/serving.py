"""What the service gives, measured: `results/serving.json`, one entry a part.

    attune demo --out /tmp/demo                            # the model that is served
    python benchmarks/serving.py engine --run /tmp/demo/runs/demo

`engine`: the built-in engine beside `transformers serve` with the same model (pip install 'transformers[serving]'), 16 users at once.
`overhead`: what the gate and HTTP add to the bare engine. `soak`: the whole service for minutes, with restarts of its databases.
`vllm`: the built-in engine beside vLLM (not among `all`: needs VLLM_PYTHON, the Python of an environment with it).
`fuzz`: Schemathesis over the whole interface (pip install 'schemathesis>=4').
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from pathlib import Path

import machine

PARTS = ("engine", "overhead", "soak", "fuzz", "vllm")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="+", metavar="PART", help=f"all, {', '.join(PARTS)}")
    parser.add_argument("--run", type=Path, required=True, help="run whose best checkpoint is served")
    parser.add_argument("--rounds", type=int, default=3, help="of each repeat, the servers by turns")
    parser.add_argument("--repeats", type=int, default=3, help="of the whole, servers started anew")
    parser.add_argument("--minutes", type=float, default=10, help="of the soak")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.part if name not in (*PARTS, "all")]:
        parser.error(f"there is no part '{unknown[0]}': they are all, {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers of a part are ended, too
    path = machine.RESULTS / "serving.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in PARTS[:-1] if "all" in chosen.part else dict.fromkeys(chosen.part):
        about = machine.describe()
        measure = importlib.import_module(f"serving_parts.{name}").measure
        found = measure(chosen.run, chosen.minutes) if name == "soak" else measure(chosen.run, chosen.rounds, chosen.repeats)
        figures[name] = {"machine": about, **found}
        machine.write("serving", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
