"""Two-sample distances: pure functions of feature matrices or of their moments, in float64.

Matrices of pairs are never held whole: they are summed in blocks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.metrics.moments import Moments, check_widths, comparable

_PANEL = 256  # rows of pairs at a time, and columns of a triangular product
_ENTRIES = 1 << 22  # most projected values held at once, 32 MB
_PIVOT = 1e-10  # least pivot, relative to the diagonal, at which a Cholesky factor is trusted
_ACCURACY = 1e-8  # wanted of tr (C₁ C₂)^½, relative to the traces; estimates of it have been 100 times too careful


class KernelDistance(NamedTuple):
    """Kernel distance over random subsets.

    Attributes
    ----------
    mean
        Estimate of the squared maximum mean discrepancy; unbiased, so it may be slightly negative.
    std
        Standard deviation over subsets (divided by their number): the spread of one subset, not the error of the mean.
    """

    mean: float
    std: float


@torch.no_grad()
def frechet_distance(x: Moments, y: Moments) -> float:
    """Squared Fréchet distance of two Gaussians, ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½); FID, with Inception features.

    Dowson & Landau 1982; Heusel et al. 2017, eq. 6.

    Covariances may be singular: fewer rows than features, constant features, features that depend on one another.
    The error is around 1e-9 of tr(C₁ + C₂) or less, so equal moments give 0 up to that. Biased upwards for few rows:
    compare only distances from equal numbers of rows.

    Parameters
    ----------
    x, y
        Moments of at least two rows each, of the same features.

    Returns
    -------
    float
        Squared units of the features, at least 0.

    Raises
    ------
    InputError
        Different widths, or moments of fewer than two rows.
    """
    check_widths(x, y)
    if min(x.n, y.n) < 2:
        raise InputError(f"moments of {x.n} and {y.n} rows", "at least 2 each", "Give more rows.")
    traces = float(x.scatter.trace()) / (x.n - 1) + float(y.scatter.trace()) / (y.n - 1)
    root = _trace_of_root(x.scatter, y.scatter) / math.sqrt((x.n - 1) * (y.n - 1))
    return max(0.0, float((x.mean - y.mean).square().sum()) + traces - 2 * root)


def _trace_of_root(a: Tensor, b: Tensor) -> float:
    """Tr (a b)^½ of two positive semidefinite matrices.

    It is the sum of the singular values of F_a F_bᵀ, where a = F_aᵀ F_a. If Cholesky gives a = L Lᵀ, their squares are
    the eigenvalues of Lᵀ b L: quick, but roots of small eigenvalues are uncertain. Where that matters, or both are
    singular, the singular values are computed themselves, from factors restricted to the range.
    """
    for first, second in ((a, b), (b, a)):
        lower, failed = torch.linalg.cholesky_ex(first)
        if not failed:
            values = torch.linalg.eigvalsh(_congruent(lower, second)).clamp(min=0).sqrt()
            if _uncertainty(values) <= _ACCURACY * math.sqrt(a.trace() * b.trace()):
                return float(values.sum())
            break
    return float(torch.linalg.svdvals(_factor(a) @ _factor(b).T).sum())


def _uncertainty(roots: Tensor) -> float:
    """Error of the sum of square roots of eigenvalues that each carry a rounding error of the largest.

    A root s moves by error / 2s, in either direction. Roots below the square root of the error are noise, and all of
    one sign.
    """
    error = torch.finfo(roots.dtype).eps * float(roots.max().square())
    noise = roots <= 8 * math.sqrt(error)
    moved = error / (2 * roots[~noise])
    return float(moved.square().sum().sqrt()) + int(noise.sum()) * 2 * math.sqrt(error)


def _congruent(lower: Tensor, b: Tensor) -> Tensor:
    """Lᵀ b L, its lower triangle only; panel by panel, so that zeros are not multiplied."""
    d = len(b)
    right, out = torch.empty_like(b), torch.zeros_like(b)
    for start in range(0, d, _PANEL):
        panel = slice(start, start + _PANEL)
        torch.mm(b[:, start:], lower[start:, panel], out=right[:, panel])
    for start in range(0, d, _PANEL):
        panel = slice(start, start + _PANEL)
        torch.mm(lower[start:, panel].T, right[start:, : panel.stop], out=out[panel, : panel.stop])
    return out


def _factor(c: Tensor) -> Tensor:
    """(r, d) F with c = FᵀF, of the numerical rank r."""
    lower, failed = torch.linalg.cholesky_ex(c)
    # pivots are the shares of variance that the features before do not explain; above rounding, none is noise
    if not failed and bool((lower.diagonal().square() > _PIVOT * c.diagonal()).all()):
        return cast(Tensor, lower).T
    values, vectors = torch.linalg.eigh(c)
    kept = values > len(c) * torch.finfo(c.dtype).eps * values[-1]
    factor: Tensor = values[kept].sqrt()[:, None] * vectors[:, kept].T
    return factor


@torch.no_grad()
def polynomial_mmd2(x: Tensor, y: Tensor, *, degree: int = 3, coef0: float = 1.0) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (xᵀy/d + coef0)^degree, on all rows.

    Bińkowski et al. 2018, section 4; Gretton et al. 2012, eq. 3.

    Parameters
    ----------
    x, y
        (n, d) and (m, d) samples, at least two rows each.
    degree
        Power of the kernel, at least 1.
    coef0
        Constant of the kernel.

    Returns
    -------
    float
        0 in expectation for equal laws; may be slightly negative.

    Raises
    ------
    InputError
        See `vaelab.metrics.moments.comparable`, or a degree below 1.
    """
    if degree < 1:
        raise InputError(f"degree={degree}", "an integer ≥ 1")
    x, y = comparable(x, y, names=("x", "y"), min_rows=2)
    return _mmd2(x.double(), y.double(), lambda a, b: (a @ b.T).div_(a.shape[1]).add_(coef0).pow_(degree))


@torch.no_grad()
def kernel_distance(
    x: Tensor, y: Tensor, *, subsets: int = 100, subset_size: int = 1000, generator: torch.Generator | None = None
) -> KernelDistance:
    """Mean and spread of `polynomial_mmd2` (degree 3) over random subsets; with Inception features, KID.

    Bińkowski et al. 2018, section 4.

    Parameters
    ----------
    x, y
        (n, d) and (m, d) samples, at least two rows each.
    subsets
        How many, at least 1. If both samples have exactly `subset_size` rows, one does.
    subset_size
        Rows of x and of y in each, drawn without replacement; at most min(n, m) are taken.
    generator
        Draws the subsets; None for a fixed one, the same on every call.

    Raises
    ------
    InputError
        See `vaelab.metrics.moments.comparable`; no subsets, or fewer than two rows in each.
    """
    if subsets < 1 or subset_size < 2:
        raise InputError(f"subsets={subsets}, subset_size={subset_size}", "at least 1 subset of at least 2 rows")
    x, y = comparable(x, y, names=("x", "y"), min_rows=2)
    size = min(subset_size, len(x), len(y))
    if size == len(x) == len(y):
        return KernelDistance(polynomial_mmd2(x, y), 0.0)
    generator = _fixed() if generator is None else generator
    values = torch.tensor(
        [polynomial_mmd2(_subset(x, size, generator), _subset(y, size, generator)) for _ in range(subsets)],
        dtype=torch.float64,
    )
    return KernelDistance(float(values.mean()), float(values.std(correction=0)))


@torch.no_grad()
def sliced_wasserstein(
    x: Tensor, y: Tensor, *, projections: int = 500, generator: torch.Generator | None = None
) -> float:
    """Sliced 2-Wasserstein distance: root mean square, over random directions, of the 1-D distances.

    Bonneel et al. 2015. Each 1-D distance is exact, also for different numbers of rows: both quantile functions are
    piecewise constant.

    Parameters
    ----------
    x, y
        (n, d) and (m, d) samples, at least one row each.
    projections
        Directions, uniform on the sphere.
    generator
        Draws the directions; None for a fixed one, the same on every call.

    Returns
    -------
    float
        Units of the features; a shift by t gives about ‖t‖/√d.

    Raises
    ------
    InputError
        See `vaelab.metrics.moments.comparable`; no projections.
    """
    if projections < 1:
        raise InputError(f"projections={projections}", "at least 1")
    x, y = comparable(x, y, names=("x", "y"))
    x, y = x.double(), y.double()
    generator = _fixed() if generator is None else generator
    directions = torch.randn(projections, x.shape[1], dtype=torch.float64, device=generator.device, generator=generator)
    directions = torch.nn.functional.normalize(directions).to(x.device)
    weights, of_x, of_y = _coupling(len(x), len(y), x.device)
    total = 0.0
    for part in directions.split(max(1, _ENTRIES // (len(x) + len(y)))):
        quantiles_x, quantiles_y = (part @ x.T).sort(1).values, (part @ y.T).sort(1).values
        if len(x) != len(y):
            quantiles_x, quantiles_y = quantiles_x[:, of_x], quantiles_y[:, of_y]
        total += float(((quantiles_x - quantiles_y).square_() @ weights).sum())
    return math.sqrt(total / projections)


def _coupling(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces on which both quantile functions, of n and of m points, are constant: weights and the ranks of the points.

    In units of 1/(n m) the first jumps at multiples of m, the second at multiples of n, so that integers are exact.
    """
    starts = torch.cat([torch.arange(n, device=device) * m, torch.arange(m, device=device) * n]).unique()
    ends = torch.cat([starts[1:], starts.new_tensor([n * m])])
    return (ends - starts).double() / (n * m), starts // m, starts // n


@torch.no_grad()
def energy_distance(x: Tensor, y: Tensor) -> float:
    """Energy distance 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖, its unbiased estimate; 0 in expectation for equal laws.

    Székely & Rizzo 2013, eq. 6, without the terms of a point with itself. May be slightly negative.

    Parameters
    ----------
    x, y
        (n, d) and (m, d) samples, at least two rows each.

    Raises
    ------
    InputError
        See `vaelab.metrics.moments.comparable`.
    """
    x, y = comparable(x, y, names=("x", "y"), min_rows=2)
    return -_mmd2(*centred(x, y), lambda a, b: squared_distances(a, b).sqrt_())


def centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d + 1) and (m, d + 1) float64 rows less the mean of x, each followed by its squared norm."""
    mean = x.mean(0, dtype=torch.float64)
    rows = [torch.cat([z - mean, mean.new_zeros(len(z), 1)], 1) for z in (x, y)]
    for z in rows:
        z[:, -1] = torch.linalg.vector_norm(z, dim=1).square_()
    return rows[0], rows[1]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) squared distances between rows as `centred` gives them; rounding is relative to their squared norms."""
    across = torch.addmm(b[:, -1], a[:, :-1], b[:, :-1].T, alpha=-2)
    return across.add_(a[:, -1:]).clamp_(min=0)


def _mmd2(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Mean of the kernel within x, plus within y, less twice across; no row is paired with itself."""
    within = 0.0
    for z in (x, y):
        below = 0.0
        for start in range(0, len(z), _PANEL):
            rows = z[start : start + _PANEL]
            pairs = kernel(rows, z[: start + len(rows)])
            below += float(pairs[:, :start].sum()) + float(pairs[:, start:].tril_(-1).sum())
        within += 2 * below / (len(z) * (len(z) - 1))
    across = sum(float(kernel(rows, y).sum()) for rows in x.split(_PANEL)) / (len(x) * len(y))
    return within - 2 * across


def _subset(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(size, d) rows drawn without replacement."""
    return x[torch.randperm(len(x), generator=generator, device=generator.device)[:size].to(x.device)]


def _fixed() -> torch.Generator:
    return torch.Generator().manual_seed(0)
