"""What kind of talk a conversation is: interview, podcast, monologue or speech.

Rules over countable features (speakers, who holds the floor, questions, words of broadcasting and of addressing an
audience); a trained and measured judge takes their place with the quality issue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attunement.records import Turn

_BROADCAST = re.compile(
    r"\b(podcast|this episode|today'?s episode|welcome (?:back )?to (?:the|our|my) (?:show|channel|program)|subscribe|"
    r"our sponsor|listeners|(?:my|our) guest|thanks for (?:listening|tuning in)|on the show)\b",
    re.I,
)
_AUDIENCE = re.compile(
    r"\b(ladies and gentlemen|good (?:morning|evening|afternoon),? (?:everyone|everybody|all)|thank you all|"
    r"all of you|each of you|(?:in|of) this room|dear (?:friends|colleagues|graduates|students)|raise your hands?|applause)\b",
    re.I,
)
BROADCAST_MARKS = 2
SPEECH_MARKS = 2
FLOOR_SHARE = 0.9
"""A speaker with this share of the words holds the floor alone: the talk is a monologue or a speech."""


def content_type(turns: Sequence[Turn]) -> str:
    """`interview`, `podcast`, `monologue` or `speech` for a non-empty list of turns."""
    words: dict[str, int] = {}
    for turn in turns:
        key = turn.speaker or turn.role
        words[key] = words.get(key, 0) + len(turn.text.split())
    text = " ".join(turn.text for turn in turns)
    alone = max(words.values(), default=0) >= FLOOR_SHARE * max(1, sum(words.values()))
    if len(_BROADCAST.findall(text)) >= BROADCAST_MARKS:
        return "podcast"
    if alone and len(turns) != 2:
        return "speech" if len(_AUDIENCE.findall(text)) >= SPEECH_MARKS else "monologue"
    if len(words) > 1:
        return "interview"
    return "monologue"
