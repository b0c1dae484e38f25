"""Whether drawn rows give away which rows a model was trained on.

An attacker who knows a row, the drawn rows and other real rows says that it was trained on where drawn rows come nearer
to it than real ones do:

    score(x) = log d(x, 10 nearest real rows) − log d(x, nearest drawn row)

which is the logarithm of two densities' ratio, each by nearest neighbours, up to a factor; several real rows say with
less noise how dense they are. The distance to the nearest drawn row alone is known to mislead: it is small wherever
rows are dense. The area under the curve of the score, of rows that were trained on against rows that were not, is 0.5
where nothing can be told.

References
----------
van Breugel et al. 2023 (densities of drawn rows relative to those of other real rows).
Loftsgaarden & Quesenberry 1965.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vaelab.metrics.tabular import FEWEST, Area, Table, area_of

_MOST_ASKED, _MOST_NEAR = 1_000, 10_000  # rows that are told apart, of each kind; rows among which a nearest is sought
_AROUND = 10  # nearest real rows
_ENTRIES = 1 << 22  # of distances at once
_OVERLAP = 0.02  # share of unseen rows that may equal one that was trained on, beyond three times that of chance
_CLOSE = 1e-6  # a distance that is as good as none


def membership(train: Table, unseen: Table, fake: Table, levels: Sequence[int], *, seed: int = 0) -> Area:
    """Area under the curve of the attack: how well drawn rows tell rows that were trained on from unseen ones.

    A row is compared with all unseen rows but itself, and one that was trained on with as many, so that both scores
    have one law where nothing was memorised. Numbers count by their rank, with variance 1 if uniform; a level, or a
    gap, that one row has and the other has not counts 1, all as squares.

    Parameters
    ----------
    train, unseen, fake
        Coded rows (n, d), NaN where missing: trained on; of the same law, but not trained on; and drawn.
    levels
        Of every column, 0 for numbers.
    seed
        Of the rows that are taken: at most 1,000 of each kind are told apart, by 10,000 others.

    Returns
    -------
    Area
        NaN where there are fewer than 50 rows of a kind, or the unseen rows are not unseen: more of them than chance
        explains are among those that were trained on, beside which nothing is given away.
    """
    if min(len(train), len(unseen), len(fake)) < FEWEST:
        return Area(math.nan, math.nan)
    first, second = np.array_split(np.random.default_rng(seed).permutation(len(unseen)), 2)
    by_chance = copies(unseen[first], unseen[second]) * max(1.0, len(train) / len(second))
    if copies(unseen, train) > _OVERLAP + 3 * by_chance:
        return Area(math.nan, math.nan)
    rng = np.random.default_rng(seed)
    space = _Space(np.concatenate([train, unseen]), levels)
    train, unseen, fake = (part[rng.permutation(len(part))[:_MOST_NEAR]] for part in (train, unseen, fake))
    scores = []
    for own in (unseen[:_MOST_ASKED], train[:_MOST_ASKED]):
        left_out = np.arange(len(own)) % len(unseen)  # of an unseen row itself; of another, one at random
        real, drawn = space.nearest(own, unseen, _AROUND, left_out), space.nearest(own, fake, 1)
        scores.append(np.log(real + _CLOSE) - np.log(drawn + _CLOSE))
    return area_of(*scores)


class _Space:
    """Distances between rows, in units of a column's ranks."""

    def __init__(self, real: Table, levels: Sequence[int]) -> None:
        self.numbers = [j for j, count in enumerate(levels) if not count]
        self.choices = [j for j, count in enumerate(levels) if count]
        self.marks = [np.unique(real[:, j][~np.isnan(real[:, j])], return_counts=True) for j in self.numbers]

    def nearest(self, rows: Table, others: Table, k: int, left_out: np.ndarray[Any, Any] | None = None) -> Table:
        """(n,) root mean squared distance of each row to the k nearest of others but the one that `left_out` names."""
        found = np.empty(len(rows))
        size = max(1, _ENTRIES // len(others))
        places, kinds = self._places(others), self._kinds(others)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            own = self._places(rows[part])
            # exact for copies, which the product of matrices would not be
            squares = np.zeros((len(own), len(others)))
            for j in range(own.shape[1]):
                squares += np.subtract.outer(own[:, j], places[:, j]) ** 2
            own_kinds = self._kinds(rows[part])
            for j in range(own_kinds.shape[1]):
                squares += np.not_equal.outer(own_kinds[:, j], kinds[:, j])
            if left_out is not None:
                squares[np.arange(len(own)), left_out[part]] = math.inf
            found[part] = np.sqrt(np.partition(squares, k - 1, 1)[:, :k].mean(1))
        return found

    def _places(self, rows: Table) -> Table:
        """(n, numbers) ranks of numbers among the real ones, times √12; those that are missing in the middle."""
        out = np.zeros((len(rows), len(self.numbers)))
        for k, (j, (values, counts)) in enumerate(zip(self.numbers, self.marks, strict=True)):
            if len(values):
                share = (np.cumsum(counts) - counts / 2) / counts.sum()
                ranks = np.interp(np.nan_to_num(rows[:, j]), values, share)
                out[:, k] = math.sqrt(12) * np.where(np.isnan(rows[:, j]), 0.0, ranks - 0.5)
        return out

    def _kinds(self, rows: Table) -> np.ndarray[Any, Any]:
        """(n, d) levels, −1 where missing, and of numbers whether they are missing."""
        levels = np.nan_to_num(rows[:, self.choices], nan=-1)
        return np.concatenate([levels, np.isnan(rows[:, self.numbers])], axis=1)


def copies(rows: Table, others: Table) -> float:
    """Share of rows that equal one of others."""
    return float(np.isin(_keys(rows), _keys(others)).mean())


def _keys(rows: Table) -> np.ndarray[Any, Any]:
    """(n,) bytes that are equal for equal rows."""
    plain = np.ascontiguousarray(np.nan_to_num(rows, nan=math.inf) + 0.0)  # no negative zero
    return plain.view(np.dtype((np.void, plain.itemsize * plain.shape[1])))[:, 0]
