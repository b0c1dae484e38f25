"""numpy's own files: ``.npy``, in memory or left on disk, and ``.npz``."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.data.assembly import assemble
from vaelab.data.checks import GAPS_REMEDY, check_array, check_finite, check_shape
from vaelab.data.columns import Schema
from vaelab.data.conditions import Conditioning
from vaelab.data.dataset import Dataset, TestSplit, TrainSplit
from vaelab.data.labels import count_classes
from vaelab.data.mapped import MappedArray
from vaelab.data.options import OF_TEXT, LoadOptions
from vaelab.data.scaling import Kind
from vaelab.errors import InputError

MAP_FROM = 2**30
"""Bytes from which a ``.npy`` file is left on disk unless told otherwise."""

_BROKEN = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error)  # what numpy lets through

_X = ("x", "X", "images", "data", "features", "arr_0")
_Y = ("y", "Y", "labels", "label", "target", "targets")
_TRAIN = tuple(pattern.format(name) for name in ("x", "X", "images", "data") for pattern in ("{}_train", "train_{}"))


def load_npy(path: Path, options: LoadOptions) -> Dataset:
    """Load one array of rows."""
    options.refuse("a .npy file", "image_size", "grey", "label_column", "key", *OF_TEXT)
    mapped = options.memory_map if options.memory_map is not None else path.stat().st_size > MAP_FROM
    name = path.name
    if mapped:
        x = MappedArray(path)
        return assemble(x, options, name=path.stem, source=str(path), schema=mapped_rows(x, name, options))
    (values,), schema = checked_rows([_read_npy(path)], [name], options)
    return assemble(values, options, name=path.stem, source=str(path), schema=schema)


def mapped_rows(x: MappedArray, name: str, options: LoadOptions) -> Schema | None:
    """Check rows that stay on disk; return the schema of a table whose gaps are kept."""
    check_shape(tuple(x.shape), name=name, min_rows=options.min_rows)
    schema = options.schema
    if schema is None and options.mixed and len(x.shape) == 2:
        schema = Schema.of_numbers(x.shape[1])
    check_finite(x, name=name, allow_nan=schema is not None, remedy=GAPS_REMEDY)
    return schema


def checked_rows(
    parts: list[np.ndarray[Any, Any]], names: list[str], options: LoadOptions
) -> tuple[list[Tensor], Schema | None]:
    """Check the rows of one or two splits; where they are coded, by one schema."""
    least = options.min_rows
    if not any(map(options.coded, parts)):
        checked = [
            check_array(part, name=name, min_rows=least, remedy=GAPS_REMEDY)
            for part, name in zip(parts, names, strict=True)
        ]
        return checked, None
    alike = len({part.shape[1:] for part in parts}) == 1  # if not, the second is refused
    schema = replace(options, mixed=True).schema_of(np.concatenate(parts) if alike else parts[0], names[0])
    assert schema is not None  # since one was asked for
    return [schema.to_tensor(part, name=name, min_rows=least) for part, name in zip(parts, names, strict=True)], schema


def load_npz(path: Path, options: LoadOptions) -> Dataset:
    """Load an archive of arrays: rows under ``x``, ``X``, ``images`` or ``data``, classes under ``y`` or ``labels``.

    ``x_train`` and ``x_test`` (or ``train_images`` and ``test_images``, and so on) are the splits.
    """
    options.refuse("a .npz file", "image_size", "grey", "label_column", "memory_map", "key", *OF_TEXT)
    with _read_npz(path) as archive:
        keys = list(archive.files)
        train = next((key for key in _TRAIN if key in keys and key.replace("train", "test") in keys), None)
        if train is not None:
            names, labels = [train, train.replace("train", "test")], _partners(train, keys)
        else:
            names = [next((key for key in _X if key in keys), keys[0] if len(keys) == 1 else "")]
            labels = [key for key in _Y if key in keys][:1]
        if not names[0]:
            raise InputError(
                f"{path} with arrays {', '.join(keys) or '(none)'}",
                f"one called {', '.join(_X)}, or x_train and x_test",
            )
        read = [_member(archive, key, path) for key in names]
        parts, schema = checked_rows(read, [f"{path.name}[{key!r}]" for key in names], options)
        values = [] if options.whole else [np.asarray(_member(archive, key, path)) for key in labels]
    if len(parts) == 2 and parts[0].shape[1:] != parts[1].shape[1:]:
        raise InputError(
            f"{names[0]} and {names[1]} with rows of shape {tuple(parts[0].shape[1:])} and {tuple(parts[1].shape[1:])}",
            "one shape for both",
        )
    codes, classes = count_classes(np.concatenate(values), source=path.name) if values else (None, None)
    if codes is not None and len(codes) != sum(len(part) for part in parts):
        raise InputError(f"{len(codes)} labels for {sum(len(part) for part in parts)} rows", "one label per row")
    return assemble(
        parts[0] if len(parts) == 1 else torch.cat(parts),
        options,
        name=path.stem,
        source=str(path),
        labels=codes,
        classes=classes,
        train_rows=len(parts[0]) if len(parts) == 2 else None,
        schema=schema,
    )


def _partners(train: str, keys: list[str]) -> list[str]:
    """Find the labels of both splits, spelt as the rows are."""
    pattern = "{}_train" if train.endswith("_train") else "train_{}"
    for name in _Y:
        pair = [pattern.format(name), pattern.format(name).replace("train", "test")]
        if all(key in keys for key in pair):
            return pair
    return []


def _read_npy(path: Path) -> np.ndarray[Any, Any]:
    try:
        with path.open("rb") as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _read_npz(path: Path) -> Any:
    try:
        archive = np.load(path, allow_pickle=False)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if isinstance(archive, np.ndarray):
        raise InputError(f"{path}, which is no archive but one array", "a .npz file", "Rename it to .npy.")
    return archive


def _member(archive: Any, key: str, path: Path) -> Any:
    try:
        return archive[key]
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if "Object arrays" in str(error):
        return InputError(
            f"{path} with pickled Python objects",
            "arrays of numbers",
            "Save X.astype(float); pickles are never loaded.",
        )
    return InputError(f"{path}, which cannot be read ({error})", "a whole file written by numpy.save or numpy.savez")


def from_arrays(
    train: object,
    test: object | None = None,
    *,
    labels: object | None = None,
    y: object | None = None,
    name: str = "arrays",
    schema: Schema | None = None,
) -> Dataset:
    """Join arrays to a data set.

    Parameters
    ----------
    train, test
        (n, d) or (n, C, H, W) each: arrays, tensors or data frames in the same units; no test rows if None.
    labels
        (n,) classes of the training rows, numbers or text, or None.
    y
        n conditions of the training rows in any form that `Conditioning.fit` reads, or None.
    name
        For people.
    schema
        How to code a table with categories or missing entries, for ``likelihood="mixed"``: ``Schema.fit(train)``, or
        that of a trained model. None for rows of numbers.

    Raises
    ------
    InputError
        They cannot be trained on, or do not fit together.
    """
    if schema is None:
        x = check_array(train, name="train", remedy=GAPS_REMEDY)
        held = x[:0] if test is None else check_array(test, name="test", min_rows=1, remedy=GAPS_REMEDY)
    else:
        x = schema.to_tensor(train, name="train", min_rows=2)
        held = x[:0] if test is None else schema.to_tensor(test, name="test")
    counted, classes = (None, None) if labels is None else count_classes(np.asarray(labels), source=name)
    kind: Kind = "image" if x.ndim == 4 else "table"
    columns = getattr(train, "columns", None)
    names = None if columns is None else tuple(str(column) for column in columns)
    names = schema.names if schema is not None and names is not None else names
    conditioning = None if y is None else Conditioning.fit(y)
    c = None if conditioning is None else conditioning.to_net(y, len(x))
    if conditioning is not None and counted is None and c is not None:
        counted, classes = conditioning.labels(c), conditioning.classes
    return Dataset(
        name, kind, TrainSplit(x, counted, c), TestSplit(held), names, classes, "memory", conditioning, schema
    )
