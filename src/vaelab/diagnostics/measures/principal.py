"""A few principal axes of rows, found on the smaller side of the matrix, whether or not the rows vary."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from vaelab.metrics.moments import principal_axes

ENOUGH = 1000
"""Rows that a frame is fitted on: what it costs is then bounded by a decomposition of this size."""


class Frame(NamedTuple):
    """Mean and leading principal axes of rows.

    Attributes
    ----------
    mean
        (d,) float64.
    axes
        (d, k) float64, orthonormal, by variance descending; k may be 0.
    """

    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, rows: Tensor, most: int) -> Self:
        """Fit to the first `ENOUGH` of (n, d) rows."""
        mean, _, axes = principal_axes(rows[:ENOUGH])
        return cls(mean, axes[:, :most])

    def coordinates(self, rows: Tensor) -> Tensor:
        """(n, d) → (n, k), float64."""
        return (rows.double() - self.mean) @ self.axes

    def with_remainder(self, rows: Tensor) -> Tensor:
        """(n, d) → (n, k + 1): the coordinates, and how far a row is from the plane of the axes.

        Distances between these are at most those between the rows, and the same where one of the rows is in the plane.
        """
        centred = rows.double() - self.mean
        inside = centred @ self.axes
        outside = (centred.square().sum(1) - inside.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat([inside, outside[:, None]], 1)
