"""Trainings for the estimate of a dimension, and what other estimators say of the same rows."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch

from vaelab import runs
from vaelab.data import Dataset, Rows, blocks
from vaelab.data.mapped import in_memory
from vaelab.diagnostics.dimension import Dimension, dimensions_of
from vaelab.errors import VaelabWarning
from vaelab.specs import Settings
from vaelab.training import stream
from vaelab.training.evaluation import mean_objective
from vaelab.verbs.rows import part

_MOST_ROWS = 5_000  # that other estimators, which compare all pairs, are given


@dataclass(frozen=True)
class Trial:
    """What one training says.

    Attributes
    ----------
    dimension
        Its count.
    loss
        Mean objective of the training rows, nats in the network's units: the −ELBO where the KL has weight 1.
    """

    dimension: Dimension
    loss: float


def counts_of(trainings: Sequence[Trial]) -> tuple[int, ...]:
    """Return the count by the gap of each."""
    return tuple(one.dimension.by_gap for one in trainings)


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
        return Trial(dimensions_of(trained.vae, batches, groups={}).all, loss)


def varying(x: Rows) -> int:
    """Numbers per row that are not the same in all rows."""
    low = high = None
    for block in blocks(x):
        least, most = block.amin(0), block.amax(0)
        low = least if low is None else torch.minimum(low, least)
        high = most if high is None else torch.maximum(high, most)
    return 0 if low is None or high is None else int((low != high).sum())


def other_estimates(data: Dataset) -> dict[str, float]:
    """Estimates of scikit-dimension (TwoNN, maximum likelihood), on at most 5,000 rows."""
    if importlib.util.find_spec("skdim") is None:
        return {}
    from skdim.id import MLE, TwoNN

    # at random, since files are often sorted
    index = torch.randperm(len(data.train), generator=stream("cpu", 0, "rows", "dimension"))[:_MOST_ROWS]
    x = in_memory(part(data.train.x, index.sort().values)).flatten(1).double().numpy()
    return {"TwoNN": float(TwoNN().fit(x).dimension_), "MLE": float(MLE().fit(x).dimension_)}
