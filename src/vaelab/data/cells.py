"""The cells of a table, column by column, whatever container they come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vaelab.data.checks import check_dense, check_shape, complex_error, is_frame, plain_rows
from vaelab.data.containers import kind_of
from vaelab.data.frames import is_polars
from vaelab.data.mapped import MappedArray
from vaelab.errors import InputError

Container = Literal["numpy", "torch", "pandas", "polars"]
"""What rows come in."""

_PLAIN = {"number", "text", "boolean"}
_TEXT = "Make the column one of text, as with column.astype(str)."
_UNKNOWN = "Make the column one of text or numbers, or leave it out of the table."
_NESTED = "Give each of its parts a column of its own, or leave it out of the table."
_REMEDIES = dict.fromkeys(("ndarray", "list", "tuple", "dict", "set", "frozenset", "Series", "DataFrame"), _NESTED)
_REMEDIES |= {"bytes": "Decode it to text, or leave it out of the table."}
_REMEDIES |= {
    "Interval": "Make it text, or two columns of its ends.",
    "Period": "Make it dates: column.dt.to_timestamp().",
}

Level = str | int | float | bool
"""A value that a category may take; these are what a saved run can hold."""


@dataclass(frozen=True)
class Cells:
    """One column as it was given: its numbers, or its objects.

    Attributes
    ----------
    missing
        (n,) bool.
    numbers
        (n,) float64, NaN where missing; None for text and booleans.
    objects
        (n,) text or booleans of one kind, None where missing; None for numbers.
    declared
        The categories of a pandas categorical column, in their order; else None.
    ordered
        Whether those have an order.
    dtype
        As they came, such as ``"int64"`` or pandas' ``"Int64"``; of categories that of the levels; empty for numbers
        that came among other objects. Dates and durations are numbers of seconds.
    exact
        Whether whole numbers are what they were; beyond 2⁵³ float64 rounds them.
    """

    missing: np.ndarray[Any, Any]
    numbers: np.ndarray[Any, Any] | None = None
    objects: np.ndarray[Any, Any] | None = None
    declared: tuple[Level, ...] | None = None
    ordered: bool = False
    dtype: str = ""
    exact: bool = True

    @property
    def single(self) -> bool:
        """Whether numbers came as float32."""
        return self.dtype.lower() == "float32"

    @property
    def rows(self) -> int:
        """N."""
        return len(self.missing)


def container_of(X: object) -> Container:
    """Return what rows came in; all that is neither of torch nor a data frame is turned into an array."""
    kind = kind_of(X)
    if isinstance(X, Tensor) or (kind is not None and kind.framework == "torch"):
        return "torch"
    return "polars" if is_polars(X) else "pandas" if is_frame(X) else "numpy"


def columns_of(x: Any, name: str, *, min_rows: int = 1) -> tuple[list[str], Callable[[int], Cells]]:
    """Return names of a table's columns, and what reads the cells of one; those of arrays are called 0 … d − 1.

    Parameters
    ----------
    x
        pandas DataFrame, array, tensor or nested list.
    name
        How the caller calls it, for messages.
    min_rows
        Fewest rows that make sense.

    Raises
    ------
    InputError
        No table, too few rows, or, by what reads it, a column of values that are neither numbers, text nor booleans, or
        of several kinds.
    """
    x = plain_rows(x, name)
    if is_frame(x):
        check_shape(x.shape, name=name, min_rows=min_rows)
        names = [str(column) for column in x.columns]
        return names, lambda j: _of_series(x.iloc[:, j], f"column {names[j]!r} of {name}")
    array = _array(x, name)
    check_shape(array.shape, name=name, min_rows=min_rows)
    if array.dtype.kind == "c":
        raise complex_error(name)
    if array.ndim != 2:
        raise InputError(f"{name} with shape {array.shape}", "a table (n, d) for likelihood='mixed'")
    return list(map(str, range(array.shape[1]))), lambda j: _of_values(array[:, j], f"column {j} of {name}")


def _array(x: Any, name: str) -> np.ndarray[Any, Any]:
    if isinstance(x, Tensor):
        return np.asarray(x.detach().cpu().numpy())
    if isinstance(x, MappedArray):
        return x.rows(np.arange(len(x))).numpy()
    if isinstance(x, np.ndarray):
        return x
    check_dense(x, name)
    try:
        # as objects, since numpy alone would turn the numbers of a mixed list into text
        return np.array(x, dtype=object)
    except ValueError as error:
        raise InputError(f"{name} that is no regular array ({error})", "rows of one length") from error


def _of_series(series: Any, where: str) -> Cells:
    if hasattr(series.dtype, "categories"):
        declared = tuple(_level(value, where) for value in series.cat.categories.tolist())
        missing = series.isna().to_numpy()
        objects = series.astype(object).where(~missing, None).to_numpy()
        dtype = str(series.cat.categories.dtype)
        return Cells(missing, objects=objects, declared=declared, ordered=bool(series.cat.ordered), dtype=dtype)
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iuf":
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = np.isnan(numbers)
        exact = kind == "f" or _exact(series[~missing].to_numpy(), numbers[~missing])
        return Cells(missing, numbers, dtype=str(series.dtype), exact=exact)
    if kind in "mM":
        missing = series.isna().to_numpy()
        zone = getattr(series.dtype, "tz", None)
        plain = series if zone is None else series.dt.tz_convert("UTC").dt.tz_localize(None)
        counts = plain.to_numpy().astype(f"{kind}8[us]").astype(np.int64)  # microseconds: nanoseconds fill no float64
        return Cells(missing, np.where(missing, np.nan, counts / 1e6), dtype=str(series.dtype))
    if kind == "c":
        remedy = "Make two columns of it."
        raise InputError(f"{where} of dtype {series.dtype}", "numbers, text, booleans, dates or categories", remedy)
    missing = series.isna().to_numpy()
    return _of_objects(series.astype(object).to_numpy(), missing, where, str(series.dtype))


def _of_values(values: np.ndarray[Any, Any], where: str) -> Cells:
    if values.dtype.kind in "iuf":
        numbers = values.astype(np.float64)
        exact = values.dtype.kind == "f" or _exact(values, numbers)
        return Cells(np.isnan(numbers), numbers, dtype=str(values.dtype), exact=exact)
    if values.dtype.kind not in "bOUT":
        raise InputError(f"{where} of dtype {values.dtype}", "numbers, text or booleans")
    objects = values.astype(object)
    return _of_objects(objects, np.array([_is_missing(value) for value in objects], dtype=bool), where)


def _exact(whole: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> bool:
    """Whether whole numbers are those of float64."""
    if not len(numbers) or np.abs(numbers).max() < 2**53:
        return True
    return all(int(one) == int(other) for one, other in zip(whole.tolist(), numbers.tolist(), strict=True))


def _of_objects(objects: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], where: str, dtype: str = "") -> Cells:
    """Tell numbers, text and booleans apart by their values."""
    kinds = {_kind(value) for value in objects[~missing]}
    if kinds <= {"number"}:  # and a column without any entry
        numbers = np.full(len(objects), np.nan)
        try:
            numbers[~missing] = objects[~missing].astype(np.float64)
        except OverflowError as error:
            raise InputError(f"{where} with whole numbers beyond any float", "smaller numbers") from error
        return Cells(missing, numbers)
    if len(kinds) > 1 or not kinds <= {"text", "boolean"}:
        plain = kinds <= _PLAIN
        wanted = "one kind of values" if plain else "numbers, text, booleans, dates or categories"
        remedy = _TEXT if plain else _REMEDIES.get(min(kinds - _PLAIN), _UNKNOWN)
        raise InputError(f"{where} with values of kind {' and '.join(sorted(kinds))}", wanted, remedy)
    out = np.empty(len(objects), dtype=object)
    out[~missing] = [str(value) if kinds == {"text"} else bool(value) for value in objects[~missing]]
    return Cells(missing, objects=out, dtype=dtype)


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.integer | np.floating):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # only NaN and NaT differ from themselves
    except TypeError:  # pandas.NA is neither
        return True
    except ValueError:  # an array in a cell, which `_kind` refuses by its type
        return False


def _level(value: Any, where: str) -> Level:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float | bool):
        remedy = "Make them text: column.astype(str)."
        raise InputError(f"{where} with categories of type {type(value).__name__}", "text, numbers or booleans", remedy)
    return value
