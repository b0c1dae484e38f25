"""Arrays that stay on disk: a ``.npy`` file, read row by row with bounded memory.

The file is mapped read-only. The kernel counts every page that was touched as the process's own until it is told
otherwise, so an epoch over a 4 GB file would look like 4 GB of memory; `MappedArray` therefore gives the pages back
after a fixed amount was touched. They stay in the page cache, from where the next epoch takes them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch
from torch import Tensor

from vaelab.errors import InputError

RELEASE_AFTER = 128 * 2**20
"""Bytes that may be touched before the mapped pages are given back."""

_FAULT_AROUND = 64 * 2**10  # one page fault maps up to this much around it (Linux's default)


def tensor_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype in which an array is held: uint8 and floats as they are, bool as float32, integers as float64.

    None for what is not a real number.
    """
    if dtype == np.uint8:
        return np.dtype(np.uint8)
    if dtype.kind == "b":
        return np.dtype(np.float32)
    if dtype.kind in "iu":
        return np.dtype(np.float64)
    if dtype.kind == "f":
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    return None


class _File:
    """One read-only mapping, shared by all views of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            shape, self.source_dtype = _header(file, path)
            offset = file.tell()
            dtype = tensor_dtype(self.source_dtype)
            if dtype is None:
                raise InputError(f"{path} with dtype {self.source_dtype}", "real numbers", "Save X.astype(float).")
            self.dtype = dtype
            size = int(np.prod(shape, dtype=np.int64)) * self.source_dtype.itemsize
            found = path.stat().st_size - offset
            if found < size:
                raise InputError(
                    f"{path} with {found:,} bytes of data",
                    f"the {size:,} bytes that its header announces",
                    "The file was cut off: write or copy it again.",
                )
            if not size:
                raise InputError(f"{path} with shape {shape}", "at least one row and one column")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.array = np.frombuffer(
            self._map, self.source_dtype, count=size // self.source_dtype.itemsize, offset=offset
        )
        self.array = self.array.reshape(shape)
        self._offset, self._touched = offset, 0
        self._advise("MADV_RANDOM")  # no reading ahead of what `gather` announces

    def _advise(self, advice: str) -> None:
        if hasattr(mmap, advice):  # absent on Windows, which trims the working set by itself
            self._map.madvise(getattr(mmap, advice))

    def gather(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Copy rows out of the mapping; their numbers ascend."""
        self._announce(rows)
        taken: np.ndarray[Any, Any] = self.array[rows]
        self._touched += len(taken) * _FAULT_AROUND + taken.nbytes
        if self._touched > RELEASE_AFTER:
            self._advise("MADV_DONTNEED")
            self._touched = 0
        return taken.astype(self.dtype, copy=False)

    def _announce(self, rows: np.ndarray[Any, Any]) -> None:
        """Have the kernel read all rows at once; page faults would fetch 4 kB at a time, each waiting for the last."""
        if not len(rows) or not hasattr(mmap, "MADV_WILLNEED"):
            return
        row = self.array[:1].nbytes
        begin = (self._offset + rows * row) // mmap.PAGESIZE
        end = (self._offset + (rows + 1) * row - 1) // mmap.PAGESIZE + 1
        gaps = np.flatnonzero(begin[1:] > end[:-1]) + 1  # rows on neighbouring pages are announced together
        starts, stops = begin[np.r_[0, gaps]], end[np.r_[gaps - 1, len(rows) - 1]]
        for start, stop in zip((starts * mmap.PAGESIZE).tolist(), (stops * mmap.PAGESIZE).tolist(), strict=True):
            self._map.madvise(mmap.MADV_WILLNEED, start, min(stop, len(self._map)) - start)


def _header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read a .npy header without ever unpickling."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise InputError(f"{path}, which is no .npy file ({error})", "a file written by numpy.save") from error
    if dtype.hasobject:
        raise InputError(
            f"{path} with dtype {dtype}, which is pickled Python objects",
            "an array of numbers",
            "Save X.astype(float).",
        )
    if fortran and len(shape) > 1:
        raise InputError(
            f"{path} in Fortran order", "C order, rows one after the other", "Save numpy.ascontiguousarray(X)."
        )
    if not shape:
        raise InputError(f"{path} with a single number", "an array of rows")
    return shape, dtype


@final
class MappedArray:
    """Rows of a ``.npy`` file, left on disk.

    Parameters
    ----------
    path
        A file written by ``numpy.save``: C order, real numbers.

    Attributes
    ----------
    path
        The file.
    shape
        (n, *event_shape).
    dtype
        Of the tensors that `rows` returns: uint8 and floats as they are in the file, bool as float32, other integers
        as float64.

    Raises
    ------
    InputError
        Not a ``.npy`` file, cut off, Fortran order, pickled objects, or no numbers.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = _File(Path(path))
        self._selection: np.ndarray[Any, Any] | None = None

    @property
    def path(self) -> Path:
        """The file behind it."""
        return self._file.path

    @property
    def shape(self) -> torch.Size:
        """(n, *event_shape)."""
        return torch.Size((len(self), *self._file.array.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that `rows` returns."""
        return torch.from_numpy(np.empty(0, self._file.dtype)).dtype

    def __len__(self) -> int:
        return len(self._file.array) if self._selection is None else len(self._selection)

    def __repr__(self) -> str:
        return f"MappedArray({str(self.path)!r}, shape={tuple(self.shape)}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process by name: the file is mapped again there."""
        return _reopen, (self.path, self._selection)

    def __deepcopy__(self, memo: dict[int, Any]) -> MappedArray:
        """Share the file, which is read-only."""
        return self

    def subset(self, index: Tensor | np.ndarray[Any, Any]) -> MappedArray:
        """Return a view of some rows, in the order given; nothing is read."""
        view = object.__new__(MappedArray)
        view._file = self._file
        view._selection = self._absolute(np.asarray(index))
        return view

    def rows(self, index: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Read rows into a new tensor, in the order of `index`; a row may occur twice.

        Parameters
        ----------
        index
            (B,) integers in [0, n), on any device.

        Returns
        -------
        Tensor
            (B, *event_shape) on the CPU.
        """
        wanted = self._absolute(index.cpu().numpy() if isinstance(index, Tensor) else np.asarray(index))
        order = np.argsort(wanted, kind="stable")  # the file is read forwards, whatever the order asked for
        event = self._file.array.shape[1:]
        out = np.empty((len(wanted), *event), self._file.dtype)
        step = self._rows_within(RELEASE_AFTER // 4)
        for start in range(0, len(order), step):
            part = order[start : start + step]
            out[part] = self._file.gather(wanted[part])
        return torch.from_numpy(out)

    def blocks(self, size: int = 32 * 2**20) -> Iterator[Tensor]:
        """Read everything once, front to back, in blocks of about `size` bytes."""
        step = self._rows_within(size)
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            yield self.rows(np.arange(start, stop))

    def _rows_within(self, size: int) -> int:
        row = self._file.array[:1].nbytes
        return max(1, size // row)

    def _absolute(self, index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise IndexError(f"row {int(index.min())} … {int(index.max())} of an array of {len(self)} rows")
        return index if self._selection is None else self._selection[index]


def _reopen(path: Path, selection: np.ndarray[Any, Any] | None) -> MappedArray:
    array = MappedArray(path)
    array._selection = selection
    return array


Rows = Tensor | MappedArray
"""What holds the rows of a data set: in memory, or on disk."""


def blocks(x: Rows, size: int = 32 * 2**20) -> Iterator[Tensor]:
    """Iterate over rows in blocks of about `size` bytes, in order."""
    if isinstance(x, MappedArray):
        yield from x.blocks(size)
        return
    row = max(1, x[:1].numel() * x.element_size())
    step = max(1, size // row)
    for start in range(0, len(x), step):
        yield x[start : start + step]
