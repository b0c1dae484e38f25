"""Tables with categories and missing entries: the user's columns, and the numbers that stand for them.

A `Schema` maps a data frame or an array to a tensor (n, d) and back: numbers stay as they are, a category becomes the
number of its level, and what is missing (NaN, None, NaT) becomes NaN. Whole numbers are quantities; say
``frame["x"].astype("category")`` where they are names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast, final

import numpy as np
import torch
from torch import Tensor

from vaelab.data.cells import Cells, Level, read_columns
from vaelab.data.checks import check_finite, is_frame
from vaelab.errors import InputError, VaelabWarning

Form = Literal["number", "text", "boolean", "category", "ordered"]
_MOST_SHOWN = 20
_MANY = 20  # levels from which on a column of text may be one of names, with a level for every row


@final
@dataclass(frozen=True)
class TableColumn:
    """One column of a table.

    Attributes
    ----------
    name
        For messages and data frames.
    form
        What the user's column holds: numbers, text, booleans, or pandas categories without or with an order.
    levels
        Of a category, in the order in which they are numbered; None for numbers.
    dtype
        Of numbers, as they came in; empty where that is unknown.
    """

    name: str
    form: Form = "number"
    levels: tuple[Level, ...] | None = None
    dtype: str = field(default="", compare=False)

    @property
    def whole(self) -> bool:
        """Whether it came as whole numbers."""
        return self.dtype.lower().startswith(("int", "uint"))

    @property
    def time(self) -> bool:
        """Whether it came as dates or durations, which are seconds (since 1970, in UTC)."""
        return self.dtype.startswith(("datetime64", "timedelta64"))


@final
@dataclass(frozen=True)
class Schema:
    """What the columns of a table hold, fitted once.

    Attributes
    ----------
    columns
        In the order of the tensor's.
    """

    columns: tuple[TableColumn, ...]

    @classmethod
    def fit(cls, x: object, *, name: str = "X") -> Self:
        """Learn which columns hold numbers, and the levels of the others.

        Columns of text, booleans and pandas categories are categorical. The levels of text are those that occur, in
        sorted order; of booleans False and True; of pandas categories those that are declared, in their order.

        Parameters
        ----------
        x
            (n, d) pandas DataFrame, numpy array (of objects too), torch tensor, or nested list.
        name
            How the caller calls it, for messages.

        Raises
        ------
        InputError
            No table, columns of values that are neither numbers, text nor booleans, of several kinds at once, without
            any entry, or of one name.

        Warns
        -----
        VaelabWarning
            A column of text has about as many levels as rows.
        """
        names, cells = read_columns(x, name)
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            raise InputError(f"{name} with several columns named {_shown(twice)}", "one column of each name")
        return cls(tuple(_fitted(column, cell, name) for column, cell in zip(names, cells, strict=True)))

    @classmethod
    def of_numbers(cls, d: int, names: Sequence[str] | None = None) -> Self:
        """Return the schema of d columns of numbers; their names are 0 … d − 1 if not given."""
        return cls(tuple(TableColumn(name) for name in names or map(str, range(d))))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def levels(self) -> tuple[int, ...]:
        """How many levels each column has; 0 for numbers. What `vaelab.model.Mixed` is built from."""
        return tuple(len(column.levels or ()) for column in self.columns)

    @property
    def _positional(self) -> bool:
        return self.names == tuple(map(str, range(len(self.columns))))

    def to_tensor(self, x: object, *, name: str = "X", min_rows: int = 1) -> Tensor:
        """Code rows as (n, d), NaN where an entry is missing.

        Parameters
        ----------
        x
            As in `fit`; columns of a data frame are found by name, in whatever order.
        name
            How the caller calls it, for messages.
        min_rows
            Fewest rows that make sense.

        Returns
        -------
        Tensor
            float32 if all numbers of x are, else float64; on the CPU.

        Raises
        ------
        InputError
            Other columns than in `fit`, an unknown level, text among numbers, or infinite numbers.
        """
        names, cells = read_columns(x, name, min_rows=min_rows)
        cells = [cells[i] for i in self._places(names, name, by_name=is_frame(x))]
        coded = [_coded(column, cell, name) for column, cell in zip(self.columns, cells, strict=True)]
        single = [cell.single for column, cell in zip(self.columns, cells, strict=True) if column.levels is None]
        dtype = torch.float32 if single and all(single) else torch.float64
        out = torch.from_numpy(np.stack(coded, axis=1)).to(dtype)
        check_finite(out, name=name, allow_nan=True, columns=self.names)
        return out

    def coded_value(self, place: int, value: Any) -> float:
        """Return the number that stands for a value of a column: of a level, of seconds for dates, or itself.

        Raises
        ------
        InputError
            An unknown level, or no number or date.
        """
        column = self.columns[place]
        if column.levels is not None:
            if value not in column.levels:
                got = f"level {value!r} of column {column.name!r}"
                raise InputError(got, f"one of {_shown(column.levels)}")
            return float(column.levels.index(value))
        try:
            if not column.time:
                return float(value)
            import pandas

            if column.dtype.startswith("timedelta64"):
                return float(pandas.Timedelta(value).total_seconds())
            moment, zone = pandas.Timestamp(value), column.dtype.partition(", ")[2].rstrip("]")
            return float((moment.tz_localize(zone) if zone and moment.tzinfo is None else moment).timestamp())
        except (TypeError, ValueError) as error:
            wanted = "a date or a duration" if column.time else "a number"
            raise InputError(f"{value!r} for column {column.name!r}", wanted) from error

    def _places(self, names: Sequence[str], name: str, *, by_name: bool) -> list[int]:
        """Where each column of the schema is in a table."""
        if by_name and set(names) == set(self.names) and len(names) == len(self.names):
            return [names.index(column.name) for column in self.columns]
        if by_name and not self._positional:
            missing = [column for column in self.names if column not in names]
            extra = [column for column in names if column not in self.names]
            parts = [f"{word} column(s) {_shown(some)}" for word, some in (("no", missing), ("extra", extra)) if some]
            raise InputError(f"{name} with {' and '.join(parts)}", f"the columns {_shown(self.names)}")
        if len(names) != len(self.columns):
            raise InputError(f"{name} with {len(names)} column(s)", f"{len(self.columns)}: {_shown(self.names)}")
        return list(range(len(names)))

    def to_frame(self, x: Tensor) -> Any:
        """Turn coded rows (n, d) into a pandas DataFrame: categories as their levels, whole numbers as they came.

        Whole numbers with gaps become pandas' nullable ones; other numbers have the dtype of x.
        """
        import pandas

        values = x.detach().cpu().numpy()
        series: dict[int, Any] = {}
        for j, column in enumerate(self.columns):
            if column.form in ("category", "ordered"):
                codes = np.where(np.isnan(values[:, j]), -1, values[:, j]).astype(np.int64)
                ordered = column.form == "ordered"
                levels: Any = list(column.levels or ())
                series[j] = pandas.Categorical.from_codes(codes, categories=levels, ordered=ordered)
            elif column.whole:
                series[j] = _whole(pandas, values[:, j], column.dtype)
            elif column.time:
                series[j] = _times(pandas, values[:, j], column.dtype)
            else:
                series[j] = _decoded(column, values[:, j])
        return pandas.DataFrame(series).set_axis(list(self.names), axis=1)

    def to_array(self, x: Tensor) -> np.ndarray[Any, Any]:
        """Turn coded rows (n, d) into a numpy array: of numbers if all columns are, else of objects.

        It is one of whole numbers if all columns came as those, in one dtype, and nothing is missing.
        """
        values = x.detach().cpu().numpy()
        whole = [column.whole for column in self.columns]
        plain = not any(self.levels) and not any(column.time for column in self.columns)
        if plain and (all(whole) or not any(whole)):
            dtypes = {column.dtype for column in self.columns}
            if all(column.whole for column in self.columns) and len(dtypes) == 1 and not np.isnan(values).any():
                return np.asarray(np.rint(values).astype(dtypes.pop().lower()))
            return np.asarray(values)
        out = np.empty(values.shape, dtype=object)
        for j, column in enumerate(self.columns):
            out[:, j] = _decoded(column, values[:, j])
        return out

    def fill(self, x: object, filled: Tensor, *, name: str = "X") -> Any:
        """Return x in its own container with its gaps filled in; what was there stays as it was.

        Parameters
        ----------
        x
            As in `to_tensor`.
        filled
            (n, d) the same rows, coded, without gaps.
        name
            How the caller calls it, for messages.

        Returns
        -------
        data frame, array or tensor
            A copy. Columns of numbers with gaps become floating-point ones; those without keep their dtype, and so do
            categories. Nested lists become arrays.
        """
        names, cells = read_columns(x, name)
        places = self._places(names, name, by_name=is_frame(x))
        if isinstance(x, Tensor):
            return torch.where(x.isnan(), filled.to(x), x) if x.is_floating_point() else x.clone()
        values = filled.detach().cpu().numpy()
        out: Any = cast("Any", x).copy() if is_frame(x) else np.array(x)
        if not is_frame(x) and not isinstance(x, np.ndarray):
            out = np.array(x, dtype=object if any(self.levels) else np.float64)
        for column, place, found in zip(self.columns, places, values.T, strict=True):
            gone = cells[place].missing
            if not gone.any():
                continue
            new = found[gone] if column.levels is None else _decoded(column, found[gone])
            if column.time:
                import pandas

                new = _times(pandas, new, column.dtype).array
            if is_frame(x):
                out.isetitem(place, _patched(out.iloc[:, place], gone, new, column))
            else:
                out[gone, place] = new
        return out

    def meta(self) -> list[dict[str, Any]]:
        """Return plain values for YAML, one entry per column."""
        return [
            {"name": column.name, "form": column.form}
            | ({} if column.levels is None else {"levels": list(column.levels)})
            | ({"dtype": column.dtype} if column.dtype else {})
            for column in self.columns
        ]

    @classmethod
    def from_meta(cls, meta: Sequence[Mapping[str, Any]]) -> Self:
        """Rebuild from `meta`.

        Raises
        ------
        InputError
            Something is missing.
        """
        try:
            return cls(
                tuple(
                    TableColumn(
                        entry["name"],
                        entry["form"],
                        tuple(entry["levels"]) if "levels" in entry else None,
                        str(entry.get("dtype", "")),
                    )
                    for entry in meta
                )
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"a saved schema without {error}", "what Schema.meta returns") from error


def _whole(pandas: Any, values: np.ndarray[Any, Any], dtype: str) -> Any:
    """Return whole numbers in their own dtype, within its range; nullable where some are missing or it was."""
    missing, limits = np.isnan(values), np.iinfo(dtype.lower())
    rounded = np.clip(np.rint(np.where(missing, 0, values)), float(limits.min), float(limits.max))
    if not missing.any() and dtype[0].islower():
        return rounded.astype(dtype)
    nullable = dtype.replace("uint", "UInt").replace("int", "Int")
    return pandas.array(np.where(missing, np.nan, rounded), dtype=nullable)


def _as_text(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return dates or durations as text, None where missing; days alone where no time is beside them."""
    import pandas

    text: np.ndarray[Any, Any] = _times(pandas, values, dtype).astype(str).to_numpy(dtype=object)
    text[missing] = None
    return text


def _times(pandas: Any, values: np.ndarray[Any, Any], dtype: str) -> Any:
    """Return dates or durations, to the microsecond, from seconds."""
    counts = np.rint(np.where(np.isnan(values), 0, values) * 1e6).astype(np.int64)
    kind, zone = dtype.split("[")[0], dtype.partition(", ")[2].rstrip("]")
    times = pandas.Series(counts.astype(f"{kind}[us]")).mask(np.isnan(values))
    if zone:
        times = times.dt.tz_localize("UTC").dt.tz_convert(zone)
    return times.astype(dtype)


def _shown(values: Sequence[object]) -> str:
    more = f", … ({len(values)} in all)" if len(values) > _MOST_SHOWN else ""
    return ", ".join(repr(value) for value in values[:_MOST_SHOWN]) + more


def _fitted(column: str, cell: Cells, name: str) -> TableColumn:
    observed = int((~cell.missing).sum())
    if not observed:
        raise InputError(f"column {column!r} of {name} without any entry", "something in every column", "Drop it.")
    if cell.declared is not None:
        return TableColumn(column, "ordered" if cell.ordered else "category", cell.declared)
    if cell.numbers is not None:
        return TableColumn(column, dtype=cell.dtype)
    assert cell.objects is not None  # neither categories nor numbers
    found = cell.objects[~cell.missing].tolist()
    if isinstance(found[0], bool):
        return TableColumn(column, "boolean", (False, True))
    levels = tuple(sorted(set(found)))
    if len(levels) > max(_MANY, observed // 2):
        text = f"Column {column!r} of {name} has {len(levels)} levels in {observed} rows"
        warnings.warn(f"{text}: drop it if it names rows.", VaelabWarning, stacklevel=4)
    return TableColumn(column, "text", levels)


def _coded(column: TableColumn, cell: Cells, name: str) -> np.ndarray[Any, Any]:
    """(n,) float64 numbers, or numbers of levels."""
    if column.levels is None:
        if cell.numbers is None and not cell.missing.all():
            raise InputError(f"column {column.name!r} of {name} without numbers", "numbers, as in fit")
        return np.full(cell.rows, np.nan) if cell.numbers is None else cell.numbers
    place: dict[Any, int] = {level: i for i, level in enumerate(column.levels)}
    values = cell.numbers if cell.objects is None else cell.objects
    assert values is not None  # a column holds the one or the other
    found = dict.fromkeys(values[~cell.missing].tolist())
    unknown = [value for value in found if value not in place]
    if unknown:
        remedy = "Leave those entries missing, or train again on data that have them."
        known = f"one of {_shown(column.levels)}"
        raise InputError(f"unknown level {_shown(unknown)} in column {column.name!r} of {name}", known, remedy)
    codes = np.full(cell.rows, np.nan)
    codes[~cell.missing] = [place[value] for value in values[~cell.missing].tolist()]
    return codes


def _decoded(column: TableColumn, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n,) numbers as they are, whole ones as objects; levels as objects, None where missing; booleans if none is."""
    out: np.ndarray[Any, Any]
    missing = np.isnan(values)
    if column.time:
        return _as_text(values, missing, column.dtype)
    if column.levels is None and not column.whole:
        return values
    if column.levels is None:
        out = np.rint(np.where(missing, 0, values)).astype(np.int64).astype(object)
        out[missing] = None
        return out
    codes = np.where(missing, 0, values).astype(np.int64)
    table = np.empty(len(column.levels), dtype=object)
    table[:] = column.levels
    out = table[codes]
    out[missing] = None
    return out.astype(bool) if column.form == "boolean" and not missing.any() else out


def _patched(series: Any, gone: np.ndarray[Any, Any], new: np.ndarray[Any, Any], column: TableColumn) -> Any:
    """Return a pandas column with new values in its gaps."""
    if column.levels is None and getattr(series.dtype, "kind", "O") in "iu":  # nullable whole numbers
        series = series.astype("Float64")
    if hasattr(series.dtype, "categories"):
        series = series.cat.add_categories([v for v in dict.fromkeys(new) if v not in series.cat.categories])
    series = series.copy()
    series.iloc[gone] = new
    return series.infer_objects() if column.form == "boolean" else series
