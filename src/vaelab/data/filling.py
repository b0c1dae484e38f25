"""The gaps of a table, filled in its own container; what was there stays as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from vaelab.data.cells import columns_of
from vaelab.data.checks import is_frame, plain_rows
from vaelab.data.column import TableColumn, as_objects, as_series, times
from vaelab.data.frames import is_polars, polars_dtypes, to_polars
from vaelab.data.rare import spread

if TYPE_CHECKING:
    from vaelab.data.columns import Schema


def fill_in(schema: Schema, x: object, filled: Tensor, name: str = "X") -> Any:
    """Return x with its gaps filled, but for those that stay NaN; see `Schema.fill`."""
    if is_polars(x):
        before = plain_rows(x, name)
        after = fill_in(schema, before, filled, name)
        return to_polars(after, _unless_filled(polars_dtypes(x), before, after))
    names, read = columns_of(x, name)
    places = schema.places(names, name, by_name=is_frame(x))
    if isinstance(x, Tensor):
        return torch.where(x.isnan(), filled.to(x), x) if x.is_floating_point() else x.clone()
    values = filled.detach().cpu().numpy()
    out: Any = cast("Any", x).copy() if is_frame(x) else np.array(x)
    if not is_frame(x) and not isinstance(x, np.ndarray):
        out = np.array(x, dtype=object if any(schema.levels) else np.float64)
    for column, place, found in zip(schema.columns, places, values.T, strict=True):
        gone = read(place).missing & ~np.isnan(found)
        if not gone.any():
            continue
        new = found[gone] if column.levels is None else as_objects(column, spread(column, found[gone], values[gone]))
        if column.time:
            new = times(new, column.dtype).array
        if is_frame(x):
            out.isetitem(place, _patched(out.iloc[:, place], gone, new, column))
        else:
            out[gone, place] = new
    return out


def _patched(series: Any, gone: np.ndarray[Any, Any], new: np.ndarray[Any, Any], column: TableColumn) -> Any:
    """Return a pandas column with new values in its gaps."""
    if column.levels is None and getattr(series.dtype, "kind", "O") in "iu":  # nullable whole numbers
        if column.whole:
            new = as_series(column, new)
        elif (np.asarray(new, dtype=np.float64) % 1).any():  # of a model of numbers
            series = series.astype("Float64")
    if hasattr(series.dtype, "categories"):
        series = series.cat.add_categories([v for v in dict.fromkeys(new) if v not in series.cat.categories])
    series = series.copy()
    series.iloc[gone] = new
    return series.infer_objects() if column.form == "boolean" else series


def _unless_filled(dtypes: Mapping[str, str], before: Any, after: Any) -> dict[str, str]:
    """Dtypes of the columns that are not now numbers of another kind."""
    return {name: dtype for name, dtype in dtypes.items() if before[name].dtype == after[name].dtype}
