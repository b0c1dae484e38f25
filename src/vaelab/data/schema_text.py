"""A schema in words: as a page for people, and as the choices of a file that makes it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vaelab.data.column import TableColumn

_MOST_LEVELS = 3  # that are shown
_LONG = 40  # characters of a name or a level


def laid_out(columns: Sequence[TableColumn]) -> str:
    """Lay out columns as a table of text: name, kind, gaps, dtype, and what they hold."""
    head = ("column", "kind", "gaps", "dtype", "holds")
    rows = [
        (
            _short(one.name),
            one.kind or "number",
            f"{100 * one.gaps:.1f} %" if one.gaps else "–",
            _dtype(one),
            in_words(one),
        )
        for one in columns
    ]
    widths = [max(len(row[j]) for row in [head, *rows]) for j in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in [head, *rows]
    )


def _dtype(column: TableColumn) -> str:
    return f"category[{column.dtype}]" if column.form in ("category", "ordered") else column.dtype


def in_words(column: TableColumn) -> str:
    """Say what a column holds, in one line whatever its values are."""
    return _short(_holds(column), most=200)


def _holds(column: TableColumn) -> str:
    if column.kind == "drop":
        return "left out"
    if column.pattern is not None:
        return f"made anew: {column.pattern.described}"
    tied = "" if column.tie is None else column.tie.described
    if column.levels is not None:
        return "; ".join(part for part in (_of_levels(column), tied) if part)
    parts = [_of_numbers(column), tied]
    parts += [f"{100 * share:.1f} % {_shown(column, value)}" for value, share in column.atoms]
    return "; ".join(part for part in parts if part)


def choices(columns: Sequence[TableColumn]) -> dict[str, Any]:
    """Return column → its kind, as `vaelab.specs.Column` reads it; with its levels where the rows do not tell them.

    That is where they have an order of their own, or some were declared that no row has.
    """
    found: dict[str, Any] = {}
    for column in columns:
        found[column.name] = "auto" if column.kind in ("", "constant") else column.kind
        levels = column.levels or ()
        plain = column.form in ("text", "number", "boolean")
        placed = column.kind == "ordered" and plain and list(levels) != sorted(levels)
        if placed or (column.unseen and column.form != "boolean"):
            found[column.name] = {"kind": column.kind, "levels": list(levels)}
    return found


def _of_levels(column: TableColumn) -> str:
    levels = column.levels or ()
    between = " < " if column.kind == "ordered" else ", "
    more = f"{between}…" if len(levels) > _MOST_LEVELS else ""
    few = between.join(_short(str(level)) for level in levels[:_MOST_LEVELS]) + more
    rare = f"; {len(column.rare):,} rare ones are the last" if column.rare else ""
    count = f"{len(levels):,} level{'s' if len(levels) != 1 else ''}"
    return f"{count}: {few}{rare}" if column.form != "boolean" else "booleans"


def _of_numbers(column: TableColumn) -> str:
    what = "dates" if column.dtype.startswith("datetime") else "durations" if column.time else ""
    if column.span is None:
        return what or ("whole numbers" if column.whole else "numbers")
    low, high = (_shown(column, value) for value in column.span)
    if column.kind == "constant":
        return f"always {low}"
    if not what:
        what = "whole numbers" if column.step >= 1 or column.whole else "numbers"
    step = f" in steps of {_step(column)}" if column.step and (column.step != 1 or column.time) else ""
    return f"{what} from {low} to {high}{step}"


def _step(column: TableColumn) -> str:
    if not column.time:
        return f"{column.step:g}"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    return next((f"{column.step / size:g} {unit}" for size, unit in units if column.step >= size), f"{column.step:g} s")


def _shown(column: TableColumn, value: float) -> str:
    from vaelab.data.column import as_objects

    if column.time or column.whole:
        return str(as_objects(column, np.array([value]))[0])
    return f"{value:.6g}"


def _short(text: str, most: int = _LONG) -> str:
    plain = " ".join(text.split())  # a line end, of whatever kind, would end a comment of the file
    return plain if len(plain) <= most else plain[: most - 1] + "…"
