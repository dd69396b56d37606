"""A run over a base that already is a sparse Mixture of Experts, as a standard model: the base's own architecture, LoRA merged.

Nothing is renamed and no router is added: each of the base's tensors is read, its low-rank term is added in float64, and it
is written under its own name, shard by shard, as `Export` does. PEFT is not needed for that, only for the check by logits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from attunement.errors import ModelError
from attunement.model.architectures import Style
from attunement.model.checkpoint import ADAPTER, DENSE, SPARSE, find_checkpoint, read_description
from attunement.model.export import Entry, Export
from attunement.model.sparse import ADAPTER_NAME
from attunement.security.age_files import is_encrypted

EXPERT = re.compile(r"(?P<block>.+)\.(?:mlp|block_sparse_moe)\.experts\.(?P<number>\d+)\.(?P<part>\w+)\.weight")
"""A base's file has each expert by itself; Mixtral's calls the feed-forward otherwise than the model in memory."""
PARTS = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}


def plan_export(model: Path, *, base: str | None = None, dtype: str = "", dense: bool = False) -> Export:
    """The `Export` of a run or checkpoint, whatever its base. Raises what `Export` raises."""
    kind = read_description(checkpoint := find_checkpoint(model)).get("kind", DENSE)
    if is_encrypted(checkpoint / ADAPTER):  # tensors are taken out of it one by one, for which it would have to lie plain on disk
        raise ModelError(f"{checkpoint} is encrypted: export the run that it came from, or decrypt its {ADAPTER} with age")
    return (SparseExport if kind == SPARSE else Export)(model, base=base, dtype=dtype, dense=dense)


class SparseExport(Export):
    """What a checkpoint over a sparse base would be as a model of the base's architecture."""

    _dense_advice = ""

    def _target(self, base: Any) -> tuple[Any, Style]:
        return base, Style(base.model_type)

    def entries(self) -> list[Entry]:
        """Every tensor of the export. Raises `ModelError` where the base's files name its experts in an unknown way."""
        with safe_open(self.checkpoint / ADAPTER, "pt") as file:
            adapted = {_module(name) for name in file.keys()}  # noqa: SIM118
        sites = {_site(name)[0] for name in self._files}
        if lost := sorted(name for name in adapted if name.removesuffix(".base_layer") not in sites):
            raise ModelError(
                f"the files of '{self.base_name}' have no tensors for {lost[0].removeprefix('base.')} (they name them in another way), "
                "so nothing can be merged into them: export with --format adapter"
            )
        return super().entries()

    def _entries_of(self, name: str, shape: tuple[int, ...], trained: Mapping[str, tuple[int, ...]]) -> list[Entry]:
        module, number, part = _site(name)
        a, b = _factors(module)
        if not part:
            if a not in trained:
                return [Entry(name, shape, lambda: self._plain(name))]
            return [Entry(name, shape, lambda: self._plain(name) + self.scale * self._trained(b) @ self._trained(a))]
        # Two sets of factors lie one in the other, in PEFT's order: shapes, [2f, d] and [d, f], tell which is which.
        wanted = (shape[0], shape[1]) if part == "down" else (2 * shape[0], shape[1])
        inner, outer = _factors(f"{module}.base_layer"), (a, b)
        a, b = next(pair for pair in (outer, inner) if (trained[pair[1]][0], trained[pair[0]][1]) == wanted)
        return [Entry(name, shape, lambda: self._plain(name) + self._of_expert(a, b, number, part))]

    def _of_expert(self, a: str, b: str, number: int, part: str) -> Tensor:
        """What the factors add to one expert's projection (`sparse.py` on how PEFT holds them)."""
        rank, experts = self.settings.lora_rank, self.settings.num_experts
        first, second = self._trained(b)[:, number::experts], self._trained(a)[number * rank : (number + 1) * rank]
        product = self.scale * first @ second
        if part == "down":
            return product
        gate, up = product.chunk(2)
        return gate if part == "gate" else up


def _site(name: str) -> tuple[str, int, str]:
    """The module whose factors change the base's tensor `name`; of an expert's also its number and part."""
    found = EXPERT.fullmatch(name)
    if found and found["part"] in PARTS:
        return f"base.{found['block']}.mlp.experts", int(found["number"]), PARTS[found["part"]]
    return f"base.{name.removesuffix('.weight')}", -1, ""


def _factors(module: str) -> tuple[str, str]:
    return f"{module}.lora_A.{ADAPTER_NAME}.weight", f"{module}.lora_B.{ADAPTER_NAME}.weight"


def _module(factor: str) -> str:
    return factor.partition(".lora_")[0]
