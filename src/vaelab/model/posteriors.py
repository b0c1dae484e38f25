"""How an encoder's output becomes q(z | x): a distribution object.

A posterior is a small strategy without weights. It says how many numbers per sample it reads and turns them into a
distribution; it never sees the encoder.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from vaelab.errors import InputError
from vaelab.model.distributions import DiagonalNormal, held, standardized


class Posterior(nn.Module, ABC):
    """q(z | x) from the encoder's raw output.

    Attributes
    ----------
    degenerate
        Whether it is a point, which has no density and an infinite KL.
    """

    degenerate = False

    @abstractmethod
    def parameter_count(self, latent_dim: int) -> int:
        """Numbers per sample that the encoder must emit."""

    @abstractmethod
    def forward(self, parameters: Tensor) -> Distribution:
        """Map (B, parameter_count) to a distribution with batch shape (B,) and event shape (latent_dim,)."""


@final
class Diagonal(Posterior):
    """N(μ_z(x), diag σ_z(x)²), the default (Zheng et al. 2022, Definition 1).

    Parameters
    ----------
    scale
        How the second half of the output becomes the standard deviation: ``"exp"`` reads log σ;
        ``"softplus"`` is 1e-6 + softplus(·), as in the InfoGAN network of the program of Dai & Wipf 2019.
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
        return DiagonalNormal(loc, held(raw).exp() if self.scale == "exp" else F.softplus(raw) + 1e-6)

    def extra_repr(self) -> str:
        """Show the link in ``repr``."""
        return f"scale={self.scale!r}"


@final
class Isotropic(Posterior):
    """N(μ_z(x), σ_z² I) with one σ_z² for all x (Takida et al. 2022, section 4).

    Parameters
    ----------
    variance
        σ_z², or where learning starts.
    learned
        Whether it is trained, as log σ_z.
    """

    def __init__(self, variance: float = 1.0, *, learned: bool = True) -> None:
        super().__init__()
        if not variance > 0:
            raise InputError(f"variance={variance}", "a positive variance", "Use Deterministic() for none at all.")
        self.log_std = nn.Parameter(torch.tensor(0.5 * math.log(variance)), requires_grad=learned)

    def parameter_count(self, latent_dim: int) -> int:
        """κ means."""
        return latent_dim

    def forward(self, parameters: Tensor) -> DiagonalNormal:
        """Map (B, κ) to a Gaussian with the same variance everywhere."""
        return DiagonalNormal(parameters, self.log_std.to(parameters.dtype).exp().expand_as(parameters))


@final
class Deterministic(Posterior):
    """Z = μ_z(x), the limit of no variance: an autoencoder; it has no KL and no ELBO."""

    degenerate = True

    def parameter_count(self, latent_dim: int) -> int:
        """κ codes."""
        return latent_dim

    def forward(self, parameters: Tensor) -> DiagonalNormal:
        """Map (B, κ) to a Gaussian of variance 0."""
        return DiagonalNormal(parameters, torch.zeros_like(parameters))


@final
class FullCovariance(Posterior):
    """N(μ_z(x), L(x) L(x)ᵀ), L lower triangular with a positive diagonal (Zheng et al. 2022, section 4.7)."""

    def parameter_count(self, latent_dim: int) -> int:
        """κ means, κ logarithms of the diagonal of L, κ(κ−1)/2 entries below it, row by row."""
        return 2 * latent_dim + latent_dim * (latent_dim - 1) // 2

    def forward(self, parameters: Tensor) -> MultivariateNormal:
        """Map (B, parameter_count) to a Gaussian."""
        size = _side(parameters.shape[-1])
        loc, log_diagonal, below = parameters.split([size, size, parameters.shape[-1] - 2 * size], dim=-1)
        tril = torch.diag_embed(held(log_diagonal).exp())
        row, column = torch.tril_indices(size, size, -1, device=parameters.device)
        tril[..., row, column] = below
        return MultivariateNormal(loc, scale_tril=tril, validate_args=False)


def _side(count: int) -> int:
    """κ from 2κ + κ(κ−1)/2."""
    return (math.isqrt(9 + 8 * count) - 3) // 2


@final
class Standardized(Posterior):
    """Another posterior in units of a prior N(m, diag s²) that comes with the parameters: (z − m)/s.

    Parameters
    ----------
    posterior
        Reads the first parameters; m and s are the last 2κ.
    latent_dim
        κ.
    """

    def __init__(self, posterior: Posterior, latent_dim: int) -> None:
        super().__init__()
        self.posterior, self.latent_dim = posterior, latent_dim

    def parameter_count(self, latent_dim: int) -> int:
        """Those of the posterior, and 2κ."""
        return self.posterior.parameter_count(latent_dim) + 2 * latent_dim

    def forward(self, parameters: Tensor) -> Distribution:
        """Map (B, parameter_count) to the standardised distribution."""
        size = self.latent_dim
        own, m, s = parameters.split([parameters.shape[-1] - 2 * size, size, size], dim=-1)
        return standardized(self.posterior(own), m, s)
