"""Data sets by name: where they lie, what they look like, and how they are fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.assembly import assemble
from vaelab.data.cache import cache_folder, decoded
from vaelab.data.dataset import Dataset, TestSplit, TrainSplit
from vaelab.data.extras import require
from vaelab.data.faces import faces
from vaelab.data.folders import find_images, read_images
from vaelab.data.images import Preparation, resize
from vaelab.data.options import OF_TEXT, LoadOptions
from vaelab.data.parquet import find_splits, image_table, label_splits
from vaelab.errors import InputError
from vaelab.storage import replace_file

HOME_VARIABLE = "VAELAB_DATA"

CELEBA_TRAIN, CELEBA_VALIDATION = 162_770, 182_637
"""Rows at which CelebA's official training and validation splits end (list_eval_partition.txt)."""

_ALIGNED = (218, 178)  # height and width of CelebA's aligned images, which the crops refer to


@final
@dataclass(frozen=True)
class Named:
    """A data set that has a name.

    Attributes
    ----------
    name
        What `load` calls it.
    description
        One line.
    shape
        Of one row.
    folder
        Below a data home; empty if bundled.
    hub_id
        On the Hugging Face hub; empty if bundled.
    crop
        (top, left, height, width) that is cut out of each image, or None.
    size
        (height, width) that the crop is resized to, or None.
    """

    name: str
    description: str
    shape: tuple[int, ...]
    folder: str = ""
    hub_id: str = ""
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None


_CELEBA = "Faces, aligned; crop of {0}×{0} pixels resized to 64×64; 162,770 train, 19,962 test"
NAMED = {
    entry.name: entry
    for entry in (
        Named("digits", "Handwritten digits 8×8, bundled with scikit-learn; 1,438 train, 359 test", (1, 8, 8)),
        Named("faces", "Drawn faces on a manifold of 5 dimensions, generated; 4,000 train, 1,000 test", (1, 24, 24)),
        Named("mnist", "Handwritten digits; 60,000 train, 10,000 test", (1, 28, 28), "mnist", "ylecun/mnist"),
        Named(
            "fashion_mnist",
            "Articles of clothing; 60,000 train, 10,000 test",
            (1, 28, 28),
            "fashion_mnist",
            "zalando-datasets/fashion_mnist",
        ),
        Named("cifar10", "Small photographs; 50,000 train, 10,000 test", (3, 32, 32), "cifar10", "uoft-cs/cifar10"),
        # rows 45 to 172 and columns 25 to 152: Dai & Wipf 2019, preprocess.py
        Named("celeba", _CELEBA.format(128), (3, 64, 64), "celeba", "flwrlabs/celeba", (45, 25, 128, 128), (64, 64)),
        # rows 39 to 178 and columns 19 to 158: Tolstikhin et al. 2018, "closecrop"
        Named("celeba140", _CELEBA.format(140), (3, 64, 64), "celeba", "flwrlabs/celeba", (39, 19, 140, 140), (64, 64)),
    )
}


@final
@dataclass(frozen=True)
class CatalogueEntry:
    """One line of the list of known data sets.

    Attributes
    ----------
    name, description, kind, shape
        What it is.
    present
        Whether it can be loaded without a download.
    where
        The folder it lies in, ``"bundled"``, or ``""`` if it is absent.
    """

    name: str
    description: str
    kind: str
    shape: tuple[int, ...]
    present: bool
    where: str


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(NAMED)


def catalogue(home: Path | str | None = None) -> list[CatalogueEntry]:
    """List the named data sets, and whether they are there.

    Parameters
    ----------
    home
        Looked into first; then ``$VAELAB_DATA`` and the cache folder.
    """
    entries = []
    for entry in NAMED.values():
        found = _find(entry, homes(home)) if entry.folder else None
        where = "bundled" if not entry.folder else str(found or "")
        entries.append(CatalogueEntry(entry.name, entry.description, "image", entry.shape, bool(where), where))
    return entries


def homes(home: Path | str | None) -> tuple[Path, ...]:
    """Return the folders that may hold data sets, the first of them for downloads."""
    chosen = [home, os.environ.get(HOME_VARIABLE) or None]
    return (*(Path(path).expanduser() for path in chosen if path is not None), cache_folder() / "data")


def load_named(name: str, options: LoadOptions, *, home: Path | str | None, download: bool) -> Dataset:
    """Load one of `NAMED`, with its official split; see `vaelab.data.load`.

    Raises
    ------
    InputError
        It is in no data home, and `download` is off.
    MissingExtraError
        The package for downloading is absent.
    """
    entry = NAMED[name]
    options.refuse(f"the data set {name!r}", "label_column", "memory_map", "key", *OF_TEXT)
    expected = _ALIGNED if entry.crop is not None else None
    preparation = Preparation(expected, entry.crop, options.image_size or entry.size, options.grey)
    if not entry.folder:
        return _BUNDLED[name](preparation, options)
    looked = homes(home)
    folder = _find(entry, looked)
    if folder is None and download:
        folder = _download(entry, looked[0] / entry.folder)
    if folder is None:
        raise InputError(
            f"no {name} in {', '.join(str(path / entry.folder) for path in looked)}",
            "its parquet files" + (" or the folder img_align_celeba" if entry.folder == "celeba" else ""),
            f"Set {HOME_VARIABLE} to the folder that holds {entry.folder}/, or pass download=True (--download), which "
            "needs: pip install 'vaelab[download]'.",
        )
    if not find_splits(folder)[0]:
        return _celeba_folder(entry, folder, preparation)
    return _parquet(entry, folder, preparation)


def _find(entry: Named, looked: Sequence[Path]) -> Path | None:
    """Return the first folder that holds the whole data set."""
    for home in looked:
        if all(find_splits(home / entry.folder)):
            return home / entry.folder
        if entry.folder == "celeba":
            for folder in (home / "celeba" / "img_align_celeba", home / "img_align_celeba"):
                if folder.is_dir():
                    return folder
    return None


def _parquet(entry: Named, folder: Path, preparation: Preparation) -> Dataset:
    tables = [image_table(files) for files in find_splits(folder)]
    found = [table for table in tables if table is not None]
    if len(found) < len(tables):
        raise InputError(f"{folder} without a column of images", "the hub's layout: a column {bytes, path}")
    train, test = (torch.from_numpy(table.pixels(preparation, cached=True)) for table in found)
    labels, classes = label_splits(found)
    return Dataset(
        entry.name, "image", TrainSplit(train, labels[0]), TestSplit(test, labels[1]), None, classes, str(folder)
    )


def _celeba_folder(entry: Named, folder: Path, preparation: Preparation) -> Dataset:
    """Read the aligned JPEGs; their sorted names are the order that the official split counts in."""
    files = find_images(folder)
    if len(files) <= CELEBA_VALIDATION:
        raise InputError(
            f"{len(files):,} images in {folder}", "all 202,599 of CelebA's aligned images", "Unpack the archive again."
        )

    def read(part: Sequence[Path]) -> Tensor:
        work = partial(read_images, part, preparation, source=str(folder))
        return torch.from_numpy(decoded(part, f"folder {preparation}", work))

    train, test = read(files[:CELEBA_TRAIN]), read(files[CELEBA_VALIDATION:])
    return Dataset(entry.name, "image", TrainSplit(train), TestSplit(test), source=str(folder))


def _digits(preparation: Preparation, options: LoadOptions) -> Dataset:
    """scikit-learn's digits: counts 0 … 16 become 0 … 255 by rounding 255/16 times the count."""
    from sklearn.datasets import load_digits  # over a second to import

    bunch = load_digits()
    return assemble(
        _prepared(np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None], preparation),
        replace(options, test_fraction=0.2, whole=False),
        name="digits",
        source="scikit-learn: Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), its test part",
        labels=torch.from_numpy(bunch.target.astype(np.int64)),
        classes=tuple(str(digit) for digit in range(10)),
    )


def _faces(preparation: Preparation, options: LoadOptions) -> Dataset:
    """Drawn faces, always the same ones: see `vaelab.data.faces`."""
    return assemble(
        _prepared(faces(5000), preparation),
        replace(options, test_fraction=0.2, whole=False),
        name="faces",
        source="drawn by vaelab.data.faces",
    )


def _prepared(pixels: NDArray[np.uint8], preparation: Preparation) -> Tensor:
    if preparation.size is not None or preparation.grey is False:
        pixels = resize(pixels, preparation)
    return torch.from_numpy(pixels)


_BUNDLED = {"digits": _digits, "faces": _faces}


def _download(entry: Named, folder: Path) -> Path:
    """Fetch from the hub and write the parquet layout; the training split last, so that half is taken for nothing."""
    datasets = require("datasets", "download", f"Downloading {entry.name}")
    splits = datasets.load_dataset(entry.hub_id)
    for split in sorted(splits, key=lambda name: name == "train"):
        target = folder / f"{split}-00000-of-00001.parquet"
        replace_file(target, partial(_write_parquet, splits[split]))
    return folder


def _write_parquet(rows: Any, path: Path) -> None:
    rows.to_parquet(str(path))
