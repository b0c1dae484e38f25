"""Sequences of any length, and the window of points before each as its condition.

A sequence of points x_1 … x_t is scored point by point, p(x_l | x_<l). A row of the data is a pair of a sequence and an
l: x_l is the row, and the window of the points before it is its condition (Zheng et al. 2022, section 3.3). With the
last l of each sequence as rows the loss is the paper's, with every l it is summed over the sequence.

A window is (T, k + 1): the latest T of the earlier points, the latest last, and a channel that is 1 where there is a
point; where the sequence had not begun all channels are 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from vaelab.arguments import check_count, check_memory
from vaelab.data.checks import check_array, check_dense, plain_tensor
from vaelab.errors import InputError

LONGEST = 64
"""The longest window that is chosen without being asked for."""

_REMEDY = (
    "Fill them in, or drop those sequences; in an array (n, time, k), all features of a step after the end are NaN."
)


@final
@dataclass(frozen=True)
class Ragged:
    """Sequences of one number of features and any lengths, one after the other.

    Attributes
    ----------
    points
        (N, k) all points.
    offsets
        (n + 1,) int64: sequence i is ``points[offsets[i]:offsets[i + 1]]``.
    """

    points: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, x: object, *, name: str = "X") -> Self:
        """Read what a user has.

        Parameters
        ----------
        x
            (n, time, k) array whose sequences may end early in steps that are NaN in all k features; (n, time) array
            with k = 1; or a list of (t_i, k) or (t_i,) arrays, tensors, data frames or lists; or a `Ragged`, as it is.
        name
            How the caller calls it, for the messages.

        Returns
        -------
        Ragged
            In the units and dtype given, as `check_array` keeps them.

        Raises
        ------
        InputError
            Another rank, no numbers, NaN or infinities among the steps, numbers of features that differ, a sequence
            without a step, no sequence at all.
        """
        if isinstance(x, cls):
            return x
        check_dense(x, name)
        array = _rectangular(plain_tensor(x, name) if isinstance(x, Tensor) else x)
        if array is not None:
            return cls(*_from_array(array, name))
        if not isinstance(x, Sequence | np.ndarray) or isinstance(x, str):
            got = f"{name} of type {type(x).__name__}"
            raise InputError(got, "an array (n, time, features) or a list of arrays (time, features)")
        parts = _parts(x, name)
        lengths = torch.tensor([len(part) for part in parts])
        return cls(torch.cat(parts), _offsets(lengths))

    @property
    def lengths(self) -> Tensor:
        """(n,) steps of each sequence."""
        return self.offsets.diff()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Tensor:
        """(t_i, k), one sequence."""
        if not 0 <= i < len(self):
            raise IndexError(f"sequence {i} of {len(self)}")
        return self.points[int(self.offsets[i]) : int(self.offsets[i + 1])]


@final
class Windows:
    """The windows of many rows, made when they are asked for; stands where a tensor (n, T, k + 1) of conditions would.

    Built by `before` and `after`.

    Attributes
    ----------
    shape
        (n, T, k + 1).
    """

    def __init__(self, table: Tensor, starts: Tensor, ends: Tensor, context: int) -> None:
        self._table = table  # (1 + N, k + 1): an absent step, then every point with its 1
        self._starts, self._ends = starts, ends  # (n,) first point of the sequence, and the point after the window
        self._context = context

    @classmethod
    def before(cls, sequences: Ragged, rows: Tensor, context: int) -> Self:
        """Return the windows before the given points.

        Parameters
        ----------
        sequences
            In the network's units.
        rows
            (n,) int64 numbers of points.
        context
            T, steps in a window.
        """
        rows = rows.to(sequences.offsets)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(sequences.points):
            got = f"points {int(rows.min())} … {int(rows.max())}"
            raise InputError(got, f"numbers in [0, {len(sequences.points)})")
        owner = torch.searchsorted(sequences.offsets, rows, right=True) - 1
        return cls(_table(sequences.points), sequences.offsets[owner], rows, _checked_context(context))

    @classmethod
    def after(cls, sequences: Ragged, context: int) -> Self:
        """Return one window per sequence: its latest T points, the condition of the point that comes next."""
        starts, ends = sequences.offsets[:-1], sequences.offsets[1:]
        return cls(_table(sequences.points), starts, ends, _checked_context(context))

    @property
    def shape(self) -> torch.Size:
        """(n, T, k + 1)."""
        return torch.Size((len(self), self._context, self._table.shape[1]))

    @property
    def device(self) -> torch.device:
        """Where the points lie."""
        return self._table.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the windows."""
        return self._table.dtype

    def __len__(self) -> int:
        return len(self._ends)

    def to(self, device: torch.device | str) -> Self:
        """Move the points to a device."""
        moved = copy.copy(self)
        moved._table, moved._starts, moved._ends = (
            values.to(device) for values in (self._table, self._starts, self._ends)
        )
        return moved

    def subset(self, index: Tensor) -> Self:
        """Return the windows of some rows, in the order given; none is made yet, and the points are shared."""
        part = copy.copy(self)
        part._starts, part._ends = self._starts[index], self._ends[index]
        return part

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Make the windows (B, T, k + 1) of rows (B,); `dim` is 0, as for a tensor whose rows are taken."""
        if dim != 0:
            raise InputError(f"dim={dim}", "dim=0, the rows")
        back = torch.arange(-self._context, 0, device=self.device)
        steps = self._ends.index_select(0, index)[:, None] + back
        present = steps >= self._starts.index_select(0, index)[:, None]
        places = torch.where(present, steps + 1, 0)
        return self._table.index_select(0, places.flatten()).view(*places.shape, -1)


def is_sequence(x: object) -> bool:
    """Say whether this can only be read as sequences: a `Ragged`, an array of rank 3, or a list of arrays of rank 2.

    A matrix, or a list of vectors, could be a table as well and is not taken for sequences.
    """
    if isinstance(x, Ragged) or getattr(x, "ndim", 0) == 3:
        return True
    objects = isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1
    if not (objects or isinstance(x, list | tuple)) or not len(x):  # type: ignore[arg-type]
        return False
    return _rank(x[0]) == 2  # type: ignore[index]


def target_rows(sequences: Ragged, loss: Literal["last", "all"]) -> Tensor:
    """Return which points are rows of the data.

    Parameters
    ----------
    sequences
        n of them, each of at least one step.
    loss
        ``"last"``: the last point of each sequence, the paper's loss; ``"all"``: every point, whose objectives add up
        to that of the whole sequence.

    Returns
    -------
    Tensor
        (n,) or (N,) int64, in the order of the points.
    """
    if not isinstance(loss, str) or loss not in ("last", "all"):
        raise InputError(f"loss={loss!r}", "'last' or 'all'")
    if loss == "last":
        return sequences.offsets[1:] - 1
    return torch.arange(len(sequences.points), device=sequences.offsets.device)


def context_of(sequences: Ragged, context: int | None) -> int:
    """Return the steps in a window: as asked, or the longest past of any point, at most `LONGEST`."""
    if context is not None:
        size, width = _checked_context(context), sequences.points.shape[1] + 2
        check_memory(f"context={size:,}", 400.0 * width * size, "Pass fewer steps.")  # of a batch of 100 windows
        return size
    return max(1, min(LONGEST, int(sequences.lengths.max()) - 1))


def latest_windows(sequences: Ragged, context: int) -> Tensor:
    """Return (n, T, k + 1), the latest T points of each sequence: the conditions of their next points.

    Parameters
    ----------
    sequences
        In the network's units; one without a step gives an empty window, the condition of a first point.
    context
        T.
    """
    windows = Windows.after(sequences, context)
    return windows.index_select(0, torch.arange(len(windows), device=windows.device))


def advance(windows: Tensor, x: Tensor) -> Tensor:
    """Return the windows (n, T, k + 1) one step later: the points x (n, k) come in, the oldest steps go."""
    if windows.dim() != 3 or x.shape != (len(windows), windows.shape[2] - 1):
        got = f"windows of shape {tuple(windows.shape)} and points of shape {tuple(x.shape)}"
        raise InputError(got, "windows (n, T, k + 1) and points (n, k)")
    step = torch.cat([x.to(windows.dtype), windows.new_ones(len(x), 1)], dim=1)
    return torch.cat([windows[:, 1:], step[:, None]], dim=1)


def _table(points: Tensor) -> Tensor:
    """(1 + N, k + 1): row 0 is an absent step."""
    if points.dim() != 2 or not points.is_floating_point():
        got = f"points of shape {tuple(points.shape)} and dtype {points.dtype}"
        raise InputError(got, "floating-point points (N, k)", "Standardise them first.")
    table = points.new_zeros(len(points) + 1, points.shape[1] + 1)
    table[1:, :-1] = points
    table[1:, -1] = 1
    return table


def _checked_context(context: int) -> int:
    check_count("context", context)
    return int(context)


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _rank(x: object) -> int:
    rank = getattr(x, "ndim", None)
    if isinstance(rank, int):
        return rank
    if not isinstance(x, list | tuple):
        return 0
    return 1 + (_rank(x[0]) if x else 0)


def _rectangular(x: object) -> np.ndarray[Any, Any] | Tensor | None:
    """Return the array behind x, or None if x is a list."""
    if isinstance(x, Tensor):
        return x
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):  # a data frame: every row is a sequence
        return check_array(x, allow_nan=True, min_rows=1)
    return x if isinstance(x, np.ndarray) and x.dtype != object else None


def _from_array(x: np.ndarray[Any, Any] | Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return the points of (n, time, k) or (n, time), without the NaN after each end, and the offsets."""
    wanted = "an array (n, time, features), or (n, time) for one feature, with no axis of length 0"
    if x.ndim not in (2, 3) or 0 in x.shape:
        remedy = f"For one sequence use {name}[None]." if x.ndim == 2 else ""
        raise InputError(f"{name} with shape {tuple(x.shape)}", wanted, remedy)
    n, time = x.shape[:2]
    flat = x.reshape(n * time, -1)
    full = torch.arange(0, n * time + 1, time)
    infinite = _infinite(flat)
    if bool(infinite.any()):
        raise _not_finite(infinite, full, name)
    points = check_array(flat, name=name, allow_nan=True, min_rows=1)
    nan = points.isnan()
    if not bool(nan.any()):
        return points, full.to(points.device)
    gone = nan.all(1).view(n, time)
    lengths = time - gone.flip(1).int().cumprod(1).sum(1)  # steps missing up to the end
    if not bool(lengths.all()):
        raise _empty((lengths == 0).nonzero().flatten().tolist(), name)
    kept = (torch.arange(time, device=points.device) < lengths[:, None]).flatten()
    offsets = _offsets(lengths)
    if bool(nan[kept].any()):
        raise _not_finite(nan[kept], offsets, name)
    return points[kept], offsets


def _infinite(flat: np.ndarray[Any, Any] | Tensor) -> Tensor:
    if isinstance(flat, Tensor):
        return flat.isinf()
    return torch.from_numpy(np.isinf(flat)) if flat.dtype.kind == "f" else torch.zeros(0)


def _parts(x: Sequence[object] | np.ndarray[Any, Any], name: str) -> list[Tensor]:
    """Return each sequence of a list as (t_i, k)."""
    for i, item in enumerate(x):
        check_dense(item, f"{name}[{i}]")
        if isinstance(item, Tensor):
            plain_tensor(item, f"{name}[{i}]")
    if not len(x):
        raise InputError(f"{name} without a sequence", "at least one")
    if _rank(x[0]) == 0:
        remedy = f"For one sequence of one feature use [{name}]."
        raise InputError(f"{name} as a list of {type(x[0]).__name__}", "a list of arrays (time, features)", remedy)
    empty = [i for i, item in enumerate(x) if hasattr(item, "__len__") and not len(item)]
    if empty:
        raise _empty(empty, name)
    parts = [check_array(_matrix(item), name=f"{name}[{i}]", min_rows=1) for i, item in enumerate(x)]
    for i, part in enumerate(parts):
        if part.dim() != 2 or part.shape[1] != parts[0].shape[1]:
            got = f"{name}[{i}] with shape {tuple(part.shape)} after {name}[0] with shape {tuple(parts[0].shape)}"
            raise InputError(got, "sequences (time, features) of the same features")
    names = [tuple(item.columns) if hasattr(item, "columns") else None for item in x]
    other = next((i for i, own in enumerate(names) if own != names[0]), None)
    if other is not None and None not in (names[0], names[other]):
        got = f"{name}[{other}] with columns {names[other]} after {name}[0] with columns {names[0]}"
        raise InputError(got, "the same columns in the same order", "Reorder them: frame[names].")
    return parts


def _matrix(item: object) -> object:
    """(t, 1) of a vector; anything else as it is."""
    if _rank(item) != 1:
        return item
    return item[:, None] if isinstance(item, Tensor) else np.asarray(item)[:, None]


def _empty(which: list[int], name: str) -> InputError:
    shown = ", ".join(map(str, which[:10])) + (" …" if len(which) > 10 else "")
    return InputError(f"{name} with {len(which)} sequence(s) without a step: {shown}", "at least one step in each")


def _not_finite(bad: Tensor, offsets: Tensor, name: str) -> InputError:
    """Say how many entries of the points (N, k) are bad, in how many sequences, and where the first is."""
    points = bad.any(1).nonzero().flatten().to(offsets.device)
    owners = torch.searchsorted(offsets, points, right=True) - 1
    first, step = int(owners[0]), int(points[0] - offsets[owners[0]])
    got = (
        f"{name} with {int(bad.sum())} NaN or infinite value(s) in {len(owners.unique())} of {len(offsets) - 1} "
        f"sequences, first in sequence {first}, step {step}"
    )
    return InputError(got, "finite numbers", _REMEDY)
