"""Data on manifolds of known dimension, with the truth beside the rows.

Zheng et al. 2022, sections 4.1 to 4.6: u ∈ R^r from a mixture of Gaussians, x = sigmoid(G_x u) ∈ R^d, and a condition
c that determines the first t entries of u. x fills r dimensions, and r − t once c is known. The authors' program
differs from the text; `Law` says in what, and `PROGRAM` is the program's.

The seed alone fixes the manifold and the law of u; n only says how many points are drawn. Points are independent: for
a test set on the same manifold, draw all rows together and divide them. Everything is computed in float64 and rounded
to `dtype` at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vaelab.data.manifolds import Manifold, balanced_labels, check_noise, check_size, generators
from vaelab.errors import InputError


@final
@dataclass(frozen=True)
class Law:
    """Of u, and of what is made of it.

    Attributes
    ----------
    weights
        Of the mixture's components, up to their sum.
    noise
        Standard deviation of what is added to u.
    bias
        Whether x = sigmoid(G_x u + b) with a random b, rather than sigmoid(G_x u).
    """

    weights: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)
    noise: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        check_noise(self.noise)
        if not self.weights or min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
            raise InputError(f"weights={self.weights}", "numbers from 0, not all of them 0")


PAPER = Law()
"""Five components alike, as in section 4.1."""

PROGRAM = Law((0.2, 0.3, 0.5, 0.3, 0.2), noise=1.0, bias=True)
"""That of the authors' program."""


def mixture_coordinates(
    n: int, r: int, *, law: Law = PAPER, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw u from a mixture of Gaussians (Zheng et al. 2022, section 4.1).

    Means and log standard deviations of each component are N(0, 1) for each dimension.

    Parameters
    ----------
    n
        Rows.
    r
        Dimensions.
    law
        Of u.
    seed
        Of components and rows.
    dtype
        Of the result.

    Returns
    -------
    Tensor
        (n, r).

    Raises
    ------
    InputError
        n or r below 1, a dtype that is not floating.
    """
    check_size(n, dtype)
    if r < 1:
        raise InputError(f"r={r}", "r ≥ 1")
    shape, rows = generators(seed, 2)
    return _mixture(n, r, law, shape, rows).to(dtype)


def sigmoid_manifold(
    n: int,
    d: int,
    r: int,
    *,
    t: int = 0,
    condition: Literal["linear", "coordinates"] = "linear",
    law: Law = PAPER,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Manifold:
    """Draw x = sigmoid(G_x u), with a condition on the first t entries of u (Zheng et al. 2022, Tables 1, 3, 7).

    u is drawn as `mixture_coordinates` does. Entries of G_x, G_c and a bias are uniform on ±1/√(columns), the scale of
    a linear layer in the authors' program.

    Parameters
    ----------
    n
        Rows.
    d
        Dimension of x.
    r
        Dimension of the manifold, at most d; with r = d the points fill a volume.
    t
        Effective dimension of c, at most r; 0 for no condition.
    condition
        ``"linear"``: c = G_c u_{1:t}, with G_c (t, t) invertible. ``"coordinates"``: c = u_{1:t} (Table 3).
    law
        Of u and x.
    seed
        Of the manifold, the law of u and the rows.
    dtype
        Of x, u and c.

    Returns
    -------
    Manifold
        x (n, d) in [0, 1], u (n, r), c (n, t) or None, no labels.

    Raises
    ------
    InputError
        Sizes below 1, r > d, t > r, an unknown condition, a dtype that is not floating.
    """
    check_size(n, dtype)
    check_dimensions(d, r)
    if not 0 <= t <= r:
        raise InputError(f"t={t} with r={r}", "0 ≤ t ≤ r")
    if condition not in ("linear", "coordinates"):
        raise InputError(f"condition={condition!r}", "'linear' or 'coordinates'")
    mapping, mixing, shape, rows = generators(seed, 4)
    u = _mixture(n, r, law, shape, rows)
    c = u[:, :t]
    if condition == "linear" and t:
        c = c @ _uniform((t, t), t, mixing).T
    x = affine(u, d, mapping, bias=law.bias).sigmoid()
    return Manifold(x.to(dtype), u.to(dtype), c.to(dtype) if t else None, None, r, t)


def union_of_manifolds(
    n: int,
    d: int,
    dims: Sequence[int] = (1, 2, 3, 4, 5),
    *,
    law: Law = PAPER,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Manifold:
    """Draw from one sigmoid manifold for each class, c its one-hot label (Zheng et al. 2022, Table 5).

    Every class has a G_x and a mixture of its own; see `sigmoid_manifold`. Row i is of class i modulo the number
    of classes, so they are as many of each, up to one.

    Parameters
    ----------
    n
        Rows of all classes together, at least one for each.
    d
        Dimension of x.
    dims
        Dimension r of each class's manifold, at most d.
    law
        Of every class's u and x.
    seed
        Of manifolds and rows.
    dtype
        Of x, u and c.

    Returns
    -------
    Manifold
        x (n, d), u (n, max(dims)) padded with zeros, c (n, classes), labels (n,), r = dims, t = 0.

    Raises
    ------
    InputError
        No classes, fewer rows than classes, a dimension below 1 or above d, a dtype that is not floating.
    """
    dims = tuple(dims)
    labels = balanced_labels(n, len(dims), dtype)
    check_dimensions(d, *dims)
    x = torch.empty(n, d, dtype=torch.float64)
    u = torch.zeros(n, max(dims), dtype=torch.float64)
    streams = generators(seed, 3 * len(dims))
    for label, r in enumerate(dims):
        mapping, shape, rows = streams[3 * label : 3 * label + 3]
        own = labels == label
        coordinates = _mixture(int(own.sum()), r, law, shape, rows)
        u[own, :r] = coordinates
        x[own] = affine(coordinates, d, mapping, bias=law.bias).sigmoid()
    return Manifold(x.to(dtype), u.to(dtype), one_hot(labels, len(dims)).to(dtype), labels, dims)


def varying_condition(
    n: int,
    d: int,
    r: int = 12,
    ts: Sequence[int] = (2, 4, 6, 8, 10),
    *,
    law: Law = PAPER,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Manifold:
    """Draw from one sigmoid manifold of which c reveals more or less (Zheng et al. 2022, section 4.4, Table 6).

    c is the first t entries of u, padded with zeros to the longest; t differs from row to row. All rows share one G_x
    and one law of u. Row i has ts[i modulo len(ts)], so they are as many of each, up to one.

    Parameters
    ----------
    n
        Rows of all t together, at least one for each.
    d
        Dimension of x.
    r
        Dimension of the manifold, at most d.
    ts
        Effective dimensions of c, from 1 to r.
    law
        Of u and x.
    seed
        Of the manifold and the rows.
    dtype
        Of x, u and c.

    Returns
    -------
    Manifold
        x (n, d), u (n, r), c (n, max(ts)), labels (n,) that index ts, r, t = ts.

    Raises
    ------
    InputError
        No ts, fewer rows than ts, r > d, a t below 1 or above r, a dtype that is not floating.
    """
    ts = tuple(ts)
    labels = balanced_labels(n, len(ts), dtype)
    check_dimensions(d, r)
    if not all(1 <= t <= r for t in ts):
        raise InputError(f"ts={ts} with r={r}", "1 ≤ t ≤ r for each")
    whole = sigmoid_manifold(n, d, r, t=max(ts), condition="coordinates", law=law, seed=seed, dtype=dtype)
    assert whole.c is not None  # since t > 0
    revealed = torch.arange(max(ts)) < torch.tensor(ts)[labels][:, None]
    return Manifold(whole.x, whole.u, whole.c * revealed, labels, r, ts)


def check_dimensions(d: int, *dims: int) -> None:
    """Refuse manifolds of dimensions below 1 or above d."""
    for r in dims:
        if not 1 <= r <= d:
            raise InputError(f"r={r} with d={d}", "1 ≤ r ≤ d")


def _mixture(n: int, r: int, law: Law, shape: torch.Generator, rows: torch.Generator) -> Tensor:
    """Draw (n, r) float64: components by `shape`, rows by `rows`."""
    means, log_scales = torch.randn(2, len(law.weights), r, generator=shape, dtype=torch.float64)
    component = torch.multinomial(torch.tensor(law.weights), n, replacement=True, generator=rows)
    within, added = torch.randn(2, n, r, generator=rows, dtype=torch.float64)
    scales = log_scales.exp()
    return torch.addcmul(means[component], scales[component], within).add_(added, alpha=law.noise)


def affine(u: Tensor, d: int, generator: torch.Generator, *, bias: bool) -> Tensor:
    """(n, d) G u with a random G, or G u + b with a random b beside."""
    r = u.shape[1]
    weight = _uniform((d, r), r, generator)
    return u @ weight.T + (_uniform((d,), r, generator) if bias else 0)


def _uniform(shape: tuple[int, ...], columns: int, generator: torch.Generator) -> Tensor:
    """Draw from the uniform law on ±1/√columns, float64."""
    bound = 1 / math.sqrt(columns)
    return torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
