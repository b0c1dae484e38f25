"""Fidelity and diversity from nearest neighbours: precision, recall, density, coverage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.metrics.distances import centred, squared_distances
from vaelab.metrics.moments import comparable

_ENTRIES = 1 << 22  # most distances held at once, 32 MB
_ROUNDING = 1e-13  # of a squared distance, relative to the squared norms of both rows


class NeighbourMeasures(NamedTuple):
    """What `neighbour_measures` finds.

    Attributes
    ----------
    precision
        Share of generated rows inside the real manifold, in [0, 1].
    recall
        Share of real rows inside the generated manifold, in [0, 1].
    density
        Real balls around a generated row, relative to k; around 1 for equal laws, may exceed 1.
    coverage
        Share of real balls that hold a generated row, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


@torch.no_grad()
def neighbour_measures(real: Tensor, fake: Tensor, *, k_precision: int = 3, k_density: int = 5) -> NeighbourMeasures:
    """Improved precision and recall, density and coverage, in one pass over the distances.

    Kynkäänniemi et al. 2019, eq. 1 and 2; Naeem et al. 2020, section 3.

    A row's ball reaches its k-th nearest neighbour in its own set, itself not counted. All balls are closed: a row on
    the edge is inside, so an exact copy lies in a ball of radius 0. So the authors of precision and recall have it;
    the program of the authors of density and coverage has open balls, which differs only for such ties. Distances that
    differ by less than their rounding count as equal.

    Parameters
    ----------
    real, fake
        (n, d) and (m, d) features.
    k_precision
        Neighbours for precision and recall.
    k_density
        Neighbours for density and coverage.

    Raises
    ------
    InputError
        See `vaelab.metrics.moments.comparable`; k below 1, or not more than k rows.
    """
    if min(k_precision, k_density) < 1:
        raise InputError(f"k_precision={k_precision}, k_density={k_density}", "at least 1")
    real, fake = comparable(real, fake, names=("real", "fake"), min_rows=max(k_precision, k_density) + 1)
    real, fake = centred(real, fake)
    real_radii = _radii(real, k_precision, k_density)
    fake_radii = _radii(fake, k_precision)[0]
    # norms a little too small: distances are then lower bounds, and ties are inside
    real[:, -1] *= 1 - _ROUNDING
    fake[:, -1] *= 1 - _ROUNDING
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = covered = inside = 0
    for rows, narrow, wide in zip(
        *(part.split(_rows(fake)) for part in (real, real_radii[0], real_radii[1])), strict=True
    ):
        distances = squared_distances(rows, fake)
        precise |= (distances <= narrow[:, None]).any(0)
        recalled += int((distances <= fake_radii).any(1).sum())
        held = (distances <= wide[:, None]).sum(1)
        inside += int(held.sum())
        covered += int((held > 0).sum())
    n, m = len(real), len(fake)
    return NeighbourMeasures(float(precise.sum()) / m, recalled / n, inside / (k_density * m), covered / n)


def _radii(points: Tensor, *ks: int) -> list[Tensor]:
    """For each k, (n,) squared distances to the k-th nearest other row."""
    nearest = []
    for start, rows in zip(range(0, len(points), _rows(points)), points.split(_rows(points)), strict=True):
        distances = squared_distances(rows, points)
        distances.diagonal(start).fill_(torch.inf)
        nearest.append(distances.topk(max(ks), largest=False).values)
    found = torch.cat(nearest)
    return [found[:, k - 1].contiguous() for k in ks]


def _rows(points: Tensor) -> int:
    return max(1, _ENTRIES // len(points))
