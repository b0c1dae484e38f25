"""One Gaussian mixture over (z, c), of which the conditional is taken: p(z | c) for vectors c of any kind.

    p(z, c) = Σ_k π_k N((z, c); m_k, S_k)
    p(z | c) = Σ_k π_k(c) N(z; m_z,k + G_k (c − m_c,k), S_z|c,k)
    π_k(c) ∝ π_k N(c; m_c,k, S_cc,k),   G_k = S_zc,k S_cc,k⁻¹,   S_z|c,k = S_zz,k − G_k S_cz,k

Conditionals of a Gaussian: Bishop 2006, eq. 2.81 and 2.82. Of a mixture: Ghahramani & Jordan 1993.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self, final

import torch
from torch import Tensor

from vaelab.latent.codes import Codes
from vaelab.latent.densities import LatentDensity, Normals, check_condition
from vaelab.latent.mixtures import Covariance, check_parameters, choose, draws, maximise, vector_conditions

_MOST = 50_000  # rows of a fit
_BLOCK = 65_536  # rows scored at once


@final
class JointMixture(LatentDensity):
    """The conditional of a mixture of k Gaussians over (z, c): weights and means follow c.

    Parameters
    ----------
    weights
        (k,) summing to one.
    c_means, c_scale_trils
        (k, w) and (k, w, w): mean and lower Cholesky factor of the covariance of c.
    z_means, gains
        (k, κ) and (k, κ, w): the mean of z at c is z_means + gains (c − c_means).
    scale_trils
        (k, κ, κ): lower Cholesky factor of the covariance of z given c.
    """

    weights: Tensor
    c_means: Tensor
    c_scale_trils: Tensor
    z_means: Tensor
    gains: Tensor
    scale_trils: Tensor

    def __init__(
        self,
        weights: Tensor,
        *,
        c_means: Tensor,
        c_scale_trils: Tensor,
        z_means: Tensor,
        gains: Tensor,
        scale_trils: Tensor,
    ) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        # rows first, as a loaded one has it: products of another layout differ in their last bits
        self.register_buffer("c_means", c_means.contiguous())
        self.register_buffer("c_scale_trils", c_scale_trils.contiguous())
        self.register_buffer("z_means", z_means.contiguous())
        self.register_buffer("gains", gains.contiguous())
        self.register_buffer("scale_trils", scale_trils.contiguous())

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """(w,)."""
        return (self.c_means.shape[1],)

    @classmethod
    def of_joint(cls, weights: Tensor, means: Tensor, covariances: Tensor, *, latent_dim: int) -> Self:
        """Take the conditional of a mixture over (z, c).

        Parameters
        ----------
        weights, means, covariances
            (k,), (k, κ + w), (k, κ + w, κ + w) of the joint mixture, z before c; best in float64.
        latent_dim
            κ.
        """
        z_means, c_means = means[:, :latent_dim], means[:, latent_dim:]
        zz = covariances[:, :latent_dim, :latent_dim]
        cz = covariances[:, latent_dim:, :latent_dim]
        c_factors = torch.linalg.cholesky(covariances[:, latent_dim:, latent_dim:])
        gains = torch.cholesky_solve(cz, c_factors).mT
        # S_zz − G S_cz as S_zz − WᵀW with W = L_cc⁻¹ S_cz stays symmetric
        whitened = torch.linalg.solve_triangular(c_factors, cz, upper=False)
        factors = torch.linalg.cholesky(zz - whitened.mT @ whitened)
        return cls(weights, c_means=c_means, c_scale_trils=c_factors, z_means=z_means, gains=gains, scale_trils=factors)

    @classmethod
    def fit(cls, codes: Codes, *, components: int, covariance: Covariance = "full", seed: int = 0) -> Self:
        """Fit (z, c) by EM on one fresh draw per row (at most 50,000 rows).

        Raises
        ------
        InputError
            Fewer rows than components, or conditions that are not vectors.
        """
        vector_conditions(codes)
        z, c = draws(codes, _MOST, seed)
        assert c is not None
        found = maximise(torch.cat([z.double(), c.double()], 1), components, covariance, seed)
        size = codes.event_shape[0]
        return cls.of_joint(found.weights, found.means, found.covariances, latent_dim=size).to(codes.loc)

    @classmethod
    def select(
        cls, codes: Codes, *, components: int | None = None, covariance: Covariance | None = None, seed: int = 0
    ) -> Self:
        """Choose k and the covariance structure by held-out log p(z | c): see `vaelab.latent.mixtures.choose`."""

        def of(part: Codes, k: int, structure: Covariance) -> Self:
            return cls.fit(part, components=k, covariance=structure, seed=seed)

        return choose(of, codes, components=components, covariance=covariance, seed=seed)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Rebuild from `state_dict`.

        Raises
        ------
        InputError
            It is no mixture's.
        """
        check_parameters(state["weights"], state["c_means"], state["c_scale_trils"])
        check_parameters(state["weights"], state["z_means"], state["scale_trils"])
        return cls(
            state["weights"],
            c_means=state["c_means"],
            c_scale_trils=state["c_scale_trils"],
            z_means=state["z_means"],
            gains=state["gains"],
            scale_trils=state["scale_trils"],
        )

    def log_weights(self, c: Tensor) -> Tensor:
        """(n, k) log π_k(c) for c (n, w), nats."""
        parts = [
            log_weight + _log_normal(c - mean, factor)
            for log_weight, mean, factor in zip(self.weights.log(), self.c_means, self.c_scale_trils, strict=True)
        ]
        return torch.stack(parts, 1).log_softmax(1)

    def _mean(self, k: int, c: Tensor) -> Tensor:
        return self.z_means[k] + (c - self.c_means[k]) @ self.gains[k].T

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ) for c (n, w)."""
        c = check_condition(c, n, self.condition_shape).to(self.weights)
        noise = normals.like(n, self.z_means).to(c)
        if not n:
            return noise
        which = torch.multinomial(self.log_weights(c).exp(), 1, generator=normals.generator)[:, 0]
        out = torch.empty_like(noise)
        for k in which.unique().tolist():
            chosen = which == k
            out[chosen] = self._mean(k, c[chosen]) + noise[chosen] @ self.scale_trils[k].T
        return out

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats, for c (n, w)."""
        c = check_condition(c, len(z), self.condition_shape).to(self.weights)
        block = max(1, _BLOCK // self.components)
        return torch.cat([self._score(*part) for part in zip(z.split(block), c.split(block), strict=True)])

    def _score(self, z: Tensor, c: Tensor) -> Tensor:
        parts = [_log_normal(z - self._mean(k, c), self.scale_trils[k]) for k in range(self.components)]
        return (self.log_weights(c) + torch.stack(parts, 1)).logsumexp(1)


def _log_normal(shift: Tensor, factor: Tensor) -> Tensor:
    """(n,) log N(0, LLᵀ) at (n, d) deviations from the mean, nats."""
    white: Tensor = torch.linalg.solve_triangular(factor, shift.T, upper=False)
    constant = factor.diagonal().log().sum() + 0.5 * len(factor) * math.log(2 * math.pi)
    return -0.5 * white.square().sum(0) - constant
