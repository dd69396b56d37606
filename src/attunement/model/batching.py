"""Many conversations through the model in one pass: a key-value cache with a row for each, and attention that reads it.

A pass takes a row of tokens `[1, T]`: first the next token of every conversation that is being answered, then pieces of the prompts
that are being read. Linear layers see one matrix; attention is computed over the cache, for all next tokens at once and for each
piece by itself. What a conversation gets does not depend on who else is in the pass, except for the rounding of larger matrices.

Shapes: R rows, D of them with a next token, W positions, H heads, h key-value heads, d of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from attunement.errors import ModelError

NAME = "attunement_batched"


@dataclass(frozen=True)
class Chunk:
    """A piece of a prompt: `ids` stand in `row` from position `start` on."""

    row: int
    start: int
    ids: Sequence[int]


class PaddedCache:
    """Keys and values `[R, h, W, d]` by layer. Grows as asked and keeps what it held; a row is as long as its owner says."""

    def __init__(self) -> None:
        self.rows, self.width = 0, 0
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def make_room(self, rows: int, width: int, lengths: Sequence[int]) -> None:
        """Room for `rows` of `width` positions; of row r the first `lengths[r]` are kept. Layer by layer, so that memory holds one twice."""
        if rows <= self.rows and width <= self.width:
            return
        self.rows, self.width = rows, width
        for layer, pair in self._held.items():
            self._held[layer] = self._grown(pair[0], lengths), self._grown(pair[1], lengths)

    def _grown(self, old: Tensor, lengths: Sequence[int]) -> Tensor:
        new = self._empty(old)
        many, used = min(len(lengths), len(old)), max(lengths, default=0)
        new[:many, :, :used] = old[:many, :, :used]
        return new

    def _empty(self, like: Tensor) -> Tensor:
        # zeros: what is masked is multiplied by zero, and garbage that is not a number would stay one
        return torch.zeros(self.rows, like.shape[1], self.width, like.shape[-1], dtype=like.dtype, device=like.device)

    def of(self, layer: int, key: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's keys and values; made at its first pass, like `key` `[1, h, T, d]`."""
        if layer not in self._held:
            self._held[layer] = self._empty(key), self._empty(key)
        return self._held[layer]

    def move(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of a row, to another."""
        for pair in self._held.values():
            for part in pair:
                part[target, :, :length] = part[source, :, :length]

    def clear(self) -> None:
        """Gives all memory back."""
        self.rows, self.width = 0, 0
        self._held.clear()

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for pair in self._held.values() for part in pair)


@dataclass
class Pass:
    """What attention must know of a pass: `places` `[D]` of the next tokens, whose rows are 0 to D-1, and the prompts' pieces."""

    cache: PaddedCache
    places: Tensor
    longest: int
    chunks: Sequence[Chunk]
    _masks: dict[int, Tensor] = field(default_factory=dict)

    def sees(self, window: int | None) -> Tensor:
        """`[D, 1, 1, longest]`: which positions each next token sees; the same for all layers with that window."""
        key = window or 0
        if key not in self._masks:
            at, own = torch.arange(self.longest, device=self.places.device), self.places[:, None]
            seen = at <= own
            self._masks[key] = (seen & (at > own - window) if window else seen)[:, None, None]
        return self._masks[key]


class BatchedModel:
    """A `MoEModel` with the cache of the conversations that it answers. For one thread, which nobody else's use of the model may meet."""

    def __init__(self, model: Any) -> None:
        self.model, self.cache = model, PaddedCache()

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Inside the block `step` may be called; adapters of a sparse base are merged."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(self.model.merged())
            try:
                yield
            finally:
                self.cache.clear()

    def step(self, tokens: Sequence[int], places: Sequence[int], chunks: Sequence[Chunk] = ()) -> Tensor:
        """Logits `[D + chunks, vocabulary]` (float32) after each row's next token and after each chunk.

        `tokens[r]` comes to position `places[r]` of row r. The cache must have room.
        """
        device = self.model.device
        ids, at, keep = list(tokens), list(places), list(range(len(tokens)))
        for chunk in chunks:
            ids += chunk.ids
            at += range(chunk.start, chunk.start + len(chunk.ids))
            keep.append(len(ids) - 1)
        row = torch.tensor([ids, at], device=device)
        own = Pass(self.cache, row[1, : len(tokens)], max(places, default=-1) + 1, chunks)
        base = self.model.base
        with _attending(base.config):
            logits: Tensor = base(
                input_ids=row[:1],
                position_ids=row[1:],
                batched=own,
                use_cache=False,
                logits_to_keep=torch.tensor(keep, device=device),
            ).logits
        return logits[0].float()


def batched_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    batched: Pass,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """`query` `[1, H, T, d]`, `key` and `value` `[1, h, T, d]` of a row as `BatchedModel.step` makes it; gives `[1, T, H, d]`."""
    if softcap is not None or s_aux is not None:
        raise ModelError(f"{type(module).__name__} caps its attention or has sinks: the built-in engine cannot serve it")
    keys, values = batched.cache.of(module.layer_idx, key)
    out = torch.empty(query.shape[2], query.shape[1], query.shape[3], dtype=query.dtype, device=query.device)
    many = len(batched.places)
    if many:
        # The H / h heads that share keys stand where a sequence's queries would: no key is copied for them.
        rows = torch.arange(many, device=query.device)
        keys[rows, :, batched.places] = key[0, :, :many].transpose(0, 1)
        values[rows, :, batched.places] = value[0, :, :many].transpose(0, 1)
        grouped = query[0, :, :many].transpose(0, 1).reshape(many, keys.shape[1], -1, query.shape[3])
        seen = (keys[:many, :, : batched.longest], values[:many, :, : batched.longest])
        found = functional.scaled_dot_product_attention(grouped, *seen, attn_mask=batched.sees(sliding_window), scale=scaling)
        out[:many] = found.reshape(many, *out.shape[1:])
    first = many
    for chunk in batched.chunks:
        last, end = first + len(chunk.ids), chunk.start + len(chunk.ids)
        keys[chunk.row, :, chunk.start : end] = key[0, :, first:last]
        values[chunk.row, :, chunk.start : end] = value[0, :, first:last]
        mask = _causal(chunk.start, end, sliding_window, query.device)
        seen = (keys[None, chunk.row, :, :end], values[None, chunk.row, :, :end])
        found = functional.scaled_dot_product_attention(
            query[:, :, first:last], *seen, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
        out[first:last] = found[0].transpose(0, 1)
        first = last
    return out.unsqueeze(0), None


def _causal(start: int, end: int, window: int | None, device: torch.device) -> Tensor | None:
    """`[end - start, end]`: what each position of a piece sees; None where that is every one before it."""
    if not start and (not window or end <= window):
        return None
    at = torch.arange(end, device=device)
    back = at[start:, None] - at
    return (back >= 0) & (back < window) if window else back >= 0


@contextmanager
def _attending(config: Any) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, batched_attention)
