"""What counts as agreement with a paper: with its numbers, or with what it says of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final


@final
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


class Choice(NamedTuple):
    """One of several cells, chosen by one measure and shown by another.

    Attributes
    ----------
    title
        What is chosen.
    cells
        Of which.
    by
        Measure that is least in the one.
    shows
        Measure that it is chosen for.
    """

    title: str
    cells: tuple[str, ...]
    by: str
    shows: str


Measured = Callable[[Quantity], float]
"""A quantity's mean over the seeds."""


class Claim(ABC):
    """A sentence about measured numbers, whatever is published.

    Attributes
    ----------
    claim
        In words.
    """

    claim: str

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """What it is about; it is judged once all of them are measured."""

    @abstractmethod
    def found(self, measured: Measured) -> tuple[float, ...]:
        """Return the numbers to print beside the claim."""

    @abstractmethod
    def passed(self, measured: Measured) -> bool:
        """Whether it holds."""


@final
@dataclass(frozen=True)
class Ordering(Claim):
    """One measured number below another one.

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

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Both."""
        return self.lower, self.upper

    def found(self, measured: Measured) -> tuple[float, ...]:
        """Return both."""
        return measured(self.lower), measured(self.upper)

    def passed(self, measured: Measured) -> bool:
        """Whether the measured numbers are in this order."""
        return measured(self.lower) + self.by <= measured(self.upper)


@final
@dataclass(frozen=True)
class Trend(Claim):
    """A measure that rises along a row of cells.

    Attributes
    ----------
    claim
        In words.
    rising
        The numbers in the order in which they should rise.
    at_least
        Rank correlation of the measured numbers with that order; 1 allows no exception.
    """

    claim: str
    rising: tuple[Quantity, ...]
    at_least: float

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """All of them."""
        return self.rising

    def found(self, measured: Measured) -> tuple[float, ...]:
        """Return the rank correlation."""
        return (rank_correlation(range(len(self.rising)), [measured(one) for one in self.rising]),)

    def passed(self, measured: Measured) -> bool:
        """Whether they rise."""
        return self.found(measured)[0] >= self.at_least


@final
@dataclass(frozen=True)
class Closeness(Claim):
    """A measured number near the sum of another one and a known one.

    Attributes
    ----------
    claim
        In words.
    quantity, reference, plus
        The number, and what it should be: `reference` + `plus`.
    within
        Largest deviation, relative to that sum: 0.05 for 5 %.
    """

    claim: str
    quantity: Quantity
    reference: Quantity
    plus: float
    within: float

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Both."""
        return self.quantity, self.reference

    def found(self, measured: Measured) -> tuple[float, ...]:
        """Return the number and what it should be."""
        return measured(self.quantity), measured(self.reference) + self.plus

    def passed(self, measured: Measured) -> bool:
        """Whether the number is near enough."""
        got, wanted = self.found(measured)
        return abs(got - wanted) <= self.within * abs(wanted)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two rows of numbers; 0 where one of them does not vary.

    Spearman 1904; equal numbers share their mean rank.
    """
    from scipy.stats import spearmanr  # half a second to import

    if len(set(a)) < 2 or len(set(b)) < 2:
        return 0.0
    return float(spearmanr(a, b).statistic)
