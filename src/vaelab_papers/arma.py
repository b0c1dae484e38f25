"""Sequences whose points are of known dimension, also once the points before them are known.

Zheng et al. 2022, section 4.6: autoregressive-moving-average processes seen through a linear map. As in
`vaelab_papers.synthetic`, the seed alone fixes the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from vaelab.data.manifolds import check_size, generators
from vaelab.errors import InputError
from vaelab_papers.synthetic import affine, check_dimensions

AR = (1.0, -0.5, 0.25, -0.4)
"""Autoregressive polynomial in the lag operator: y_t − 0.5 y_{t−1} + 0.25 y_{t−2} − 0.4 y_{t−3} = …"""

MA = (1.0, 0.65, 0.35)
"""Moving-average polynomial in the lag operator: … = e_t + 0.65 e_{t−1} + 0.35 e_{t−2}"""

_INNOVATION = 0.5  # standard deviation of e_t
_BURN_IN = 500  # steps; the slowest mode of AR shrinks by 0.81 a step


@final
@dataclass(frozen=True, eq=False)
class Sequences:
    """Windows of a sequence, of which the last point is x and the points before it are c.

    Windows overlap: divide them at a point in time, not at random, if a test set is to be unseen.

    Attributes
    ----------
    sequences
        (n, window, d) windows in the order of time, one step apart.
    u
        (n, window, r) the processes behind them.
    r
        Dimension of x, also once c is known: every step has r innovations of its own.
    """

    sequences: Tensor
    u: Tensor
    r: int

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def x(self) -> Tensor:
        """(n, d) last points."""
        return self.sequences[:, -1]

    @property
    def c(self) -> Tensor:
        """(n, window − 1, d) points before the last."""
        return self.sequences[:, :-1]


def arma_sequences(
    length: int,
    r: int = 10,
    d: int = 20,
    window: int = 6,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Sequences:
    """Draw windows of r independent ARMA processes seen through a linear map (Zheng et al. 2022, Table 8).

    Polynomials `AR` and `MA`, innovations N(0, 0.5²), stationary from the first step. Entries of the map and its bias
    are uniform on ±1/√r.

    Parameters
    ----------
    length
        Steps of the sequence, at least `window`; 20,000 in the paper.
    r
        Processes.
    d
        Dimension of the points, at least r.
    window
        Points in a window, at least 2.
    seed
        Of the map and the processes.
    dtype
        Of the result.

    Returns
    -------
    Sequences
        length − window + 1 windows.

    Raises
    ------
    InputError
        A window below 2 or longer than the sequence, sizes below 1, r > d, a dtype that is not floating.
    """
    check_size(length, dtype)
    check_dimensions(d, r)
    if not 2 <= window <= length:
        raise InputError(f"window={window} with length={length}", "2 ≤ window ≤ length")
    mapping, innovations = generators(seed, 2)
    e = _INNOVATION * torch.randn(_BURN_IN + length, r, generator=innovations, dtype=torch.float64)
    y = arma(e)[_BURN_IN:]
    series = affine(y, d, mapping, bias=True)
    x, u = (values.to(dtype).unfold(0, window, 1).mT.contiguous() for values in (series, y))
    return Sequences(x, u, r)


def arma(innovations: Tensor, ar: Sequence[float] = AR, ma: Sequence[float] = MA) -> Tensor:
    """Filter innovations e to y with Σ_i ar_i y_{t−i} = Σ_j ma_j e_{t−j}, from zeros.

    Box & Jenkins 1970, chapter 3, with polynomials in the lag operator that hold their signs.

    Parameters
    ----------
    innovations
        (length, r) of r processes.
    ar, ma
        Coefficients from lag 0 on; ar[0] is 1.

    Returns
    -------
    Tensor
        (length, r) float64.

    Raises
    ------
    InputError
        Innovations that are no matrix, empty polynomials, ar[0] other than 1.
    """
    if innovations.ndim != 2:
        raise InputError(f"innovations of shape {tuple(innovations.shape)}", "(length, r)")
    if not ma or not ar or ar[0] != 1:
        raise InputError(f"ar={tuple(ar)}, ma={tuple(ma)}", "coefficients from lag 0 on, with ar[0] = 1")
    e = innovations.double().numpy()
    driven = np.zeros_like(e)
    for lag, weight in enumerate(ma[: len(e)]):
        driven[lag:] += weight * e[: len(e) - lag]
    order = len(ar) - 1
    back = -np.asarray(ar[:0:-1], dtype=np.float64)  # the oldest first, as the rows lie
    y = np.zeros((order + len(e), e.shape[1]))
    for step, row in enumerate(driven):
        y[order + step] = row + back @ y[step : order + step]
    return torch.from_numpy(y[order:])
