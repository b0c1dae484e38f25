"""`compare_tables`: samples of a table beside real rows, as somebody who has to use them would look at them."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab.data import Schema
from vaelab.data.checks import is_frame, plain_rows
from vaelab.data.marginals import grid_step
from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics.tabular import Area, Table, column_agreement, pair_agreement, teaches, tell_apart
from vaelab.specs import Column, Identifier


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
    copies
        Share of fake rows that equal a row of the training.
    target
        The column that was predicted from the others, or None.
    taught, taught_by_real
        Score on real rows of trees that learned from fake rows, and from those of the training.
    rows
        Real and fake ones.
    schema, tables
        What columns hold, and the coded rows, real and fake, for pictures.
    """

    told_apart: Area
    columns: tuple[TableColumnReading, ...]
    pairs: np.ndarray[Any, Any]
    copies: float
    target: str | None
    taught: float
    taught_by_real: float
    rows: tuple[int, int]
    schema: Schema = field(repr=False)
    tables: tuple[Table, Table] = field(repr=False)

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
        plain |= {"told_apart": self.told_apart._asdict(), "columns": [asdict(column) for column in self.columns]}
        found: dict[str, Any] = _without_nan(
            plain | {"pairs": self.pairs.tolist(), "shape": self.shape, "pair": self.pair}
        )
        return found

    def __str__(self) -> str:
        area, real, fake = self.told_apart, *self.rows
        low, high = max(0.0, area.value - 1.96 * area.error), min(1.0, area.value + 1.96 * area.error)
        lines = [
            f"{fake:,} fake rows beside {real:,} real ones",
            f"  told apart by trees     {area.value:.3f}   [{low:.3f}, {high:.3f}], area under the curve; 0.5 is best",
            f"  agreement of columns    {self.shape:.3f}   1 is best",
        ]
        if not math.isnan(self.pair):
            lines.append(f"  agreement of pairs      {self.pair:.3f}   1 is best")
        if self.target is not None:
            lines.append(
                f"  teaches {self.target!r}: {self.taught:.3f}; rows of the training {self.taught_by_real:.3f}"
            )
        if not math.isnan(self.copies):
            lines.append(f"  copies of training rows {100 * self.copies:.1f} %")
        width = max(len("column"), *(len(column.name) for column in self.columns))
        lines.append(f"  {'column':<{width}}  agrees  gaps (real)      outside  off grid  levels")
        for one in self.columns:
            gaps = f"{100 * one.gaps_fake:.1f} % ({100 * one.gaps_real:.1f} %)"
            rest = "".join(
                f"{_percent(value):>{size}}" for value, size in ((one.outside, 9), (one.off_grid, 10), (one.levels, 8))
            )
            lines.append(f"  {one.name:<{width}}  {one.agreement:6.3f}  {gaps:<15}{rest}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write a picture (PNG): marginals over each other, and the agreement of pairs."""
        from vaelab.diagnostics.pictures import save
        from vaelab.diagnostics.table_pictures import draw_tables

        levels = [column.levels for column in self.schema.columns]
        agreement = [column.agreement for column in self.columns]
        title = f"Trees tell fake from real with an area of {self.told_apart.value:.2f} (0.5 is perfect)"
        dates = [column.dtype.startswith("datetime64") for column in self.schema.columns]
        picture = draw_tables(self.schema.names, levels, *self.tables, agreement, self.pairs, title, dates=dates)
        save(picture, Path(path))


def compare_tables(
    real: Any, fake: Any, *, train: Any = None, target: str | int | None = None, seed: int = 0
) -> TableComparison:
    """Look at samples of a table beside real rows: numbers, text, booleans, categories and gaps.

    Parameters
    ----------
    real
        (n, d) data frame or array of real rows, best ones that the model was not trained on.
    fake
        (m, d) the same columns.
    train
        Rows that the model was trained on: what is in range and on the grid, what copies are of, and what the score of
        real rows is learned from. `real` if None, and then nothing is said of copies.
    target
        Column to predict from the others, on real rows, after training on fake ones; none if None.
    seed
        Of rows, folds and trees.

    Raises
    ------
    InputError
        No tables, other columns, or fewer than 50 rows of a kind.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import compare_tables
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) + [0, 0, 2]
    >>> found = compare_tables(X, Y, target=2)
    >>> bool(found.told_apart.value > 0.8), [round(column.agreement, 1) for column in found.columns]
    (True, [0.9, 1.0, 0.3])
    """
    tables = [plain_rows(part) for part in (real, fake, train) if part is not None]
    schema = _schema_of(tables)
    coded: list[Table] = [schema.to_tensor(part, name="rows").double().numpy() for part in tables]
    levels, names = schema.levels, schema.names
    own, other, known = coded[0], coded[1], coded[-1] if train is not None else coded[0]
    agreement = column_agreement(own, other, levels)
    columns = tuple(
        _reading(name, own[:, j], other[:, j], known[:, j], count, float(agreement[j]))
        for j, (name, count) in enumerate(zip(names, levels, strict=True))
    )
    place = None if target is None else _place(target, names)
    return TableComparison(
        told_apart=tell_apart(own, other, levels, seed=seed),
        columns=columns,
        pairs=pair_agreement(own, other, levels),
        copies=_copies(other, known) if train is not None else math.nan,
        target=None if place is None else names[place],
        taught=math.nan if place is None else teaches(other, own, place, levels, seed=seed),
        taught_by_real=math.nan if place is None or train is None else teaches(known, own, place, levels, seed=seed),
        rows=(len(own), len(other)),
        schema=schema,
        tables=(own, other),
    )


def _schema_of(tables: list[Any]) -> Schema:
    """One schema for all, with the levels of any of them."""
    if all(is_frame(table) for table in tables):
        import pandas as pd

        first = list(tables[0].columns)
        for table in tables[1:]:
            if set(table.columns) != set(first):
                got, wanted = map(str, (list(table.columns), first))
                raise InputError(f"columns {got}", f"{wanted}, in any order", "Compare tables of the same columns.")
        rows = pd.concat([table[first] for table in tables], ignore_index=True)
        return Schema.fit(rows, name="rows", columns=_identifiers(tables[0]))
    arrays = [np.asarray(table) for table in tables]
    if any(array.ndim != 2 or array.shape[1] != arrays[0].shape[1] for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise InputError(f"arrays of shapes {shapes}", "tables (n, d) of equal width, all data frames or all arrays")
    return Schema.fit(np.concatenate(arrays), name="rows")


def _identifiers(real: Any) -> dict[str, Column]:
    """Columns that name the real rows, and say nothing of others: of all tables together they look otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        return {column.name: Identifier() for _, column in Schema.fit(real, name="rows").apart}


def _place(target: str | int, names: tuple[str, ...]) -> int:
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, int) and 0 <= target < len(names):
        return target
    raise InputError(f"target={target!r}", f"one of the columns {', '.join(names)}")


def _reading(
    name: str,
    real: np.ndarray[Any, Any],
    fake: np.ndarray[Any, Any],
    known: np.ndarray[Any, Any],
    levels: int,
    agreement: float,
) -> TableColumnReading:
    gaps_real, gaps_fake = (float(np.isnan(part).mean()) for part in (real, fake))
    real, fake, known = (part[~np.isnan(part)] for part in (real, fake, known))
    outside = off_grid = covered = math.nan
    if levels:
        covered = float(np.isin(np.unique(real), fake).mean()) if len(real) else math.nan
    elif len(fake) and len(known):
        outside = float(((fake < known.min()) | (fake > known.max())).mean())
        step = grid_step(torch.from_numpy(known))
        if step:
            off_grid = float((np.abs(fake / step - np.rint(fake / step)) > 1e-3).mean())
    return TableColumnReading(name, agreement, gaps_real, gaps_fake, outside, off_grid, covered)


def _copies(fake: Table, train: Table) -> float:
    rows = {row.tobytes() for row in np.nan_to_num(train, nan=math.inf) + 0.0}
    return float(np.mean([row.tobytes() in rows for row in np.nan_to_num(fake, nan=math.inf) + 0.0]))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
