"""`EdgeCaseGenerator`: the contract's challenging conversations, by language models or from written beats.

    generate_prompts        scenarios over 25 categories (`scenarios`)
    generate_conversations  written (`grammar`) or by a provider (`talking`); near-duplicates rejected; every one reviewed (`safety`)
    create_training_format  the contract's rows: a therapist's statement and the challenging client's response to it

`run` writes a folder of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from attunement.config import Settings, load_settings
from attunement.embedding import Embedder
from attunement.errors import DataError
from attunement.providers import Provider
from attunement.quality.panel import Judges
from attunement.records import Conversation, EdgeCaseExample, EdgeCasePrompt, Origin, Turn
from attunement.sources.edge_cases.asking import Asking
from attunement.sources.edge_cases.categories import load_categories
from attunement.sources.edge_cases.grammar import WRITTEN, Grammar, load_grammar
from attunement.sources.edge_cases.outcome import NEAR_DUPLICATE, Distinct, Made, Outcome
from attunement.sources.edge_cases.safety import Review, review_all
from attunement.sources.edge_cases.scenarios import FACTORS, drawn_scenarios, written_scenarios
from attunement.storage.files import content_hash

PURPOSE, SOURCE, NAME, OFFLINE = "difficult_client", "edge_case_generation", "edge-cases", "offline-grammar"
CANDIDATES, LEAST_EXCHANGES = 48, 5
"""Walks that are drawn for one scenario, of which the one least like all earlier is taken; shorter ones only where there are no others."""
TOGETHER = 64
"""Conversations that are reviewed in one batch."""


class EdgeCaseGenerator:
    """The contract's generator. Without `provider` the conversations are written ones (`offline-grammar`), the same for a seed.

    `categories` is a file of the user's in the form of `categories.toml`, `only` names the categories that are wanted, `written` is the
    folder of written beats. `tick` is called for every conversation that is done with, in either way.
    """

    def __init__(
        self,
        provider: Provider | None = None,
        settings: Settings | None = None,
        *,
        seed: int = 17,
        categories: Path | None = None,
        only: Sequence[str] = (),
        written: Path = WRITTEN,
        judges: Judges | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings or load_settings().settings
        self.provider, self.seed, self._written, self._tick = provider, seed, written, tick
        found, self.grid = load_categories(categories)
        if unknown := [name for name in only if name not in found]:
            raise DataError(f"there is no category '{unknown[0]}': they are {', '.join(found)}")
        self.categories = {name: found[name] for name in (only or found)}
        self.judges = judges or Judges(Embedder(self.settings.embedding), self.settings.home.expanduser())
        self._grammars: dict[str, Grammar] = {}

    @property
    def name(self) -> str:
        """Of who writes: what provenance says."""
        return self.provider.name if self.provider else OFFLINE

    # --- the contract -----------------------------------------------------------------------------

    def generate_prompts(self, scenarios_per_category: int = 20) -> list[EdgeCasePrompt]:
        """The scenarios, category by category. Raises `DataError` when nobody has written a category that is wanted offline."""
        out: list[EdgeCasePrompt] = []
        for name, category in self.categories.items():
            if self.provider is None:
                out += written_scenarios(category, self.grammar(name), scenarios_per_category, self.seed)
            else:
                out += drawn_scenarios(category, self.grid, scenarios_per_category, self.seed)
        return out

    def generate_conversations(self, prompts: Sequence[EdgeCasePrompt], max_conversations: int) -> list[Conversation]:
        """Reviewed conversations for at most `max_conversations` of the prompts, spread over the categories.

        Raises what stopped it early; what a provider was paid for is kept in its cache.
        """
        outcome = self.generate(prompts, max_conversations)
        if outcome.stopped is not None:
            raise outcome.stopped
        return outcome.conversations

    def create_training_format(self, conversations: Sequence[Conversation]) -> list[EdgeCaseExample]:
        """The contract's rows: every statement of a therapist with what the client answers, each once."""
        out: dict[tuple[str, str, str], EdgeCaseExample] = {}
        for conversation in conversations:
            category = self.categories[conversation.metadata["category"]]
            spoken = list(conversation.turns)
            for before, turn in itertools.pairwise(spoken):
                if (before.role, turn.role) == ("therapist", "client"):
                    example = EdgeCaseExample(
                        before.text, turn.text, PURPOSE, category.id, category.difficulty_level, tuple(category.expected_challenges),
                        SOURCE, bool(conversation.metadata["clinical_review_required"]),
                    )  # fmt: skip
                    key = (category.id, before.text, turn.text)
                    earlier = out.get(key)
                    required = example.clinical_review_required or (earlier is not None and earlier.clinical_review_required)
                    out[key] = replace(example, clinical_review_required=required)
        return list(out.values())

    # --- the work -----------------------------------------------------------------------------------

    def generate(self, prompts: Sequence[EdgeCasePrompt], max_conversations: int) -> Outcome:
        """As `generate_conversations`, with what was rejected; an interruption or a failure keeps what is done."""
        outcome, chosen = Outcome(), spread(prompts, max_conversations)
        distinct = Distinct(self.settings.data.near_duplicate_threshold)
        if self.provider is None:
            made = list(self._walk(chosen, distinct, outcome))
        else:
            made = Asking(self.provider, self.settings.providers, distinct, outcome, self._tick).run(chosen)
        place = {prompt.prompt_id: number for number, prompt in enumerate(chosen)}
        made.sort(key=lambda one: place[one.prompt.prompt_id])
        for start in range(0, len(made), TOGETHER):
            outcome.conversations += self._reviewed(made[start : start + TOGETHER])
        return outcome

    def grammar(self, category: str) -> Grammar:
        """The written beats of a category. Raises `DataError` where there are none."""
        if category not in self._grammars:
            path = self._written / f"{category}.json"
            if not path.is_file():
                raise DataError(
                    f"nobody has written the category '{category}' yet ({path.name} is not there): take a provider, or leave it out with --category"
                )
            self._grammars[category] = load_grammar(path)
        return self._grammars[category]

    def _walk(self, prompts: Sequence[EdgeCasePrompt], distinct: Distinct, outcome: Outcome) -> Iterator[Made]:
        """A walk for each prompt, as unlike the earlier ones of its category as can be drawn."""
        for prompt in prompts:
            grammar, person = self.grammar(prompt.category), prompt.scenario["profile"]
            rng = Random(prompt.seed)
            walks = [grammar.walk(person, prompt.scenario["course"], rng) for _ in range(CANDIDATES)]
            walks = [walk for walk in walks if len(walk) >= LEAST_EXCHANGES] or [walk for walk in walks if walk]
            made = [Made(prompt, grammar.spoken(person, walk), OFFLINE, 0.0, tuple(walk)) for walk in walks]
            best = min(made, key=lambda one: distinct.nearest(prompt.category, one.talk), default=None)
            self._tick()
            if best is None or not distinct.add(prompt.category, best.talk):
                outcome.reject(prompt, NEAR_DUPLICATE)
            else:
                yield best

    def _reviewed(self, made: Sequence[Made]) -> list[Conversation]:
        talks = [_turns(one) for one in made]
        reviews = review_all(self.judges, talks, [self.categories[one.prompt.category] for one in made])
        return [self._conversation(one, turns, review) for one, turns, review in zip(made, talks, reviews, strict=True)]

    def _conversation(self, made: Made, turns: Sequence[Turn], review: Review) -> Conversation:
        prompt = made.prompt
        said = [[role, text] for role, text in made.talk]
        asked = prompt.text if self.provider else [step.beat.id for step in made.steps]
        licence, licence_class = licence_of(self.provider)
        origin = Origin(NAME, "conversations.jsonl", "", prompt.prompt_id, content_hash(said), licence, licence_class)
        metadata: dict[str, Any] = {
            "category": prompt.category,
            "difficulty_level": prompt.difficulty_level,
            "expected_challenges": " ".join(prompt.expected_challenges),
            "purpose": PURPOSE,
            "generated_by": self.name,
            "model": made.model,
            "prompt_sha256": content_hash(asked),
            "cost_usd": round(made.cost_usd, 6),
            **{name: prompt.scenario[name] for name in (*FACTORS, "age")},
            "profile": prompt.scenario.get("profile", ""),
            "beats": " ".join(step.beat.id for step in made.steps),
            "crisis_level": review.crisis_level,
            "crisis_kind": review.kind,
            "flags": " ".join(review.flags),
            "clinical_review_required": review.clinical_review_required,
            "review_reasons": " ".join(review.reasons),
        }
        identity = "c-" + content_hash([NAME, self.name, prompt.prompt_id, said])[:16]
        return Conversation(identity, tuple(turns), origin, "edge_case", "edge_case", metadata)


def _turns(made: Made) -> list[Turn]:
    """The turns of `made`; a written beat's slip is marked, so that no model learns to make it."""
    slips = {2 * place + 1 for place, step in enumerate(made.steps) if not step.beat.learn}
    return [Turn(role, text, learn=place not in slips) for place, (role, text) in enumerate(made.talk)]


def spread(prompts: Sequence[EdgeCasePrompt], most: int) -> list[EdgeCasePrompt]:
    """At most `most` of the prompts, in their order, every category about as often as the others."""
    place: dict[str, int] = {}
    rank = []
    for number, prompt in enumerate(prompts):
        place[prompt.category] = place.get(prompt.category, -1) + 1
        rank.append((place[prompt.category], number))
    return [prompts[number] for number in sorted(number for _, number in sorted(rank)[:most])]


def licence_of(provider: Provider | None) -> tuple[str, str]:
    """The licence and its class: the written beats are the project's; what a model wrote is under its provider's terms."""
    if provider is None:
        return "Apache-2.0, written for Attunement", "R"
    return f"generated by {provider.name}: its provider's terms apply", "unknown"
