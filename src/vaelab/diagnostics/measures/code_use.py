"""What a code is used for: nats per latent dimension, dimensions in use, and what gets through to the output.

    KL_j     = E_x ½ [μ_j² + λ_j − 1 − ln λ_j]       for the prior N(0, I); in general in units of the prior's law
    I(x; z)  : what the code says about its row
    I(x; x') : what the output says about it, x' = μ_x(μ_z(x)) + √γ̂ ε

A collapse of the KL (no dimension used, I(x; z) = 0) makes I(x; x') = 0, but not the other way round: a decoder may
ignore a code that is full.

Takida et al. 2022, section 3.2 (both collapses) and eq. D.1 (the estimate).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vaelab.diagnostics.dimension import Dimension, count_dimensions
from vaelab.diagnostics.measures.checks import check_rows
from vaelab.diagnostics.mutual_information import MutualInformation, mutual_information, mutual_information_bound
from vaelab.diagnostics.row_means import Part, over_rows
from vaelab.latent import Codes
from vaelab.model import VAE, DiagonalNormal, Isotropic, draw, kl, variance_ratio
from vaelab.model.contexts import evaluating
from vaelab.types import Batches

_MOST_NUMBERS = 20_000_000  # of codes, of their covariances, or of outputs
_AT_ONCE = 4_000_000  # numbers of covariances that are decomposed together
IN_USE = 0.5
"""λ below which a dimension carries something, however little."""

_NEGLIGIBLE = 1e-6  # squared distance of outputs, relative to the noise


@dataclass(frozen=True)
class CodeUse:
    """What a code is used for.

    Attributes
    ----------
    latent_dim
        κ.
    rows
        That were encoded.
    degenerate
        Whether the posterior is a point, without a KL.
    kl
        (κ,) mean KL of every dimension, nats; None for a full covariance or a deterministic posterior.
    total_kl
        Mean KL[q(z | x) ‖ p(z)], nats per row; None for a deterministic posterior.
    ratios
        (κ,) mean variance ratios λ_j, of a full covariance those of its eigenvalues in ascending order; None for a
        deterministic posterior.
    dimension
        How many dimensions are in use; None where a posterior has no variance of its own for every dimension.
    active
        Those that `dimension` counts, by the gap if it is clear, else by the threshold; None without it.
    information
        Bounds on I(x; z); None where it is infinite, for codes without noise.
    transmitted
        Bounds on I(x; x') through outputs at the posterior mean, with noise of variance γ̂, the mean squared error of
        draws, whatever γ the model declares. The posterior's noise counts only through γ̂: I(x; x') is below
        both this and `information`. None where rows are rebuilt without error, so that it is infinite.
    code_variance
        (κ,) variance of the aggregated posterior: that of the means, and the mean of the variances.
    """

    latent_dim: int
    rows: int
    degenerate: bool
    kl: Tensor | None
    total_kl: float | None
    ratios: Tensor | None
    dimension: Dimension | None
    active: int | None
    information: MutualInformation | None
    transmitted: MutualInformation | None
    code_variance: Tensor

    @property
    def used(self) -> int | None:
        """Dimensions with λ below 0.5; under a large γ one that carries something need not come below 0.05."""
        return None if self.ratios is None else int((self.ratios < IN_USE).sum())


def code_use(vae: VAE, batches: Batches, *, points: int = 5000, seed: int = 0) -> CodeUse:
    """Measure what a code is used for.

    Parameters
    ----------
    vae
        Measured in evaluation mode, on its own device; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    points
        Rows at most; fewer for large codes, or for large outputs where these are compared, so that memory stays small.
        Time grows with their square.
    seed
        Of rows and draws.

    Raises
    ------
    InputError
        Fewer than two rows, entries that are not finite, a mixed table, or a posterior that is not Gaussian.
    """
    check_rows(vae, batches, points, seed)
    with torch.no_grad():
        part = Part.of(batches, _affordable(points, vae, batches), seed)
        codes = Codes.of(vae, part)
    degenerate = vae.posterior.degenerate
    each, total, ratios = (None, None, None) if degenerate else _against_prior(vae, codes)
    own = None if ratios is None or isinstance(vae.posterior, Isotropic) else count_dimensions(ratios, seed=seed)
    noisy = bool((codes.scale > 0).all())
    loc = codes.loc.double()
    return CodeUse(
        latent_dim=vae.latent_dim,
        rows=len(codes),
        degenerate=degenerate,
        kl=each,
        total_kl=total,
        ratios=None if ratios is None else ratios.mean(0),
        dimension=own,
        active=None if own is None else int(own.active.sum()),
        information=mutual_information(codes, points=points, seed=seed) if noisy else None,
        transmitted=_transmitted(vae, batches, points, seed),
        code_variance=(loc.var(0, correction=0) + codes.scale.double().square().mean(0)).cpu(),
    )


def _affordable(points: int, vae: VAE, batches: Batches) -> int:
    """Rows whose codes stay small, with their covariances where these are full."""
    kind = next(vae.parameters())
    x, c = Part.of(batches, 1, 0).to(kind.device).take(torch.zeros(1, dtype=torch.int64, device=kind.device))
    with evaluating(vae):
        full = isinstance(vae.encode(x, c), MultivariateNormal)
    return max(2, min(points, _MOST_NUMBERS // (vae.latent_dim**2 if full else 2 * vae.latent_dim)))


@torch.no_grad()
def _against_prior(vae: VAE, codes: Codes) -> tuple[Tensor | None, float, Tensor]:
    """(κ,) mean KL of every dimension, or None for full covariances, the mean KL, and (n, κ) ratios."""
    size, full = vae.latent_dim, codes.scale_tril is not None
    step = max(1, _AT_ONCE // (size**2 if full else size))
    each, total, ratios = torch.zeros(size, dtype=torch.float64, device=codes.loc.device), 0.0, []
    for index in torch.arange(len(codes), device=codes.loc.device).split(step):
        own = codes.subset(index)
        _, c = own.take(torch.arange(len(own), device=index.device))
        p = vae.prior(c)
        q: Distribution = DiagonalNormal(own.loc, own.scale)
        if own.scale_tril is not None:
            q = MultivariateNormal(own.loc, scale_tril=own.scale_tril, validate_args=False)
        ratio = variance_ratio(q, p).double().expand(len(index), -1)
        if not full:
            each += 0.5 * (((own.loc - p.mean) / p.stddev).double().square() + ratio - 1 - ratio.log()).sum(0)
        total += float(kl(q, p, own.loc).double().sum())
        ratios.append(ratio.cpu())
    return None if full else each.cpu() / len(codes), total / len(codes), torch.cat(ratios)


def _transmitted(vae: VAE, batches: Batches, points: int, seed: int) -> MutualInformation | None:
    """I(x; x') through the outputs at the posterior mean and noise of variance γ̂."""
    size = torch.Size(batches.event_shape).numel()

    def outputs(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        q = vae.encode(x, c)
        parameters = vae.decoder(draw(q, noise[0].to(x.dtype)), c).to(x.dtype)
        error = vae.likelihood.squared_error(parameters, x).flatten(1).mean(1, keepdim=True)
        return torch.cat([vae.decode(q.mean, c).to(x.dtype).flatten(1), error], 1)

    points = max(2, min(points, _MOST_NUMBERS // size))
    found = over_rows(vae, batches, outputs, rows=points, normals=1, seed=seed)
    gamma = float(found[:, -1].mean(dtype=torch.float64))
    if not gamma > 0:
        return None
    return mutual_information_bound(_coordinates(found[:, :-1], gamma), gamma, points=points, seed=seed)


def _coordinates(means: Tensor, gamma: float) -> Tensor:
    """(n, r) coordinates of (n, d) means along the directions in which they differ; distances stay as they are.

    Noise across the other directions is the same for every row, and cancels in ratios of densities.
    """
    means = means - means.mean(0)
    n, d = means.shape
    if d <= n:
        values, vectors = torch.linalg.eigh((means.T @ means).double())
        coordinates = means.double() @ vectors
    else:
        values, vectors = torch.linalg.eigh((means @ means.T).double())
        coordinates = vectors * values.clamp(min=0).sqrt()
    # ascending, so that the first ones may go; the last one stays for means that are all alike
    dropped = int((values.clamp(min=0).cumsum(0) <= _NEGLIGIBLE * gamma * n).sum())
    kept: Tensor = coordinates[:, min(dropped, len(values) - 1) :]
    return kept
