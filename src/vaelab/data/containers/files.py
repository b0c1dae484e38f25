"""Files and folders that are containers: HDF5, Zarr, annotated matrices and WebDataset tars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaelab.data.arrays import checked_rows, mapped_rows
from vaelab.data.assembly import assemble
from vaelab.data.cache import decoded_path
from vaelab.data.containers.record import Opened, Wanted
from vaelab.data.containers.spool import spooled
from vaelab.data.containers.stores import open_array, open_group
from vaelab.data.containers.tars import open_tars
from vaelab.data.dataset import Dataset
from vaelab.data.extras import require
from vaelab.data.labels import count_classes
from vaelab.data.mapped import MappedArray
from vaelab.data.options import OF_TEXT, LoadOptions
from vaelab.errors import InputError, VaelabError


def load_hdf5(path: Path, options: LoadOptions) -> Dataset:
    """Load an array of an HDF5 file, such as ``.h5ad``: the one that ``key`` names, or that can only be meant."""
    options.refuse("an HDF5 file", "image_size", "grey", *OF_TEXT)
    h5py = require("h5py", "containers", f"Reading {path.name}")
    with _readable(path), h5py.File(path, "r") as file:
        return _dataset(open_group(file, _wanted(path, options)), path, [path], options)


def load_zarr(path: Path, options: LoadOptions) -> Dataset:
    """Load a Zarr array, or one of a Zarr group as from HDF5."""
    options.refuse("a Zarr folder", "image_size", "grey", *OF_TEXT)
    zarr = require("zarr", "containers", f"Reading {path.name}")
    with _readable(path):
        store, wanted = zarr.open(path, mode="r"), _wanted(path, options)
        if isinstance(store, zarr.Array) and options.key is not None:
            raise InputError(f"key={options.key!r} for {path}, which is one array", "no key")
        opened = open_array(store, wanted) if isinstance(store, zarr.Array) else open_group(store, wanted)
        return _dataset(opened, path, sorted(each for each in path.rglob("*") if each.is_file()), options)


def load_tars(path: Path, options: LoadOptions) -> Dataset:
    """Load a WebDataset: a tar, or a folder of them."""
    options.refuse("WebDataset tars", *OF_TEXT)
    files = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    return _dataset(open_tars(files, _wanted(path, options)), path, files, options)


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except VaelabError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # h5py's and zarr's, for what is cut off or damaged
        got = f"{path}, which cannot be read ({error})"
        raise InputError(got, "a whole file of its kind", "Copy it again.") from error


def _kept(path: Path) -> Any:
    """Return rows that were read before, if they are there and whole."""
    try:
        return MappedArray(path)
    except (InputError, OSError):
        return None


def _wanted(path: Path, options: LoadOptions) -> Wanted:
    label = False if options.whole else options.label_column  # None: if something is called a label
    return Wanted(path.name, key=options.key, y=label, image_size=options.image_size, grey=options.grey)


def _dataset(opened: Opened, path: Path, files: Sequence[Path], options: LoadOptions) -> Dataset:
    """Read rows, from the cache where they are many and were read before, and split them."""
    kept = decoded_path(files, f"{options.key} {options.image_size} {options.grey}")
    x, y = None if options.memory_map is False else _kept(kept), None
    if x is None:
        x, y = spooled(opened, path.name, memory_map=options.memory_map, path=kept)
    if opened.labels is not None and y is None:
        y = opened.labels()
    if isinstance(x, MappedArray):
        schema = mapped_rows(x, path.name, options)
    else:
        (x,), schema = checked_rows([x], [path.name], options)
    labels, classes = (None, None) if y is None else count_classes(y, source=path.name)
    return assemble(
        x,
        options,
        name=path.name.split(".")[0],
        source=str(path),
        labels=labels,
        classes=classes,
        columns=opened.columns if schema is None else None,
        schema=schema,
    )
