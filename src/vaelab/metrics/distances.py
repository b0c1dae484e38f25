"""Two-sample distances: pure functions of feature matrices, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.errors import InputError


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Energy distance 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖, its unbiased estimate; 0 in expectation for equal laws.

    G. Székely, M. Rizzo, "Energy statistics", 2013, eq. 6, without the terms of a point with itself. May be slightly
    negative.

    Parameters
    ----------
    x, y
        (n, d) and (m, d) samples, at least two rows each.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise InputError(f"shapes {tuple(x.shape)} and {tuple(y.shape)}", "(n, d) and (m, d) with n, m ≥ 2")
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    across = torch.cdist(x, y).mean()
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return float(2 * across - within)
