"""Levels of text that hardly occur: they count as one level, the last, and are drawn by their shares.

Nothing can be learned of a level that a few rows have, and hundreds of them make a training memorise its rows. What
was not there in `fit` is rare too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from vaelab.data.cells import Level
    from vaelab.data.column import TableColumn

MANY = 20  # levels up to which each counts by itself
_FEW = 5  # rows, from which on a level counts by itself
_NAME = "other levels"

Rare = tuple[tuple["Level", int], ...]


def parted(texts: Sequence[Any], levels: Sequence[Level]) -> tuple[tuple[Level, ...], Rare]:
    """Return the levels that count by themselves with one for the others, and those with how many rows each has.

    Parameters
    ----------
    texts
        (n,) cells, without gaps.
    levels
        Those that occur, in order.
    """
    counts = Counter(texts)
    rare = tuple((level, counts[level]) for level in levels if counts[level] < _FEW)
    if len(levels) <= MANY or len(rare) < 2:
        return tuple(levels), ()
    name = _NAME
    while name in counts:
        name += "…"
    return (*(level for level in levels if counts[level] >= _FEW), name), rare


def named(column: TableColumn) -> tuple[Level, ...]:
    """Return the levels that codes after `spread` stand for: those of the model, and then each rare one."""
    return (*(column.levels or ()), *(level for level, _ in column.rare))


def heaviest(columns: Sequence[TableColumn]) -> dict[int, float]:
    """Return place → which share of the last level's rows has the most frequent of the levels that it stands for."""
    counts = {place: [count for _, count in column.rare] for place, column in enumerate(columns) if column.rare}
    return {place: max(own) / sum(own) for place, own in counts.items()}


def decided(columns: Sequence[TableColumn], rows: Tensor) -> Tensor:
    """Take the most frequent of the rare levels in (n, d) coded rows that are no draws; codes are places in `named`."""
    out = rows.clone()
    for place in heaviest(columns):
        levels, counts = columns[place].levels or (), [count for _, count in columns[place].rare]
        out[rows[:, place] == len(levels) - 1, place] = len(levels) + counts.index(max(counts))
    return out


def spread(column: TableColumn, codes: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Draw, for the (n,) codes of a column that are of its rare levels, which of them; places in `named`.

    What was `decided` stays.

    Parameters
    ----------
    column, codes
        What they are of; NaN where missing.
    rows
        (n, d) whole rows, coded, whose content seeds the draws.
    """
    if not column.rare or column.levels is None:
        return codes
    first = len(column.levels) - 1
    theirs = codes == first
    seed = hashlib.sha256(np.ascontiguousarray(rows).tobytes() + column.name.encode()).digest()[:16]
    counts = np.array([count for _, count in column.rare], dtype=np.float64)
    drawn = np.random.default_rng(int.from_bytes(seed)).choice(len(counts), int(theirs.sum()), p=counts / counts.sum())
    out = codes.copy()
    out[theirs] = first + 1 + drawn
    return out
