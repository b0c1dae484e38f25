"""Data on manifolds of known dimension: the record, and classical ones: Swiss roll, S-curve, torus, spheres, circles.

Each lies in a space of its own, or, given `d`, is carried into d dimensions by a random orthonormal map, which keeps
all distances. `noise` is the standard deviation of isotropic normal noise in the space where the points end up; the
stated dimension is that of the manifold without it. The seed fixes map, points and noise separately: the same seed
with other noise gives the same points underneath.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from vaelab.errors import InputError

_HEIGHT = 21.0  # of the Swiss roll
_MAJOR, _MINOR = 2.0, 1.0  # radii of the torus


@final
@dataclass(frozen=True, eq=False)
class Manifold:
    """Rows on a manifold, or on one for each class, and what is true of them.

    Attributes
    ----------
    x
        (n, d) points.
    u
        (n, r) intrinsic coordinates, zero beyond a class's own r; None where no chart covers the manifold.
    c
        (n, width) conditions of the dtype of x, or None.
    labels
        (n,) int64 classes, or None.
    r
        Dimension of the manifold; one for each class where classes differ.
    t
        Effective dimension of c: how many of the r degrees of freedom it determines. One for each class where classes
        differ; 0 for a class alone, or without a condition.
    """

    x: Tensor
    u: Tensor | None
    c: Tensor | None
    labels: Tensor | None
    r: int | tuple[int, ...]
    t: int | tuple[int, ...] = 0

    def __len__(self) -> int:
        return len(self.x)

    def dimension(self, label: int | None = None) -> int:
        """Return r, of one class or of all.

        Raises
        ------
        InputError
            No such class, or no label where classes differ.
        """
        return self._of_class(self.r, label)

    def conditional_dimension(self, label: int | None = None) -> int:
        """Return r − t, the dimension that is left once c is known, of one class or of all.

        Raises
        ------
        InputError
            No such class, or no label where classes differ.
        """
        return self._of_class(self.r, label) - self._of_class(self.t, label)

    def _of_class(self, values: int | tuple[int, ...], label: int | None) -> int:
        if label is not None and (self.labels is None or not bool((self.labels == label).any())):
            wanted = "no label, for data without classes" if self.labels is None else "a class of these data"
            raise InputError(f"label {label}", wanted)
        if isinstance(values, int):
            return values
        if label is not None:
            return values[label]
        if len(set(values)) > 1:
            raise InputError(f"no label, for classes of dimensions {values}", "the label of a class")
        return values[0]


def swiss_roll(
    n: int, *, d: int | None = None, noise: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Manifold:
    """Draw from the Swiss roll (a cos a, h, a sin a), of dimension 2 in 3.

    Tenenbaum et al. 2000; ranges of the parameters as in scikit-learn's `make_swiss_roll`.

    Parameters
    ----------
    n
        Rows.
    d
        Dimension of x, at least 3; None leaves the points in 3 dimensions as they are.
    noise
        Standard deviation.
    seed
        Of map, points and noise.
    dtype
        Of x and u.

    Returns
    -------
    Manifold
        x (n, d); u (n, 2) = angle a, uniform on [1.5 π, 4.5 π], and height h, uniform on [0, 21]; r = 2.

    Raises
    ------
    InputError
        n below 1, d below 3, a negative noise, a dtype that is not floating.
    """
    rows = _rows(n, 3, d, noise, seed, dtype)
    u = torch.rand(n, 2, generator=rows, dtype=torch.float64)
    angle, height = 1.5 * torch.pi * (1 + 2 * u[:, 0]), _HEIGHT * u[:, 1]
    points = torch.stack([angle * angle.cos(), height, angle * angle.sin()], 1)
    u = torch.stack([angle, height], 1)
    return Manifold(_placed(points, d, noise, seed).to(dtype), u.to(dtype), None, None, 2)


def s_curve(
    n: int, *, d: int | None = None, noise: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Manifold:
    """Draw from the S-curve (sin a, h, sign(a) (cos a − 1)), of dimension 2 in 3, uniform in area.

    Roweis & Saul 2000; ranges of the parameters as in scikit-learn's `make_s_curve`.

    Parameters
    ----------
    n
        Rows.
    d
        Dimension of x, at least 3; None leaves the points in 3 dimensions as they are.
    noise
        Standard deviation.
    seed
        Of map, points and noise.
    dtype
        Of x and u.

    Returns
    -------
    Manifold
        x (n, d); u (n, 2) = angle a, uniform on ±1.5 π, and height h, uniform on [0, 2], lengths both; r = 2.

    Raises
    ------
    InputError
        n below 1, d below 3, a negative noise, a dtype that is not floating.
    """
    rows = _rows(n, 3, d, noise, seed, dtype)
    u = torch.rand(n, 2, generator=rows, dtype=torch.float64)
    angle, height = 3 * torch.pi * (u[:, 0] - 0.5), 2 * u[:, 1]
    points = torch.stack([angle.sin(), height, angle.sign() * (angle.cos() - 1)], 1)
    u = torch.stack([angle, height], 1)
    return Manifold(_placed(points, d, noise, seed).to(dtype), u.to(dtype), None, None, 2)


def torus(
    n: int, *, d: int | None = None, noise: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Manifold:
    """Draw from a torus of radii 2 and 1, of dimension 2 in 3, uniform in area.

    Parameters
    ----------
    n
        Rows.
    d
        Dimension of x, at least 3; None leaves the points in 3 dimensions as they are.
    noise
        Standard deviation.
    seed
        Of map, points and noise.
    dtype
        Of x and u.

    Returns
    -------
    Manifold
        x (n, d); u (n, 2) = angles around the axis and around the tube, in radians; r = 2.

    Raises
    ------
    InputError
        n below 1, d below 3, a negative noise, a dtype that is not floating.
    """
    rows = _rows(n, 3, d, noise, seed, dtype)
    around, tube, chance = torch.rand(3, n, generator=rows, dtype=torch.float64)
    around, tube = 2 * torch.pi * around, 2 * torch.pi * tube
    # area grows with the distance from the axis; a mirrored angle in place of a refused one gives that law exactly
    tube = torch.where(chance < 0.5 * (1 + _MINOR / _MAJOR * tube.cos()), tube, torch.pi - tube)
    distance = _MAJOR + _MINOR * tube.cos()
    points = torch.stack([distance * around.cos(), distance * around.sin(), _MINOR * tube.sin()], 1)
    u = torch.stack([around, tube], 1)
    return Manifold(_placed(points, d, noise, seed).to(dtype), u.to(dtype), None, None, 2)


def sphere(
    n: int, r: int = 2, *, d: int | None = None, noise: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Manifold:
    """Draw uniformly from the unit sphere of dimension r in r + 1.

    Parameters
    ----------
    n
        Rows.
    r
        Dimension of the sphere, at least 1.
    d
        Dimension of x, at least r + 1; None for r + 1, without a map.
    noise
        Standard deviation.
    seed
        Of map, points and noise.
    dtype
        Of x.

    Returns
    -------
    Manifold
        x (n, d); no u, since no chart covers a sphere.

    Raises
    ------
    InputError
        n or r below 1, d below r + 1, a negative noise, a dtype that is not floating.
    """
    if r < 1:
        raise InputError(f"r={r}", "r ≥ 1")
    rows = _rows(n, r + 1, d, noise, seed, dtype)
    points = normalize(torch.randn(n, r + 1, generator=rows, dtype=torch.float64), dim=1)
    return Manifold(_placed(points, d, noise, seed).to(dtype), None, None, None, r)


def circles(
    n: int,
    count: int = 3,
    *,
    d: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Manifold:
    """Draw from concentric circles in a plane, one for each class, with radii 1, 2, 3, …: of dimension 1 in 2.

    Row i is of class i modulo `count`.

    Parameters
    ----------
    n
        Rows of all circles together, at least one for each.
    count
        Circles.
    d
        Dimension of x, at least 2; None leaves the points in their plane as they are.
    noise
        Standard deviation.
    seed
        Of map, points and noise.
    dtype
        Of x, u and c.

    Returns
    -------
    Manifold
        x (n, d); u (n, 1) = angle in radians; c (n, count) one-hot labels; labels (n,); r = 1, t = 0.

    Raises
    ------
    InputError
        No circles, fewer rows than circles, d below 2, a negative noise, a dtype that is not floating.
    """
    labels = balanced_labels(n, count, dtype)
    rows = _rows(n, 2, d, noise, seed, dtype)
    u = 2 * torch.pi * torch.rand(n, 1, generator=rows, dtype=torch.float64)
    points = (1 + labels[:, None]) * torch.cat([u.cos(), u.sin()], 1)
    c = one_hot(labels, count).to(dtype)
    return Manifold(_placed(points, d, noise, seed).to(dtype), u.to(dtype), c, labels, 1)


class Maker(Protocol):
    """What the entries of `MANIFOLDS` have in common."""

    def __call__(
        self, n: int, *, d: int | None = None, noise: float = 0.0, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Manifold:
        """Draw n points, in d dimensions if given."""
        ...


MANIFOLDS: dict[str, Maker] = {
    "swiss_roll": swiss_roll,
    "s_curve": s_curve,
    "torus": torus,
    "sphere": sphere,
    "circles": circles,
}
"""Classical manifolds by name, for callers that are given one."""


def generators(seed: int, count: int) -> list[torch.Generator]:
    """Return independent generators, so that what one draws does not depend on how much another has drawn."""
    root = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (count,), generator=root).tolist()
    return [torch.Generator().manual_seed(int(own)) for own in seeds]


def check_size(n: int, dtype: torch.dtype, classes: int = 1) -> None:
    """Raise InputError unless there is a row for each class and a floating dtype."""
    if classes < 1:
        raise InputError("no classes", "at least one")
    if n < classes:
        raise InputError(f"n={n} rows", "at least one" + (f" for each of {classes} classes" if classes > 1 else ""))
    if not dtype.is_floating_point:
        raise InputError(f"dtype={dtype}", "a floating one", "Use torch.float32 or torch.float64.")


def balanced_labels(n: int, classes: int, dtype: torch.dtype) -> Tensor:
    """Return (n,) int64 labels 0, 1, …, 0, 1, …, after `check_size`."""
    check_size(n, dtype, classes)
    return torch.arange(n) % classes


def check_noise(noise: float) -> None:
    """Raise InputError unless this can be a standard deviation."""
    if not 0 <= noise < math.inf:
        raise InputError(f"noise={noise}", "a standard deviation, at least 0")


def _rows(n: int, own: int, d: int | None, noise: float, seed: int, dtype: torch.dtype) -> torch.Generator:
    """Check what all makers take, for a manifold in `own` dimensions, and return the generator of its points."""
    check_size(n, dtype)
    if d is not None and d < own:
        raise InputError(f"d={d}", f"at least {own}, the dimensions that this manifold needs")
    check_noise(noise)
    return generators(seed, 3)[0]


def _placed(points: Tensor, d: int | None, noise: float, seed: int) -> Tensor:
    """Carry (n, own) points into d dimensions and add the noise."""
    _, mapping, added = generators(seed, 3)
    if d is not None:
        q, triangle = torch.linalg.qr(torch.randn(d, points.shape[1], generator=mapping, dtype=torch.float64))
        points = points @ (q * triangle.diagonal().sign()).T  # signs make the map uniform, and the same everywhere
    if noise:
        points = points + noise * torch.randn(points.shape, generator=added, dtype=torch.float64)
    return points
