"""Variances of rows that come in blocks."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningVariance:
    """Mean and variance of every dimension over all rows seen, float64.

    T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    1979: blocks are centred before they are squared, so that a large mean costs no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._sum = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in (B, d) rows."""
        values = values.double()
        n, mean = len(values), values.mean(0)
        own = (values - mean).square().sum(0)
        if not self.count:
            self.count, self._mean, self._sum = n, mean, own
            return
        total, step = self.count + n, mean - self._mean
        self._sum = self._sum + own + step.square() * (self.count * n / total)
        self._mean = self._mean + step * (n / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """(d,) means, on the CPU."""
        return self._mean.cpu()

    @property
    def variance(self) -> Tensor:
        """(d,) mean squared deviations from the mean, on the CPU."""
        return self._sum.cpu() / max(self.count, 1)
