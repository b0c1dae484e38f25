"""Marginals of a table's numbers: columns of any distribution, brought to the standard normal and back by rank.

With F the distribution function of the training rows, a number x becomes its normal score Φ⁻¹(F(x)) (van der Waerden
1952; the marginals of a Gaussian copula). What comes back through F⁻¹ is in the column's range, has its tails and gaps,
and lies on its grid. A value that occurs more than once holds an interval of F: it is spread over it in training, and
everything in it comes back as that value, so that a share of exact zeros stays one.

A value with an interval has a probability, F(x) less F(x−), and other values a density, the slope of F.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_LEAST_ROWS = 50  # entries from which ranks say more than mean and variance
_MOST_VALUES = 2_000  # of a column that are kept one by one
_KNOTS = 200  # of the part of a column without repetitions
_MOST_DECIMALS = 6
_LEAST_ATOM, _ATOM_OVER, _MOST_ATOMS = 0.05, 3.0, 5  # share of an atom, and times that of the values beside it
_MOST_STEPS, _SLACK = 1e11, 1e-3  # of a grid, from 0; and what float32 may lack of a whole step


@dataclass(frozen=True)
class Marginal:
    """The distribution function of one column, linear between its knots.

    Attributes
    ----------
    values
        (m,) numbers, ascending.
    low, high
        (m,) F just below and at each of them; equal where a number has no probability of its own.
    step
        Distance of the grid that all numbers lie on, from 0; 0 where there is none.
    """

    values: Tensor
    low: Tensor
    high: Tensor
    step: float

    @classmethod
    def fit(cls, x: Tensor) -> Self | None:
        """Learn it from (n,) float64 numbers without gaps; None for one value only, or fewer than 50."""
        values, counts = torch.unique(x, return_counts=True)
        if len(x) < _LEAST_ROWS or len(values) < 2:
            return None
        high = counts.cumsum(0).double() / len(x)
        low = high - counts.double() / len(x)
        middle = (low + high) / 2
        single = counts == 1
        low, high = torch.where(single, middle, low), torch.where(single, middle, high)
        kept = ~single if len(values) <= _MOST_VALUES else counts > max(1, len(x) // _MOST_VALUES)
        alone = (~kept).nonzero().flatten()
        if len(alone) > _KNOTS:  # the rest says little beyond what its quantiles say
            places = torch.linspace(0, len(alone) - 1, _KNOTS).round().long()
            alone = alone[places]
            low[alone], high[alone] = middle[alone], middle[alone]
        kept[alone] = True
        return cls(values[kept], low[kept], high[kept], grid_step(values))

    def to_normal(self, x: Tensor, place: Tensor | float = 0.5) -> Tensor:
        """(n,) numbers to scores, float64; `place` in (0, 1) says where in its interval a value goes."""
        index = torch.searchsorted(self.values, x.contiguous()).clamp(max=len(self.values) - 1)
        within = self.low[index] + (self.high[index] - self.low[index]) * place
        between = _interpolated(x, self.values.repeat_interleave(2), self.heights)
        u = torch.where(self.values[index] == x, within, between)
        scores: Tensor = torch.special.ndtri(u.clamp(self.least, 1 - self.least))
        return scores

    def from_normal(self, z: Tensor) -> Tensor:
        """(n,) scores to numbers, float64."""
        u = torch.special.ndtr(z.double())
        x = self._on_grid(_interpolated(u, self.heights, self.values.repeat_interleave(2)))
        return x.clamp(self.values[0], self.values[-1])  # rounding alone could leave the range

    def log_volume(self, x: Tensor) -> Tensor:
        """(n,) nats to subtract from the log-density of scores: log φ(z) less the log of F's slope, or of its jump.

        Beyond all values the density falls with the square of the distance t from the last: slope / (1 + t/w)², which
        holds w · slope in all, the least F that is told from 0.
        """
        z = self.to_normal(x)
        index = torch.searchsorted(self.values, x.contiguous()).clamp(max=len(self.values) - 1)
        jump = torch.where(self.values[index] == x, self.high[index] - self.low[index], 0.0)
        index = index.clamp(min=1)
        rise = (self.low[index] - self.high[index - 1]) / (self.values[index] - self.values[index - 1])
        weight = torch.where(jump > 0, jump, rise).clamp(min=self.least**2)
        beyond = torch.maximum(self.values[0] - x, x - self.values[-1]).clamp(min=0.0)
        # a tail that holds what F leaves for the unseen, where it has the slope of F at the end
        tail = 2 * torch.log1p(beyond * (weight / self.least))
        return tail - 0.5 * z.square() - 0.5 * math.log(2 * math.pi) - weight.log()

    def atoms(self) -> tuple[tuple[float, float], ...]:
        """Values that occur far more often than those beside them, the largest five, and their shares."""
        own = self.high - self.low
        around = torch.nn.functional.pad(own, (1, 1))
        usual = torch.maximum((around[:-2] + around[2:]) / 2, torch.tensor(1 / len(own)))
        standing = (own >= _LEAST_ATOM) & (own >= _ATOM_OVER * usual)
        order = own.where(standing, 0.0).argsort(descending=True)[: min(_MOST_ATOMS, int(standing.sum()))]
        return tuple((float(self.values[j]), float(own[j])) for j in order)

    @property
    def heights(self) -> Tensor:
        """(2m,) F before and behind each value."""
        return torch.stack([self.low, self.high], 1).flatten()

    @property
    def least(self) -> float:
        """Smallest F that is told from 0: a quarter of a row, or of the least step of F that is known."""
        jumps = torch.cat([self.high - self.low, self.low[:1], 1 - self.high[-1:]])
        return min(0.25 * float(jumps[jumps > 0].min()), 1e-3)

    def _on_grid(self, x: Tensor) -> Tensor:
        if not self.step:
            return x
        # in whole steps, by the inverse where that is whole, as 0.01 is no binary fraction
        inverse = round(1 / self.step)
        return (x * inverse).round() / inverse if self.step < 1 else (x / self.step).round() * self.step


@dataclass(frozen=True)
class Marginals:
    """The marginals of a table; None for columns that are standardised or are categories."""

    columns: tuple[Marginal | None, ...]

    @classmethod
    def fit(cls, x: Tensor, chosen: Sequence[bool]) -> Self:
        """Learn those of the chosen columns from (n, d) coded rows, NaN where an entry is missing."""
        wide = x.detach().cpu().double()
        own = [
            Marginal.fit(column[~column.isnan()]) if scored else None
            for column, scored in zip(wide.T, chosen, strict=True)
        ]
        return cls(tuple(own))

    def to_normal(self, x: Tensor, place: Tensor | None = None) -> Tensor:
        """(n, d) rows with scores in the columns that have them, float64 on the CPU; `place` (n, d) as there."""
        out = x.double().cpu().clone()
        for j, column in enumerate(self.columns):
            if column is not None:
                scores = column.to_normal(out[:, j].nan_to_num(), 0.5 if place is None else place[:, j])
                out[:, j] = torch.where(out[:, j].isnan(), math.nan, scores)
        return out

    def from_normal(self, z: Tensor) -> Tensor:
        """(n, d) scores to rows, float64 on the CPU."""
        out = z.double().cpu().clone()
        for j, column in enumerate(self.columns):
            if column is not None:
                out[:, j] = torch.where(out[:, j].isnan(), math.nan, column.from_normal(out[:, j]))
        return out

    def log_volume(self, x: Tensor) -> Tensor:
        """(n, d) nats of `Marginal.log_volume`; 0 where an entry is missing or the column has none."""
        wide = x.double().cpu()
        out = torch.zeros_like(wide)
        for j, column in enumerate(self.columns):
            if column is not None:
                out[:, j] = torch.where(wide[:, j].isnan(), 0.0, column.log_volume(wide[:, j].nan_to_num()))
        return out

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, for a safetensors file."""
        parts = {"values": "values", "low": "low", "high": "high"}
        sizes = torch.tensor([0 if column is None else len(column.values) for column in self.columns])
        steps = torch.tensor([0.0 if column is None else column.step for column in self.columns], dtype=torch.float64)
        empty = [torch.empty(0, dtype=torch.float64)]
        joined = {
            name: torch.cat([*empty, *(getattr(column, part) for column in self.columns if column is not None)])
            for name, part in parts.items()
        }
        return {f"marginal_{name}": tensor for name, tensor in {**joined, "sizes": sizes, "steps": steps}.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self | None:
        """Rebuild from `state`; None where there were none."""
        if "marginal_sizes" not in state:
            return None
        sizes = state["marginal_sizes"].tolist()
        parts = [state[f"marginal_{name}"].double().split(sizes) for name in ("values", "low", "high")]
        steps = state["marginal_steps"].tolist()
        return cls(
            tuple(
                Marginal(values=parts[0][j], low=parts[1][j], high=parts[2][j], step=steps[j]) if size else None
                for j, size in enumerate(sizes)
            )
        )


def grid_step(values: Tensor) -> float:
    """Distance of the coarsest grid through 0 that all of (n,) numbers lie on: a whole number, or 10⁻ᵖ; 0 for none."""
    values = values.double()
    for decimals in range(_MOST_DECIMALS + 1):
        whole = values * 10**decimals
        if float(whole.abs().max()) > _MOST_STEPS:  # beyond, rounding alone makes numbers whole
            break
        if float((whole - whole.round()).abs().max()) <= _SLACK:
            common = math.gcd(*map(int, whole.round().tolist())) if not decimals else 1
            return float(common) if common > 1 else 10.0**-decimals
    return 0.0


def _interpolated(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Ys at x, linear between the knots xs (ascending, repetitions allowed) and constant beyond; differentiable."""
    index = torch.searchsorted(xs, x.detach().contiguous()).clamp(1, len(xs) - 1)
    left, right = xs[index - 1], xs[index]
    width = right - left
    share = torch.where(width > 0, (x - left) / width.where(width > 0, 1.0), 1.0).clamp(0, 1)
    return ys[index - 1] + share * (ys[index] - ys[index - 1])
