"""From scores to p-values and alarms, by rows that a model has not seen: exact whatever the model, and however few.

References
----------
Vovk et al. 2005, chapter 2.
Bates et al. 2023, theorem 2: Benjamini-Hochberg holds for p-values that share their calibration rows.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vaelab.errors import InputError

Rule = Literal["each", "benjamini_hochberg"]
RULES: Final[tuple[str, ...]] = get_args(Rule)

Floats = NDArray[np.floating[Any]]
_ROUNDING = 1e-9  # relative; 0.05 · 100 is 5


def conformal_p_values(scores: Floats, calibration: Floats) -> NDArray[np.float64]:
    """(n,) p = (1 + number of calibration scores ≤ score) / (m + 1).

    Of a row from the law of the calibration rows, P(p ≤ α) ≤ α for every α; only ties make it less than the largest
    multiple of 1/(m + 1) up to α.

    Parameters
    ----------
    scores
        (n,) of new rows; the lower, the more of an outlier.
    calibration
        (m,) of rows that are as they should be, and that the model was not trained on.

    Examples
    --------
    >>> conformal_p_values(np.array([-9.0, 0.0, 7.0]), np.array([3.0, 1.0, 2.0])).tolist()
    [0.25, 0.25, 1.0]
    """
    ranks = np.searchsorted(np.sort(calibration), scores, side="right")
    return np.asarray((1 + ranks) / (len(calibration) + 1), dtype=np.float64)


def threshold(calibration: Floats, rate: float) -> float:
    """Return the score below which p ≤ rate; −inf where m is so small that no p-value is."""
    allowed = _whole(rate * (len(calibration) + 1)) - 1
    return float(np.sort(calibration)[min(allowed, len(calibration) - 1)]) if allowed >= 0 else -np.inf


def alarms(p: Floats, rate: float, rule: Rule | str = "each") -> NDArray[np.bool_]:
    """(n,) which rows are called outliers.

    Parameters
    ----------
    p
        (n,) p-values.
    rate
        In (0, 1).
    rule
        ``"each"``: p ≤ rate, so that a share of `rate` of the rows that are as they should be is called one.
        ``"benjamini_hochberg"``: the k rows of smallest p, with the largest k for which the k-th is at most
        rate · k / n, so that a share of at most `rate` of the rows that are called one is as it should be, in the mean.

    Raises
    ------
    InputError
        No such rule, or a rate outside (0, 1).
    """
    check_rate(rate, rule)
    if rule == "each":
        return np.asarray(p <= rate * (1 + _ROUNDING))
    ordered = np.sort(p)
    kept = np.flatnonzero(ordered <= rate * np.arange(1, len(p) + 1) / len(p) * (1 + _ROUNDING))
    return np.asarray(p <= ordered[kept[-1]]) if len(kept) else np.zeros(len(p), dtype=bool)


def check_rate(rate: float, rule: str) -> None:
    """Refuse what is no rate, and an unknown rule.

    Raises
    ------
    InputError
        Either.
    """
    if not isinstance(rate, int | float | np.number) or not 0 < rate < 1:
        raise InputError(f"false_alarms={rate!r}", "a number between 0 and 1", "Such as false_alarms=0.05.")
    if rule not in RULES:
        raise InputError(f"rule={rule!r}", f"one of {', '.join(RULES)}")


def _whole(number: float) -> int:
    return int(np.floor(number * (1 + _ROUNDING)))
