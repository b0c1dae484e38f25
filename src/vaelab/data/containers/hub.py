"""Hugging Face data sets, in memory, on disk or streaming; the package is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vaelab.data.containers.record import USUAL_ROWS, Block, Opened, Wanted, Whole
from vaelab.data.containers.samples import blocks_of, label_name
from vaelab.data.images import EncodedImage, Preparation, decode
from vaelab.errors import InputError

_AT_ONCE = 256  # rows to a block


def open_table(x: Any, wanted: Wanted) -> Opened | Whole:
    """Read a data set: its column of images or arrays, or else the table that its columns make."""
    label = label_name(x.column_names, wanted)
    key = wanted.key if wanted.key is not None else _rows_column(x, label)
    if key is None:
        frame = x.to_pandas()
        y = None if label is None else _names(x, label, frame[label].to_numpy())
        return Whole(frame if label is None else frame.drop(columns=[label]), y)
    if key not in x.column_names:
        raise InputError(f"key={key!r}", f"one of {', '.join(x.column_names)}")
    read = _pictures if type(x.features[key]).__name__ == "Image" else _arrays
    kept = x.select_columns([key] if label is None else [key, label])

    def blocks() -> Iterator[Block]:
        done = 0
        for rows, y in read(kept, key, label, wanted, done):
            done += len(rows)
            yield Block(rows, None if label is None else _names(x, label, y))

    return Opened(blocks, len(x))


def open_streaming(x: Any, wanted: Wanted) -> Opened:
    """Read samples of a data set that streams, which are dictionaries."""
    return Opened(lambda: blocks_of(x, wanted))


def refuse_several(x: Any, wanted: Wanted) -> Opened:
    """Say that one of several splits has to be chosen."""
    splits = list(x)
    raise InputError(
        f"{wanted.name}, which has the splits {', '.join(splits)}", "one of them", f"Use {wanted.name}[{splits[0]!r}]."
    )


def _rows_column(x: Any, label: str | None) -> str | None:
    """Return the column that is an image or an array in every row, if there is one."""
    features = {name: type(feature).__name__ for name, feature in x.features.items() if name != label}
    pictures = [name for name, kind in features.items() if kind == "Image"]
    arrays = [name for name, kind in features.items() if kind in ("Array2D", "Array3D", "Array4D", "List", "Sequence")]
    found = pictures or arrays
    if len(found) > 1:
        usual = [name for name in USUAL_ROWS if name in found]
        if not usual:
            shown = ", ".join(map(repr, found))
            raise InputError(
                f"X with the columns {shown}, each of which is a row",
                "one",
                f"Name it: vaelab.data.gather(X, key={found[0]!r}).",
            )
        return usual[0]
    return found[0] if found else None


def _pictures(x: Any, key: str, label: str | None, wanted: Wanted, done: int) -> Iterator[tuple[Any, Any]]:
    preparation = Preparation(size=wanted.image_size, grey=wanted.grey)
    for table in x.with_format("arrow").iter(batch_size=_AT_ONCE):
        images = [
            _encoded(value, f"row {done + place} of {wanted.name}")
            for place, value in enumerate(table[key].to_pylist())
        ]
        done += len(images)
        y = None if label is None else np.asarray(table[label].to_pylist())
        yield decode(lambda images=images: images, len(images), preparation, source=wanted.name), y


def _arrays(x: Any, key: str, label: str | None, wanted: Wanted, done: int) -> Iterator[tuple[Any, Any]]:
    for batch in x.with_format("numpy").iter(batch_size=_AT_ONCE):
        rows = np.asarray(batch[key])
        if rows.dtype.kind == "O":
            raise InputError(f"column {key!r} of {wanted.name}, whose rows differ in length", "rows of one shape")
        yield rows, None if label is None else np.asarray(batch[label])


def _encoded(value: Any, name: str) -> EncodedImage:
    from pathlib import Path

    if value is None or (value.get("bytes") is None and value.get("path") is None):
        raise InputError(f"{name} without an image", "an image in every row")
    content = value.get("bytes")
    return EncodedImage(Path(value["path"]) if content is None else content, name)


def _names(x: Any, label: str, y: Any) -> Any:
    """Return labels by name, where the data set knows names."""
    feature = x.features[label]
    return np.array(feature.int2str([int(each) for each in y])) if type(feature).__name__ == "ClassLabel" else y
