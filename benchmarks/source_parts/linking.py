"""Links from real texts to the written concepts.

Precision: random links that the linker makes on texts whose hash is odd (those with an even hash served to set thresholds),
each labelled by the rubric in docs/knowledge-examples.md. `data/links.jsonl` holds hashes, places and labels, no text.
"""

from __future__ import annotations

import csv
import hashlib
import html
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine

from attunement.sources.knowledge.linking import Link, Linker
from attunement.sources.knowledge.written import written_concepts
from attunement.storage.files import read_jsonl

DATA = machine.DATA
QUOTAS = {"counselchat": 0.5, "psych8k": 0.15, "esconv": 0.13, "annomi": 0.12, "openstax": 0.1}
"""Shares of the drawn links by source."""


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text or ""))).strip()


def texts(shared: Path) -> Iterator[tuple[str, str]]:
    """(source, text) of all sets, each text once."""
    csv.field_size_limit(10**9)
    seen = set()
    for source, text in _all(shared):
        key = plain(text)
        if len(key) > 20 and key not in seen:
            seen.add(key)
            yield source, key


def _all(shared: Path) -> Iterator[tuple[str, str]]:
    data = shared / "data"
    with open(data / "counselchat" / "counsel_chat.csv", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            yield from (("counselchat", row[column] or "") for column in ("questionText", "answerText"))
    for name in ("input.txt", "output_GT.txt"):
        yield from (("psych8k", line) for line in (data / "psych8k" / name).read_text(encoding="utf-8").splitlines())
    for line in (data / "esconv" / "valid.txt").read_text(encoding="utf-8").splitlines():
        yield from (("esconv", turn["text"]) for turn in json.loads(line[line.index("{") :])["dialog"])
    with open(data / "annomi" / "AnnoMI-full.csv", encoding="utf-8") as file:
        yield from (("annomi", row["utterance_text"]) for row in csv.DictReader(file))
    for path in sorted((shared / "knowledge" / "openstax" / "psychology" / "modules").glob("*/index.cnxml")):
        yield from (("openstax", part) for part in re.findall(r"<para[^>]*>(.*?)</para>", path.read_text(encoding="utf-8"), re.S))


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def links(linker: Linker, shared: Path, odd: bool) -> Iterator[tuple[str, str, Link]]:
    """Every link on the texts whose hash is odd (or even), with source and text."""
    chosen = [(source, text) for source, text in texts(shared) if int(sha(text), 16) % 2 == odd]
    for (source, text), found in zip(chosen, linker.links_of([text for _, text in chosen]), strict=True):
        yield from ((source, text, link) for link in found)


def draw(shared: Path, count: int, *, odd: bool = True, wide: bool = False, seed: int = 5) -> list[dict[str, Any]]:
    """`count` links, by the quotas, or, with `wide`, at most one a concept: rare and ambiguous names weigh as much as common ones."""
    rng = random.Random(seed)
    found: dict[str, list[tuple[str, Link]]] = {}
    for source, text, link in links(Linker(written_concepts()), shared, odd):
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


def precision(linker: Linker, shared: Path) -> dict[str, Any]:
    """Of the labelled links as they were drawn, and of those that the linker still makes."""
    by_hash = {sha(text): text for _, text in texts(shared)}
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


def recall(linker: Linker, shared: Path) -> dict[str, Any]:
    by_hash = {sha(text): text for _, text in texts(shared)}
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


def measure(shared: Path, home: Path) -> dict[str, Any]:
    linker = Linker(written_concepts())
    return {"machine": machine.describe(), "concepts": len(linker.concepts), "precision": precision(linker, shared),
            "recall": recall(linker, shared), "senses": senses(linker)}  # fmt: skip


def show_drawn(shared: Path, count: int) -> None:
    for wide in (False, True):
        for row in draw(shared, count, wide=wide):
            print(json.dumps(row, ensure_ascii=False))
