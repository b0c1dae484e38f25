"""One sample of a container: which part of it is the row, and which the label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaelab.data.containers.record import USUAL_LABELS, Block, Wanted
from vaelab.data.images import EncodedImage, Pixels, Preparation, decode
from vaelab.errors import InputError

_AT_ONCE = 256  # samples to a block


def blocks_of(samples: Iterable[Any], wanted: Wanted) -> Iterator[Block]:
    """Gather single samples into blocks."""
    preparation = Preparation(size=wanted.image_size, grey=wanted.grey)
    iterator = islice(samples, wanted.rows)  # and no sample more, since what a generator gave is gone
    done, names = 0, list[Any]()
    while chunk := list(islice(iterator, _AT_ONCE)):
        pairs = [divided(sample, wanted) for sample in chunk]
        names = names or (list(pairs[0][0]) if isinstance(pairs[0][0], Mapping) else [])
        rows = [as_array(_by_name(row, names, wanted.name), wanted.name, preparation) for row, _ in pairs]
        for place, row in enumerate(rows):
            if row.shape != rows[0].shape or row.dtype != rows[0].dtype:
                raise uneven(wanted.name, row, done + place, rows[0].shape, rows[0].dtype)
        done += len(rows)
        yield Block(np.stack(rows), np.stack([np.asarray(y) for _, y in pairs]) if wanted.y else None)


def pictures(images: Sequence[EncodedImage], wanted: Wanted) -> Pixels:
    """Decode some images, as many as are in memory at once."""
    preparation = Preparation(size=wanted.image_size, grey=wanted.grey)
    return decode(lambda: images, len(images), preparation, source=wanted.name)


def divided(sample: Any, wanted: Wanted) -> tuple[Any, Any]:
    """Return the row, or rows, of a sample and its label, which is None where none is wanted.

    Of a dictionary of numbers the row is what remains of it without the label.

    Raises
    ------
    InputError
        A dictionary that does not say which of its entries is the row; or there is no label, and one is wanted.
    """
    if isinstance(sample, Mapping):
        return _of_mapping(sample, wanted)
    check_unnamed(wanted)
    if isinstance(sample, tuple | list) and len(sample) and not isinstance(sample[0], int | float | np.number):
        if wanted.y and len(sample) < 2:
            raise unlabelled(wanted.name)
        return sample[0], sample[1] if wanted.y else None
    if wanted.y:
        raise unlabelled(wanted.name)
    return sample, None


def check_unnamed(wanted: Wanted) -> None:
    """Refuse names, of rows or labels, for what has none."""
    if wanted.key is not None:
        raise InputError(f"key={wanted.key!r} for {wanted.name}, whose rows have no names", "no key")
    if isinstance(wanted.y, str):
        got = f"y={wanted.y!r} for {wanted.name}, whose labels have no names"
        raise InputError(got, "y=True, which takes the second of every pair")


def _of_mapping(sample: Mapping[Any, Any], wanted: Wanted) -> tuple[Any, Any]:
    label = label_name([str(name) for name in sample], wanted)
    key = wanted.key
    if key is None:
        pictures = [name for name, value in sample.items() if isinstance(value, Image.Image)]
        rest = {name: value for name, value in sample.items() if name != label}
        if not pictures and rest and all(isinstance(value, int | float | np.number) for value in rest.values()):
            return rest, None if label is None else sample[label]
        if len(pictures) != 1:
            raise InputError(
                f"{wanted.name}, which yields dictionaries of {_listed(sample)}",
                "rows, or pairs of a row and its label",
                f"Say which is the row: vaelab.data.gather({wanted.name}, key={next(iter(sample), 'x')!r}).",
            )
        key = pictures[0]
    if key not in sample:
        raise InputError(f"key={key!r}", f"one of {_listed(sample)}")
    return sample[key], None if label is None else sample[label]


def label_name(names: Iterable[str], wanted: Wanted) -> str | None:
    """Return which name has the labels; None where they are not wanted."""
    names = list(names)
    if isinstance(wanted.y, str):
        if wanted.y not in names:
            raise InputError(f"no {wanted.y!r} in {wanted.name}", f"one of {_listed(names)}")
        return wanted.y
    if wanted.y is False:
        return None
    found = next((name for name in USUAL_LABELS if name in names), None)
    if found is None and wanted.y:
        raise InputError(
            f"{wanted.name}, of which nothing is called a label",
            "a condition for every row",
            f"Name one as y: {_listed(names)}.",
        )
    return found


def unlabelled(name: str) -> InputError:
    """Return what to raise where labels are wanted and there are none."""
    return InputError(f"{name} without labels, for a conditional model", "a condition for every row", "Pass y.")


def uneven(
    name: str, row: np.ndarray[Any, Any], place: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> InputError:
    """Return what to raise where a row differs from the first, which has this shape and dtype."""
    if row.shape == shape:
        got = f"{name} with a row of dtype {row.dtype}, row {place}"
        return InputError(got, f"{dtype} as in the first", "Convert them to one dtype.")
    remedy = "Bring them to one size: crop or resize images, pad or window sequences."
    return InputError(f"{name} with a row of shape {row.shape}, row {place}", f"{shape} as in the first", remedy)


def _by_name(row: Any, names: list[Any], name: str) -> Any:
    """Return a dictionary of numbers as a list, in the order of the first; anything else as it is."""
    if not isinstance(row, Mapping) or not all(isinstance(value, int | float | np.number) for value in row.values()):
        return row
    if set(row) != set(names):
        raise InputError(f"{name} with a sample of {_listed(row)}", f"{_listed(names)} as in the first")
    return [row[each] for each in names]


def as_array(value: Any, name: str, preparation: Preparation | None = None) -> np.ndarray[Any, Any]:
    """Return a row, or rows, as numbers; a picture as `preparation` says."""
    if isinstance(value, Image.Image):
        return (preparation or Preparation()).apply(value)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return np.asarray(value.float() if value.dtype == torch.bfloat16 else value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} with rows that are no regular arrays ({error})", "rows of one shape") from error
    if array.dtype.kind == "i" and not hasattr(value, "dtype"):
        array = array.astype(np.float64)  # a list of whole numbers may stand beside one of others
    if array.dtype.kind not in "biuf":
        got = f"{name} with rows of type {type(value).__name__}"
        raise InputError(got, "arrays, tensors or pictures of numbers", "Convert them in the data set's own code.")
    return array


def _listed(names: Iterable[Any]) -> str:
    names = list(names)
    return ", ".join(repr(name) for name in names[:10]) + (" …" if len(names) > 10 else "")
