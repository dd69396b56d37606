"""What security and compliance give, measured: `results/security.json`, one entry a part.

    python benchmarks/security.py all                      # or: phi, vault
    python benchmarks/security.py phi --shared ../shared --peers VENV/lib/python3.11/site-packages --held 0=runs/phi/fold0.npz

`vault`: encrypted and audited rows a second, on SQLite and PostgreSQL, and the audit log verified. `phi` finds personal data in labelled sets and in letters; `--peers` is where presidio-analyzer is installed, `--held` names weights of
`scripts/phi/train.py --held N`, which are measured on the templates that they have not seen.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

import machine

PARTS = ("phi", "vault")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="+", metavar="PART", help=f"all, {', '.join(PARTS)}")
    parser.add_argument("--shared", type=Path, default=machine.ROOT.parent / "shared", help="folder with data/")
    parser.add_argument("--peers", type=Path, help="folder where other packages are installed that are measured beside")
    parser.add_argument(
        "--held", action="append", default=[], metavar="N=FILE", help="weights trained without part N of the templates"
    )
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.part if name not in (*PARTS, "all")]:
        parser.error(f"there is no part '{unknown[0]}': they are all, {', '.join(PARTS)}")
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    path = machine.RESULTS / "security.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in PARTS if "all" in chosen.part else dict.fromkeys(chosen.part):
        if name == "phi":
            if not chosen.shared.is_dir():
                print(f"{name}: skipped, {chosen.shared} is not there (--shared)", file=sys.stderr)
                continue
            held = {int(number): Path(file) for number, _, file in (text.partition("=") for text in chosen.held)}
            module = importlib.import_module("security_parts.phi")
            figures[name] = {"machine": machine.describe(), **module.measure(chosen.shared, held)}
        else:
            figures[name] = importlib.import_module(f"security_parts.{name}").measure()
    machine.write("security", figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
