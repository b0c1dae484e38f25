"""What a model leaves of the rows: where its errors are large, and whether they have directions in common.

A Gaussian likelihood with one γ takes residuals x − μ_x(z), z ~ q(z | x), for isotropic noise. At the optimum they are:
of probabilistic PCA they are N(0, γI) exactly. Three departures are measured, in nats per row that they cost:

    variances that differ between dimensions    Diag-I    ½ Σ_i ln(v̄ / v_i)
    variances that differ between rows          Iso-D     ½ d E ln(v̄ / v_n)
    directions in common                                  what a larger code or a stronger decoder would explain

The shapes are those of Takida et al. 2022, section 5.1. For directions see
`vaelab.diagnostics.measures.parallel_analysis`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaelab.diagnostics.measures.checks import check_rows
from vaelab.diagnostics.measures.parallel_analysis import parallel_analysis
from vaelab.diagnostics.row_means import Mean, over_rows
from vaelab.model import VAE, draw
from vaelab.rows import RunningVariance
from vaelab.training import stream
from vaelab.types import Batches

Shape = Literal["iso-i", "diag-i", "iso-d", "diag-d"]

_MOST_NUMBERS = 20_000_000  # of the matrix of residuals
_MOST_PRODUCTS = 20_000_000_000  # of its smaller Gram matrix
_VARIES_FROM = 1e-6  # of the largest variance of a dimension
_CLEAR = 0.02  # nats per dimension: about what variances that differ by a factor of 1.3 gain


@dataclass(frozen=True)
class Residuals:
    """Residuals of one draw per row, in squared units of the network.

    Attributes
    ----------
    rows
        n, fewer for large rows, so that their matrix and its products stay small.
    per_dimension
        Of one row's shape: mean squared residual of every dimension.
    per_row
        (n,) mean squared residual of every row.
    spread_dimensions, spread_rows
        90th over 10th percentile of `per_dimension`, of dimensions that vary in the data, and of `per_row`, whose
        spread is about 1 + 3.6/√d for isotropic noise.
    gains
        ``"diag-i"`` and ``"iso-d"`` → nats per row gained over one γ, in the dimensions that vary. Variances are fitted
        on one half and scored on the other, of rows and of dimensions; each is shrunk by one observation
        of the mean. About 0 or below for isotropic noise.
    suggested
        The shape of γ that pays: both where both gains are clear, which is above 0 by two standard errors and above
        0.02 nats per dimension.
    spectrum
        (at most 64,) largest eigenvalues of the covariance over the mean of all, descending: 1 for isotropic
        noise and many rows.
    structured
        Directions that stand out of noise of the same variances.
    structured_share
        Of the residuals' variance, what lies in them.
    expected_nats
        Per row, what a model with these directions added would gain, as in `parallel_analysis.Directions`.
    """

    rows: int
    per_dimension: Tensor
    per_row: Tensor
    spread_dimensions: float
    spread_rows: float
    gains: dict[str, float]
    suggested: Shape
    spectrum: Tensor
    structured: int
    structured_share: float
    expected_nats: float


def residuals(vae: VAE, batches: Batches, *, rows: int = 2000, seed: int = 0) -> Residuals:
    """Look at what a model leaves of some rows.

    Parameters
    ----------
    vae
        Measured in evaluation mode, on its own device; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    rows
        Rows at most.
    seed
        Of rows, draws, halves and permutations.

    Raises
    ------
    InputError
        Fewer than four rows, entries that are not finite, or a mixed table.
    """
    event = batches.event_shape
    rows = min(rows, _most_rows(torch.Size(event).numel()))
    check_rows(vae, batches, rows, seed, least=4)
    spread = RunningVariance()

    def left(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        spread.add(x.flatten(1))
        return (x - vae.decode(draw(vae.encode(x, c), noise[0].to(x.dtype)), c).to(x.dtype)).flatten(1)

    found = over_rows(vae, batches, left, rows=rows, normals=1, seed=seed)
    squared = found.square()
    per_dimension, per_row = squared.mean(0, dtype=torch.float64), squared.mean(1, dtype=torch.float64)
    varies = spread.variance > _VARIES_FROM * spread.variance.max()
    gains = _gains(squared[:, varies], seed)
    directions = parallel_analysis(found, seed=seed)
    return Residuals(
        rows=len(found),
        per_dimension=per_dimension.view(event),
        per_row=per_row,
        spread_dimensions=_spread(per_dimension[varies]),
        spread_rows=_spread(per_row),
        gains={name: gain.value for name, gain in gains.items()},
        suggested=_suggested(gains, int(varies.sum())),
        spectrum=directions.spectrum,
        structured=directions.count,
        structured_share=directions.share,
        expected_nats=directions.nats,
    )


def _most_rows(size: int) -> int:
    """Rows whose matrix of residuals and whose Gram matrix stay affordable."""
    affordable = max(_MOST_PRODUCTS // size**2, math.isqrt(_MOST_PRODUCTS // size))
    return max(4, min(_MOST_NUMBERS // size, affordable))


def _spread(variances: Tensor) -> float:
    """90th over 10th percentile, at most 1e12; 1 for none."""
    if not len(variances) or not float(variances.max()) > 0:
        return 1.0
    low, high = variances.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
    return float(high / max(low, 1e-12 * high)) if high else 1.0


def _gains(squared: Tensor, seed: int) -> dict[str, Mean]:
    """Nats per row that each shape gains over one γ, for (n, d) squared residuals."""
    generator = stream("cpu", seed, "residuals")
    n, d = squared.shape
    mean = float(squared.mean(dtype=torch.float64)) if d else 0.0
    if d < 2 or not mean > 0:
        return {"diag-i": Mean(0.0, 0.0), "iso-d": Mean(0.0, 0.0)}
    halves = torch.randperm(n, generator=generator).tensor_split(2)
    diagonal = [_of_dimensions(squared[fit], squared[score]) for fit, score in (halves, halves[::-1])]
    sides = torch.randperm(d, generator=generator).tensor_split(2)
    by_row = sum(_of_rows(squared[:, fit], squared[:, score]) for fit, score in (sides, sides[::-1]))
    return {"diag-i": Mean.of(torch.cat(diagonal)), "iso-d": Mean.of(torch.as_tensor(by_row))}


def _of_dimensions(fit: Tensor, score: Tensor) -> Tensor:
    """(rows to score,) nats gained by one variance per dimension, fitted on other rows."""
    mean = fit.mean(dtype=torch.float64)
    own = (fit.sum(0, dtype=torch.float64) + mean) / (len(fit) + 1)
    return 0.5 * (score.double() @ (1 / mean - 1 / own) + (mean / own).log().sum())


def _of_rows(fit: Tensor, score: Tensor) -> Tensor:
    """(n,) nats gained by one variance per row, fitted on other dimensions, whose level may be another."""
    mean, level = fit.mean(dtype=torch.float64), score.mean(dtype=torch.float64)
    if not float(mean) > 0 or not float(level) > 0:
        return torch.zeros(len(fit), dtype=torch.float64)
    own = level * (fit.sum(1, dtype=torch.float64) / mean + 1) / (fit.shape[1] + 1)
    each = score.sum(1, dtype=torch.float64)
    return 0.5 * (each * (1 / level - 1 / own) + score.shape[1] * (level / own).log())


def _suggested(gains: dict[str, Mean], size: int) -> Shape:
    clear = {name: gain.value > max(2 * gain.error, _CLEAR * size) for name, gain in gains.items()}
    if clear["diag-i"] and clear["iso-d"]:
        return "diag-d"
    return "diag-i" if clear["diag-i"] else "iso-d" if clear["iso-d"] else "iso-i"
