"""Rows of which some columns are given: drawn from the whole law, and kept where they match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vaelab.data import Schema
from vaelab.errors import InputError

_MOST_ROWS = 2_000_000  # that are drawn, and
_MOST_TIMES = 2_000  # how many for each that is asked for
_BLOCK = 5_000


def draw_given(draw: Callable[[int, int], Tensor], n: int, matches: Callable[[Tensor], Tensor]) -> Tensor:
    """Return n rows that match, by rejection: draws from the law given that, exactly.

    Parameters
    ----------
    draw
        Of a number of rows, and which block of them it is, from 0.
    n
        How many.
    matches
        (m, d) rows → (m,) bool.

    Raises
    ------
    InputError
        Too few match.
    """
    kept: list[Tensor] = []
    drawn = found = 0
    most = min(_MOST_ROWS, max(_MOST_TIMES * n, 20 * _BLOCK))
    while found < n and drawn < most:
        rows = draw(_BLOCK, drawn // _BLOCK)
        kept.append(rows[matches(rows)])
        drawn, found = drawn + len(rows), found + len(kept[-1])
    if found < n:
        got = f"given values that {found:,} of {drawn:,} drawn rows match"
        raise InputError(
            got, f"some that {n:,} of these do", "Widen the ranges, name fewer columns, or draw fewer rows."
        )
    return torch.cat(kept)[:n]


def matcher(given: Mapping[Any, Any], schema: Schema, *, densities: bool) -> Callable[[Tensor], Tensor]:
    """Return what tells coded rows that match.

    Parameters
    ----------
    given
        Column, by name or place → a value, a pair (low, high) of numbers or of levels with an order, both included, or
        a list of values.
    schema
        Of the rows.
    densities
        Whether numbers have densities alone, so that none of them equals a value.

    Raises
    ------
    InputError
        An unknown column or level, a pair that is no range, or a single number where those have densities.
    """
    tests = [_test(place_of(name, schema), value, schema, densities=densities) for name, value in given.items()]

    def matches(rows: Tensor) -> Tensor:
        kept = torch.ones(len(rows), dtype=torch.bool)
        for test in tests:
            kept &= test(rows.cpu().double())
        return kept

    return matches


def place_of(name: Any, schema: Schema) -> int:
    """Return where a column is."""
    if str(name) in schema.names:
        return schema.names.index(str(name))
    if isinstance(name, int) and 0 <= name < len(schema.names):
        return name
    raise InputError(f"given column {name!r}", f"one of {', '.join(schema.names)}")


def _test(place: int, value: Any, schema: Schema, *, densities: bool) -> Callable[[Tensor], Tensor]:
    column = schema.columns[place]
    if (column.levels is None or column.kind == "ordered") and isinstance(value, tuple):
        if len(value) != 2:
            raise InputError(f"{column.name!r} given as {value!r}", "a pair (low, high), a list of values, or a value")
        low, high = (schema.coded_value(place, each) for each in value)
        if not low <= high:
            raise InputError(f"{column.name!r} given from {value[0]} to {value[1]}", "a range with low ≤ high")
        return lambda rows: (rows[:, place] >= low) & (rows[:, place] <= high)
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if column.levels is None and densities:
        raise InputError(
            f"{column.name!r} given as {value!r}, which no row equals",
            "a range (low, high)",
            "Or use likelihood='mixed'.",
        )
    codes = torch.tensor([schema.coded_value(place, each) for each in values], dtype=torch.float64)
    slack = 1e-6 * (1 + codes.abs())  # of float32
    return lambda rows: ((rows[:, place, None] - codes).abs() <= slack).any(1)
