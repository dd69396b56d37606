"""Bias against groups in a text: rules (a group and a judgement about it in one clause, prescribed roles, slurs) and a judge.

Rules show a reviewer term, group and place at once; the judge finds what they have no words for, sentence by sentence. Whether a
model treats groups differently is measured by `counterfactual`, not here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from attunement.quality.counterfactual import groups_named
from attunement.quality.panel import Judges
from attunement.quality.rules import as_findings, hits, lexicon
from attunement.quality.verdicts import Item
from attunement.records import BiasReport

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
MAX_SENTENCES = 40


def detect_by_rules(text: str) -> BiasReport:
    """`bias_score` is 1 - product of (1 - weight) over the findings: 0 for none, towards 1 for many or grave ones."""
    found = hits(lexicon("bias"), text)
    score = round(1.0 - math.prod((1.0 - hit.weight for hit in found), start=1.0), 4)
    named = [{"group": sorted(groups_named(hit.text)), "evidence": f"rule {hit.code}"} for hit in found]
    return BiasReport(score, tuple({**one, **more} for one, more in zip(as_findings(found), named, strict=True)))


def detect_many(judges: Judges, texts: Sequence[str], *, suspect: float = 0.0) -> list[BiasReport]:
    """One report a text. `bias_score` is 1 - (1 - rules) x (1 - judge), the judge's probability counting from its operating point.

    The judge reads sentences; its finding is the likeliest one, with its probability as evidence. With `suspect` it reads only the
    sentences of texts that as a whole reach that share of the operating point, which saves most of the time over many texts.
    """
    least = judges.operating_point("bias")
    parts = [list(_sentences(text)) for text in texts]
    if suspect:
        whole = judges.judge("bias", [Item(text) for text in texts])
        parts = [part if verdict.score >= suspect * least else [] for part, verdict in zip(parts, whole, strict=True)]
    verdicts = iter(judges.judge("bias", [Item(sentence) for part in parts for _, sentence in part]))
    out = []
    for text, part in zip(texts, parts, strict=True):
        rules = detect_by_rules(text)
        worst = max(((next(verdicts), place, sentence) for place, sentence in part), key=lambda f: f[0].score, default=None)
        if worst is None or worst[0].score < least:
            out.append(rules)
            continue
        verdict, place, sentence = worst
        finding: dict[str, Any] = {
            "code": "stereotype", "term": sentence, "span": [place, place + len(sentence)], "weight": verdict.score,
            "group": sorted(groups_named(sentence)), "evidence": f"judge {verdict.score:.2f}",
        }  # fmt: skip
        score = 1 - (1 - rules.bias_score) * (1 - verdict.score)
        out.append(BiasReport(round(score, 4), (*rules.findings, finding)))
    return out


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    found = [m for m in _SENTENCE.finditer(text) if len(m[0].split()) >= 3]
    for match in found[:MAX_SENTENCES]:
        lead = len(match[0]) - len(match[0].lstrip())
        yield match.start() + lead, match[0].strip()
