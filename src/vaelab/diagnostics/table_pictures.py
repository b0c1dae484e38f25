"""A picture of two tables: marginals over each other, and how well pairs of columns agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab.diagnostics.pictures import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REAL, _FAKE = "#4a5568", "#dd6b20"
_DAY = 86_400  # seconds; dates of matplotlib are days
_MOST_COLUMNS, _MOST_LEVELS, _MOST_PAIRS, _BINS = 15, 12, 40, 30


def draw_tables(
    names: Sequence[str],
    levels: Sequence[Sequence[object] | None],
    real: np.ndarray[Any, Any],
    fake: np.ndarray[Any, Any],
    agreement: Sequence[float],
    pairs: np.ndarray[Any, Any],
    title: str,
    *,
    dates: Sequence[bool] = (),
) -> Figure:
    """Draw the columns that agree least, real rows in grey and fake ones in orange, and a map of pairs.

    Parameters
    ----------
    names, levels
        Of the columns; levels are None for numbers.
    real, fake
        (n, d) and (m, d) coded rows.
    agreement
        Of each column.
    pairs
        (d, d) agreement of pairs.
    title
        Of the whole.
    dates
        Whether each column holds seconds since 1970; none does if empty.
    """
    worst = sorted(range(len(names)), key=lambda j: agreement[j] if not math.isnan(agreement[j]) else 0)
    shown = sorted(worst[:_MOST_COLUMNS])
    across = 3
    down = max(2, -(-len(shown) // across))
    picture = figure(3.0 * across + 4.6, 2.0 * down)
    parts: Any = picture.subfigures(1, 2, width_ratios=(3.0 * across, 4.6))
    left, right = parts
    axes = list(left.subplots(down, across, squeeze=False).flat)
    for axis, j in zip(axes, shown, strict=False):
        marginal(axis, real[:, j], fake[:, j], levels[j], date=bool(dates) and dates[j])
        axis.set_title(f"{plain(names[j])}   {agreement[j]:.2f}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    colours = [_patch(_REAL, "real"), _patch(_FAKE, "fake")]
    left.legend(handles=colours, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    axis = right.subplots()
    some = range(min(len(names), _MOST_PAIRS))
    drawn = axis.imshow(pairs[np.ix_(some, some)], vmin=0.5, vmax=1, cmap="magma")
    right.colorbar(drawn, ax=axis, shrink=0.7, label="agreement of pairs")
    if len(some) <= 20:
        axis.set_xticks(list(some), [plain(names[j]) for j in some], rotation=90, fontsize=7)
        axis.set_yticks(list(some), [plain(names[j]) for j in some], fontsize=7)
    picture.suptitle(title, fontsize=11)
    return picture


def marginal(
    axis: Any,
    real: np.ndarray[Any, Any],
    fake: np.ndarray[Any, Any],
    levels: Sequence[object] | None,
    *,
    date: bool = False,
    colours: tuple[str, str] = (_REAL, _FAKE),
) -> None:
    """Draw one column: histograms of numbers or, from seconds since 1970, of dates; shares of levels.

    Parameters
    ----------
    axis
        Of matplotlib.
    real, fake
        (n,) and (m,) coded entries.
    levels
        Of a category.
    date
        Whether these are seconds since 1970.
    colours
        Of real and fake ones.
    """
    if date:
        from matplotlib.dates import ConciseDateFormatter

        real, fake = real / _DAY, fake / _DAY
        axis.xaxis_date()
        axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    real, fake = (part[~np.isnan(part)] for part in (real, fake))
    if levels is not None:
        counts = [np.bincount(part.astype(int), minlength=len(levels)) / max(1, len(part)) for part in (real, fake)]
        order = np.argsort(-counts[0])[:_MOST_LEVELS]
        places = np.arange(len(order))
        axis.bar(places - 0.2, counts[0][order], 0.4, color=colours[0])
        axis.bar(places + 0.2, counts[1][order], 0.4, color=colours[1])
        axis.set_xticks(places, [plain(str(levels[k]))[:10] for k in order], rotation=30)
        return
    if not len(real) or not len(fake):
        return
    low, high = np.quantile(np.concatenate([real, fake]), (0.002, 0.998))
    bins = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    axis.hist(np.clip(real, bins[0], bins[-1]), bins, density=True, color=colours[0], alpha=0.45)
    axis.hist(np.clip(fake, bins[0], bins[-1]), bins, density=True, color=colours[1], histtype="step", linewidth=1.6)


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def plain(text: str) -> str:
    """Leave no control character, and at most 24 others."""
    return "".join(sign for sign in text if sign.isprintable())[:24]
