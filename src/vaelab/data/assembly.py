"""From rows that were read to a `Dataset`: the official split where there is one, a random one elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.data.columns import Schema
from vaelab.data.dataset import Dataset, TestSplit, TrainSplit
from vaelab.data.mapped import MappedArray, Rows
from vaelab.data.options import LoadOptions
from vaelab.data.partition import partition


def assemble(
    x: Rows,
    options: LoadOptions,
    *,
    name: str,
    source: str,
    labels: Tensor | None = None,
    classes: tuple[str, ...] | None = None,
    columns: tuple[str, ...] | None = None,
    train_rows: int | None = None,
    schema: Schema | None = None,
) -> Dataset:
    """Split rows and name what they are.

    Parameters
    ----------
    x
        (n, d) or (n, C, H, W), checked.
    options
        Fraction and seed of the random split, or that there is none: all rows are then training rows.
    name, source, labels, classes, columns, schema
        As in `Dataset`; `labels` has n entries.
    train_rows
        The first so many rows are the training split, and the rest the test split; None splits at random.
    """
    if options.whole:
        first, second = torch.arange(len(x)), torch.arange(0)
    elif train_rows is None:
        first, second = partition(len(x), options.test_fraction, options.seed)
    else:
        first, second = torch.arange(train_rows), torch.arange(train_rows, len(x))
    return Dataset(
        name=name,
        kind="image" if len(x.shape) == 4 else "table",
        train=TrainSplit(_take(x, first), None if labels is None else labels[first]),
        test=TestSplit(_take(x, second), None if labels is None else labels[second]),
        columns=columns,
        classes=classes if labels is not None else None,
        source=source,
        schema=schema,
    )


def _take(x: Rows, index: Tensor) -> Rows:
    if isinstance(x, MappedArray):
        return x.subset(index)
    if not len(index):
        return x[:0]
    if len(index) == int(index[-1]) - int(index[0]) + 1:
        return x[int(index[0]) : int(index[-1]) + 1]  # neighbours need no copy
    return x[index]
