"""The experts' arithmetic on a processor without tensor cores: each expert's tokens by themselves, in blocks that stay in the cache.

The same as `mixing`, which multiplies every token with every expert's factors and masks: there that is free, here it is a third of
the step. Shapes: N tokens, n of a block, f feed-forward, E experts, r rank, K experts per token, Z = E*r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK_ELEMENTS = 1 << 18
"""Elements of `[n, f]`: 1 MiB in float32. Of the half dozen such tensors that a block needs most stay in a core's cache."""

Activation = Callable[[Tensor], Tensor]


class SegmentMix(torch.autograd.Function):
    """`mixing.mix_experts` for a CPU. The weights `[N, K]` must add up to 1 for each token."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        low: Tensor,
        weights: Tensor,
        chosen: Tensor,
        gate_b: Tensor,
        up_b: Tensor,
        down_a: Tensor,
        experts: int,
        activation: Activation,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gate, up, low, weights, chosen, gate_b, up_b, down_a)
        ctx.experts, ctx.activation = experts, activation
        if not (gate_b.any() or up_b.any()):
            # Fresh experts: their hidden states are the base's, computed as it does, so that they are equal to the last bit.
            hidden = activation(gate).mul_(up)
            owned = torch.zeros(len(gate), experts, dtype=gate.dtype).scatter_(1, chosen, weights)
            return hidden, (hidden @ down_a.T).mul_(owned.repeat_interleave(down_a.shape[0] // experts, 1))
        mixed, down_low = torch.empty_like(gate), torch.zeros_like(low[:, 0])
        first, second = _buffers(gate, 2)
        for slot, rows, columns in _blocks(gate, chosen, down_a.shape[0] // experts, experts):
            weight = weights[rows, slot, None]
            gated, raised = _projected(gate, up, low, rows, columns, gate_b, up_b, first, second)
            hidden = activation(gated).mul_(raised)
            down_low[rows, columns] = (hidden @ down_a[columns].T).mul_(weight)
            hidden.mul_(weight)
            mixed.index_copy_(0, rows, hidden) if slot == 0 else mixed.index_add_(0, rows, hidden)
        return mixed, down_low

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_mixed: Tensor, d_down_low: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, low, weights, chosen, gate_b, up_b, down_a = ctx.saved_tensors
        d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
        d_low, d_weights = torch.zeros_like(low), torch.empty_like(weights)
        sums = [torch.zeros_like(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in (gate_b, up_b, down_a)]
        first, second, third, fourth = _buffers(gate, 4)
        for slot, rows, columns in _blocks(gate, chosen, down_a.shape[0] // ctx.experts, ctx.experts):
            many = len(rows)
            weight = weights[rows, slot, None]
            gated, raised = _projected(gate, up, low, rows, columns, gate_b, up_b, first, second)
            with torch.enable_grad():
                gated.requires_grad_()
                active = ctx.activation(gated)
            still = active.detach()
            hidden = torch.mul(still, raised, out=third[:many])
            wanted = d_down_low[rows, columns]
            d_part = wanted * weight
            d_hidden = torch.index_select(d_mixed, 0, rows, out=fourth[:many])
            own = (hidden @ down_a[columns].T).mul_(wanted).sum(-1)
            d_weights[rows, slot] = own + torch.linalg.vecdot(d_hidden, hidden)
            _add_product(sums[2][columns], d_part.T, hidden)
            d_hidden.mul_(weight).addmm_(d_part, down_a[columns])
            d_raised = torch.mul(d_hidden, still, out=third[:many])
            (d_gated,) = torch.autograd.grad(active, gated, d_hidden.mul_(raised))
            for side, d_side, d_base, b in ((0, d_gated, d_gate, gate_b), (1, d_raised, d_up, up_b)):
                _add_product(sums[side][columns], low[rows, side, columns].T, d_side)
                d_low[rows, side, columns] = d_side @ b[columns].T
                d_base.index_copy_(0, rows, d_side) if slot == 0 else d_base.index_add_(0, rows, d_side)
        d_gate_b, d_up_b, d_down_a = (total.to(t.dtype) for total, t in zip(sums, (gate_b, up_b, down_a), strict=True))
        return d_gate, d_up, d_low, d_weights, None, d_gate_b, d_up_b, d_down_a, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds `left @ right`; the total of 16-bit factors is kept in 32."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _buffers(gate: Tensor, many: int) -> list[Tensor]:
    return [torch.empty(_block_size(gate), gate.shape[1], dtype=gate.dtype) for _ in range(many)]


def _block_size(gate: Tensor) -> int:
    return max(16, BLOCK_ELEMENTS // gate.shape[1])


def _projected(
    gate: Tensor,
    up: Tensor,
    low: Tensor,
    rows: Tensor,
    columns: slice,
    gate_b: Tensor,
    up_b: Tensor,
    first: Tensor,
    second: Tensor,
) -> tuple[Tensor, Tensor]:
    """An expert's gate and up projections `[n, f]` of some rows, in two buffers."""
    gated = torch.index_select(gate, 0, rows, out=first[: len(rows)])
    raised = torch.index_select(up, 0, rows, out=second[: len(rows)])
    gated.addmm_(low[rows, 0, columns], gate_b[columns])
    raised.addmm_(low[rows, 1, columns], up_b[columns])
    return gated, raised


def _blocks(gate: Tensor, chosen: Tensor, rank: int, experts: int) -> Iterator[tuple[int, Tensor, slice]]:
    """Slot, rows and the expert's columns of `[., Z]`; the first slot's come before the second's."""
    size = _block_size(gate)
    for slot in range(chosen.shape[1]):
        order = chosen[:, slot].argsort(stable=True)
        counts = torch.bincount(chosen[:, slot], minlength=experts).tolist()
        for expert, rows in enumerate(torch.split(order, counts)):
            for part in torch.split(rows, size) if len(rows) else ():
                yield slot, part, slice(expert * rank, (expert + 1) * rank)
