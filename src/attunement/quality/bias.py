"""Bias against groups in one text: a group and a judgement about it in one clause, prescribed roles, slurs.

Lexical findings are what can be shown to a reviewer at once. Whether a model treats groups differently is measured by
counterfactuals in the evaluation suite, not here.
"""

from __future__ import annotations

import math

from attunement.quality.rules import as_findings, hits, lexicon
from attunement.records import BiasReport


def detect(text: str) -> BiasReport:
    """`bias_score` is 1 - product of (1 - weight) over the findings: 0 for none, towards 1 for many or grave ones."""
    found = hits(lexicon("bias"), text)
    return BiasReport(round(1.0 - math.prod((1.0 - hit.weight for hit in found), start=1.0), 4), tuple(as_findings(found)))
