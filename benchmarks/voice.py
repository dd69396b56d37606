"""Recordings made into dialogue, measured: `results/voice.json`, each part in its own field; a part run alone replaces its own only.

    python benchmarks/voice.py all                       # or some of: activity hearing speakers roles style chain
    python benchmarks/voice.py hearing --lines 20        # more lines a voice
    python benchmarks/voice.py hearing --again           # figures anew of what was heard last (runs/voice-heard.jsonl)
    python benchmarks/voice.py weights [--again]         # makes sources/voice/weights/hearing.json

`activity`: speech that is found, and what is taken for speech. `hearing`: word errors of PocketSphinx by voice and noise, calibration of
confidence, punctuation, speed. `speakers`: diarisation. `roles`: therapist and client on AnnoMI and HLQC. `style`: markers, pairs,
naturalness, on real transcripts. `chain`: 200 files, memory from a minute to three hours (more than an hour of work).
Speech is synthetic (Debian's flite: `apt install flite`), with known words, times and speakers; transcripts are real (`../shared`).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
from voice_parts import speaking

from attunement.storage.files import read_json

WEIGHTS = machine.ROOT / "src" / "attunement" / "sources" / "voice" / "weights" / "hearing.json"
Options = argparse.Namespace


def _part(name: str) -> Any:
    return importlib.import_module(f"voice_parts.{name}")


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "activity": lambda _: _part("activity").measure(),
    "hearing": lambda chosen: _part("hearing").measure(again=chosen.again, lines=chosen.lines),
    "speakers": lambda _: _part("speakers").measured(),
    "roles": lambda chosen: _part("roles").measured(chosen.shared),
    "style": lambda chosen: _part("personality").measure(chosen.shared),
    "chain": lambda chosen: _part("chain").measure(tuple(chosen.chain)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="+", choices=["all", "weights", *PARTS], metavar="PART", help=f"all, weights, {', '.join(PARTS)}"
    )
    parser.add_argument("--lines", type=int, default=8, help="hearing: lines of each part of the stock, a voice")
    parser.add_argument("--again", action="store_true", help="hearing, weights: read what was heard last")
    parser.add_argument(
        "--chain", nargs="+", default=["files", "memory"], choices=["files", "memory"], help="chain: which of its two"
    )
    parser.add_argument("--shared", type=Path, default=machine.ROOT.parent / "shared")
    chosen = parser.parse_args()
    if not speaking.available():
        print("flite is not installed: apt install flite", file=sys.stderr)
        return 3
    if "weights" in chosen.part:
        hearing = _part("hearing")
        hearing.write_weights(WEIGHTS, hearing.rows_of(again=chosen.again, lines=chosen.lines))
    for name in PARTS if "all" in chosen.part else [part for part in chosen.part if part in PARTS]:
        write(name, {"machine": machine.describe(), **PARTS[name](chosen)})
    return 0


def write(part: str, figures: dict[str, Any]) -> None:
    """Puts a part's figures beside those of the other parts."""
    path = machine.RESULTS / "voice.json"
    before = read_json(path) if path.exists() else {}
    if part == "chain":  # its two halves are run apart
        figures = before.get(part, {}) | figures
    machine.write("voice", before | {part: figures})


if __name__ == "__main__":
    sys.exit(main())
