"""p(z) or p(z | c): called with its condition, returns a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.errors import InputError
from vaelab.model.distributions import Cube, DiagonalNormal, StandardNormal


class Prior(nn.Module, ABC):
    """The latent prior of a VAE; ``prior(c)`` is a distribution with event shape (latent_dim,)."""

    latent_dim: int

    @abstractmethod
    def forward(self, c: Tensor | None = None) -> Distribution:
        """Return p(z | c), batch shape () or (B,)."""


@final
class Standard(Prior):
    """N(0, I), the same for every condition."""

    zeros: Tensor
    ones: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("ones", torch.ones(latent_dim), persistent=False)
        self._law = StandardNormal(self.zeros, self.ones)

    def forward(self, c: Tensor | None = None) -> StandardNormal:
        """Return N(0, I), batch shape (), whatever c is."""
        if self._law.loc is not self.zeros:  # the module was moved since the last call
            self._law = StandardNormal(self.zeros, self.ones)
        return self._law

    def extra_repr(self) -> str:
        """Show the size in ``repr``."""
        return f"latent_dim={self.latent_dim}"


@final
class Uniform(Prior):
    """The uniform law on [−1, 1]^κ, which generators of GANs read."""

    zeros: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, c: Tensor | None = None) -> Cube:
        """Return the law, batch shape (), whatever c is."""
        return Cube(self.zeros)


@final
class Conditional(Prior):
    """N(μ_p(c), diag σ_p²(c)) (Zheng et al. 2022, Definition 4).

    Parameters
    ----------
    network
        c (B, width) → (B, 2κ): means, then log σ_p.
    latent_dim
        κ.
    """

    def __init__(self, network: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.network, self.latent_dim = network, latent_dim

    def forward(self, c: Tensor | None = None) -> DiagonalNormal:
        """Return N(μ_p(c), diag σ_p²(c)), batch shape (B,).

        Raises
        ------
        InputError
            There is no condition.
        """
        if c is None:
            raise InputError("a conditional prior without a condition", "c of shape (B, width)", "Pass c.")
        loc, log_std = self.network(c).chunk(2, dim=-1)
        return DiagonalNormal(loc, log_std.exp())
