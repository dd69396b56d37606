"""Recordings made into dialogue, measured: `results/voice.json`, each part in its own field; a part run alone replaces its own only.

    python benchmarks/voice.py all                       # or: hearing
    python benchmarks/voice.py hearing --lines 20        # more lines a voice
    python benchmarks/voice.py hearing --again           # figures anew of what was heard last (runs/voice-heard.jsonl)
    python benchmarks/voice.py weights [--again]         # makes sources/voice/weights/hearing.json

Speech is synthetic (Debian's flite: `apt install flite`), with known words, times and speakers. `hearing`: word errors of PocketSphinx by
voice and noise, calibration of confidence, punctuation, speed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

import machine
from voice_parts import speaking

from attunement.storage.files import read_json

PARTS = ("hearing",)
WEIGHTS = machine.ROOT / "src" / "attunement" / "sources" / "voice" / "weights" / "hearing.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="+", choices=["all", "weights", *PARTS], metavar="PART", help=f"all, weights, {', '.join(PARTS)}"
    )
    parser.add_argument("--lines", type=int, default=8, help="hearing: lines of each part of the stock, a voice")
    parser.add_argument("--again", action="store_true", help="hearing, weights: read what was heard last")
    chosen = parser.parse_args()
    if not speaking.available():
        print("flite is not installed: apt install flite", file=sys.stderr)
        return 3
    if "weights" in chosen.part:
        hearing = importlib.import_module("voice_parts.hearing")
        hearing.write_weights(WEIGHTS, hearing.rows_of(again=chosen.again, lines=chosen.lines))
    for name in PARTS if "all" in chosen.part else [part for part in chosen.part if part in PARTS]:
        options = {"again": chosen.again, "lines": chosen.lines} if name == "hearing" else {}
        write(name, importlib.import_module(f"voice_parts.{name}").measure(**options))
    return 0


def write(part: str, figures: dict[str, Any]) -> None:
    """Puts a part's figures beside those of the other parts."""
    path = machine.RESULTS / "voice.json"
    machine.write("voice", (read_json(path) if path.exists() else {}) | {part: figures})


if __name__ == "__main__":
    sys.exit(main())
