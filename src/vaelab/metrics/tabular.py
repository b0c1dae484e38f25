"""Two tables beside each other: whether trees tell them apart, how columns and pairs agree, what they teach.

Tables are coded: (n, d) float64, numbers as they are, categories as the number of their level, NaN where missing.

References
----------
Lopez-Paz & Oquab 2017.
Esteban et al. 2017 (train on synthetic, test on real).
Hanley & McNeil 1982 (its standard error).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaelab.arguments import short_seed
from vaelab.errors import InputError

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

Table = np.ndarray[Any, np.dtype[np.float64]]
FEWEST = 50  # rows of each kind
_FOLDS = 5
_BINS = 10  # of a number beside a category
_MOST_LEVELS = 255  # that trees take for categories


class Area(NamedTuple):
    """Area under a ROC curve, and its standard error."""

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """At 95 %."""
        return max(0.0, self.value - 1.96 * self.error), min(1.0, self.value + 1.96 * self.error)


def area_of(low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> Area:
    """Area under the curve of scores that should be low for some rows and high for others."""
    from sklearn.metrics import roc_auc_score

    n, m = len(low), len(high)
    area = float(roc_auc_score(np.repeat([0, 1], [n, m]), np.concatenate([low, high])))
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (m - 1) * (first - area**2) + (n - 1) * (second - area**2)
    return Area(area, math.sqrt(max(0.0, spread) / (n * m)))


def tell_apart(real: Table, fake: Table, levels: Sequence[int], *, seed: int = 0) -> Area:
    """Area under the curve of gradient-boosted trees that tell real rows from fake ones, in five-fold cross-validation.

    0.5 cannot be told apart, 1 always. Well below 0.5 rows of one set are copies of rows of the other.

    Parameters
    ----------
    real, fake
        Coded rows, at least 50 of each; as many of either are used as the smaller has.
    levels
        Of every column, 0 for numbers.
    seed
        Of rows, folds and trees.

    Raises
    ------
    InputError
        Fewer than 50 rows of a kind.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows, kinds = _together(real, fake, np.random.default_rng(seed))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=short_seed(seed))
    score = cross_val_predict(_trees(levels, seed), rows, kinds, cv=folds, method="predict_proba")[:, 1]
    return area_of(score[kinds == 0], score[kinds == 1])


def clues(real: Table, fake: Table, levels: Sequence[int], *, seed: int = 0, shuffles: int = 3) -> Table:
    """(d,) area under the curve that such trees lose where a column is shuffled, in rows that they have not seen.

    Breiman 2001, section 10. The mean of a few shuffles; a column that others stand for loses little.

    Raises
    ------
    InputError
        Fewer than 50 rows of a kind.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    rows, kinds = _together(real, fake, rng)
    order = rng.permutation(len(rows))
    seen, unseen = order[: -len(rows) // 3], order[-len(rows) // 3 :]
    trees = _trees(levels, seed).fit(rows[seen], kinds[seen])
    rows, kinds = rows[unseen], kinds[unseen]

    def area(shown: Table) -> float:
        return float(roc_auc_score(kinds, trees.predict_proba(shown)[:, 1]))

    whole, found = area(rows), np.zeros(len(levels))
    for j in range(len(levels)):
        for _ in range(shuffles):
            shown = rows.copy()
            shown[:, j] = rng.permutation(shown[:, j])
            found[j] += (whole - area(shown)) / shuffles
    return found


def _together(real: Table, fake: Table, rng: np.random.Generator) -> tuple[Table, np.ndarray[Any, Any]]:
    """Return as many rows of each kind as there are of the rarer, and 0 for real ones, 1 for fake ones."""
    size = min(len(real), len(fake))
    if size < FEWEST:
        raise InputError(f"{len(real)} real and {len(fake)} fake rows", f"at least {FEWEST} of each")
    return np.concatenate([part[rng.permutation(len(part))[:size]] for part in (real, fake)]), np.repeat([0, 1], size)


def column_agreement(real: Table, fake: Table, levels: Sequence[int]) -> Table:
    """(d,) 1 less the largest difference of distribution functions, or of a category less the total variation.

    Of observed entries; NaN where either has none.
    """
    found = np.full(len(levels), math.nan)
    for j, count in enumerate(levels):
        own, other = (part[:, j][~np.isnan(part[:, j])] for part in (real, fake))
        if not len(own) or not len(other):
            continue
        if count:
            found[j] = 1 - _variation(own[:, None], other[:, None], (count,))
        else:
            places = np.sort(np.concatenate([own, other]))
            cumulative = [np.searchsorted(np.sort(part), places, side="right") / len(part) for part in (own, other)]
            found[j] = 1 - np.abs(cumulative[0] - cumulative[1]).max()
    return found


def pair_agreement(
    real: Table, fake: Table, levels: Sequence[int]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(d, d) symmetric: of two numbers 1 less half the difference of correlations, else 1 less the total variation.

    Beside a category a number is divided at the deciles of real rows. Of rows where both are observed; NaN on the
    diagonal, and where there are too few or a number does not vary.
    """
    d = len(levels)
    found = np.full((d, d), math.nan)
    cut = [np.unique(np.nanquantile(real[:, j], np.linspace(0, 1, _BINS + 1)[1:-1])) for j in range(d)]
    for i in range(d):
        for j in range(i):
            pairs = [part[:, (i, j)] for part in (real, fake)]
            own, other = (pair[~np.isnan(pair).any(1)] for pair in pairs)
            if min(len(own), len(other)) < 2:
                continue
            if not levels[i] and not levels[j]:
                if min(own.std(0).min(), other.std(0).min()) > 0:
                    first, second = (float(np.corrcoef(*part.T)[0, 1]) for part in (own, other))
                    found[i, j] = found[j, i] = 1 - abs(first - second) / 2
                continue
            sizes = tuple(levels[k] or len(cut[k]) + 1 for k in (i, j))
            coded = [
                np.stack([p[:, a] if levels[k] else np.searchsorted(cut[k], p[:, a]) for a, k in enumerate((i, j))], 1)
                for p in (own, other)
            ]
            found[i, j] = found[j, i] = 1 - _variation(coded[0], coded[1], sizes)
    return found


def teaches(train: Table, real: Table, target: int, levels: Sequence[int], *, seed: int = 0) -> float:
    """Score on real rows of trees that were trained on others: R² of a number, mean area under the curve of a category.

    NaN where the target has one level only, or rows are too few.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.metrics import r2_score, roc_auc_score

    train, real = (part[~np.isnan(part[:, target])] for part in (train, real))
    others = [j for j in range(len(levels)) if j != target]
    rest = [levels[j] for j in others]
    if len(train) < FEWEST or len(real) < 2 or not others:
        return math.nan
    if not levels[target]:
        trees = HistGradientBoostingRegressor(random_state=short_seed(seed), categorical_features=_categories(rest))
        fitted = trees.fit(train[:, others], train[:, target])
        return float(r2_score(real[:, target], fitted.predict(real[:, others])))
    known = np.unique(train[:, target])
    if len(known) < 2:
        return math.nan
    fitted = _trees(rest, seed).fit(train[:, others], train[:, target])
    chance = fitted.predict_proba(real[:, others])
    areas = []
    for place, level in enumerate(known):
        own = real[:, target] == level
        if own.any() and not own.all():
            areas.append(roc_auc_score(own, chance[:, place]))
    return float(np.mean(areas)) if areas else math.nan


def _trees(levels: Sequence[int], seed: int) -> HistGradientBoostingClassifier:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=short_seed(seed), categorical_features=_categories(levels))


def _categories(levels: Sequence[int]) -> list[bool]:
    return [0 < count <= _MOST_LEVELS for count in levels]


def _variation(own: np.ndarray[Any, Any], other: np.ndarray[Any, Any], sizes: tuple[int, ...]) -> float:
    """Total variation of two sets of codes."""
    shares = []
    for codes in (own, other):
        flat = np.ravel_multi_index(tuple(codes.astype(np.int64).T), sizes)
        shares.append(np.bincount(flat, minlength=math.prod(sizes)) / len(codes))
    return float(np.abs(shares[0] - shares[1]).sum() / 2)
