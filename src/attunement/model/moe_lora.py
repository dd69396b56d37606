"""A dense causal language model as a Mixture of LoRA experts.

`MoEModel` wraps a frozen Hugging Face model of the Llama, Mistral, Qwen2 or Qwen3 families, or any other whose layers
have the same parts, without forking its forward pass: the feed-forward modules are exchanged for `ExpertFeedForward`,
the attention projections for `LoRALinear`. Only adapters and routers are trained and saved.

A base that already is a sparse Mixture of Experts keeps its experts and router and gets PEFT's LoRA instead (`sparse.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from attunement import __version__
from attunement.errors import IntegrityError, ModelError
from attunement.model.attention import packed
from attunement.model.base import base_sha256, load_base, resolve_base
from attunement.model.checkpoint import (
    ADAPTER,
    DENSE,
    SPARSE,
    atomic_folder,
    find_checkpoint,
    read_description,
    write_description,
)
from attunement.model.experts import ExpertFeedForward, LoRALinear, Routing
from attunement.model.sparse import SparseAdapters, sparse_blocks, with_own_experts
from attunement.records import ModelConfig, from_dict, to_dict
from attunement.security.age_files import is_encrypted, read_bytes

FAMILIES = "the Llama, Mistral, Qwen2 or Qwen3 families, or a sparse one (Mixtral, Qwen3-MoE, OLMoE)"
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
FEED_FORWARD_PARTS = (*PROJECTIONS, "act_fn")


@dataclass(frozen=True)
class MoEOutput:
    """Without labels, `logits` is `[B, T, vocabulary]` and the losses are None.

    With labels, only positions that predict a labelled token are computed: `logits` is `[n, vocabulary]` and
    `token_losses` `[n]` (nats, float32) in row-major order; `language_loss` is their mean, `router_losses` are the means over
    layers of `ROUTER_LOSSES`, `[3]`, `router_loss` their weighted sum, and `loss = language_loss + router_loss`.
    """

    logits: Tensor
    loss: Tensor | None = None
    language_loss: Tensor | None = None
    router_loss: Tensor | None = None
    router_losses: Tensor | None = None
    token_losses: Tensor | None = None


class MoEModel(nn.Module):
    """The contract's model. `base_model` is frozen and changed in place; `seed` draws the first adapters.

    `config.context_length` is capped at what the base supports. Raises `ModelError` that names what a base lacks.
    A sparse base's own number of experts and top K take the place of `config`'s, and its router losses are zero.
    """

    def __init__(self, base_model: Any, config: ModelConfig, seed: int = 17) -> None:
        super().__init__()
        self.base = base_model
        self._layers = _decoder_layers(base_model)
        blocks = sparse_blocks(self._layers)
        if blocks:
            config = with_own_experts(config, base_model, blocks[0])
        longest = getattr(base_model.config, "max_position_embeddings", None) or config.context_length
        self.config = replace(config, context_length=min(config.context_length, longest))
        self._routing = Routing(num_domains=len(config.expert_domains))
        self._router_weights = torch.tensor([config.router_aux_loss, config.router_z_loss, config.router_domain_loss])
        self._selected: Tensor | None = None
        self.base_sha256 = _hash_of(base_model)
        base_model.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        self._routed = len(blocks) or len(self._layers)
        self._sparse = SparseAdapters(base_model, self._layers, self.config, self._routing, generator) if blocks else None
        if not blocks:
            for number, layer in enumerate(self._layers):
                self._adapt(number, layer, generator)
            self._check_feed_forward()
        self._head = base_model.get_output_embeddings()
        self._head.register_forward_pre_hook(self._select)

    def _adapt(self, number: int, layer: Any, generator: torch.Generator) -> None:
        config = self.config
        shared: dict[str, Any] = {
            "scale": config.lora_alpha / config.lora_rank,
            "dropout": config.dropout,
            "routing": self._routing,
            "generator": generator,
        }
        missing = [f"mlp.{part}" for part in FEED_FORWARD_PARTS if not hasattr(layer.mlp, part)]
        missing += [f"self_attn.{name}" for name in config.target_modules if not hasattr(layer.self_attn, name)]
        if missing:
            raise ModelError(
                f"a {type(self.base).__name__} cannot become a Mixture of LoRA experts: its layers lack {', '.join(missing)}; "
                f"take a base of {FAMILIES}"
            )
        for name in config.target_modules:
            rank = config.attention_rank or config.lora_rank
            setattr(layer.self_attn, name, LoRALinear(getattr(layer.self_attn, name), rank=rank, **shared))
        layer.mlp = ExpertFeedForward(
            layer.mlp, layer=number, num_experts=config.num_experts, top_k=config.top_k, rank=config.lora_rank, **shared
        )
        if config.shared_rank:
            for part in PROJECTIONS:
                setattr(layer.mlp.dense, part, LoRALinear(getattr(layer.mlp.dense, part), rank=config.shared_rank, **shared))

    def _check_feed_forward(self) -> None:
        """A feed-forward that has the right parts but does something else with them must not pass silently."""
        block = self._layers[0].mlp
        projection = block.dense.gate_proj
        own: Any = projection.dense if isinstance(projection, LoRALinear) else projection
        weight: Tensor = own.weight
        if weight.is_meta or not weight.is_floating_point():
            return
        probe = torch.linspace(-1, 1, 2 * block.router.in_features, device=weight.device, dtype=weight.dtype).view(1, 2, -1)
        with torch.no_grad(), self.evaluating():
            if not torch.allclose(block(probe), block.dense(probe), rtol=1e-2, atol=1e-4):
                raise ModelError(
                    f"the feed-forward of {type(self.base).__name__} is not down(act(gate(x)) * up(x)): take a base of {FAMILIES}"
                )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        lengths: Sequence[int] = (),
        domains: Tensor | None = None,
    ) -> MoEOutput:
        """`input_ids`, `attention_mask` and `labels` are `[B, T]`; labels of -100 are not scored; see `MoEOutput`.

        With `lengths` the row `[1, T]` holds whole sequences of these lengths, one behind the other, without a mask; no token
        sees another sequence's, and a sequence's first token is never a label. `domains` `[B, T]` are places in
        `config.expert_domains`, -1 where a token has none.
        """
        targets = None
        if labels is not None:
            targets = functional.pad(labels[:, 1:], (0, 1), value=-100)
            self._selected = targets != -100
        routing = self._routing
        routing.mask, routing.domains, routing.observe = attention_mask, domains, True
        try:
            logits = self._logits(input_ids, attention_mask, lengths)
            found = list(routing.losses.values())
        finally:
            selected, self._selected = self._selected, None
            routing.mask, routing.domains, routing.observe = None, None, False
            routing.losses.clear()  # they hold the whole pass, also one that failed for memory
        parts = torch.stack(found).mean(0) if found else torch.zeros(3, device=logits.device)
        router_loss = (parts * self._router_weights.to(parts.device)).sum()
        if targets is None:
            return MoEOutput(logits, router_loss=router_loss, router_losses=parts.detach())
        token_losses = functional.cross_entropy(logits.float(), targets[selected], reduction="none")
        language_loss = token_losses.sum() / max(1, len(token_losses))
        return MoEOutput(logits, language_loss + router_loss, language_loss, router_loss, parts.detach(), token_losses)

    def enable_checkpointing(self) -> None:
        """Layers are computed again in the backward pass instead of kept: less memory, about a third more time."""

        def contexts() -> tuple[Any, Any]:
            # The backward pass runs after the forward's settings are gone: a layer is computed again under its own.
            routing, way = self._routing, self.base.config._attn_implementation
            return nullcontext(), _again(routing, replace(routing, losses={}), self.base.config, way)

        # Transformers' name from 5.23 on; before, the only one.
        enable = getattr(self.base, "activation_checkpointing_enable", None) or self.base.gradient_checkpointing_enable
        enable({"use_reentrant": False, "context_fn": contexts})

    def _logits(self, input_ids: Tensor, attention_mask: Tensor | None, lengths: Sequence[int]) -> Tensor:
        if not lengths:
            return self.base(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits  # type: ignore[no-any-return]
        places = torch.cat([torch.arange(n, device=input_ids.device) for n in lengths]).unsqueeze(0)
        with packed(self.base.config):
            return self.base(input_ids=input_ids, position_ids=places, lengths=lengths, use_cache=False).logits  # type: ignore[no-any-return]

    def _select(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Before the output layer: only the hidden states whose logits are wanted (a quarter of a small model's time)."""
        return None if self._selected is None else (inputs[0][self._selected], *inputs[1:])

    def generate(self, **arguments: Any) -> Tensor:
        """Transformers' `generate`, with its key-value cache; token ids `[B, T]`."""
        with torch.no_grad(), self.merged():
            return self.base.generate(**arguments)  # type: ignore[no-any-return]

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside the block a sparse base's adapters lie in its experts' weights; a dense base has nothing to merge."""
        with self._sparse.merged() if self._sparse else nullcontext():
            yield

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self.parameters()).device

    @property
    def layers(self) -> list[nn.Module]:
        """The base's decoder layers."""
        return list(self._layers)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Adapters and routers, in the order of their names."""
        return [parameter for _, parameter in self.named_trainable()]

    def named_trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Adapters and routers with their names, sorted."""
        return sorted((name, p) for name, p in self.named_parameters() if p.requires_grad)

    def adapter_state(self) -> dict[str, Tensor]:
        """What is trained, by name; the tensors are the model's own."""
        return {name: parameter.detach() for name, parameter in self.named_trainable()}

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Inside the block the model is its base."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def _enable(self, enabled: bool) -> None:
        self._routing.enabled = enabled
        if self._sparse:
            self._sparse.enable(enabled)

    @contextmanager
    def counting_usage(self) -> Iterator[Tensor]:
        """Inside the block the yielded `[domains + 1, layers, experts]` tensor counts the tokens that each expert serves.

        The last row is of tokens without a domain. Layers are those that route: in some sparse bases not all do.
        """
        shape = (self._routing.num_domains + 1, self._routed, self.config.num_experts)
        self._routing.usage = torch.zeros(shape, dtype=torch.long, device=self.device)
        try:
            yield self._routing.usage
        finally:
            self._routing.usage = None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Eval mode inside the block, the mode from before after it."""
        before = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(before)

    def save(self, folder: Path) -> None:
        """Writes `adapter.safetensors` and `moe.json`; the folder appears whole or not at all."""
        with atomic_folder(folder) as temporary:
            self.write_files(temporary)

    def write_files(self, folder: Path) -> None:
        """The files of a checkpoint, into a folder that the caller makes appear (`atomic_folder`)."""
        state = {name: tensor.cpu().contiguous() for name, tensor in self.adapter_state().items()}
        save_file(state, folder / ADAPTER)
        write_description(
            folder,
            {
                "attunement": __version__,
                "kind": SPARSE if self._sparse else DENSE,
                "model": to_dict(self.config),
                "base": {"name": self.config.base, "sha256": self.base_sha256},
                "trainable_parameters": sum(tensor.numel() for tensor in state.values()),
            },
        )

    def load_adapter(self, state: dict[str, Tensor]) -> None:
        """Takes over adapters and routers. Raises `ModelError` when names or shapes differ."""
        own = self.adapter_state()
        if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in state.items()}:
            raise ModelError("the checkpoint's adapters do not fit this model: it was made with another base or other settings")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])


def load_moe(folder: Path, device: str = "auto", base: str | None = None) -> tuple[MoEModel, Any, dict[str, Any]]:
    """The model in eval mode, its tokenizer, and what `moe.json` says, with the `checkpoint`'s folder.

    `folder` is a checkpoint or a run (its best checkpoint); `base` says where the base lies now, if elsewhere.
    Raises `ModelError`, or `IntegrityError` when the adapter is damaged or the base is not the one it was trained on.
    """
    checkpoint = find_checkpoint(folder)
    info = read_description(checkpoint)
    try:
        config = from_dict(ModelConfig, info["model"])
        wanted = info["base"]["sha256"]
        state = load_adapter_file(checkpoint)
    except (KeyError, TypeError) as error:
        raise ModelError(f"the checkpoint {checkpoint} lacks a part of its description: {error}") from error
    name = base or config.base
    if base_sha256(resolve_base(name)) != wanted:
        raise IntegrityError(
            f"the base '{name}' is not the one that {checkpoint} was trained on (its weights differ): "
            "name the right one, or train again"
        )
    base_model, tokenizer = load_base(name, device, rope_scaling=config.rope_scaling, quantization=config.quantization)
    model = MoEModel(base_model, config).eval()
    model.load_adapter(state)
    return model, tokenizer, {**info, "checkpoint": checkpoint}


def load_adapter_file(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint. Raises `IntegrityError` when they cannot be read.

    Of an encrypted one by way of memory alone: its bytes and its tensors at once, twice its size.
    """
    path = checkpoint / ADAPTER
    try:
        return dict(load(read_bytes(path)) if is_encrypted(path) else load_file(path))
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{checkpoint / ADAPTER} is damaged: take another checkpoint") from error


@contextmanager
def _again(routing: Routing, wanted: Routing, config: Any, way: str) -> Iterator[None]:
    """Inside the block `routing` is as `wanted`, and attention is computed as `way` says."""
    names = ("mask", "domains", "observe", "losses", "enabled")
    before, attention = {name: getattr(routing, name) for name in names}, config._attn_implementation
    for name in names:
        setattr(routing, name, getattr(wanted, name))
    config._attn_implementation = way
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(routing, name, value)
        config._attn_implementation = attention


def _hash_of(base_model: Any) -> str:
    """Taken when the model is wrapped: the files may change while it runs. Empty for a model that was never saved."""
    folder = Path(base_model.name_or_path) if base_model.name_or_path else None
    return base_sha256(folder) if folder and any(folder.glob("*.safetensors")) else ""


def _decoder_layers(base_model: Any) -> Any:
    decoder = base_model.get_decoder() if hasattr(base_model, "get_decoder") else None
    layers = getattr(decoder, "layers", None)
    if layers is None or len(layers) == 0 or not all(hasattr(layers[0], part) for part in ("mlp", "self_attn")):
        raise ModelError(
            f"a {type(base_model).__name__} cannot become a Mixture of LoRA experts: it lacks layers with `mlp` and `self_attn`; "
            f"take a base of {FAMILIES}"
        )
    return layers
