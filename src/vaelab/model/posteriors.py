"""How an encoder's output becomes q(z | x): a distribution object.

A posterior is a small strategy without weights. It says how many numbers per sample it reads and turns them into a
distribution; it never sees the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, final

import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.model.distributions import DiagonalNormal


class Posterior(nn.Module, ABC):
    """q(z | x) from the encoder's raw output."""

    @abstractmethod
    def parameter_count(self, latent_dim: int) -> int:
        """Numbers per sample that the encoder must emit."""

    @abstractmethod
    def forward(self, parameters: Tensor) -> Distribution:
        """Map (B, parameter_count) to a distribution with batch shape (B,) and event shape (latent_dim,)."""


@final
class Diagonal(Posterior):
    """N(μ_z(x), diag σ_z(x)²), the default of Dai & Wipf 2019, Definition 1.

    Parameters
    ----------
    scale
        How the second half of the output becomes the standard deviation: ``"exp"`` reads log σ;
        ``"softplus"`` is 1e-6 + softplus(·), as in the InfoGAN network of the paper's program.
    """

    def __init__(self, scale: Literal["exp", "softplus"] = "exp") -> None:
        super().__init__()
        self.scale = scale

    def parameter_count(self, latent_dim: int) -> int:
        """2κ: means, then raw scales."""
        return 2 * latent_dim

    def forward(self, parameters: Tensor) -> DiagonalNormal:
        """Map (B, 2κ) to a diagonal Gaussian."""
        loc, raw = parameters.chunk(2, dim=-1)
        return DiagonalNormal(loc, raw.exp() if self.scale == "exp" else F.softplus(raw) + 1e-6)

    def extra_repr(self) -> str:
        """Show the link in ``repr``."""
        return f"scale={self.scale!r}"
