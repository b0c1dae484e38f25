"""Latent codes of a data set: q(z | x) kept as its parameters, drawn afresh each time a row is taken.

This is what every second stage and latent density is fitted on (Dai & Wipf 2019, section 4, step 2): draws from the
aggregated posterior q(z) = mean over x of q(z | x), never the means alone and never one draw kept for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model import VAE, DiagonalNormal, draw
from vaelab.types import Batches, rows_at_once


@dataclass(frozen=True)
class Codes:
    """q(z | x_i) for i = 1 … n; batches of fresh z for `vaelab.training.fit`.

    Attributes
    ----------
    loc, scale
        (n, κ) posterior means and standard deviations.
    c
        (n, width) conditions, or None.
    """

    loc: Tensor
    scale: Tensor
    c: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, vae: VAE, batches: Batches, *, batch_size: int | None = None) -> Self:
        """Encode all rows, in evaluation mode.

        Parameters
        ----------
        vae
            Its posterior must be diagonal.
        batches
            Rows in the network's units.
        batch_size
            Rows at a time; fewer for larger rows by default.
        """
        batch_size = batch_size or rows_at_once(batches.event_shape)
        was_training = vae.training
        vae.eval()
        device = next(vae.parameters()).device
        batches = batches.to(device)
        n, size = len(batches), vae.latent_dim
        # filled in place: many small results between freed batches would keep the allocator from giving memory back
        kind = next(vae.parameters())
        loc, scale = kind.new_empty(n, size), kind.new_empty(n, size)
        conditions: Tensor | None = None
        for start in range(0, n, batch_size):
            rows = slice(start, min(start + batch_size, n))
            x, c = batches.take(torch.arange(rows.start, rows.stop, device=device))
            q = vae.encode(x, c)
            if not isinstance(q, DiagonalNormal):
                raise InputError(f"a posterior of type {type(q).__name__}", "a diagonal one")
            loc[rows], scale[rows] = q.loc, q.scale
            if c is not None:
                conditions = c.new_empty(n, *c.shape[1:]) if conditions is None else conditions
                conditions[rows] = c
        vae.train(was_training)
        return cls(loc, scale, conditions)

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
        c = None if self.c is None else self.c.to(device)
        return replace(self, loc=self.loc.to(device), scale=self.scale.to(device), c=c)

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Draw z ~ q(z | x_i) for the given rows.

        Parameters
        ----------
        index
            (B,) rows.
        noise
            (B, κ) standard normals; None takes the posterior means.
        """
        loc = self.loc[index]
        z = loc if noise is None else draw(DiagonalNormal(loc, self.scale[index]), noise.to(loc.dtype))
        return z, None if self.c is None else self.c[index]

    def sample(self, n: int | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, κ) fresh codes: of n rows at random, or of every row in order if n is None."""
        rows = torch.arange(len(self), device=self.loc.device)
        if n is not None:
            rows = torch.randint(len(self), (n,), generator=generator, device=self.loc.device)
        noise = torch.randn(len(rows), *self.noise_shape, generator=generator, device=self.loc.device)
        return self.take(rows, noise)[0]
