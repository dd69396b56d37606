"""Dialogues from the written scenarios, without a language model: a course, a wording of each turn, and a bridge at each switch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from attunement.errors import DataError
from attunement.sources.personas.dialogues import DialogueSet, PersonaTurn
from attunement.sources.personas.files import Persona
from attunement.sources.personas.scenarios import Scenario
from attunement.storage.files import content_hash

PROVIDER = "offline-grammar"
ALIKE = 0.75
"""Share of turns that two dialogues of one course may have in common; drawn at random from pairs of wordings it is 0.5."""
TRIES = 30
"""Draws for one dialogue before a course counts as used up."""


def playable(scenarios: Sequence[Scenario], personas: Mapping[str, Persona]) -> list[tuple[Scenario, list[str]]]:
    """Every scenario with each of its courses whose needs all have a persona. Raises `DataError` when there is none."""
    served = {persona.serves for persona in personas.values()}
    found = [(s, course) for s in scenarios for course in s.courses if set(s.needs_of(course)) <= served]
    if not found:
        needs = ", ".join(sorted(served)) or "nothing"
        raise DataError(f"no scenario can be played with personas for {needs} alone: give personas for the other needs, too")
    return found


class PersonaGrammar:
    """Draws dialogues. The same seed gives the same ones, whatever their number."""

    def __init__(
        self, personas: Mapping[str, Persona], bridges: Mapping[tuple[str, str], Sequence[str]], rng: random.Random
    ) -> None:
        self.bridges, self.rng = bridges, rng
        self.by_need: dict[str, list[str]] = {}
        for persona in personas.values():
            self.by_need.setdefault(persona.serves, []).append(persona.id)
        self.near = 0
        """Drawn and left out, since too much of it was there already."""
        self._kept: dict[tuple[str, str], list[frozenset[str]]] = {}

    def draw(self, plays: Sequence[tuple[Scenario, list[str]]]) -> Iterator[DialogueSet]:
        """Dialogues, a round over `plays` at a time in an order of its own, until none is new any more."""
        open_plays = list(plays)
        while open_plays:
            self.rng.shuffle(open_plays)
            for play in list(open_plays):
                dialogue = self._new(*play)
                if dialogue is None:
                    open_plays.remove(play)
                else:
                    yield dialogue

    def _new(self, scenario: Scenario, course: list[str]) -> DialogueSet | None:
        kept = self._kept.setdefault((scenario.id, " ".join(course)), [])
        for _ in range(TRIES):
            dialogue = self.walk(scenario, course)
            texts = frozenset(turn.own_text for turn in dialogue.turns)
            if all(len(texts & other) <= ALIKE * len(texts) for other in kept):
                kept.append(texts)
                return dialogue
            self.near += 1
        return None

    def walk(self, scenario: Scenario, course: list[str]) -> DialogueSet:
        """One dialogue along `course`."""
        turns: list[PersonaTurn] = []
        before = ""
        for name, need in zip(course, scenario.needs_of(course), strict=True):
            persona = self.rng.choice(self.by_need[need])
            for number, beat in enumerate(scenario.phases[name].beats):
                turns.append(PersonaTurn("client", self.rng.choice(beat.client), need=need))
                shift = number == 0 and before not in ("", need)
                bridge = self.rng.choice(self.bridges[before, need]) if shift else ""
                text = f"{bridge} {self.rng.choice(beat.therapist)}".strip()
                turns.append(PersonaTurn("therapist", text, persona, bridge))
            before = need
        identifier = content_hash([scenario.id, course, [turn.text for turn in turns]])[:16]
        return DialogueSet(identifier, scenario.id, scenario.client, tuple(turns), PROVIDER, {"course": course})
