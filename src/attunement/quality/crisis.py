"""Whether somebody is in danger: rules over the client's words. A hit is a reason to act, never a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

from attunement.quality.rules import hits, lexicon
from attunement.records import CrisisAssessment

LEVELS = ("none", "elevated", "imminent")


def assess_crisis(texts: Sequence[str]) -> CrisisAssessment:
    """The highest level in what a client said, oldest first, with the reason codes.

    What was said earlier still counts: a retraction ("forget it, I'm fine") does not undo it (VERA-MH's rubric).
    """
    found = [hit for text in texts for hit in hits(lexicon("crisis"), text)]
    level = max((LEVELS.index(hit.level) for hit in found), default=0)
    return CrisisAssessment(LEVELS[level], tuple(dict.fromkeys(hit.code for hit in found)))
