"""How varied and how alike the sources are: what the quality report says of distributions, diversity and patterns.

Everything is counted as pairs come by; of the answers a sample of fixed size is kept, because distinct-n falls with the number of
words it is taken over and would otherwise compare nothing.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attunement.curation.questions import Candidate
from attunement.curation.scoring import Judged
from attunement.quality.labelled import EMPATHY
from attunement.quality.wording import variety, words

SAMPLE = 2000
"""Answers, those with the smallest ids (which are hashes): the same ones whenever the same pairs are kept."""
SCORES = ("coherence", "helper", *EMPATHY, "unsafe", "bias", "crisis")
LABELS = ("emotion", "behaviour", "danger")
BINS = 20
UNLIKE = 0.15
"""Jensen-Shannon divergence (bits) from which a source is called unlike the rest in something."""
FEW = 30
"""Sources with fewer kept pairs are not compared."""
OFTEN = 0.02
"""Share of the sampled answers that must begin alike for the report to list the beginning."""


@dataclass
class Spread:
    """Histograms of scores and counts of labels over the kept pairs of one source."""

    pairs: int = 0
    scores: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in SCORES})
    totals: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in LABELS})

    def add(self, judged: Judged) -> None:
        self.pairs += 1
        for name in SCORES:
            self.scores[name][min(BINS - 1, int(judged[name] * BINS))] += 1
            self.totals[name] += judged[name]
        for name in LABELS:
            self.labels[name][judged[name]] += 1

    def told(self) -> dict[str, Any]:
        """Mean, quartiles (to the bin's middle) of each score, shares of each label."""
        return {
            "scores": {
                name: {"mean": round(self.totals[name] / self.pairs, 4), **_quartiles(self.scores[name], self.pairs)}
                for name in SCORES
            },
            "labels": {
                name: {label: round(count / self.pairs, 4) for label, count in sorted(self.labels[name].items())}
                for name in LABELS
            },
        }


@dataclass
class Variety:
    """Filled pair by pair with what was kept."""

    sources: dict[str, Spread] = field(default_factory=dict)
    topics: Counter[int] = field(default_factory=Counter)
    _answers: list[tuple[int, str]] = field(default_factory=list)

    def add(self, source: str, pair: Candidate, judged: Judged) -> None:
        self.sources.setdefault(source, Spread()).add(judged)
        self.topics[judged["topic"]] += 1
        item = (-int(pair.pair_id[2:], 16), pair.answer)
        if len(self._answers) < SAMPLE:
            heapq.heappush(self._answers, item)
        else:
            heapq.heappushpop(self._answers, item)

    def spread_by_source(self) -> dict[str, Any]:
        """The distributions of each source."""
        return {name: spread.told() for name, spread in sorted(self.sources.items())}

    def consistency(self) -> dict[str, Any]:
        """Each source against all others together: Jensen-Shannon divergence (bits, 0-1) per score and label, and what is unlike."""
        big = {name: spread for name, spread in sorted(self.sources.items()) if spread.pairs >= FEW}
        apart: dict[str, dict[str, float]] = {}
        if len(big) > 1:
            for kind in (*SCORES, *LABELS):
                counts = {name: _counts(spread, kind) for name, spread in big.items()}
                whole: Counter[Any] = sum(counts.values(), Counter())
                for name, own in counts.items():
                    apart.setdefault(name, {})[kind] = round(divergence(own, whole - own), 4)
        values = [value for row in apart.values() for value in row.values()]
        return {
            "sources_compared": len(apart),
            "mean_divergence": round(sum(values) / len(values), 4) if values else None,
            "divergence": apart,
            "unlike": [
                {"source": name, "in": kind, "divergence": value}
                for name, row in apart.items()
                for kind, value in row.items()
                if value >= UNLIKE
            ],
        }

    def diversity(self, bank: int) -> dict[str, Any]:
        """distinct-n of the sampled answers; how much of `bank` topics the questions cover, and how evenly (entropy, 0-1)."""
        answers = [text for _, text in sorted(self._answers)]
        total = sum(self.topics.values())
        shares = [count / total for count in self.topics.values()] if total else []
        entropy = -sum(share * math.log(share) for share in shares)
        return {
            "answers_sampled": len(answers),
            **variety(answers),
            "topics_covered": round(len(self.topics) / bank, 4),
            "topic_entropy": round(entropy / math.log(bank), 4),
            "most_frequent_topic": round(max(shares, default=0.0), 4),
        }

    def patterns(self) -> dict[str, Any]:
        """How the sampled answers begin and how they are built."""
        answers = [text for _, text in sorted(self._answers)]
        many = max(1, len(answers))
        starts = Counter(" ".join(words(text)[:3]) for text in answers)
        return {
            "openings": {
                opening: round(count / many, 4)
                for opening, count in sorted(starts.items(), key=lambda i: (-i[1], i[0]))
                if count / many >= OFTEN
            },
            "answers_that_ask": round(sum("?" in text for text in answers) / many, 4),
            "answers_that_end_with_a_question": round(sum(text.rstrip().endswith("?") for text in answers) / many, 4),
            "answers_with_a_list": round(sum(bool(re.search(r"(?m)^\s*(?:[-*]|\d+[.)])\s", text)) for text in answers) / many, 4),
            "median_answer_words": sorted(len(text.split()) for text in answers)[many // 2] if answers else 0,
        }


def divergence(first: Mapping[Any, int], second: Mapping[Any, int]) -> float:
    """Jensen-Shannon divergence in bits of two sets of counts: 0 alike, 1 nothing in common (also where one is empty)."""
    many, others = sum(first.values()), sum(second.values())
    if not many or not others:
        return 1.0
    out = 0.0
    for key in {*first, *second}:
        p, q = first.get(key, 0) / many, second.get(key, 0) / others
        middle = (p + q) / 2
        out += sum(x * math.log2(x / middle) / 2 for x in (p, q) if x)
    return max(0.0, out)


def _counts(spread: Spread, kind: str) -> Counter[Any]:
    return spread.labels[kind] if kind in LABELS else Counter(spread.scores[kind])


def _quartiles(histogram: Mapping[int, int], many: int) -> dict[str, float]:
    out, seen = {}, 0
    wanted = {"lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75}
    for place in range(BINS):
        seen += histogram.get(place, 0)
        for name, share in wanted.items():
            if name not in out and seen >= share * many:
                out[name] = round((place + 0.5) / BINS, 4)
    return out
