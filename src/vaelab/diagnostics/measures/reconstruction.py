"""How well a model rebuilds rows, and whether its decoder variance says so.

At the optimum every draw z ~ q(z | x) rebuilds x as well as the posterior mean does, and γ is the error that is left:

    error at mean   E_x ‖x − μ_x(μ_z)‖²
    error of draws  E_x E_q ‖x − μ_x(z)‖²  =  error at mean + Σ_j σ_j² ‖w_j‖²    for a linear decoder with columns w_j
    γ̂               error of draws / d, the γ of maximum likelihood

Dai & Wipf 2019, Theorems 3 and 4; Takida et al. 2022, eq. 9a (γ̂).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.diagnostics.measures.checks import check_rows
from vaelab.diagnostics.row_means import Mean, over_rows
from vaelab.model import VAE, Variance, draw
from vaelab.rows import RunningVariance
from vaelab.types import Batches


@dataclass(frozen=True)
class Reconstruction:
    """Errors of rebuilt rows, in squared units of the network.

    Attributes
    ----------
    rows
        That were rebuilt.
    error_at_mean, error_of_draws
        Squared errors summed over a row, mean over rows: of the decoder mean at the posterior mean, and at one draw of
        the posterior per row. The same for a deterministic posterior.
    gap_share
        1 − error at mean / error of draws: the part of the error that the posterior's noise makes.
    data_variance
        Of a dimension over the rows, mean over dimensions.
    explained
        1 − γ̂ / data variance.
    residual
        γ̂, a variance per dimension.
    gamma
        The γ that the model declares, mean over dimensions; None where nothing is Gaussian.
    ratio
        gamma / γ̂.
    nats
        Gained per row by γ̂ in the place of gamma: ½ Σ_i [γ̂_i/γ_i − 1 − ln(γ̂_i/γ_i)], with one γ̂ for all dimensions
        where the model has one γ. Never below the model's floor. None without a γ that is the same for all rows.
    slope, offset
        Of the regression x ≈ slope · output + intercept over all numbers, outputs at the draws: 1 and 0 at an optimum,
        where μ_x(z) is the mean of x given z. A decoder whose outputs are twice too large has slope 0.5. The offset is
        the intercept over the standard deviation of all numbers. NaN where the outputs (slope), or the rows (offset),
        are one number; the slope says little where outputs hardly differ.
    data_range, output_range
        Least and largest number of the rows, and of the outputs at the draws.
    largest_share
        Of the total variance of the rows, the part of the dimension with the most; NaN for rows that are all alike.
    """

    rows: int
    error_at_mean: Mean
    error_of_draws: Mean
    gap_share: float
    data_variance: float
    explained: float
    residual: float
    gamma: float | None
    ratio: float | None
    nats: float | None
    slope: float
    offset: float
    data_range: tuple[float, float]
    output_range: tuple[float, float]
    largest_share: float


def reconstruction(vae: VAE, batches: Batches, *, rows: int = 2000, seed: int = 0) -> Reconstruction:
    """Rebuild rows, at the posterior mean and at a draw.

    Parameters
    ----------
    vae
        Measured in evaluation mode, on its own device; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    rows
        Rows at most.
    seed
        Of rows and draws.

    Raises
    ------
    InputError
        Fewer than two rows, entries that are not finite, or a mixed table.
    """
    check_rows(vae, batches, rows, seed)
    spread, squared = RunningVariance(), RunningVariance()

    def terms(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        q = vae.encode(x, c)
        output = vae.decode(q.mean, c).to(x.dtype)
        drawn = vae.decode(draw(q, noise[0].to(x.dtype)), c).to(x.dtype)
        errors = (x - drawn).double().square().flatten(1)
        spread.add(x.flatten(1))
        squared.add(errors)
        at_mean = (x - output).double().square().flatten(1).sum(1)
        return torch.cat([at_mean[:, None], errors.sum(1)[:, None], _paired(x, drawn)], 1)

    found = over_rows(vae, batches, terms, rows=rows, normals=1, seed=seed)
    at_mean, of_draws = Mean.of(found[:, 0]), Mean.of(found[:, 1])
    variances, size = spread.variance, len(spread.variance)
    data_variance, residual = float(variances.mean()), of_draws.value / size
    variance = vae.likelihood.variance
    gamma = None if variance is None else float(variance.gamma.double().mean())
    slope, offset = _regression(found[:, 2:7], size)
    low, high = found[:, 7::2].amin(0).tolist(), found[:, 8::2].amax(0).tolist()
    return Reconstruction(
        rows=len(found),
        error_at_mean=at_mean,
        error_of_draws=of_draws,
        gap_share=1 - at_mean.value / of_draws.value if of_draws.value else 0.0,
        data_variance=data_variance,
        explained=1 - residual / data_variance if data_variance else math.nan,
        residual=residual,
        gamma=gamma,
        ratio=None if gamma is None else gamma / residual if residual else math.inf,
        nats=None if variance is None else _gained(variance, squared.mean),
        slope=slope,
        offset=offset,
        data_range=(low[0], high[0]),
        output_range=(low[1], high[1]),
        largest_share=float(variances.max() / variances.sum()),
    )


def _paired(x: Tensor, y: Tensor) -> Tensor:
    """(B, 9) of each row: both means, Sxx, Sxy and Syy about them, and least and largest of both."""
    a, b = x.flatten(1).double(), y.flatten(1).double()
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    ends = [a.amin(1), a.amax(1), b.amin(1), b.amax(1)]
    a, b = a - mean_a, b - mean_b
    sums = [a.square().sum(1), (a * b).sum(1), b.square().sum(1)]
    return torch.stack([mean_a[:, 0], mean_b[:, 0], *sums, *ends], 1)


def _regression(rows: Tensor, size: int) -> tuple[float, float]:
    """Slope, and intercept over the standard deviation of x, from the first five columns of `_paired`."""
    means, (xx, xy, yy) = rows[:, :2].mean(0), rows[:, 2:].sum(0)
    a, b = (rows[:, :2] - means).T
    xx, xy, yy = xx + size * (a @ a), xy + size * (a @ b), yy + size * (b @ b)
    slope = float(xy / yy)
    std = float((xx / (size * len(rows))).sqrt())
    # outputs that are one number leave the intercept undetermined as well: theirs is the distance of the means
    intercept = float(means[0]) - (slope if math.isfinite(slope) else 1.0) * float(means[1])
    return slope, intercept / std if std else math.nan


def _gained(variance: Variance, errors: Tensor) -> float | None:
    """½ Σ [r/γ + ln γ − r/γ' − ln γ'], γ' = r or the floor, for mean squared errors r of every dimension."""
    if variance.per_sample or variance.outputs(1) != 1:  # γ differs from row to row
        return None
    gamma = variance.gamma.double().cpu().flatten()
    size, errors = len(errors), errors if len(gamma) == len(errors) else errors.mean()[None]
    least = torch.finfo(torch.float64).tiny
    gamma, fitted = gamma.clamp(min=least), errors.clamp(min=max(variance.floor, least))
    return float(0.5 * size * (errors / gamma - errors / fitted + (gamma / fitted).log()).mean())
