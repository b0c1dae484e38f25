"""p(z) or p(z | c): called with its condition, returns a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.model.distributions import StandardNormal


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
