"""The experts' arithmetic between the base's projections, with a backward pass that recomputes what it needs.

On a CPU each expert's tokens go through by themselves (`segments`), but for the few of a step of generation (`mix_few`). Here, for a
GPU, there is no loop over experts and nothing waits for the routing.

Shapes: N tokens, f feed-forward, E experts, r rank, K experts per token, Z = E*r.

Each token's low-rank rows are zero but for its expert's, so one dense matmul over the stacked `[Z, f]`
factors serves all of them. Saved for the backward pass are the base's two projections and what is of rank size; hidden
states are computed again. Tokens go through in blocks, so that what is needed for a moment stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attunement.model.segments import Activation, SegmentMix

BLOCK_ELEMENTS = 1 << 27
"""Elements of `[block, f]`."""
FEW_TOKENS = 64
"""Up to so many, without a gradient, a CPU spends its time on calls and not on numbers: `mix_few` has the fewest."""


def mix_experts(
    gate: Tensor,
    up: Tensor,
    low: Tensor,
    weights: Tensor,
    chosen: Tensor,
    factors: tuple[Tensor, Tensor, Tensor],
    experts: int,
    activation: Activation,
) -> tuple[Tensor, Tensor]:
    """The weighted hidden states `[N, f]` of each token's experts, and their down factors' rank-space input `[N, Z]`.

    `gate` and `up` `[N, f]` are the base's projections, `low` `[N, 2, Z]` the tokens in the rank space of all experts' gate
    and up factors, `weights` and `chosen` `[N, K]` the routing (weights add up to 1), `factors` the stacked gate and up B and
    down A, `[Z, f]` each. Expert e's hidden state is `activation(gate + low_e B_e) * (up + low_e B_e)`.
    """
    if len(gate) <= FEW_TOKENS and gate.device.type == "cpu" and not torch.is_grad_enabled():
        return mix_few(gate, up, low, weights, chosen, factors, experts, activation)
    mix = SegmentMix if gate.device.type == "cpu" else MaskedMix
    return mix.apply(gate, up, low, weights, chosen, *factors, experts, activation)  # type: ignore[no-any-return, no-untyped-call]


def mix_few(
    gate: Tensor,
    up: Tensor,
    low: Tensor,
    weights: Tensor,
    chosen: Tensor,
    factors: tuple[Tensor, Tensor, Tensor],
    experts: int,
    activation: Activation,
) -> tuple[Tensor, Tensor]:
    """`mix_experts` for a step of generation on a CPU: a token's K experts are K rows of one matrix."""
    gate_b, up_b, down_a = factors
    slots = chosen.shape[1]
    owner = torch.arange(len(down_a), device=gate.device) // (len(down_a) // experts)
    mask = (chosen.T.unsqueeze(2) == owner).to(gate.dtype)  # [K, N, Z]
    shares = weights.T.unsqueeze(2)
    rows = (low.transpose(0, 1).unsqueeze(1) * mask).flatten(1, 2)  # [2, K * N, Z]
    parts = activation((rows[0] @ gate_b).view(slots, *gate.shape).add_(gate))
    parts.mul_((rows[1] @ up_b).view_as(parts).add_(up))
    down_low = (parts @ down_a.T).mul_(mask).mul_(shares).sum(0)
    # the first and what the others differ by, as in `MaskedMix`: while experts are equal, the base to the last bit
    mixed = parts[0]
    for slot in range(1, slots):
        mixed = mixed.addcmul(parts[slot] - parts[0], shares[slot])
    return mixed, down_low


class MaskedMix(torch.autograd.Function):
    """`mix_experts` for a GPU."""

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
        mixed, down_low = torch.empty_like(gate), torch.zeros_like(low[:, 0])
        for rows, masks in _blocks(gate, chosen, down_a.shape[0], experts):
            first = None
            for slot, mask in enumerate(masks):
                weight = weights[rows, slot, None]
                gated, raised = _projected(gate, up, low, rows, mask, gate_b, up_b)
                hidden = activation(gated).mul_(raised)
                down_low[rows].addcmul_(functional.linear(hidden, down_a), mask * weight)
                # h_1 + sum of w_s (h_s - h_1), which is the weighted sum as the weights add up to 1: while experts are equal
                # the difference is exactly zero, so the model starts as its base to the last bit.
                if first is None:
                    first = hidden
                    mixed[rows] = hidden
                else:
                    mixed[rows].addcmul_(hidden.sub_(first), weight)
        return mixed, down_low

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_mixed: Tensor, d_down_low: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, low, weights, chosen, gate_b, up_b, down_a = ctx.saved_tensors
        d_gate, d_up, d_low, d_weights = (torch.empty_like(t) for t in (gate, up, low, weights))
        sums = [torch.zeros_like(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in (gate_b, up_b, down_a)]
        for rows, masks in _blocks(gate, chosen, down_a.shape[0], ctx.experts):
            mixed_rows, low_rows = d_mixed[rows], d_down_low[rows]
            first = None
            for slot, mask in enumerate(masks):
                weight = weights[rows, slot, None]
                gated, raised = _projected(gate, up, low, rows, mask, gate_b, up_b)
                with torch.enable_grad():
                    gated.requires_grad_()
                    active = ctx.activation(gated)
                hidden = active.detach() * raised
                wanted = low_rows * mask
                d_part = wanted * weight
                own = (functional.linear(hidden, down_a) * wanted).sum(-1)
                if first is None:
                    # dL/dh_1 holds what the others take away from it.
                    first = hidden
                    share = 1 - weights[rows, 1:].sum(-1, keepdim=True)
                    d_weights[rows, slot] = own
                else:
                    share = weight
                    d_weights[rows, slot] = own + (mixed_rows * (hidden - first)).sum(-1)
                d_hidden = torch.addmm(mixed_rows * share, d_part, down_a)
                sums[2] += d_part.T @ hidden
                d_raised = d_hidden * active.detach()
                (d_gated,) = torch.autograd.grad(active, gated, d_hidden.mul_(raised))
                for place, (d_side, d_base, total, b) in enumerate(
                    ((d_gated, d_gate, sums[0], gate_b), (d_raised, d_up, sums[1], up_b))
                ):
                    total += (low[rows, place] * mask).T @ d_side
                    d_side_low = functional.linear(d_side, b) * mask
                    if slot == 0:
                        d_base[rows], d_low[rows, place] = d_side, d_side_low
                    else:
                        d_base[rows] += d_side
                        d_low[rows, place] += d_side_low
        d_gate_b, d_up_b, d_down_a = (total.to(t.dtype) for total, t in zip(sums, (gate_b, up_b, down_a), strict=True))
        return d_gate, d_up, d_low, d_weights, None, d_gate_b, d_up_b, d_down_a, None, None


def _projected(
    gate: Tensor, up: Tensor, low: Tensor, rows: slice, mask: Tensor, gate_b: Tensor, up_b: Tensor
) -> tuple[Tensor, Tensor]:
    """One slot's gate and up projections `[block, f]`."""
    return torch.addmm(gate[rows], low[rows, 0] * mask, gate_b), torch.addmm(up[rows], low[rows, 1] * mask, up_b)


def _blocks(gate: Tensor, chosen: Tensor, columns: int, experts: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """Slices of tokens, and for each slot the `[block, Z]` mask that is 1 where a column is the token's expert's."""
    tokens, inner = gate.shape
    size = max(16, BLOCK_ELEMENTS // inner)
    owner = torch.arange(columns, device=gate.device) // (columns // experts)
    for start in range(0, tokens, size):
        rows = slice(start, start + size)
        yield rows, [(chosen[rows, slot, None] == owner).to(gate.dtype) for slot in range(chosen.shape[1])]
