"""Invented everyday texts for the load: short talks, each new, none of which speaks of danger."""

from __future__ import annotations

import random

ASKS = (
    "Can we talk about {what}?", "How do other people deal with {what}?", "What would help me with {what}?",
    "I have a question about {what}.", "I was wondering about {what}.", "Today I would like to talk about {what}.",
    "Last week we spoke about {what}.", "What do you think about {what}?",
)  # fmt: skip
WHAT = (
    "my new job", "the exam in June", "our move to the city", "my son's school", "cooking for six people", "the meeting on Monday",
    "my sister's wedding", "the choir", "my sleep", "learning Spanish", "a talk with my boss", "the holidays with my parents",
    "sharing a flat", "my running plan", "the long drive to work", "our garden", "the interview", "speaking in public",
)  # fmt: skip
MORE = (
    "It went well on {day}.", "I will know more on {day}.", "We start on {day}.", "I practised on {day}.", "My friend asked me on {day}.",
    "I am a bit nervous about {day}.", "I am looking forward to {day}.", "There was not much time on {day}.",
)  # fmt: skip
DAYS = tuple(f"the {n}th of {month}" for n in range(4, 21) for month in ("May", "June", "July", "August", "September", "October"))
REPLIES = (
    "That sounds like a lot. What was it like for you?",
    "I hear you. What comes up when you say that?",
    "Tell me more about it.",
)


def talks(number: int, turns: int, seed: str) -> list[list[str]]:
    """`number` talks of `turns` of the client's, with the replies between them, which are part of the prompt."""
    draw = random.Random(seed)

    def turn() -> str:
        return f"{draw.choice(ASKS).format(what=draw.choice(WHAT))} {draw.choice(MORE).format(day=draw.choice(DAYS))}"

    return [[turn() if n % 2 == 0 else draw.choice(REPLIES) for n in range(2 * turns - 1)] for _ in range(number)]
