"""Tables with categories and missing entries: the user's columns, and the numbers that stand for them.

A `Schema` maps a data frame or an array to a tensor (n, d) and back: numbers stay as they are, a category becomes the
number of its level, and what is missing (NaN, None, NaT) becomes NaN. Whole numbers are quantities; say
``columns={"x": "category"}``, or ``frame["x"].astype("category")``, where they are names. Columns that name rows are
left out and made anew.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, final

import numpy as np
import torch
from torch import Tensor

from vaelab.data.cells import Cells, columns_of
from vaelab.data.checks import check_finite, is_frame, plain_rows
from vaelab.data.column import (
    TableColumn,
    as_objects,
    as_series,
    coded,
    fresh,
    shown,
    value_of,
)
from vaelab.data.column_reading import read_column
from vaelab.data.filling import fill_in
from vaelab.data.rare import spread
from vaelab.data.schema_text import laid_out
from vaelab.data.ties import find_ties, set_tied
from vaelab.errors import InputError

if TYPE_CHECKING:
    from vaelab.data.scaling import Scaling


class ColumnReader(Protocol):
    """What says how a column is to be taken, such as the values of `vaelab.specs.Column`."""

    @property
    def kind(self) -> str:
        """Its name."""

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Return what the column holds; `where` names it in messages."""


@final
@dataclass(frozen=True)
class Schema:
    """What the columns of a table hold, fitted once; prints as a table of its own.

    Attributes
    ----------
    columns
        Those that a model sees, in the order of the tensor's.
    apart
        The others, with their place among all: identifiers, and those that are dropped.
    """

    columns: tuple[TableColumn, ...]
    apart: tuple[tuple[int, TableColumn], ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def fit(cls, x: object, *, name: str = "X", columns: Mapping[str, ColumnReader] | None = None) -> Self:
        """Learn which columns hold numbers, and the levels of the others.

        Columns of text, booleans and pandas categories are categorical. The levels of text are those that occur, in
        sorted order, where they are many without those that hardly occur (`vaelab.data.rare`); of booleans False and
        True; of pandas categories those that are declared, in their order. Text that nearly never repeats names rows,
        and is left out.

        Parameters
        ----------
        x
            (n, d) data frame of pandas or polars, numpy array (of objects too), torch tensor, or nested list.
        name
            How the caller calls it, for messages.
        columns
            Column → what it is taken for, where that is not what it looks like.

        Raises
        ------
        InputError
            No table, columns of values that are neither numbers, text nor booleans, of several kinds at once, without
            any entry, or of one name; no column to model; or choices that do not fit.

        Warns
        -----
        VaelabWarning
            A column of text names rows, holds dates, or has mostly levels that hardly occur.
        """
        columns = columns or {}
        names, cells = columns_of(x, name)
        twice = sorted({column for column in names if names.count(column) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise InputError(f"{name} with several columns named {shown(twice)}", "one column of each name")
        check_names(columns, names)
        found = [read_column(column, partial(cells, j), name, columns.get(column)) for j, column in enumerate(names)]
        return cls._of(found, name)

    @classmethod
    def _of(cls, found: Sequence[TableColumn], name: str) -> Self:
        """Part columns that a model sees from others."""
        modelled = tuple(column for column in found if not column.apart)
        if not modelled:
            raise InputError(f"{name} without a column to model", "one beside those that name rows or are dropped")
        return cls(modelled, tuple((j, column) for j, column in enumerate(found) if column.apart))

    @classmethod
    def of_numbers(cls, d: int, names: Sequence[str] | None = None) -> Self:
        """Return the schema of d columns of numbers; their names are 0 … d − 1 if not given."""
        return cls(tuple(TableColumn(name) for name in names or map(str, range(d))))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that a model sees."""
        return tuple(column.name for column in self.columns)

    @property
    def levels(self) -> tuple[int, ...]:
        """How many levels each column has; 0 for numbers. What `vaelab.model.Mixed` is built from."""
        return tuple(len(column.levels or ()) for column in self.columns)

    @property
    def ordered(self) -> tuple[bool, ...]:
        """Whether the levels of each column have an order."""
        return tuple(column.kind == "ordered" for column in self.columns)

    @property
    def modelled(self) -> Self:
        """The same without the columns apart."""
        return replace(self, apart=())

    @property
    def given(self) -> list[TableColumn]:
        """All columns, as they came."""
        apart, rest = dict(self.apart), iter(self.columns)
        return [apart[j] if j in apart else next(rest) for j in range(len(self.columns) + len(apart))]

    @property
    def returned(self) -> tuple[str, ...]:
        """Names of the columns that come back: those of the model, and identifiers."""
        return tuple(column.name for column in self.given if column.kind != "drop")

    @property
    def _positional(self) -> bool:
        return all(column.name == str(j) for j, column in enumerate(self.given))

    def check_choices(self, columns: Mapping[str, ColumnReader]) -> None:
        """Refuse choices by which the rows were not coded; the scale of numbers is free.

        Raises
        ------
        InputError
            There is one, or one for a column that is not there.
        """
        check_names(columns, [column.name for column in self.given])
        for column in self.given:
            kind = columns[column.name].kind if column.name in columns else "auto"
            scale = kind in ("scores", "standardised") and column.levels is None and not column.apart
            if not scale and kind not in ("auto", column.kind):
                remedy = "Code the rows by it: Schema.fit(train, columns=likelihood.columns) for from_arrays."
                raise InputError(f"{column.name!r} as {kind!r}, in rows coded otherwise", "one choice for both", remedy)

    def scores(self, numbers: str, columns: Mapping[str, ColumnReader]) -> tuple[bool, ...]:
        """Whether each column becomes normal scores; `numbers` says so of those that `columns` says nothing of."""
        chosen = {name: each.kind for name, each in columns.items() if each.kind != "auto"}
        return tuple(chosen.get(column.name, numbers) == "scores" and column.levels is None for column in self.columns)

    def described(self, scaling: Scaling) -> Self:
        """Return the schema with what training has made of its numbers: their kind, grid, atoms and range."""
        return replace(
            self,
            columns=tuple(
                column if column.levels is not None else replace(column, **cast("Any", scaling.reading(j)))
                for j, column in enumerate(self.columns)
            ),
        )

    def with_ties(self, rows: Tensor) -> Self:
        """Return the schema with the columns that others determine in (n, d) coded rows; see `vaelab.data.ties`."""
        ties = find_ties(rows, self.names, self.levels)
        return replace(self, columns=tuple(replace(each, tie=ties.get(each.name)) for each in self.columns))

    def tied(self, rows: Tensor, *, gridded: bool = True) -> Tensor:
        """Set what other columns determine in (n, d) coded rows; see `vaelab.data.ties.set_tied`."""
        ties = {each.name: each.tie for each in self.columns if each.tie is not None}
        return set_tied(rows, ties, self, gridded=gridded)

    def to_tensor(self, x: object, *, name: str = "X", min_rows: int = 1) -> Tensor:
        """Code rows as (n, d), NaN where an entry is missing.

        Parameters
        ----------
        x
            As in `fit`; columns of a data frame are found by name, in whatever order. Columns apart may be absent.
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
        x = plain_rows(x, name)
        names, read = columns_of(x, name, min_rows=min_rows)
        cells = [read(j) for j in self.places(names, name, by_name=is_frame(x))]
        parts = [
            coded(column, cell, f"column {column.name!r} of {name}")
            for column, cell in zip(self.columns, cells, strict=True)
        ]
        single = [cell.single for column, cell in zip(self.columns, cells, strict=True) if column.levels is None]
        dtype = torch.float32 if single and all(single) else torch.float64
        out = torch.from_numpy(np.stack(parts, axis=1)).to(dtype)
        check_finite(out, name=name, allow_nan=True, columns=self.names)
        return out

    def without_apart(self, x: Any) -> Any:
        """Return the columns of a data frame or an array that a model sees; another table stays as it is."""
        if not self.apart:
            return x
        if is_frame(x):
            gone = {column.name for _, column in self.apart}
            return x[[column for column in x.columns if str(column) not in gone]]
        wide = getattr(x, "ndim", 0) == 2 and x.shape[1] == len(self.given)
        return x[:, self.places([""] * x.shape[1], "X", by_name=False)] if wide else x

    def coded_value(self, place: int, value: Any) -> float:
        """Return the number that stands for a value of a column: of a level, of seconds for dates, or itself.

        Raises
        ------
        InputError
            An unknown level, or no number or date.
        """
        return value_of(self.columns[place], value)

    def places(self, names: Sequence[str], name: str, *, by_name: bool) -> list[int]:
        """Return where each column of the model is in a table, by the names of its columns or by their order.

        Raises
        ------
        InputError
            Some are missing, or there are others.
        """
        apart = {column.name for _, column in self.apart}
        if by_name and set(names) - apart == set(self.names) and len(set(names)) == len(names):
            place = {column: j for j, column in enumerate(names)}
            return [place[column.name] for column in self.columns]
        if by_name and not self._positional:
            missing = [column for column in self.names if column not in names]
            extra = [column for column in names if column not in self.names and column not in apart]
            parts = [f"{word} column(s) {shown(some)}" for word, some in (("no", missing), ("extra", extra)) if some]
            raise InputError(f"{name} with {' and '.join(parts)}", f"the columns {shown(self.names)}")
        if len(names) == len(self.given):
            return [j for j, column in enumerate(self.given) if not column.apart]
        if len(names) != len(self.columns):
            raise InputError(f"{name} with {len(names)} column(s)", f"{len(self.columns)}: {shown(self.names)}")
        return list(range(len(names)))

    def to_frame(self, x: Tensor, *, like: Any = None, first: int = 0) -> Any:
        """Turn coded rows (n, d) into a pandas DataFrame, every column in the dtype that it came in.

        Categories are their levels; whole numbers with gaps become pandas' nullable ones. Identifiers are those of the
        n rows `like`, where it has them, or else new ones, behind those of the `first` so many rows.
        """
        import pandas

        values = x.detach().cpu().numpy()
        known = self._identifiers(like)
        series: dict[int, Any] = {}
        for j, (column, own) in enumerate(self._coming_back(values)):
            if own is not None:
                series[j] = as_series(column, own)
            else:
                series[j] = known[column.name] if column.name in known else fresh(column, values, first)
        return pandas.DataFrame(series).set_axis(list(self.returned), axis=1)

    def to_array(self, x: Tensor, *, like: Any = None, first: int = 0) -> np.ndarray[Any, Any]:
        """Turn coded rows (n, d) into a numpy array: of numbers if all columns are, else of objects.

        It is one of whole numbers if all columns came as those, in one dtype, and nothing is missing. Identifiers are
        as for `to_frame`.
        """
        values = x.detach().cpu().numpy()
        whole = [column.whole for column in self.columns]
        plain = not any(self.levels) and not any(column.time for column in self.columns)
        if plain and (all(whole) or not any(whole)) and len(self.returned) == len(self.columns):
            dtypes = {column.dtype for column in self.columns}
            if all(column.whole for column in self.columns) and len(dtypes) == 1 and not np.isnan(values).any():
                return np.asarray(np.rint(values).astype(dtypes.pop().lower()))
            return np.asarray(values)
        out = np.empty((len(values), len(self.returned)), dtype=object)
        known = self._identifiers(like)
        for j, (column, own) in enumerate(self._coming_back(values)):
            if own is not None:
                out[:, j] = as_objects(column, own)
            else:
                out[:, j] = known[column.name] if column.name in known else fresh(column, values, first)
        return out

    def _identifiers(self, like: Any) -> dict[str, Any]:
        """Name → (n,) values of an identifier in rows that were given."""
        if like is None or not self.apart:
            return {}
        like = plain_rows(like)
        if is_frame(like):
            names = {str(column): column for column in like.columns}
            return {each.name: like[names[each.name]].array for _, each in self.apart if each.name in names}
        wide = getattr(like, "ndim", 0) == 2 and like.shape[1] == len(self.given)
        return {each.name: np.asarray(like[:, j]) for j, each in self.apart} if wide else {}

    def _coming_back(self, values: np.ndarray[Any, Any]) -> Iterator[tuple[TableColumn, np.ndarray[Any, Any] | None]]:
        """Columns that come back, with their coded cells, which identifiers have not."""
        rest = iter(values.T)
        for column in self.given:
            if column.kind != "drop":
                yield column, None if column.apart else spread(column, next(rest), values)

    def fill(self, x: object, filled: Tensor, *, name: str = "X") -> Any:
        """Return x in its own container with its gaps filled in; what was there stays as it was.

        Parameters
        ----------
        x
            As in `to_tensor`.
        filled
            (n, d) the same rows, coded; what is NaN stays a gap.
        name
            How the caller calls it, for messages.

        Returns
        -------
        data frame, array or tensor
            A copy. Nullable whole numbers become floating-point ones unless what is filled in is whole; other columns
            keep their dtype. Nested lists become arrays. Columns apart stay as they are.
        """
        return fill_in(self, x, filled, name)

    def meta(self) -> list[dict[str, Any]]:
        """Return plain values for YAML or JSON, one entry per column, as they came."""
        return [column.meta() for column in self.given]

    @classmethod
    def from_meta(cls, meta: Sequence[Mapping[str, Any]]) -> Self:
        """Rebuild from `meta`.

        Raises
        ------
        InputError
            Something is missing.
        """
        try:
            return cls._of([TableColumn.from_meta(entry) for entry in meta], "a saved schema")
        except (KeyError, TypeError) as error:
            raise InputError(f"a saved schema without {error}", "what Schema.meta returns") from error

    def __str__(self) -> str:
        return laid_out(self.given)


def check_names(columns: Mapping[str, object], names: Sequence[str]) -> None:
    """Refuse choices for columns that are not there, with the nearest name.

    Raises
    ------
    InputError
        There is one.
    """
    known = set(names)
    wrong = [name for name in columns if name not in known]
    if wrong:
        close = [each for name in wrong for each in difflib.get_close_matches(name, names, n=1)]
        hint = f"Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise InputError(f"columns {shown(wrong)}, which the table does not have", f"some of {shown(names)}", hint)
