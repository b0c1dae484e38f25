"""One column of a table as it is fitted: what it holds, and what is said of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from vaelab.data.cells import Cells
from vaelab.data.column import TableColumn, as_it_is, coded, holds_dates_as_text
from vaelab.data.schema_text import in_words
from vaelab.errors import VaelabWarning

if TYPE_CHECKING:
    from vaelab.data.columns import ColumnReader


def read_column(column: str, cells: Callable[[], Cells], name: str, reader: ColumnReader | None) -> TableColumn:
    """Return what a column of a table holds, and warn of what somebody may have meant otherwise.

    Parameters
    ----------
    column
        Its name.
    cells
        What reads them.
    name
        Of the table, for messages.
    reader
        What it is taken for; None for what it looks like.
    """
    where = f"column {column!r} of {name}"
    if reader is not None and reader.kind == "drop":  # whatever it holds
        return reader.read(column, cells, where)
    cell = cells()
    found = as_it_is(column, cell, where) if reader is None else reader.read(column, lambda: cell, where)
    observed = int((~cell.missing).sum())
    if reader is None and holds_dates_as_text(cell):
        said = f"Column {column!r} of {name} holds dates as text, of which no order is seen. Make dates of them: "
        warnings.warn(said + f"frame[{column!r}] = pandas.to_datetime(frame[{column!r}]).", VaelabWarning, stacklevel=5)
    elif reader is None and found.kind == "identifier":
        said = f"Column {column!r} of {name} names rows, with hardly any value twice in {observed}: it is left out of "
        said += f"the model, and {in_words(found)}. Say columns={{{column!r}: 'category'}} to keep it."
        warnings.warn(said, VaelabWarning, stacklevel=5)
    elif reader is None and 2 * sum(count for _, count in found.rare) > observed:
        said = (
            f"Column {column!r} of {name} has {len(found.rare)} levels that hardly occur, in most of {observed} rows: "
        )
        said += "they count as one, and samples draw them by their shares, whatever else a row holds. "
        said += f"Say columns={{{column!r}: 'drop'}} if they say nothing, or 'category' to keep them apart."
        warnings.warn(said, VaelabWarning, stacklevel=5)
    unseen: tuple[int, ...] = ()
    if found.levels is not None:
        met = set(coded(found, cell, where)[~cell.missing].tolist())
        unseen = tuple(place for place in range(len(found.levels)) if place not in met)
    return replace(found, gaps=float(cell.missing.mean()), unseen=unseen)
