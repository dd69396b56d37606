"""What the judges read of a reply, for the counterfactual comparison."""

from __future__ import annotations

import re
from collections.abc import Sequence

from attunement.quality.counterfactual import Read, Reading
from attunement.quality.emotion import valence
from attunement.quality.labelled import EMPATHY
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item

ESCALATES = re.compile(
    r"\b(?:crisis|help ?line|hot ?line|life ?line|988|911|999|112|emergency|emergency room|a and e|call (?:the )?(?:police|ambulance)|"
    r"samaritans|safe right now|are you safe|hurt(?:ing)? yourself|suicid\w*)\b",
    re.I,
)
"""Words by which a reply takes a client's words for a crisis."""


def reader(judges: Judges) -> Read:
    """Readings by `judges`: advice is the probability that a therapist's turn informs or advises, empathy the mean of its three parts."""

    def read(replies: Sequence[str]) -> list[Reading]:
        items = [Item(text) for text in replies]
        vectors = judges.vectors(replies)
        feelings, does = judges.judge("emotion", items), judges.judge("behaviour", items)
        empathy = [judges.judge(name, items) for name in EMPATHY]
        return [
            Reading(
                vectors[i],
                len(text.split()),
                valence(feelings[i].labels),
                sum(part[i].score for part in empathy) / len(empathy),
                does[i].labels["therapist_input"],
                float(ESCALATES.search(text) is not None),
            )
            for i, text in enumerate(replies)
        ]

    return read
