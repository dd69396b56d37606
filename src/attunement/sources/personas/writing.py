"""Dialogues written by a language model: one request a turn, the client and the therapist by turns, each told who it is.

The course of a scenario says what the client brings; when the therapist changes persona is decided by the `ContextSwitcher` from the
client's words, and the bridge is one of the written ones. The same request is never paid twice: its key and its messages are the
provider's to remember.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from attunement.errors import DataError
from attunement.providers import Message, Provider, Request
from attunement.quality.features import looks_english
from attunement.sources.personas.dialogues import DialogueSet, PersonaTurn
from attunement.sources.personas.files import ClientPersona, Persona
from attunement.sources.personas.scenarios import Scenario
from attunement.sources.personas.switching import ContextSwitcher, NeedDetector
from attunement.storage.files import content_hash

TURN_TOKENS = 160
_LABEL = re.compile(r"^\s*(?:\[?(?:client|therapist|counsell?or|patient|assistant|user)\]?|\*\*\w+\*\*)\s*:\s*", re.I)
_BRINGS = {
    "listening": "You are full of what happened and of how it feels. You want to be heard; you are not looking for advice.",
    "thought_work": "You are steadier now. You say a harsh belief about yourself or a dark prediction as if it were a fact, and you are "
    "willing to look at it; when asked, you answer concretely.",
    "safety": "You let out that you are in danger: you are thinking of ending your life, or somebody threatens yours. Plain words, no "
    "detail of any method. When asked, you answer honestly, and in the end you accept help.",
}


class UnusableTurn(DataError):
    """A model's turn that cannot stand in a dialogue; the message is the reason code."""


class PersonaWriter:
    """Writes dialogues with `provider`. `bridges` as in `PersonaGrammar`."""

    def __init__(
        self,
        provider: Provider,
        detector: NeedDetector,
        personas: Mapping[str, Persona],
        bridges: Mapping[tuple[str, str], Sequence[str]],
        *,
        made_up: bool = False,
    ) -> None:
        """`made_up`: clients, scenarios and personas are all our own, and so nobody (`attunement.providers.guarded`)."""
        self.provider, self.detector, self.bridges, self.made_up = provider, detector, bridges, made_up
        self.by_need = {persona.serves: persona for persona in personas.values()}

    async def write(self, scenario: Scenario, course: list[str], client: ClientPersona, seed: int) -> DialogueSet:
        """One dialogue. Raises `ServiceError` as the provider does, `UnusableTurn` for a turn that cannot be used."""
        rng, turns = random.Random(seed), list[PersonaTurn]()
        switcher, before = ContextSwitcher(), ""
        key = f"personas:{scenario.id}:{'-'.join(course)}:{seed}"
        for name, brought in zip(course, scenario.needs_of(course), strict=True):
            for _ in scenario.phases[name].beats:
                said = await self._turn(_client_brief(client, scenario, brought), turns, "client", f"{key}:{len(turns)}", seed)
                (reading,) = self.detector.read([said], [turns[-1].text if turns else ""])
                turns.append(PersonaTurn("client", said, need=brought))
                need = switcher.observe(reading)
                if need not in self.by_need:
                    raise UnusableTurn(f"no_persona_for_{need}")
                persona = self.by_need[need]
                bridge = rng.choice(self.bridges[before, need]) if before not in ("", need) else ""
                answer = await self._turn(_therapist_brief(persona), turns, "therapist", f"{key}:{len(turns)}", seed)
                turns.append(PersonaTurn("therapist", f"{bridge} {answer}".strip(), persona.id, bridge))
                before = need
        identifier = content_hash([scenario.id, course, [turn.text for turn in turns]])[:16]
        return DialogueSet(identifier, scenario.id, scenario.client, tuple(turns), self.provider.name, {"course": course})

    async def _turn(self, brief: str, turns: Sequence[PersonaTurn], role: str, key: str, seed: int) -> str:
        told = [Message("assistant" if turn.role == role else "user", turn.text) for turn in turns]
        opening = [] if turns else [Message("user", "Begin.")]
        messages = (Message("system", brief), *opening, *told)
        request = Request(messages, key=key, max_tokens=TURN_TOKENS, seed=seed, made_up=self.made_up)
        text = _LABEL.sub("", (await self.provider.complete(request)).text.strip()).strip().strip('"').strip()
        if not text:
            raise UnusableTurn("empty_turn")
        if not looks_english(text):
            raise UnusableTurn("not_english")
        return text


def _client_brief(client: ClientPersona, scenario: Scenario, need: str) -> str:
    return (
        f"You play {client.name}, {client.age}, {client.gender}, in a talk with a therapist, for training material. "
        f"Background: {client.culture}; {client.history}. Setting: {client.setting}. Attachment: {client.attachment}. "
        f"You speak like this: {client.speech}. What it is about: {scenario.title}. {_BRINGS[need]} "
        "Say only your next turn, one to three sentences, in the first person, without stage directions and without your name before it."
    )


def _therapist_brief(persona: Persona) -> str:
    shares = ", ".join(f"{name} {share.target:.0%}" for name, share in persona.techniques.items() if share.target >= 0.05)
    examples = "\n".join(f"Client: {e.client}\nYou: {e.therapist}" for e in persona.examples)
    return (
        f"You are a therapist, at this moment as the {persona.name.lower()}. You want: {'; '.join(persona.goals)}. Style: {persona.style} "
        f"About what your turns do, over the talk: {shares} ('input' is information and advice). "
        f"You never do this: {'; '.join(ban.move for ban in persona.forbidden)}. "
        f"Your turns have {persona.turn_words.low:g} to {persona.turn_words.high:g} words. You never invent phone numbers.\n{examples}\n"
        "Say only your next turn."
    )
