"""Lectures cut by topic: Pk and WindowDiff on sections of textbooks put one after the other.

The setting is chosen on the sociology book, the figures are of the psychology book.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.embedding import Embedder
from attunement.sources.knowledge.segmentation import Tiling, boundaries, pk, units, window_diff
from source_parts.linking import plain


def sections(shared: Path, book: str) -> list[list[list[str]]]:
    """Of each module the text of its sections, in sentences; without those of under 8, and of over 100 (lists of references)."""
    found = []
    for path in sorted((shared / "knowledge" / "openstax" / book / "modules").glob("*/index.cnxml")):
        body = path.read_text(encoding="utf-8").split("<content>")[-1]
        parts = []
        for part in re.split(r"<section[^>]*>", body)[1:]:
            text = " ".join(plain(p) for p in re.findall(r"<para[^>]*>(.*?)</para>", part, re.S))
            if 8 <= len(cut := units(text)) <= 100:
                parts.append(cut)
        if parts:
            found.append(parts)
    return found


def lectures(shared: Path, book: str, *, within: bool, seed: int = 5) -> list[tuple[list[str], list[int]]]:
    """Sentences and true boundaries. `within`: one module's sections in their order, at least three; else 6-10 sections of
    different modules one after the other."""
    modules, rng = sections(shared, book), random.Random(seed)
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


def tuned(embedder: Embedder, shared: Path) -> tuple[Tiling, float]:
    """The setting with the best mean Pk on the sociology book, both kinds of lecture."""
    kinds = [lectures(shared, "sociology", within=within) for within in (False, True)]
    vectors = [[embedder.encode(case[0]) for case in cases] for cases in kinds]
    best = (1.0, Tiling())
    for values in itertools.product((6, 9, 12, 16), (1, 2, 3), (0.5, 1.0, 1.5, 2.0), (6,)):
        tiling = Tiling(*values)
        scores = [judged(c, lambda n, v=v, t=tiling: boundaries(v[n], t))["pk"] for c, v in zip(kinds, vectors, strict=True)]
        best = min(best, (float(np.mean(scores)), tiling), key=lambda pair: pair[0])
    return best[1], best[0]


def measure(shared: Path, home: Path) -> dict[str, Any]:
    embedder, rng = Embedder(), random.Random(5)
    setting, score = tuned(embedder, shared)
    figures: dict[str, Any] = {
        "machine": machine.describe(),
        "tuned_on_sociology": {"setting": asdict(setting), "pk": round(score, 4)},
    }
    for name, within in (("sections_of_different_modules", False), ("sections_of_one_module", True)):
        cases = lectures(shared, "psychology", within=within)
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
    return figures
