"""Under which conditions a part of a training step, or a measure, runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Leave autocast, if it is on: products inside a likelihood or a penalty would be rounded to a few digits."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode; afterwards each of their submodules is in its own mode again, come what may.

    The mode of a whole is not enough: parts of it may be frozen in evaluation mode.
    """
    before = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in before:  # a part comes after the whole, whose call reaches it
            if part.training != training:
                part.train(training)  # some do more than note it, such as to fold weights together
        for part, training in before:
            part.training = training


@contextmanager
def own_state() -> Iterator[None]:
    """Compute as if the caller had not told torch anything: with gradients, and float32 where no dtype is named."""
    with torch.inference_mode(False), torch.enable_grad():
        _DTYPE.enter()
        try:
            yield
        finally:
            _DTYPE.leave()


class _Dtype:
    """The default dtype, which is the whole process's: float32 from the first that enters to the last that leaves."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, torch.float32

    def enter(self) -> None:
        """Note what it was, and set it."""
        with self._lock:
            if not self._inside:
                self._before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            self._inside += 1

    def leave(self) -> None:
        """Put it back."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.set_default_dtype(self._before)


_DTYPE = _Dtype()


@contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """Keep the running averages of batch norm where they are during a second pass over a batch."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
