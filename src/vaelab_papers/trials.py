"""Numbers of several independent trials, published or measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Trials(NamedTuple):
    """Mean and standard deviation over trials.

    Attributes
    ----------
    mean, deviation
        Both; the deviation is that of a sample, of which one trial has none.
    """

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Trials:
        """Return those of some trials, at least one."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


Number = float | Trials
"""One number as it is printed, with a deviation or without."""


def mean_of(number: Number) -> float:
    """Return the number without its deviation."""
    return number.mean if isinstance(number, Trials) else number


def deviation_of(number: Number) -> float | None:
    """Return the deviation, where there is one."""
    return number.deviation if isinstance(number, Trials) else None
