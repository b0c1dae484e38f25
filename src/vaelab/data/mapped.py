"""Arrays that stay on disk: a ``.npy`` file, read row by row with bounded memory.

Rows are read, not mapped. A mapping makes every page that was touched count as the process's own, and where the page
cache holds 2 MB folios, touching one row maps all of them, so that an epoch over a 4 GB file looks like 4 GB of memory.
What was read stays in the page cache, from where the next epoch takes it.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch
from torch import Tensor

from vaelab.errors import InputError

AT_ONCE = 8 * 2**20
"""Bytes that are read in one go, at most; one row at least."""


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
    """One read-only file, shared by all views of it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        file.seek(0)
        self.shape, self._source_dtype = _header(file, path)
        self._offset = file.tell()
        dtype = tensor_dtype(self._source_dtype)
        if dtype is None:
            raise InputError(f"{path} with dtype {self._source_dtype}", "real numbers", "Save X.astype(float).")
        self.dtype = dtype
        self.row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self._source_dtype.itemsize
        size = self.shape[0] * self.row_bytes
        if not size:
            raise InputError(f"{path} with shape {self.shape}", "at least one row and one column")
        found = os.fstat(file.fileno()).st_size - self._offset
        if found < size:
            raise _cut_off(path, f"{found:,}", f"{size:,}")
        # a bare descriptor, since reading at a position needs none of a file object, and processes can share it
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def gather(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Read rows; their numbers ascend."""
        taken = np.empty((len(rows), *self.shape[1:]), self._source_dtype)
        gaps = np.flatnonzero(np.diff(rows) != 1) + 1  # neighbours are read together
        starts, stops = [0, *gaps.tolist()], [*gaps.tolist(), len(rows)]
        positions = (self._offset + rows[starts] * self.row_bytes).tolist() if len(rows) else []
        sizes = [(stop - start) * self.row_bytes for start, stop in zip(starts, stops, strict=True)]
        if len(positions) > 1 and hasattr(os, "posix_fadvise"):
            for position, size in zip(positions, sizes, strict=True):  # lets the disk fetch all of them at once
                os.posix_fadvise(self._descriptor, position, size, os.POSIX_FADV_WILLNEED)
        view, done = taken.reshape(-1).view(np.uint8).data, 0
        for position, size in zip(positions, sizes, strict=False):
            self._read(view[done : done + size], position)
            done += size
        return taken.astype(self.dtype, copy=False)

    def _read(self, into: memoryview, position: int) -> None:
        """Fill a buffer from a place in the file; the system may hand over less than was asked for."""
        done = 0
        while done < len(into):
            count = _read_at(self._descriptor, into[done:], position + done)
            if not count:
                raise _cut_off(self.path, f"{position + done - self._offset:,}", "more")
            done += count


def _read_at(descriptor: int, into: memoryview, position: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [into], position)
    os.lseek(descriptor, position, os.SEEK_SET)  # Windows
    content = os.read(descriptor, len(into))
    into[: len(content)] = content
    return len(content)


def _cut_off(path: Path, found: str, wanted: str) -> InputError:
    return InputError(
        f"{path} with {found} bytes of data",
        f"the {wanted} bytes that its header announces",
        "The file was cut off: write or copy it again.",
    )


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
        with Path(path).open("rb") as file:
            self._file = _File(Path(path), file)
        self._selection: np.ndarray[Any, Any] | None = None

    @classmethod
    def of_file(cls, file: BinaryIO, folder: Path) -> MappedArray:
        """Return the rows of a file that has no name, in a folder; it is gone when nothing reads it any more."""
        array = object.__new__(cls)
        array._file, array._selection = _File(folder, file), None
        return array

    @property
    def path(self) -> Path:
        """The file behind it, or, of one that has no name, the folder it is in."""
        return self._file.path

    @property
    def shape(self) -> torch.Size:
        """(n, *event_shape)."""
        return torch.Size((len(self), *self._file.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that `rows` returns."""
        return torch.from_numpy(np.empty(0, self._file.dtype)).dtype

    def __len__(self) -> int:
        return self._file.shape[0] if self._selection is None else len(self._selection)

    def __repr__(self) -> str:
        return f"MappedArray({str(self.path)!r}, shape={tuple(self.shape)}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process by name: the file is opened again there."""
        if self.path.is_dir():
            got = f"rows in a file without a name, in {self.path}, for another process"
            raise InputError(got, "a file that it can open", "Keep them: vaelab.data.gather(X, path='rows.npy').")
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
        event = self._file.shape[1:]
        out = np.empty((len(wanted), *event), self._file.dtype)
        step = self._rows_within(AT_ONCE)
        for start in range(0, len(order), step):
            part = order[start : start + step]
            out[part] = self._file.gather(wanted[part])
        return torch.from_numpy(out)

    def blocks(self, size: int = AT_ONCE) -> Iterator[Tensor]:
        """Read everything once, front to back, in blocks of about `size` bytes."""
        step = self._rows_within(size)
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            yield self.rows(np.arange(start, stop))

    def _rows_within(self, size: int) -> int:
        return max(1, size // self._file.row_bytes)

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


def in_memory(x: Rows) -> Tensor:
    """Read rows that may be on disk."""
    return x if isinstance(x, Tensor) else x.rows(torch.arange(len(x)))


def blocks(x: Rows, size: int = AT_ONCE) -> Iterator[Tensor]:
    """Iterate over rows in blocks of about `size` bytes, in order."""
    if isinstance(x, MappedArray):
        yield from x.blocks(size)
        return
    row = max(1, x[:1].numel() * x.element_size())
    step = max(1, size // row)
    for start in range(0, len(x), step):
        yield x[start : start + step]


def content_hash(x: Rows) -> str:
    """Return the sha256 of all values of the rows, in their order; where they lie does not matter."""
    digest = hashlib.sha256()
    for block in blocks(x):
        digest.update(block.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
