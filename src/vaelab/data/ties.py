"""Columns that other columns of their row determine: sums, other units, and names or totals that hang on a value.

Real tables have them, and networks learn them with an error, by which trees tell samples at sight. They are found in
the rows of the training, where all rows with entries keep them, and kept by what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from vaelab.data.columns import Schema

_MOST_ROWS, _LEAST_ROWS = 20_000, 100  # that are looked at
_MOST_COLUMNS = 100
_MOST_VALUES = 1_000  # of a column that determines another, and at most
_ROWS_PER_VALUE = 10  # rows for each, on average
_EVIDENCE = 50.0  # nats: what it would cost to meet no exception if the columns were independent
_FIRST = 500  # rows that rule out most pairs
_EXACT = 1e-6  # largest residual of a sum, in standard deviations


@dataclass(frozen=True)
class Tie:
    """How a column follows from others of its row.

    Attributes
    ----------
    sources
        Their names.
    weights, constant
        Of a sum.
    table
        (value of the one source, value) of what is no sum; other values say nothing.
    """

    sources: tuple[str, ...]
    weights: tuple[float, ...] = ()
    constant: float = 0.0
    table: tuple[tuple[float, float], ...] = ()

    def values(self, rows: Tensor) -> Tensor:
        """(n,) what follows from (n, k) entries of the sources, float64; NaN where nothing does."""
        rows = rows.double()
        if not self.table:
            weights = torch.tensor(self.weights, dtype=torch.float64, device=rows.device)
            return rows @ weights + self.constant
        keys, values = torch.tensor(self.table, dtype=torch.float64, device=rows.device).T
        own = rows[:, 0].contiguous()
        right = torch.searchsorted(keys.contiguous(), own).clamp(max=len(keys) - 1)
        left = (right - 1).clamp(min=0)
        near = torch.where((own - keys[left]).abs() < (own - keys[right]).abs(), left, right)
        met = (own - keys[near]).abs() <= 1e-6 * (1 + keys[near].abs())
        return torch.where(met, values[near], torch.nan)

    def meta(self) -> dict[str, Any]:
        """Return plain values."""
        plain = asdict(self)
        return {
            name: [list(each) if isinstance(each, tuple) else each for each in value]
            if isinstance(value, tuple)
            else value
            for name, value in plain.items()
            if value
        }

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Self:
        """Rebuild from `meta`."""
        return cls(
            tuple(map(str, meta["sources"])),
            tuple(map(float, meta.get("weights", ()))),
            float(meta.get("constant", 0.0)),
            tuple((float(key), float(value)) for key, value in meta.get("table", ())),
        )

    @property
    def described(self) -> str:
        """In a few words."""
        if self.table:
            return f"determined by {self.sources[0]}"
        parts = [_term(weight, name) for weight, name in zip(self.weights, self.sources, strict=True)]
        parts += [f"{self.constant:+g}"] if self.constant else []
        return "= " + " ".join(parts).removeprefix("+").strip()


def _term(weight: float, name: str) -> str:
    return f"{'-' if weight < 0 else '+'}{'' if abs(weight) == 1 else f'{abs(weight):g} · '}{name}"


def on_grid(values: Tensor, step: float) -> Tensor:
    """Round to a grid through 0, of whole numbers or of decimals, as these are written."""
    if step >= 1:
        return (values / step).round() * step
    parts = round(1 / step)
    return (values * parts).round() / parts


def find_ties(rows: Tensor, names: Sequence[str], levels: Sequence[int]) -> dict[str, Tie]:
    """Find the columns that others determine: column → how; those are to be set in this order.

    Parameters
    ----------
    rows
        (n, d) coded rows, NaN where an entry is missing, of which at most 20,000 are looked at.
    names
        Of the columns.
    levels
        How many levels each has; 0 for numbers.
    """
    n, d = rows.shape
    if n < _LEAST_ROWS or d > _MOST_COLUMNS:
        return {}
    x = rows[torch.linspace(0, n - 1, min(n, _MOST_ROWS), dtype=torch.float64).long()].double().cpu().numpy()
    ties: dict[int, Tie] = {}
    used: set[int] = set()
    for target, source, table in _functions(x):
        if target not in ties and target not in used and source not in ties:
            ties[target] = Tie((names[source],), table=table)
            used.add(source)
    for target, sources, weights, constant in _sums(x, levels, {*ties, *used}):
        ties[target] = Tie(tuple(names[j] for j in sources), weights, constant)
    return {names[target]: tie for target, tie in ties.items()}


def _functions(x: np.ndarray[Any, Any]) -> Iterator[tuple[int, int, tuple[tuple[float, float], ...]]]:
    """Yield (target, source, table) of columns whose values go with those of one other, the finest source first."""
    codes: list[np.ndarray[Any, Any]] = []
    sizes: list[int] = []
    for own in x.T:
        found, code = np.unique(own, return_inverse=True, equal_nan=True)
        known = int((~np.isnan(found)).sum())
        codes.append(np.where(np.isnan(own), -1, code.reshape(-1)))
        sizes.append(known)
    fine = [j for j, size in enumerate(sizes) if 2 <= size <= min(_MOST_VALUES, len(x) // _ROWS_PER_VALUE)]
    for source in sorted(fine, key=lambda j: -sizes[j]):
        for target in range(len(sizes)):
            if target == source or sizes[target] < 2 or sizes[target] > sizes[source]:
                continue
            if not _follows(codes[source][:_FIRST], codes[target][:_FIRST]):
                continue
            both = (codes[source] >= 0) & (codes[target] >= 0)
            one, other = codes[source][both], codes[target][both]
            if not _follows(one, other):
                continue
            shares = np.bincount(other) / max(1, len(other))
            repeats = len(one) - len(np.unique(one))
            if -repeats * np.log(max(float((shares**2).sum()), 1e-12)) < _EVIDENCE:
                continue
            keys, first, counts = np.unique(x[both, source], return_index=True, return_counts=True)
            twice = counts > 1  # what a single row has is no rule
            yield target, source, tuple(zip(keys[twice].tolist(), x[both, target][first[twice]].tolist(), strict=True))


def _follows(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> bool:
    """Whether no value of the one goes with two of the other, where both are there."""
    both = (source >= 0) & (target >= 0)
    source, target = source[both], target[both]
    if not len(source):
        return True
    return len(np.unique(source * (int(target.max()) + 1) + target)) == len(np.unique(source))


def _sums(
    x: np.ndarray[Any, Any], levels: Sequence[int], taken: set[int]
) -> Iterator[tuple[int, list[int], tuple[float, ...], float]]:
    """Yield (target, sources, weights, constant) of numbers that are sums of others, the most variable first."""
    spreads = [0.0 if count else float(np.nanstd(x[:, j])) for j, count in enumerate(levels)]
    numbers = sorted((j for j, spread in enumerate(spreads) if spread > 0), key=lambda j: -spreads[j])
    done: set[int] = set()
    for target in numbers:
        rest = [j for j in numbers if j != target and j not in done]
        if target in taken or not rest:
            continue
        found = _sum(x, target, rest)
        if found is None:
            continue
        for source in list(rest):  # where they are tied among themselves some can be spared
            fewer = [j for j in rest if j != source]
            less = _sum(x, target, fewer) if fewer else None
            rest, found = (rest, found) if less is None else (fewer, less)
        if not _holds(x, target, *found):
            continue
        done.add(target)
        yield target, *found


def _holds(
    x: np.ndarray[Any, Any], target: int, sources: list[int], weights: tuple[float, ...], constant: float
) -> bool:
    """Whether a sum holds in all rows that have its columns; it was found where others are there too."""
    own = x[~np.isnan(x[:, [target, *sources]]).any(1)]
    error = np.abs(own[:, target] - own[:, sources] @ np.array(weights) - constant).max()
    return bool(error <= _EXACT * own[:, target].std())


def _sum(x: np.ndarray[Any, Any], target: int, rest: list[int]) -> tuple[list[int], tuple[float, ...], float] | None:
    """Weights and a constant with which a column is exactly a sum of others; None where it is none."""
    own = x[~np.isnan(x[:, [target, *rest]]).any(1)]
    if len(own) < max(_LEAST_ROWS, 10 * (len(rest) + 2)) or own[:, target].std() == 0:
        return None
    others, y = own[:, rest], own[:, target]
    spread = np.where(others.std(0) > 0, others.std(0), 1.0)
    centred = (others - others.mean(0)) / spread
    raw = np.linalg.lstsq(centred, y - y.mean(), rcond=1e-10)[0]
    big = np.abs(raw) > 1e-4 * y.std()
    for weights in (np.round(raw / spread, 6), raw / spread):
        weights = np.where(big, weights, 0.0)
        constant = float(np.mean(y - others @ weights))
        constant = round(constant, 6) if abs(constant) > _EXACT * y.std() else 0.0
        if big.any() and np.abs(y - others @ weights - constant).max() <= _EXACT * y.std():
            chosen = [j for j, on in zip(rest, big, strict=True) if on]
            return chosen, tuple(weights[big].tolist()), constant
    return None


def set_tied(rows: Tensor, ties: Mapping[str, Tie], schema: Schema, *, gridded: bool = True) -> Tensor:
    """Set the columns that others determine; where they say nothing, or a gap is, all stays.

    Parameters
    ----------
    rows
        (n, d) coded rows; left as they are.
    ties
        Column → how it is determined.
    schema
        Of the rows.
    gridded
        Round to a column's grid, on which means of several rows do not lie.
    """
    names = schema.names
    rows = rows.clone() if ties else rows
    for name, tie in in_order(ties):
        j = names.index(name)
        new = tie.values(rows[:, [names.index(source) for source in tie.sources]])
        step = schema.columns[j].step if gridded else None
        new = on_grid(new, step) if step else new
        rows[:, j] = torch.where(new.isnan() | rows[:, j].isnan(), rows[:, j], new.to(rows))
    return rows


def in_order(ties: Mapping[str, Tie]) -> Iterator[tuple[str, Tie]]:
    """Yield columns with how they are determined, first those whose sources are as they will be."""
    left = dict(ties)
    while left:
        free = (name for name, tie in left.items() if not left.keys() & set(tie.sources))
        name = next(free, next(iter(left)))
        yield name, left.pop(name)
