"""Records and protocols that travel between the layers.

Everything here is about *one sample at a time, in nats*: an `Objective` holds per-sample terms summed over data and
latent dimensions, and only its `total` averages over the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn


class Objective(NamedTuple):
    """One minibatch's loss in parts; all that the loop, the logs and the diagnostics read.

    A named tuple, because Fabric passes it through its forward wrapper, which refuses frozen dataclasses.

    Attributes
    ----------
    distortion
        (B,) −log p(x | z) in nats, all constants kept.
    penalties
        Name → (B,) in nats, already weighted.
    readings
        Name → detached tensor without gradient: a scalar (``gamma``), or one row per sample (``variance_ratio``).
        Their means over samples, steps and processes are what `Trainable.summary` reads.
    """

    distortion: Tensor
    penalties: dict[str, Tensor]
    readings: dict[str, Tensor]

    @property
    def per_sample(self) -> Tensor:
        """(B,) distortion plus penalties, nats; with a KL of weight 1 this is the negative ELBO."""
        total = self.distortion
        for penalty in self.penalties.values():
            total = total + penalty
        return total

    @property
    def total(self) -> Tensor:
        """Scalar: the batch mean of `per_sample`."""
        return self.per_sample.mean()


class Step(NamedTuple):
    """An optimisation step on every batch before the main one, of parameters that the main one leaves alone.

    Attributes
    ----------
    name
        Under which its loss is logged.
    parameters
        What it moves.
    loss
        (x, c, noise) → (B,), with the noise that the main step gets.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    loss: Callable[[Tensor, Tensor | None, Tensor], Tensor]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, as a multiple of the schedule's, and take part in weight decay or not."""

    parameters: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    decays: bool = True


class Trainable(nn.Module, ABC):
    """What `vaelab.training.fit` can train: a VAE of either stage, a flow, a classifier.

    ``forward(x, c=None, *, noise=None)`` returns an `Objective`. Randomness is an argument: `noise` holds independent
    standard normals of shape ``(B, *noise_shape)``. The loop draws it for the global batch and gives every process its
    share, so one process and several compute the same step.
    """

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normals that one sample uses in one step; ``(0,)`` for none."""

    @abstractmethod
    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Return the objective of one minibatch."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """All trainable parameters, each once."""
        return [ParameterGroup([p for p in self.parameters() if p.requires_grad])]

    def steps_before(self) -> list[Step]:
        """Return the steps that alternate with the main one, as a critic's with an encoder's; none by default."""
        return []

    def begin_step(self, share: float) -> None:
        """Hear, before every step, which share of the training's steps is done; nothing by default."""

    def settle(self, held_out: Batches, *, generator: torch.Generator) -> None:
        """Set what is no weight from rows that are not trained on, before these are scored; nothing by default."""

    def summary(self, readings: Mapping[str, Tensor]) -> dict[str, float]:
        """Turn averaged readings into the numbers worth logging."""
        return {name: float(value) for name, value in readings.items() if value.numel() == 1}


class Batches(Protocol):
    """Rows that can be taken by index: arrays, memory-mapped arrays, latent codes."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one x, without the batch dimension."""
        ...

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normals that one row uses when it is taken; ``(0,)`` for none."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """Move what is held in memory to the device."""
        ...

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return x, floating point, ``(len(index), *event_shape)``, and the condition or None."""
        ...
