"""What writes the replies: one small interface, three engines behind it.

`builtin` runs our own checkpoints in this process; `vllm` has vLLM serve an exported one on this machine; `openai` asks a server
that speaks OpenAI's protocol. All take many callers at once, and none knows of the gate.
"""

from __future__ import annotations

import logging
import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from attunement.errors import ServiceError, TemporaryError
from attunement.model.chat import SENTENCE_END
from attunement.records import DeployedModel, GenerationConfig

T = TypeVar("T")
Messages = Sequence[Mapping[str, str]]
LEAST_SHARE = 1 / 3
"""Of a request's deadline, what must be left when its first word comes: with less the reply would end after a few words.

Of the default 1.8 s that is 0.6 s, about 50 tokens of the packaged base on two cores; 0.1 s gave 7.
"""
STOP, LENGTH, DEADLINE = "stop", "length", "deadline"
"""Why a reply ended: the model ended it; `max_new_tokens`; the time was over."""
SENTENCE_TOKENS = 12
"""Of a short sentence."""
BUSY = "the service is busy: ask again in a moment, or start more of it"
CLOSED = "the engine was closed: ask again"
_LOG = logging.getLogger(__name__)


class BusyError(ServiceError):
    """The model is not free in time for a reply worth reading: the queue is full or took too much of the deadline."""


class EngineError(TemporaryError):
    """The engine failed, or was closed, while it had a reply in the making."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a reply. `logprobs` are of the tokens that came since the piece before, in nats, as the model gives them before

    penalties and temperature; empty where an engine tells none. The last piece has a `finish`.
    """

    text: str
    logprobs: tuple[float, ...] = ()
    finish: str = ""


class Engine(ABC):
    """One model, ready to answer many callers at once between `start` and `close`."""

    deployed: DeployedModel

    @property
    def version(self) -> str:
        """Names the model and its state; in every answer."""
        return self.deployed.model_version

    def count_tokens(self, text: str) -> int:
        """How many tokens a text is to the model; 0 where that is not known here."""
        return 0

    @abstractmethod
    def start(self) -> None:
        """Makes the model ready to answer. Raises `UserError` where it cannot be."""

    @abstractmethod
    def close(self) -> None:
        """Ends what `start` began; replies in the making fail with `EngineError`. A second call does nothing."""

    @abstractmethod
    def stream(
        self, messages: Messages, generation: GenerationConfig, deadline: float | None = None, seed: int | None = None
    ) -> Generator[Piece]:
        """The reply to chat messages that end with the user's, in pieces; to close the iterator is to give the reply up.

        `deadline` is a time of `time.monotonic`; without one `generation.deadline_seconds` counts from now on. When it is over
        the reply ends where it is, or a little before at a sentence's end. The same `seed` draws the same words.

        Raises `BusyError`, and `EngineError` where the model fails.
        """


def kept_in_time(pieces: Iterator[Piece], deadline: float | None) -> Generator[Piece]:
    """The pieces up to the deadline, and then one that says so.

    A reply is not gone on with after a sentence's end when the next sentence would be cut, and so thrown away.
    """
    text, tokens, began = "", 0, time.monotonic()
    for piece in pieces:
        yield piece
        if piece.finish:
            return
        text, tokens = text[-8:] + piece.text, tokens + max(1, len(piece.logprobs))
        ahead = SENTENCE_TOKENS * (time.monotonic() - began) / tokens
        if deadline is not None and time.monotonic() + ahead > deadline and whole_sentences(text):
            break
    yield Piece("", (), DEADLINE)


def whole_sentences(text: str) -> bool:
    """Whether `text` ends where a sentence does."""
    return any(found.end() == len(text) for found in SENTENCE_END.finditer(text))


def deadline_of(generation: GenerationConfig, deadline: float | None) -> float | None:
    """When a reply must end, as `time.monotonic` tells it; None for never."""
    if deadline is None and generation.deadline_seconds:
        return time.monotonic() + generation.deadline_seconds
    return deadline


class Inbox(Generic[T]):
    """What an engine's own thread has for one reader, who waits for it no longer than the deadline allows."""

    def __init__(self, deadline: float | None) -> None:
        now = time.monotonic()
        self.deadline = deadline
        self.latest_start = None if deadline is None else deadline - (deadline - now) * LEAST_SHARE
        self.given_up = False
        """The reader is gone: what is put in is read by nobody."""
        self._items: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()

    def put(self, item: T | BaseException | None) -> None:
        """An item, an error that the reader gets raised, or None at the end."""
        self._items.put(item)

    def read(self) -> Iterator[T]:
        """The items until the end or the deadline. Raises `BusyError` where the first does not come in time."""
        until, waiting = self.latest_start, True
        while True:
            try:
                found = self._items.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                if waiting:
                    _LOG.warning("busy: a request was refused, its first word would have come too late")
                    raise BusyError(BUSY) from None
                return
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            until, waiting = self.deadline, False
            yield found
