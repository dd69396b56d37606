"""`attune data build --preset full` on the real data: is the balance met, what limits it, how long does it take.

    python benchmarks/full_preset.py full      # twice: with what waits for review held, and released
    python benchmarks/full_preset.py curves    # how many examples so many written conversations give (sources/full_sizes.py)

Writes benchmarks/results/full-preset.json, each part its own entry. `--out` names the folder of the datasets, which are gone on with: a first run is the one whose seconds say something.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import machine

from attunement.config import Settings, load_settings
from attunement.curation.balance import SPLITS
from attunement.curation.pipeline import DataPipeline
from attunement.quality.panel import Judges
from attunement.records import SHARES
from attunement.sources.edge_cases.generator import EdgeCaseGenerator
from attunement.sources.edge_cases.run import generate_folder
from attunement.sources.full_parts import FullParts
from attunement.sources.personas import run as persona_run
from attunement.storage.files import read_json, read_jsonl, write_json, write_jsonl, write_text

SHARED = machine.ROOT.parent / "shared"
RESULT = machine.ROOT / "benchmarks" / "results" / "full-preset.json"
SIZES = {"edge_case": (125, 250, 500, 1000), "dual_persona": (50, 100, 200, 400)}


def full(arguments: argparse.Namespace) -> dict[str, Any]:
    """A build by the rules and one that releases what waits, over the same work folder."""
    found = {}
    for name, release in (("held", "false"), ("released", "true")):
        settings = load_settings(overrides=[
            f"home={arguments.out / 'home'}", "data.balance=enforce", f"full.knowledge={arguments.shared / 'knowledge'}",
            f"data.release_unreviewed={release}",
        ]).settings  # fmt: skip
        out = arguments.out / "full"
        begun = (out / "work").is_dir()
        started = time.perf_counter()
        pipeline = DataPipeline(settings, out, preset="full", quiet=False)
        pipeline.parts = FullParts(settings, pipeline.judges)
        pipeline.process_datasets([arguments.shared / "data"])
        found[name] = {"seconds": round(time.perf_counter() - started, 1), "went_on_with_earlier_work": begun, **_figures(out)}
    return found


def _figures(out: Path) -> dict[str, Any]:
    """Counted anew from the splits themselves, beside what the report says."""
    counts = {split: Counter(row["share"] for row in read_jsonl(out / f"{split}.jsonl")) for split in SPLITS}
    whole = sum(counts.values(), Counter[str]())
    report = read_json(out / "quality_report.json")
    return {
        "examples": whole.total(),
        "by_split": {split: {share: found[share] for share in SHARES} for split, found in counts.items()},
        "percent": {
            name: {share: round(100 * found[share] / max(1, found.total()), 3) for share in SHARES}
            for name, found in (("all", whole), ("train", counts["train"]))
        },
        "balance": report["balance"],
        "pairs": {key: report["pairs"][key] for key in ("in", "kept", "rejected", "rejected_by_reason")},
        "steps_seconds": read_json(out / "work" / "timing.json")["seconds"],
    }


def curves(arguments: argparse.Namespace) -> dict[str, Any]:
    """Examples of so many written conversations, with what waits for review apart."""
    settings = load_settings(overrides=[f"home={arguments.out / 'home'}"]).settings
    judges = Judges(home=settings.home)
    found = {}
    for share, sizes in SIZES.items():
        place = arguments.out / share
        if share == "edge_case":
            generator = EdgeCaseGenerator(None, settings, judges=judges)
            generate_folder(generator, generator.generate_prompts(sizes[-1] // 25), place, most=sizes[-1])
        else:
            persona_run.run(settings, place, count=sizes[-1])
        found[share] = [_of_first(share, place, size, settings, judges, arguments.out) for size in sizes]
    return found


def _of_first(share: str, place: Path, size: int, settings: Settings, judges: Judges, folder: Path) -> dict[str, int]:
    """A build of the first `size` conversations; of edge cases the first of each category."""
    rows, seen, chosen = list(read_jsonl(place / "conversations.jsonl")), Counter[str](), []
    for row in rows:
        seen[row.get("category", "")] += 1
        if seen[row.get("category", "")] <= (size // 25 if share == "edge_case" else size):
            chosen.append(row)
    part = folder / f"{share}-{size}"
    write_jsonl(part / "in" / "conversations.jsonl", chosen)
    write_text(part / "in" / "source.toml", (place / "source.toml").read_text(encoding="utf-8"))
    pipeline = DataPipeline(settings, part / "out")
    pipeline.judges = judges  # keeps its verdicts: most texts come in several sizes
    pipeline.process_datasets([part / "in"])
    row = read_json(part / "out" / "quality_report.json")["balance"]["shares"][share]
    return {"conversations": len(chosen), "examples": row["available"], "wait_for_review": row["waits_for_review"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("full", "curves"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=SHARED, help="Folder with `data` and `knowledge`.")
    arguments = parser.parse_args()
    result = {"full": full, "curves": curves}[arguments.part](arguments)
    known = read_json(RESULT) if RESULT.exists() else {}
    write_json(RESULT, {**known, arguments.part: {"machine": machine.describe(), **result}})
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
