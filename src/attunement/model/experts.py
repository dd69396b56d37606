"""The layers of a Mixture of LoRA experts: feed-forward experts over shared weights, and plain LoRA for attention.

Shapes: B sequences, T positions, N = B*T tokens, d hidden, f feed-forward, E experts, r rank, K experts per token.

An expert differs from the base feed-forward by low-rank terms only, so the base's gate and up projections are computed once;
the experts' terms are of rank size (`mixing`); and because the down projection is linear, the chosen experts' hidden states
are mixed before it, so it too is computed once: the base costs exactly what the dense model costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from attunement.model.mixing import mix_experts


@dataclass
class Routing:
    """What the layers of one model share while it runs: whether adapters are on, and what is observed."""

    enabled: bool = True
    mask: Tensor | None = None
    """`[B, T]`, 1 where a token counts; None counts all."""
    domains: Tensor | None = None
    """`[B, T]`, the place of each token's domain, -1 for none."""
    num_domains: int = 0
    observe: bool = False
    losses: dict[int, Tensor] = field(default_factory=dict)
    """`[3]` by layer, of the last observed pass: load balancing, z-loss, domains (`ROUTER_LOSSES`)."""
    usage: Tensor | None = None
    """`[domains + 1, layers, E]` tokens that each expert served, while counting is on; the last row is of no domain."""

    def of_tokens(self, count: int) -> tuple[Tensor | None, Tensor | None]:
        """Mask and domains `[N]` of the `count` tokens that pass a layer; None where they are of others (in generation)."""
        first, second = (None if t is None or t.numel() != count else t.reshape(-1) for t in (self.mask, self.domains))
        return first, second

    def count(self, layer: int, chosen: Tensor) -> None:
        """While counting is on, notes that `layer` sent its tokens to the experts `chosen` `[N, K]`."""
        if self.usage is None:
            return
        mask, domains = self.of_tokens(len(chosen))
        counts = functional.one_hot(chosen, self.usage.shape[-1]).sum(1)
        if mask is not None:
            counts = counts * mask.unsqueeze(1)
        rows = torch.full_like(chosen[:, 0], -1) if domains is None else domains
        rows = torch.where(rows < 0, len(self.usage) - 1, rows)
        self.usage[:, layer].index_add_(0, rows, counts.to(self.usage))


ROUTER_LOSSES = ("balance", "z", "domain")


def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Zoph 2022 (ST-MoE), equation 5: keeps the router's logits `[N, E]` small, so that float32's rounding does not choose."""
    squared = logits.float().logsumexp(-1).square()
    if mask is None:
        return squared.mean()
    weight = mask.reshape(-1).to(squared.dtype)
    return (squared * weight).sum() / weight.sum().clamp(min=1)


def domain_loss(probabilities: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """Minus the log of the probability `[N, E]` that goes to the experts of a token's domain, over the tokens that have one.

    Expert e belongs to domain e modulo `num_domains`, so every domain has experts; where domains are more than experts, domain d
    goes to expert d modulo E.
    """
    experts, domains = probabilities.shape[-1], domains.reshape(-1, 1)
    owner = torch.arange(experts, device=probabilities.device) % num_domains
    own = (probabilities * (owner == domains % experts)).sum(-1)
    known = (domains[:, 0] >= 0).to(probabilities.dtype)
    return -(own.clamp(min=1e-6).log() * known).sum() / known.sum().clamp(min=1)


def load_balancing_loss(probabilities: Tensor, chosen: Tensor, mask: Tensor | None = None) -> Tensor:
    """Fedus 2021, equation 4: E * sum of (share of tokens) * (mean probability); 1 when perfectly even.

    `probabilities` `[N, E]`, `chosen` `[N, K]`, `mask` `[N]` (1 where a token counts). For one layer: over all layers
    pooled, opposite imbalances would cancel.
    """
    experts = probabilities.shape[-1]
    counts = functional.one_hot(chosen, experts).sum(1).to(probabilities.dtype)
    if mask is None:
        share, mean = counts.mean(0), probabilities.mean(0)
    else:
        weight = mask.reshape(-1, 1).to(probabilities.dtype)
        total = weight.sum().clamp(min=1)
        share, mean = (counts * weight).sum(0) / total, (probabilities * weight).sum(0) / total
    return experts * torch.sum(share / chosen.shape[-1] * mean)


def _new_factor(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> nn.Parameter:
    """LoRA's A: uniform within 1/sqrt(inputs), as `nn.Linear` starts, drawn on the CPU so that a seed means one thing."""
    bound = 1 / math.sqrt(shape[-1])
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator).to(device))


class LoRALinear(nn.Module):
    """A frozen linear layer plus `scale * B A x`. B starts at zero, so the layer starts as the base, to the bit."""

    def __init__(
        self, dense: nn.Module, *, rank: int, scale: float, dropout: float, routing: Routing, generator: torch.Generator
    ) -> None:
        super().__init__()
        device = next(dense.parameters()).device
        inputs, outputs = _features(dense)
        self.dense, self.scale, self._routing = dense, scale, routing
        self.dropout = nn.Dropout(dropout)
        self.a = _new_factor((rank, inputs), generator, device)
        self.b = nn.Parameter(torch.zeros(rank, outputs, device=device))
        """Transposed: `[r, outputs]`."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`."""
        base: Tensor = self.dense(x)
        if not self._routing.enabled:
            return base
        low = functional.linear(self.dropout(x), self.a.to(x.dtype)).flatten(0, -2) * self.scale
        return torch.addmm(base.flatten(0, -2), low, self.b.to(x.dtype)).view_as(base)


class ExpertFeedForward(nn.Module):
    """A frozen gated feed-forward as `num_experts` LoRA experts with a router.

    Routing is Mixtral's: softmax over all experts in fp32, the top K, divided by their sum; no bias, no jitter. The
    router runs in the activations' dtype, as exported models are served. With `top_k` 1 the renormalised weight is
    always 1, so only the load-balancing loss trains the router.

    Dropout acts on the input that all experts share, and on the down factors' rank-space input: one mask costs less
    than one per expert.
    """

    def __init__(
        self,
        dense: nn.Module,
        *,
        layer: int,
        num_experts: int,
        top_k: int,
        rank: int,
        scale: float,
        dropout: float,
        routing: Routing,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        hidden, inner = _features(dense.gate_proj)  # type: ignore[arg-type]
        device = next(dense.parameters()).device
        self.dense, self.layer, self._routing = dense, layer, routing
        self.experts, self.top_k, self.rank, self.scale = num_experts, top_k, rank, scale
        self.dropout = nn.Dropout(dropout)
        self.router = nn.Linear(hidden, num_experts, bias=False, device=device)
        with torch.no_grad():
            self.router.weight.copy_(torch.empty(num_experts, hidden).normal_(0, 0.02, generator=generator))
        self.gate_up_a = _new_factor((2, num_experts, rank, hidden), generator, device)
        self.gate_b = nn.Parameter(torch.zeros(num_experts, rank, inner, device=device))
        self.up_b = nn.Parameter(torch.zeros(num_experts, rank, inner, device=device))
        self.down_a = _new_factor((num_experts, rank, inner), generator, device)
        self.down_b = nn.Parameter(torch.zeros(num_experts, rank, hidden, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, d]` to `[B, T, d]`."""
        if not self._routing.enabled:
            return self.dense(x)  # type: ignore[no-any-return]
        tokens_nd = x.flatten(0, -2)
        weights_nk, chosen_nk = self._route(tokens_nd)
        gate: Tensor = self.dense.gate_proj(x).flatten(0, -2)  # type: ignore[operator]
        up: Tensor = self.dense.up_proj(x).flatten(0, -2)  # type: ignore[operator]
        low = functional.linear(self.dropout(tokens_nd), self.gate_up_a.flatten(0, 2).to(x.dtype)) * self.scale
        factors = [factor.flatten(0, 1).to(x.dtype) for factor in (self.gate_b, self.up_b, self.down_a)]
        mixed, down_low = mix_experts(
            gate,
            up,
            low.view(len(low), 2, -1),
            weights_nk,
            chosen_nk,
            (factors[0], factors[1], factors[2]),
            self.experts,
            self._act,
        )
        base: Tensor = self.dense.down_proj(mixed.view(*x.shape[:-1], -1))  # type: ignore[operator]
        down_low = self.dropout(down_low) * self.scale
        return torch.addmm(base.flatten(0, -2), down_low, self.down_b.flatten(0, 1).to(x.dtype)).view_as(base)

    def _act(self, x: Tensor) -> Tensor:
        return self.dense.act_fn(x)  # type: ignore[operator, no-any-return]

    def _route(self, tokens_nd: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional.linear(tokens_nd, self.router.weight.to(tokens_nd.dtype))
        probabilities = logits.softmax(-1, dtype=torch.float32)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(tokens_nd.dtype)
        self._note(logits, probabilities, chosen)
        return weights, chosen

    def _note(self, logits: Tensor, probabilities: Tensor, chosen: Tensor) -> None:
        routing = self._routing
        if routing.observe:
            mask, domains = routing.of_tokens(len(chosen))
            balance = load_balancing_loss(probabilities, chosen, mask)
            drawn = torch.zeros_like(balance)
            if domains is not None and routing.num_domains:
                drawn = domain_loss(probabilities, domains, routing.num_domains)
            routing.losses[self.layer] = torch.stack([balance, z_loss(logits, mask), drawn])
        routing.count(self.layer, chosen)


def _features(linear: nn.Module) -> tuple[int, int]:
    return int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]
