"""Rows with gaps as they come: which entries are missing, and how they are hidden from checks and filled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.data import MappedArray, Schema
from vaelab.data.checks import check_dense, is_frame, plain_rows
from vaelab.data.mapped import in_memory
from vaelab.errors import InputError


def without(X: Any, columns: tuple[str, ...], schema: Schema) -> Any:
    """Return rows with gaps in some columns."""
    given = [column.name for column in schema.given]
    if is_frame(X):
        label = {str(column): column for column in X.columns}
        order = [name for name in given if name in label or name in columns]
        order += [name for name in label if name not in given]  # which are refused by their names later
        out = X.reindex(columns=[label.get(name, name) for name in order])
        for name in columns:
            out[label.get(name, name)] = np.nan
        return out
    places = [(given if X.shape[1:] == (len(given),) else schema.names).index(name) for name in columns]
    if X.ndim != 2 or X.shape[1] <= max(places) or not _of_numbers(X):  # refused later
        return X
    if isinstance(X, Tensor):
        rows: Any = X.clone() if X.is_floating_point() else X.double()
    else:
        rows = X.astype(object if any(schema.levels) or X.dtype.kind in "OU" else np.float64)
    rows[:, places] = np.nan
    return rows


def _of_numbers(x: Any) -> bool:
    """Whether an array holds real numbers or objects, or a tensor real numbers."""
    return not x.is_complex() if isinstance(x, Tensor) else x.dtype.kind in "biufOU"


def as_rows(X: Any) -> Any:
    """Return a tensor, an array or a frame of pandas."""
    check_dense(X)
    plain = plain_rows(X)
    plain = in_memory(plain) if isinstance(plain, MappedArray) else plain
    if isinstance(plain, Tensor | np.ndarray) or is_frame(plain):
        return plain
    try:
        return np.array(plain, dtype=object)
    except ValueError as error:
        raise InputError(f"X that is no regular array ({error})", "rows of one length") from error


def gaps_of(x: Any) -> np.ndarray[Any, Any]:
    """Say which entries of rows are missing, in their shape."""
    if isinstance(x, Tensor):
        return x.isnan().cpu().numpy() if x.is_floating_point() else np.zeros(tuple(x.shape), dtype=bool)
    if is_frame(x):
        return np.array(x.isna().to_numpy())
    if x.dtype.kind == "O":
        import pandas

        return np.asarray(pandas.isna(x))
    return np.asarray(np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, dtype=bool))


def blanked(x: Any, gaps: np.ndarray[Any, Any]) -> Any:
    """Return rows with a number where there are gaps, which is not looked at."""
    if not gaps.any():
        return x
    if is_frame(x):
        return _numbered(x, gaps)
    there = x[torch.from_numpy(~gaps)] if isinstance(x, Tensor) else x[~gaps]
    value = there.min() if x.ndim == 4 and len(there) else 0.0  # of pixels, one in their range
    if isinstance(x, Tensor):
        return x.masked_fill(torch.from_numpy(gaps).to(x.device), float(value))
    return np.where(gaps, value, x).astype(x.dtype)


def _numbered(x: Any, gaps: np.ndarray[Any, Any]) -> Any:
    """Return a frame with 0 where there are gaps; columns of objects are read as numbers where they are some."""
    out = x.copy()
    for place in np.flatnonzero(gaps.any(axis=0)).tolist():
        series, gone = x.iloc[:, place], gaps[:, place]
        if getattr(series.dtype, "kind", "O") not in "biuf" and series.dtype != object:
            continue  # refused as what it is
        try:
            numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            continue
        out.isetitem(place, np.where(gone, 0.0, numbers))
    return out


def as_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return a mask of the shape of the images.

    Raises
    ------
    InputError
        It is not one of booleans, or of another shape.
    """
    if mask is None:
        return np.zeros(shape, dtype=bool)
    values = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if values.ndim == 3 and len(shape) == 4:  # one for all channels
        values = values[:, None]
    fits = values.ndim == len(shape) and all(own in (1, size) for own, size in zip(values.shape, shape, strict=True))
    if values.dtype != bool or not fits:
        got = f"a mask of {values.dtype} with shape {values.shape}"
        raise InputError(got, f"booleans of shape {shape}, true where a pixel is missing")
    return np.broadcast_to(values, shape)


def painted(x: Any, gaps: np.ndarray[Any, Any], rows: Tensor) -> Any:
    """Return images with new pixels in their gaps, in their own dtype."""
    if isinstance(x, Tensor):
        new = rows if x.is_floating_point() else rows.clamp(0, 255).round()
        return torch.where(torch.from_numpy(gaps).to(x.device), new.to(x), x)
    values = rows.cpu().numpy()
    return np.where(gaps, values if x.dtype.kind == "f" else values.clip(0, 255).round(), x).astype(x.dtype)
