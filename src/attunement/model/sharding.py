"""A frozen base that is split over the processes of a run, so that each holds a part of its weights only.

PyTorch's FSDP2 (`fully_shard`) gathers a layer's weights right before it runs and frees them after it, forwards and backwards;
what the layers compute with are whole, plain tensors. Adapters and routers are small: every process keeps all of them.
"""

from __future__ import annotations

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from attunement.model.moe_lora import MoEModel


def split_base(model: MoEModel, device: torch.device) -> None:
    """Splits `model.base`, wherever it lies, over the devices of all processes; the rest of `model` moves to `device`.

    All processes call it with the same weights, and run the model equally often from then on.
    """
    kept = set(model.trainable_parameters())
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for module in (*model.layers, model.base):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=kept)
    for parameter in kept:
        parameter.data = parameter.data.to(device)


def base_parameters_here(model: MoEModel) -> int:
    """How many of the base's numbers this process holds."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    return sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in frozen)
