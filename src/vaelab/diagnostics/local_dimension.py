"""The dimension of a manifold around single rows: directions of the decoder that stand out of its noise.

An axis of the code is a straight line, and a sheet that is bent or closes on itself fills more axes than it has
dimensions: a circle two, a sphere of dimension d d + 1. Around a row only the tangent plane counts. With J the decoder
mean's Jacobian at the row's code, in units of the prior, the posterior that is best there has the variances

    λ_i = 1 / (1 + s_i² / γ),   s_i the singular values of J       (Dai & Wipf 2019, eq. 84)

along its own axes, and those below the threshold of active dimensions are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.diagnostics.measures.optimality import jacobian_products
from vaelab.diagnostics.row_means import over_rows
from vaelab.errors import InputError
from vaelab.model import ACTIVE_BELOW, VAE, Gaussian
from vaelab.types import Batches

_COLUMNS = 10_000_000  # numbers of Jacobians held at once


@dataclass(frozen=True)
class LocalDimension:
    """Counts around rows.

    Attributes
    ----------
    counts
        (n,) int64, one per row.
    """

    counts: Tensor

    @property
    def mean(self) -> float:
        """Over rows."""
        return float(self.counts.double().mean())

    @property
    def error(self) -> float:
        """Standard error of the mean over rows."""
        n = len(self.counts)
        return float(self.counts.double().std() / math.sqrt(n)) if n > 1 else math.inf

    def __str__(self) -> str:
        """Return the mean, and the share of rows at each count."""
        values, times = self.counts.unique(return_counts=True)
        shares = ", ".join(
            f"{v}: {t / len(self.counts):.0%}" for v, t in zip(values.tolist(), times.tolist(), strict=True)
        )
        return f"{self.mean:.2f} ± {self.error:.2f} dimensions around a row ({shares} of {len(self.counts):,} rows)"


def local_dimension(
    vae: VAE, batches: Batches, *, rows: int | None = None, threshold: float = ACTIVE_BELOW, seed: int = 0
) -> LocalDimension:
    """Count dimensions around rows.

    Parameters
    ----------
    vae
        Trained with a learned or profiled variance.
    batches
        Rows in the network's units, with their conditions if the model has one.
    rows
        At most, chosen at random; all in their order if None.
    threshold
        Of λ, below which a direction counts.
    seed
        Of the choice.

    Raises
    ------
    InputError
        No Gaussian likelihood with a variance, or no rows.
    """
    if not isinstance(vae.likelihood, Gaussian):
        got = f"a likelihood of type {type(vae.likelihood).__name__}"
        raise InputError(got, "a Gaussian one, whose noise directions are compared with", "Use manifold_dimension.")
    axes = torch.arange(vae.latent_dim)

    def counted(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        at_once = max(1, _COLUMNS // (len(axes) * x[0].numel()))
        parts = []
        for start, part in zip(range(0, len(x), at_once), x.split(at_once), strict=True):
            own = None if c is None else c[start : start + at_once]
            gram = jacobian_products(vae, part, own, axes)[:, :-1].unflatten(1, (len(axes), len(axes)))
            stretch = torch.linalg.eigvalsh(gram).clamp(min=0)
            parts.append((1 / (1 + stretch) < threshold).sum(1, keepdim=True))
        return torch.cat(parts)

    found = over_rows(vae, batches, counted, rows=len(batches) if rows is None else rows, normals=0, seed=seed)
    return LocalDimension(found.flatten().long())
