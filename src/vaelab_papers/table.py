"""A paper's table as data: cells, what is published in each, budgets, and what counts as agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vaelab.errors import InputError
from vaelab.specs import Settings
from vaelab.training import FitSettings
from vaelab_papers.claims import Check, Choice, Claim, Ordering
from vaelab_papers.job import Job
from vaelab_papers.measuring import measure
from vaelab_papers.trials import Number

ScaleName = Literal["smoke", "small", "paper"]


@dataclass(frozen=True)
class Cell:
    """One training of a table.

    Attributes
    ----------
    axes
        What is varied: name → number or word.
    published
        Measure → the paper's number.
    versions
        Other versions of the paper → measure → their number. They stand in columns of their own: settings differ.
    """

    axes: Mapping[str, float | str]
    published: Mapping[str, Number]
    versions: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The axes in words."""
        texts = {name: value if isinstance(value, str) else f"{value:g}" for name, value in self.axes.items()}
        return ", ".join(f"{name}={text}" for name, text in texts.items())

    def number(self, axis: str) -> float:
        """Return the value of an axis of numbers."""
        return float(self.axes[axis])


@dataclass(frozen=True)
class Effort:
    """How much is spent on a model's latent densities and on measuring its samples.

    Attributes
    ----------
    protocol
        How distances between samples are measured; see `vaelab.metrics.protocols`.
    second, second_hidden
        Length, learning rate and width of the second stage, whose batches are as large as in the first; those of the
        preset if None.
    draws
        Sets of samples per density.
    likelihood_draws, likelihood_rows
        k and the test rows of the importance-weighted bound; 0 for all rows.
    """

    protocol: str
    second: FitSettings | None = None
    second_hidden: tuple[int, ...] | None = None
    draws: int = 1
    likelihood_draws: int = 500
    likelihood_rows: int = 0


@dataclass(frozen=True)
class Scale:
    """How much is spent on a cell.

    Attributes
    ----------
    rows
        Training rows; of a data set at most as many as it has.
    hidden
        Units of the networks' hidden layer, or channels of a convolutional network's first; None for the preset's.
    fit
        Length and schedule; None for the preset's.
    seeds
        Independent repetitions, of data and initial weights.
    gamma
        First decoder variance γ, where a table does not vary it; None for the preset's.
    stand_in
        Use a bundled data set of the same form where the table's own has to be downloaded.
    floor
        Smallest variance of a pixel of its own (Diag-D), relative to the data's; None for the preset's.
    effort
        What comes after the training; None where a table measures no samples.
    """

    rows: int
    hidden: int | None = None
    fit: FitSettings | None = None
    seeds: int = 1
    gamma: float | None = None
    stand_in: bool = False
    floor: float | None = None
    effort: Effort | None = None

    @property
    def width(self) -> int:
        """Return `hidden`, where a table has no preset."""
        if self.hidden is None:
            raise InputError("a scale without hidden units", "their number, for a table without presets")
        return self.hidden

    @property
    def length(self) -> FitSettings:
        """Return `fit`, where a table has no preset."""
        if self.fit is None:
            raise InputError("a scale without a length of training", "one, for a table without presets")
        return self.fit


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name
        ``paper/table``.
    title, source
        For people.
    cells
        In the paper's order.
    scales
        Budgets by name.
    build
        (cell, scale, seed) → model and data.
    settings
        (cell, scale, seed) → what `build` builds from: a preset, what the cell changes, and what the scale does. None
        where the models are made of parts for which there are no settings.
    data
        Named data sets that it needs.
    synthetic
        The law of data that are drawn; results under another law are not of this table.
    checks, orderings, claims
        What is judged.
    shown
        Measures to show beside those that are published.
    together
        Axes on which the shape of a model does not depend: cells that differ in these alone, and all seeds, are
        trained together. None trains each by itself.
    measure
        Trained job → measure → number.
    results_of
        Name of the table whose results these are too: one training of a cell measures what both show. Empty for its
        own.
    ranked
        Measures whose rank correlation with the published numbers, over the cells, is printed.
    convention
        What a reader has to know of the numbers.
    distances
        Measures that a protocol makes: they compare with the published ones under the same protocol only.
    choices
        Cells of which the best is chosen by another measure than the one that it is chosen for.
    quoted
        Published numbers of what is not trained here: name → measure → number.
    """

    name: str
    title: str
    source: str
    cells: tuple[Cell, ...]
    scales: Mapping[ScaleName, Scale]
    build: Callable[[Cell, Scale, int], Job]
    settings: Callable[[Cell, Scale, int], Settings] | None = None
    data: tuple[str, ...] = ()
    synthetic: str = ""
    checks: tuple[Check, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    shown: tuple[str, ...] = ()
    together: tuple[str, ...] | None = None
    measure: Callable[[Job], dict[str, float]] = measure
    claims: tuple[Claim, ...] = ()
    results_of: str = ""
    ranked: tuple[str, ...] = ()
    convention: str = ""
    distances: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    quoted: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)

    def scale(self, name: str) -> Scale:
        """Return a budget by name.

        Raises
        ------
        InputError
            There is none of this name.
        """
        for known, scale in self.scales.items():
            if known == name:
                return scale
        raise InputError(f"scale {name!r} for {self.name}", f"one of {', '.join(self.scales)}")

    @property
    def results(self) -> str:
        """Name of the table whose results these are."""
        return self.results_of or self.name

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures to show, in the order of their appearance."""
        every = (numbers for cell in self.cells for numbers in (cell.published, *cell.versions.values()))
        return tuple(dict.fromkeys([*(name for numbers in every for name in numbers), *self.shown]))

    @property
    def versions(self) -> tuple[str, ...]:
        """Names of the other versions of the paper that have numbers."""
        return tuple(dict.fromkeys(name for cell in self.cells for name in cell.versions))
