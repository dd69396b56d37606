"""What generating edge cases gives: conversations, and for each scenario without one the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from attunement.quality.wording import likeness, shingles
from attunement.records import Conversation, EdgeCasePrompt
from attunement.sources.edge_cases.grammar import Step
from attunement.sources.edge_cases.talking import Talk

NEAR_DUPLICATE, UNAVAILABLE = "near_duplicate", "unavailable"


@dataclass(frozen=True)
class Rejection:
    """A scenario without a conversation, and why."""

    prompt_id: str
    category: str
    reason: str


@dataclass(frozen=True)
class Made:
    """A conversation before it is reviewed, with what it was made from: a model's answer or the steps of a walk."""

    prompt: EdgeCasePrompt
    talk: Talk
    model: str
    cost_usd: float = 0.0
    steps: tuple[Step, ...] = ()


@dataclass
class Outcome:
    """`stopped` is what ended it early: an interruption, a spent budget, a provider that is down.

    `unusable` counts a model's answers that could not be used, by reason; `not_done` the scenarios that the next run goes on with.
    """

    conversations: list[Conversation] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    unusable: Counter[str] = field(default_factory=Counter)
    not_done: int = 0
    stopped: BaseException | None = None

    def reject(self, prompt: EdgeCasePrompt, reason: str) -> None:
        self.rejected.append(Rejection(prompt.prompt_id, prompt.category, reason))


class Distinct:
    """Knows what was said in each category, and refuses what is nearly the same: Jaccard of word 3-grams from `limit` on."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._said: dict[str, list[frozenset[str]]] = {}

    def nearest(self, category: str, talk: Talk) -> float:
        """How like the most similar earlier conversation of the category is, 0-1."""
        grams = shingles(_text(talk))
        return max((likeness(grams, other) for other in self._said.get(category, ())), default=0.0)

    def add(self, category: str, talk: Talk) -> bool:
        """Whether it is new; then it is known from now on."""
        if self.nearest(category, talk) >= self.limit:
            return False
        self._said.setdefault(category, []).append(shingles(_text(talk)))
        return True


def _text(talk: Talk) -> str:
    return "\n".join(text for _, text in talk)
