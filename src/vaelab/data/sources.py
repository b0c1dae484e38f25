"""`load` and `load_rows`: the doors for names, files and folders."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaelab.arguments import check_count, check_kind, check_seed, check_share
from vaelab.data.arrays import load_npy, load_npz
from vaelab.data.columns import ColumnReader, Schema
from vaelab.data.containers.files import is_zarr, load_hdf5, load_tars, load_zarr
from vaelab.data.dataset import Dataset
from vaelab.data.folders import find_images, load_image_folder
from vaelab.data.mapped import Rows
from vaelab.data.named import load_named, names
from vaelab.data.options import LoadOptions
from vaelab.data.tables import load_csv, load_parquet
from vaelab.errors import InputError
from vaelab.storage import exists

_LARGEST = 10_000  # side of an image
_READERS: dict[str, Callable[[Path, LoadOptions], Dataset]] = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".csv": load_csv,
    ".parquet": load_parquet,
    ".h5": load_hdf5,
    ".hdf5": load_hdf5,
    ".h5ad": load_hdf5,
    ".tar": load_tars,
}


def load(
    name_or_path: str | Path,
    *,
    home: Path | str | None = None,
    download: bool = False,
    image_size: int | tuple[int, int] | None = None,
    grey: bool | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    label_column: str | None = None,
    memory_map: bool | None = None,
    key: str | None = None,
    mixed: bool | None = False,
    columns: Mapping[str, ColumnReader] | None = None,
    separator: str | None = None,
    missing: Sequence[str] = (),
) -> Dataset:
    """Load a data set by name, or from a file or folder.

    Parameters
    ----------
    name_or_path
        One of `names`; or a folder of images (png, jpg, webp, bmp, gif, tif), of parquet files or of WebDataset tars;
        a ``.npy``, ``.npz``, ``.csv``, ``.parquet``, ``.h5``, ``.h5ad`` or ``.tar`` file, or a Zarr folder. A path that
        is spelt like a name needs a ``./`` in front.
    home
        Folder with a sub-folder per named data set; looked into before ``$VAELAB_DATA`` and the cache folder.
    download
        Fetch a named data set that is absent from the Hugging Face hub into the first of these.
    image_size
        Side, or (height, width), that image files are resized to; what does not fit is cut off evenly.
    grey
        True for one channel, False for RGB, None for what the files have.
    test_fraction, seed
        Share and seed of the random test split, for sources that bring no split of their own (digits: always a fifth).
    label_column
        Column of a table or parquet file that holds the class; of a store the array, of an annotated matrix the column
        of ``obs``, of tars the entry or the field of ``.json``.
    memory_map
        True leaves a ``.npy`` file on disk, False reads it into memory; None does so from 1 GB on. Rows of stores and
        tars are written to the cache folder once where they are more than 256 MB, or with True.
    key
        Which array of a store holds the rows, such as ``"layers/counts"``, or which entry of a sample in tars.
    mixed
        Keep columns of text and missing entries of a table, for ``likelihood="mixed"``; else they are refused. None
        codes a table that has any, and no other.
    columns
        Of such a table: column → what it is taken for, such as a value of `vaelab.specs.Column`.
    separator
        Of the columns of a CSV file, one character; found out if None.
    missing
        What stands for a missing entry of a CSV file, beside nothing, ``NA``, ``?`` and their kin.

    Returns
    -------
    Dataset
        Rows in the source's units: uint8 images, or what the arrays hold.

    Raises
    ------
    InputError
        It does not exist, cannot be read, or cannot be trained on.
    MissingExtraError
        `download` needs an optional package that is absent.
    """
    options = LoadOptions(
        _size(image_size),
        grey,
        test_fraction,
        seed,
        label_column,
        memory_map,
        key=key,
        mixed=mixed,
        columns=columns or {},
        separator=separator,
        missing=tuple(missing or ()),
    )
    if columns and not mixed:
        raise InputError("columns without mixed=True", "it beside mixed=True", "A table of numbers has no kinds.")
    check_share("test_fraction", test_fraction)
    check_seed(seed)
    return _read(name_or_path, options, home=home, download=download)


def load_rows(
    name_or_path: str | Path,
    *,
    home: Path | str | None = None,
    image_size: int | tuple[int, int] | None = None,
    grey: bool | None = None,
    label_column: str | None = None,
    memory_map: bool | None = None,
    key: str | None = None,
    schema: Schema | None = None,
    separator: str | None = None,
    missing: Sequence[str] = (),
) -> tuple[Rows, tuple[str, ...] | None]:
    """Read all rows of a source in its own order, for a model that is trained already.

    Where the source brings a split, its training rows come first and its test rows after them. Labels are not read.

    Parameters
    ----------
    name_or_path, home, memory_map, key
        As for `load`.
    image_size, grey
        As for `load`; passed over where the source holds no image files.
    label_column
        Column that is left out, if it is there.
    schema
        That of a model with ``likelihood="mixed"``, by which a table is coded.
    separator, missing
        As for `load`.

    Returns
    -------
    x : Tensor or MappedArray
        (n, d) or (n, C, H, W), at least one row, in the source's units.
    columns : tuple of str, or None
        Names of a table's columns, if known.

    Raises
    ------
    InputError
        It does not exist, or cannot be read.
    """
    options = LoadOptions(
        _size(image_size),
        grey,
        label_column=label_column,
        memory_map=memory_map,
        key=key,
        whole=True,
        schema=schema,
        separator=separator,
        missing=tuple(missing or ()),
    )
    found = _read(name_or_path, options, home=home, download=False)
    if not len(found.test):
        return found.train.x, found.columns
    # only named data sets are split in spite of `whole`, and those are in memory
    return torch.cat([part.x for part in (found.train, found.test) if isinstance(part.x, Tensor)]), found.columns


def _read(name_or_path: str | Path, options: LoadOptions, *, home: Path | str | None, download: bool) -> Dataset:
    check_kind("data", name_or_path, (str, Path), "a name or a path", "Arrays: vaelab.data.from_arrays(X).")
    if isinstance(name_or_path, str) and name_or_path in names():
        return load_named(name_or_path, options, home=home, download=download)
    path = Path(name_or_path).expanduser()
    if exists(path) and path.is_dir():
        return _load_folder(path, options)
    if not exists(path) or not path.is_file():
        close = difflib.get_close_matches(str(name_or_path), names(), n=1)
        raise InputError(
            f"{str(name_or_path)!r}, which is neither a file, a folder, nor a known name",
            f"one of {', '.join(names())}, or a path",
            f"Did you mean {close[0]!r}?" if close else "",
        )
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}", f"a file ending in {', '.join(_READERS)}, or a folder")
    return reader(path, options)


def _load_folder(folder: Path, options: LoadOptions) -> Dataset:
    if is_zarr(folder):
        return load_zarr(folder, options)
    if any(folder.glob("*.tar")):
        return load_tars(folder, options)
    if any(folder.glob("*.parquet")):
        return load_parquet(folder, options)
    if find_images(folder):
        return load_image_folder(folder, options)
    wanted = "a folder of png, jpg, …, .parquet or .tar files, or a Zarr folder"
    raise InputError(f"{folder} with neither images nor parquet files", wanted)


def _size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    size = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(size) != 2:
        raise InputError(f"image_size={image_size}", "a positive side, or (height, width)")
    for side in size:
        check_count("image_size", side, most=_LARGEST)
    return int(size[0]), int(size[1])
