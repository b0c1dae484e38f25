"""The dimension of a manifold: counted on a model that there is, or on models trained for it."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vaelab.arguments import check_count, check_kind, check_seed
from vaelab.data import Dataset, Kind, Split, as_batches, from_arrays
from vaelab.diagnostics.dimension import Dimensions, dimensions_of
from vaelab.diagnostics.local_dimension import local_dimension as around_rows
from vaelab.errors import InputError, VaelabWarning
from vaelab.estimators.base import Estimator
from vaelab.estimators.sequence import SequenceVAE
from vaelab.model import VAE
from vaelab.runs import Trained
from vaelab.specs import FitSettings, Isotropic, Settings
from vaelab.types import Batches
from vaelab.verbs.grouping import by_condition, by_label
from vaelab.verbs.search import DANCO, Search, Trial, best_of, counts_of, local_of, other_estimates, unresolved, varying
from vaelab.verbs.subject import read

DEFAULTS: dict[Kind, Settings] = {
    "table": Settings(
        latent_dim=8,
        network="mlp([128, 128], relu)",
        likelihood="gaussian(profiled(start=0.01))",
        training=FitSettings(batch_size=150, lr=2e-3, schedule="one_cycle"),
    ),
    "image": Settings(latent_dim=8),
}
"""How `estimate_dimension` trains unless told otherwise."""

_MOST_SEEDS = 1_000
_STEPS = 9_000  # of a training on a table, which a bent manifold takes to be laid flat
_LEAST_ROWS, _FEW_ROWS = 20, 500
_LARGEST = 128  # code for images
_BETTER = 0.5  # nats per row by which a smaller code must be better


def manifold_dimension(
    model: VAE | Trained | Estimator | SequenceVAE | Path | str,
    X: object | None = None,
    c: object | None = None,
    *,
    labels: object | None = None,
    regions: int = 4,
    seed: int = 0,
) -> Dimensions:
    """Count the active dimensions of a trained model: in all, per class, and per region of a continuous condition.

    The count is the dimension of the manifold less what the condition determines, for a model that was trained to its
    optimum with a learned or profiled variance (Zheng et al. 2022, Theorems 1 and 2).

    Parameters
    ----------
    model
        A fitted estimator, the folder of a run, what `vaelab.runs.train` returns, or a bare `VAE`.
    X
        (n, d) or (n, C, H, W) rows like those of the training, or a `Dataset`, of which the test rows are counted on,
        or the training rows if there are none. None, for the folder of a run, is the run's own data. For a bare VAE a
        tensor in the network's units. For a `SequenceVAE` sequences, which are counted by place.
    c
        n conditions in the form that the model was fitted with; for a bare VAE a tensor (n, *condition_shape).
    labels
        (n,) classes to count by, where the condition is none; those of a `Dataset` are taken from it.
    regions
        Into which conditions other than classes are divided.
    seed
        Of the bootstrap and the regions.

    Returns
    -------
    Dimensions
        `all`, and `groups` by name; prints as a table.

    Raises
    ------
    InputError
        The rows, conditions or labels do not fit the model or one another.

    Warns
    -----
    VaelabWarning
        There are not two clusters of active and idle dimensions, the two counts differ, or every dimension is active;
        or the code is the whitened columns.

    Examples
    --------
    >>> import torch
    >>> from vaelab.nets import MLPDecoder, MLPEncoder
    >>> vae = VAE(MLPEncoder((5,), 4), MLPDecoder(2, (5,)), latent_dim=2)
    >>> manifold_dimension(vae, torch.randn(50, 5)).all.latent_dim
    2
    """
    check_count("regions", regions)
    check_seed(seed)
    if isinstance(model, VAE):
        vae, batches = model, _tensors(X, c)
        groups = None if labels is None else by_label(labels, len(batches))
        return _doubted(dimensions_of(vae, batches, groups=groups, regions=regions, seed=seed))
    trained, data, split = _read(model, X, c)
    batches, conditions = trained.batches_of(split), split.c
    names: tuple[str, ...] | None = None
    other = trained.conditioning is None or trained.conditioning.form == "sequence"
    if labels is None and other and split.labels is not None:
        labels, names = split.labels, data.classes
    if labels is not None:
        groups = by_label(labels, len(batches), names)
    elif trained.conditioning is not None and isinstance(conditions, Tensor):
        groups = by_condition(trained.conditioning, conditions, regions, seed)
    else:
        groups = None
    return _doubted(dimensions_of(trained.vae, batches, groups=groups, regions=regions, seed=seed))


def local_dimension(
    model: VAE | Trained | Estimator | SequenceVAE | Path | str,
    X: object | None = None,
    c: object | None = None,
) -> np.ndarray[Any, Any]:
    """Count the dimensions of the manifold around every row: (n,) int.

    See `vaelab.diagnostics.local_dimension`.

    Parameters
    ----------
    model, X, c
        As for `manifold_dimension`.

    Raises
    ------
    InputError
        The likelihood is not Gaussian, or rows or conditions do not fit the model.

    Examples
    --------
    >>> import torch
    >>> from vaelab.nets import MLPDecoder, MLPEncoder
    >>> vae = VAE(MLPEncoder((5,), 4), MLPDecoder(2, (5,)), latent_dim=2)
    >>> local_dimension(vae, torch.randn(50, 5)).shape
    (50,)
    """
    if isinstance(model, VAE):
        return around_rows(model, _tensors(X, c)).counts.numpy()
    trained, _, split = _read(model, X, c)
    return around_rows(trained.vae, trained.batches_of(split)).counts.numpy()


def _read(
    model: Trained | Estimator | SequenceVAE | Path | str, X: object, c: object
) -> tuple[Trained, Dataset, Split]:
    trained, data = read(model, X, c)
    if trained.whitened:
        warnings.warn(trained.whitened, VaelabWarning, stacklevel=3)
    return trained, data, data.test if len(data.test) else data.train


def _doubted(found: Dimensions) -> Dimensions:
    """Warn of what makes the count of all rows doubtful; groups are marked where they are printed."""
    if not found.adaptive:
        for text in found.all.warnings:
            warnings.warn(text, VaelabWarning, stacklevel=3)
    return found


def _tensors(X: object | None, c: object | None) -> Batches:
    """Rows of a bare VAE."""
    if not isinstance(X, Tensor) or not (c is None or isinstance(c, Tensor)):
        raise InputError(
            f"X of type {type(X).__name__} and c of type {type(c).__name__}, for a bare VAE",
            "tensors in the network's units",
        )
    return as_batches(X, c, dtype=X.dtype)


@dataclass(frozen=True)
class Estimate:
    """The dimension of the manifold that data lie on, by several trainings; ``print`` shows a summary.

    Attributes
    ----------
    dimension
        The smaller of `trained` and what neighbours (DANCo) say, since a bent manifold can raise the one and noise the
        other; what neighbours say where training found nothing, or has not laid the manifold flat.
    trained
        The count around rows at `latent_dim`, rounded, the median over seeds; where there is none, that of axes, or the
        size of a smaller code that describes the data better.
    latent_dim
        κ that was counted on; the first of 8, 16, 32, … of which at most half was active.
    trainings
        κ → one training per seed, in the order in which they were tried.
    columns
        Numbers per row that are not constant.
    rows
        Training rows.
    others
        Estimates from distances to neighbours: name → dimension.
    notes
        What the trainings warned of.
    """

    dimension: int
    trained: int
    latent_dim: int
    trainings: dict[int, tuple[Trial, ...]]
    columns: int
    rows: int
    others: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """One per seed at `latent_dim`: by the gap between the clusters."""
        return counts_of(self.trainings[self.latent_dim])

    @property
    def local(self) -> float | None:
        """Mean count around rows at `latent_dim`, the median over seeds; None where it means nothing."""
        return local_of(self.trainings[self.latent_dim])

    @property
    def nothing(self) -> bool:
        """Whether training found no dimension, so that the number, if there is one, is from neighbours."""
        return round(statistics.median(self.counts) if self.local is None else self.local) == 0

    @property
    def unresolved(self) -> bool:
        """Whether to neighbours the model's draws have more dimensions than the data, so that its count is void."""
        return not self.nothing and unresolved(self.trainings[self.latent_dim], self.others.get(DANCO))

    @property
    def warnings(self) -> list[str]:
        """What makes the number doubtful, in sentences."""
        found = []
        trainings = self.trainings[self.latent_dim]
        others = ", ".join(f"{name} {value:.1f}" for name, value in self.others.items())
        if self.nothing:
            what = "the number is what neighbours say" if self.dimension else "0 is no dimension of the data"
            found.append(
                f"Training found nothing: no direction stands out of the noise, so {what}. Train for longer, with "
                "other settings or more rows."
            )
        elif self.unresolved and self.dimension != self.trained:
            found.append(
                f"Training has not laid the manifold flat: its count is {self.trained}, but to neighbours rows drawn "
                f"from it have more dimensions than the data. The number is what neighbours say ({DANCO})."
            )
        elif self.dimension < self.trained and self.others:
            found.append(
                f"Training counts {self.trained}, as a strongly bent manifold can make it; neighbours say less, and "
                f"the smaller number is given."
            )
        elif self.others and not min(self.others.values()) - 1 <= self.dimension <= max(self.others.values()) + 1:
            found.append(
                f"Estimates from neighbours differ: {others}. Noise makes them too large, and where dimensions are "
                "many and rows few TwoNN and maximum likelihood fall short; else one of the two is wrong."
            )
        if self.local is not None or self.nothing:  # a count around rows needs no clusters among the axes
            pass
        elif any(one.dimension.full for one in trainings) and self.latent_dim >= self.columns:
            found.append(f"All {self.columns} dimensions of the data are active: they lie on no manifold.")
        else:
            found += dict.fromkeys(text for one in trainings for text in one.dimension.warnings)
        fewer = self.trained in self.trainings and self.trained < round(statistics.median(self.counts))
        if self.local is None and fewer:
            better = best_of(trainings) - best_of(self.trainings[self.trained])
            found.append(
                f"A code of {self.trained} describes the data better, by {better:.1f} nats per row, than what the "
                f"larger code of {self.latent_dim} was trained to, which could do the same. The smaller counts."
            )
        elif self.local is None and len(set(self.counts)) > 1:
            found.append(f"Seeds disagree: {', '.join(map(str, self.counts))}. Train for longer.")
        if self.rows < _FEW_ROWS:
            found.append(f"{self.rows} rows are few for a training: the count may be off.")
        return found + list(self.notes)

    def __str__(self) -> str:
        """Return the number, what it rests on, what others say, and what makes it doubtful."""
        lines = [f"{self.dimension} dimensions, of {self.columns} numbers per row that vary ({self.rows:,} rows)"]
        for size, trainings in self.trainings.items():
            counts = ", ".join(map(str, counts_of(trainings)))
            lines.append(f"  κ = {size}: {counts} active, by seed; lowest loss {best_of(trainings):.2f} nats")
        for one in self.trainings[self.latent_dim]:
            values = one.dimension.ratios.sort().values.tolist()
            lines.append(f"  ratios: {' '.join(f'{value:.2g}' for value in values)}")
        for one in self.trainings[self.latent_dim]:
            lines += [] if one.local is None else [f"  {one.local}"]
        lines += [f"  {name}, from neighbours: {value:.1f}" for name, value in self.others.items()]
        return "\n".join(lines + [f"! {text}" for text in self.warnings])


def estimate_dimension(
    data: Dataset | object,
    *,
    settings: Settings | None = None,
    seeds: int = 1,
    largest: int | None = None,
    smaller: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> Estimate:
    """Train VAEs with larger and larger codes until at least half of the code stays idle, and count the rest.

    Training counts around rows (`vaelab.local_dimension`), which bends and closed manifolds leave as it is: a sphere, a
    roll, a torus. That is held against what neighbours say (DANCo), of the data and of rows drawn from the model: see
    `Estimate.dimension`. Where the noise is so large that it means nothing, axes of the code are counted, and a
    manifold that closes on itself counts one more.

    In that case codes of one dimension less than the count are trained. What they can do a larger code can do as well,
    with idle dimensions to spare, so a lower −ELBO shows that the larger one missed its optimum, and the smaller count
    holds. It has to be lower by more than the seeds differ, and by half a nat.
    Images are left out of this, since their trainings differ by more than a dimension is worth.

    Parameters
    ----------
    data
        A data set, of which the training rows are used, or an array of rows.
    settings
        How to train; its ``latent_dim`` is where the search starts. If None `DEFAULTS`, with room for twice what
        neighbours say. A conditional model counts what the condition leaves open, which neighbours cannot be asked.
    seeds
        Trainings per size.
    largest
        The largest code that is tried, at most the number of columns that vary; 128 for images if None.
    smaller
        Whether to try smaller codes as well, for tables.
    note
        Told what is being done.

    Raises
    ------
    InputError
        No seeds, a `largest` below 1, fewer than 20 rows, rows that are all the same, or that cannot be trained on.
    """
    check_count("seeds", seeds, most=_MOST_SEEDS)
    if largest is not None:
        check_count("largest", largest)
    if settings is not None:
        check_kind("settings", settings, Settings, "vaelab.Settings")
    if settings is not None and isinstance(settings.posterior, Isotropic):
        raise InputError("posterior='isotropic'", "one with a variance for every dimension", "Use 'diagonal'.")
    data = data if isinstance(data, Dataset) else from_arrays(data)
    others = other_estimates(data)
    if settings is None:
        roomy = max([2 * math.ceil(value) for value in others.values()], default=0)
        settings = DEFAULTS[data.kind].set_params(latent_dim=max(DEFAULTS[data.kind].latent_dim, roomy))
    if len(data.train) < _LEAST_ROWS:
        raise InputError(f"{len(data.train)} rows, which say nothing of a dimension", f"at least {_LEAST_ROWS}")
    columns = varying(data.train.x)
    if not columns:
        raise InputError(f"{len(data.train)} rows that are all the same", "rows that differ")
    most = min(columns, largest or (_LARGEST if data.kind == "image" else columns))
    if data.kind == "table" and settings.training.epochs is None:
        epochs = math.ceil(_STEPS / max(1, len(data.train) // settings.training.batch_size))
        settings = settings.set_params(training__epochs=epochs)
    search = Search(data, settings, seeds, note)
    size = min(settings.size, most)
    counts = counts_of(search.train(size))
    while 2 * max(counts) > size and size < most:
        size = min(2 * size, most)
        counts = counts_of(search.train(size))
    local = local_of(search.trainings[size])
    dimension = round(statistics.median(counts) if local is None else local)
    losses = [one.loss for one in search.trainings[size]]
    loss, margin = min(losses), max(_BETTER, max(losses) - min(losses))
    while local is None and smaller and data.kind == "table" and dimension > 1:
        trial = best_of(search.train(dimension - 1))
        if trial > loss - margin:
            break
        dimension, loss = dimension - 1, trial
    trained, neighbours = dimension, others.get(DANCO)
    if neighbours is not None and data.kind == "table" and not settings.conditional:
        void = not dimension or unresolved(search.trainings[size], neighbours)
        dimension = min(most, round(neighbours)) if void else min(dimension, round(neighbours))
    elif not dimension and neighbours is not None and not settings.conditional:
        dimension = min(most, round(neighbours))
    return Estimate(dimension, trained, size, search.trainings, columns, len(data.train), others, tuple(search.notes))
