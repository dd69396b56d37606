"""The standard sparse architectures that compute what a Mixture of LoRA experts over a dense base does, and how they name its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attunement.errors import ModelError
from attunement.records import ModelConfig

SHARED_WIDTH = 16
"""Of the shared expert that Qwen2-MoE wants and that here gives zero."""


@dataclass(frozen=True)
class Style:
    """How an architecture names its experts."""

    model_type: str

    def expert(self, block: str, number: int, part: str) -> str:
        if self.model_type == "mixtral":
            short = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}[part]
            return f"{block.removesuffix('.mlp')}.block_sparse_moe.experts.{number}.{short}.weight"
        return f"{block}.experts.{number}.{part}.weight"

    def router(self, block: str) -> str:
        return (
            f"{block.removesuffix('.mlp')}.block_sparse_moe.gate.weight"
            if self.model_type == "mixtral"
            else f"{block}.gate.weight"
        )

    def extras(self, hidden: int) -> Sequence[tuple[str, tuple[int, int]]]:
        """Qwen2-MoE's shared expert and its gate: zeros."""
        if self.model_type != "qwen2_moe":
            return ()
        return (
            ("shared_expert.gate_proj.weight", (SHARED_WIDTH, hidden)),
            ("shared_expert.up_proj.weight", (SHARED_WIDTH, hidden)),
            ("shared_expert.down_proj.weight", (hidden, SHARED_WIDTH)),
            ("shared_expert_gate.weight", (1, hidden)),
        )


COMMON = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "max_position_embeddings", "initializer_range", "rms_norm_eps", "tie_word_embeddings", "rope_parameters", "attention_dropout",
    "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
"""What a sparse architecture's configuration takes over from the dense one's."""


def target_of(base: Any, settings: ModelConfig, dense: bool) -> tuple[Any, Style]:
    """The configuration of the architecture that computes what the run does. Raises `ModelError` where there is none."""
    from transformers import MixtralConfig, Qwen2MoeConfig, Qwen3MoeConfig

    if dense:
        return base, Style(base.model_type)
    kept = {name: getattr(base, name) for name in COMMON if hasattr(base, name)}
    head = getattr(base, "head_dim", None) or base.hidden_size // base.num_attention_heads
    if getattr(base, "mlp_bias", False):
        raise ModelError("the base's feed-forward has biases (mlp_bias), experts of standard models have none: no exact export")
    router = {
        "num_experts_per_tok": settings.top_k,
        "output_router_logits": False,
        "router_aux_loss_coef": settings.router_aux_loss,
    }
    qwen = {
        **kept, **router, "num_experts": settings.num_experts, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "moe_intermediate_size": base.intermediate_size, "intermediate_size": base.intermediate_size,
        "use_sliding_window": getattr(base, "use_sliding_window", False), "sliding_window": getattr(base, "sliding_window", None),
    }  # fmt: skip
    if base.model_type == "qwen3":
        _no_attention_bias(base)
        if base.use_sliding_window and base.max_window_layers:
            raise ModelError(
                "the base slides its attention window in some layers only, Qwen3-MoE in all or none: no exact export"
            )
        return _named(Qwen3MoeConfig(**qwen, head_dim=head, attention_bias=False), "Qwen3MoeForCausalLM", "qwen3_moe")
    shared = {"shared_expert_intermediate_size": SHARED_WIDTH}
    if base.model_type == "qwen2":
        window = {"max_window_layers": base.max_window_layers, "layer_types": list(base.layer_types)}
        return _named(Qwen2MoeConfig(**qwen, **shared, **window, qkv_bias=True), "Qwen2MoeForCausalLM", "qwen2_moe")
    if base.model_type not in ("llama", "mistral"):
        raise ModelError(
            f"there is no standard sparse model whose layers are those of '{base.model_type}': only bases of the Llama, Mistral, Qwen2 and "
            "Qwen3 families can be exported as one. Export it with --format adapter"
        )
    _no_attention_bias(base)
    rope = (base.rope_parameters or {}).get("rope_type", "default")
    if rope != "default" and not getattr(base, "sliding_window", None):
        # Some servers' Mixtral reads nothing of the rope but its base, silently: Qwen2-MoE's is read in full.
        own = {} if head == base.hidden_size // base.num_attention_heads else {"head_dim": head}
        return _named(Qwen2MoeConfig(**qwen, **shared, **own, qkv_bias=False), "Qwen2MoeForCausalLM", "qwen2_moe")
    config = MixtralConfig(
        **kept, **router, num_local_experts=settings.num_experts, intermediate_size=base.intermediate_size, head_dim=head,
        sliding_window=getattr(base, "sliding_window", None), router_jitter_noise=0.0,
    )  # fmt: skip
    return _named(config, "MixtralForCausalLM", "mixtral")


def _named(config: Any, architecture: str, model_type: str) -> tuple[Any, Style]:
    config.architectures = [architecture]
    return config, Style(model_type)


def _no_attention_bias(base: Any) -> None:
    if getattr(base, "attention_bias", False):
        raise ModelError(
            "the base's attention has biases (attention_bias), no standard sparse model of its kind has: no exact export"
        )
