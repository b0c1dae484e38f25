"""Image files to one uint8 array: decoding, cropping, resizing, and what to say when they do not fit together."""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaelab.arguments import check_memory
from vaelab.errors import InputError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Of files that are images."""

_GREY = frozenset({"1", "L", "LA", "La"})
_DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_CHUNK = 1024
_THREADS_FROM = 4096  # bytes; smaller files spend their time in Python, where threads only get in each other's way
_ORIENTATION = 0x0112  # EXIF tag
_ONE_PICTURE = frozenset({"JPEG", "MPO", "BMP", "PPM"})  # formats of one; in MPO the others are for viewers


@dataclass(frozen=True)
class EncodedImage:
    """One image file, or the bytes of one."""

    content: bytes | Path
    name: str

    def open(self) -> Image.Image:
        """Open it; pixels are not decoded yet.

        Raises
        ------
        InputError
            It is no image.
        """
        try:
            content = self.content
            if isinstance(content, Path) and content.suffix.lower() in (".tif", ".tiff"):
                content = content.read_bytes()  # Pillow spoils grey ones that it turns and maps into memory
            return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise _unreadable(self.name, error) from error


@dataclass(frozen=True)
class Preparation:
    """What is done to every image before it becomes an array.

    Attributes
    ----------
    expected
        (height, width) that every file must have, or None for any; a crop means nothing elsewhere.
    crop
        (top, left, height, width) in pixels, or None.
    size
        (height, width) after resizing and cropping in the centre, or None. Bilinear, with antialiasing.
    grey
        True: one channel; False: RGB; None: as in the file, transparency dropped.
    """

    expected: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    size: tuple[int, int] | None = None
    grey: bool | None = None

    def apply(self, image: Image.Image) -> Pixels:
        """Return (C, H, W) uint8."""
        if orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        mode = "L" if is_grey(image.mode, self.grey) else "RGB"
        image = image if image.mode == mode else image.convert(mode)
        if self.crop is not None:
            top, left, height, width = self.crop
            image = image.crop((left, top, left + width, top + height))
        if self.size is not None and (image.height, image.width) != self.size:
            image = ImageOps.fit(image, (self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)

    def read(self, encoded: EncodedImage) -> Pixels:
        """Decode one file.

        Raises
        ------
        InputError
            It is broken, of another size than expected, holds more than 8 bits per channel, or several pictures.
        """
        with encoded.open() as image:
            count = 1 if image.format in _ONE_PICTURE else getattr(image, "n_frames", 1)
            if count > 1:
                got = f"{encoded.name} with {count} pictures in one file"
                raise InputError(got, "one picture per file", "Save each as a file of its own.")
            if image.mode in _DEEP or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
                raise InputError(
                    f"{encoded.name} with pixels of mode {image.mode}, more than 8 bits",
                    "8-bit images",
                    "Convert them, or save them as one .npy array of floats (n, C, H, W).",
                )
            if self.expected is not None and (image.height, image.width) != self.expected:
                raise InputError(
                    f"{encoded.name} of {image.height}×{image.width} pixels (height×width)",
                    f"{self.expected[0]}×{self.expected[1]}",
                    "This is another version of the data set.",
                )
            try:
                return self.apply(image)
            except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for files cut off or malformed
                raise _unreadable(encoded.name, error) from error


def orientation(image: Image.Image) -> int:
    """Return how the camera was held, as EXIF has it: 1 for upright; 5 to 8 lie on their side."""
    if image.format == "TIFF":  # Pillow turns these when it reads their pixels
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (TypeError, ValueError, SyntaxError):  # a damaged tag says nothing
        return 1


def is_grey(mode: str, grey: bool | None) -> bool:
    """Tell whether an image of this Pillow mode becomes one channel."""
    return mode in _GREY if grey is None else grey


def decode(images: Callable[[], Iterable[EncodedImage]], n: int, preparation: Preparation, *, source: str) -> Pixels:
    """Decode n images into one array.

    Parameters
    ----------
    images
        Starts an iteration over the files; called again only to explain a failure.
    n
        Their number.
    preparation
        What is done to each.
    source
        For messages.

    Returns
    -------
    ndarray
        (n, C, H, W) uint8.

    Raises
    ------
    InputError
        A file is broken, or sizes or channels differ.
    """
    array: Pixels | None = None
    done = 0
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        for chunk in _chunks(images()):
            threaded = workers > 1 and _bytes(chunk[0]) >= _THREADS_FROM
            for pixels in pool.map(preparation.read, chunk) if threaded else map(preparation.read, chunk):
                if array is None:
                    _check_memory(n, pixels.nbytes)
                    array = np.empty((n, *pixels.shape), np.uint8)
                if pixels.shape != array.shape[1:]:
                    raise _mismatch(images(), preparation, source)
                array[done] = pixels
                done += 1
    if array is None or done != n:
        raise InputError(f"{done} images in {source}", f"{n} of them", "Restore the files from a copy.")
    return array


def resize(array: Pixels, preparation: Preparation) -> Pixels:
    """Apply a preparation to (n, C, H, W) that is already decoded."""
    if preparation.size is not None:
        _check_memory(len(array), array.shape[1] * math.prod(preparation.size))
    planes = (Image.fromarray(x[0] if len(x) == 1 else x.transpose(1, 2, 0)) for x in array)
    return np.stack([preparation.apply(image) for image in planes])


def _check_memory(n: int, size: int) -> None:
    """Refuse n images of so many bytes each where they do not fit."""
    check_memory(f"{n:,} images of {size:,} bytes each", n * size, "Pass a smaller image_size.")


def _chunks(images: Iterable[EncodedImage]) -> Iterator[Sequence[EncodedImage]]:
    iterator = iter(images)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _bytes(image: EncodedImage) -> int:
    return len(image.content) if isinstance(image.content, bytes) else image.content.stat().st_size


def _mismatch(images: Iterable[EncodedImage], preparation: Preparation, source: str) -> InputError:
    """Look at all headers to say what is mixed."""
    sizes: Counter[tuple[int, int]] = Counter()
    colours: Counter[str] = Counter()
    for encoded in images:
        with encoded.open() as image:
            size = (image.height, image.width)
            on_its_side = orientation(image) >= 5
            sizes[size[::-1] if on_its_side else size] += 1
            colours["grey" if is_grey(image.mode, preparation.grey) else "RGB"] += 1
    if len(colours) > 1:
        return InputError(
            f"{colours['grey']} grey and {colours['RGB']} colour images in {source}",
            "one kind",
            "Convert them all: grey=True (--grey) for one channel, grey=False (--no-grey) for RGB.",
        )
    shown = ", ".join(f"{count} of {height}×{width}" for (height, width), count in sizes.most_common(5))
    more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
    smallest = min(min(size) for size in sizes)
    return InputError(
        f"{sum(sizes.values())} images of {len(sizes)} sizes in {source}: {shown}{more} (height×width)",
        "one size",
        f"Resize and crop them in the centre: image_size=N (--image-size N); the shortest side is {smallest} pixels.",
    )


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(
        f"{name}, which cannot be read as an image ({error})", "a whole image file", "Remove or replace it."
    )
