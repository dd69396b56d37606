"""Attention over several sequences that lie one behind the other in one row, without a mask and without padding.

A row `[1, T]` holds whole sequences; `cu_seqlens` says where each begins. On CUDA in 16 bits PyTorch's variable-length
kernel (FlashAttention) takes them as they are; elsewhere each sequence goes through scaled dot-product attention by itself.
Either way the cost is that of the sequences, not of the row, and no token sees another sequence's.

Registered with Transformers under `NAME`: a model uses it while its configuration names it (`packed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

NAME = "attunement_packed"
HALF = (torch.float16, torch.bfloat16)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    lengths: Sequence[int] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """`query` `[1, H, T, d]`, `key` and `value` `[1, h, T, d]`, `lengths` of the sequences in the row; gives `[1, T, H, d]`."""
    assert attention_mask is None and sum(lengths) == query.shape[2], "a packed row has no mask, and its lengths add up"
    if query.is_cuda and query.dtype in HALF and not dropout:
        return _varlen(query, key, value, lengths, scaling, sliding_window), None
    out = []
    for q, k, v in zip(*(torch.split(part, list(lengths), dim=2) for part in (query, key, value)), strict=True):
        mask = _window(q.shape[2], sliding_window, q.device)
        out.append(
            functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(out, dim=2).transpose(1, 2).contiguous(), None


def _varlen(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], scale: float | None, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    starts = torch.tensor([0, *lengths], device=q.device).cumsum(0).to(torch.int32)
    q3, k3, v3 = (part[0].transpose(0, 1).contiguous() for part in (q, k, v))
    longest = max(lengths)
    sight = (window - 1, 0) if window else (-1, 0)
    grouped = q.shape[1] != k.shape[1]
    found = varlen_attn(q3, k3, v3, starts, starts, longest, longest, scale=scale, window_size=sight, enable_gqa=grouped)
    assert isinstance(found, Tensor)
    return found.unsqueeze(0)


def _window(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """The mask of a sliding window, where a sequence is longer than it."""
    if not window or length <= window:
        return None
    place = torch.arange(length, device=device)
    back = place[:, None] - place
    return (back >= 0) & (back < window)


@contextmanager
def packed(config: Any) -> Iterator[None]:
    """Inside the block, models of this configuration attend by `packed_attention`."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, packed_attention)
