"""The dimension of data by distances to nearest neighbours, without a model: what a trained count is held against."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import comb, digamma, i0e, i1e
from sklearn.neighbors import NearestNeighbors

from vaelab.errors import InputError

_KEPT = 0.9  # share of the ratios, the smallest ones, that the slope is fitted to
_LEAST_ROWS = 10
_ANGLES = 10  # neighbours of whose directions the angles are taken
_NUMBERS = 10_000_000  # of directions held at once
_BEYOND = 5  # dimensions without a better fit, after which the search ends


def two_nn(x: NDArray[Any]) -> float:
    """Slope of −log(1 − F(μ)) on log μ, μ the ratio of the distances to the second and first neighbour.

    Facco et al. 2017: without the tenth of the ratios that is largest.

    Parameters
    ----------
    x
        (n, d) rows; of equal ones each is taken once.

    Raises
    ------
    InputError
        Fewer than 10 different rows.
    """
    distances = _neighbours(x, 2)
    ratios = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    kept = int(_KEPT * len(ratios))
    share = -np.log1p(-np.arange(1, kept + 1) / len(ratios))
    return float((ratios[:kept] @ share) / (ratios[:kept] @ ratios[:kept]))


def levina_bickel(x: NDArray[Any], *, k: int = 20) -> float:
    """Maximum likelihood of a Poisson process in every neighbourhood; inverses of the local estimates are averaged.

    Levina & Bickel 2004, eq. 8, with the average that MacKay & Ghahramani 2005 propose for it.

    Parameters
    ----------
    x
        (n, d) rows; of equal ones each is taken once.
    k
        Neighbours; at most half of the rows.

    Raises
    ------
    InputError
        Fewer than 10 different rows.
    """
    logs = np.log(_neighbours(x, k))
    local = (logs[:, -1:] - logs[:, :-1]).sum(1) / (logs.shape[1] - 2)
    return float(1 / local.mean())


def danco(x: NDArray[Any]) -> float:
    """Dimension of the uniform ball whose neighbourhoods are most like those of the rows.

    Few rows in many dimensions are far apart, so that estimates from distances alone fall short. Here as many rows
    are drawn from balls of every dimension and go through the same estimates, of distances and of the angles between
    neighbours, so that what falls short does so on both sides (Ceruti et al. 2014). Of the angles' laws the median over
    rows is taken where the paper takes the mean: on a line some concentrations are infinite.

    Parameters
    ----------
    x
        (n, d) rows; of equal ones each is taken once. The time grows with n².

    Raises
    ------
    InputError
        Fewer than 12 different rows.
    """
    x = _different(x)
    k = _ANGLES
    if len(x) < k + 2:
        raise InputError(f"{len(x)} different rows", f"at least {k + 2}")
    seen = _neighbourhoods(x, k)
    fits: dict[int, float] = {}

    def unlike(d: int) -> float:
        if d not in fits:
            fits[d] = seen.divergence(_neighbourhoods(_ball(len(x), d), k), k)
        return fits[d]

    most = int(np.ptp(x, axis=0).astype(bool).sum())
    best = first = min(max(round(seen.dimension), 1), most)
    for step in (1, -1):
        d = first + step
        while 1 <= d <= most and abs(d - best) <= _BEYOND:
            best = min(best, d, key=unlike)
            d += step
    return float(best)


class _Neighbourhoods(NamedTuple):
    """What DANCo compares: a dimension by distances, and the mean angle between neighbours with its concentration."""

    dimension: float
    angle: float
    concentration: float

    def divergence(self, other: _Neighbourhoods, k: int) -> float:
        """Kullback-Leibler divergences of the law of distances and of that of angles, together."""
        ratio, i = other.dimension / self.dimension, np.arange(k + 1)
        harmonic = np.cumsum(1 / np.arange(1, k + 1))
        distances = harmonic[k - 1] * ratio - 1 - harmonic[k - 2] - math.log(ratio)
        distances -= (k - 1) * float(np.sum((-1.0) ** i * comb(k, i) * digamma(1 + i / ratio)))
        a, b = self.concentration, other.concentration
        angles = math.log(i0e(b) / i0e(a)) + b - a + i1e(a) / i0e(a) * (a - b * math.cos(self.angle - other.angle))
        return float(distances + angles)


def _neighbourhoods(x: NDArray[Any], k: int) -> _Neighbourhoods:
    """Fit the laws of the nearest of k + 1 distances over the largest, and of the angles between k neighbours."""
    distances, index = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors()
    logs = np.log(np.clip(distances[:, 0] / distances[:, k], 1e-12, 1 - 1e-12))

    def minus_log_likelihood(d: float) -> float:
        return float(-(len(x) * math.log(k * d) + (d - 1) * logs.sum() + (k - 1) * np.log1p(-np.exp(d * logs)).sum()))

    dimension = minimize_scalar(minus_log_likelihood, bounds=(1e-2, 4 * x.shape[1] + 20), method="bounded").x
    at_once = max(1, _NUMBERS // (k * x.shape[1]))
    blocks = range(0, len(x), at_once)
    cosines = np.concatenate([_cosines(x[at : at + at_once], x[index[at : at + at_once, :k]]) for at in blocks])
    sine, cosine = np.sqrt(1 - cosines**2).mean(1), cosines.mean(1)
    angles, concentrations = np.arctan2(sine, cosine), _concentration(np.hypot(sine, cosine))
    return _Neighbourhoods(float(dimension), float(np.median(angles)), float(np.median(concentrations)))


def _cosines(x: NDArray[Any], neighbours: NDArray[Any]) -> NDArray[Any]:
    """(n, k (k − 1) / 2) cosines of the angles at x, (n, d), between its k neighbours, (n, k, d)."""
    directions = neighbours - x[:, None]
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    first, second = np.triu_indices(neighbours.shape[1], 1)
    found: NDArray[Any] = np.clip((directions @ directions.swapaxes(1, 2))[:, first, second], -1, 1)
    return found


def _concentration(length: NDArray[Any]) -> NDArray[Any]:
    """Of a von Mises law whose mean direction has this length (N. Fisher, "Statistical Analysis of Circular Data")."""
    r = length
    found: NDArray[Any] = np.select(
        [r < 0.53, r < 0.85],
        [2 * r + r**3 + 5 * r**5 / 6, -0.4 + 1.39 * r + 0.43 / np.maximum(1 - r, 0.1)],
        1 / np.maximum(r**3 - 4 * r**2 + 3 * r, 1e-9),
    )
    return found


def _ball(n: int, d: int) -> NDArray[Any]:
    """(n, d) rows that are uniform in the unit ball."""
    generator = np.random.default_rng(d)
    x: NDArray[Any] = generator.normal(size=(n, d))
    x *= generator.uniform(size=(n, 1)) ** (1 / d) / np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _different(x: NDArray[Any]) -> NDArray[Any]:
    """(n, d) rows of float64, of equal ones one; in a unit in which squares of the tiniest and the largest are numbers.

    The unit is a power of two, so that no digit changes.
    """
    rows: NDArray[Any] = np.unique(np.asarray(x, dtype=np.float64).reshape(len(x), -1), axis=0)
    unit = np.frexp(np.abs(rows).max(initial=0.0))[1]
    scaled: NDArray[Any] = np.ldexp(rows, -unit)
    return scaled


def _neighbours(x: NDArray[Any], k: int) -> NDArray[Any]:
    """(n, k) distances to the nearest neighbours, ascending, all above 0."""
    x = _different(x)
    if len(x) < _LEAST_ROWS:
        raise InputError(f"{len(x)} different rows", f"at least {_LEAST_ROWS}")
    k = min(k, len(x) // 2)
    distances: NDArray[Any] = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0]
    found: NDArray[Any] = np.maximum(distances, math.ulp(1.0) * max(float(np.abs(x).max()), 1e-300))
    return found
