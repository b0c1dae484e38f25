"""Arrays in HDF5 and Zarr, and annotated matrices, in memory or in such a store; the packages are not imported.

An AnnData on disk is a group with ``X``, ``layers``, ``obs`` and ``var`` (Virshup et al., "anndata: Access and store
annotated data matrices", JOSS 9, 2024; the layout is that of its "on-disk format", version 0.1.0 and later).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vaelab.data.containers.record import USUAL_ROWS, Block, Opened, Wanted
from vaelab.data.containers.samples import label_name
from vaelab.data.mapped import AT_ONCE
from vaelab.errors import InputError

_MOST_AT_ONCE = 8 * AT_ONCE


def open_array(x: Any, wanted: Wanted, y: Any = None, columns: tuple[str, ...] | None = None) -> Opened:
    """Read an array, whole chunks at a time, and labels that are there already."""
    if wanted.y and y is None:
        raise InputError(f"{wanted.name}, an array, with y={wanted.y!r}", "a file or group that holds labels too")
    _check_open(x, wanted.name)
    if not x.shape:
        raise InputError(f"{wanted.name} with a single number", "an array of rows")
    n, step = x.shape[0], _rows_at_once(x)
    if y is not None and len(y) != n:
        raise InputError(f"{wanted.name} with {len(y):,} labels for {n:,} rows", "one label per row")

    def blocks() -> Iterator[Block]:
        for start in range(0, n, step):
            rows = x[start : start + step]
            dense = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
            yield Block(dense, None if y is None else y[start : start + step])

    return Opened(blocks, n, columns, labels=None if y is None else lambda: y)


def _rows_at_once(x: Any) -> int:
    """Return how many rows are about `AT_ONCE` bytes: whole chunks, since a part of one costs as much to read."""
    row = int(max(1, int(np.prod(x.shape[1:])) * np.dtype(x.dtype).itemsize))
    step: int = max(1, AT_ONCE // row)
    chunk: int = int((getattr(x, "chunks", None) or [1])[0])
    return step if chunk * row > _MOST_AT_ONCE else max(1, step // chunk) * chunk


def _check_open(x: Any, name: str) -> None:
    if not getattr(getattr(x, "id", None), "valid", True):  # h5py's
        raise InputError(f"{name} of an HDF5 file that is closed", "one of an open file", "Open the file again.")


def open_group(x: Any, wanted: Wanted) -> Opened:
    """Read the array of a file or group that `wanted` names, or the only one that can be meant."""
    _check_open(x, wanted.name)
    if "obs" in x and "var" in x and ("X" in x or "layers" in x):
        return _open_stored_matrix(x, wanted)
    arrays = {name: x[name] for name in x if hasattr(x[name], "shape")}
    label = wanted.y if isinstance(wanted.y, str) and wanted.y in x else label_name(arrays, wanted)
    key = wanted.key
    if key is None:
        left = [name for name in arrays if name != label]
        usual = [name for name in USUAL_ROWS if name in left]
        if not usual and len(left) != 1:
            shown = ", ".join(map(repr, left[:10])) or "none"
            remedy = f"Name one as key (--key {left[0] if left else 'group/array'})."
            raise InputError(f"{wanted.name} with the arrays {shown}", "one that holds the rows", remedy)
        key = usual[0] if usual else left[0]
    if key not in x or not hasattr(x[key], "shape"):
        raise InputError(f"key={key!r}", f"an array of {wanted.name}: {', '.join(map(repr, arrays)) or 'none'}")
    return open_array(x[key], wanted, None if label is None else stored_values(x[label], f"{label!r} of {wanted.name}"))


def open_anndata(x: Any, wanted: Wanted) -> Opened:
    """Read ``X``, or a matrix by its path such as ``"layers/counts"``, with a column of ``obs`` for the labels."""
    label = label_name(x.obs.columns, wanted)
    y = None if label is None else np.asarray(x.obs[label])
    places = {"X": x.X} | {f"layers/{name}": x.layers[name] for name in x.layers}
    places |= {f"obsm/{name}": x.obsm[name] for name in x.obsm}
    matrix, key = _chosen(places, wanted)
    names = tuple(map(str, x.var_names)) if not key.startswith("obsm/") else None
    return open_array(_by_rows(matrix), wanted, y, names)


def _open_stored_matrix(x: Any, wanted: Wanted) -> Opened:
    label = label_name([name for name in x["obs"] if not name.startswith("_")], wanted)
    y = None if label is None else _column(x["obs"], label, wanted)
    places = {"X": x["X"]} if "X" in x else {}
    for folder in ("layers", "obsm"):
        places |= {f"{folder}/{name}": x[folder][name] for name in x[folder]} if folder in x else {}
    matrix, key = _chosen(places, wanted)
    index = x["var"].attrs.get("_index", "_index")
    names = (
        None if key.startswith("obsm/") or index not in x["var"] else tuple(map(str, _column(x["var"], index, wanted)))
    )
    return open_array(matrix if hasattr(matrix, "shape") else _by_rows(_Sparse(matrix)), wanted, y, names)


def _chosen(places: dict[str, Any], wanted: Wanted) -> tuple[Any, str]:
    key = "X" if wanted.key is None else wanted.key
    if places.get(key) is None:
        raise InputError(
            f"key={key!r} for {wanted.name}",
            f"one of {', '.join(name for name, each in places.items() if each is not None)}",
        )
    return places[key], key


class _Sparse:
    """A sparse matrix in a store, read by rows; one that is stored by columns is turned in memory."""

    def __init__(self, group: Any) -> None:
        self.kind = str(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "")))
        if self.kind.removesuffix("_matrix") not in ("csr", "csc"):
            raise InputError(f"a matrix stored as {self.kind or 'an unknown group'!r}", "an array, csr or csc")
        self.shape = tuple(int(size) for size in group.attrs.get("shape", group.attrs.get("h5sparse_shape")))
        self.dtype, self.chunks = group["data"].dtype, None
        self._group, self._starts = group, np.asarray(group["indptr"][:])

    def __getitem__(self, rows: slice) -> Any:
        from scipy.sparse import csr_matrix

        starts = self._starts[rows.start : rows.stop + 1]
        entries = slice(int(starts[0]), int(starts[-1]))
        parts = self._group["data"][entries], self._group["indices"][entries], starts - starts[0]
        return csr_matrix(parts, shape=(len(starts) - 1, self.shape[1]))

    def tocsr(self) -> Any:
        """Read all of a matrix that is stored by columns."""
        from scipy.sparse import csc_matrix

        return csc_matrix((self._group["data"][:], self._group["indices"][:], self._starts), shape=self.shape).tocsr()


def _by_rows(matrix: Any) -> Any:
    """Return a matrix that hands out rows cheaply; a frame as an array."""
    if getattr(matrix, "format", getattr(matrix, "kind", "")).startswith("csc") and hasattr(matrix, "tocsr"):
        return matrix.tocsr()
    return matrix.to_numpy() if hasattr(matrix, "to_numpy") else matrix


def _column(obs: Any, name: str, wanted: Wanted) -> Any:
    """Read a column of a stored frame: an array, categories by their codes, or values with a mask."""
    column = obs[name]
    if hasattr(column, "shape"):
        categories = obs["__categories"][name] if "__categories" in obs and name in obs["__categories"] else None
        values = stored_values(column)
        return values if categories is None else _decoded(values, stored_values(categories), name, wanted)
    if "codes" in column and "categories" in column:
        return _decoded(stored_values(column["codes"]), stored_values(column["categories"]), name, wanted)
    if "values" in column and "mask" in column:
        missing = int(stored_values(column["mask"]).sum())
        if missing:
            raise _missing(missing, name, wanted)
        return stored_values(column["values"])
    raise InputError(f"column {name!r} of {wanted.name} in a layout that is not known", "an array or categories")


def _decoded(codes: Any, categories: Any, name: str, wanted: Wanted) -> Any:
    if (codes < 0).any():
        raise _missing(int((codes < 0).sum()), name, wanted)
    return categories[codes]


def _missing(count: int, name: str, wanted: Wanted) -> InputError:
    return InputError(
        f"{count} missing label(s) in {name!r} of {wanted.name}", "a class in every row", "Drop those rows."
    )


def stored_values(array: Any, name: str = "a store") -> np.ndarray[Any, Any]:
    """Read a small array, of labels or names; text as such."""
    _check_open(array, name)
    if not hasattr(array, "shape"):
        raise InputError(f"{name}, a group, for labels", "an array, a label per row", "Name an array in it.")
    if not array.shape:
        raise InputError(f"{name} with a single value for labels", "an array, a label per row")
    values = np.asarray(array[:])
    if values.dtype.kind == "S" or (values.dtype.kind == "O" and len(values) and isinstance(values.flat[0], bytes)):
        return np.array([value.decode() if isinstance(value, bytes) else value for value in values.tolist()])
    return values
