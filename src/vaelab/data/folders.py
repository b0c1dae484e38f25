"""A folder of image files: splits and classes from its sub-folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaelab.data.assembly import assemble
from vaelab.data.dataset import Dataset
from vaelab.data.images import SUFFIXES, EncodedImage, Pixels, Preparation, decode
from vaelab.data.labels import count_classes
from vaelab.data.options import OF_TEXT, LoadOptions
from vaelab.errors import InputError

_TEST_NAMES = ("test", "validation", "valid", "val")


def load_image_folder(folder: Path, options: LoadOptions) -> Dataset:
    """Load all images below a folder.

    Sub-folders ``train`` and ``test`` (or ``validation``, ``valid``, ``val``) are the splits; without them the split is
    random. Where every image lies exactly one level below its split, the folders' names are the classes.
    """
    options.refuse("a folder of images", "label_column", "memory_map", "key", *OF_TEXT)
    train, test = find_images(folder), []
    held = next((folder / name for name in _TEST_NAMES if (folder / name).is_dir()), None)
    roots = [folder] * len(train)
    if (folder / "train").is_dir() and held is not None:
        train, test = find_images(folder / "train"), find_images(held)
        roots = [folder / "train"] * len(train) + [held] * len(test)
        if train and not test:
            raise _no_images(held)
    if not train:
        raise _no_images(folder)
    files = [*train, *test]
    pixels = read_images(files, Preparation(size=options.image_size, grey=options.grey), source=str(folder))
    labels, classes = (None, None) if options.whole else _classes(files, roots)
    return assemble(
        torch.from_numpy(pixels),
        options,
        name=folder.resolve().name,
        labels=labels,
        classes=classes,
        source=str(folder),
        train_rows=len(train) if test else None,
    )


def find_images(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted; hidden ones and what macOS adds to archives are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    )


def read_images(files: Sequence[Path], preparation: Preparation, *, source: str) -> Pixels:
    """Decode files to (n, C, H, W) uint8."""
    return decode(lambda: (EncodedImage(path, str(path)) for path in files), len(files), preparation, source=source)


def _classes(files: Sequence[Path], roots: Sequence[Path]) -> tuple[Tensor | None, tuple[str, ...] | None]:
    parents = [path.relative_to(root).parts[:-1] for path, root in zip(files, roots, strict=True)]
    if any(len(parent) != 1 for parent in parents):
        return None, None
    return count_classes([parent[0] for parent in parents], source=str(roots[0]))


def _no_images(folder: Path) -> InputError:
    return InputError(f"no images in {folder}", f"files ending in {', '.join(sorted(SUFFIXES))}")
