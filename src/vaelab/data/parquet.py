"""Parquet files: images and class labels in the Hugging Face hub's layout, or tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaelab.data.cache import decoded
from vaelab.data.images import EncodedImage, Pixels, Preparation, decode
from vaelab.data.labels import count_classes
from vaelab.errors import InputError

_TEST_NAMES = ("test", "validation", "valid", "val")


@dataclass(frozen=True)
class ImageTable:
    """Parquet shards with an image column, and perhaps a label column."""

    files: tuple[Path, ...]
    image: str
    label: str | None
    classes: tuple[str, ...] | None
    rows: int

    def pixels(self, preparation: Preparation, *, cached: bool) -> Pixels:
        """Decode all images to (n, C, H, W) uint8."""
        source = str(self.files[0].parent if len(self.files) > 1 else self.files[0])

        def work() -> Pixels:
            return decode(self._images, self.rows, preparation, source=source)

        return decoded(self.files, f"{self.image} {preparation}", work) if cached else work()

    def labels(self) -> list[Any]:
        """Read the label column."""
        if self.label is None:
            return []
        return [value for path in self.files for value in _open(path).read([self.label]).column(0).to_pylist()]

    def _images(self) -> Iterator[EncodedImage]:
        for path in self.files:
            row = 0
            for batch in _open(path).iter_batches(1024, columns=[self.image]):
                for content in batch.column(0).field("bytes").to_pylist():
                    name = f"row {row} of {path}"
                    if content is None:
                        raise InputError(f"{name} without the bytes of an image", "images embedded in the file")
                    yield EncodedImage(content, name)
                    row += 1


def find_splits(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the shards of the training and of the test split; either may be empty.

    ``train-*.parquet`` and ``test-*.parquet``, any number of shards; without a test split, ``validation-*`` or
    ``valid-*`` takes its place.
    """
    train = _shards(folder, "train")
    test = next((files for name in _TEST_NAMES if (files := _shards(folder, name))), [])
    return train, test


def _shards(folder: Path, split: str) -> list[Path]:
    return sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet")])


def image_table(files: Sequence[Path], label_column: str | None = None) -> ImageTable | None:
    """Look at the columns; None if none of them holds images.

    Raises
    ------
    InputError
        A file is broken, a shard is absent, or the label column is missing.
    """
    from pyarrow import types

    _check_shards(files)
    opened = [_open(path) for path in files]
    schema = opened[0].schema_arrow
    images = [
        field.name
        for field in schema
        if types.is_struct(field.type) and {"bytes", "path"} <= {inner.name for inner in field.type}
    ]
    if not images:
        return None
    label = label_column if label_column is not None else ("label" if "label" in schema.names else None)
    if label is not None and label not in schema.names:
        raise InputError(f"no column {label!r} in {files[0]}", f"one of {', '.join(schema.names)}")
    rows = sum(file.metadata.num_rows for file in opened)
    return ImageTable(tuple(files), images[0], label, _class_names(schema.metadata, label), rows)


def label_splits(tables: Sequence[ImageTable]) -> tuple[list[Tensor | None], tuple[str, ...] | None]:
    """Read the labels of several splits, numbered alike."""
    if any(table.label is None for table in tables):
        return [None for _ in tables], None
    parts = [table.labels() for table in tables]
    values = [value for part in parts for value in part]
    names = tables[0].classes
    if names is None:
        codes, names = count_classes(values, source=str(tables[0].files[0].parent))
    else:
        unknown = sum(value is None or not 0 <= value < len(names) for value in values)
        if unknown:
            raise InputError(
                f"{unknown} label(s) outside the {len(names)} classes in {tables[0].files[0].parent}",
                "a class in every row",
            )
        codes = torch.tensor(values, dtype=torch.int64)
    return list(torch.split(codes, [len(part) for part in parts])), names


def _check_shards(files: Sequence[Path]) -> None:
    """Refuse a split of which a shard is absent: its rows would be missing without a word."""
    for path in files:
        match = re.fullmatch(r"(.*)-\d+-of-(\d+)", path.stem)
        if match is None:
            continue
        found = sum(other.stem.startswith(f"{match[1]}-") and other.stem.endswith(f"-of-{match[2]}") for other in files)
        if found != int(match[2]):
            raise InputError(
                f"{found} file(s) {match[1]}-*-of-{match[2]} in {path.parent}",
                f"all {int(match[2])}",
                "Download the rest.",
            )


def read_frame(files: Sequence[Path]) -> Any:
    """Read the shards of a table as one pandas DataFrame."""
    import pandas

    return pandas.concat([_open(path).read().to_pandas() for path in files], ignore_index=True)


def write_frames(path: Path, frames: Iterator[Any]) -> None:
    """Write pandas DataFrames of the same columns, at least one, as one table, each as it comes."""
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    first = Table.from_pandas(next(frames), preserve_index=False)
    with ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for frame in frames:
            writer.write_table(Table.from_pandas(frame, schema=first.schema, preserve_index=False))


def _open(path: Path) -> Any:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}, which cannot be read ({error})", "a whole parquet file", "Download it again."
        ) from error


def _class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> tuple[str, ...] | None:
    """Read the names that the hub keeps in the schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):  # they are optional, and so is every level of the way to them
        return None
