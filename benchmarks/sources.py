"""What the sources of training data give, measured: `results/sources-<part>.json`.

    python benchmarks/sources.py all                     # or: edge-cases safety personas knowledge linking segments
    python benchmarks/sources.py knowledge --shared ../shared --home out/knowledge-home
    python benchmarks/sources.py draw 50                 # 50 random links to label, as JSON lines on the screen

`edge-cases` generates 25 x 20 conversations offline and the same through a local server, killed on its way; `safety` tries the reviewer
on planted bad turns; `personas` tagger, detector and validator; `knowledge` counts, topic filter, retrieval, speed; `linking` and
`segments` entity links and lectures by topic. What needs `../shared` is skipped with a line where it is not there.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import machine

PARTS = {"edge-cases": False, "safety": False, "personas": True, "knowledge": True, "linking": True, "segments": True}
"""Each part, and whether it reads the shared data."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="+", metavar="PART", help=f"all, {', '.join(PARTS)}, or `draw N`")
    parser.add_argument("--shared", type=Path, default=machine.ROOT.parent / "shared", help="folder with data/ and knowledge/")
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(tempfile.gettempdir()) / "attune-knowledge-bench",
        help="where the base of concepts lies",
    )
    chosen = parser.parse_args()
    if chosen.part[0] == "draw":
        if len(chosen.part) != 2 or not chosen.part[1].isdigit():
            parser.error("draw needs a number: `draw 50`")
        importlib.import_module("source_parts.linking").show_drawn(chosen.shared, int(chosen.part[1]))
        return 0
    if unknown := [name for name in chosen.part if name not in (*PARTS, "all")]:
        parser.error(f"there is no part '{unknown[0]}': they are all, {', '.join(PARTS)}")
    for name in PARTS if "all" in chosen.part else dict.fromkeys(chosen.part):
        if PARTS[name] and not chosen.shared.is_dir():
            print(f"{name}: skipped, {chosen.shared} is not there (--shared)", file=sys.stderr)
            continue
        figures = importlib.import_module(f"source_parts.{name.replace('-', '_')}").measure(chosen.shared, chosen.home)
        machine.write(f"sources-{name}", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
