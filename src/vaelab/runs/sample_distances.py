"""How far decoded draws of a latent density are from rows that it has not seen, with what is not known of that.

The energy distance of laws P and R is 2 E‖s − r‖ − E‖s − s'‖ − E‖r − r'‖ (Székely & Rizzo 2013, eq. 6). Its unbiased
estimate is a sum of means over rows, so that every row has an influence on it, and the variance of these gives the
standard error (Hoeffding 1948). Where both laws are the same the influences vanish but for noise, and the error comes
out too large, by √2: a difference that is called clear is clear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vaelab.data import ArrayBatches, MappedBatches
from vaelab.errors import InputError
from vaelab.metrics import Pca, two_sample_accuracy
from vaelab.metrics.distances import centred, squared_distances
from vaelab.rows import rows_at_once

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained

_COMPONENTS = 64  # of images
_MOST_ROWS = 2000  # that components are fitted on
_FOR_TREES = (50, 1000)  # rows of either kind, at least and at most, that a classifier is given
_BLOCK = 500  # rows whose distances are in memory at once
_NORMAL = NormalDist()


@dataclass(frozen=True)
class SampleDistance:
    """How far some rows are from held-out ones.

    Attributes
    ----------
    energy, error
        Energy distance and its standard error, in the units of the features; 0 in expectation for equal laws.
    gain, gain_error
        By which it is less than that of draws from the prior, or another base, and the standard error of this.
    accuracy, accuracy_error
        Of trees that tell the rows from held-out ones, and its standard error: 0.5 where they cannot. None where there
        are too few rows.
    """

    energy: float
    error: float
    gain: float = 0.0
    gain_error: float = 0.0
    accuracy: float | None = None
    accuracy_error: float | None = None

    def clearly_nearer(self, candidates: int = 1) -> bool:
        """Whether the gain over the prior is clear, for the best of so many candidates: see `needed_errors`."""
        return self.gain > needed_errors(candidates) * self.gain_error


def needed_errors(candidates: int = 1) -> float:
    """Return how many standard errors a gain must exceed where the best of k candidates is looked for.

    The one-sided normal quantile at 0.0228 / k (Bonferroni 1936), which is 2 for one candidate: the chance that any
    of k seems better than the prior, and none is, stays below 0.0228.
    """
    return -_NORMAL.inv_cdf(_NORMAL.cdf(-2.0) / max(candidates, 1))


class _Terms(NamedTuple):
    """The estimate, and (n,) and (m,) influences of the rows and of the reference's."""

    energy: float
    of_rows: Tensor
    of_reference: Tensor


def distances_of(
    sets: Mapping[str, Tensor], reference: Tensor, *, base: str = "prior", trees: bool = True, seed: int = 0
) -> dict[str, SampleDistance]:
    """Compare sets of rows with held-out ones.

    Parameters
    ----------
    sets
        Name → (n, features) rows, n at least 2.
    reference
        (m, features) held-out rows.
    base
        Of the sets, that gains of the others are over.
    trees
        Whether trees tell rows and reference apart, which takes longer than all else.
    seed
        Of the classifier.
    """
    within = _means(reference, reference)
    terms = {name: _terms(rows, reference, within) for name, rows in sets.items()}
    usual, found = terms[base], {}
    for name, own in terms.items():
        error = (_variance(own.of_rows) + _variance(own.of_reference)) ** 0.5
        parts = (own.of_rows, usual.of_rows, usual.of_reference - own.of_reference)
        gain, gain_error = usual.energy - own.energy, sum(map(_variance, parts)) ** 0.5
        if name == base:
            gain = gain_error = 0.0
        told = _told(reference, sets[name], seed) if trees else (None, None)
        found[name] = SampleDistance(own.energy, error, gain, gain_error, *told)
    return found


def _told(reference: Tensor, rows: Tensor, seed: int) -> tuple[float | None, float | None]:
    """Accuracy of trees, and its standard error."""
    least, most = _FOR_TREES
    if min(len(reference), len(rows)) < least:
        return None, None
    return two_sample_accuracy(reference[:most], rows[:most], seed=seed)


def _terms(rows: Tensor, reference: Tensor, within_reference: Tensor) -> _Terms:
    across, back = _means(rows, reference), _means(reference, rows)
    within = _means(rows, rows)
    energy = float(2 * across.mean() - within.mean() - within_reference.mean())
    return _Terms(energy, 2 * (across - within), 2 * (back - within_reference))


def _means(a: Tensor, b: Tensor) -> Tensor:
    """(n,) mean distance of every row of a to those of b, to others where b is a; float64."""
    same = a is b
    a, b = centred(b, a)[::-1]
    parts = [squared_distances(rows, b).sqrt_().sum(1) for rows in a.split(_BLOCK)]
    if not same:
        return torch.cat(parts) / len(b)
    # the distance of a row to itself is 0 but for rounding
    own = squared_distances(a[:1], a[:1]).sqrt_().flatten() * 0
    return (torch.cat(parts) - own) / (len(b) - 1)


def _variance(influences: Tensor) -> float:
    """Return the variance of their mean."""
    return float(influences.var()) / len(influences)


def features_of(trained: Trained, rows: ArrayBatches | MappedBatches) -> Callable[[Tensor], Tensor]:
    """Return what distances are computed on: principal components of images, the rows of tables.

    Categories of a mixed table become one-hot columns, in which two levels are 1 apart.

    Parameters
    ----------
    trained, rows
        The model, and training rows in the network's units.
    """
    if trained.facts.kind == "image":
        index = torch.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).long()
        return Pca.fit((rows.take(part)[0].cpu() for part in index.split(_BLOCK)), _COMPONENTS)
    if trained.schema is None:
        return lambda x: x.flatten(1).double()
    levels = trained.schema.levels

    def coded(x: Tensor) -> Tensor:
        parts = []
        for column, count in zip(x.double().T, levels, strict=True):
            one = torch.nn.functional.one_hot(column.long(), count) * 0.5**0.5 if count else column[:, None]
            parts.append(one.double())
        return torch.cat(parts, 1)

    return coded


def taken(batches: ArrayBatches | MappedBatches, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Return at most so many rows at random, without gaps, and their conditions, on the CPU.

    Raises
    ------
    InputError
        Fewer than two rows have no gaps.
    """
    order = torch.randperm(len(batches), generator=generator)[:most].sort().values
    found = [batches.take(part) for part in order.split(rows_at_once(batches.event_shape))]
    x = torch.cat([part[0] for part in found]).cpu()
    c = None if found[0][1] is None else torch.cat([part[1] for part in found if part[1] is not None]).cpu()
    whole = ~x.flatten(1).isnan().any(1)
    if int(whole.sum()) < 2:
        got = f"{int(whole.sum())} rows without gaps, of {len(x)}"
        raise InputError(got, "at least 2, which samples are compared with", "Fill the gaps: model.impute(X).")
    return x[whole], None if c is None else c[whole]
