"""Class labels from whatever a source calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.errors import InputError


def count_classes(values: Sequence[Any] | np.ndarray[Any, Any], *, source: str) -> tuple[Tensor, tuple[str, ...]]:
    """Turn class values of any one type into numbers 0 … K−1 in sorted order, and their names.

    Raises
    ------
    InputError
        Some are missing, or they cannot be sorted.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"labels of shape {array.shape} in {source}", "one label per row (n,)")
    if array.dtype.kind == "O":
        missing = sum(map(_is_missing, array))
    else:
        missing = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
    if missing:
        raise InputError(f"{missing} missing label(s) in {source}", "a class in every row", "Drop those rows.")
    if array.dtype.kind == "f" and bool((array == np.round(array)).all()):
        array = array.astype(np.int64)  # 3.0 is the class 3
    try:
        names, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise InputError(f"labels of several types in {source}", "one type, text or numbers") from error
    return torch.from_numpy(codes.astype(np.int64)), tuple(str(name) for name in names)


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)  # only NaN differs from itself
    except TypeError:  # pandas.NA is neither
        return True
