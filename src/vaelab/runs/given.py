"""Rows of which some columns are given, or balanced: drawn from the whole law, and kept where they match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaelab.arguments import check_kind
from vaelab.data import Schema
from vaelab.errors import InputError
from vaelab.training import stream

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained

_MOST_ROWS = 2_000_000  # that are drawn, and
_MOST_TIMES = 2_000  # how many for each that is asked for
_BLOCK = 5_000
_MOST_VALUES = 20  # of a number that is taken for a class


def draw_wanted(
    trained: Trained,
    n: int,
    given: Mapping[Any, Any],
    balance: str | int | None,
    draw: Callable[[int, int], Tensor],
    *,
    seed: int = 0,
) -> Tensor:
    """Return n rows of a table, of which those are kept that are wanted.

    Parameters
    ----------
    trained
        The model.
    n
        How many.
    given, balance
        As for `vaelab.runs.drawing.Draws`.
    draw
        Of a number of rows, and which block of them it is, from 0.
    seed
        Of the order of balanced rows.

    Raises
    ------
    InputError
        Columns or levels that are none, or too few rows match.
    """
    marginals = trained.scaling.marginals
    schema = trained.schema or Schema.of_numbers(trained.facts.event_shape[0], trained.facts.columns)
    matches = matcher(given, schema, densities=marginals is None)
    if balance is None:
        return draw_given(draw, n, matches)
    place = place_of(balance, schema)
    codes = _codes(trained, schema, place)
    for name, value in given.items():  # of the same column: levels that are not given are none to balance
        if place_of(name, schema) == place:
            alone = torch.zeros(len(codes), len(schema.names), dtype=torch.float64)
            alone[:, place] = codes
            codes = codes[_test(place, value, schema, densities=marginals is None)(alone)]
    rows = draw_balanced(draw, n, matches, place, dict(zip(codes.tolist(), _names(schema, place, codes), strict=True)))
    return rows[torch.randperm(n, generator=stream("cpu", seed, "balance"))]


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
    rows, drawn = _kept(draw, [n], lambda own: torch.where(matches(own), 0, -1))
    if len(rows[0]) < n:
        got = f"given values that {len(rows[0]):,} of {drawn:,} drawn rows match"
        raise InputError(
            got, f"some that {n:,} of these do", "Widen the ranges, name fewer columns, or draw fewer rows."
        )
    return rows[0]


def draw_balanced(
    draw: Callable[[int, int], Tensor],
    n: int,
    matches: Callable[[Tensor], Tensor],
    place: int,
    levels: Mapping[float, object],
) -> Tensor:
    """Return n rows that match, as many of each level of a column as of any other, give or take one; level by level.

    Parameters
    ----------
    draw, n, matches
        As for `draw_given`.
    place
        Of the column.
    levels
        Number that stands for a level → how the user calls it.

    Raises
    ------
    InputError
        A level is too rare.
    """
    codes = torch.tensor(list(levels), dtype=torch.float64)
    shares = [n // len(codes) + (k < n % len(codes)) for k in range(len(codes))]

    def kinds(rows: Tensor) -> Tensor:
        away = (rows[:, place, None].cpu().double() - codes).abs()
        near = (away <= _slack(codes, rows.dtype)).any(1)
        return torch.where(matches(rows) & near, away.argmin(1), -1)

    rows, drawn = _kept(draw, shares, kinds)
    for name, own, share in zip(levels.values(), rows, shares, strict=True):
        if len(own) < share:
            got = f"level {name!r}, which {len(own):,} of {drawn:,} drawn rows have"
            raise InputError(got, f"one that {share:,} of these have", "Draw fewer rows, or those of the others alone.")
    return torch.cat(rows)


def _kept(
    draw: Callable[[int, int], Tensor], shares: list[int], kinds: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], int]:
    """Draw until there are so many rows of every kind, or too many were drawn; and say how many were."""
    kept: list[list[Tensor]] = [[] for _ in shares]
    found, drawn, total = [0] * len(shares), 0, sum(shares)
    most = min(_MOST_ROWS, max(_MOST_TIMES * total, 20 * _BLOCK))
    while not drawn or (drawn < most and any(own < share for own, share in zip(found, shares, strict=True))):
        rows = draw(_BLOCK, drawn // _BLOCK)
        own = kinds(rows).to(rows.device)
        for k, share in enumerate(shares):
            if found[k] < share:
                kept[k].append(rows[own == k])
                found[k] += len(kept[k][-1])
        drawn += len(rows)
    # none of a level is wanted where there are fewer rows than levels
    together = [torch.cat(parts or [rows[:0]])[:share] for parts, share in zip(kept, shares, strict=True)]
    return together, drawn


def _codes(trained: Trained, schema: Schema, place: int) -> Tensor:
    """(k,) what stands for the levels that rows of fit had: of a category, or the few values that a number has."""
    column, marginals = schema.columns[place], trained.scaling.marginals
    if column.levels is not None:
        met = [level for level in range(len(column.levels)) if level not in column.unseen]
        return torch.tensor(met, dtype=torch.float64)
    own = None if marginals is None else marginals.columns[place]
    if own is None or len(own.values) > _MOST_VALUES or not bool((own.low < own.high).all()):
        got = f"column {column.name!r} balanced, which holds numbers"
        raise InputError(got, "a category, or a number of at most 20 values", "Make it a category.")
    return own.values


def _names(schema: Schema, place: int, codes: Tensor) -> list[object]:
    levels = schema.columns[place].levels
    return [levels[int(code)] for code in codes] if levels is not None else codes.tolist()


def _slack(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """How far a number of this precision may be from a value that it equals."""
    return 8 * torch.finfo(dtype).eps * (1 + codes.abs())


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
    check_kind("given", given, Mapping, "a mapping of columns to values or ranges", "Such as given={0: (0, 1)}.")
    tests = [_test(place_of(name, schema), value, schema, densities=densities) for name, value in given.items()]

    def matches(rows: Tensor) -> Tensor:
        kept = torch.ones(len(rows), dtype=torch.bool)
        for test in tests:
            kept &= test(rows.cpu())
        return kept

    return matches


def place_of(name: Any, schema: Schema) -> int:
    """Return where a column is."""
    if str(name) in schema.names:
        return schema.names.index(str(name))
    if isinstance(name, int) and 0 <= name < len(schema.names):
        return name
    raise InputError(f"column {name!r}", f"one of {', '.join(schema.names)}")


def _test(place: int, value: Any, schema: Schema, *, densities: bool) -> Callable[[Tensor], Tensor]:
    column = schema.columns[place]
    if (column.levels is None or column.kind == "ordered") and isinstance(value, tuple):
        if len(value) != 2:
            raise InputError(f"{column.name!r} given as {value!r}", "a pair (low, high), a list of values, or a value")
        low, high = (schema.coded_value(place, each) for each in value)
        if not low <= high:
            raise InputError(f"{column.name!r} given from {value[0]} to {value[1]}", "a range with low ≤ high")
        return lambda rows: (rows[:, place].double() >= low) & (rows[:, place].double() <= high)
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if column.levels is None and densities:
        mixed = column.kind == "standardised"  # of other tables nothing is said
        remedy = f"Or train with columns={{{column.name!r}: 'scores'}}." if mixed else "Or use likelihood='mixed'."
        raise InputError(f"{column.name!r} given as {value!r}, which no row equals", "a range (low, high)", remedy)
    codes = torch.tensor([schema.coded_value(place, each) for each in values], dtype=torch.float64)
    return lambda rows: ((rows[:, place, None].double() - codes).abs() <= _slack(codes, rows.dtype)).any(1)
