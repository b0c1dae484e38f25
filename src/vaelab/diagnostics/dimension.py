"""The dimension of the manifold that data lie on, counted on a trained VAE.

A latent dimension is active where the variance of the posterior is a small part of that of the prior. At the optimum
these ratios fall into two clusters, near 0 and near 1, and the first has as many members as the manifold has
dimensions, without those that a condition determines (Zheng et al. 2022, Theorems 1 and 2). With a gate on the code the
count may differ from condition to condition, so it is taken per class, or per region of a continuous condition, as
well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaelab.diagnostics.groups import groups_of
from vaelab.errors import InputError
from vaelab.model import ACTIVE_BELOW, VAE, Isotropic, variance_ratios_of
from vaelab.training import stream
from vaelab.types import Batches

_CLEAR = 3.0  # the least factor between two clusters
_IDLE_FROM = 0.5  # the least ratio of a dimension that carries next to nothing
_DRAWN = 4_000_000  # numbers of a block of the bootstrap


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
        (κ,) mean variance ratios; for a full posterior those of its eigenvalues, in ascending order.
    by_gap
        Dimensions below the gap between the clusters: those below 0.5 where the ratios on its two sides are a factor
        of 3 or more apart, else those below the widest gap on a logarithmic scale. 1 counts as a neighbour.
    gap_low, gap_high
        95 % bootstrap interval of `by_gap` over rows.
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
    gap_low: int
    gap_high: int
    gap: float
    latent_dim: int
    rows: int

    @property
    def clear(self) -> bool:
        """Whether there are two clusters, of active and of idle dimensions, or idle ones alone."""
        idle = self.ratios.sort().values[self.by_gap :]
        return (self.gap >= _CLEAR and bool((idle >= _IDLE_FROM).all())) or bool((self.ratios >= _IDLE_FROM).all())

    @property
    def full(self) -> bool:
        """Whether every dimension is active, so that there may be more than were given."""
        return max(self.count, self.by_gap) == self.latent_dim

    @property
    def active(self) -> Tensor:
        """(κ,) bool: the dimensions that are counted, by the gap if it is clear, else by the threshold."""
        counted = self.by_gap if self.clear else self.count
        return self.ratios.argsort().argsort() < counted

    @property
    def warnings(self) -> list[str]:
        """What makes the count doubtful, in sentences; empty if nothing does."""
        if self.full:
            return [f"All {self.latent_dim} latent dimensions are active: κ is too small. Raise latent_dim."]
        if not self.clear:
            between = int(((self.ratios >= ACTIVE_BELOW) & (self.ratios < _IDLE_FROM)).sum())
            return [
                f"The ratios do not fall into two clusters ({between} of {self.latent_dim} lie between {ACTIVE_BELOW} "
                f"and {_IDLE_FROM}): the training has not settled, or the data lie on no manifold. Train for longer, "
                "or learn the decoder variance."
            ]
        if self.count != self.by_gap:
            return [
                f"{self.count} dimensions are below the threshold and {self.by_gap} below the gap: the clusters are "
                "apart, but not where the threshold is. The gap is the better count."
            ]
        return []


@dataclass(frozen=True)
class Dimensions:
    """Counts over all rows and over groups of them; ``print`` shows a table.

    Attributes
    ----------
    all
        Over all rows.
    groups
        Name of a class, or of a region of the condition → its own count; empty without either.
    """

    all: Dimension
    groups: dict[str, Dimension] = field(default_factory=dict)

    @property
    def adaptive(self) -> bool:
        """Whether every group has a clear count but all rows together have none: each uses dimensions of its own."""
        return bool(self.groups) and not self.all.clear and all(one.clear for one in self.groups.values())

    @property
    def warnings(self) -> list[str]:
        """What makes counts doubtful, each sentence once, after the names of those that it is about."""
        about: dict[str, list[str]] = {}
        found = {} if self.adaptive else {"all": self.all}
        for name, one in (found | self.groups).items():
            for text in one.warnings:
                about.setdefault(text, []).append(name)
        said = [f"{', '.join(names)}: {text}" if self.groups else text for text, names in about.items()]
        if self.adaptive:
            said.append("all: The groups use different dimensions, so their mean has no clusters; count per group.")
        return said

    def __str__(self) -> str:
        """Return a table with a row for all and one per group, the ratios of all, and the warnings."""
        rows = {"all": self.all, **self.groups}
        wide = max(8, *(len(name) for name in rows))
        lines = [f"{'':<{wide}}  {'by gap':>14}  {'gap':>9}  {'by threshold':>14}  {'rows':>9}"]
        for name, one in rows.items():
            counted = f"{one.count} ({one.low}–{one.high})"
            split = f"{one.by_gap} ({one.gap_low}–{one.gap_high})"
            gap = "" if one.gap < _CLEAR else "× > 1e6" if one.gap > 1e6 else f"× {one.gap:,.0f}"
            mark = "" if one.clear and not one.full else "  !"
            lines.append(f"{name:<{wide}}  {split:>14}  {gap:>9}  {counted:>14}  {one.rows:>9,}{mark}")
        return "\n".join([*lines, _listed(self.all.ratios), *(f"! {text}" for text in self.warnings)])


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
        Of the bootstrap over rows; no resamples leave the interval at the count.

    Raises
    ------
    InputError
        No rows, or ratios that are not finite.
    """
    if ratios.ndim != 2 or not ratios.numel():
        raise InputError(f"ratios of shape {tuple(ratios.shape)}", "(n, κ) with at least one row")
    ratios = ratios.double()
    if not bool(ratios.isfinite().all()):
        wrong = int((~ratios.isfinite()).any(1).sum())
        remedy = "The training has diverged: train again with a smaller lr."
        raise InputError(f"variance ratios that are not finite, in {wrong} of {len(ratios)} rows", "numbers", remedy)
    mean = ratios.mean(0)
    count = int((mean < threshold).sum())
    by_gap, gap = _gap(mean, count)
    interval, gap_interval = (count, count), (by_gap, by_gap)
    if resamples and len(ratios) > 1:
        means = _resampled(ratios, resamples, seed)
        counts = (means < threshold).sum(1)
        interval = _interval(counts)
        pairs = zip(means, counts.tolist(), strict=True)
        gap_interval = _interval(torch.tensor([_gap(one, below)[0] for one, below in pairs]))
    return Dimension(count, *interval, mean, by_gap, *gap_interval, gap, len(mean), len(ratios))


def _interval(counts: Tensor) -> tuple[int, int]:
    """Whole numbers around 95 % of the counts."""
    ends = counts.double().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return math.floor(float(ends[0])), math.ceil(float(ends[1]))


def _resampled(ratios: Tensor, resamples: int, seed: int) -> Tensor:
    """(resamples, κ) means over rows drawn with replacement: how often each was drawn, times the rows."""
    n = len(ratios)
    generator = stream("cpu", seed, "dimension")
    at_once = max(1, _DRAWN // n)
    means = []
    for start in range(0, resamples, at_once):
        some = min(at_once, resamples - start)
        drawn = torch.randint(n, (some, n), generator=generator) + n * torch.arange(some)[:, None]
        times = torch.bincount(drawn.flatten(), minlength=some * n).view(some, n)
        means.append(times.double() @ ratios / n)
    return torch.cat(means)


def _gap(mean: Tensor, count: int) -> tuple[int, float]:
    """Dimensions below the gap, and the factor across it."""
    ends = torch.cat([mean.sort().values, mean.new_ones(1)]).clamp(1e-300, 1.0).log()
    steps = ends.diff()
    below = int((mean < _IDLE_FROM).sum())
    if below and float(steps[below - 1]) >= math.log(_CLEAR):  # the gap may be narrower than one among active ones
        return below, math.exp(float(steps[below - 1]))
    widest = int(steps.argmax())
    by_gap = widest + 1 if float(steps[widest]) >= math.log(_CLEAR) else count
    return by_gap, math.exp(float(steps[widest]))


def dimensions_of(
    vae: VAE, batches: Batches, *, groups: Mapping[str, Tensor] | None = None, regions: int = 4, seed: int = 0
) -> Dimensions:
    """Count the dimensions of the data's manifold, in all and per group of rows.

    Parameters
    ----------
    vae
        Trained with a learned or profiled variance.
    batches
        Rows in the network's units, with their conditions if the model has any.
    groups
        Name → (n,) bool, the rows of a group; empty for none. None groups by the condition: its classes if it is
        one-hot, else `regions_of` it.
    regions
        Of a continuous condition.
    seed
        Of the bootstrap and the regions.

    Raises
    ------
    InputError
        No rows, a group of another length, or a posterior whose variance says nothing about single dimensions.
    """
    if vae.posterior.degenerate or isinstance(vae.posterior, Isotropic):
        raise InputError(
            f"a posterior of type {type(vae.posterior).__name__}",
            "one with a variance for every dimension",
            "Train with a diagonal or a full posterior.",
        )
    kept: list[Tensor] | None = [] if groups is None else None
    ratios = variance_ratios_of(vae, batches, conditions=kept)
    if groups is None:
        c = torch.cat(kept) if kept else None
        groups = {} if c is None else groups_of(c, regions, seed=seed)
    found = {}
    for name, rows in groups.items():
        if rows.shape != (len(ratios),):
            raise InputError(f"group {name!r} of shape {tuple(rows.shape)} for {len(ratios)} rows", "one bool per row")
        if bool(rows.any()):
            found[name] = count_dimensions(ratios[rows.cpu()], seed=seed)
    return Dimensions(count_dimensions(ratios, seed=seed), found)


def _listed(ratios: Tensor, most: int = 40) -> str:
    """All ratios in ascending order, two digits each."""
    values = ratios.sort().values.tolist()
    more = f" … ({len(values)} in all)" if len(values) > most else ""
    return f"ratios: {' '.join(f'{value:.2g}' for value in values[:most])}{more}"
