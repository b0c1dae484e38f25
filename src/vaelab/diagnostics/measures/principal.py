"""A few principal axes of rows, found on the smaller side of the matrix, whether or not the rows vary."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

ENOUGH = 1000
"""Rows that a frame is fitted on: what it costs is then bounded by a decomposition of this size."""

_ALIVE = 1e-12  # least variance along an axis, relative to the largest


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
        rows = rows[:ENOUGH].double()
        mean = rows.mean(0)
        centred = rows - mean
        few = len(rows) < rows.shape[1]
        products = centred @ centred.T if few else centred.T @ centred
        values, vectors = torch.linalg.eigh(products)
        kept = (values > _ALIVE * values[-1]).nonzero()[:, 0].flip(0)[:most]
        axes = vectors[:, kept]
        # the few rows' inner products have the same eigenvalues as the many columns' covariance
        return cls(mean, torch.nn.functional.normalize(centred.T @ axes, dim=0) if few else axes)

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
