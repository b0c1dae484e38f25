"""Ranges of standardised numbers: what is drawn of counts, or of what is never negative, stays where rows were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from vaelab.data.column import TableColumn
    from vaelab.data.columns import Schema


def with_ranges(schema: Schema, rows: Tensor) -> Schema:
    """Return a schema with the range of its standardised columns that are whole or nowhere below 0.

    Parameters
    ----------
    schema
        As training has made it; normal scores know their range.
    rows
        (n, d) coded rows of the training, NaN where an entry is missing.
    """
    columns = (
        _with_range(column, own[~own.isnan()]) if column.kind == "standardised" else column
        for column, own in zip(schema.columns, rows.T, strict=True)
    )
    return replace(schema, columns=tuple(columns))


def within(columns: Sequence[TableColumn], rows: Tensor) -> Tensor:
    """Bring (…, d) coded rows, or some of their statistics, into the ranges of their standardised columns."""
    out = rows.clone()
    for place, column in enumerate(columns):
        if column.kind == "standardised" and column.span is not None:
            out[..., place].clamp_(*column.span)
    return out


def _with_range(column: TableColumn, values: Tensor) -> TableColumn:
    low, high = float(values.min()), float(values.max())
    return replace(column, span=(low, high)) if column.whole or low >= 0 else column
