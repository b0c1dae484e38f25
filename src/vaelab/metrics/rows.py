"""Rows on their way to an evaluator: which of them, in blocks, in the units that protocols expect, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from vaelab.data import MappedArray, Rows, Scaling, Split, TrainSplit
from vaelab.data.mapped import in_memory
from vaelab.data.partition import partition
from vaelab.metrics.evaluator import Blocks
from vaelab.metrics.protocols import Protocol
from vaelab.training import stream

S = TypeVar("S", bound=Split)

Watch = Callable[[str, int, int], None]
"""Told what is being done, how many rows of it are done, and of how many."""


def silent(text: str, done: int, total: int) -> None:
    """Look away."""


BLOCK = 1000
"""Rows that are in memory at once."""


def chosen_rows(x: Rows, n: int, chosen: Protocol, purpose: str) -> Rows:
    """Return n rows at random but the same each time, in their own order; all of them if there are no more."""
    return x if len(x) <= n else part(x, _chosen(len(x), n, chosen, purpose))


def chosen_of(split: S, n: int, chosen: Protocol, purpose: str) -> S:
    """Return n rows of a split, chosen as by `chosen_rows`, with their labels and conditions."""
    return split if len(split) <= n else split.subset(_chosen(len(split), n, chosen, purpose))


def _chosen(rows: int, n: int, chosen: Protocol, purpose: str) -> Tensor:
    return torch.randperm(rows, generator=stream("cpu", chosen.seed, "rows", purpose))[:n].sort().values


def quarter(train: TrainSplit) -> tuple[TrainSplit, TrainSplit]:
    """Divide training rows: three quarters to make features from, and one quarter that these have not seen.

    A classifier knows its own training rows, so a floor measured on those would be too high.
    """
    seen, unseen = partition(len(train), 0.25, 0)
    return train.subset(seen), train.subset(unseen)


def part(x: Rows, index: Tensor) -> Rows:
    """Return some rows."""
    return x.subset(index) if isinstance(x, MappedArray) else x[index]


def in_parts(x: Rows) -> Iterator[Tensor]:
    """Read rows a block at a time."""
    for start in range(0, len(x), BLOCK):
        yield in_memory(part(x, torch.arange(start, min(start + BLOCK, len(x)))))


def blocks_of(x: Rows, scaling: Scaling) -> Blocks:
    """Return images as uint8 or in [0, 1], and table rows in the network's units, float64."""
    return lambda: (in_units(rows, scaling) for rows in in_parts(x))


def in_units(rows: Tensor, scaling: Scaling) -> Tensor:
    """Bring rows in the user's units to what protocols expect."""
    if scaling.kind == "table":
        return scaling.to_net(rows, dtype=torch.float64)
    if rows.dtype == torch.uint8 and float(scaling.scale) == 255.0:
        return rows  # exact, where dividing and multiplying is not
    return scaling.to_net(rows).clamp(0, 1)


def watched(blocks: Blocks, watch: Watch, text: str, total: int) -> Blocks:
    """Report rows as they pass."""

    def reporting() -> Iterable[Tensor]:
        done = 0
        watch(text, 0, total)
        for block in blocks():
            yield block
            done += len(block)
            watch(text, done, total)

    return reporting
