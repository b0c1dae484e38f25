"""Devices, processes and number formats of a training, from Lightning Fabric."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from vaelab.errors import InputError
from vaelab.training.settings import Compute

if TYPE_CHECKING:
    from lightning_fabric import Fabric


# of torchrun, and of what starts processes in its place, such as submitit
_PLACE = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
T = TypeVar("T")


def launched() -> bool:
    """Whether this process was started as one of a group, by torchrun or by what sets the same variables."""
    return os.environ.keys() >= _PLACE


def join() -> None:
    """Take this process's place among those it was started with; nothing for a process of its own."""
    if launched():
        make_fabric(Compute())


def rank_and_count() -> tuple[int, int]:
    """Return the place of this process and the number of those that it works with; (0, 1) for one alone."""
    group = torch.distributed
    together = group.is_available() and group.is_initialized()
    return (group.get_rank(), group.get_world_size()) if together else (0, 1)


def gathered(value: T) -> list[T]:
    """Return each process's value, by rank, in each process."""
    _, count = rank_and_count()
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    torch.distributed.all_gather_object(values, value)
    return values


def make_fabric(compute: Compute) -> Fabric:
    """Start Fabric; a process that was started as one of a group takes its place, any other trains alone."""
    from lightning_fabric import Fabric  # costs over a second, so only where it is needed

    cuda = torch.cuda.is_available()
    if compute.accelerator == "gpu" and not cuda:
        raise InputError("accelerator='gpu' where there is none", "a CUDA device", "Use accelerator='cpu' or 'auto'.")
    accelerator = "cuda" if cuda and compute.accelerator != "cpu" else "cpu"
    if launched():
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            plugins=[TorchElasticEnvironment(), *_precision(compute, accelerator)],
        )
        started = torch.distributed.is_initialized()
        fabric.launch()
        if not started and torch.distributed.is_initialized():
            # left to the interpreter's shutdown, the threads of the process group abort the process now and then
            atexit.register(torch.distributed.destroy_process_group)
        return fabric
    return Fabric(accelerator=accelerator, devices=1, plugins=_precision(compute, accelerator))


def _precision(compute: Compute, accelerator: str) -> list[Any]:
    """Return Fabric's plugins for a number format."""
    if compute.precision in ("bf16-mixed", "16-mixed"):
        from vaelab.training.precision import MixedLayers

        return [MixedLayers(compute.precision, device=accelerator)]
    if compute.precision == "64-true":
        from vaelab.training.precision import Doubles

        return [Doubles()]
    return []  # Fabric's own is 32-true
