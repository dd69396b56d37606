"""A base that already is a sparse Mixture of Experts: PEFT's LoRA on its attention and on its experts.

Recognised by its parts, not by its name: layers whose `mlp` holds all experts stacked, as Transformers loads Mixtral,
Qwen3-MoE, OLMoE and their like. The base's router, its number of experts and its top K stay; only LoRA factors learn.

Shapes: E experts, d hidden, f feed-forward, r rank, N tokens, K experts per token. PEFT keeps the factors of all experts in two
linear layers, `lora_A` `[E*r, inputs]` (expert by expert) and `lora_B` `[outputs, r*E]` (expert e has every E-th column from e
on), and adds their product to the stacked weights whenever a layer runs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from attunement.errors import MissingExtraError, ModelError
from attunement.model.base import import_bitsandbytes
from attunement.model.experts import Routing
from attunement.records import ModelConfig

log = logging.getLogger("attunement.model")

STACKED = ("gate_up_proj", "down_proj")
"""An expert module's parameters, `[E, 2f, d]` and `[E, d, f]`."""
ADAPTER_NAME = "default"
"""PEFT's own; a part of the names in `adapter.safetensors`."""


def sparse_blocks(layers: Sequence[Any]) -> list[Any]:
    """The feed-forwards that are a Mixture of stacked experts with a router, in the layers' order; none in a dense base."""
    return [layer.mlp for layer in layers if _is_sparse(layer.mlp)]


def _is_sparse(block: Any) -> bool:
    router = getattr(getattr(block, "gate", None), "weight", None)
    first, second = (getattr(getattr(block, "experts", None), name, None) for name in STACKED)
    if router is None or first is None or second is None or router.ndim != 2 or first.ndim != 3 or second.ndim != 3:
        return False
    (experts, hidden), inner = router.shape, second.shape[2]
    return bool(first.shape == (experts, 2 * inner, hidden) and second.shape == (experts, hidden, inner))


def with_own_experts(config: ModelConfig, base_model: Any, block: Any) -> ModelConfig:
    """`config` with the base's number of experts and top K; a line in the log where it asked for others.

    Raises `ModelError` for what only a dense base's Mixture has.
    """
    for name in ("attention_rank", "shared_rank"):
        if getattr(config, name):
            raise ModelError(f"model.{name} is for dense bases, and this one is sparse already: leave it out")
    experts, top_k = len(block.gate.weight), int(base_model.config.num_experts_per_tok)
    if (config.num_experts, config.top_k) != (experts, top_k):
        log.warning(
            "the base is a Mixture of %d experts, %d a token: these stay, model.num_experts=%d and model.top_k=%d do not count",
            *(experts, top_k, config.num_experts, config.top_k),
        )
    return replace(config, num_experts=experts, top_k=top_k)


class SparseAdapters:
    """LoRA in a sparse base, which is changed in place. All `B` start at zero, so the base answers as before, to the bit.

    Dropout acts on attention only: PEFT adds the experts' factors to weights, where no input passes that could be dropped.
    Raises `ModelError` for attention that lacks one of `config.target_modules`, `MissingExtraError` without PEFT.
    """

    def __init__(
        self, base_model: Any, layers: Sequence[Any], config: ModelConfig, routing: Routing, generator: torch.Generator
    ) -> None:
        missing = [name for name in config.target_modules if not all(hasattr(layer.self_attn, name) for layer in layers)]
        if missing:
            raise ModelError(
                f"the attention of {type(base_model).__name__} lacks {', '.join(missing)}: name its projections in model.target_modules"
            )
        for number, block in enumerate(sparse_blocks(layers)):
            _count_usage(block.experts, number, routing)
        self._parts = _inject(base_model, config)
        self._stacked = [part for part in self._parts if hasattr(part, "parameter_name")]  # those on parameters, not on layers
        self._routing = routing
        for part in self._parts:
            _begin(part, 0.0 if part in self._stacked else config.dropout, generator)

    def enable(self, enabled: bool) -> None:
        """Switches all adapters on or off."""
        for part in self._parts:
            part.enable_adapters(enabled)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside the block the experts' weights hold their factors already, so a token costs what it costs the base.

        PEFT would add them anew for every token, to all experts. Meanwhile the weights lie in memory twice; where a GPU has no
        room for that, nothing is merged. After the block they are the base's own again, to the bit.
        """
        own = [part.get_param().data for part in self._stacked] if self._routing.enabled else []
        if own and own[0].is_cuda and torch.cuda.mem_get_info(own[0].device)[0] < 1.05 * sum(tensor.nbytes for tensor in own):
            own = []
        pairs = list(zip(self._stacked, own, strict=False))
        try:
            for part, weights in pairs:
                first, second, scale = part.get_delta_factors(ADAPTER_NAME)
                part.get_param().data = torch.baddbmm(weights, first, second, alpha=scale)
                part.merged_adapters.append(ADAPTER_NAME)
            yield
        finally:
            for part, weights in pairs:
                part.get_param().data = weights
                part.merged_adapters.clear()


def _inject(base_model: Any, config: ModelConfig) -> list[Any]:
    """Puts in PEFT's layers, and gives them back."""
    import_bitsandbytes()
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise MissingExtraError("training a base that is a sparse Mixture of Experts", "sparse") from error
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,  # PEFT refuses another with parameters: `_begin` puts in attention's
        target_modules=[f"self_attn.{name}" for name in config.target_modules],
        target_parameters=[f"mlp.experts.{name}" for name in STACKED],
    )
    inject_adapter_in_model(lora, base_model, ADAPTER_NAME)
    return [part for part in base_model.modules() if isinstance(part, LoraLayer)]


def _begin(part: Any, dropout: float, generator: torch.Generator) -> None:
    """Factors in float32 whatever the base is in, and A as ours begins, so that a seed means one thing in all versions of PEFT."""
    a, b = part.lora_A[ADAPTER_NAME].float().weight, part.lora_B[ADAPTER_NAME].float().weight
    bound = 1 / math.sqrt(a.shape[1])
    with torch.no_grad():
        a.copy_(torch.empty(a.shape).uniform_(-bound, bound, generator=generator))
        b.zero_()
    if dropout:
        part.lora_dropout[ADAPTER_NAME] = nn.Dropout(dropout)


def _count_usage(experts: nn.Module, number: int, routing: Routing) -> None:
    """Counts what the router chose where it reaches the experts: routers differ in what they give, experts all take the same."""

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if routing.enabled:
            routing.count(number, inputs[1])  # of hidden states [N, d], chosen [N, K], weights [N, K]

    experts.register_forward_pre_hook(note)
