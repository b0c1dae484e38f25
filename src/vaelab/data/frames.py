"""Polars at the boundary: its data frames as pandas' on the way in, and back in their own dtypes on the way out.

Whole numbers and booleans become pandas' nullable ones, so that none turns into a float where an entry is missing. What
Arrow has no plain type for is brought to one that says the same: a time is the duration since midnight, a decimal a
float. Polars is not imported to find out whether something is its.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from vaelab.errors import InputError, MissingExtraError

_TIMED = re.compile(r"(\w+)(?:\[(.*)\])?")
_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def is_polars(x: object) -> bool:
    """Whether x is a polars DataFrame."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(x, getattr(polars, "DataFrame", ()))


def polars_dtypes(frame: Any) -> dict[str, str]:
    """Return the dtype of every column in words that `to_polars` reads, such as ``"Datetime[us, Europe/Rome]"``.

    Empty for what is no frame of polars.
    """
    return {name: _spelled(dtype) for name, dtype in frame.schema.items()} if is_polars(frame) else {}


def _spelled(dtype: Any) -> str:
    parts = [getattr(dtype, name, None) for name in ("time_unit", "time_zone", "precision", "scale")]
    options = ", ".join(str(part) for part in parts if part is not None)
    name = str(dtype.base_type().__name__)
    return f"{name}[{options}]" if options else name


def to_pandas(frame: Any, name: str = "X") -> Any:
    """Return a polars DataFrame as one of pandas.

    Raises
    ------
    InputError
        Whole numbers of 128 bits beyond those of 64.
    """
    import pandas
    import pyarrow

    polars = import_module("polars")
    order, objects = frame.columns, {column: frame[column].to_list() for column in _of(frame, "Object")}
    frame = _narrowed(polars, frame.drop(list(objects)), name)
    times = [polars.col(name).cast(polars.Int64).cast(polars.Duration("ns")) for name in _of(frame, "Time")]
    decimals = [polars.col(name).cast(polars.Float64) for name in _of(frame, "Decimal")]
    nullable = {getattr(pyarrow, name)(): getattr(pandas, f"{_capital(name)}Dtype")() for name in _WHOLE}
    nullable[pyarrow.bool_()] = pandas.BooleanDtype()
    table = frame.with_columns(*times, *decimals).to_arrow()
    out = table.to_pandas(types_mapper=nullable.get, date_as_object=False)
    levels = {each: frame.schema[each].categories.to_list() for each in _of(frame, "Enum")}  # which have an order
    ordered = {column: out[column].cat.set_categories(own, ordered=True) for column, own in levels.items()}
    return out.assign(**ordered, **objects)[order]


def _narrowed(polars: Any, frame: Any, name: str) -> Any:
    """Return the frame with whole numbers of 128 bits, which Arrow does not know, as those of 64."""
    wide = [*_of(frame, "Int128"), *_of(frame, "UInt128")]
    try:
        return frame.with_columns(polars.col(column).cast(polars.Int64) for column in wide)
    except polars.exceptions.InvalidOperationError as error:
        got = f"{name} with whole numbers beyond 64 bits in {', '.join(map(repr, wide))}"
        raise InputError(got, "smaller ones", "Cast them to text or floats.") from error


def to_polars(frame: Any, dtypes: Mapping[str, str] | None = None) -> Any:
    """Return a pandas DataFrame as one of polars, with the dtypes of `polars_dtypes` where there are any.

    Whole numbers and decimals are rounded to their dtype; categories keep their levels.
    """
    import pyarrow

    polars = _required()
    out: Any = polars.from_arrow(pyarrow.Table.from_pandas(frame, preserve_index=False))
    known = dtypes or {}
    own = [_cast(polars, frame[name], known[name]) for name in out.columns if name in known]
    return out.with_columns(*own)


def frame_of(values: Any, columns: Sequence[str] | None, *, polars: bool) -> Any:
    """Return (n, d) numbers as a frame of pandas or polars, with the names of their columns if known."""
    import pandas

    frame = pandas.DataFrame(values, columns=None if columns is None else list(columns))
    return to_polars(frame) if polars else frame


def _required() -> Any:
    try:
        return import_module("polars")
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise MissingExtraError("polars", "polars", "Rows that came in a frame of polars") from error


def _cast(polars: Any, series: Any, text: str) -> Any:
    base, options = _parsed(text)
    column = polars.col(series.name)
    kind = getattr(polars, base)
    if base == "Time":
        return column.cast(polars.Duration("ns")).cast(polars.Int64).cast(kind)
    if base == "Enum":
        return column.cast(polars.Enum(series.cat.categories.tolist()))
    if base == "Datetime":
        unit, *zone = options
        return column.cast(polars.Datetime(unit, *zone))
    if base == "Duration":
        return column.cast(polars.Duration(options[0]))
    if base == "Decimal":
        return column.cast(polars.Decimal(*map(int, options)))
    return column.cast(kind)


def _parsed(text: str) -> tuple[str, list[str]]:
    found = _TIMED.fullmatch(text)
    assert found is not None  # of `_spelled`
    return found[1], found[2].split(", ") if found[2] else []


def _of(frame: Any, base: str) -> list[str]:
    return [name for name, dtype in frame.schema.items() if dtype.base_type().__name__ == base]


def _capital(name: str) -> str:
    return name.replace("uint", "UInt") if name.startswith("u") else name.replace("int", "Int")
