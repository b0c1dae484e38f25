"""The dimension of the manifold that data lie on, counted on a trained VAE.

A latent dimension is active where the variance of the posterior is a small part of that of the prior. At the optimum
these ratios fall into two clusters, near 0 and near 1, and the first has as many members as the manifold has
dimensions, without those that a condition determines (Zheng, He, Qiu, Wipf, "Learning Manifold Dimensions with
Conditional Variational Autoencoders", NeurIPS 2022, Theorems 1 and 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model import ACTIVE_BELOW, VAE, variance_ratio
from vaelab.training import stream
from vaelab.types import Batches, rows_at_once

_CLEAR = 3.0  # the least factor between two clusters
_IDLE_FROM = 0.5  # the least ratio of a dimension that carries next to nothing


@dataclass(frozen=True)
class Dimension:
    """How many dimensions a code uses, and how sure that is.

    Attributes
    ----------
    count
        Dimensions whose mean ratio is below the threshold.
    low, high
        95 % bootstrap interval of `count` over rows.
    ratios
        (κ,) mean variance ratios; for a full posterior those of its eigenvalues.
    by_gap
        Dimensions below the widest gap between neighbouring ratios, on a logarithmic scale; 1 counts as a neighbour.
    gap
        The factor across that gap.
    latent_dim
        κ.
    rows
        That were averaged over.
    """

    count: int
    low: int
    high: int
    ratios: Tensor
    by_gap: int
    gap: float
    latent_dim: int
    rows: int

    @property
    def clear(self) -> bool:
        """Whether there are two clusters, of active and of idle dimensions, or idle ones alone."""
        idle = self.ratios.sort().values[self.by_gap :]
        return (self.gap >= _CLEAR and bool((idle >= _IDLE_FROM).all())) or bool((self.ratios >= _IDLE_FROM).all())

    @property
    def warnings(self) -> list[str]:
        """What makes the count doubtful, in sentences; empty if nothing does."""
        found = []
        if max(self.count, self.by_gap) == self.latent_dim:
            found.append(f"All {self.latent_dim} latent dimensions are active: κ is too small. Raise latent_dim.")
        elif not self.clear:
            found.append(
                f"The ratios do not fall into two clusters (widest gap: a factor {self.gap:.1f}): the training has "
                "not settled, or the data lie on no manifold. Train for longer, or learn the decoder variance."
            )
        elif self.count != self.by_gap:
            found.append(
                f"{self.count} dimensions are below the threshold and {self.by_gap} below the gap: the clusters are "
                "apart, but not where the threshold is. The gap is the better count."
            )
        return found


@torch.no_grad()
def variance_ratios_of(vae: VAE, batches: Batches) -> Tensor:
    """(n, κ) variance ratios of every row, float64 on the CPU, in evaluation mode."""
    was_training = vae.training
    vae.eval()
    device = next(vae.parameters()).device
    batches = batches.to(device)
    size = rows_at_once(batches.event_shape)
    parts = []
    for start in range(0, len(batches), size):
        x, c = batches.take(torch.arange(start, min(start + size, len(batches)), device=device))
        parts.append(variance_ratio(vae.encode(x, c), vae.prior(c)).double().cpu())
    vae.train(was_training)
    return torch.cat(parts)


def count_dimensions(
    ratios: Tensor, *, threshold: float = ACTIVE_BELOW, resamples: int = 200, seed: int = 0
) -> Dimension:
    """Count active dimensions among variance ratios.

    Parameters
    ----------
    ratios
        (n, κ) of rows, as `variance_ratios_of` returns them.
    threshold
        Below which a mean ratio counts as active.
    resamples, seed
        Of the bootstrap over rows.

    Raises
    ------
    InputError
        No rows.
    """
    if ratios.ndim != 2 or not ratios.numel():
        raise InputError(f"ratios of shape {tuple(ratios.shape)}", "(n, κ) with at least one row")
    n, size = ratios.shape
    mean = ratios.mean(0)
    draws = torch.randint(n, (resamples, n), generator=stream("cpu", seed, "dimension"))
    counts = torch.stack([(ratios[rows].mean(0) < threshold).sum() for rows in draws]).double()
    low, high = counts.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    ends = torch.cat([mean.sort().values, torch.ones(1, dtype=mean.dtype)]).clamp(1e-300, 1.0).log()
    steps = ends.diff()
    widest = int(steps.argmax())
    by_gap = widest + 1 if float(steps[widest]) > math.log(_CLEAR) else int((mean < threshold).sum())
    return Dimension(
        count=int((mean < threshold).sum()),
        low=math.floor(low),
        high=math.ceil(high),
        ratios=mean,
        by_gap=by_gap,
        gap=math.exp(float(steps[widest])),
        latent_dim=size,
        rows=n,
    )


def manifold_dimension(
    vae: VAE, batches: Batches, *, labels: Tensor | None = None, classes: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Dimension]:
    """Count the dimensions of the data's manifold, in all and per class.

    Parameters
    ----------
    vae
        Trained with a learned or profiled variance.
    batches
        Rows in the network's units, with their conditions if the model has one.
    labels
        (n,) classes; None counts over all rows alone.
    classes
        Their names.
    seed
        Of the bootstrap.

    Returns
    -------
    dict
        ``"all"``, and every class that has rows.
    """
    ratios = variance_ratios_of(vae, batches)
    found = {"all": count_dimensions(ratios, seed=seed)}
    if labels is not None:
        if len(labels) != len(ratios):
            raise InputError(f"{len(labels)} labels for {len(ratios)} rows", "one label per row")
        for label in labels.unique().tolist():
            name = str(label) if classes is None else classes[label]
            found[name] = count_dimensions(ratios[labels.cpu() == label], seed=seed)
    return found
