"""Φ and its inverse from elementary operations, to the last digits of float64, for graphs that have no others.

Φ: Hart et al. 1968, algorithm 5666, as given by West 2005. Φ⁻¹: Wichura 1988, routine PPND16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ABOVE = (
    3.52624965998911e-02,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_BELOW = (
    8.83883476483184e-02,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
_FAR = 7.07106781186547  # from where a continued fraction takes over
_SQRT_TAU = 2.506628274631
_FARTHEST = 37.0  # Φ(−37) is the last that float64 tells from 0

_CENTRE = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852545925,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
_TAIL = (
    (
        7.7454501427834140764e-4,
        0.0227238449892691845833,
        0.24178072517745061177,
        1.27045825245236838258,
        3.64784832476320460504,
        5.7694972214606914055,
        4.6303378461565452959,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        0.0151986665636164571966,
        0.14810397642748007459,
        0.68976733498510000455,
        1.6763848301838038494,
        2.05319162663775882187,
        1.0,
    ),
)
_END = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        0.0012426609473880784386,
        0.026532189526576123093,
        0.29656057182850489123,
        1.7848265399172913358,
        5.4637849111641143699,
        6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15,
        1.4215117583164458887e-7,
        1.8463183175100546818e-5,
        7.868691311456132591e-4,
        0.0148753612908506148525,
        0.13692988092273580531,
        0.59983220655588793769,
        1.0,
    ),
)


def cdf(z: Tensor) -> Tensor:
    """Φ(z) of float64, with an error below 1e-15."""
    size = z.abs().clamp(max=_FARTHEST)
    density = (-0.5 * size * size).exp()
    near = density * _horner(_ABOVE, size) / _horner(_BELOW, size)
    fraction = size + 0.65
    for k in (4, 3, 2, 1):
        fraction = size + k / fraction
    lower = torch.where(size < _FAR, near, density / (fraction * _SQRT_TAU))
    return torch.where(z > 0, 1 - lower, lower)


def quantile(u: Tensor) -> Tensor:
    """Φ⁻¹(u) of float64 strictly between 0 and 1, with a relative error of about 1e-15."""
    q = u - 0.5
    inner = 0.180625 - q * q
    centre = q * _ratio(_CENTRE, inner)
    r = (-torch.minimum(u, 1 - u).log()).sqrt()
    outer = torch.where(r <= 5, _ratio(_TAIL, r - 1.6), _ratio(_END, r - 5))
    return torch.where(q.abs() <= 0.425, centre, torch.where(q < 0, -outer, outer))


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Tensor) -> Tensor:
    return _horner(coefficients[0], x) / _horner(coefficients[1], x)


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total
