"""`estimate_dimension`: from data to the dimension of their manifold, training what is needed."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaelab import runs
from vaelab.config import Settings
from vaelab.data import Dataset, as_batches, from_arrays
from vaelab.diagnostics.dimension import Dimension, manifold_dimension
from vaelab.errors import InputError
from vaelab.evaluation.rows import in_memory, part
from vaelab.training import stream

_MOST_ROWS = 5_000  # that other estimators, which compare all pairs, are given


@dataclass(frozen=True)
class Estimate:
    """The dimension of the manifold that data lie on, by several trainings.

    Attributes
    ----------
    dimension
        Median over seeds.
    counts
        One per seed: by the gap between the clusters.
    latent_dim
        κ of these trainings; the first of 8, 16, 32, … that was not full.
    trainings
        One `Dimension` per seed.
    tried
        κ → counts, of smaller codes that were full.
    others
        Estimators of scikit-dimension, where it is installed: name → dimension.
    """

    dimension: int
    counts: tuple[int, ...]
    latent_dim: int
    trainings: tuple[Dimension, ...]
    tried: dict[int, tuple[int, ...]] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What makes the number doubtful, in sentences."""
        found = list(dict.fromkeys(text for one in self.trainings for text in one.warnings))
        if len(set(self.counts)) > 1:
            found.append(f"Seeds disagree: {', '.join(map(str, self.counts))}. Train for longer.")
        return found


def estimate_dimension(
    data: Dataset | object,
    *,
    settings: Settings | None = None,
    seeds: int = 3,
    largest: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Estimate:
    """Train VAEs with larger and larger codes until some dimensions stay idle, and count the others.

    Parameters
    ----------
    data
        A data set, or an array of rows.
    settings
        How to train; its ``latent_dim`` is where the search starts. The defaults, from 8, if None.
    seeds
        Trainings per size.
    largest
        The largest code that is tried; the number of columns, or 128 for images, if None.
    note
        Told what is being done.

    Raises
    ------
    InputError
        No seeds, or rows that cannot be trained on.
    """
    if seeds < 1:
        raise InputError(f"seeds={seeds}", "at least 1")
    data = data if isinstance(data, Dataset) else from_arrays(data)
    settings = Settings(latent_dim=8) if settings is None else settings
    most = largest or (128 if data.kind == "image" else max(2, data.event_shape[0]))
    tried: dict[int, tuple[int, ...]] = {}
    size = min(settings.latent_dim, most)
    while True:
        found = []
        for seed in range(seeds):
            note(f"training with {size} latent dimensions, seed {seed + 1} of {seeds}")
            own = settings.model_copy(update={"latent_dim": size, "seed": settings.seed + seed, "densities": ()})
            trained = runs.train(data, own)
            batches = as_batches(data.train.x, None, trained.scaling)
            found.append(manifold_dimension(trained.vae, batches)["all"])
        counts = tuple(one.by_gap for one in found)
        if max(counts) < size or size == most:
            others = _others(data)
            return Estimate(round(statistics.median(counts)), counts, size, tuple(found), tried, others)
        tried[size] = counts
        size = min(2 * size, most)


def _others(data: Dataset) -> dict[str, float]:
    """Estimates of scikit-dimension (TwoNN, maximum likelihood), on at most 5,000 rows."""
    if importlib.util.find_spec("skdim") is None:
        return {}
    from skdim.id import MLE, TwoNN

    # at random, since files are often sorted
    index = torch.randperm(len(data.train), generator=stream("cpu", 0, "rows", "dimension"))[:_MOST_ROWS]
    rows: Tensor = in_memory(part(data.train.x, index.sort().values))
    x = rows.flatten(1).double().numpy()
    return {"TwoNN": float(TwoNN().fit(x).dimension_), "MLE": float(MLE().fit(x).dimension_)}
