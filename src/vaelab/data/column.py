"""One column of a table: what it holds, the numbers that stand for its cells, and the cells that stand for numbers.

A number stands for itself, and a date for its seconds; a category for the number of its level. What is missing is NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, Self, final

import numpy as np

from vaelab.data.cells import Cells, Level
from vaelab.data.identifiers import Pattern
from vaelab.data.rare import MANY, Rare, named, parted
from vaelab.data.ties import Tie
from vaelab.errors import InputError

Form = Literal["number", "text", "boolean", "category", "ordered"]
Kind = Literal["", "scores", "standardised", "constant", "category", "ordered", "identifier", "drop"]
_MOST_SHOWN = 20
_MEASURED = re.compile(r"[+-]?\d*[.,]\d+([eE][+-]?\d+)?")
_DATED = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d.*)?")
_NAMES = 0.9  # share of different values from which it names rows


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
        As it came in, of pandas categories that of the levels; empty where that is unknown.
    kind
        How it is modelled: a number by normal scores, standardised or as a constant, which training settles; a category
        without or with an order; an identifier, which no model sees and which is made anew; or not at all.
    gaps
        Share of entries that were missing.
    step, atoms, span
        Of numbers as they are modelled: the grid that they lie on (0 for none), values that hold a share of their own
        with that share, and the smallest and largest.
    pattern
        Of an identifier.
    unseen
        Places of declared levels that no row of fit had.
    tie
        How other columns determine it, in all rows of a training; None for most.
    rare
        Levels that the last one stands for, with how many rows had each; none for most.
    """

    name: str
    form: Form = "number"
    levels: tuple[Level, ...] | None = None
    dtype: str = field(default="", compare=False)
    kind: Kind = field(default="", compare=False, repr=False)
    gaps: float = field(default=0.0, compare=False, repr=False)
    step: float = field(default=0.0, compare=False, repr=False)
    atoms: tuple[tuple[float, float], ...] = field(default=(), compare=False, repr=False)
    span: tuple[float, float] | None = field(default=None, compare=False, repr=False)
    pattern: Pattern | None = field(default=None, compare=False, repr=False)
    unseen: tuple[int, ...] = field(default=(), compare=False, repr=False)
    tie: Tie | None = field(default=None, compare=False, repr=False)
    rare: Rare = field(default=(), compare=False, repr=False)

    @property
    def whole(self) -> bool:
        """Whether it came as whole numbers."""
        return self.dtype.lower().startswith(("int", "uint")) and self.form == "number"

    @property
    def time(self) -> bool:
        """Whether it came as dates or durations, which are seconds (since 1970, in UTC)."""
        return self.dtype.startswith(("datetime64", "timedelta64")) and self.form == "number"

    @property
    def apart(self) -> bool:
        """Whether no model sees it."""
        return self.kind in ("identifier", "drop")

    def meta(self) -> dict[str, Any]:
        """Return plain values, without those that say nothing."""
        plain: dict[str, Any] = {"name": self.name, "form": self.form, "kind": self.kind}
        plain["levels"] = None if self.levels is None else list(self.levels)
        plain |= {"dtype": self.dtype, "gaps": self.gaps, "step": self.step}
        plain["atoms"] = [list(atom) for atom in self.atoms]
        plain["span"] = None if self.span is None else list(self.span)
        plain["pattern"] = None if self.pattern is None else self.pattern.meta()
        plain["unseen"] = list(self.unseen)
        plain["tie"] = None if self.tie is None else self.tie.meta()
        plain["rare"] = [list(each) for each in self.rare]
        return {name: value for name, value in plain.items() if value is not None and value not in ("", 0.0, [])}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Self:
        """Rebuild from `meta`."""
        levels, span, pattern = (meta.get(name) for name in ("levels", "span", "pattern"))
        return cls(
            meta["name"],
            meta["form"],
            None if levels is None else tuple(levels),
            str(meta.get("dtype", "")),
            meta.get("kind", ""),
            float(meta.get("gaps", 0.0)),
            float(meta.get("step", 0.0)),
            tuple((float(value), float(share)) for value, share in meta.get("atoms", ())),
            None if span is None else (float(span[0]), float(span[1])),
            None if pattern is None else Pattern.from_meta(pattern),
            tuple(int(place) for place in meta.get("unseen", ())),
            None if meta.get("tie") is None else Tie.from_meta(meta["tie"]),
            tuple((level, int(count)) for level, count in meta.get("rare", ())),
        )


def as_it_is(name: str, cell: Cells, where: str) -> TableColumn:
    """Take a column for what its cells are; text that nearly never repeats names rows, and rare levels count as one."""
    if cell.numbers is not None and cell.declared is None:
        return as_number(name, cell, where)
    ordered = cell.declared is not None and cell.ordered
    found = as_category(name, cell, where, ordered=ordered)
    texts = found.levels or ()
    if found.form != "text" or cell.objects is None or len(texts) <= MANY:
        return found
    measured = sum(_MEASURED.fullmatch(str(text)) is not None for text in texts)  # numbers with a stray word among them
    if len(texts) > _NAMES * int((~cell.missing).sum()) and 2 * measured <= len(texts):
        return as_identifier(name, cell, where)
    levels, rare = parted(cell.objects[~cell.missing].tolist(), texts)
    return replace(found, levels=levels, rare=rare)


def as_number(name: str, cell: Cells, where: str) -> TableColumn:
    """Take a column for numbers, dates or durations; on which scale is for the training.

    Raises
    ------
    InputError
        It holds others, or whole numbers beyond 2⁵³.
    """
    _check_any(cell, where)
    if cell.numbers is None or cell.declared is not None:
        raise InputError(f"a number's kind for {where}, which holds none", "'category' or 'ordered'")
    if not cell.exact:
        remedy = f"Make it text, or say that it is an identifier: columns={{{name!r}: 'identifier'}}."
        raise InputError(f"{where} with whole numbers beyond 2^53", "smaller ones, or floats", remedy)
    return TableColumn(name, dtype=cell.dtype)


def as_category(
    name: str, cell: Cells, where: str, levels: Sequence[Level] | None = None, *, ordered: bool = False
) -> TableColumn:
    """Take a column for one of categories.

    Parameters
    ----------
    name, cell, where
        Of the column.
    levels
        In their order; else those that pandas declares, or those that occur, sorted.
    ordered
        Whether the order means something.

    Raises
    ------
    InputError
        Dates, whole numbers beyond 2⁵³, or levels that are not those of the column.
    """
    _check_any(cell, where)
    kind: Kind = "ordered" if ordered else "category"
    if cell.declared is not None:
        if levels is not None and tuple(levels) != cell.declared:
            remedy = "Use pandas: column.cat.reorder_categories(…)."
            raise InputError(f"levels {shown(levels)} for {where}", f"its own, {shown(cell.declared)}", remedy)
        form: Form = "ordered" if cell.ordered else "category"
        return TableColumn(name, form, cell.declared, cell.dtype, kind)
    if cell.numbers is not None:
        column = replace(as_number(name, cell, where), kind=kind)
        if column.time:
            raise InputError(f"kind {kind!r} for {where}, which holds dates", "'scores' or 'standardised'")
        values: Any = np.unique(cell.numbers[~cell.missing])
        own: tuple[Level, ...] = tuple((values.astype(np.int64) if column.whole else values).tolist())
    else:
        assert cell.objects is not None  # neither categories nor numbers
        found = cell.objects[~cell.missing].tolist()
        truth = isinstance(found[0], bool)
        own = (False, True) if truth else tuple(sorted(set(found)))
        column = TableColumn(name, "boolean" if truth else "text", dtype=cell.dtype, kind=kind)
    if levels is not None and (set(own) - set(levels) or len(set(levels)) < len(levels)):
        got = f"levels {shown(levels)} for {where}"
        raise InputError(got, f"each once, and all that occur: {shown(own)}")
    return replace(column, levels=own if levels is None else tuple(levels))


def as_identifier(name: str, cell: Cells, where: str) -> TableColumn:
    """Take a column for one that names rows, by text or whole numbers.

    Raises
    ------
    InputError
        It holds others.
    """
    _check_any(cell, where)
    column = TableColumn(name, "number" if cell.numbers is not None else "text", None, cell.dtype, "identifier")
    values = None if cell.numbers is None or cell.declared is not None else cell.numbers[~cell.missing]
    if values is not None and not column.time and (values == np.rint(values)).all():
        return replace(column, pattern=Pattern(last=int(values.max())))
    texts = None if cell.objects is None else list(dict.fromkeys(cell.objects[~cell.missing].tolist()))
    if texts is None or not isinstance(texts[0], str):
        raise InputError(f"kind 'identifier' for {where}", "text or whole numbers", "Or leave it out: 'drop'.")
    return replace(column, dtype="" if cell.declared is not None else cell.dtype, pattern=Pattern.of_texts(name, texts))


def holds_dates_as_text(cell: Cells) -> bool:
    """Whether every cell that is there is text such as 2024-02-29, 29.2.2024 or 2/29/24, with or without a time."""
    if cell.objects is None or cell.declared is not None or cell.missing.all():
        return False
    return all(isinstance(each, str) and _DATED.fullmatch(each) for each in set(cell.objects[~cell.missing].tolist()))


def _check_any(cell: Cells, where: str) -> None:
    if cell.missing.all():
        raise InputError(f"{where} without any entry", "something in every column", "Drop it.")


def coded(column: TableColumn, cell: Cells, where: str) -> np.ndarray[Any, Any]:
    """(n,) float64 numbers, or numbers of levels.

    Raises
    ------
    InputError
        A level that the column does not have, or no numbers where it has numbers.
    """
    if column.levels is None:
        if cell.numbers is None and not cell.missing.all():
            raise InputError(f"{where} without numbers", "numbers, as in fit")
        return np.full(cell.rows, np.nan) if cell.numbers is None else cell.numbers
    place: dict[Any, int] = {level: i for i, level in enumerate(column.levels)}
    place |= {level: len(column.levels) - 1 for level, _ in column.rare}
    values = cell.numbers if cell.objects is None else cell.objects
    assert values is not None  # a column holds the one or the other
    there = values[~cell.missing].tolist()
    unknown = [value for value in dict.fromkeys(there) if value not in place]
    if unknown and column.rare and all(isinstance(value, str) for value in unknown):
        place |= dict.fromkeys(unknown, len(column.levels) - 1)
    elif unknown:
        remedy = "Leave those entries missing, or train again on data that have them."
        got = f"unknown level {shown(unknown)} in {where}"
        raise InputError(got, f"one of {shown(column.levels)}", remedy)
    codes = np.full(cell.rows, np.nan)
    codes[~cell.missing] = [place[value] for value in there]
    return codes


def value_of(column: TableColumn, value: Any) -> float:
    """Return the number that stands for a value; see `Schema.coded_value`."""
    if column.levels is not None:
        if value not in column.levels:
            got = f"level {value!r} of column {column.name!r}"
            rare = any(value == level for level, _ in column.rare)
            remedy = (
                f"It is rare, one of {column.levels[-1]!r}, which can be given; or train with "
                f"columns={{{column.name!r}: 'category'}} to have each by itself."
            )
            raise InputError(got, f"one of {shown(column.levels)}", remedy if rare else "")
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


def as_series(column: TableColumn, values: np.ndarray[Any, Any]) -> Any:
    """Return coded cells (n,) as what a column of a pandas DataFrame is made of, in its dtype.

    Whole numbers and booleans with gaps are nullable, where their dtype has no place for these.
    """
    pandas: Any = import_module("pandas")  # whose stubs know no dtype but literal ones
    if column.form in ("category", "ordered"):
        codes = np.where(np.isnan(values), -1, values).astype(np.int64)
        levels: Any = pandas.Index(list(column.levels or ()), dtype=column.dtype or None)
        return pandas.Categorical.from_codes(codes, categories=levels, ordered=column.form == "ordered")
    if column.whole:
        return _whole(pandas, _uncoded(column, values), column.dtype)
    if column.time:
        return times(_uncoded(column, values), column.dtype)
    out = as_objects(column, values)
    if not column.dtype or (out.dtype == bool and column.dtype == "object"):
        return out
    if column.dtype == "bool" and out.dtype != bool:  # with gaps, which it has no place for
        return out
    return pandas.array(out, dtype=column.dtype) if column.form == "number" else pandas.Series(out, dtype=column.dtype)


def as_objects(column: TableColumn, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n,) floats as they are, whole numbers and levels as objects, dates as text, None where missing.

    Of rare levels codes are those of `vaelab.data.rare.spread`. Booleans are no objects if none is missing.
    """
    missing = np.isnan(values)
    if column.form == "number":
        numbers = _uncoded(column, values)
        if column.time:
            return _as_text(numbers, missing, column.dtype)
        if not column.whole:
            return numbers
        out: np.ndarray[Any, Any] = np.rint(np.where(missing, 0, numbers)).astype(np.int64).astype(object)
    else:
        levels = named(column)
        table = np.empty(len(levels), dtype=object)
        table[:] = levels
        out = table[np.where(missing, 0, values).astype(np.int64)]
    out[missing] = None
    return out.astype(bool) if column.form == "boolean" and not missing.any() else out


def fresh(column: TableColumn, rows: np.ndarray[Any, Any], first: int) -> Any:
    """Return new values of an identifier for (n, d) coded rows, before which there were others: numbers, or text."""
    assert column.pattern is not None  # of an identifier
    if column.form == "text":
        return np.array(column.pattern.texts(rows, first), dtype=object)
    return np.array(column.pattern.numbers(len(rows), first), dtype=np.int64)


def _uncoded(column: TableColumn, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n,) numbers, of levels those that they stand for."""
    if column.levels is None:
        return values
    table = np.array([*column.levels, np.nan], dtype=np.float64)
    return table[np.where(np.isnan(values), len(column.levels), values).astype(np.int64)]


def _whole(pandas: Any, values: np.ndarray[Any, Any], dtype: str) -> Any:
    """Return whole numbers in their own dtype, within its range; nullable where some are missing or it was."""
    missing, limits = np.isnan(values), np.iinfo(dtype.split("[")[0].lower())
    rounded = np.clip(np.rint(np.where(missing, 0, values)), float(limits.min), float(limits.max))
    if not missing.any() and dtype[0].islower() and "[" not in dtype:
        return rounded.astype(dtype)
    nullable = dtype if "[" in dtype else dtype.replace("uint", "UInt").replace("int", "Int")
    return pandas.array(np.where(missing, np.nan, rounded), dtype=nullable)


def _as_text(values: np.ndarray[Any, Any], missing: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return dates or durations as text, None where missing; days alone where no time is beside them."""
    text: np.ndarray[Any, Any] = times(values, dtype).astype(str).to_numpy(dtype=object)
    text[missing] = None
    return text


def times(values: np.ndarray[Any, Any], dtype: str) -> Any:
    """Return dates or durations, to the microsecond, from seconds, as a pandas Series."""
    pandas: Any = import_module("pandas")
    counts = np.rint(np.where(np.isnan(values), 0, values) * 1e6).astype(np.int64)
    kind, zone = dtype.split("[")[0], dtype.partition(", ")[2].rstrip("]")
    found = pandas.Series(counts.astype(f"{kind}[us]")).mask(np.isnan(values))
    if zone:
        found = found.dt.tz_localize("UTC").dt.tz_convert(zone)
    return found.astype(dtype)


def shown(values: Sequence[object]) -> str:
    """Return values for a message, at most 20 of them."""
    more = f", … ({len(values)} in all)" if len(values) > _MOST_SHOWN else ""
    return ", ".join(repr(value) for value in values[:_MOST_SHOWN]) + more
