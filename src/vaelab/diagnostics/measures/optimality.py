"""Whether the posterior's variance is what the decoder and γ ask for.

With J the decoder mean's Jacobian at the posterior mean, the ELBO with the decoder linear around it is highest for

    Σ_z = (I + Jᵀ J / γ)⁻¹                          Dai & Wipf 2019, eqs. 83 and 84
    σ_j² = 1 / (1 + (Jᵀ J)_jj / γ)                  the same among diagonal covariances

in the units of the prior. Solved for γ, every entry of a posterior says which decoder variance it was trained with:
that of the loss as it was computed, whatever γ the model declares. A squared error that was averaged over d dimensions
shows as γ = d/2 or d, and a KL of weight β as β times the γ declared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.diagnostics.measures.axes import axis_ratios
from vaelab.diagnostics.row_means import over_rows
from vaelab.errors import InputError
from vaelab.model import ACTIVE_BELOW, VAE, Bernoulli, Gaussian, Isotropic
from vaelab.training import stream
from vaelab.types import Batches

_IDLE_FROM = 0.9  # λ from which 1 − λ says more about noise than about γ
_FEWEST = 8  # entries that identify γ
_FEWEST_ROWS, _PUSHED = 8, 15_000_000  # rows at least, and numbers in the Jacobians of more
_COLUMNS = 10_000_000  # numbers of Jacobians held at once
_LEAST = 1e-6  # variance of a pixel under a Bernoulli


@dataclass(frozen=True)
class Optimality:
    """The posterior's variances beside those that its decoder asks for.

    Attributes
    ----------
    axes
        (k,) latent dimensions measured: all, or those of smallest λ.
    found
        (R, k) λ_j of every row, see `vaelab.diagnostics.measures.axes.axis_ratios`.
    curvature
        (R, k) (JᵀJ)_jj in the units of the prior, squared units of the network. Where the decoder variance differs
        between dimensions or rows, each square counts by `gamma` over its own variance.
    gamma
        Decoder variance of the model at these rows, their mean; of a Bernoulli μ(1 − μ).
    implied_gamma
        γ under which the posterior would be optimal, the median over the entries that identify it; None where too few
        do. To be compared with `gamma`.
    implied_low, implied_high
        Quartiles of these entries.
    identified
        Entries used: 0 < λ < 0.9 and some curvature.
    expected
        (R, k) optimal λ_j at the implied γ; at `gamma` where there is none.
    misfit
        Median size of log found − log expected over the entries of which one or the other is below 0.9; 0 if none is.
    orthogonality
        Mean size of the cosines between columns of J that belong to active dimensions: at an optimum among diagonal
        covariances it is 0 (Rolínek et al. 2019). None for fewer than two of them.
    """

    axes: Tensor
    found: Tensor
    curvature: Tensor
    gamma: float
    implied_gamma: float | None
    implied_low: float | None
    implied_high: float | None
    identified: int
    expected: Tensor
    misfit: float
    orthogonality: float | None


def optimality(vae: VAE, batches: Batches, *, rows: int = 64, most_axes: int = 64, seed: int = 0) -> Optimality | None:
    """Compare the posterior's variances with the closed form of their optimum.

    Parameters
    ----------
    vae
        Measured in evaluation mode; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    rows
        Rows at most; each costs a forward-mode product per axis. Fewer, down to 8, of rows with more than about 3,000
        numbers.
    most_axes
        Latent dimensions at most.
    seed
        Of rows and ties between axes.

    Returns
    -------
    Optimality or None
        None for a deterministic posterior, or a likelihood that is neither Gaussian nor Bernoulli.

    Raises
    ------
    InputError
        No rows, or no axes.
    """
    if most_axes < 1:
        raise InputError(f"most_axes={most_axes}", "at least 1")
    if vae.posterior.degenerate or not isinstance(vae.likelihood, Gaussian | Bernoulli):
        return None
    columns_per_row = min(most_axes, vae.latent_dim) * math.prod(batches.event_shape)
    rows = min(rows, max(_FEWEST_ROWS, _PUSHED // columns_per_row))
    every = over_rows(
        vae, batches, lambda x, c, noise: axis_ratios(vae.encode(x, c), vae.prior(c)), rows=rows, normals=0, seed=seed
    )
    axes = _smallest(every.mean(0), most_axes, seed)
    kept = len(axes)

    def columns(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        at_once = max(1, _COLUMNS // (kept * x[0].numel()))
        parts = (
            jacobian_products(vae, part, None if c is None else c[start : start + at_once], axes)
            for start, part in zip(range(0, len(x), at_once), x.split(at_once), strict=True)
        )
        return torch.cat(list(parts))

    measured = over_rows(vae, batches, columns, rows=rows, normals=0, seed=seed)
    gamma, gram = float(measured[:, -1].mean()), measured[:, :-1].unflatten(1, (kept, kept))
    found, curvature = every[:, axes], gamma * gram.diagonal(dim1=1, dim2=2)
    # one variance for all has its optimum at the mean curvature
    fitted = curvature.mean().expand_as(curvature) if isinstance(vae.posterior, Isotropic) else curvature
    active = found.mean(0) < ACTIVE_BELOW
    used = (found > 0) & (found < _IDLE_FROM) & (fitted > 0)
    implied = _quartiles((fitted * found / (1 - found))[used])
    expected = 1 / (1 + fitted / (gamma if implied is None else implied[1]))
    return Optimality(
        axes=axes,
        found=found,
        curvature=curvature,
        gamma=gamma,
        implied_gamma=None if implied is None else implied[1],
        implied_low=None if implied is None else implied[0],
        implied_high=None if implied is None else implied[2],
        identified=int(used.sum()),
        expected=expected,
        misfit=_misfit(found, expected),
        orthogonality=_cosine(gram[:, active][:, :, active]),
    )


def _smallest(ratios: Tensor, most: int, seed: int) -> Tensor:
    """Pick (k,) indices of the smallest ratios, ascending; among equal ones at random."""
    order = torch.randperm(len(ratios), generator=stream("cpu", seed, "axes"))
    return order[ratios[order].argsort(stable=True)[:most]].sort().values


def jacobian_products(vae: VAE, x: Tensor, c: Tensor | None, axes: Tensor) -> Tensor:
    """(B, k² + 1) inner products of the columns of J over the decoder's variance, and the mean variance; float64."""
    q, p = vae.encode(x, c), vae.prior(c)
    z, scale = q.mean, p.stddev.expand_as(q.mean)
    variance = _variance(vae, x, z, c)
    pushed = []
    for axis in axes.tolist():
        v = torch.zeros_like(z)
        v[:, axis] = scale[:, axis]
        column = torch.func.jvp(lambda at: vae.decode(at, c), (z,), (v,))[1]
        pushed.append((column * variance.rsqrt()).flatten(1))
    jacobian = torch.stack(pushed, 1).double()
    mean = variance.double().expand(x.shape).flatten(1).mean(1, keepdim=True)
    return torch.cat([(jacobian @ jacobian.mT).flatten(1), mean], 1)


def _variance(vae: VAE, x: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
    """Variance of every number under the likelihood at z, broadcastable to x."""
    parameters = vae.decoder(z, c).to(x.dtype)
    if isinstance(vae.likelihood, Gaussian):
        return vae.likelihood.variance_of(parameters, x)
    mean = vae.likelihood.mean(parameters)
    return (mean * (1 - mean)).clamp(min=_LEAST)


def _quartiles(entries: Tensor) -> tuple[float, float, float] | None:
    """Quartiles, taken of logarithms; None of too few."""
    if len(entries) < _FEWEST:
        return None
    low, middle, high = entries.log().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).exp().tolist()
    return low, middle, high


def _misfit(found: Tensor, expected: Tensor) -> float:
    tiny = torch.finfo(found.dtype).tiny
    apart = (found.clamp(min=tiny).log() - expected.clamp(min=tiny).log()).abs()
    active = torch.minimum(found, expected) < _IDLE_FROM
    return float(apart[active].median()) if bool(active.any()) else 0.0


def _cosine(gram: Tensor) -> float | None:
    """Mean |cos| between different columns, of (R, a, a) inner products."""
    count = gram.shape[1]
    if count < 2:
        return None
    lengths = gram.diagonal(dim1=1, dim2=2).sqrt()
    cosines = gram.abs() / (lengths[:, :, None] * lengths[:, None, :])
    value = float(cosines[:, *torch.triu_indices(count, count, 1)].nanmean())
    return None if math.isnan(value) else value
