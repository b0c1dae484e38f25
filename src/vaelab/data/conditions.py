"""Conditions in the user's own form, and as the numbers that a network takes.

Classes become one-hot vectors, numbers are standardised, columns of both kinds stand side by side, and sequences are
standardised feature by feature and padded on the left, with a last channel that is 1 where there is a step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from vaelab.data.checks import check_finite, complex_error, plain_tensor
from vaelab.data.containers.gathering import stored_labels
from vaelab.data.labels import count_classes
from vaelab.data.sequences import Ragged, is_sequence, latest_windows
from vaelab.errors import InputError

_MOST_SHOWN = 20


@dataclass(frozen=True)
class Column:
    """One column of a condition.

    Attributes
    ----------
    name
        For messages.
    classes
        Names of its classes, sorted; empty for a number.
    mean, std
        Of a number, in the user's units.
    """

    name: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """Numbers that a network is given for it."""
        return len(self.classes) or 1


@final
@dataclass(frozen=True)
class Conditioning:
    """A map from conditions in the user's form to tensors (n, *shape), fitted once.

    Attributes
    ----------
    columns
        What a condition, or one step of a sequence, consists of.
    form
        ``"column"``: one value per row; ``"table"``: several; ``"sequence"``: (T, features) per row.
    steps
        T of a sequence: the longest in fit. Of longer ones the last T steps are read.
    """

    columns: tuple[Column, ...]
    form: Literal["column", "table", "sequence"]
    steps: int = 0

    @classmethod
    def fit(cls, y: object, *, name: str = "y", steps: int | None = None) -> Self:
        """Learn classes, means and standard deviations.

        Parameters
        ----------
        y
            (n,) or (n, 1) text, whole numbers, booleans or pandas categories: classes; floating-point numbers: one
            number. (n, k) array or data frame: k columns, of which text, booleans and categories are classes and the
            others numbers.
            (n, time, k) array, or a list of (time, k) arrays: sequences.
        name
            How the caller calls it.
        steps
            T, of sequences; the longest if None.

        Raises
        ------
        InputError
            Missing or infinite values, or columns of no known kind.
        """
        if is_sequence(y):
            ragged = Ragged.of(y, name=name)
            features = ragged.points.double().cpu().numpy().T
            columns = tuple(_number(f"feature {i}", values) for i, values in enumerate(features))
            return cls(columns, "sequence", steps or int(ragged.lengths.max()))
        names, values, single = _columns(y, name)
        columns = tuple(_fitted(column, value, name) for column, value in zip(names, values, strict=True))
        return cls(columns, "column" if single else "table")

    @classmethod
    def of_classes(cls, classes: Sequence[str]) -> Self:
        """Return the map for one column of known classes."""
        return cls((Column("class", tuple(classes)),), "column")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one condition: (width,), or (T, features + 1) for sequences."""
        width = sum(column.width for column in self.columns)
        return (self.steps, width + 1) if self.form == "sequence" else (width,)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, where a condition is one class; else None."""
        return (self.columns[0].classes or None) if self.form == "column" else None

    def labels(self, c: Tensor) -> Tensor | None:
        """(n,) int64 numbers of the classes, where a condition is one class; else None."""
        return c.argmax(1) if self.classes else None

    def to_net(self, y: object, rows: int | None = None, *, spread: bool = False, name: str = "y") -> Tensor:
        """Map conditions to (n, *shape), float32, on the CPU.

        Parameters
        ----------
        y
            As in `fit`, or a single condition.
        rows
            How many there should be; as many as there are if None.
        spread
            Whether a single condition holds for all `rows`.
        name
            How the caller calls it.

        Raises
        ------
        InputError
            y is missing, or holds an unknown class, another number of columns, or not `rows` rows.
        """
        if y is None:
            raise InputError(
                f"no {name}, for a conditional model", self.describe(), f"Pass {name}=…, one condition per row."
            )
        y = stored_labels(y)
        c = self._sequences(y, name) if self.form == "sequence" else self._table(y, name)
        if rows is not None and len(c) != rows:
            if len(c) != 1 or not spread:
                wanted = "one per row, or a single one" if spread else "one per row"
                raise InputError(f"{len(c)} conditions in {name} for {rows} rows", wanted)
            c = c.expand(rows, *c.shape[1:]).contiguous()
        return c

    def describe(self) -> str:
        """Say what a condition looks like."""
        if self.form == "sequence":
            return f"sequences of {len(self.columns)} feature(s) per step"
        if self.form == "column":
            return f"one of the classes {_shown(self.columns[0].classes)}" if self.classes else "one number per row"
        return f"{len(self.columns)} columns: {', '.join(column.name for column in self.columns[:_MOST_SHOWN])}"

    def standardised(self, sequences: Ragged) -> Ragged:
        """Return sequences whose points are in the network's units, float32."""
        device = sequences.points.device
        mean = torch.tensor([column.mean for column in self.columns], dtype=torch.float64, device=device)
        std = torch.tensor([column.std for column in self.columns], dtype=torch.float64, device=device)
        return Ragged(((sequences.points.double() - mean) / std).float(), sequences.offsets)

    def _sequences(self, y: object, name: str) -> Tensor:
        if not is_sequence(y):
            y = [y]  # a single one
        ragged = Ragged.of(y, name=name)
        if ragged.points.shape[1] != len(self.columns):
            raise InputError(f"{name} with {ragged.points.shape[1]} features per step", f"{len(self.columns)}")
        return latest_windows(self.standardised(ragged), self.steps)

    def _table(self, y: object, name: str) -> Tensor:
        if isinstance(y, Tensor):
            plain_tensor(y, name)
        if self.form == "column" and _is_scalar(y):
            y = [y]
        if self.form == "table" and isinstance(y, Sequence | np.ndarray | Tensor) and _rank(y) == 1:
            y = [list(y)]  # one row
        names, values, _ = _columns(y, name)
        if len(values) != len(self.columns):
            raise InputError(f"{name} with {len(values)} column(s)", self.describe())
        if self.form == "table" and _named(y):
            values = [values[names.index(column)] for column in self._in_order(names, name)]
        parts = [_converted(column, value, name) for column, value in zip(self.columns, values, strict=True)]
        return torch.cat(parts, dim=1)

    def _in_order(self, names: Sequence[str], name: str) -> list[str]:
        """Names of the columns in the order of fit, whatever that of a frame; those of arrays are their numbers."""
        own = [column.name for column in self.columns]
        if own == [f"column {i}" for i in range(len(own))]:
            return list(names)
        missing = [column for column in own if column not in names]
        if missing:
            extra = [column for column in names if column not in own]
            raise InputError(f"{name} without {_shown(missing)}, but with {_shown(extra)}", self.describe())
        return own

    def meta(self) -> dict[str, Any]:
        """Return plain values for YAML."""
        columns = [
            {"name": column.name, "classes": list(column.classes)}
            if column.classes
            else {"name": column.name, "mean": column.mean, "std": column.std}
            for column in self.columns
        ]
        return {"form": self.form, "steps": self.steps, "columns": columns}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Self:
        """Rebuild from `meta`.

        Raises
        ------
        InputError
            Something is missing.
        """
        try:
            columns = tuple(
                Column(**{**entry, "classes": tuple(entry.get("classes", ()))}) for entry in meta["columns"]
            )
            return cls(columns, meta["form"], int(meta["steps"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a saved conditioning without {error}", "what Conditioning.meta returns") from error


def is_one_hot(c: Tensor) -> bool:
    """Whether every row of c, (n, width), is 1 in one place and 0 elsewhere."""
    return c.ndim == 2 and bool(((c == 0) | (c == 1)).all()) and bool((c.sum(1) == 1).all())


def _columns(y: object, name: str) -> tuple[list[str], list[np.ndarray[Any, Any]], bool]:
    """Names, values, and whether there is one value per row rather than a row of values."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(y, pandas.Series | pandas.Categorical | pandas.Index):
        return [name], [_series(pandas.Series(y))], True
    if pandas is not None and isinstance(y, pandas.DataFrame):
        if y.shape[1] == 0:
            raise InputError(f"{name} without columns", "at least one")
        names, columns = list(map(str, y.columns)), [_series(y.iloc[:, i]) for i in range(y.shape[1])]
    else:
        array = _array(y, name)
        if array.ndim == 1:
            return [name], [array], True
        columns = [_narrowed(array[:, i]) if array.dtype.kind == "O" else array[:, i] for i in range(array.shape[1])]
        names = [f"column {i}" for i in range(len(columns))]
    if len(columns) == 1:
        return names, columns, True
    return names, [_quantity(column) for column in columns], False


def _array(y: object, name: str) -> np.ndarray[Any, Any]:
    """Return (n,) or (n, k), neither of which is 0."""
    try:
        array = (
            plain_tensor(y, name).detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y, dtype=_dtype_of(y))
        )
    except ValueError as error:
        raise InputError(f"{name} that is no regular array ({error})", "(n,) or (n, k)") from error
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise InputError(f"{name} with shape {array.shape}", "(n,) classes or numbers, or (n, k) columns")
    return np.asarray(array)


def _quantity(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whole numbers in a table are quantities; text and booleans are classes."""
    return column.astype(np.float64) if column.dtype.kind in "iu" else column


def _dtype_of(y: object) -> type | None:
    """Keep rows of text and numbers apart: numpy alone would turn the numbers into text."""
    if not isinstance(y, Sequence) or isinstance(y, str):
        return None
    widths = {len(row) for row in y if isinstance(row, Sequence) and not isinstance(row, str)}
    if len(widths) > 1:
        raise ValueError(f"rows of {', '.join(map(str, sorted(widths)))} values")
    return object if widths else None


def _narrowed(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a column of objects as what its values are."""
    if all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in column):
        return column.astype(np.float64)
    return column


def _series(series: Any) -> np.ndarray[Any, Any]:
    """Return a pandas column: floating-point, whole numbers where none is missing, or objects with None for missing."""
    kind = "O" if hasattr(series.dtype, "categories") else getattr(series.dtype, "kind", "O")
    gaps = bool(series.isna().any())
    if kind == "f" or (kind in "iu" and gaps):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind in "iu":
        return np.asarray(series.to_numpy(dtype=np.int64))
    values = series.astype(object)
    return np.asarray((values.where(series.notna(), None) if gaps else values).to_numpy())


def _is_number(values: np.ndarray[Any, Any]) -> bool:
    return bool(values.dtype.kind == "f")


def _fitted(column: str, values: np.ndarray[Any, Any], name: str) -> Column:
    where = name if column == name else f"{column!r} of {name}"
    if values.dtype.kind == "c":
        raise complex_error(where)
    if values.dtype.kind in "mM" or (len(values) and isinstance(values[0], datetime | timedelta)):
        remedy = "Turn them into numbers, such as (y - y.min()) / numpy.timedelta64(1, 'D'), or into classes of text."
        raise InputError(f"times as {where}", "classes or numbers", remedy)
    if not _is_number(values):
        return Column(column, count_classes(values, source=where)[1])
    check_finite(torch.tensor(values, dtype=torch.float64)[:, None], name=where)
    return _number(column, values)


def _number(column: str, values: np.ndarray[Any, Any]) -> Column:
    low, high = float(values.min()), float(values.max())
    if low == high:  # exact, where a standard deviation of 1e-17 would not be zero
        return Column(column, mean=low)
    return Column(column, mean=float(values.mean(dtype=float)), std=float(values.std(dtype=float)))


def _converted(column: Column, values: np.ndarray[Any, Any], name: str) -> Tensor:
    """One column in the network's units, (n, column.width)."""
    where = name if column.name == name else f"{column.name!r} of {name}"
    if not column.classes:
        try:
            numbers = torch.tensor(values.astype(np.float64))[:, None]
        except (TypeError, ValueError):
            raise InputError(f"text in {where}", "numbers") from None
        check_finite(numbers, name=where)
        return ((numbers - column.mean) / column.std).float()
    codes, found = count_classes(values, source=where)
    unknown = [value for value in found if value not in column.classes]
    if unknown:
        raise InputError(f"unknown class {_shown(unknown)} in {where}", f"one of {_shown(column.classes)}")
    order = torch.tensor([column.classes.index(value) for value in found])
    return torch.nn.functional.one_hot(order[codes], len(column.classes)).float()


def _is_scalar(y: object) -> bool:
    return isinstance(y, str | bytes) or _rank(y) == 0


def _rank(y: object) -> int:
    if isinstance(y, str | bytes):
        return 0
    try:
        return int(getattr(y, "ndim", np.asarray(y, dtype=object).ndim))
    except ValueError:
        return 2


def _named(y: object) -> bool:
    return hasattr(y, "columns")


def _shown(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _MOST_SHOWN else ""
    return ", ".join(map(str, names[:_MOST_SHOWN])) + more
