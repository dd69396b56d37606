"""What a helper must never say, each kind with its reason code; trained judges of skill come beside these rules."""

from __future__ import annotations

from attunement.quality.rules import hits, lexicon
from attunement.records import ValidationResult

LOWERED = 0.5
"""Score of a reply per finding that lowers but does not block."""


def validate(response: str) -> ValidationResult:
    """Score 1 for nothing found; 0 and not appropriate for an empty reply or a blocking finding."""
    if not response.strip():
        return ValidationResult(False, 0.0, ("empty",))
    found = hits(lexicon("appropriateness"), response)
    blocked = any(hit.level == "blocks" for hit in found)
    score = 0.0 if blocked else LOWERED ** len(found)
    return ValidationResult(not found, score, tuple(hit.code for hit in found))
