"""`compare_tables`: samples of a table beside real rows, as somebody who has to use them would look at them."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vaelab.arguments import check_seed
from vaelab.data import MappedArray, Schema
from vaelab.data.checks import check_dense, is_frame, plain_rows
from vaelab.data.mapped import in_memory
from vaelab.data.marginals import grid_step
from vaelab.diagnostics.table_comparison import TableColumnReading, TableComparison
from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics.privacy import copies, membership
from vaelab.metrics.tabular import Area, Table, column_agreement, pair_agreement, teaches, tell_apart
from vaelab.specs import Category, Column, Identifier


def compare_tables(
    real: Any, fake: Any, *, train: Any = None, target: str | int | None = None, seed: int = 0
) -> TableComparison:
    """Look at samples of a table beside real rows: numbers, text, booleans, categories and gaps.

    Parameters
    ----------
    real
        (n, d) data frame or array of real rows, best ones that the model was not trained on.
    fake
        (m, d) the same columns; of data frames some may be missing, as where a model drops them, and are left out.
    train
        Rows that the model was trained on, where `real` are others: what is in range and on the grid, what the score of
        real rows is learned from, what copies are of, and what an attack would tell from `real` by what was drawn
        (`vaelab.metrics.privacy`). `real` if None, and then nothing is said of privacy.
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
    check_seed(seed)
    tables = [_checked(part, name) for part, name in ((real, "real"), (fake, "fake"), (train, "train"))]
    tables = tables if train is not None else tables[:2]
    tables, left_out = _in_common(tables)
    schema = _described(_schema_of(tables), tables[-1])
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
        copies=copies(other, known) if train is not None else math.nan,
        copies_real=copies(own, known) if train is not None else math.nan,
        membership=Area(math.nan, math.nan) if train is None else membership(known, own, other, levels, seed=seed),
        target=None if place is None else names[place],
        taught=math.nan if place is None else teaches(other, own, place, levels, seed=seed),
        taught_by_real=math.nan if place is None or train is None else teaches(known, own, place, levels, seed=seed),
        rows=(len(own), len(other)),
        schema=schema,
        tables=(own, other),
        left_out=left_out,
    )


def _checked(table: Any, name: str) -> Any:
    if table is None and name == "train":
        return None
    check_dense(table, name)
    plain = plain_rows(table, name)
    return in_memory(plain) if isinstance(plain, MappedArray) else plain


def _in_common(tables: list[Any]) -> tuple[list[Any], tuple[str, ...]]:
    """Leave out columns of real data frames that fake rows do not have, as those of a model that drops them."""
    if not all(is_frame(table) for table in tables):
        return tables, ()
    made = set(tables[1].columns)
    gone = tuple(str(name) for name in tables[0].columns if name not in made)
    return [table[[name for name in table.columns if str(name) not in gone]] for table in tables], gone


def _described(schema: Schema, known: Any) -> Schema:
    """Say of numbers on which grid they lie, and from where to where, in rows of the training."""
    rows = schema.to_tensor(known, name="rows").double()
    columns = []
    for j, column in enumerate(schema.columns):
        own = rows[~rows[:, j].isnan(), j]
        if column.levels is None and len(own):
            column = replace(column, step=grid_step(own), span=(float(own.min()), float(own.max())))
        columns.append(column)
    return replace(schema, columns=tuple(columns))


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
        return Schema.fit(rows, name="rows", columns=_choices(tables[0], rows))
    try:
        arrays = [np.asarray(table) for table in tables]
        kinds = {array.dtype.kind for array in arrays}
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"tables that numpy cannot read ({error})", "tables (n, d)") from error
    if any(array.ndim != 2 or array.shape[1] != arrays[0].shape[1] for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise InputError(f"arrays of shapes {shapes}", "tables (n, d) of equal width, all data frames or all arrays")
    if kinds & set("mM") and len(kinds) > 1:
        raise InputError("times in one table and none in the other", "tables of the same columns")
    rows = np.concatenate(arrays)
    return Schema.fit(rows, name="rows", columns=_choices(None, rows))


def _choices(real: Any, rows: Any) -> dict[str, Column]:
    """Columns that name the real rows, and say nothing of others, of which all together look otherwise; rare levels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        apart = () if real is None else Schema.fit(real, name="rows").apart
        rare = [column for column in Schema.fit(rows, name="rows").columns if column.rare]
    return {column.name: Category() for column in rare} | {column.name: Identifier() for _, column in apart}


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
