"""A paper's table as data: cells, what is published in each, budgets, and what counts as agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from vaelab.errors import InputError
from vaelab.model import VAE
from vaelab.training import FitSettings
from vaelab.types import Batches

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
    """

    axes: Mapping[str, float | str]
    published: Mapping[str, float]

    @property
    def name(self) -> str:
        """The axes in words."""
        texts = {name: value if isinstance(value, str) else f"{value:g}" for name, value in self.axes.items()}
        return ", ".join(f"{name}={text}" for name, text in texts.items())

    def number(self, axis: str) -> float:
        """Return the value of an axis of numbers."""
        return float(self.axes[axis])


@dataclass(frozen=True)
class Scale:
    """How much is spent on a cell.

    Attributes
    ----------
    rows
        Training rows; of a data set at most as many as it has.
    hidden
        Units of the networks' hidden layer, or channels of a convolutional network's first.
    fit
        Length and schedule.
    seeds
        Independent repetitions, of data and initial weights.
    gamma
        First decoder variance γ, where a table does not vary it.
    stand_in
        Use a bundled data set of the same form where the table's own has to be downloaded.
    """

    rows: int
    hidden: int
    fit: FitSettings
    seeds: int = 1
    gamma: float = 1.0
    stand_in: bool = False


@dataclass(frozen=True)
class Check:
    """What counts as agreement with the published number: exactly it, or no more than it."""

    measure: str
    rule: Literal["equal", "at most"]

    def passed(self, measured: float, published: float) -> bool:
        """Whether a measured number agrees."""
        return measured == published if self.rule == "equal" else measured <= published


class Quantity(NamedTuple):
    """A measured number: a measure of one cell."""

    cell: str
    measure: str


@dataclass(frozen=True)
class Ordering:
    """One measured number below another one, whatever is published.

    Attributes
    ----------
    claim
        In words.
    lower, upper
        The two numbers, means over the seeds.
    by
        How far apart they are at least; negative where `lower` may be above by so much.
    """

    claim: str
    lower: Quantity
    upper: Quantity
    by: float

    def passed(self, measured: Callable[[Quantity], float]) -> bool:
        """Whether the measured numbers are in this order."""
        return measured(self.lower) + self.by <= measured(self.upper)


class Job(NamedTuple):
    """A model, what it is trained on, and classes to measure apart, if there are any."""

    model: VAE
    batches: Batches
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()


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
    checks, orderings
        What is judged.
    shown
        Measures to show beside those that are published.
    together
        Axes on which the shape of a model does not depend: cells that differ in these alone, and all seeds, are
        trained together. None trains each by itself.
    """

    name: str
    title: str
    source: str
    cells: tuple[Cell, ...]
    scales: Mapping[ScaleName, Scale]
    build: Callable[[Cell, Scale, int], Job]
    checks: tuple[Check, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    shown: tuple[str, ...] = ()
    together: tuple[str, ...] | None = None

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
    def measures(self) -> tuple[str, ...]:
        """Names of the measures to show, in the order of their appearance."""
        published = (name for cell in self.cells for name in cell.published)
        return tuple(dict.fromkeys([*published, *self.shown]))
