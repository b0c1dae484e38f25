"""Latent codes of a data set: q(z | x) kept as its parameters, drawn afresh each time a row is taken.

This is what every second stage and latent density is fitted on (Dai & Wipf 2019, section 4, step 2): draws from the
aggregated posterior q(z) = mean over x of q(z | x), never the means alone and never one draw kept for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vaelab.data import Conditions
from vaelab.errors import InputError
from vaelab.model import VAE, DiagonalNormal, draw
from vaelab.model.contexts import evaluating
from vaelab.rows import blocks
from vaelab.types import Batches


@dataclass(frozen=True)
class Codes:
    """q(z | x_i) for i = 1 … n; batches of fresh z for `vaelab.training.fit`.

    Attributes
    ----------
    loc, scale
        (n, κ) posterior means and standard deviations; a scale of 0 for deterministic codes.
    c
        (n, *condition_shape) conditions, or None.
    scale_tril
        (n, κ, κ) lower Cholesky factors of full covariances, of which `scale` is then the diagonal's square root;
        None for independent dimensions.

    Raises
    ------
    InputError
        The parts are not of the same number of rows and dimensions.
    """

    loc: Tensor
    scale: Tensor
    c: Conditions | None = None
    scale_tril: Tensor | None = None

    def __post_init__(self) -> None:
        if self.loc.ndim != 2 or self.scale.shape != self.loc.shape:
            got = f"means of shape {tuple(self.loc.shape)} and scales of shape {tuple(self.scale.shape)}"
            raise InputError(got, "(n, κ) both", "Full covariances go to scale_tril.")
        n, size = self.loc.shape
        if self.scale_tril is not None and self.scale_tril.shape != (n, size, size):
            raise InputError(f"scale_tril of shape {tuple(self.scale_tril.shape)}", f"({n}, {size}, {size})")
        if self.c is not None and len(self.c) != n:
            raise InputError(f"{len(self.c)} conditions for {n} codes", "one condition per code")

    @classmethod
    @torch.no_grad()
    def of(cls, vae: VAE, batches: Batches, *, batch_size: int | None = None) -> Self:
        """Encode all rows, in evaluation mode.

        Parameters
        ----------
        vae
            Its posterior is Gaussian: diagonal, full or deterministic.
        batches
            Rows in the network's units, with their conditions if the model has one.
        batch_size
            Rows at a time; fewer for larger rows by default.

        Raises
        ------
        InputError
            The posterior is of another kind.
        """
        kind = next(vae.parameters())
        batches = batches.to(kind.device)
        n, size = len(batches), vae.latent_dim
        # filled in place: many small results between freed batches would keep the allocator from giving memory back
        loc, scale = kind.new_empty(n, size), kind.new_empty(n, size)
        tril: Tensor | None = None
        conditions: Tensor | None = None
        with evaluating(vae):
            for rows, x, c, _ in blocks(batches, kind.device, size=batch_size):
                q = vae.encode(x, c)
                loc[rows], scale[rows] = q.mean, q.stddev
                own = _factor(q)
                if own is not None:
                    tril = own.new_empty(n, size, size) if tril is None else tril
                    tril[rows] = own
                if c is not None:
                    conditions = c.new_empty(n, *c.shape[1:]) if conditions is None else conditions
                    conditions[rows] = c
        return cls(loc, scale, conditions, tril)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(κ,)."""
        return (self.loc.shape[1],)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(κ,): the standard normals that make a draw."""
        return (self.loc.shape[1],)

    def __len__(self) -> int:
        return len(self.loc)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        device = torch.device(device)
        c = None if self.c is None else self.c.to(device)
        tril = None if self.scale_tril is None else self.scale_tril.to(device)
        return type(self)(self.loc.to(device), self.scale.to(device), c, tril)

    def subset(self, index: Tensor) -> Self:
        """Return some rows, in the order given."""
        tril = None if self.scale_tril is None else self.scale_tril[index]
        return type(self)(self.loc[index], self.scale[index], self._conditions(index), tril)

    @property
    def idle(self) -> Tensor:
        """(κ,) whether a dimension's means have less than a hundredth of its variance: they say nothing of the row."""
        if self.scale_tril is not None:
            return torch.zeros_like(self.loc[0], dtype=torch.bool)
        return self.loc.var(0, correction=0) < 0.01 * self.moments()[1].square()

    def joined(self, other: Self) -> Self:
        """Return the rows of both; conditions are vectors, or there are none."""
        c, tril = None, None
        if isinstance(self.c, Tensor) and isinstance(other.c, Tensor):
            c = torch.cat([self.c, other.c])
        if self.scale_tril is not None and other.scale_tril is not None:
            tril = torch.cat([self.scale_tril, other.scale_tril])
        return type(self)(torch.cat([self.loc, other.loc]), torch.cat([self.scale, other.scale]), c, tril)

    def of_dimensions(self, chosen: Tensor) -> Self:
        """Return some dimensions, by a (κ,) mask, of codes whose covariances are diagonal."""
        return type(self)(self.loc[:, chosen], self.scale[:, chosen], self.c)

    def moments(self) -> tuple[Tensor, Tensor]:
        """(κ,) mean and (κ,) standard deviation of the aggregated posterior; 1 in place of a deviation of 0."""
        mean = self.loc.mean(0, dtype=torch.float64)
        variance = self.loc.double().var(0, correction=0) + self.scale.square().mean(0, dtype=torch.float64)
        std = variance.sqrt()
        return mean.to(self.loc), std.where(std > 0, 1.0).to(self.loc)

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Draw z ~ q(z | x_i) for the given rows.

        Parameters
        ----------
        index
            (B,) rows.
        noise
            (B, κ) standard normals; None takes the posterior means.

        Returns
        -------
        z, c
            (B, κ), and (B, *condition_shape) or None.
        """
        z = self.loc[index]
        if noise is not None:
            noise = noise.to(z.dtype)
            if self.scale_tril is None:
                z = draw(DiagonalNormal(z, self.scale[index]), noise)
            else:
                z = draw(MultivariateNormal(z, scale_tril=self.scale_tril[index], validate_args=False), noise)
        return z, self._conditions(index)

    def _conditions(self, index: Tensor) -> Tensor | None:
        return None if self.c is None else self.c.index_select(0, index)

    def pairs(self, n: int | None = None, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Draw fresh codes with their conditions: of n rows at random, or of every row in order if n is None.

        Returns
        -------
        z, c
            (n, κ), and (n, *condition_shape) or None.
        """
        rows = torch.arange(len(self), device=self.loc.device)
        if n is not None:
            rows = torch.randint(len(self), (n,), generator=generator, device=self.loc.device)
        noise = torch.randn(len(rows), *self.noise_shape, generator=generator, device=self.loc.device)
        return self.take(rows, noise)

    def sample(self, n: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n, κ): the codes of `pairs` without their conditions."""
        return self.pairs(n, generator=generator)[0]


def _factor(q: Distribution) -> Tensor | None:
    """(B, κ, κ) Cholesky factors of a full covariance, None for a diagonal one."""
    if isinstance(q, MultivariateNormal):
        return q.scale_tril
    if isinstance(q, DiagonalNormal):
        return None
    raise InputError(f"a posterior of type {type(q).__name__}", "a Gaussian one")
