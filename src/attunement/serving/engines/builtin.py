"""The built-in engine: our own checkpoints in this process, with continuous batching.

One thread runs the model. Each of its steps gives every running reply its next token and reads a piece of the newcomers' prompts;
replies join and leave between steps. A newcomer waits until a row of the cache is free and its tokens fit into `max_tokens`, which
bounds the memory: rows times the longest row. Callers turn tokens into text in their own threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attunement.config import ServingSettings
from attunement.errors import ModelError, ServiceError
from attunement.model.chat import encode_prompt
from attunement.records import DeployedModel, GenerationConfig
from attunement.serving.engines import (
    BUSY,
    CLOSED,
    LENGTH,
    STOP,
    BusyError,
    Engine,
    EngineError,
    Inbox,
    Messages,
    Piece,
    deadline_of,
    kept_in_time,
)

CHUNK = 256
"""Most tokens of prompts in one step: a newcomer may not hold up the others for longer than this takes."""
ROUNDED = 64
"""Rows are so many positions long, or a multiple: the cache is seldom made anew."""
SMALL = 100_000_000
"""Parameters below which one thread computes: two that wait for each other at every small product are slower where others have work."""
_LOG = logging.getLogger(__name__)


@dataclass
class _Reply:
    """One reply in the making. `room` is the positions that it may need, `length` those that it has in the cache."""

    prompt: list[int]
    most: int
    room: int
    draw: Any
    inbox: Inbox[tuple[int, float, str]]
    length: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def reading(self) -> bool:
        return self.length < len(self.prompt)


class BuiltinEngine(Engine):
    """A `MoEModel`, its tokenizer, and who they are; `settings` bounds rows, memory and waiters (docs/configuration.md).

    The model is the engine's alone while it runs.
    """

    def __init__(self, model: Any, tokenizer: Any, deployed: DeployedModel, settings: ServingSettings) -> None:
        self.deployed, self._model, self._tokenizer, self._settings = deployed, model, tokenizer, settings
        self._waiting: deque[_Reply] = deque()
        self._rows: list[_Reply] = []
        """Reply r has row r of the cache. Only the last may, between two steps, have read but a part of its prompt."""
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @classmethod
    def load(cls, path: Path, settings: ServingSettings) -> BuiltinEngine:
        """Of a run's best checkpoint, or a checkpoint. Raises `ModelError`, `IntegrityError`."""
        from attunement.model.moe_lora import load_moe

        model, tokenizer, info = load_moe(path)
        checkpoint = Path(info["checkpoint"])
        run = checkpoint.parent.parent.name if checkpoint.parent.name == "checkpoints" else ""
        name = "/".join(part for part in (run, checkpoint.name) if part)
        size = sum(p.numel() for p in model.parameters())
        return cls(
            model,
            tokenizer,
            DeployedModel(f"{name}@{info['adapter_sha256'][:8]}", checkpoint, size, str(model.device)),
            settings,
        )

    # --- the seam -------------------------------------------------------------------------------------

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def start(self) -> None:
        """Also draws a first token, so that nobody waits for what is made at first use. Raises `ModelError` for a broken model."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name=f"engine {self.version}", daemon=True)
        self._thread.start()
        first = list(self.stream([{"role": "user", "content": "Hello."}], GenerationConfig(1, temperature=0)))
        if not all(told == told for piece in first for told in piece.logprobs):
            self.close()
            raise ModelError(f"the model {self.version} gives no numbers (NaN): take another checkpoint")

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def stream(
        self, messages: Messages, generation: GenerationConfig, deadline: float | None = None, seed: int | None = None
    ) -> Generator[Piece]:
        reply = self._prepared(messages, generation, deadline_of(generation, deadline), seed)
        self._submit(reply)
        try:
            yield from kept_in_time(self._spoken(reply), reply.inbox.deadline)
        finally:
            reply.inbox.given_up = True

    def _spoken(self, reply: _Reply) -> Iterator[Piece]:
        """The tokens as text; those that are half a letter wait for the other half."""
        from tokenizers.decoders import DecodeStream

        words, held = DecodeStream(skip_special_tokens=True), list[float]()
        for token, told, finish in reply.inbox.read():
            held.append(told)
            more = words.step(self._tokenizer._tokenizer, token) or ""
            if more or finish:
                yield Piece(more, tuple(held), finish)
                held.clear()

    # --- before the model's thread ------------------------------------------------------------------

    def _prepared(self, messages: Messages, generation: GenerationConfig, deadline: float | None, seed: int | None) -> _Reply:
        from attunement.serving.engines.sampling import Draw

        longest = min(self._model.config.context_length, self._settings.max_tokens)
        ids = encode_prompt(self._tokenizer, messages, max(16, longest - generation.max_new_tokens))
        room = -(-(len(ids) + generation.max_new_tokens) // ROUNDED) * ROUNDED
        if room > self._settings.max_tokens:
            raise ServiceError(
                f"a reply may need {room} tokens in memory: raise serving.max_tokens or lower serving.max_new_tokens"
            )
        vocabulary = self._model.base.get_output_embeddings().weight.shape[0]
        draw = Draw.of(generation, seed, ids, vocabulary, self._model.device)
        return _Reply(ids, generation.max_new_tokens, room, draw, Inbox(deadline))

    def _submit(self, reply: _Reply) -> None:
        with self._changed:
            if self._closing or self._thread is None:
                raise EngineError(CLOSED)
            there = sum(not r.inbox.given_up for r in (*self._rows, *self._waiting))
            if there >= self._settings.max_batch + self._settings.max_waiting:
                _LOG.warning("busy: a request was refused, %d are there already", there)
                raise BusyError(BUSY)
            self._waiting.append(reply)
            self._changed.notify()

    # --- the model's thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        from attunement.model.batching import BatchedModel
        from attunement.serving.engines.sampling import Sampler

        top_k = getattr(getattr(self._model.base, "generation_config", None), "top_k", None)
        sampler, batched = Sampler(50 if top_k is None else top_k), BatchedModel(self._model)
        with _threads(self._settings.threads or (1 if self._small() else 0)), batched.ready():
            while self._awaited(batched):
                try:
                    self._step(batched, sampler)
                except Exception as error:  # whatever it is: those who wait must be told, and the next find a working engine
                    _LOG.exception("a step of the engine failed")
                    self._fail(f"the model failed ({type(error).__name__}); the service's log says where")
                    batched.cache.clear()
        self._fail(CLOSED)

    def _small(self) -> bool:
        return self._model.device.type == "cpu" and self.deployed.parameters < SMALL

    def _awaited(self, batched: Any) -> bool:
        """Waits for work; False when it is time to end. While there is none, nothing that was said stays in the cache."""
        with self._changed:
            while not (self._closing or self._waiting or self._rows):
                batched.cache.clear()
                self._changed.wait()
            return not self._closing

    def _step(self, batched: Any, sampler: Any) -> None:
        self._drop_finished(batched)
        running = [reply for reply in self._rows if not reply.reading]
        chunks = self._next_chunks(batched)
        if not running and not chunks:
            return
        logits = batched.step([reply.tokens[-1] for reply in running], [reply.length for reply in running], chunks)
        newcomers = self._rows[len(running) : len(running) + len(chunks)]
        for reply, more in zip((*running, *newcomers), (*(1 for _ in running), *(len(c.ids) for c in chunks)), strict=True):
            reply.length += more
        asking = [reply for reply in (*running, *newcomers) if not reply.reading]  # all, but for the last
        if not asking:
            return
        drawn = zip(asking, *sampler(logits[: len(asking)], [reply.draw for reply in asking]), strict=True)
        for reply, token, told in drawn:
            reply.tokens.append(token)
            reply.draw.note(token)
            ends = STOP if token == self._tokenizer.eos_token_id else LENGTH if len(reply.tokens) >= reply.most else ""
            reply.inbox.put((token, told, ends))
            reply.inbox.given_up |= bool(ends)

    def _next_chunks(self, batched: Any) -> list[Any]:
        """Pieces of prompts for this step, those of the oldest first; newcomers get rows as long as there are some."""
        from attunement.model.batching import Chunk

        chunks, left = list[Any](), CHUNK
        row = sum(not reply.reading for reply in self._rows)
        while left > 0 and (row < len(self._rows) or self._admit(batched)):
            reply = self._rows[row]
            piece = reply.prompt[reply.length : reply.length + left]
            chunks.append(Chunk(row, reply.length, piece))
            left -= len(piece)
            row += 1
        return chunks

    def _admit(self, batched: Any) -> bool:
        """A row for the one who has waited longest, if there is one whose tokens fit."""
        with self._changed:
            while self._waiting and self._waiting[0].inbox.given_up:
                self._waiting.popleft()
            if not self._waiting or len(self._rows) >= self._settings.max_batch:
                return False
            rows, width = len(self._rows) + 1, max(reply.room for reply in (*self._rows, self._waiting[0]))
            if rows * width > self._settings.max_tokens:
                return False
            self._rows.append(self._waiting.popleft())
        if rows > batched.cache.rows or width > batched.cache.width:
            rows = max(rows, min(2 * rows, self._settings.max_batch, self._settings.max_tokens // width))
            batched.cache.make_room(rows, width, [reply.length for reply in self._rows])
        return True

    def _drop_finished(self, batched: Any) -> None:
        """Takes out who is done, given up or over time; the last that has a next token moves into the gap, then who still reads."""
        now = time.monotonic()
        for row in range(len(self._rows) - 1, -1, -1):
            inbox = self._rows[row].inbox
            if not inbox.given_up and (inbox.deadline is None or now < inbox.deadline):
                continue
            inbox.given_up = True
            last = sum(not reply.reading for reply in self._rows) - 1
            moves = [] if self._rows[row].reading else [(last, row), (len(self._rows) - 1, last)]
            with self._changed:
                for source, target in moves:
                    if source != target:
                        batched.cache.move(source, target, self._rows[source].length)
                        self._rows[target] = self._rows[source]
                self._rows.pop()

    def _fail(self, told: str) -> None:
        with self._changed:
            lost = [*self._rows, *self._waiting]
            self._rows.clear()
            self._waiting.clear()
        for reply in lost:
            reply.inbox.put(EngineError(told))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Inside the block PyTorch computes with `count` threads, started from this one; 0 leaves it as it is."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
