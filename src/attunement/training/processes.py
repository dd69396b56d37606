"""The processes that train one model together: which of them this one is, and what they tell each other.

One process drives one device. Each has all adapters and takes its part of a step's micro-batches; the gradients are added up once
a step, so that the step is that of one process. What is said over the network are sums, maxima, and what the first one decides.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from attunement.errors import EXIT_USER_ERROR, ConfigError, ModelError, UserError
from attunement.model.base import base_bytes
from attunement.records import ModelConfig, TrainingConfig
from attunement.training.recovery import is_out_of_memory

T = TypeVar("T")

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and its like set, and `workers` as well."""
REPLICA_SHARE = 0.5
"""Of a GPU's memory: a base that takes more is split. The rest is for adapters, moments and what the backward pass needs."""
LOST = ("gloo", "nccl", "connection", "socket", "broken pipe")
"""Words of the errors that a collective raises when another process is gone; they come as plain `RuntimeError`s."""


class LostProcessError(ModelError):
    """Another process of the run is gone, and no step can be taken without it."""

    def __init__(self, reason: object) -> None:
        told = (str(reason) or type(reason).__name__).splitlines()[0]
        super().__init__(
            f"another process of this run has ended, so this one ends as well: the same command goes on ({told[:200]})"
        )


class RestartError(ModelError):
    """The run's settings were adjusted, and all processes must start again."""


@dataclass
class Processes:
    """This process among those of a run. With one, every method gives back what it was given."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those of this machine: the number of its GPU."""
    sharded: bool = False
    """Whether the base is split (`model.sharding`): then all must run the model equally often."""
    _connected: bool = False

    @classmethod
    def found(cls) -> Processes:
        """Those that a launcher started: torchrun and its like, and SLURM's, LSF's and MPI's as Lightning reads them.

        Raises `ConfigError` for what Lightning does not support of them.
        """
        from lightning.fabric.plugins.environments.lsf import LSFEnvironment
        from lightning.fabric.plugins.environments.mpi import MPIEnvironment
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        if all(name in os.environ for name in LAUNCHED):
            return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
        for kind in (SLURMEnvironment, LSFEnvironment, MPIEnvironment):
            if not kind.detect():
                continue
            try:
                place = kind()
            except RuntimeError as error:
                raise ConfigError(str(error)) from error
            if place.world_size() > 1:
                told = (place.global_rank(), place.world_size(), place.main_address, place.main_port)
                os.environ.update(zip(LAUNCHED, map(str, told), strict=True))
                return cls(place.global_rank(), place.world_size(), place.local_rank())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.size > 1

    def connect(self, device: torch.device) -> None:
        """Meets the others: NCCL between GPUs, gloo between CPUs. Raises `ModelError` where they do not come."""
        if not self.first:
            logging.getLogger("attunement").setLevel(logging.ERROR)  # the first says what all see
        if not self.several or distributed.is_initialized():
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise ModelError(
                f"the {self.size} processes of the run do not meet at {address} ({str(error).splitlines()[0]}): "
                "see that all are started and that this address can be reached"
            ) from error
        self._connected = True

    def close(self) -> None:
        """Parts after all is done. After a failure it is left out: where a process is gone this may wait for it."""
        if self._connected:
            distributed.destroy_process_group()
            self._connected = False

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value, added up over the processes."""
        return self._reduced(values, distributed.ReduceOp.SUM)

    def most(self, *values: float) -> list[float]:
        """The largest of each value. No process is told before all have asked."""
        return self._reduced(values, distributed.ReduceOp.MAX)

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        if not self.several:
            return list(values)
        told = torch.tensor(list(values), dtype=torch.float64)
        with self._hearing():
            distributed.all_reduce(told, how)
        return told.tolist()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Puts the sum over the processes in the place of each gradient; one that had nothing to do adds zeros."""
        if not self.several:
            return
        with self._hearing():
            waiting = []
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                waiting.append(distributed.all_reduce(parameter.grad, async_op=True))
            for each in waiting:
                each.wait()

    def told(self, work: Callable[[], Any]) -> Any:
        """What `work` gives in the first process, by way of JSON. A `UserError` there is raised there; the others just end."""
        if not self.several:
            return work()
        found, failed = None, None
        if self.first:
            try:
                found = work()
            except UserError as error:
                failed = error
        text = torch.tensor(list(json.dumps([failed is None, found]).encode()) if self.first else [], dtype=torch.uint8)
        length = torch.tensor([len(text)])
        with self._hearing():
            distributed.broadcast(length, 0)
            text = text if self.first else torch.empty(int(length), dtype=torch.uint8)
            distributed.broadcast(text, 0)
        if failed:
            raise failed
        fine, found = json.loads(bytes(text.tolist()))
        if not fine:
            raise SystemExit(EXIT_USER_ERROR)
        return found

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives here. Memory that is used up in one process is a `MemoryError` in all, unless the base is split: then
        the others wait within the model for this one, and only a restart helps."""
        if not self.several or self.sharded:
            return work()
        found, failed = None, None
        try:
            found = work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failed = str(error) or "memory is used up"
        if self.most(failed is not None)[0]:
            raise MemoryError(failed or "memory is used up in another process")
        return found  # type: ignore[return-value]

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostProcessError(error) from error

    def lost(self, error: BaseException) -> bool:
        """Whether `error` came out of the model because another process is gone."""
        return self.several and isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST)


def devices_wanted(config: TrainingConfig, device: str) -> int:
    """Processes on this machine. Raises `ConfigError` for more than it has GPUs."""
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 0
    if config.devices == "auto":
        return max(1, gpus)
    if gpus and int(config.devices) > gpus:
        raise ConfigError(f"training.devices is {config.devices}, but this machine has {gpus}: take that, or auto")
    return int(config.devices)


def splits_base(config: TrainingConfig, model: ModelConfig, processes: Processes) -> bool:
    """Whether each process holds a part of the base only. Raises `ConfigError` for one in 8 or 4 bits, which cannot be split."""
    if not processes.several or config.strategy == "ddp":
        return False
    if config.strategy == "auto":
        memory = torch.cuda.get_device_properties(processes.local_rank).total_memory if torch.cuda.is_available() else 0
        return bool(memory) and not model.quantization and base_bytes(model.base) > REPLICA_SHARE * memory
    if model.quantization:
        raise ConfigError(
            "training.strategy=fsdp cannot split a base in 8 or 4 bits: leave model.quantization empty, or take ddp"
        )
    return True
