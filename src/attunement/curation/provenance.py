"""What became of a record, and taking it back: `trace` and `withdraw` over a dataset's `provenance.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attunement.curation.balance import SPLITS
from attunement.curation.manifest import WITHDRAWALS, Manifest, earlier_datasets
from attunement.errors import DataError
from attunement.security.age_files import open_file, read_jsonl
from attunement.storage.files import read_json, write_json


def trace(out: Path, wanted: str) -> dict[str, Any]:
    """The story of an example (`x-...`) or a conversation (`c-...`). Raises `DataError` when the dataset has no such id.

    Gives the provenance line; for an example `pair` and, where it was kept, `example` (its line in the split).
    """
    for line in _lines_with(out / "provenance.jsonl", wanted):
        story: dict[str, Any] = json.loads(line)
        if story["conversation_id"] == wanted:
            return story
        for pair in story["pairs"]:
            if pair["id"] == wanted:
                return {**story, "pair": pair, "example": _example(out, wanted, pair.get("split"))}
    raise DataError(f"{out} knows no '{wanted}': ids of examples start with x-, those of conversations with c-")


def _lines_with(path: Path, wanted: str) -> Iterator[str]:
    if not path.exists():
        raise DataError(f"{path.parent} holds no dataset: build one first with  attune data build SOURCE --out {path.parent}")
    with open_file(path) as file:
        yield from (line for line in (raw.decode() for raw in file) if wanted in line)


def _example(out: Path, wanted: str, split: str | None) -> dict[str, Any] | None:
    if split is None:
        return None
    return next((row for row in read_jsonl(out / f"{split}.jsonl") if row["id"] == wanted), None)


def plan_withdrawal(out: Path, wanted: str) -> dict[str, Any]:
    """What taking `wanted` (a conversation's id, a source or a file of one) out would remove.

    A conversation takes with it the ones that were found to be its near-duplicates: they hold the same words.
    """
    manifest = Manifest.load(out)
    manifest.sources()
    entries: list[dict[str, str]] = []
    if wanted.startswith("c-"):
        story = trace(out, wanted)
        root = story.get("duplicate_of", wanted)
        for line in _lines_with(out / "provenance.jsonl", root):
            other = json.loads(line)
            if root in (other["conversation_id"], other.get("duplicate_of")):
                entries.append(_entry(other))
    elif any(wanted in (s["source"], s["file"]) for s in manifest.data["sources"]):
        entries.append({"kind": "source", "value": wanted})
        entries += _records_of(out, wanted) + _copies_elsewhere(out, wanted)
    else:
        known = ", ".join(sorted({s["source"] for s in manifest.data["sources"]}))
        raise DataError(f"{out} knows no source or conversation '{wanted}'; its sources are: {known}")
    return {"entries": entries, "examples": _examples_of(out, entries), "datasets": earlier_datasets(out)}


def _entry(story: dict[str, Any]) -> dict[str, str]:
    origin = story["origin"]
    entry = {"kind": "conversation", "value": story["conversation_id"], "file": origin["file"]}
    return entry | ({"record_sha256": origin["record_sha256"]} if "record_sha256" in origin else {})


def _records_of(out: Path, source: str) -> list[dict[str, str]]:
    """The records of a source by their hashes: they stay withdrawn when its files come back under other names."""
    origins = (story["origin"] for story in read_jsonl(out / "provenance.jsonl"))
    found = {o["record_sha256"] for o in origins if source in (o["source"], o["file"]) and "record_sha256" in o}
    return [{"kind": "record", "value": sha, "record_sha256": sha} for sha in sorted(found)]


def _copies_elsewhere(out: Path, source: str) -> list[dict[str, str]]:
    """Near-duplicates of a source's conversations that stand in other sources: they hold the same words."""
    stories = list(read_jsonl(out / "provenance.jsonl"))
    inside = [s for s in stories if source in (s["origin"]["source"], s["origin"]["file"])]
    own = {s["conversation_id"] for s in inside}
    roots = own | {s["duplicate_of"] for s in inside if "duplicate_of" in s}
    return [
        _entry(s) for s in stories if s["conversation_id"] not in own and {s["conversation_id"], s.get("duplicate_of")} & roots
    ]


def _examples_of(out: Path, entries: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    conversations = {e["value"] for e in entries if e["kind"] == "conversation"}
    sources = {e["value"] for e in entries if e["kind"] == "source"}
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for story in read_jsonl(out / "provenance.jsonl"):
        if story["conversation_id"] in conversations or sources & {story["origin"]["source"], story["origin"]["file"]}:
            for pair in story["pairs"]:
                if pair["outcome"] == "kept":
                    found[pair["split"]].append(pair["id"])
    return found


def kept_examples(out: Path) -> dict[str, str]:
    """The split of every example, by its id."""
    pairs = (pair for story in read_jsonl(out / "provenance.jsonl") for pair in story["pairs"])
    return {pair["id"]: pair["split"] for pair in pairs if pair["outcome"] == "kept"}


def side_effects(before: dict[str, str], after: dict[str, str], removed: dict[str, list[str]]) -> dict[str, list[str]]:
    """What a withdrawal changed beside the examples that it took out, by ids.

    `added`: twins of withdrawn examples in other conversations. `moved`: to another split, as what bound them to others is
    gone. `gone`: left out by the balance.
    """
    listed = {identifier for ids in removed.values() for identifier in ids}
    return {
        "added": sorted(after.keys() - before.keys()),
        "moved": sorted(i for i in before.keys() & after.keys() if before[i] != after[i]),
        "gone": sorted(before.keys() - after.keys() - listed),
    }


def record_withdrawal(out: Path, entries: Sequence[dict[str, str]]) -> None:
    """Writes the withdrawal down; the next build of the folder obeys it, and every one after."""
    known = read_json(out / WITHDRAWALS) if (out / WITHDRAWALS).exists() else []
    write_json(
        out / WITHDRAWALS, sorted([*known, *(e for e in entries if e not in known)], key=lambda e: (e["kind"], e["value"]))
    )


def runs_made_from(datasets: Sequence[str], runs: Path) -> list[str]:
    """Names of the training runs below `runs` that have seen one of the datasets (by their hashes)."""
    out = []
    for path in sorted(runs.glob("*/dataset.json")) if runs.is_dir() else ():
        text = path.read_text(encoding="utf-8")
        if any(dataset in text for dataset in datasets):
            out.append(path.parent.name)
    return out
