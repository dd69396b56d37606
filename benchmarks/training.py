"""The training step beside its peers, in one process, interleaved: `benchmarks/results/training-<device>.json`.

    pip install 'attunement[bench]'      # PEFT, the peer
    python benchmarks/training.py [--device cuda --dtype bfloat16 --hidden 2048 --inner 8192 --layers 16 --tokens 8192]

A step is forward, backward and AdamW on one Llama of random weights. `naive loop` computes each expert's whole feed-forward on its
tokens; `MixLoRA's way` shares the gate and up projections and loops over the experts for the rest (TUDB-Labs/MixLoRA); both have
our parameters and give our numbers, which is checked first. PEFT is a single LoRA on the same modules, of our rank and of the rank
with as many parameters. Memory: what autograd keeps for the backward pass (unique storages, parameters left out), and on CUDA the peak.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import machine
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from attunement.model.experts import ExpertFeedForward
from attunement.model.moe_lora import MoEModel
from attunement.records import ModelConfig

VOCABULARY = 4096
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Loop(ExpertFeedForward):
    """A loop over experts, with the parameters of ours; `share` computes the gate and up projections once for all."""

    share = False

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        weights, chosen = self._route(tokens)
        out = torch.zeros_like(tokens)
        if self.share:
            gates, ups = self.dense.gate_proj(tokens), self.dense.up_proj(tokens)
        for expert in range(self.experts):
            rows, slot = torch.where(chosen == expert)
            if not len(rows):
                continue
            own = tokens[rows]
            gate, up = (gates[rows], ups[rows]) if self.share else (self.dense.gate_proj(own), self.dense.up_proj(own))
            a, dtype = self.gate_up_a[:, expert].to(x.dtype), x.dtype
            gate = gate + functional.linear(own, a[0]) @ self.gate_b[expert].to(dtype) * self.scale
            up = up + functional.linear(own, a[1]) @ self.up_b[expert].to(dtype) * self.scale
            hidden = self.dense.act_fn(gate) * up
            down = self.dense.down_proj(hidden)
            down = down + functional.linear(hidden, self.down_a[expert].to(dtype)) @ self.down_b[expert].to(dtype) * self.scale
            out.index_add_(0, rows, down * weights[rows, slot, None])
        return out.view_as(x)


class Shared(Loop):
    share = True


def base_of(shape: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 64, num_key_value_heads=max(1, shape.hidden // 256), max_position_embeddings=8192,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(shape.device, getattr(torch, shape.dtype))


def ours(shape: argparse.Namespace, kind: type[ExpertFeedForward] = ExpertFeedForward) -> Any:
    config = ModelConfig(num_experts=shape.experts, top_k=2, lora_rank=shape.rank, lora_alpha=2 * shape.rank, dropout=0.0)
    model = MoEModel(base_of(shape), config).to(shape.device)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in model.named_trainable():
            parameter.add_((torch.randn(parameter.shape, generator=generator) * 0.02).to(parameter))
    for layer in model._layers:
        layer.mlp.__class__ = kind
    return model.train()


def peft_of(shape: argparse.Namespace, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=MODULES, lora_dropout=0.0)
    return get_peft_model(base_of(shape), settings).train()


def trainable(model: Any) -> list[Any]:
    return [p for p in model.parameters() if p.requires_grad]


def equal_rank(shape: argparse.Namespace) -> int:
    """The rank of a single LoRA with as many parameters as ours."""
    wanted = sum(p.numel() for p in trainable(ours(shape)))
    return round(wanted / sum(p.numel() for p in trainable(peft_of(shape, 1))))


def loss_of(model: Any, ids: Tensor, lengths: tuple[int, ...] = ()) -> Tensor:
    if isinstance(model, MoEModel):
        loss = model(ids, None, ids, lengths=lengths).loss
        assert loss is not None
        return loss
    return model(input_ids=ids, labels=ids, use_cache=False).loss  # type: ignore[no-any-return]


def step_of(model: Any, ids: Tensor, lengths: tuple[int, ...] = ()) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-6)

    def step() -> None:
        loss_of(model, ids, lengths).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def kept_bytes(model: Any, ids: Tensor) -> int:
    """Bytes of the tensors that autograd keeps for one backward pass."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    held = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # a freed place would be taken by another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of(model, ids)
    del loss
    return sum(sizes.values())


def same(shape: argparse.Namespace, ids: Tensor) -> float:
    """The largest difference of loops' gradients from ours, relative to the largest entry of each."""
    found = []
    for kind in (ExpertFeedForward, Loop, Shared):
        model = ours(shape, kind)
        loss_of(model, ids[:, :128]).backward()
        found.append({n: p.grad.float() for n, p in model.named_trainable() if p.grad is not None})
    mine = found[0]
    return max(float((o[n] - g).abs().max() / g.abs().max().clamp(min=1e-12)) for o in found[1:] for n, g in mine.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    for name, value in {
        "hidden": 1024,
        "inner": 4096,
        "layers": 4,
        "experts": 8,
        "rank": 16,
        "tokens": 2048,
        "length": 512,
        "runs": 7,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    shape = parser.parse_args()
    ids = torch.randint(0, VOCABULARY, (shape.tokens // shape.length, shape.length), device=shape.device)
    difference = same(shape, ids)
    print(f"loops against ours: gradients differ by at most {difference:.1e}", flush=True)
    wide = equal_rank(shape)
    models = {
        "ours": ours(shape),
        "naive loop": ours(shape, Loop),
        "MixLoRA's way": ours(shape, Shared),
        f"PEFT, rank {shape.rank}": peft_of(shape, shape.rank),
        f"PEFT, rank {wide} (as many parameters)": peft_of(shape, wide),
    }
    cuda = shape.device.startswith("cuda")
    seconds: dict[str, list[float]] = {name: [] for name in models}
    peak: dict[str, int] = {}
    steps = {name: step_of(model, ids) for name, model in models.items()}
    for run in range(shape.runs + 1):
        for name, step in steps.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            started = time.perf_counter()
            step()
            if cuda:
                torch.cuda.synchronize()
                peak[name] = torch.cuda.max_memory_allocated()
            if run:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
    middle = {name: median(values) for name, values in seconds.items()}
    rows = {
        name: {
            "seconds": round(middle[name], 4),
            "runs": [round(v, 3) for v in seconds[name]],
            "time / ours": round(middle[name] / middle["ours"], 3),
            "kept_mib": round(kept_bytes(model, ids) / 2**20, 1),
            "trainable": sum(p.numel() for p in trainable(model)),
            **({"peak_mib": round(peak[name] / 2**20)} if cuda else {}),
        }
        for name, model in models.items()
    }
    for row in rows.values():
        row["ours' memory / its"] = round(rows["ours"]["kept_mib"] / row["kept_mib"], 3)
    device = torch.cuda.get_device_name() if cuda else "cpu"
    facts = {"machine": machine.describe(), "device": device, "shape": vars(shape), "gradients_differ": difference, "steps": rows}
    machine.write(f"training-{'cpu' if not cuda else device.lower().replace(' ', '-')}-{shape.dtype}", facts)
    for name, row in rows.items():
        print(f"{name:<40} {row['seconds']:.3f} s  {row['time / ours']:.2f}x ours  kept {row['kept_mib']:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
