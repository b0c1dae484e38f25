"""Devices, processes and number formats of a training, from Lightning Fabric."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any

import torch

from vaelab.errors import InputError
from vaelab.training.settings import Compute

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(compute: Compute) -> Fabric:
    """Start Fabric; under torchrun every process takes its place, else this process trains alone."""
    from lightning_fabric import Fabric  # costs over a second, so only where it is needed

    cuda = torch.cuda.is_available()
    if compute.accelerator == "gpu" and not cuda:
        raise InputError("accelerator='gpu' where there is none", "a CUDA device", "Use accelerator='cpu' or 'auto'.")
    accelerator = "cuda" if cuda and compute.accelerator != "cpu" else "cpu"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            **_precision(compute, accelerator),
        )
        started = torch.distributed.is_initialized()
        fabric.launch()
        if not started and torch.distributed.is_initialized():
            # left to the interpreter's shutdown, the threads of the process group abort the process now and then
            atexit.register(torch.distributed.destroy_process_group)
        return fabric
    return Fabric(accelerator=accelerator, devices=1, **_precision(compute, accelerator))


def _precision(compute: Compute, accelerator: str) -> dict[str, Any]:
    """Return Fabric's arguments for a number format."""
    if compute.precision in ("bf16-mixed", "16-mixed"):
        from vaelab.training.precision import MixedLayers

        return {"plugins": [MixedLayers(compute.precision, device=accelerator)]}
    if compute.precision == "64-true":
        from vaelab.training.precision import Doubles

        return {"plugins": [Doubles()]}
    return {"precision": compute.precision}
