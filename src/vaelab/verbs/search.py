"""Trainings for the estimate of a dimension, and what other estimators say of the same rows."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from vaelab import runs
from vaelab.data import Dataset, Rows, blocks
from vaelab.data.mapped import in_memory
from vaelab.diagnostics.dimension import Dimension, dimensions_of
from vaelab.diagnostics.local_dimension import LocalDimension, local_dimension
from vaelab.diagnostics.neighbour_dimension import danco, levina_bickel, two_nn
from vaelab.diagnostics.row_means import Part, over_rows
from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics.rows import part
from vaelab.model import ACTIVE_BELOW, Gaussian
from vaelab.model.distributions import draw
from vaelab.runs import Trained
from vaelab.specs import Settings
from vaelab.training import stream
from vaelab.training.evaluation import mean_objective
from vaelab.types import Batches

DANCO = "DANCo"
_MOST_ROWS = 5_000  # that other estimators, which compare neighbours, are given
_AROUND = 500  # rows that dimensions are counted around
_ALIKE = 0.1  # difference of estimates from neighbours, relative, that is none


@dataclass(frozen=True)
class Trial:
    """What one training says.

    Attributes
    ----------
    dimension
        Its count.
    loss
        Mean objective of the training rows, nats in the network's units: the −ELBO where the KL has weight 1.
    local
        Counts around rows; None where the noise is so large that they mean nothing, or the likelihood has none.
    drawn
        What neighbours (DANCo) say of rows drawn from the model, one from each row's posterior, with noise. More than
        they say of the data is noise that the data do not have: the model has not laid the manifold flat. None where
        it is not asked.
    """

    dimension: Dimension
    loss: float
    local: LocalDimension | None = None
    drawn: float | None = None


def counts_of(trainings: Sequence[Trial]) -> tuple[int, ...]:
    """Return the count by the gap of each."""
    return tuple(one.dimension.by_gap for one in trainings)


def local_of(trainings: Sequence[Trial]) -> float | None:
    """Return the median over trainings of the mean count around rows; None where one has none."""
    means = [one.local.mean for one in trainings if one.local is not None]
    return statistics.median(means) if len(means) == len(trainings) else None


def unresolved(trainings: Sequence[Trial], neighbours: float | None) -> bool:
    """Whether to neighbours all trainings' draws have more dimensions than the data, of which they say `neighbours`."""
    drawn = [one.drawn for one in trainings if one.drawn is not None]
    if neighbours is None or not drawn:
        return False
    return min(drawn) >= neighbours + max(1.0, _ALIKE * neighbours)


def best_of(trainings: Sequence[Trial]) -> float:
    """Return the lowest loss."""
    return min(one.loss for one in trainings)


@final
class Search:
    """Trainings on one data set, by the size of the code."""

    def __init__(self, data: Dataset, settings: Settings, seeds: int, note: Callable[[str], None]) -> None:
        self.data, self.settings, self.seeds, self.note = data, settings, seeds, note
        self.trainings: dict[int, tuple[Trial, ...]] = {}
        self.notes: dict[str, None] = {}

    def train(self, size: int) -> tuple[Trial, ...]:
        """Train all seeds with this code."""
        if size not in self.trainings:
            self.trainings[size] = tuple(self._one(size, seed) for seed in range(self.seeds))
        return self.trainings[size]

    def _one(self, size: int, seed: int) -> Trial:
        """Train once and count; warnings become notes, each once."""
        self.note(f"training with {size} latent dimensions, seed {seed + 1} of {self.seeds}")
        changes = {"latent_dim": size, "seed": self.settings.seed + seed, "densities": ()}
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            trained = runs.train(self.data, self.settings.model_copy(update=changes))
        for one in heard:
            if issubclass(one.category, VaelabWarning):
                self.notes[str(one.message)] = None
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        batches = trained.batches_of(trained.conditioned(self.data).train)
        loss = mean_objective(trained.vae, batches.to(trained.device))["loss"]
        counted = dimensions_of(trained.vae, batches, groups={}).all
        return Trial(counted, loss, _around(trained, batches), _drawn(trained, batches))


def _drawn(trained: Trained, batches: Batches) -> float | None:
    """Return what DANCo says of draws from a Gaussian model of a table, in the units in which it sees the data."""
    vae = trained.vae
    if trained.facts.kind != "table" or trained.conditioning is not None or not isinstance(vae.likelihood, Gaussian):
        return None
    if vae.posterior.degenerate or len(batches) < 2:
        return None
    some = Part.of(batches, _MOST_ROWS, 0)
    generator = stream(trained.device, trained.settings.seed, "dimension", "draws")

    def emitted(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        z = draw(vae.encode(x, c), noise[0])
        return vae.emit(z, c, generator=generator, observation_noise=True)

    rows = over_rows(vae, some, emitted, rows=len(some), normals=1, seed=0)
    spread = some.take(torch.arange(len(some)))[0].double().std(0).cpu()
    try:
        return danco((rows.double().cpu() / spread.where(spread > 0, 1.0)).numpy())
    except InputError:
        return None


def _around(trained: Trained, batches: Batches) -> LocalDimension | None:
    """Count around rows, where a direction can stand out of the noise."""
    vae, facts = trained.vae, trained.facts
    if facts.kind != "table" or trained.conditioning is not None or not isinstance(vae.likelihood, Gaussian):
        return None
    variance = vae.likelihood.variance
    if vae.posterior.degenerate or variance.per_sample or trained.active_below > ACTIVE_BELOW:
        return None
    return local_dimension(vae, batches, rows=_AROUND)


def varying(x: Rows) -> int:
    """Numbers per row that are not the same in all rows."""
    low = high = None
    for block in blocks(x):
        least, most = block.amin(0), block.amax(0)
        low = least if low is None else torch.minimum(low, least)
        high = most if high is None else torch.maximum(high, most)
    return 0 if low is None or high is None else int((low != high).sum())


def other_estimates(data: Dataset) -> dict[str, float]:
    """Return estimates from distances to neighbours, on at most 5,000 rows; none of very few."""
    # at random, since files are often sorted
    index = torch.randperm(len(data.train), generator=stream("cpu", 0, "rows", "dimension"))[:_MOST_ROWS]
    x = in_memory(part(data.train.x, index.sort().values)).flatten(1).double()
    x = x[x.isfinite().all(1)]
    spread = x.std(0) if len(x) > 1 else x.new_zeros(x.shape[1])
    scaled = ((x - x.mean(0)) / spread.where(spread > 0, 1.0)).numpy() if data.kind == "table" else x.numpy()
    try:
        return {"TwoNN": two_nn(scaled), "maximum likelihood": levina_bickel(scaled), DANCO: danco(scaled)}
    except InputError:
        return {}
