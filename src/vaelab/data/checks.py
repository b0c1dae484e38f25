"""The one place that decides whether an array can be trained on, before any work starts."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.data.containers import opened_rows
from vaelab.data.frames import is_polars, to_pandas
from vaelab.data.mapped import MappedArray, Rows, blocks, tensor_dtype
from vaelab.errors import InputError, VaelabWarning

_CHANNELS = (1, 3, 4)
_LARGEST = 1e150  # number whose square is one
_FEW, _MOST_OF = 0.005, 0.8  # share of the rows, and share of a column's variance that so few should not hold
_SENTINELS = (-9999.0, -999.0, 9999.0, -99999.0, 99999.0, -999999.0, 999999.0, -32768.0, 1e20, -1e20, 1e30, -1e30)
_MOST_BYTES = 16_000_000  # of rows that are looked at for wild entries

MIXED = "likelihood='mixed'"
REMEDY = "Fill them in or drop those rows."
GAPS_REMEDY = f"Fill them in, drop those rows, or use {MIXED}, which takes missing entries of a table."
"""What to do about rows of data that are not finite; other arrays have no place for missing entries."""


def check_array(
    x: object, *, name: str = "X", allow_nan: bool = False, min_rows: int = 2, remedy: str = REMEDY
) -> Tensor:
    """Turn what the caller has into a tensor of rows, or say what is wrong with it.

    Parameters
    ----------
    x
        numpy array, torch tensor, pandas DataFrame, or nested list: (n, d) for a table, (n, C, H, W) for images.
    name
        How the caller calls it, for the messages.
    allow_nan
        Let NaN pass; infinities never do.
    min_rows
        Fewest rows that make sense.
    remedy
        Of values that are not finite.

    Returns
    -------
    Tensor
        (n, d) or (n, C, H, W), detached, on the device it was on. uint8 and float16/32/64 keep their dtype; bool
        becomes float32, bfloat16 float32, other integers float64. Memory is shared with `x` where that is possible.

    Raises
    ------
    InputError
        Wrong rank, dtype, channel order, too few rows, or values that are not finite.
    """
    columns: Sequence[str] | None = None
    x = plain_rows(x, name)
    if isinstance(x, Tensor):
        tensor = _from_torch(x, name)
    else:
        array, columns = _to_numpy(x, name)
        tensor = _from_numpy(array, name)
    check_shape(tuple(tensor.shape), name=name, min_rows=min_rows)
    check_finite(tensor, name=name, allow_nan=allow_nan, columns=columns, remedy=remedy)
    return tensor


def plain_rows(x: Any, name: str = "X") -> Any:
    """Return what the caller has as an array, tensor or frame: masked entries as NaN, columns of a frame named by text.

    Containers are read; rows of theirs that are too many for memory are a `MappedArray`.

    Raises
    ------
    InputError
        It is something else that holds rows, with the call that makes an array of it; or two columns have one name.
    """
    x, _ = opened_rows(x, name=name)
    if isinstance(x, Tensor):
        return plain_tensor(x, name)
    if isinstance(x, np.ma.MaskedArray):
        if not np.ma.is_masked(x):
            return np.asarray(x.data)
        if x.dtype.kind in "biuf":
            dtype = np.float32 if x.dtype.itemsize < 4 else np.result_type(x.dtype, np.float32)
            return np.ma.filled(x.astype(dtype), np.nan)
        return np.ma.filled(x.astype(object), None)
    if is_polars(x):
        x = to_pandas(x, name)
    if is_frame(x):
        names = list(x.columns)
        twice = [str(column) for column, count in Counter(map(str, names)).items() if count > 1]
        if twice:
            raise InputError(f"{name} with several columns named {twice[0]!r}", "one column of each name")
        kinds = {isinstance(column, str) for column in names}
        return x.set_axis([str(column) for column in names], axis=1) if len(kinds) == 2 else x
    got, remedy = _holder(x, name)
    if got:
        raise InputError(f"{name}, which is {got}", "an array, a tensor or a data frame", remedy)
    return x


def plain_tensor(x: Tensor, name: str = "X") -> Tensor:
    """Return a tensor as it is; bfloat16, which numpy does not know, as float32.

    Raises
    ------
    InputError
        Its numbers cannot be read: it is sparse, nested, quantized or on the meta device.
    """
    if x.is_meta:
        raise InputError(f"{name} on the meta device, which holds no numbers", "a tensor with numbers")
    if x.is_quantized:
        raise InputError(f"{name} as a quantized tensor", "plain numbers", f"Use {name}.dequantize().")
    if x.is_nested:
        raise InputError(f"{name} as a nested tensor", "rows of one length", f"Use {name}.to_padded_tensor(…).")
    if x.layout != torch.strided:
        raise InputError(f"{name} as a sparse tensor", "a dense one", f"Use {name}.to_dense().")
    return x.float() if x.dtype == torch.bfloat16 else x


def _holder(x: Any, name: str) -> tuple[str, str]:
    """Say what holds the rows, and how to get at them; empty for arrays and what becomes one."""
    module = type(x).__module__.split(".")[0]
    if module == "scipy":  # refused elsewhere, and some are mappings
        return "", ""
    if x is None:
        return "None", "Pass the rows."
    if isinstance(x, str | os.PathLike):
        return f"a path, {str(x)!r}", f"Read it: vaelab.data.load({str(x)!r}).train.x."
    if isinstance(x, Mapping):
        return "a dictionary", f"Use pandas.DataFrame({name})."
    if type(x).__name__ == "LazyFrame":
        return "a LazyFrame", f"Use {name}.collect()."
    if isinstance(x, list | tuple) and len(x) and isinstance(x[0], Mapping):
        return "a list of dictionaries", f"Use pandas.DataFrame({name})."
    if isinstance(x, np.ndarray) and x.dtype.names:
        return "a structured array", f"Use pandas.DataFrame({name})."
    if isinstance(x, Set) or callable(x) or (np.isscalar(x) and not isinstance(x, np.generic)):
        return f"a {type(x).__name__}", "Pass the rows."
    return "", ""


def is_frame(x: object) -> bool:
    """Whether x is a pandas DataFrame; pandas is not imported to find out."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(x, pandas.DataFrame)


def check_shape(shape: tuple[int, ...], *, name: str = "X", min_rows: int = 2) -> None:
    """Refuse shapes that are neither a table nor images with channels first."""
    wanted = "a table (n, d) or images (n, C, H, W)"
    if len(shape) == 3:
        raise InputError(
            f"{name} with shape {shape}",
            wanted,
            f"If these are grey images, add the channel: {name}[:, None]; "
            f"if not, flatten each row: {name}.reshape({shape[0]}, -1).",
        )
    if len(shape) not in (2, 4):
        remedy = f"Reshape your data: {name}.reshape(-1, 1) for one column, {name}.reshape(1, -1) for one row."
        raise InputError(
            f"{name} with shape {shape}", wanted, remedy if len(shape) < 2 else f"Reshape your data to (n, d): {name}."
        )
    bands_last = len(shape) == 4 and shape[1] == shape[2] != shape[3] < shape[1] and shape[1] not in _CHANNELS
    if bands_last or (len(shape) == 4 and shape[-1] in _CHANNELS and shape[1] not in _CHANNELS):
        raise InputError(
            f"{name} with shape {shape}, which looks channels-last",
            "images (n, C, H, W)",
            f"Use {name}.transpose(0, 3, 1, 2) in numpy, {name}.permute(0, 3, 1, 2) in torch.",
        )
    if shape[0] < min_rows:
        plural = "sample" if shape[0] == 1 else "samples"
        raise InputError(f"{name} with {shape[0]} {plural} (shape={shape})", f"at least {min_rows}")
    if 0 in shape:
        raise InputError(f"{name} with 0 feature(s) (shape={shape}) while a minimum of 1 is required", wanted)


def check_finite(
    x: Rows,
    *,
    name: str = "X",
    allow_nan: bool = False,
    columns: Sequence[str] | None = None,
    remedy: str = REMEDY,
) -> None:
    """Refuse NaN and infinities, saying how many, in how many rows, where first, and in which columns of a table."""
    if not x.dtype.is_floating_point:
        return
    values = rows = seen = 0
    first: int | None = None
    largest = 0.0
    in_columns = torch.zeros(x.shape[1] if len(x.shape) == 2 else 0, dtype=torch.int64)
    for block in blocks(x):
        largest = max(largest, float(block.nan_to_num(0.0, 0.0, 0.0).abs().max()))
        bad = torch.isinf(block) if allow_nan else ~torch.isfinite(block)
        if bool(bad.any()):
            per_row = bad.flatten(1).any(1)
            values += int(bad.sum())
            rows += int(per_row.sum())
            if first is None:
                first = seen + int(per_row.nonzero()[0])
            if len(in_columns):
                in_columns += bad.sum(0).cpu()
        seen += len(block)
    if first is None:
        if largest > _LARGEST:
            got = f"{name} with numbers up to {largest:.3g}, whose squares are infinite"
            raise InputError(got, f"numbers up to {_LARGEST:g}", "Divide them by a constant.")
        return
    where = _columns(in_columns, columns) if len(in_columns) else ""
    kind = "infinite" if allow_nan else "NaN or infinite"
    raise InputError(
        f"{name} with {values} {kind} value(s) in {rows} of {len(x)} rows, first in row {first}{where}",
        "finite numbers",
        REMEDY if allow_nan else remedy,
    )


def warn_of_wild_entries(x: Rows, columns: Sequence[str] | None, levels: Sequence[int] = ()) -> None:
    """Name columns of a table whose variance a few rows hold, and numbers that stand for a missing entry elsewhere.

    Parameters
    ----------
    x
        (n, d); NaN is left out.
    columns
        Their names.
    levels
        Of each column of a mixed table: categories are passed over.

    Warns
    -----
    VaelabWarning
        One of them is there.
    """
    rows = np.asarray(next(blocks(x, _MOST_BYTES)).double().cpu())
    said = []
    for j in range(rows.shape[1]):
        if levels and levels[j]:
            continue
        values = rows[:, j][np.isfinite(rows[:, j])]
        if len(values) < 20:
            continue
        name = f"column {columns[j]!r}" if columns else f"column {j}"
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        if high <= low:  # mostly one value, from which rare others are far
            continue
        far = np.abs(values - middle) > 20 * (high - low)
        marks = [mark for mark in _SENTINELS if bool((far & (values == mark)).any())]
        if marks:
            count = int(np.isin(values, marks).sum())
            shown = ", ".join(f"{mark:g}" for mark in marks)
            said.append(f"{name} holds {shown} in {count} of {len(values)} rows, far from the others")
            continue
        squares = np.square(values - values.mean())
        few = max(1, int(_FEW * len(values)))
        if far.any() and far.sum() <= few and np.sort(squares)[-few:].sum() > _MOST_OF * squares.sum() > 0:
            worst = int(np.argmax(np.where(np.isfinite(rows[:, j]), np.abs(rows[:, j] - middle), -1)))
            shown = f"{rows[worst, j]:g} in row {worst}"
            said.append(f"{name} has most of its variance from {int(far.sum())} row(s), such as {shown}")
    if said:
        more = f"; and {len(said) - 5} more" if len(said) > 5 else ""
        remedy = f"All else is small beside that: drop or mend those entries, or make them NaN and use {MIXED}."
        warnings.warn(f"{'; '.join(said[:5])}{more}. {remedy}", VaelabWarning, stacklevel=4)


def _columns(counts: Tensor, names: Sequence[str] | None, most: int = 10) -> str:
    bad = counts.nonzero().flatten().tolist()
    shown = [repr(names[i]) if names else str(i) for i in bad[:most]]
    more = f" and {len(bad) - most} more" if len(bad) > most else ""
    return f", column(s) {', '.join(shown)}{more}"


def _from_torch(x: Tensor, name: str) -> Tensor:
    if x.is_complex():
        raise complex_error(name)
    x = x.detach()
    if x.dtype in (torch.uint8, torch.float16, torch.float32, torch.float64):
        return x
    return x.to(torch.float32 if x.dtype in (torch.bool, torch.bfloat16) else torch.float64)


def _to_numpy(x: object, name: str) -> tuple[np.ndarray[Any, Any], Sequence[str] | None]:
    # an object of a library that was never imported cannot be here, so nothing is imported to find out
    if is_frame(x):
        return frame_values(x, name)
    if isinstance(x, MappedArray):
        return np.asarray(x.rows(np.arange(len(x)))), None
    check_dense(x, name)
    try:
        return np.asarray(x), None
    except (ValueError, OverflowError) as error:  # rows of different lengths, whole numbers beyond any
        raise InputError(f"{name} that is no regular array ({error})", "rows of one length") from error
    except (TypeError, RuntimeError) as error:  # a list of tensors that numpy has no type for, or with gradients
        remedy = f"Use torch.stack({name}) if it is a list of tensors."
        raise InputError(f"{name} that numpy cannot read ({error})", "one array or tensor", remedy) from error


def check_dense(x: object, name: str = "X") -> None:
    """Refuse sparse matrices."""
    sparse = sys.modules.get("scipy.sparse")
    if sparse is not None and sparse.issparse(x):
        raise InputError(f"{name} as a sparse matrix", "a dense array", f"Use {name}.toarray().")


def all_numbers(x: Any) -> bool:
    """Whether a table, a pandas DataFrame or an array, has no missing entry and no column of anything but numbers."""
    if is_frame(x):
        return all(getattr(t, "kind", "O") in "biuf" for t in x.dtypes) and not bool(x.isna().to_numpy().any())
    kind = getattr(getattr(x, "dtype", None), "kind", "f")
    if len(x.shape) != 2 or kind not in "fOUT":
        return True
    return kind == "f" and not bool(np.isnan(x).any())


def frame_values(frame: Any, name: str = "X") -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """Return the numbers of a pandas DataFrame and the names of its columns.

    Raises
    ------
    InputError
        Some columns hold no numbers; they are named.
    """
    columns = tuple(str(column) for column in frame.columns)
    kinds = [getattr(dtype, "kind", "O") for dtype in frame.dtypes]
    wrong = [column for column, kind in zip(columns, kinds, strict=True) if kind not in "biuf"]
    if wrong:
        shown = ", ".join(repr(column) for column in wrong[:10]) + (" …" if len(wrong) > 10 else "")
        raise InputError(
            f"{name} with {len(wrong)} column(s) that hold no numbers: {shown}",
            "numeric columns",
            f"Drop or encode them, or name the one that holds the class as label_column (--label-column {wrong[0]}); "
            f"or use {MIXED}, which takes categories.",
        )
    if "b" in kinds and set(kinds) != {"b"}:  # beside numbers a boolean is one
        frame = frame.astype({column: float for column, kind in zip(frame.columns, kinds, strict=True) if kind == "b"})
    # nullable pandas columns know missing values that numpy's integers do not
    nullable = any(not isinstance(dtype, np.dtype) for dtype in frame.dtypes)
    if nullable:
        return frame.to_numpy(dtype=np.float64, na_value=np.nan), columns
    return frame.to_numpy(), columns


def _from_numpy(array: np.ndarray[Any, Any], name: str) -> Tensor:
    if array.dtype.kind == "c":
        raise complex_error(name)
    dtype = tensor_dtype(array.dtype)
    if dtype is None:
        raise InputError(
            f"{name} with dtype {array.dtype}", "numbers (uint8, integer, float)", f"Convert it: {name}.astype(float)."
        )
    array = np.ascontiguousarray(array, dtype) if array.ndim else array.astype(dtype)
    # torch has no read-only tensors, and writing through one to a mapped file would end the process
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def complex_error(name: str) -> InputError:
    """Return what to raise for complex numbers."""
    return InputError(
        f"{name} with complex numbers",
        "real ones. Complex data not supported",
        f"Use {name}.real or {name}.view(float).",
    )
