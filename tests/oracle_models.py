"""VAEs that are known to be optimal, or to do one thing only, with rows of exact moments; float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaelab.model import VAE, Deterministic, Diagonal, FixedVariance, FullCovariance, Gaussian, Likelihood


class Linear(nn.Module):
    """x → x Wᵀ + b, then `constant` behind it; a condition is ignored."""

    def __init__(self, weight: Tensor, bias: Tensor | float = 0.0, constant: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.as_tensor(bias, dtype=weight.dtype))
        self.constant = constant

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        out = x.flatten(1) @ self.weight.T + self.bias
        return out if self.constant is None else torch.cat([out, self.constant.expand(len(x), -1)], 1)


def exact_rows(variances: Tensor, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, d) Gaussian rows of mean 0, whose covariance U diag(variances) Uᵀ is exact, and U."""
    generator = torch.Generator().manual_seed(seed)
    d = len(variances)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T, correction=0))).T
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return x * variances.sqrt() @ turn.T, turn


def probabilistic_pca(
    variances: Tensor,
    axes: Tensor,
    gamma: float,
    *,
    declared: float | None = None,
    posterior: str = "diagonal",
    scale: float = 1.0,
    offset: float = 0.0,
) -> VAE:
    """The VAE that Tipping & Bishop's maximum likelihood gives: λ_j = γ/e_j, μ_j = √(e_j − γ)/e_j u_jᵀ x.

    Parameters
    ----------
    variances, axes
        (κ,) eigenvalues e_j above γ and (d, κ) directions u_j.
    gamma
        Mean of the other eigenvalues.
    declared
        γ that the likelihood says; `gamma` by default.
    posterior
        "diagonal", "full" or "deterministic".
    scale, offset
        Of the outputs, in which the decoder goes wrong.
    """
    kappa = len(variances)
    strength = (variances - gamma).sqrt()
    log_std = 0.5 * (gamma / variances).log()
    constant = {"diagonal": log_std, "full": torch.cat([log_std, log_std.new_zeros(kappa * (kappa - 1) // 2)])}
    family = {"diagonal": Diagonal(), "full": FullCovariance(), "deterministic": Deterministic()}[posterior]
    return VAE(
        Linear((axes * (strength / variances)).T, constant=constant.get(posterior)),
        Linear(scale * axes * strength, offset),
        latent_dim=kappa,
        posterior=family,
        likelihood=Gaussian(FixedVariance(gamma if declared is None else declared)),
        regularizers=[] if posterior == "deterministic" else None,
    ).double()


def silent(event_shape: tuple[int, ...], likelihood: Likelihood | None = None, *, dtype=torch.float64) -> VAE:
    """A model whose code is full, N(x_1, 0.01), and whose outputs are 0: residuals are the rows."""
    d = torch.Size(event_shape).numel()
    first = torch.zeros(1, d)
    first[0, 0] = 1.0

    class Zeros(nn.Module):
        def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
            return z.new_zeros(len(z), *event_shape)

    encoder = Linear(first, constant=torch.log(torch.tensor([0.1], dtype=dtype)))
    likelihood = likelihood or Gaussian(FixedVariance(1.0))
    return VAE(encoder, Zeros(), latent_dim=1, likelihood=likelihood).to(dtype)
