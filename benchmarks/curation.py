"""`attune data build` on the real data: speed beside embedding alone, memory at 1x and 8x, near-duplicates found.

    python benchmarks/curation.py speed     # the whole data once, and a part of it three times, beside embedding alone
    python benchmarks/curation.py memory    # peak memory at 1x and 8x
    python benchmarks/curation.py recall --dataset DIR   # of a finished build

Each writes benchmarks/results/curation-<part>.json. "Embedding alone" encodes, with a fresh model, exactly the texts
that the build encoded, in the same groups, in the same process, right after it.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.config import load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.embedding import Embedder, Vectors
from attunement.readers.files import ReadFailure, discover, read
from attunement.storage.files import read_json, read_jsonl

DATA = machine.ROOT.parent / "shared" / "data"
PART = ("counselchat", "annomi", "esconv")
"""The sets of the repeated measurement: 2,700 conversations, short and long."""


class Remembering(Embedder):
    """Remembers what it was asked to encode."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        return super().encode(texts)


def build_and_embed(sources: list[Path], folder: Path) -> dict[str, Any]:
    settings = load_settings().settings
    embedder = Remembering(settings.embedding)
    started = time.perf_counter()
    dataset = DataPipeline(settings, folder, embedder=embedder, quiet=False).process_datasets(sources)
    build = time.perf_counter() - started
    alone = Embedder(settings.embedding)
    started = time.perf_counter()
    for texts in embedder.calls:
        alone.encode(texts)
    embed = time.perf_counter() - started
    return {
        "conversations": dataset.total_conversations,
        "texts": alone.encoded_texts,
        "build_seconds": round(build, 2),
        "embedding_alone_seconds": round(embed, 2),
        "ratio": round(build / embed, 4),
        "conversations_per_second": round(dataset.total_conversations / build, 2),
        "texts_per_second_alone": round(alone.encoded_texts / embed, 1),
        "success_rate": dataset.processing_success_rate,
        "steps_seconds": read_json(folder / "work" / "timing.json")["seconds"],
    }


def speed(_: argparse.Namespace) -> None:
    figures: dict[str, Any] = {
        "machine": machine.describe(),
        "goal": "build at most 1.25 times embedding alone; success rate at least 0.99",
    }
    rounds = []
    for _round in range(3):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(build_and_embed([DATA / name for name in PART], Path(folder)))
    figures["part"] = {"sets": PART, "rounds": rounds, "median_ratio": statistics.median(r["ratio"] for r in rounds)}
    with tempfile.TemporaryDirectory() as folder:
        figures["whole"] = build_and_embed([DATA], Path(folder))
        figures["whole"]["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        figures["whole"]["recall"] = recall_of(Path(folder))
    machine.write("curation-speed", figures)


def memory(_: argparse.Namespace) -> None:
    """The copies beyond the first have their words exchanged one for one, so that they are no duplicates and as long.

    Of each shard's texts only the 64 longest go through the sentence model and the other vectors are drawn, in both
    runs: that is what the model needs at most at a time, and 190,000 conversations end within the hour.
    """
    figures: dict[str, Any] = {"machine": machine.describe(), "method": " ".join((memory.__doc__ or "").split())}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for copy in range(8):
            write_copy(root / f"copy{copy}.jsonl", copy)
        for times in (1, 8):
            sources = [str(root / f"copy{i}.jsonl") for i in range(times)]
            figures[f"{times}x"] = in_a_process(sources, root / f"out{times}")
    figures["growth"] = round(figures["8x"]["peak_memory_bytes"] / figures["1x"]["peak_memory_bytes"], 3)
    machine.write("curation-memory", figures)


def in_a_process(sources: list[str], out: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, __file__, "build", *sources, "--dataset", str(out)], check=True)
    timing = read_json(out / "work" / "timing.json")
    report = read_json(out / "quality_report.json")
    return {
        "conversations": report["conversations"]["in"],
        "pairs": report["pairs"]["in"],
        "input_bytes": sum(Path(s).stat().st_size for s in sources),
        "peak_memory_bytes": timing["peak_memory_bytes"],
        "seconds": timing["total_seconds"],
    }


class Sampling(Embedder):
    """Encodes the 64 longest texts of a call; the rest get vectors drawn from their first letters."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = [
            np.frombuffer((text[:384].encode("utf-8", "replace") + b"0123456789" * 40)[:384], dtype=np.uint8) for text in texts
        ]
        found = np.asarray(rows, dtype=np.float32).reshape(len(texts), 384)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        longest = sorted(range(len(texts)), key=lambda i: len(texts[i]))[-64:]
        found[longest] = super().encode([texts[i] for i in longest])
        return found


def build(args: argparse.Namespace) -> None:
    """One build for `memory`, in a process of its own."""
    settings = load_settings().settings
    DataPipeline(settings, args.dataset, embedder=Sampling(settings.embedding), quiet=False).process_datasets(args.sources)


def write_copy(path: Path, number: int) -> None:
    talks = list(conversations())
    words = sorted({word for talk in talks for _, text in talk for word in text.split()})
    other = words.copy()
    if number:
        random.Random(number).shuffle(other)
    exchange = dict(zip(words, other, strict=True))
    with open(path, "w", encoding="utf-8") as file:
        for talk in talks:
            messages = [{"role": role, "content": " ".join(exchange[w] for w in text.split())} for role, text in talk]
            file.write(json.dumps({"messages": messages}) + "\n")


def conversations() -> Iterator[list[tuple[str, str]]]:
    roles = {"client": "user", "therapist": "assistant", "narrator": "assistant"}
    for file in discover([DATA]):
        for found in read(file, max_record_bytes=16_000_000):
            if not isinstance(found, ReadFailure):
                yield [(roles.get(t.role, "system"), t.text) for t in found.turns]


def recall_of(dataset: Path) -> dict[str, Any]:
    """Known overlaps: the same `situation` in two of ESConv's derived files is the same dialogue.

    Found: both stand in one group (so never in two splits), or one is left out as the other's duplicate.
    """
    by_situation: dict[str, list[str]] = defaultdict(list)
    stories = {}
    for story in read_jsonl(dataset / "provenance.jsonl"):
        stories[(story["origin"]["file"].removeprefix("data/"), story["origin"]["locator"])] = story
    for file, number, situation in situations():
        story = next((stories[k] for k in ((file, f"line {number}"), (file, f"item {number}")) if k in stories), None)
        if story is not None and len(situation.split()) > 5:
            by_situation["".join(filter(str.isalnum, situation.casefold()))].append(
                json.dumps([file, number, story["group"], story.get("duplicate_of")])
            )
    pairs = same_group = left_out = 0
    missed = []
    for rows in by_situation.values():
        known = [json.loads(r) for r in rows]
        for i, a in enumerate(known):
            for b in known[i + 1 :]:
                if a[0] != b[0]:
                    pairs += 1
                    same_group += a[2] == b[2]
                    left_out += bool(a[3] or b[3])
                    if a[2] != b[2]:
                        missed.append([a[:2], b[:2]])
    return {
        "known_overlaps": pairs,
        "same_group": same_group,
        "recall": round(same_group / pairs, 4) if pairs else None,
        "with_one_left_out": left_out,
        "missed": missed[:20],
    }


def situations() -> Iterator[tuple[str, int, str]]:
    esconv = DATA / "esconv"
    for name in ("valid.txt", "test.txt", "ppdpp_esc-valid.txt", "ppdpp_esc-test.txt"):
        for number, line in enumerate((esconv / name).read_text(encoding="utf-8").splitlines(), 1):
            yield f"esconv/{name}", number, json.loads(line[line.index("{") :])["situation"]
    for number, row in enumerate(json.loads((esconv / "FailedESConv.json").read_text(encoding="utf-8")), 1):
        yield "esconv/FailedESConv.json", number, row["situation"]
    for number, row in enumerate(json.loads((DATA / "counseling-feedback/q-esconv.json").read_text(encoding="utf-8")), 1):
        yield "counseling-feedback/q-esconv.json", number, json.loads(row["text"])["situation"]


def recall(args: argparse.Namespace) -> None:
    machine.write("curation-recall", {"machine": machine.describe(), **recall_of(args.dataset)})


if __name__ == "__main__":
    csv.field_size_limit(1 << 30)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["speed", "memory", "recall", "build"])
    parser.add_argument("sources", nargs="*", type=Path, help="with build")
    parser.add_argument("--dataset", type=Path, help="with recall: a build of ../shared/data; with build: where to")
    chosen = parser.parse_args()
    {"speed": speed, "memory": memory, "recall": recall, "build": build}[chosen.part](chosen)
