"""Hugging Face data sets, in memory, on disk or streaming; the package is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vaelab.data.containers.record import USUAL_LABELS, USUAL_ROWS, Block, Opened, Wanted, Whole
from vaelab.data.containers.samples import blocks_of, label_name, pictures
from vaelab.data.images import EncodedImage
from vaelab.errors import InputError

_AT_ONCE = 256  # rows to a block
_ARRAYS = ("Array2D", "Array3D", "Array4D", "List", "LargeList", "Sequence")


def open_table(x: Any, wanted: Wanted) -> Opened | Whole:
    """Read a data set: its column of images or arrays, or else the table that its columns make.

    One with a transform of its own is read sample by sample, as torch reads it.
    """
    if x.format["type"] == "custom":
        return Opened(lambda: _named(blocks_of((x[i] for i in range(len(x))), wanted), x, wanted), len(x))
    label = label_name(x.column_names, wanted)
    key = wanted.key if wanted.key is not None else _rows_column(x, label, wanted.name)
    if key is None:
        frame = x.to_pandas()
        y = None if label is None else _names(x, label, frame[label].to_numpy(), wanted)
        return Whole(frame if label is None else frame.drop(columns=[label]), y)
    if key not in x.column_names:
        raise InputError(f"key={key!r}", f"one of {', '.join(x.column_names)}")
    read = _pictures if type(x.features[key]).__name__ == "Image" else _arrays
    kept = x.select_columns([key] if label is None else [key, label])

    def blocks() -> Iterator[Block]:
        for rows, y in read(kept, key, label, wanted):
            yield Block(rows, None if label is None else _names(x, label, y, wanted))

    return Opened(blocks, len(x))


def open_streaming(x: Any, wanted: Wanted) -> Opened:
    """Read samples of a data set that streams, which are dictionaries."""
    return Opened(lambda: _named(blocks_of(x, wanted), x, wanted))


def refuse_several(x: Any, wanted: Wanted) -> Opened:
    """Say that one of several splits has to be chosen."""
    splits = list(x)
    raise InputError(
        f"{wanted.name}, which has the splits {', '.join(splits)}", "one of them", f"Use {wanted.name}[{splits[0]!r}]."
    )


def _rows_column(x: Any, label: str | None, name: str) -> str | None:
    """Return the column that is an image or an array in every row, if there is one; others stand beside images only."""
    features = {each: type(feature).__name__ for each, feature in x.features.items() if each != label}
    pictures = [each for each, kind in features.items() if kind == "Image"]
    arrays = [each for each, kind in features.items() if kind in _ARRAYS]
    found = pictures or arrays
    usual = [each for each in USUAL_ROWS if each in pictures]
    if len(pictures) > 1 and usual:
        return usual[0]
    beside = [] if pictures else [each for each in features if each not in (*arrays, *USUAL_LABELS)]
    if len(found) > 1 or (found and beside):
        got = f"{name} with the columns {', '.join(map(repr, [*found, *beside]))}, of which {found[0]!r} may be the row"
        raise InputError(got, "one that is", f"Name it: vaelab.data.gather({name}, key={found[0]!r}).")
    return found[0] if found else None


def _pictures(x: Any, key: str, label: str | None, wanted: Wanted) -> Iterator[Block]:
    done = 0
    for table in x.with_format("arrow").iter(batch_size=_AT_ONCE):
        encoded = [
            _encoded(value, f"row {place} of {wanted.name}")
            for place, value in enumerate(table[key].to_pylist(), start=done)
        ]
        done += len(encoded)
        yield Block(pictures(encoded, wanted), None if label is None else np.asarray(table[label].to_pylist()))


def _arrays(x: Any, key: str, label: str | None, wanted: Wanted) -> Iterator[Block]:
    for batch in x.with_format("numpy").iter(batch_size=_AT_ONCE):
        rows = np.asarray(batch[key])
        if rows.dtype.kind == "O":
            raise InputError(f"column {key!r} of {wanted.name}, whose rows differ in length", "rows of one shape")
        yield Block(rows, None if label is None else np.asarray(batch[label]))


def _encoded(value: Any, name: str) -> EncodedImage:
    from pathlib import Path

    if value is None or (value.get("bytes") is None and value.get("path") is None):
        raise InputError(f"{name} without an image", "an image in every row")
    content = value.get("bytes")
    return EncodedImage(Path(value["path"]) if content is None else content, name)


def _named(blocks: Iterator[Block], x: Any, wanted: Wanted) -> Iterator[Block]:
    """Yield blocks of samples with their labels by name; a stream may not know its columns, nor names of classes."""
    features = x.features or {}
    known = wanted.y if isinstance(wanted.y, str) else next((name for name in USUAL_LABELS if name in features), "")
    for rows, y in blocks:
        yield Block(rows, y if y is None or known not in features else _names(x, str(known), y, wanted))


def _names(x: Any, label: str, y: Any, wanted: Wanted) -> Any:
    """Return labels by name, where the data set knows names and they are still numbers."""
    feature = x.features[label]
    if type(feature).__name__ != "ClassLabel" or np.asarray(y).dtype.kind in "US":
        return y
    missing = sum(each is None or not 0 <= each < feature.num_classes for each in np.asarray(y).tolist())
    if missing:
        got = f"{missing} missing label(s) in {label!r} of {wanted.name}"
        raise InputError(got, "a class in every row", "Drop those rows: X.filter(…).")
    return np.array(feature.int2str([int(each) for each in y]))
