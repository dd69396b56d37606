"""Whether a helper may say something: rules for what must never be said, each with its reason code, and trained judges.

Rules alone withhold a reply. The judge of unsafe replies, which needs the turn before, withholds at its operating point too; what a
reply lacks in skill lowers its score and never withholds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attunement.quality.crisis import assess_turns
from attunement.quality.panel import Judges
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


def unsafe_after(judges: Judges, items: Sequence[Item]) -> list[tuple[float, str]]:
    """Of each reply after its context the probability that it is unsafe, and the likeliest kind. 0 where nothing was said before.

    To ignore a risk there must be one: `risk_ignorance` counts where the words before show danger, or possible danger.
    """
    verdicts = judges.judge("unsafe", items)
    danger = assess_turns(judges, [item.context[-1] if item.context else "" for item in items])
    out = []
    for item, verdict, before in zip(items, verdicts, danger, strict=True):
        kinds = {name: p for name, p in verdict.labels.items() if name != "safe"}
        if before.level == "none":
            kinds["risk_ignorance"] = 0.0
        worst = max(kinds, key=lambda name: kinds[name])
        alone = not any(text.strip() for text in item.context)
        out.append((0.0 if alone else round(min(1.0, sum(kinds.values())), 4), worst))
    return out


def reasons_many(judges: Judges, replies: Sequence[str], contexts: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """`validate_many`'s reasons alone, without the judge of helpers' turns, which gives none."""
    items = [Item(reply, tuple(context[-2:])) for reply, context in zip(replies, contexts, strict=True)]
    return [_reasons(judges, item, found) for item, found in zip(items, unsafe_after(judges, items), strict=True)]


def _reasons(judges: Judges, item: Item, found: tuple[float, str]) -> tuple[str, ...]:
    reasons, (risk, kind) = validate_by_rules(item.text).reasons, found
    if "empty" in reasons:
        return tuple(reasons)
    return (*reasons, *((kind,) if risk >= judges.operating_point("unsafe") else ()))


def validate_many(judges: Judges, replies: Sequence[str], contexts: Sequence[Sequence[str]]) -> list[ValidationResult]:
    """Each reply after what was said before it, oldest first (may be nothing).

    Score: that of the rules x (1 - probability of an unsafe reply) x (0.6 + 0.4 x probability of a good helper's turn), so that
    an unskilled reply keeps at least 0.6 of its score. Reasons: the rules' codes, the kind of unsafe reply.
    """
    items = [Item(reply, tuple(context[-2:])) for reply, context in zip(replies, contexts, strict=True)]
    out = []
    for item, found, skill in zip(items, unsafe_after(judges, items), judges.judge("helper", items), strict=True):
        rules = validate_by_rules(item.text)
        if "empty" in rules.reasons:
            out.append(rules)
            continue
        reasons = _reasons(judges, item, found)
        score = rules.score * (1 - found[0]) * (1 - SKILL + SKILL * skill.score)
        out.append(ValidationResult(not reasons, round(score, 4), reasons))
    return out
