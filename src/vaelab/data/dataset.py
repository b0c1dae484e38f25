"""A data set: two splits that cannot be taken for one another, and what is known about their columns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from vaelab.data.mapped import MappedArray, Rows
from vaelab.data.scaling import Kind
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
    """

    x: Rows
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.x):
            raise InputError(f"{len(self.labels)} labels for {len(self.x)} rows", "one label per row")

    def __len__(self) -> int:
        return len(self.x)


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
    """

    name: str
    kind: Kind
    train: TrainSplit
    test: TestSplit
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    source: str = ""

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

    def fingerprint(self) -> str:
        """Return a sha256 over shapes, dtypes and a bounded sample of the content.

        A split of up to 16 MB enters whole; of a larger one, rows at even distances, the first and the last among
        them. Names and paths do not enter.
        """
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(f"{tuple(split.x.shape)} {split.x.dtype} ".encode())
            digest.update(_sample(split.x))
            labels = split.labels
            digest.update(b"-" if labels is None else _sample(labels))
        return digest.hexdigest()


def _sample(x: Rows) -> bytes:
    row = max(1, x.shape[1:].numel() * x.dtype.itemsize)
    count = min(len(x), max(2, _HASHED // row))
    index = torch.from_numpy(np.linspace(0, len(x) - 1, count).round().astype(np.int64))
    rows = x.rows(index) if isinstance(x, MappedArray) else x[index.to(x.device)].cpu()
    return rows.contiguous().numpy().tobytes()
