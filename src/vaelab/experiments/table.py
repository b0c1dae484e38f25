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
        What is varied: name → value.
    published
        Measure → the paper's number.
    """

    axes: Mapping[str, int | float]
    published: Mapping[str, float]

    @property
    def name(self) -> str:
        """The axes in words."""
        return ", ".join(f"{name}={value:g}" for name, value in self.axes.items())


@dataclass(frozen=True)
class Scale:
    """How much is spent on a cell.

    Attributes
    ----------
    rows
        Training rows.
    hidden
        Units of the networks' hidden layer.
    fit
        Length and schedule.
    seeds
        Independent repetitions, of data and initial weights.
    """

    rows: int
    hidden: int
    fit: FitSettings
    seeds: int = 1


@dataclass(frozen=True)
class Check:
    """What counts as agreement with the published number: exactly it, or no more than it."""

    measure: str
    rule: Literal["equal", "at most"]

    def passed(self, measured: float, published: float) -> bool:
        """Whether a measured number agrees."""
        return measured == published if self.rule == "equal" else measured <= published


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
    checks
        What is judged.
    """

    name: str
    title: str
    source: str
    cells: tuple[Cell, ...]
    scales: Mapping[ScaleName, Scale]
    build: Callable[[Cell, Scale, int], Job]
    checks: tuple[Check, ...]

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
