"""What a client needs, turn by turn, and when a therapist should change persona.

Two judges say the need: `crisis` whether there is danger, `need` whether to listen or to work on a thought. Rules say when to follow:
sure danger at once, unsure danger when the turn before was not free of it either (heavy words that are safe raise the judge of danger
in one turn of six); otherwise a need must be likely twice in a row, or very likely once, and a persona stays for at least two turns,
so that a single sentence does not throw a talk to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attunement.quality.crisis import LEVELS, assess_by_rules, assess_turns
from attunement.quality.panel import Judges
from attunement.quality.verdicts import Item
from attunement.records import CrisisAssessment

SURE_DANGER = 0.9
"""Score of the judge of danger from which it is believed without a rule beside it: of 144 heavy turns of the written scenarios without
danger 5 % reach it, of their 24 first disclosures 92 % do or are found by a rule."""
SURE, LIKELY = 0.85, 0.6
"""Probability of the other need from which one turn, or two turns in a row, are enough for a switch."""
STAYS = 2
"""Client turns that a persona answers at least, danger aside."""
SAFETY_STAYS, CALM = 3, 2
"""After danger: turns of the safety persona at least, and calm client turns in a row, before it may hand over."""


@dataclass(frozen=True)
class Reading:
    """What was read of one client turn: the level of danger, whether that is sure, and the probability that thought work helps."""

    level: str
    sure: bool
    thought_work: float

    @property
    def danger(self) -> bool:
        """Whether the judge calls it danger, sure or not."""
        return LEVELS.index(self.level) >= LEVELS.index("elevated")

    @property
    def need(self) -> str:
        """The likeliest need, this turn alone."""
        if self.danger and self.sure:
            return "safety"
        return "thought_work" if self.thought_work >= 0.5 else "listening"

    def probability(self, need: str) -> float:
        """Of `need`, which is listening or thought_work, danger aside."""
        return self.thought_work if need == "thought_work" else 1 - self.thought_work


class NeedDetector:
    """Reads clients' turns with the judges `crisis` and `need`."""

    def __init__(self, judges: Judges) -> None:
        self.judges = judges

    def read(self, turns: Sequence[str], before: Sequence[str] | None = None) -> list[Reading]:
        """A reading of each client turn; `before` is the therapist's turn before each ('' for none)."""
        earlier = before if before is not None else [""] * len(turns)
        items = [Item(text, (said,) if said else ()) for text, said in zip(turns, earlier, strict=True)]
        needs = self.judges.judge("need", items)
        danger = assess_turns(self.judges, turns)
        return [
            Reading(d.level, _sure(text, d), n.labels["thought_work"]) for text, d, n in zip(turns, danger, needs, strict=True)
        ]


def _sure(text: str, found: CrisisAssessment) -> bool:
    return found.level == "imminent" or found.score >= SURE_DANGER or bool(assess_by_rules([text]).reasons)


class ContextSwitcher:
    """Follows one conversation: `observe` each client turn in order, and it says which need the answer should serve."""

    def __init__(self) -> None:
        self.need = ""
        self._turns = 0
        self._last: Reading | None = None
        self._calm = 0

    def observe(self, reading: Reading) -> str:
        """The need to serve after this client turn: listening, thought_work or safety."""
        chosen = self._chosen(reading)
        self._calm = 0 if reading.danger else self._calm + 1
        self._turns = self._turns + 1 if chosen == self.need else 1
        self.need, self._last = chosen, reading
        return chosen

    def _chosen(self, reading: Reading) -> str:
        doubt = self._last is not None and self._last.level != "none"
        if reading.danger and (reading.sure or doubt):
            return "safety"
        if not self.need:
            return reading.need
        if self.need == "safety":
            settled = self._turns >= SAFETY_STAYS and self._calm + 1 >= CALM
            return reading.need if settled else "safety"
        other = "listening" if self.need == "thought_work" else "thought_work"
        if self._turns < STAYS or self._last is None:
            return self.need
        now, then = reading.probability(other), self._last.probability(other)
        return other if now >= SURE or (now >= LIKELY and then >= LIKELY) else self.need
