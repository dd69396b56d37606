"""`DualPersonaTrainer`: dialogues in which a therapist changes persona as the client's need changes, made and validated.

Without a provider they come from the written scenarios (`grammar`), with one from a language model (`writing`). What is
not consistent is kept apart with its reasons.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attunement.errors import DataError, ServiceError
from attunement.providers import Provider
from attunement.quality.panel import Judges
from attunement.sources.personas import files as persona_files
from attunement.sources.personas.consistency import ConsistencyReport, ConsistencyValidator
from attunement.sources.personas.dialogues import DialogueSet
from attunement.sources.personas.files import Persona
from attunement.sources.personas.grammar import PROVIDER, PersonaGrammar, playable
from attunement.sources.personas.scenarios import Scenario
from attunement.sources.personas.switching import NeedDetector
from attunement.sources.personas.writing import PersonaWriter, UnusableTurn

DEFAULT_COUNT = 100


@dataclass
class Made:
    """What the last run gave: reports by dialogue, what was rejected, and why nothing came of some."""

    kept: list[DialogueSet] = field(default_factory=list)
    rejected: list[DialogueSet] = field(default_factory=list)
    reports: dict[str, ConsistencyReport] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    """Reason code to count of dialogues that were never whole: `empty_turn`, `not_english`, `provider_failed`, ..."""
    near_duplicates: int = 0


class DualPersonaTrainer:
    """Makes and validates dialogues of several personas. `own` is a folder with personas, clients, bridges and scenarios of the user's.

    `count` dialogues are wanted of a run; where the written scenarios have fewer that differ, fewer are made. `told` hears of each.
    """

    def __init__(
        self,
        judges: Judges | None = None,
        provider: Provider | None = None,
        *,
        own: Path | None = None,
        count: int = DEFAULT_COUNT,
        seed: int = 17,
        told: Callable[[], object] = lambda: None,
    ) -> None:
        self.judges, self.provider = judges or Judges(), provider
        self.count, self.seed, self.told = count, seed, told
        self.bridges, self.clients = persona_files.bridges(own), persona_files.clients(own)
        self.personas = persona_files.therapists(own)
        self.made_up = False
        """All clients, scenarios and personas are our own, and so nobody: their names may go to a provider (`run` knows)."""
        self.made = Made()
        self._validators: dict[bool, ConsistencyValidator] = {}

    def generate_persona_dialogues(self, personas: Sequence[Persona], scenarios: Sequence[Scenario]) -> list[DialogueSet]:
        """Up to `count` consistent dialogues; `made` holds the rejected ones with their reports.

        Raises `DataError` where no scenario can be played with `personas`, `ServiceError` where the provider gave not one dialogue.
        """
        self.personas = {persona.id: persona for persona in personas}
        self._validators, self.made = {}, Made()
        plays = playable(scenarios, self.personas)
        if self.provider is None:
            self._draw(plays)
        else:
            asyncio.run(self._ask(self.provider, plays))
        return list(self.made.kept)

    def validate_persona_consistency(self, dialogue: DialogueSet) -> ConsistencyReport:
        """Style and techniques of each persona's stretch against its file, and each switch against the client's need.

        In the written scenarios the writer says what the client needs; of any other dialogue the detector does.
        """
        told = dialogue.provider == PROVIDER
        if told not in self._validators:
            self._validators[told] = ConsistencyValidator(self.judges, self.personas, self.bridges, told_needs=told)
        return self._validators[told].validate(dialogue)

    def _draw(self, plays: Sequence[tuple[Scenario, list[str]]]) -> None:
        grammar = PersonaGrammar(self.personas, self.bridges, random.Random(self.seed))
        for dialogue in grammar.draw(plays):
            self._take(dialogue)
            if len(self.made.kept) >= self.count:
                break
        self.made.near_duplicates = grammar.near

    def _take(self, dialogue: DialogueSet) -> None:
        report = self.validate_persona_consistency(dialogue)
        self.made.reports[dialogue.dialogue_id] = report
        if report.consistent:
            self.made.kept.append(dialogue)
            self.told()
        else:
            self.made.rejected.append(dialogue)

    async def _ask(self, provider: Provider, plays: Sequence[tuple[Scenario, list[str]]]) -> None:
        """`count` dialogues over the plays in turn; how many at a time is the provider's to limit."""
        writer = PersonaWriter(provider, NeedDetector(self.judges), self.personas, self.bridges, made_up=self.made_up)
        for scenario, _ in plays:
            if scenario.client not in self.clients:
                raise DataError(f"the scenario '{scenario.id}' is of the client '{scenario.client}', who has no file")
        order = random.Random(self.seed).sample(list(plays), len(plays))
        wanted = [(*order[number % len(order)], self.seed + number) for number in range(self.count)]
        last: ServiceError | None = None
        try:
            for result in await asyncio.gather(*(self._one(writer, *play) for play in wanted)):
                last = result or last
        finally:
            await provider.close()
        if last is not None and not self.made.reports:
            raise last

    async def _one(self, writer: PersonaWriter, scenario: Scenario, course: list[str], seed: int) -> ServiceError | None:
        try:
            dialogue = await writer.write(scenario, course, self.clients[scenario.client], seed)
        except UnusableTurn as error:
            self.made.failures[str(error)] += 1
        except ServiceError as error:
            self.made.failures["provider_failed"] += 1
            return error
        else:
            self._take(dialogue)
        return None


def chosen(personas: dict[str, Persona], names: Iterable[str]) -> list[Persona]:
    """The personas `names`, all of them without any. Raises `DataError` that lists those there are."""
    wanted = list(names)
    for name in wanted:
        if name not in personas:
            raise DataError(f"there is no persona '{name}': there are {', '.join(sorted(personas))}")
    return [personas[name] for name in wanted] if wanted else list(personas.values())
