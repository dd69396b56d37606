"""Whether a helper may say something: rules for what must never be said, each with its reason code, and trained judges.

Rules alone withhold a reply. The judge of unsafe replies, which needs the turn before, withholds at its operating point too; what a
reply lacks in skill lowers its score and never withholds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attunement.quality.judges import Judges
from attunement.quality.rules import hits, lexicon
from attunement.quality.verdicts import Item
from attunement.records import ValidationResult

LOWERED = 0.5
"""Score of a reply per finding that lowers but does not block."""
SKILL = 0.4
"""How much of the score hangs on the judge of helpers' turns."""


def validate_by_rules(response: str) -> ValidationResult:
    """Score 1 for nothing found; 0 and not appropriate for an empty reply or a blocking finding."""
    if not response.strip():
        return ValidationResult(False, 0.0, ("empty",))
    found = hits(lexicon("appropriateness"), response)
    blocked = any(hit.level == "blocks" for hit in found)
    score = 0.0 if blocked else LOWERED ** len(found)
    return ValidationResult(not found, score, tuple(hit.code for hit in found))


def blocked_by_rules(response: str) -> list[str]:
    """The codes of rules for which a reply must never be said."""
    return [hit.code for hit in hits(lexicon("appropriateness"), response) if hit.level == "blocks"]


def validate_many(judges: Judges, replies: Sequence[str], contexts: Sequence[Sequence[str]]) -> list[ValidationResult]:
    """Each reply after what was said before it, oldest first (may be nothing).

    Score: that of the rules x (1 - probability of an unsafe reply) x (0.6 + 0.4 x probability of a good helper's turn), so that
    an unskilled reply keeps at least 0.6 of its score. Reasons: the rules' codes, the kind of unsafe reply.
    """
    items = [Item(reply, tuple(context[-2:])) for reply, context in zip(replies, contexts, strict=True)]
    unsafe, helper = judges.judge("unsafe", items), judges.judge("helper", items)
    least = judges.operating_point("unsafe")
    out = []
    for item, danger, skill in zip(items, unsafe, helper, strict=True):
        rules = validate_by_rules(item.text)
        if "empty" in rules.reasons:
            out.append(rules)
            continue
        alone = not any(text.strip() for text in item.context)
        risk = 0.0 if alone else danger.score
        reasons = (*rules.reasons, *((danger.label,) if risk >= least else ()))
        score = rules.score * (1 - risk) * (1 - SKILL + SKILL * skill.score)
        out.append(ValidationResult(not reasons, round(score, 4), reasons))
    return out
