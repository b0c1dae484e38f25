"""Means over some rows of a data set, with what is not known of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model import VAE
from vaelab.model.contexts import evaluating
from vaelab.rows import blocks
from vaelab.training import stream
from vaelab.types import Batches


class Mean(NamedTuple):
    """A mean over rows.

    Attributes
    ----------
    value
        The mean.
    error
        Its standard error; NaN for a single row.
    """

    value: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """Average (n,) independent values."""
        values = values.double()
        return cls(float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan)

    def __str__(self) -> str:
        """Return the mean to four digits, and its error."""
        return f"{self.value:.4g} ± {self.error:.1g}"


@dataclass(frozen=True)
class Part:
    """Some rows of other batches; implements `vaelab.types.Batches`."""

    batches: Batches
    rows: Tensor

    @classmethod
    def of(cls, batches: Batches, most: int, seed: int) -> Self:
        """Take at most so many rows, at random."""
        if most < 1 or not len(batches):
            raise InputError(f"{len(batches)} rows, of which at most {most} are to be used", "at least one")
        order = torch.randperm(len(batches), generator=stream("cpu", seed, "smoothness", "rows"))
        return cls(batches, order[:most].sort().values)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.batches.event_shape

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Noise that one row takes."""
        return self.batches.noise_shape

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return type(self)(self.batches.to(device), self.rows.to(device))

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Take some of the rows."""
        return self.batches.take(self.rows[index], noise)


@torch.no_grad()
def over_rows(
    vae: VAE,
    batches: Batches,
    measure: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    *,
    rows: int,
    normals: int,
    seed: int,
) -> Tensor:
    """Measure rows at random, in evaluation mode; neither rows nor noise depend on the blocks that they come in.

    Parameters
    ----------
    vae, batches
        The model and its rows in the network's units.
    measure
        Function of x (B, *event), c or None, and standard normals (normals, B, κ).
    rows
        At most.
    normals
        Per row and latent dimension.
    seed
        Of rows and noise.

    Returns
    -------
    Tensor
        (n, …) on the CPU.
    """
    kind = next(vae.parameters())
    part = Part.of(batches, rows, seed).to(kind.device)
    generator = stream(kind.device, seed, "smoothness")
    noise = torch.randn(normals, len(part), vae.latent_dim, generator=generator, device=kind.device).to(kind.dtype)
    with evaluating(vae):
        return torch.cat([measure(x, c, noise[:, rows]).cpu() for rows, x, c, _ in blocks(part, kind.device)])
