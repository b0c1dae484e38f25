"""What `vaelab.compare_tables` finds: samples of a table beside real rows, as text, a picture and a page."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vaelab import storage
from vaelab.arguments import check_path
from vaelab.data import Schema
from vaelab.metrics.tabular import Area, Table, clues


@dataclass(frozen=True)
class TableColumnReading:
    """One column of fake rows beside the real ones.

    Attributes
    ----------
    name
        Of the column.
    agreement
        1 less the Kolmogorov-Smirnov distance, or of a category less the total variation.
    gaps_real, gaps_fake
        Shares of missing entries.
    outside
        Share of fake numbers beyond the range of the rows that a model was trained on; NaN for categories.
    off_grid
        Share of fake numbers that are off the grid that all of those lie on; NaN where there is none.
    levels
        Share of the real levels that occur; NaN for numbers.
    """

    name: str
    agreement: float
    gaps_real: float
    gaps_fake: float
    outside: float
    off_grid: float
    levels: float


@dataclass(frozen=True)
class TableComparison:
    """What `compare_tables` finds; prints as a page of text.

    Attributes
    ----------
    told_apart
        Area under the curve of trees that tell real from fake rows, and its standard error; 0.5 is perfect.
    columns
        One by one.
    pairs
        (d, d) agreement of pairs of columns, NaN on the diagonal.
    copies, copies_real
        Shares of fake and of real rows that equal a row of the training; NaN where that was not given.
    membership
        Area under the curve of an attack that tells rows of the training from real ones by the fake ones, and its
        standard error; 0.5 gives nothing away. NaN where rows of the training were not given, or are the real ones.
    target
        The column that was predicted from the others, or None.
    taught, taught_by_real
        Score on real rows of trees that learned from fake rows, and from those of the training.
    rows
        Real and fake ones.
    schema, tables
        What columns hold, and the coded rows, real and fake, for pictures.
    left_out
        Columns of the real rows that fake ones do not have.
    """

    told_apart: Area
    columns: tuple[TableColumnReading, ...]
    pairs: np.ndarray[Any, Any]
    copies: float
    copies_real: float
    membership: Area
    target: str | None
    taught: float
    taught_by_real: float
    rows: tuple[int, int]
    schema: Schema = field(repr=False)
    tables: tuple[Table, Table] = field(repr=False)
    left_out: tuple[str, ...] = ()

    @property
    def shape(self) -> float:
        """Mean agreement of columns."""
        return _mean([column.agreement for column in self.columns])

    @property
    def pair(self) -> float:
        """Mean agreement of pairs of columns."""
        return _mean(self.pairs.ravel().tolist())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, NaN as None."""
        plain = {part.name: getattr(self, part.name) for part in fields(self) if part.repr}
        plain |= {"told_apart": self.told_apart._asdict(), "membership": self.membership._asdict()}
        plain |= {"columns": [asdict(column) for column in self.columns]}
        found: dict[str, Any] = _without_nan(
            plain | {"pairs": self.pairs.tolist(), "shape": self.shape, "pair": self.pair}
        )
        return found

    def __str__(self) -> str:
        real, fake = self.rows
        lines = [
            f"{fake:,} fake rows beside {real:,} real ones",
            f"  told apart by trees     {_with_interval(self.told_apart)}, area under the curve; 0.5 is best",
            f"  agreement of columns    {self.shape:.3f}   1 is best",
        ]
        if self.left_out:
            lines.append(f"  left out                {', '.join(self.left_out)}: fake rows have no such columns")
        if not math.isnan(self.pair):
            lines.append(f"  agreement of pairs      {self.pair:.3f}   1 is best")
        if self.target is not None:
            lines.append(
                f"  teaches {self.target!r}: {self.taught:.3f}; rows of the training {self.taught_by_real:.3f}"
            )
        if not math.isnan(self.copies):
            lines.append(
                f"  copies of training rows {100 * self.copies:.1f} %   of real rows {100 * self.copies_real:.1f} %"
            )
        if not math.isnan(self.membership.value):
            lines.append(
                f"  membership inference    {_with_interval(self.membership)}, which rows were trained on; 0.5 is best"
            )
        width = max(len("column"), *(len(column.name) for column in self.columns))
        lines.append(f"  {'column':<{width}}  agrees  gaps (real)      outside  off grid  levels")
        for one in self.columns:
            gaps = f"{100 * one.gaps_fake:.1f} % ({100 * one.gaps_real:.1f} %)"
            rest = "".join(
                f"{_percent(value):>{size}}" for value, size in ((one.outside, 9), (one.off_grid, 10), (one.levels, 8))
            )
            lines.append(f"  {one.name:<{width}}  {one.agreement:6.3f}  {gaps:<15}{rest}")
        return "\n".join(lines)

    @cached_property
    def clues(self) -> Table:
        """(d,) area under the curve that trees lose where a column of rows that they have not seen is shuffled."""
        levels, (real, fake) = self.schema.levels, self.tables
        return clues(real, fake, levels)

    def save_html(self, path: str | Path) -> None:
        """Write one self-contained page: how good fake rows are, what gives them away, pairs, gaps, privacy."""
        from vaelab.diagnostics.report.samples import render_samples

        storage.write_text(check_path(path, "a file to write"), render_samples(self))

    def save(self, path: str | Path) -> None:
        """Write a picture (PNG): marginals over each other, and the agreement of pairs."""
        from vaelab.diagnostics.pictures import save
        from vaelab.diagnostics.table_pictures import draw_tables

        target = check_path(path, "a file to write")
        levels = [column.levels for column in self.schema.columns]
        agreement = [column.agreement for column in self.columns]
        title = f"Trees tell fake from real with an area of {self.told_apart.value:.2f} (0.5 is perfect)"
        dates = [column.dtype.startswith("datetime64") for column in self.schema.columns]
        picture = draw_tables(self.schema.names, levels, *self.tables, agreement, self.pairs, title, dates=dates)
        save(picture, target)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _with_interval(area: Area) -> str:
    return "{:.3f}   [{:.3f}, {:.3f}]".format(area.value, *area.interval)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
