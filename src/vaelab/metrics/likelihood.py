"""Lower bounds on log p(x), in nats of the network's units, and bits per dimension.

    log p(x) ≥ E log (1/k) Σ_j w_j,     w_j = p(x | z_j) p(z_j) / q(z_j | x),     z_j ~ q(z | x)

Burda et al. 2016, eq. 8. k = 1 is the ELBO. The prior p(z) may be any density on codes, which makes this the likelihood
of a decoder *with* the density it is sampled with; of a second stage it needs an unbiased estimate of p(z) alone, so
that the bound holds through both stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model import VAE
from vaelab.model.contexts import evaluating
from vaelab.rows import blocks, rows_at_once
from vaelab.training import stream
from vaelab.types import Batches

_ROWS = 20  # encoded at once; each meets some fifty draws in one decoder call, which makes encoding cheap


class CodeDensity(Protocol):
    """A density on codes, as `vaelab.latent` has them."""

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n,) log of an unbiased estimate of p(z | c), nats."""
        ...


@dataclass(frozen=True)
class Bounds:
    """Bounds per row, nats of the network's units, float64 on the CPU.

    Attributes
    ----------
    draws
        k.
    distortion
        (n,) −E_q log p(x | z).
    kl
        Density → (n,) E_q [log q(z | x) − log p(z)], a Monte Carlo mean over the draws.
    bound
        Density → (n,) importance-weighted lower bound on log p(x).
    """

    draws: int
    distortion: Tensor
    kl: dict[str, Tensor]
    bound: dict[str, Tensor]

    def elbo(self, density: str) -> Tensor:
        """(n,) the plain lower bound, from the same draws."""
        return -self.distortion - self.kl[density]


@torch.no_grad()
def importance_weighted_bounds(
    vae: VAE,
    batches: Batches,
    *,
    densities: Mapping[str, CodeDensity] | None = None,
    draws: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Bounds:
    """Bound log p(x) for every row; memory does not grow with the number of rows or draws.

    Every density scores the same z, so that each costs no decoder call of its own.

    Parameters
    ----------
    vae
        Scored in evaluation mode.
    batches
        Rows in the network's units, on its device.
    densities
        Name → p(z); the VAE's own prior under the name ``"prior"`` if None.
    draws
        k, of z per row.
    seed
        Of the draws.
    progress
        Called with (rows done, rows in all).

    Raises
    ------
    InputError
        Fewer than one draw, or no row.
    """
    if draws < 1 or len(batches) < 1:
        raise InputError(f"{draws} draws for {len(batches)} rows", "at least one of each")
    named: Mapping[str, CodeDensity] = {"prior": _Own(vae)} if densities is None else densities
    device = next(vae.parameters()).device
    parts = []

    def generators(start: int) -> torch.Generator:
        return stream(device, seed, "importance", start)

    with evaluating(vae):
        for rows, x, c, generator in blocks(batches, device, size=_ROWS, draws=generators):
            parts.append(_block(vae, x, c, named, draws, generator))
            if progress is not None:
                progress(rows.stop, len(batches))
    return Bounds(
        draws,
        torch.cat([part.distortion for part in parts]),
        {name: torch.cat([part.kl[name] for part in parts]) for name in named},
        {name: torch.cat([part.bound[name] for part in parts]) for name in named},
    )


def _block(
    vae: VAE,
    x: Tensor,
    c: Tensor | None,
    densities: Mapping[str, CodeDensity],
    draws: int,
    generator: torch.Generator | None,
) -> Bounds:
    """Bound a few rows, some draws at a time, with running sums."""
    n = len(x)
    distortion = torch.zeros(n, dtype=torch.float64, device=x.device)
    kl = {name: torch.zeros_like(distortion) for name in densities}
    total = {name: torch.full_like(distortion, -math.inf) for name in densities}
    at_once = max(1, rows_at_once(tuple(x.shape[1:])) // n)
    for first in range(0, draws, at_once):
        noise = torch.randn(
            min(at_once, draws - first), n, vae.latent_dim, generator=generator, dtype=x.dtype, device=x.device
        )
        found = vae.importance(x, c, noise=noise)
        flat = found.z.flatten(0, 1)
        own = None if c is None else c.expand(len(noise), *c.shape).flatten(0, 1)
        distortion -= found.log_likelihood.sum(0, dtype=torch.float64)
        for name, density in densities.items():
            ratio = density.log_weight(flat, own, generator=generator).view(len(noise), n).double() - found.log_q
            kl[name] -= ratio.sum(0)
            weights = found.log_likelihood + ratio
            total[name] = torch.logaddexp(total[name], weights.logsumexp(0))
    return Bounds(
        draws,
        (distortion / draws).cpu(),
        {name: (value / draws).cpu() for name, value in kl.items()},
        {name: (value - math.log(draws)).cpu() for name, value in total.items()},
    )


@dataclass(frozen=True)
class _Own:
    """The VAE's prior as a `CodeDensity`."""

    vae: VAE

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        return self.vae.prior(c).log_prob(z)  # type: ignore[no-any-return]


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """Convert negative log-likelihoods of whole rows in nats to bits per dimension.

    It compares between programs if the density is of data in grey levels 0 … 255, dequantised: see `Dequantised`.
    """
    return nats / (dimensions * math.log(2))


@dataclass(frozen=True)
class Dequantised:
    """Rows plus uniform noise of one quantisation step; implements `vaelab.types.Batches`.

    A density at points of a grid has no upper limit. With x + u, u ~ U(−½, ½) steps, the mean log-density of x + u is a
    lower bound on the log-probability of the grid cell around x, which has (Theis et al. 2016, section 3.1).

    Attributes
    ----------
    batches
        Rows in the network's units.
    step
        Between neighbouring grid points, in the network's units: 1/255 for 8-bit images.
    """

    batches: Batches
    step: float

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.batches.event_shape

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """One standard normal per dimension."""
        return self.batches.event_shape

    def __len__(self) -> int:
        return len(self.batches)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        return type(self)(self.batches.to(device), self.step)

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return (B, *event_shape) with their noise, and the conditions or None."""
        x, c = self.batches.take(index)
        if noise is not None:
            # the distribution function of a standard normal makes it uniform
            x = x + self.step * (torch.special.ndtr(noise.to(x)) - 0.5)
        return x, c
