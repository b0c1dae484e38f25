"""A data set: two splits that cannot be taken for one another, and what is known about their columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from vaelab.data.columns import Schema
from vaelab.data.conditions import Conditioning
from vaelab.data.mapped import AT_ONCE, MappedArray, Rows
from vaelab.data.scaling import Kind
from vaelab.data.sequences import Windows
from vaelab.errors import InputError

_HASHED = 16 * 2**20  # bytes of each split that enter the fingerprint


@dataclass(frozen=True, eq=False)
class Split:
    """Rows in the user's units; use `TrainSplit` or `TestSplit`.

    Attributes
    ----------
    x
        (n, d) or (n, C, H, W), uint8 or floating, in memory or on disk.
    labels
        (n,) int64, or None.
    c
        (n, *shape) conditions in the network's units, or None.
    groups
        (n,) int64, or None: rows of one group, such as the points of one sequence, are held out together or not at all.
    """

    x: Rows
    labels: Tensor | None = None
    c: Tensor | Windows | None = None
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        if self.c is not None and len(self.c) != len(self.x):
            raise InputError(f"{len(self.c)} conditions for {len(self.x)} rows", "one condition per row")
        if self.labels is not None and len(self.labels) != len(self.x):
            raise InputError(f"{len(self.labels)} labels for {len(self.x)} rows", "one label per row")

    def __len__(self) -> int:
        return len(self.x)

    def subset(self, index: Tensor) -> Self:
        """Return some rows with their labels and conditions, in the order given."""
        x = self.x.subset(index) if isinstance(self.x, MappedArray) else self.x[index]
        labels = None if self.labels is None else self.labels[index]
        c = None if self.c is None else self.c.index_select(0, index)
        return type(self)(x, labels, c, None if self.groups is None else self.groups[index])

    def parts(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Read the rows and their conditions, or None, a few megabytes of rows at a time, in order."""
        row = max(1, torch.Size(self.x.shape[1:]).numel() * self.x.dtype.itemsize)
        step = max(1, AT_ONCE // row)
        for start in range(0, len(self), step):
            index = torch.arange(start, min(start + step, len(self)))
            x = self.x.rows(index) if isinstance(self.x, MappedArray) else self.x[index]
            yield x, None if self.c is None else self.c.index_select(0, index)


@final
@dataclass(frozen=True, eq=False)
class TrainSplit(Split):
    """What may be learned from."""


@final
@dataclass(frozen=True, eq=False)
class TestSplit(Split):
    """What may only be measured on."""

    __test__ = False  # the name is not a test of pytest's


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """What `vaelab.data.load` returns.

    Attributes
    ----------
    name
        Short name, for run folders.
    kind
        ``"image"`` or ``"table"``.
    train, test
        The two splits.
    columns
        Names of a table's columns, if known.
    classes
        Names of the classes that the labels count, if there are labels.
    source
        Where it came from, for people.
    conditioning
        How the splits' conditions were made, if they have any.
    schema
        What the columns of a table with categories or missing entries hold, for ``likelihood="mixed"``; else None.
    """

    name: str
    kind: Kind
    train: TrainSplit
    test: TestSplit
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    source: str = ""
    conditioning: Conditioning | None = None
    schema: Schema | None = None

    def __post_init__(self) -> None:
        if self.train.x.shape[1:] != self.test.x.shape[1:]:
            raise InputError(
                f"training rows of shape {tuple(self.train.x.shape[1:])} and test rows of shape "
                f"{tuple(self.test.x.shape[1:])}",
                "one shape for both",
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.train.x.shape[1:])

    def conditioned(self, conditioning: Conditioning | None = None) -> Self:
        """Return the data with conditions: those it has, or else its labels, one-hot.

        Parameters
        ----------
        conditioning
            The classes of a trained model, in its order; those of the data if None.

        Raises
        ------
        InputError
            There are neither conditions nor labels, there is a class that the model does not know, or the conditions
            are in other units.
        """
        if self.conditioning is not None:
            if conditioning not in (None, self.conditioning):
                remedy = "Bring rows and conditions to the model's units: model.as_dataset(X, y)."
                raise InputError(f"{self.name} with conditions in units of its own", "those of the model", remedy)
            return self
        if self.classes is None or self.train.labels is None:
            raise InputError(
                f"{self.name} without labels, for a conditional model",
                "a class for every row",
                "Name the column that holds it as label_column (--label-column).",
            )
        own = conditioning or Conditioning.of_classes(self.classes)
        names = np.array(self.classes)

        def made(split: Split) -> Tensor | None:
            return None if split.labels is None else own.to_net(names[split.labels.cpu().numpy()], name="labels")

        train, test = replace(self.train, c=made(self.train)), replace(self.test, c=made(self.test))
        return replace(self, train=train, test=test, conditioning=own)

    def unconditioned(self) -> Self:
        """Return the data without conditions."""
        train, test = replace(self.train, c=None), replace(self.test, c=None)
        return replace(self, train=train, test=test, conditioning=None)

    def fingerprint(self) -> str:
        """Return a sha256 over shapes, dtypes and a bounded sample of the content.

        A split of up to 16 MB enters whole; of a larger one, rows at even distances, the first and the last among
        them. Names and paths do not enter.
        """
        digest = hashlib.sha256()
        if self.schema is not None:
            digest.update(repr(self.schema).encode())
        for split in (self.train, self.test):
            digest.update(f"{tuple(split.x.shape)} {split.x.dtype} ".encode())
            digest.update(_sample(split.x))
            labels = split.labels
            digest.update(b"-" if labels is None else _sample(labels))
            if split.c is not None:
                digest.update(_sample(split.c))
        return digest.hexdigest()


def _sample(x: Rows | Windows) -> bytes:
    row = max(1, torch.Size(x.shape[1:]).numel() * x.dtype.itemsize)
    count = min(len(x), max(2, _HASHED // row))
    index = torch.from_numpy(np.linspace(0, len(x) - 1, count).round().astype(np.int64))
    rows = x.rows(index) if isinstance(x, MappedArray) else x.index_select(0, index.to(x.device)).cpu()
    return rows.contiguous().numpy().tobytes()
