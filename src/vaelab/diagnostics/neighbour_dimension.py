"""The dimension of data by distances to nearest neighbours, without a model: what a trained count is held against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from vaelab.errors import InputError

_KEPT = 0.9  # share of the ratios, the smallest ones, that the slope is fitted to
_LEAST_ROWS = 10


def two_nn(x: NDArray[Any]) -> float:
    """Slope of −log(1 − F(μ)) on log μ, μ the ratio of the distances to the second and first neighbour.

    E. Facco, M. d'Errico, A. Rodriguez, A. Laio, "Estimating the intrinsic dimension of datasets by a minimal
    neighborhood information", Scientific Reports 2017: without the tenth of the ratios that is largest.

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

    E. Levina, P. Bickel, "Maximum Likelihood Estimation of Intrinsic Dimension", NIPS 2004, eq. 8, with the average of
    D. MacKay, Z. Ghahramani's comment on it (2005).

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


def _neighbours(x: NDArray[Any], k: int) -> NDArray[Any]:
    """(n, k) distances to the nearest neighbours, ascending, all above 0."""
    x = np.unique(np.asarray(x, dtype=np.float64).reshape(len(x), -1), axis=0)
    if len(x) < _LEAST_ROWS:
        raise InputError(f"{len(x)} different rows", f"at least {_LEAST_ROWS}")
    k = min(k, len(x) // 2)
    distances: NDArray[Any] = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0]
    found: NDArray[Any] = np.maximum(distances, math.ulp(1.0) * max(float(np.abs(x).max()), 1e-300))
    return found
