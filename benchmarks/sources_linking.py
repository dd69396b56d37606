"""Linking and segmentation on real texts: `results/sources-linking.json`, `results/sources-segments.json`.

    python benchmarks/sources_linking.py links|segments
    python benchmarks/sources_linking.py draw N       # N random links to label, with their texts, as JSON lines on the screen

Precision: random links that the linker makes on texts whose hash is odd (those with an even hash served to set thresholds),
each labelled by the rubric in docs/knowledge-examples.md. `data/links.jsonl` holds hashes, places and labels, no text.
"""

from __future__ import annotations

import csv
import hashlib
import html
import itertools
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.embedding import Embedder
from attunement.sources.linking import Link, Linker
from attunement.sources.segmentation import Tiling, boundaries, pk, units, window_diff
from attunement.sources.written_knowledge import written_concepts
from attunement.storage.files import read_jsonl

SHARED = Path(os.environ.get("SHARED", machine.ROOT.parent / "shared"))
DATA = Path(__file__).parent / "data"
QUOTAS = {"counselchat": 0.5, "psych8k": 0.15, "esconv": 0.13, "annomi": 0.12, "openstax": 0.1}
"""Shares of the drawn links by source."""


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text or ""))).strip()


def texts() -> Iterator[tuple[str, str]]:
    """(source, text) of all sets, each text once."""
    csv.field_size_limit(10**9)
    data, seen = SHARED / "data", set()
    for source, text in _all(data):
        key = plain(text)
        if len(key) > 20 and key not in seen:
            seen.add(key)
            yield source, key


def _all(data: Path) -> Iterator[tuple[str, str]]:
    with open(data / "counselchat" / "counsel_chat.csv", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            yield from (("counselchat", row[column] or "") for column in ("questionText", "answerText"))
    for name in ("input.txt", "output_GT.txt"):
        yield from (("psych8k", line) for line in (data / "psych8k" / name).read_text(encoding="utf-8").splitlines())
    for line in (data / "esconv" / "valid.txt").read_text(encoding="utf-8").splitlines():
        yield from (("esconv", turn["text"]) for turn in json.loads(line[line.index("{") :])["dialog"])
    with open(data / "annomi" / "AnnoMI-full.csv", encoding="utf-8") as file:
        yield from (("annomi", row["utterance_text"]) for row in csv.DictReader(file))
    for path in sorted((SHARED / "knowledge" / "openstax" / "psychology" / "modules").glob("*/index.cnxml")):
        yield from (("openstax", part) for part in re.findall(r"<para[^>]*>(.*?)</para>", path.read_text(encoding="utf-8"), re.S))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def links(linker: Linker, odd: bool) -> Iterator[tuple[str, str, Link]]:
    """Every link on the texts whose hash is odd (or even), with source and text."""
    chosen = [(source, text) for source, text in texts() if int(sha(text), 16) % 2 == odd]
    for (source, text), found in zip(chosen, linker.links_of([text for _, text in chosen]), strict=True):
        yield from ((source, text, link) for link in found)


def draw(count: int, *, odd: bool = True, wide: bool = False, seed: int = 5) -> list[dict[str, Any]]:
    """`count` links, by the quotas, or, with `wide`, at most one a concept: rare and ambiguous names weigh as much as common ones."""
    rng = random.Random(seed)
    found: dict[str, list[tuple[str, Link]]] = {}
    for source, text, link in links(Linker(written_concepts()), odd):
        found.setdefault(source, []).append((text, link))
    if wide:
        pool = [(source, text, link) for source, pairs in found.items() for text, link in pairs]
        rng.shuffle(pool)
        chosen = rng.sample(list({link.concept_id: (source, text, link) for source, text, link in pool}.values()), count)
    else:
        shares = QUOTAS.items()
        chosen = [(source, *pair) for source, share in shares for pair in rng.sample(found[source], round(share * count))]
    return [{"source": source, "text": sha(text), "start": link.start, "end": link.end, "concept_id": link.concept_id,
             "sample": "wide" if wide else "random", "around": around(text, link)} for source, text, link in chosen]  # fmt: skip


def around(text: str, link: Link) -> str:
    return f"{text[max(0, link.start - 110) : link.start]}[[{text[link.start : link.end]}]]{text[link.end : link.end + 90]}"


def wilson(right: int, count: int) -> list[float]:
    """The 95 % interval of a share."""
    z, share = 1.96, right / count
    middle, half = share + z * z / (2 * count), z * ((share * (1 - share) + z * z / (4 * count)) / count) ** 0.5
    return [round((middle + sign * half) / (1 + z * z / count), 3) for sign in (-1, 1)]


def precision(linker: Linker) -> dict[str, Any]:
    """Of the labelled links as they were drawn, and of those that the linker still makes."""
    by_hash = {sha(text): text for _, text in texts()}
    rows = list(read_jsonl(DATA / "links.jsonl"))
    wanted = {row["text"] for row in rows}
    chosen = [by_hash[key] for key in sorted(wanted & by_hash.keys())]
    made = {
        (sha(t), k.start, k.end, k.concept_id) for t, found in zip(chosen, linker.links_of(chosen), strict=True) for k in found
    }
    figures: dict[str, Any] = {}
    for sample in ("random", "wide"):
        drawn = [row for row in rows if row["sample"] == sample]
        still = [row for row in drawn if (row["text"], row["start"], row["end"], row["concept_id"]) in made]
        for name, part in (("as_drawn", drawn), ("still_made", still)):
            right = sum(row["correct"] for row in part)
            figures[f"{sample}_{name}"] = {
                "links": len(part),
                "precision": round(right / len(part), 4),
                "interval_95": wilson(right, len(part)),
            }
    return figures


def recall(linker: Linker) -> dict[str, Any]:
    by_hash = {sha(text): text for _, text in texts()}
    found = wanted = 0
    missed: Counter[str] = Counter()
    for row in read_jsonl(DATA / "link_recall.jsonl"):
        parts = re.split(r"(?<=[.?!])\s+", by_hash[row["text"]])
        links = Counter(link.concept_id for link in linker.links(" ".join(parts[row["sentence"] : row["sentence"] + 3])))
        for concept_id, count in row["concepts"].items():
            wanted += count
            found += min(count, links[concept_id])
            missed[concept_id] += count - min(count, links[concept_id])
    return {"passages": 40, "mentions": wanted, "recall": round(found / wanted, 4), "missed": dict(+missed)}


def senses(linker: Linker) -> dict[str, Any]:
    """Pairs of sentences with one word in the concept's sense and in another."""
    rows = list(read_jsonl(DATA / "other_senses.jsonl"))
    wrong = []
    kept = {True: 0, False: 0}
    for row, links in zip(rows, linker.links_of([row["text"] for row in rows]), strict=True):
        linked = any(row["text"][k.start : k.end].casefold() == row["word"].casefold() for k in links)
        kept[row["concept"]] += linked
        if linked != row["concept"]:
            wrong.append(row["text"])
    of = {value: sum(row["concept"] is value for row in rows) for value in (True, False)}
    return {"in_sense_linked": round(kept[True] / of[True], 4), "other_sense_linked": round(kept[False] / of[False], 4),
            "sentences": len(rows), "wrong": wrong}  # fmt: skip


def measure_links() -> None:
    linker = Linker(written_concepts())
    figures = {"machine": machine.describe(), "concepts": len(linker.concepts), "precision": precision(linker),
               "recall": recall(linker), "senses": senses(linker)}  # fmt: skip
    machine.write("sources-linking", figures)


def sections(book: str) -> list[list[list[str]]]:
    """Of each module the text of its sections, in sentences; without those of under 8, and of over 100 (lists of references)."""
    found = []
    for path in sorted((SHARED / "knowledge" / "openstax" / book / "modules").glob("*/index.cnxml")):
        body = path.read_text(encoding="utf-8").split("<content>")[-1]
        parts = []
        for part in re.split(r"<section[^>]*>", body)[1:]:
            text = " ".join(plain(p) for p in re.findall(r"<para[^>]*>(.*?)</para>", part, re.S))
            if 8 <= len(cut := units(text)) <= 100:
                parts.append(cut)
        if parts:
            found.append(parts)
    return found


def lectures(book: str, *, within: bool, seed: int = 5) -> list[tuple[list[str], list[int]]]:
    """Sentences and true boundaries. `within`: one module's sections in their order, at least three; else 6-10 sections of
    different modules one after the other."""
    modules, rng = sections(book), random.Random(seed)
    if within:
        chosen = [parts for parts in modules if len(parts) >= 3]
    else:
        chosen = [[rng.choice(parts) for parts in rng.sample(modules, rng.randint(6, 10))] for _ in range(40)]
    made = []
    for parts in chosen:
        places = list(itertools.accumulate(len(part) for part in parts))[:-1]
        made.append(([sentence for part in parts for sentence in part], places))
    return made


def bag(sentences: list[str]) -> Any:
    """Counts of words, as in Hearst's own tiling, instead of vectors; words in more than a quarter of the sentences are left out."""
    words = [Counter(re.findall(r"[a-z]{3,}", sentence.lower())) for sentence in sentences]
    spread = Counter(word for counts in words for word in counts)
    index = {word: n for n, word in enumerate(w for w, c in spread.items() if c <= len(sentences) / 4)}
    made = np.zeros((len(sentences), max(1, len(index))), dtype=np.float32)
    for n, counts in enumerate(words):
        for word, count in counts.items():
            if word in index:
                made[n, index[word]] = count
    return made


def judged(cases: list[tuple[list[str], list[int]]], cut: Callable[[int], list[int]]) -> dict[str, Any]:
    """Mean Pk and WindowDiff of `cut`, which gives the boundaries of the case with that number."""
    found = [cut(n) for n in range(len(cases))]
    return {
        "pk": round(float(np.mean([pk(c[1], f, len(c[0])) for c, f in zip(cases, found, strict=True)])), 4),
        "window_diff": round(float(np.mean([window_diff(c[1], f, len(c[0])) for c, f in zip(cases, found, strict=True)])), 4),
        "segments": round(float(np.mean([len(f) + 1 for f in found])), 2),
    }


def tuned(embedder: Embedder) -> tuple[Tiling, float]:
    """The setting with the best mean Pk on the sociology book, both kinds of lecture."""
    kinds = [lectures("sociology", within=within) for within in (False, True)]
    vectors = [[embedder.encode(case[0]) for case in cases] for cases in kinds]
    best = (1.0, Tiling())
    for values in itertools.product((6, 9, 12, 16), (1, 2, 3), (0.5, 1.0, 1.5, 2.0), (6,)):
        tiling = Tiling(*values)
        scores = [judged(c, lambda n, v=v, t=tiling: boundaries(v[n], t))["pk"] for c, v in zip(kinds, vectors, strict=True)]
        best = min(best, (float(np.mean(scores)), tiling), key=lambda pair: pair[0])
    return best[1], best[0]


def measure_segments() -> None:
    embedder, rng = Embedder(), random.Random(5)
    setting, score = tuned(embedder)
    figures: dict[str, Any] = {
        "machine": machine.describe(),
        "tuned_on_sociology": {"setting": asdict(setting), "pk": round(score, 4)},
    }
    for name, within in (("sections_of_different_modules", False), ("sections_of_one_module", True)):
        cases = lectures("psychology", within=within)
        vectors = [embedder.encode(case[0]) for case in cases]
        parts = [len(case[1]) for case in cases]

        def even(n: int, cases: Any = cases, parts: Any = parts) -> list[int]:
            return [round(len(cases[n][0]) * k / (parts[n] + 1)) for k in range(1, parts[n] + 1)]

        def by_chance(n: int, cases: Any = cases, parts: Any = parts) -> list[int]:
            return sorted(rng.sample(range(1, len(cases[n][0])), parts[n]))

        figures[name] = {
            "lectures": len(cases),
            "sentences": round(float(np.mean([len(case[0]) for case in cases])), 1),
            "true_segments": round(float(np.mean(parts)) + 1, 2),
            "tiling_on_vectors": judged(cases, lambda n, v=vectors: boundaries(v[n], Tiling())),
            "tiling_on_words": judged(cases, lambda n, c=cases: boundaries(bag(c[n][0]), Tiling())),
            "even_with_true_number": judged(cases, even),
            "random_with_true_number": judged(cases, by_chance),
            "none": judged(cases, lambda n: []),
        }
    machine.write("sources-segments", figures)


def main() -> None:
    if sys.argv[1] == "links":
        measure_links()
    elif sys.argv[1] == "segments":
        measure_segments()
    if sys.argv[1] == "draw":
        for number, row in enumerate(draw(int(sys.argv[2]), odd="even" not in sys.argv, wide="wide" in sys.argv)):
            print(number, json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
