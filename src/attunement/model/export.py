"""A trained model as files that other programs load: a standard sparse Mixture of Experts, or our own small adapter.

`hf-moe` merges each expert into a copy of the base's feed-forward and the attention's LoRA into the attention, and writes
what Transformers calls Mixtral, Qwen2-MoE or Qwen3-MoE: `AutoModelForCausalLM.from_pretrained` and the servers load it
without this package. Merging is computed in float64 and rounded once. Tensors are read, merged and written shard by shard.

The routing agrees because it was trained so: softmax over all experts in float32, the top K, divided by their sum.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from attunement import __version__
from attunement.errors import IntegrityError, ModelError
from attunement.model.architectures import Style, target_of
from attunement.model.base import base_config, base_sha256, load_tokenizer, resolve_base
from attunement.model.checkpoint import (
    ADAPTER,
    DENSE,
    DESCRIPTION,
    SPARSE,
    atomic_folder,
    find_checkpoint,
    read_description,
    seal_checkpoint,
)
from attunement.records import ModelConfig, from_dict
from attunement.storage.files import file_hash, write_json, write_text

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHARD_BYTES = 2_000_000_000
"""Of a file of the export; with a layer's tensors, what the memory must hold."""
MANIFEST = "attunement.json"
FORMATS = ("hf-moe", "adapter", "merged-dense")
CAUTION = "**Not a medical device, and no replacement for a clinician.**"
"""What every card of a model says: an export's, and that of the run which it comes from."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """A tensor of the export: its name, shape, and how it is made."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


@dataclass(frozen=True)
class Exported:
    """`bytes` of the weights, `parameters`, the `architecture` that loads them."""

    folder: Path
    architecture: str
    parameters: int
    bytes: int


class Export:
    """What a checkpoint would be as a standard model; `write` writes it.

    `model` is a run or a checkpoint, `base` says where its base lies now, if elsewhere, `dtype` (float32, float16,
    bfloat16) is the base's own if empty. Raises `ModelError` where no standard model computes the same.
    """

    def __init__(self, model: Path, *, base: str | None = None, dtype: str = "", dense: bool = False) -> None:
        self.checkpoint = find_checkpoint(model)
        self.info = read_description(self.checkpoint)
        self.settings = from_dict(ModelConfig, self.info["model"])
        self.base_name = base or self.settings.base
        self.base_folder = resolve_base(self.base_name)
        if base_sha256(self.base_folder) != self.info["base"]["sha256"]:
            raise IntegrityError(
                f"the base '{self.base_name}' is not the one that {self.checkpoint} was trained on: name the right one by --base"
            )
        self.scale = self.settings.lora_alpha / self.settings.lora_rank
        self.dense = dense
        if dense and self.settings.num_experts > 1:
            raise ModelError(
                f"this model has {self.settings.num_experts} experts and a router that picks by token: no dense model computes the same. "
                f"Export it with --format hf-moe, which is exact{self._dense_advice}"
            )
        self.config, self.style = self._target(base_config(self.base_folder, self.settings.rope_scaling))
        wanted = dtype or self._own_dtype
        if wanted not in {str(d).removeprefix("torch.") for d in DTYPES.values()}:
            raise ModelError(f"weights cannot be written as '{wanted}': take float32, float16 or bfloat16")
        self.dtype: torch.dtype = getattr(torch, wanted)

    _dense_advice = ", or train with model.num_experts=1"

    def _target(self, base: Any) -> tuple[Any, Style]:
        """The configuration of the export, of the base's `base`, and how it names the experts."""
        return target_of(base, self.settings, self.dense)

    # --- where the numbers come from --------------------------------------------------------------------

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The base's weight file of each tensor."""
        found: dict[str, Path] = {}
        for path in sorted(self.base_folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                found |= dict.fromkeys(file.keys(), path)
        return found

    @property
    def _own_dtype(self) -> str:
        with safe_open(next(iter(self._files.values())), "pt") as file:
            code = file.get_slice(next(iter(file.keys()))).get_dtype()
        return str(DTYPES.get(code, code)).removeprefix("torch.")

    def entries(self) -> list[Entry]:
        """Every tensor of the export, in the base's order: layer by layer."""
        with ExitStack() as stack:
            opened = {path: stack.enter_context(safe_open(path, "pt")) for path in set(self._files.values())}
            shapes = {name: tuple(opened[path].get_slice(name).get_shape()) for name, path in self._files.items()}
            adapter = stack.enter_context(safe_open(self.checkpoint / ADAPTER, "pt"))
            trained = {name: tuple(adapter.get_slice(name).get_shape()) for name in adapter.keys()}  # noqa: SIM118
        out: list[Entry] = []
        for name in sorted(self._files, key=_place):
            out += self._entries_of(name, shapes[name], trained)
        return out

    def _entries_of(self, name: str, shape: tuple[int, ...], trained: Mapping[str, tuple[int, ...]]) -> list[Entry]:
        module = f"base.{name.removesuffix('.weight')}"
        if f"{module}.a" in trained:
            return [Entry(name, shape, lambda: self._plain(name) + self._product(f"{module}.b", f"{module}.a"))]
        block, _, part = name.removesuffix(".weight").rpartition(".")
        if part not in ("gate_proj", "up_proj", "down_proj") or not block.endswith(".mlp"):
            return [Entry(name, shape, lambda: self._plain(name))]
        if name.endswith(".bias"):
            raise ModelError(f"{name}: no standard sparse model has experts with a bias, so this base cannot be exported exactly")
        out = [
            Entry(
                name if self.dense else self.style.expert(block, expert, part),
                shape,
                lambda expert=expert: self._plain(name) + self._expert(f"base.{block}", part, expert),  # type: ignore[misc]
            )
            for expert in range(self.settings.num_experts)
        ]
        if part == "up_proj" and not self.dense:  # the last of the three by name: what the block has once
            hidden = shape[1]
            router = f"base.{block}.router.weight"
            out.append(Entry(self.style.router(block), trained[router], lambda: self._trained(router)))
            out += [Entry(f"{block}.{n}", s, lambda s=s: torch.zeros(s)) for n, s in self.style.extras(hidden)]  # type: ignore[misc]
        return out

    def _plain(self, name: str) -> Tensor:
        with safe_open(self._files[name], "pt") as file:
            return file.get_tensor(name).double()  # type: ignore[no-any-return]

    def _trained(self, name: str, *at: int) -> Tensor:
        with safe_open(self.checkpoint / ADAPTER, "pt") as file:
            return (file.get_slice(name)[at] if at else file.get_tensor(name)).double()  # type: ignore[no-any-return]

    def _product(self, b: str, a: str) -> Tensor:
        """`[out, in]` of factors `[r, out]` and `[r, in]`."""
        return self.scale * self._trained(b).T @ self._trained(a)

    def _expert(self, block: str, part: str, expert: int) -> Tensor:
        if part == "down_proj":
            first, second = self._trained(f"{block}.down_b", expert), self._trained(f"{block}.down_a", expert)
        else:
            first = self._trained(f"{block}.{part.removesuffix('_proj')}_b", expert)
            second = self._trained(f"{block}.gate_up_a", ("gate_proj", "up_proj").index(part), expert)
        own = self.scale * first.T @ second
        shared = f"{block}.dense.{part}"  # what the experts have in common, if anything, is a part of each
        return own + self._product(f"{shared}.b", f"{shared}.a") if self.settings.shared_rank else own

    # --- writing ----------------------------------------------------------------------------------------

    def size(self) -> tuple[int, int]:
        """(parameters, bytes) that the export will have."""
        count = sum(math.prod(entry.shape) for entry in self.entries())
        return count, count * self.dtype.itemsize

    def write(self, out: Path, *, shard_bytes: int = SHARD_BYTES, progress: Progress | None = None) -> Exported:
        """Writes the model to the new folder `out`, whole or not at all. Raises `ModelError` where it does not fit on the disk."""
        if out.exists():
            raise ModelError(f"{out} exists: give --out a new folder")
        count, size = self.size()
        room_for(out, size)
        with atomic_folder(out) as folder:
            shards = list(_shards(self.entries(), self.dtype.itemsize, shard_bytes))
            index: dict[str, str] = {}
            done = 0
            for number, entries in enumerate(shards, 1):
                name = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
                tensors = {}
                for entry in entries:
                    tensors[entry.name] = entry.make().to(self.dtype).contiguous()
                    done += tensors[entry.name].nbytes
                    if progress:
                        progress(done, size)
                save_file(tensors, folder / name, metadata={"format": "pt"})
                index |= dict.fromkeys(tensors, name)
            if len(shards) > 1:
                write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})
            self._write_words(folder, count, size)
        return Exported(out, self.config.architectures[0], count, size)

    def _write_words(self, folder: Path, count: int, size: int) -> None:
        """Config, tokenizer, card, and whence it comes."""
        self.config.dtype = self.dtype
        self.config.save_pretrained(folder)
        own = self.base_folder / "generation_config.json"
        if own.is_file():
            shutil.copy(own, folder / own.name)
        save_tokenizer(self.base_name, folder, self.settings.context_length)
        facts = {
            "format": "merged-dense" if self.dense else "hf-moe",
            "attunement": __version__,
            "architecture": self.config.architectures[0],
            "parameters": count,
            "bytes": size,
            "dtype": str(self.dtype).removeprefix("torch."),
            **provenance(self.checkpoint, self.info),
        }
        write_text(folder / "README.md", card(facts))
        write_json(folder / MANIFEST, {**facts, "files": {p.name: file_hash(p) for p in sorted(folder.iterdir())}})


def write_adapter(model: Path, out: Path, encrypt_to: Sequence[str] = ()) -> Exported:
    """The checkpoint alone (safetensors and JSON, ours), with its tokenizer and card. Raises `ModelError`, `IntegrityError`.

    With `encrypt_to` (`age1...`) its weights are an age file, which whoever loads it opens with the age identity that is set.
    """
    checkpoint = find_checkpoint(model)
    info = read_description(checkpoint)
    if out.exists():
        raise ModelError(f"{out} exists: give --out a new folder")
    size, count = (checkpoint / ADAPTER).stat().st_size, info["trainable_parameters"]
    room_for(out, size)
    with atomic_folder(out) as folder:
        for name in (ADAPTER, DESCRIPTION):
            shutil.copy(checkpoint / name, folder / name)
        if encrypt_to:
            seal_checkpoint(folder, encrypt_to)
        settings = from_dict(ModelConfig, info["model"])
        save_tokenizer(settings.base, folder, settings.context_length)
        facts = {
            "format": "adapter", "attunement": __version__, "architecture": "attunement", "parameters": count, "bytes": size,
            **provenance(checkpoint, info),
        }  # fmt: skip
        write_text(folder / "README.md", card(facts))
        write_json(folder / MANIFEST, {**facts, "files": {p.name: file_hash(p) for p in sorted(folder.iterdir())}})
    return Exported(out, "attunement", count, size)


def largest_difference(model: Path, exported: Path, *, base: str | None = None, tokens: int = 128) -> float:
    """The largest difference between the logits of a run and of its export on `tokens` drawn ones, both in float32 on the CPU."""
    from transformers import AutoModelForCausalLM

    from attunement.model.moe_lora import load_moe

    run, _, _ = load_moe(model, "cpu", base)
    vocabulary = run.base.config.vocab_size
    ids = torch.randint(
        0, vocabulary, (2, min(tokens // 2, run.config.context_length)), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        wanted = run(ids).logits
        del run
        standard = AutoModelForCausalLM.from_pretrained(
            exported, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        return float((standard(ids).logits - wanted).abs().max())


def room_for(out: Path, size: int) -> None:
    """Raises `ModelError` where the disk of `out` has less than `size` bytes, and a little."""
    place = next(p for p in (out, *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < size * 1.02 + 10_000_000:
        raise ModelError(
            f"{out} needs {size / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB left: free some, or give --out another disk"
        )


def save_tokenizer(base: str, folder: Path, longest: int) -> None:
    """The base's tokenizer, with the chat template that was trained with."""
    tokenizer = load_tokenizer(base)
    tokenizer.model_max_length = longest
    tokenizer.save_pretrained(folder)


def provenance(checkpoint: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    """Where a model comes from: base, adapter, and, of a run's checkpoint, its data."""
    from attunement.storage.files import read_json

    seen = checkpoint.parent.parent / "dataset.json"
    licences = read_json(seen).get("pairs_licences", []) if seen.is_file() else []
    return {
        "base": info["base"],
        "kind": info.get("kind", DENSE),
        "adapter_sha256": info["adapter_sha256"],
        "model": info["model"],
        "dataset_sha256": read_json(seen)["dataset_sha256"] if seen.is_file() else "",
        "run": checkpoint.parent.parent.name if seen.is_file() else "",
        **({"pairs_licences": licences} if licences else {}),
    }


def card(facts: Mapping[str, Any]) -> str:
    """A model card: what it is, whence it comes, what it is not for."""
    model, base = facts["model"], facts["base"]
    experts = f"{model['num_experts']} LoRA experts of rank {model['lora_rank']} per feed-forward, top {model['top_k']}"
    if facts["kind"] == SPARSE:
        experts = (
            f"LoRA of rank {model['lora_rank']} on its own {model['num_experts']} experts per feed-forward, top {model['top_k']}"
        )
    loads = (
        "Loads with `attunement` only: `attune chat --model FOLDER`."
        if facts["format"] == "adapter"
        else f"Loads with Transformers alone: `AutoModelForCausalLM.from_pretrained(FOLDER)` gives a `{facts['architecture']}`."
    )
    return "\n".join(
        [
            "# A therapeutic dialogue model",
            "",
            f"Made with attunement {facts['attunement']} from `{base['name']}` (weights' hash `{base['sha256'][:16]}`): "
            f"{experts}, LoRA on {', '.join(model['target_modules'])}. {facts['parameters']:,} parameters, {facts['bytes'] / 1e9:.2f} GB.",
            "",
            loads,
            "",
            f"Run `{facts['run'] or 'not known'}`, dataset `{facts['dataset_sha256'][:16] or 'not known'}`. All hashes: `{MANIFEST}`.",
            "",
            *(
                ["Tuned on preference pairs that are **not for commercial use**.", ""]
                if "NC" in facts.get("pairs_licences", [])
                else []
            ),
            f"{CAUTION} Served without the safety gate of `attune serve`,",
            "nothing stands between its words and a person in distress.",
            "",
        ]
    )


def _place(name: str) -> tuple[int, str]:
    """Layers in their order, what stands outside them before."""
    parts = name.split(".")
    at = parts.index("layers") + 1 if "layers" in parts else 0
    return (int(parts[at]) if at else -1, name)


def _shards(entries: Sequence[Entry], item: int, limit: int) -> Iterator[list[Entry]]:
    """Parts of at most `limit` bytes, or of one tensor."""
    part: list[Entry] = []
    held = 0
    for entry in entries:
        size = math.prod(entry.shape) * item
        if part and held + size > limit:
            yield part
            part, held = [], 0
        part.append(entry)
        held += size
    if part:
        yield part
