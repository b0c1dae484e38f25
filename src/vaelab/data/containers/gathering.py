"""`gather`: the rows of any container, in memory or on disk, and their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaelab.arguments import check_count, check_kind
from vaelab.data.containers.kinds import KINDS, kind_of
from vaelab.data.containers.record import Block, Opened, Wanted, Whole
from vaelab.data.containers.samples import as_array
from vaelab.data.containers.spool import spooled
from vaelab.data.containers.stores import open_array, stored_values
from vaelab.errors import InputError

_AT_ONCE = 4096  # rows to a block


def gather(
    X: Any,
    *,
    rows: int | None = None,
    key: str | None = None,
    y: str | bool = False,
    memory_map: bool | None = None,
    path: str | Path | None = None,
) -> tuple[Any, Any]:
    """Read the rows of a container once: from a stream, a loader, a data set or a store to what `fit` takes.

    Up to 256 MB of rows are gathered in memory; more are written to a file as they come, so that memory stays bounded.

    Parameters
    ----------
    X
        A torch ``Dataset`` or ``DataLoader``, a Hugging Face data set, an array or group of HDF5 or Zarr, an AnnData,
        or a generator. Samples are rows, tuples whose first part is the row and whose second is its label, or
        dictionaries.
    rows
        Take the first so many; of what has no length, None reads to its end.
    key
        What in X holds the rows: an entry of its dictionaries, a column, a path in a store, ``"layers/counts"``.
    y
        What in X holds labels: the name of a column or entry, or True for those that come with the rows.
    memory_map
        True puts rows in a file, False in memory; None decides by their size.
    path
        A ``.npy`` file for the rows, which is kept, and replaced if it is there. Without it they are in the cache
        folder, in a file without a name that is gone when it is no longer read.

    Returns
    -------
    x
        (n, *event_shape) array or tensor, `vaelab.data.MappedArray`, or a data frame.
    y
        n labels, or None.

    Raises
    ------
    InputError
        X is no container or has no rows, they differ in shape or dtype, there are no labels, or reading fails.
    VaelabError
        The disk is full.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab.data import gather
    >>> x, y = gather(((np.full(3, i), i % 2) for i in range(10)), rows=6, y=True)
    >>> x.shape, y.tolist()
    ((6, 3), [0, 1, 0, 1, 0, 1])
    """
    if rows is not None:
        check_count("rows", rows)
    check_kind("y", y, (str, bool), "the name of what holds labels, True or False", "Pass arrays of them to fit.")
    kind = kind_of(X)
    if kind is None:
        shown = ", ".join(each.title for each in KINDS)
        raise InputError(f"X of type {type(X).__name__}", f"one of: {shown}", "Arrays and frames are rows as they are.")
    return _read(X, Wanted(key=key, y=y, rows=rows), memory_map, None if path is None else Path(path))


def opened_rows(X: Any, y: Any = None, *, name: str = "X", labelled: bool = False) -> tuple[Any, Any]:
    """Return the rows of a container and its labels; what is no container comes back as it is.

    Parameters
    ----------
    X
        Anything.
    y
        Labels, or the name of what holds them in a container.
    name
        How the caller calls X.
    labelled
        Whether labels are wanted, from a container if `y` is None.

    Raises
    ------
    InputError
        As `gather`; or the container may have no end.
    """
    kind, y = kind_of(X), stored_labels(y)
    if kind is None:
        return X, y
    if kind.endless(X):
        raise InputError(
            f"{name}, which is {kind.title} of unknown length",
            "rows that end",
            f"Say how many to take: x, y = vaelab.data.gather({name}, rows=100_000); without rows, to its end.",
        )
    named = isinstance(y, str)
    asked = y if named else labelled and y is None
    x, found = _read(X, Wanted(name=name, y=asked if labelled else y if named else False), None, None)
    return x, found if named or y is None else y


def _read(X: Any, wanted: Wanted, memory_map: bool | None, path: Path | None) -> tuple[Any, Any]:
    kind = kind_of(X)
    assert kind is not None  # of what is opened
    opened = kind.opens(X, wanted)
    in_file = memory_map if path is None else True
    if isinstance(opened, Whole):
        n = len(opened.x)
        if not n:
            raise InputError(f"{wanted.name} without a row", "at least 2")
        if wanted.rows is not None and n < wanted.rows:
            raise InputError(f"{wanted.name} that ends after {n:,} rows", f"the {wanted.rows:,} that it should have")
        if not in_file:
            return opened.x[: wanted.rows], None if opened.y is None else opened.y[: wanted.rows]
        opened = _in_blocks(opened, wanted)
    x, y = spooled(opened, wanted.name, rows=wanted.rows, memory_map=in_file, path=path)
    if kind.framework == "torch" and not hasattr(x, "blocks"):
        import torch

        return torch.from_numpy(x), y
    return x, y


def _in_blocks(whole: Whole, wanted: Wanted) -> Opened:
    """Return rows in memory as those that come one block after another, to be written to a file."""
    x, y = whole
    if hasattr(x, "columns"):
        remedy = "Leave path and memory_map out; X.to_parquet(…) keeps a table."
        raise InputError(f"{wanted.name}, a table, for a file of rows", "rows of one dtype", remedy)

    def blocks() -> Iterator[Block]:
        for start in range(0, len(x), _AT_ONCE):
            rows = as_array(x[start : start + _AT_ONCE], wanted.name)
            yield Block(rows, None if y is None else y[start : start + _AT_ONCE])

    return Opened(blocks, len(x))


def stored_labels(y: Any) -> Any:
    """Read labels that are an array of a store; other containers hold rows."""
    kind = kind_of(y)
    if kind is None:
        return y
    if kind.opens is not open_array:
        remedy = "Gather them first: y, _ = vaelab.data.gather(y)."
        raise InputError(f"y, which is {kind.title}", "an array of labels, or the name of what holds them", remedy)
    return stored_values(y, "y")
