"""CSV and parquet tables: columns of numbers, categories where asked for, and perhaps one that holds the class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vaelab.data.assembly import assemble
from vaelab.data.checks import GAPS_REMEDY, check_array, frame_values
from vaelab.data.dataset import Dataset
from vaelab.data.delimited import read_csv
from vaelab.data.images import Preparation
from vaelab.data.labels import count_classes
from vaelab.data.options import OF_TEXT, LoadOptions
from vaelab.data.parquet import find_splits, image_table, label_splits, read_frame
from vaelab.errors import InputError, VaelabWarning


def load_csv(path: Path, options: LoadOptions) -> Dataset:
    """Load a table from text; the first line is data if it holds numbers only."""
    options.refuse("a CSV file", "image_size", "grey", "memory_map", "key")
    frame, headless = read_csv(path, separator=options.separator, missing=options.missing)
    if headless:
        warnings.warn(
            f"{path} starts with a line of numbers, which is taken as the first row, not as names of columns.",
            VaelabWarning,
            stacklevel=4,
        )
    return _from_frame(frame, options, path, train_rows=None, named=not headless)


def read_table(path: Path, *, separator: str | None = None, missing: Sequence[str] = ()) -> Any:
    """Read a CSV or parquet file as it is, as one pandas DataFrame; columns without names are numbered.

    Parameters
    ----------
    path
        The file.
    separator, missing
        Of a CSV file, as for `vaelab.data.delimited.read_csv`.
    """
    if path.suffix.lower() == ".parquet":
        return read_frame([path])
    frame, headless = read_csv(path, separator=separator, missing=missing)
    return frame.set_axis(list(map(str, range(frame.shape[1]))), axis=1) if headless else frame


def load_parquet(path: Path, options: LoadOptions) -> Dataset:
    """Load a parquet file, or a folder of shards; images in the hub's layout, or a table.

    In a folder, ``train-*`` and ``test-*`` (or ``validation-*``, ``valid-*``) are the splits.
    """
    import pandas

    options.refuse("parquet files", "memory_map", "key", *OF_TEXT)
    if path.is_dir():
        train, test = find_splits(path)
        if not (train and test):
            train, test = sorted(path.glob("*.parquet")), []
    else:
        train, test = [path], []
    label_column = None if options.whole else options.label_column
    table = image_table(train, label_column)
    if table is None:
        options.refuse("a table", "image_size", "grey")
        frames = [read_frame(files) for files in (train, test) if files]
        if len(frames) == 2 and list(frames[0].columns) != list(frames[1].columns):
            raise InputError(f"{path} whose splits differ in their columns", "the same columns in both")
        frame = pandas.concat(frames) if test else frames[0]
        return _from_frame(frame, options, path, train_rows=len(frames[0]) if test else None)
    held = image_table(test, label_column) if test else None
    tables = [table] if held is None else [table, held]
    preparation = Preparation(size=options.image_size, grey=options.grey)
    x = [torch.from_numpy(part.pixels(preparation, cached=False)) for part in tables]
    labels, classes = ([], None) if options.whole else label_splits(tables)
    known = [part for part in labels if part is not None]
    return assemble(
        check_array(torch.cat(x), name=path.name, min_rows=options.min_rows),
        options,
        name=path.stem,
        source=str(path),
        labels=torch.cat(known) if known else None,
        classes=classes,
        train_rows=len(x[0]) if held is not None else None,
    )


def _from_frame(frame: Any, options: LoadOptions, path: Path, *, train_rows: int | None, named: bool = True) -> Dataset:
    labels = classes = None
    names = {str(column): column for column in frame.columns}
    if options.whole:
        frame = frame.drop(columns=[column for name, column in names.items() if name == options.label_column])
    elif options.label_column is not None:
        if options.label_column not in names:
            raise InputError(f"no column {options.label_column!r} in {path}", f"one of {', '.join(names)}")
        column = names[options.label_column]
        labels, classes = count_classes(frame[column].to_numpy(), source=f"column {options.label_column!r} of {path}")
        frame = frame.drop(columns=[column])
    rows = frame if named else frame.to_numpy()
    schema = options.schema_of(rows, path.name)
    if schema is None:
        columns = frame_values(frame, path.name)[1] if named else None
        x = check_array(frame, name=path.name, min_rows=options.min_rows, remedy=GAPS_REMEDY)
    else:
        columns = schema.names if named else None
        x = schema.to_tensor(rows, name=path.name, min_rows=options.min_rows)
    return assemble(
        x,
        options,
        name=path.stem,
        source=str(path),
        labels=labels,
        classes=classes,
        columns=columns,
        train_rows=train_rows,
        schema=schema,
    )
