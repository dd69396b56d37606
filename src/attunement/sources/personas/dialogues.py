"""Dialogues in which the therapist changes persona: their turns, and the stretches of one persona."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any


@dataclass(frozen=True)
class PersonaTurn:
    """One turn. Of a therapist's: `persona` is whose it is, `bridge` the words at its beginning that name a shift.

    Of a client's: `need` is what whoever wrote it says that it needs ('' where nobody said).
    """

    role: str
    text: str
    persona: str = ""
    bridge: str = ""
    need: str = ""

    @property
    def own_text(self) -> str:
        """The text without the bridge."""
        return self.text.removeprefix(self.bridge).strip()


@dataclass(frozen=True)
class Segment:
    """What one persona said in a row: `places` are the turns' places in the dialogue."""

    persona: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class DialogueSet:
    """One dialogue of a client with a therapist in several personas. `provider` says who wrote it (`offline-grammar`, ...)."""

    dialogue_id: str
    scenario: str
    client: str
    turns: Sequence[PersonaTurn]
    provider: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def segments(self) -> list[Segment]:
        """The stretches of one persona, in order."""
        spoken = [(i, turn.persona) for i, turn in enumerate(self.turns) if turn.role == "therapist"]
        return [
            Segment(persona, tuple(i for i, _ in group))
            for persona, group in ((k, list(g)) for k, g in groupby(spoken, lambda s: s[1]))
        ]

    def before(self, place: int) -> str:
        """What was said before the turn at `place`; '' for the first."""
        return self.turns[place - 1].text if place else ""
