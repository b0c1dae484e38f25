"""One batch of a loader: which part of it are the rows, and which their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vaelab.data.containers.record import Block, Wanted
from vaelab.data.containers.samples import as_array, divided, unlabelled
from vaelab.errors import InputError


def block_of(batch: Any, wanted: Wanted, *, collated: bool = True, samples: int | None = None) -> Block:
    """Return a batch as a block.

    Parameters
    ----------
    batch
        B rows, a list of them and their labels, or a dictionary of such.
    wanted
        What of it is read.
    collated
        Whether torch's own function put samples together, which makes d lists of B numbers of B lists of d.
    samples
        How many samples are in a full batch, if known.

    Raises
    ------
    InputError
        Nothing says which part are the rows.
    """
    if collated and isinstance(batch, Mapping):
        batch = {name: _stacked(part, wanted) for name, part in batch.items()}
    elif isinstance(batch, tuple | list):
        if collated:
            batch = _of_parts([_stacked(part, wanted) for part in batch], wanted)
        else:
            batch = _of_own_parts(batch, wanted, samples)
    x, y = divided(batch, wanted)
    return Block(as_array(x, wanted.name), np.asarray(y) if wanted.y else None)


def _stacked(part: Any, wanted: Wanted) -> Any:
    """Return lists of tensors, of length B each, as one array (B, d, …); anything else as it is."""
    if not isinstance(part, list | tuple):
        return part
    inner = [_stacked(each, wanted) for each in part]
    if not inner or not all(isinstance(each, Tensor | np.ndarray) and each.ndim for each in inner):
        return part
    arrays = [as_array(each, wanted.name) for each in inner]
    if len({array.shape for array in arrays}) > 1:
        got = f"{wanted.name} with samples that are lists of arrays of several shapes"
        raise InputError(got, "rows of one shape", "Have the data set return one array.")
    array = np.stack(arrays, axis=1)
    return array.astype(np.float64) if array.dtype.kind in "iu" else array  # as a list of whole numbers by itself


def _of_parts(parts: list[Any], wanted: Wanted) -> Any:
    """Return parts that torch's own function made; numbers of one type, of which samples are lists, as rows."""
    numbers = [part for part in parts if isinstance(part, Tensor | np.ndarray) and part.ndim == 1]
    if len(parts) > 1 and len(numbers) == len(parts):
        if len(parts) == 2 and wanted.y:
            return parts
        if len(parts) == 2 or len({part.dtype for part in numbers}) > 1:
            raise _unclear(parts, wanted)
        if wanted.y:
            raise unlabelled(wanted.name)
        return _stacked(parts, wanted)
    return parts


def _of_own_parts(parts: Sequence[Any], wanted: Wanted, samples: int | None) -> Sequence[Any]:
    """Return parts of a user's function, unless they are, or may be, the samples one by one."""
    shapes = [_shape(part) for part in parts]
    alike = len(shapes) > 1 and len(shapes[0]) > 0 and shapes[0] == shapes[1]
    uneven = len(shapes) > 1 and shapes[0][:1] != shapes[1][:1] and bool(shapes[0]) and bool(shapes[1])
    single = len(parts) == samples == 1 and len(shapes[0]) > 0 and shapes[0][0] != 1
    # rows (B, B): B lists of d numbers or d lists of B, and nothing tells which
    square = isinstance(parts[0], list | tuple) and shapes[0][:1] == shapes[0][1:2] != (1,) if parts else False
    if uneven or single or square or (alike and (len(parts) > 2 or len(parts) == samples)):
        raise _unclear(parts, wanted)
    return parts


def _shape(part: Any) -> tuple[int, ...]:
    if isinstance(part, list | tuple):
        return (len(part), *_shape(part[0])) if part else (0,)
    return tuple(np.shape(part))


def _unclear(parts: Sequence[Any], wanted: Wanted) -> InputError:
    shown = ", ".join(str(_shape(part)) for part in parts[:4]) + (", …" if len(parts) > 4 else "")
    return InputError(
        f"{wanted.name} with a batch of {len(parts)} parts of the shapes {shown}",
        "an array of rows, or a pair of rows and as many labels",
        "Have the data set return arrays, or collate_fn stack its samples: torch.stack(samples).",
    )
