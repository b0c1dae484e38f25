"""How many directions of a set of rows stand out of noise.

The eigenvalues of the rows' covariance are compared, rank by rank from the largest, with those of rows whose columns
were permuted each on its own, which keeps the variance of every dimension and undoes what they have in common:

    Horn 1965.

Here each row is first divided by its size, which is put back after the permutation: rows of unequal size, of which a
few make up most of the covariance, are no directions. Columns that carry a direction keep its variance in the
comparison, so that a weak direction beside strong ones in the same columns may be missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.training import stream

_COPIES = 2
_MARGIN = 3.0  # standard errors of a variance of n rows
_AT_ONCE = 1_000_000  # numbers of a block
SHOWN = 64
"""Eigenvalues that are kept."""


@dataclass(frozen=True)
class Directions:
    """What stands out of noise.

    Attributes
    ----------
    spectrum
        (at most 64,) largest eigenvalues of the covariance over the mean of all d, descending.
    count
        Eigenvalues, from the largest, that are larger than those of permuted rows by more than chance.
    share
        Of the total variance, what lies in these directions.
    nats
        Per row, what a Gaussian gains over an isotropic one with them: ½ [d ln ē − Σ_{i≤k} ln e_i − (d − k) ln γ']
        with ē the mean of all eigenvalues e_i and γ' that of the last d − k (Tipping & Bishop 1999, its maximum
        likelihood); less what as many directions of permuted rows gain, which is chance and the unequal variances of
        dimensions. Not below 0.
    """

    spectrum: Tensor
    count: int
    share: float
    nats: float


def parallel_analysis(rows: Tensor, *, seed: int = 0) -> Directions:
    """Count the directions of (n, d) rows that stand out of noise.

    Parameters
    ----------
    rows
        (n, d). One more matrix of their size is held.
    seed
        Of the permutations.
    """
    rows = rows - rows.mean(0)
    n, d = rows.shape
    own = _eigenvalues(rows)
    total = float(own.sum())
    if not total > 0:
        return Directions(own[:SHOWN], 0, 0.0, 0.0)
    copies = [_eigenvalues(_permuted(rows, seed, copy)) for copy in range(_COPIES)]
    chance = torch.stack(copies).amax(0)
    above = own > chance * (1 + _MARGIN * (2 / n) ** 0.5)
    count = min(int(above.cumprod(0).sum()), d - 1)
    gain = _gain(own, count, d) - sum(_gain(copy, count, d) for copy in copies) / _COPIES
    return Directions(own[:SHOWN] * (d / total), count, float(own[:count].sum()) / total, max(0.0, gain))


def _eigenvalues(rows: Tensor) -> Tensor:
    """(min(n, d),) descending eigenvalues of the covariance of centred rows, from the smaller of its two matrices."""
    n, d = rows.shape
    across = rows if d <= n else rows.T
    size = across.shape[1]
    product = torch.zeros(size, size, dtype=torch.float64)
    step = max(1, _AT_ONCE // size)
    for block in across.split(step):
        product += (block.T @ block).double()
    values: Tensor = torch.linalg.eigvalsh(product / n)
    return values.clamp(min=0).flip(0)


def _permuted(rows: Tensor, seed: int, copy: int) -> Tensor:
    """(n, d) centred rows, every column permuted on its own, with the sizes of the rows and of the columns."""
    n, d = rows.shape
    generator = stream("cpu", seed, "parallel analysis", copy)
    sizes = rows.square().mean(1, keepdim=True).sqrt()
    out = torch.empty_like(rows)
    step = max(1, _AT_ONCE // n)
    for start in range(0, d, step):
        part = rows[:, start : start + step]
        order = torch.rand(part.shape, generator=generator).argsort(0)
        mixed = torch.where(sizes > 0, part / sizes, 0.0).gather(0, order) * sizes
        mixed = mixed - mixed.mean(0)
        scale = (part.square().sum(0) / mixed.square().sum(0)).sqrt()
        out[:, start : start + step] = mixed * torch.where(scale.isfinite(), scale, 0.0)
    return out


def _gain(eigenvalues: Tensor, count: int, d: int) -> float:
    """Nats per row that a Gaussian with `count` directions gains over an isotropic one; 0 for none."""
    least = torch.finfo(torch.float64).tiny
    kept, rest = eigenvalues[:count], eigenvalues[count:].sum() / (d - count)
    mean = eigenvalues.sum() / d
    logs = kept.clamp(min=least).log().sum() + (d - count) * rest.clamp(min=least).log()
    return float(0.5 * (d * mean.clamp(min=least).log() - logs))
