"""p(x | z) of a table with numbers, categories and missing entries.

    −log p(x_obs | z) = Σ_observed numbers ½ [(x_j − μ_j(z))²/γ + log 2πγ] − Σ_observed categories log p_j(x_j | z)

with p_j from logits, or, where levels have an order, from cumulative ones (`vaelab.model.ordinal`).

Entries are independent given z, so leaving a term out is integrating over it: the bound is on log p of what was
observed (Mattei & Frellsen 2019, eq. 4). That presumes that entries are missing at random. Which ones are missing has a
law of its own, `Gaps`, whose nats are a term beside these. The result mixes densities of numbers and probabilities of
levels: a number of nats per row that compares models of one table, not tables.

A row x is (d,): numbers as they are, categories as the number of their level, NaN where an entry is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model.distributions import chosen
from vaelab.model.gaps import Gaps
from vaelab.model.likelihoods import Likelihood
from vaelab.model.ordinal import ordered_log_probabilities
from vaelab.model.variances import ProfiledVariance, Variance
from vaelab.types import ParameterGroup

_LEAST_SHARE = 1e-6  # of a level, in the information on it


class _Group(NamedTuple):
    """Categorical columns of equally many levels: their logits stand side by side, and are handled together."""

    columns: int
    levels: int
    ordered: bool
    start: int  # of their logits among the decoder's numbers, and of their columns among all categories
    first: int

    @property
    def outputs(self) -> int:
        """Numbers of the decoder for each column."""
        return self.levels - 1 if self.ordered else self.levels

    def logits(self, raw: Tensor) -> Tensor:
        """(B, columns, outputs) → (B, columns, levels)."""
        return ordered_log_probabilities(raw) if self.ordered else raw


@final
class Mixed(Likelihood):
    """Gaussian numbers and categorical levels, independent given z; missing entries contribute nothing.

    The decoder emits the means of the numbers, in the order of their columns, then the logits of the categories:
    columns of few levels before columns of many, of equally many those without an order first, and else in their order.
    The numbers of `Gaps` come last.

    Parameters
    ----------
    levels
        Of each column: 0 for a number, else how many levels it has.
    variance
        How the γ of the numbers is obtained; profiled by default, from observed entries only. One for all numbers, or
        one for each column of them, but none that differs from row to row.
    ordered
        Whether the levels of each column have an order; none if not given. An order of two says nothing.
    gaps
        Pattern of each column's gaps, as from `vaelab.model.gaps.gap_patterns`; empty where nothing is missing.

    Attributes
    ----------
    heaviest
        Place of a category whose last level stands for several → share of the likeliest of these in it. Where the most
        likely level is asked for, that one competes with the others.

    Raises
    ------
    InputError
        No column, a negative count, orders or patterns of other columns, or a variance per row.

    Examples
    --------
    >>> mixed = Mixed((0, 3, 0))
    >>> mixed.parameter_shape((3,))
    (5,)
    >>> mixed.nll(torch.zeros(1, 5), torch.tensor([[float("nan"), 2.0, float("nan")]]))  # log 3
    tensor([1.0986])
    """

    _numbers: Tensor
    _categories: Tensor
    _order: Tensor

    def __init__(
        self,
        levels: Sequence[int],
        variance: Variance | None = None,
        *,
        gaps: Sequence[int] = (),
        ordered: Sequence[bool] = (),
    ) -> None:
        counts = tuple(int(count) for count in levels)
        if not counts or min(counts) < 0:
            raise InputError(f"levels={counts}", "one count per column: 0 for a number, else of its levels")
        if len(ordered) not in (0, len(counts)):
            raise InputError(f"{len(ordered)} orders for {len(counts)} columns", "one for each, or none")
        if len(gaps) not in (0, len(counts)):
            raise InputError(f"gaps={tuple(gaps)}", f"a pattern for each of {len(counts)} columns")
        variance = ProfiledVariance() if variance is None else variance
        if variance.per_sample or variance.outputs(1) != 1:
            raise InputError(
                "a variance per row for a mixed table", "one for all rows", "Use shape 'iso-i' or 'diag-i'."
            )
        numbers = [j for j, count in enumerate(counts) if not count]
        # without numbers there is nothing to have a variance
        super().__init__(variance if numbers else None)
        self.levels = counts
        self.ordered = tuple(
            count > 2 and own for count, own in zip(counts, ordered or (False,) * len(counts), strict=True)
        )
        self.gaps = Gaps(gaps) if any(gaps) else None
        kinds = list(zip(self.levels, self.ordered, strict=True))
        categories = sorted((j for j, count in enumerate(self.levels) if count), key=lambda j: kinds[j])
        self.heaviest: Mapping[int, float] = {}
        self._places = tuple(categories)
        self._groups: list[_Group] = []
        start, first = len(numbers), 0
        for count, own in sorted({kind for kind in kinds if kind[0]}):
            group = _Group(kinds.count((count, own)), count, own, start, first)
            self._groups.append(group)
            start, first = start + group.columns * group.outputs, first + group.columns
        self._values = start  # numbers of the decoder that are of values, before those of gaps
        indices = {
            "_numbers": torch.tensor(numbers, dtype=torch.int64),
            "_categories": torch.tensor(categories, dtype=torch.int64),
            "_order": torch.tensor(numbers + categories, dtype=torch.int64).argsort(),  # back to the table's
        }
        for name, index in indices.items():
            self.register_buffer(name, index, persistent=False)

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(numbers + Σ levels, one less for each with an order, + patterns of gaps,) for an event of (d,)."""
        if event_shape != (len(self.levels),):
            raise InputError(f"rows of shape {event_shape}", f"({len(self.levels)},), one column per entry of levels")
        return (self._values + (0 if self.gaps is None else self.gaps.count),)

    def squared_error(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B, numbers) (x − μ)² of the columns of numbers, NaN where the entry is missing."""
        return (x.index_select(1, self._numbers) - self._means(parameters)).square()

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −log p of the observed entries, nats; of a row without any, 0."""
        return self._nll(parameters, x, None)

    def nll_of_draws(self, parameters: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """(K, B) nats; see `Likelihood.nll_of_draws`."""
        draws = len(parameters)
        of_rows = None if weights is None else draws * weights.reshape(-1, 1)
        return self._nll(parameters.flatten(0, 1), x.expand(draws, *x.shape).flatten(0, 1), of_rows).view(draws, -1)

    def _nll(self, parameters: Tensor, x: Tensor, weights: Tensor | None) -> Tensor:
        """(B,) nats; rows have (B, 1) weights of mean 1 in a profiled γ."""
        total = parameters.new_zeros(x.shape[0])
        if self.variance is not None:
            total = self._numbers_costs(parameters, x, weights).sum(1)
        for costs in self._levels_costs(parameters, x):
            total = total + costs.sum(1)
        return total

    def costs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(K, B, d) −log p of each entry, nats; 0 where it is missing."""
        draws, rows = parameters.shape[:2]
        flat, x = parameters.flatten(0, 1), x.expand(draws, *x.shape).flatten(0, 1)
        parts = [] if self.variance is None else [self._numbers_costs(flat, x)]
        parts += self._levels_costs(flat, x)
        costs: Tensor = torch.cat(parts, dim=1).index_select(1, self._order).unflatten(0, (draws, rows))
        return costs

    def _levels_costs(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """(B, columns) for each group of categories."""
        codes, parts = x.index_select(1, self._categories), []
        for group, logits in self._logits(parameters):
            own = codes[:, group.first : group.first + group.columns]
            missing = own.isnan()
            level = torch.where(missing, 0.0, own).long().unsqueeze(2)
            log_p = logits.log_softmax(2).gather(2, level).squeeze(2)
            parts.append(torch.where(missing, 0.0, -log_p))
        return parts

    def beside(self, parameters: Tensor, x: Tensor) -> dict[str, Tensor]:
        """``gaps``: (B,) −log p(m | z) of which entries are missing, nats, where any were in training."""
        return {} if self.gaps is None else {"gaps": self.gaps.nll(parameters[:, self._values :], x)}

    def open(self, x: Tensor, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, d) rows with gaps drawn from p(m | z); as they are where there were none in training."""
        return x if self.gaps is None else self.gaps.open(x, parameters[:, self._values :], generator=generator)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Those of variance and gaps."""
        return [*super().parameter_groups(), *([] if self.gaps is None else self.gaps.parameter_groups())]

    def _numbers_costs(self, parameters: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
        assert self.variance is not None  # of a table with numbers
        numbers = x.index_select(1, self._numbers)
        missing = numbers.isnan()
        # NaN is replaced before anything is computed with it: its gradient would be NaN even where it is left out
        error = torch.where(missing, 0.0, torch.where(missing, 0.0, numbers) - self._means(parameters))
        squared = error.square()
        observed = (~missing).to(squared.dtype)
        spread = squared if weights is None else squared * weights
        gamma: Tensor = self.variance(spread * self._share(observed))
        gamma = gamma.clamp(min=torch.finfo(gamma.dtype).tiny)  # a profiled γ is 0 where nothing was observed
        return 0.5 * (squared / gamma + observed * (gamma.log() + math.log(2 * math.pi)))

    def _share(self, observed: Tensor) -> Tensor:
        """Factor by which squared errors grow, so that their mean over all entries is that over observed ones."""
        if self.variance is not None and self.variance.diagonal:
            return observed.shape[0] / observed.sum(0, keepdim=True).clamp(min=1)
        return observed.numel() / observed.sum().clamp(min=1)

    def impute(self, x: Tensor, parameters: Tensor, weights: Tensor) -> Tensor:
        """(B, d) x with its gaps filled: numbers by their mean over the draws, categories by the most likely level."""
        each = self._expected(parameters.flatten(0, 1)).unflatten(0, parameters.shape[:2])
        return torch.where(x.isnan(), self._decide((weights[..., None] * each).sum(0)), x)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return means of the numbers and probabilities p of the levels, and 1/γ and 1/p: (B, numbers + Σ levels)."""
        expected = self._expected(parameters)
        information = 1 / expected.clamp(min=_LEAST_SHARE)
        if self.variance is not None:
            gamma = self.variance.gamma.to(expected.dtype).clamp(min=torch.finfo(expected.dtype).tiny)
            information[:, : len(self._numbers)] = 1 / gamma
        return expected, information

    def statistics(self, x: Tensor) -> Tensor:
        """(B, numbers + Σ levels) numbers, and 1 for the level that a category has and 0 for the others."""
        codes, parts = x.index_select(1, self._categories), [x.index_select(1, self._numbers)]
        for group in self._groups:
            own = codes[:, group.first : group.first + group.columns].unsqueeze(2)
            chosen = (own == torch.arange(group.levels, device=x.device)).to(x.dtype)
            parts.append(torch.where(own.isnan(), torch.nan, chosen).flatten(1))
        return torch.cat(parts, dim=1)

    def shares(self, parameters: Tensor) -> dict[int, Tensor]:
        """Place of each category in the table → (B, levels) probabilities."""
        each = [part for _, logits in self._logits(parameters) for part in logits.softmax(2).unbind(1)]
        return dict(zip(self._places, each, strict=True))

    def _expected(self, parameters: Tensor) -> Tensor:
        """(B, numbers + Σ levels) means of the numbers and probabilities of the levels, in the decoder's order."""
        parts = [self._means(parameters), *(logits.softmax(2).flatten(1) for _, logits in self._logits(parameters))]
        return torch.cat(parts, dim=1)

    def _decide(self, expected: Tensor) -> Tensor:
        """(B, d) numbers as they are and the most likely level of each category, from `_expected` or an average."""
        widths = [group.columns * group.levels for group in self._groups]
        numbers, *weights = expected.split([len(self._numbers), *widths], dim=1)
        parts = [
            self._singled(group, part.unflatten(1, (group.columns, group.levels))).argmax(2).to(expected.dtype)
            for group, part in zip(self._groups, weights, strict=True)
        ]
        return torch.cat([numbers, *parts], dim=1).index_select(1, self._order)

    def _singled(self, group: _Group, shares: Tensor) -> Tensor:
        """(B, columns, levels) probabilities, of a last level that stands for several that of the likeliest."""
        own = [self.heaviest.get(place, 1.0) for place in self._places[group.first : group.first + group.columns]]
        if min(own) == 1:
            return shares
        return torch.cat([shares[..., :-1], shares[..., -1:] * shares.new_tensor(own)[:, None]], dim=2)

    def mean(self, parameters: Tensor) -> Tensor:
        """(B, d) means of the numbers, and of categories, which have no mean, the most likely level."""
        return self._decide(self._expected(parameters))

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, d) numbers with noise of variance γ, and levels drawn with their probabilities; nothing is missing."""
        numbers = self._means(parameters)
        if self.variance is not None:
            noise = torch.randn(numbers.shape, dtype=numbers.dtype, device=numbers.device, generator=generator)
            numbers = numbers + self.variance.gamma.to(numbers.dtype).sqrt() * noise
        parts = [numbers]
        for group, logits in self._logits(parameters):
            drawn = logits.softmax(2).flatten(0, 1).multinomial(1, generator=generator)
            parts.append(drawn.view(len(parameters), group.columns).to(numbers.dtype))
        return torch.cat(parts, dim=1).index_select(1, self._order)

    def sample_from(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """(B, d) what `sample` draws, as a map of (B, d) standard normals: those of the numbers come first."""
        means, rest = self._means(parameters), noise[:, len(self._numbers) :]
        if self.variance is not None:
            means = means + self.variance.gamma.to(means.dtype).sqrt() * noise[:, : len(self._numbers)]
        parts = [means]
        for group, logits in self._logits(parameters):
            own = rest[:, group.first : group.first + group.columns, None]
            parts.append(chosen(logits.softmax(2), own).to(means.dtype))
        return torch.cat(parts, dim=1).index_select(1, self._order)

    def _means(self, parameters: Tensor) -> Tensor:
        return parameters[:, : len(self._numbers)]

    def _logits(self, parameters: Tensor) -> list[tuple[_Group, Tensor]]:
        """(B, columns, levels) for each group."""
        ends = [group.start + group.columns * group.outputs for group in self._groups]
        return [
            (group, group.logits(parameters[:, group.start : end].unflatten(1, (group.columns, group.outputs))))
            for group, end in zip(self._groups, ends, strict=True)
        ]

    def extra_repr(self) -> str:
        """Show the columns in ``repr``."""
        return f"levels={self.levels}" + (f", ordered={self.ordered}" if any(self.ordered) else "")
