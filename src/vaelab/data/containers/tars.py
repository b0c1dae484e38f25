"""WebDataset tars: files of one key are one sample, such as ``a/7.jpg``, ``a/7.cls`` and ``a/7.json``.

Aizman et al. 2019.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.data.containers.record import Block, Opened, Wanted
from vaelab.data.containers.samples import blocks_of, pictures
from vaelab.data.images import SUFFIXES, EncodedImage, Pixels
from vaelab.errors import InputError

_AT_ONCE = 256  # samples to a block
_PICTURES = tuple(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
Sample = dict[str, bytes]


def open_tars(files: Sequence[Path], wanted: Wanted) -> Opened:
    """Read the samples of one or several tars, in their order.

    The row is the entry that `wanted` names, else the image, else the ``.npy``. The label is an entry of text, such as
    ``.cls``, or a field of ``.json``.
    """
    first = next(_samples(files, lambda _: True), None)
    if first is None:
        raise InputError(f"{wanted.name} without a file in it", "samples such as 0.png and 0.cls")
    usual = next((name for name in (*_PICTURES, "npy") if name in first), "")
    entry = usual if wanted.key is None else wanted.key
    if entry not in first:
        asked = "" if wanted.key is None else f"key={wanted.key!r} for "
        got = f"{asked}{wanted.name} whose first sample has {', '.join(sorted(first))}"
        raise InputError(got, "an image or .npy in every sample")
    label = _label_of(first, wanted)
    kept = {entry} | ({label[0]} if label else set())

    def blocks() -> Iterator[Block]:
        samples = _samples(files, kept.__contains__)
        read = _pictures if entry.split(".")[-1] in _PICTURES else _arrays
        while chunk := list(islice(samples, _AT_ONCE)):
            contents = [_entry(sample, entry, wanted) for sample in chunk]
            y = None if label is None else np.array([_text(sample, label, wanted) for sample in chunk])
            yield Block(read(contents, wanted), y)

    def labels() -> Any:
        assert label is not None  # or there is nothing to read
        return np.array([_text(sample, label, wanted) for sample in _samples(files, {label[0]}.__contains__)])

    return Opened(blocks, labels=None if label is None else labels)


def _samples(files: Sequence[Path], kept: Callable[[str], bool]) -> Iterator[Sample]:
    """Yield samples, with the content of the entries that are kept."""
    for path in files:
        key, sample = None, Sample()
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, entry = name.partition(".")
                    if not member.isfile() or not stem or not entry:
                        continue
                    if (folder, stem) != key and key is not None:
                        yield sample
                        sample = Sample()
                    key = folder, stem
                    if kept(entry.lower()):
                        content = tar.extractfile(member)
                        assert content is not None  # of a file
                        sample[entry.lower()] = content.read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{path}, which cannot be read ({error})", "a whole tar", "Copy it again.") from error
        if key is not None:
            yield sample


def _label_of(first: Sample, wanted: Wanted) -> tuple[str, str | None] | None:
    """Return the entry that holds the label, and its field if that is JSON."""
    if wanted.y is False:
        return None
    name = wanted.y if isinstance(wanted.y, str) else "cls" if "cls" in first else "label"
    if name in first and name != "json":
        return name, None
    fields = _fields(first, wanted) if "json" in first else {}
    if name in fields:
        return "json", name
    if wanted.y is None:
        return None
    raise InputError(f"no {name!r} in {wanted.name}", f"one of {', '.join([*sorted(first), *fields])}")


def _entry(sample: Sample, entry: str, wanted: Wanted) -> bytes:
    if entry not in sample:
        raise InputError(f"{wanted.name} with a sample without .{entry}", "one in every sample")
    return sample[entry]


def _text(sample: Sample, label: tuple[str, str | None], wanted: Wanted) -> str:
    entry, field = label
    if field is None:
        try:
            return _entry(sample, entry, wanted).decode().strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{wanted.name} with a .{entry} that is no text ({error})", "a label in UTF-8") from error
    fields = _fields(sample, wanted)
    if field not in fields:
        raise InputError(f"{wanted.name} with a sample without {field!r}", "a label in every sample")
    return str(fields[field])


def _fields(sample: Sample, wanted: Wanted) -> dict[str, Any]:
    try:
        fields = json.loads(_entry(sample, "json", wanted))
    except ValueError as error:  # of JSON or of UTF-8
        raise InputError(f"{wanted.name} with a .json that cannot be read ({error})", "JSON in every sample") from error
    if not isinstance(fields, dict):
        raise InputError(f"{wanted.name} with a .json that is a {type(fields).__name__}", "an object of named fields")
    return fields


def _pictures(contents: list[bytes], wanted: Wanted) -> Pixels:
    return pictures([EncodedImage(content, f"an image in {wanted.name}") for content in contents], wanted)


def _arrays(contents: list[bytes], wanted: Wanted) -> np.ndarray[Any, Any]:
    try:
        rows = [np.load(io.BytesIO(content), allow_pickle=False) for content in contents]
    except (ValueError, EOFError) as error:
        raise InputError(f"{wanted.name} with an entry that is no .npy ({error})", "arrays of numbers") from error
    return next(blocks_of(rows, Wanted(wanted.name))).x
