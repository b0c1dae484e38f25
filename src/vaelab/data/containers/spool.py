"""Rows that arrive a block at a time: in memory while they are few, in a file from where they are too many."""

from __future__ import annotations

import errno
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaelab.arguments import check_memory
from vaelab.data.cache import cache_folder
from vaelab.data.containers.record import Opened
from vaelab.data.containers.samples import uneven
from vaelab.data.mapped import MappedArray, tensor_dtype
from vaelab.errors import InputError, VaelabError
from vaelab.storage import replace_file

IN_MEMORY = 2**28
"""Bytes of rows up to which they are gathered in memory, unless told otherwise."""


def spooled(
    opened: Opened, name: str, *, rows: int | None = None, memory_map: bool | None = None, path: Path | None = None
) -> tuple[np.ndarray[Any, Any] | MappedArray, np.ndarray[Any, Any] | None]:
    """Read the rows of a container once, and their labels.

    Parameters
    ----------
    opened
        The container.
    name
        How the caller calls it.
    rows
        Take the first so many.
    memory_map
        True puts them in a file, False in memory; None decides by `IN_MEMORY`.
    path
        That file, which is kept; otherwise it has no name, and is gone when nothing reads it any more.

    Raises
    ------
    InputError
        There are no rows, fewer than there should be, of several shapes or dtypes, or reading fails.
    VaelabError
        The disk is full or cannot be written.
    """
    labels: list[np.ndarray[Any, Any]] = []
    arrays = _checked(opened, name, rows, labels)
    count = opened.rows if rows is None or opened.rows is None else min(rows, opened.rows)
    first: list[np.ndarray[Any, Any]] = []
    size, most = 0, math.inf if memory_map is False else 0 if memory_map else IN_MEMORY
    x: np.ndarray[Any, Any] | MappedArray
    for array in arrays:
        first.append(array)
        size += array.nbytes
        expected = size if count is None else max(size, count * (array.nbytes // len(array)))
        if memory_map is False:
            check_memory(f"{name} in memory", expected, "Leave memory_map out.")
        if expected > most:
            x = _on_disk(chain(_emptied(first), arrays), expected, path)
            break
    else:
        x = np.concatenate(first)
    return x, _together(labels, len(x), name)


def _checked(
    opened: Opened, name: str, rows: int | None, labels: list[np.ndarray[Any, Any]]
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield blocks of rows, of one shape and dtype, and put the labels aside."""
    blocks = opened.blocks()
    event: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    wanted, done = opened.rows if rows is None else rows, 0
    while rows is None or done < rows:
        try:
            x, y = next(blocks)
        except StopIteration:
            break
        except VaelabError:
            raise
        except Exception as error:
            raise _failed(name, done, error) from error
        if not len(x):
            continue
        event, dtype = event or x.shape[1:], dtype or x.dtype
        if x.shape[1:] != event or x.dtype != dtype:
            raise uneven(name, x[0], done, event, dtype)
        if tensor_dtype(x.dtype) is None:
            raise InputError(f"{name} with rows of dtype {x.dtype}", "real numbers")
        y = None if y is None else np.asarray(y)
        if y is not None and y.shape[:1] != (len(x),):
            raise InputError(f"{name} with {y.size:,} label(s) for {len(x):,} rows", "one label per row")
        if opened.rows is not None and done + len(x) > opened.rows:
            raise InputError(f"{name} that goes on after {opened.rows:,} rows", "as many rows as its length says")
        take = len(x) if rows is None else min(len(x), rows - done)
        if y is not None:
            labels.append(y[:take])
        done += take
        yield x[:take]
    if not done:
        raise InputError(f"{name} without a row", "at least 2", "A generator that was read before is empty.")
    if wanted is not None and done < wanted:
        raise InputError(f"{name} that ends after {done:,} rows", f"the {wanted:,} that it should have")


def _failed(name: str, done: int, error: Exception) -> InputError:
    said = (str(error).strip().splitlines() or [""])[-1][:300]
    got = f"{name}, of which reading failed after {done:,} rows ({type(error).__name__}: {said})"
    # a worker that dies while it hands rows over leaves a broken connection
    if isinstance(error, ConnectionError | EOFError) or ("worker" in str(error) and "exited" in str(error)):
        return InputError(got, "workers that live", "Pass num_workers=0, which shows what they died of.")
    if "equal size" in str(error):
        return InputError(got, "rows of one shape", "Bring them to one size in the data set's own code.")
    return InputError(got, "rows that can all be read", "The error above it says where.")


def _emptied(parts: list[np.ndarray[Any, Any]]) -> Iterator[np.ndarray[Any, Any]]:
    while parts:
        yield parts.pop(0)


def _together(labels: Sequence[np.ndarray[Any, Any]], n: int, name: str) -> np.ndarray[Any, Any] | None:
    if not labels:
        return None
    try:
        y = np.concatenate(labels)
    except ValueError as error:
        raise InputError(f"{name} with labels of several shapes ({error})", "one label per row") from error
    if len(y) != n:
        raise InputError(f"{name} with {len(y):,} labels for {n:,} rows", "one label per row")
    return y


def _on_disk(arrays: Iterator[np.ndarray[Any, Any]], size: int, path: Path | None) -> MappedArray:
    if path is not None:

        def write(temporary: Path) -> None:
            _check_room(temporary.parent, size)
            with temporary.open("r+b") as file:
                write_npy(file, arrays)

        replace_file(path, write)
        return MappedArray(path)
    folder = cache_folder() / "gathered"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(folder, size)
        with tempfile.TemporaryFile(dir=folder) as file:  # without a name, so that none is left by a killed process
            write_npy(file, arrays)
            file.flush()
            return MappedArray.of_file(file, folder)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        remedy = "Name a file elsewhere: vaelab.data.gather(X, path=…)."
        raise VaelabError(f"Could not write rows into {folder}: {reason}. {remedy}") from error


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        got = f"rows of {size / 1e9:,.1f} GB for {folder}, where {free / 1e9:,.1f} GB are free"
        raise InputError(
            got, "what fits", "Take fewer: vaelab.data.gather(X, rows=…), or name a file elsewhere (path=…)."
        )


def write_npy(file: BinaryIO, arrays: Iterator[np.ndarray[Any, Any]]) -> None:
    """Write blocks of rows as one ``.npy`` file; how many there are is known, and written, last."""
    first = next(arrays)

    def header(n: int) -> None:
        file.seek(0)
        fields = {
            "shape": (n, *first.shape[1:]),
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(first.dtype),
        }
        np.lib.format.write_array_header_1_0(file, fields)  # leaves room for the digits of n

    header(0)
    n = 0
    for array in chain([first], arrays):
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        n += len(array)
    header(n)
    file.seek(0)
