"""The seam for text generation by a language model: what every provider gives and takes.

    sdks.py      OpenAI, Anthropic, Ollama and any OpenAI-compatible address, through their official SDKs
    metered.py   what makes them safe to use: places, retries, budget, account, cache
    cache.py     answers on disk, so that none is paid twice
    opening.py   from the settings to a provider

Without a network there are no models here: what can be written offline is written by the stage that wants it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """`role`: system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Request:
    """One completion that is wanted. `key` names it for the cache and for resuming: the same key and messages are never paid twice.

    `made_up`: every word was written for Attunement or by the provider itself, so that names in it are nobody's.
    """

    messages: Sequence[Message]
    key: str = ""
    max_tokens: int = 1024
    temperature: float = 0.8
    seed: int = 0
    made_up: bool = False


@dataclass(frozen=True)
class Completion:
    """The text with what it cost. `cost_usd` is 0 for local engines.

    `finish` is `stop`, `length` (cut at the most tokens), `refused`, or the provider's own word.
    """

    text: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    finish: str = "stop"
    cached: bool = field(default=False, compare=False)


class Provider(ABC):
    """Text generation behind one method. `name` goes into provenance (`offline-grammar`, `openai:gpt-...`)."""

    name: str

    def has(self, request: Request) -> bool:
        """Whether the answer to `request` was had before, and so costs nothing."""
        return False

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Raises `ServiceError` when retries are used up, the budget is spent or the answer cannot be used."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Gives back connections; a closed provider answers no more."""
