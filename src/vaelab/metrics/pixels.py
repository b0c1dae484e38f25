"""Pixel values: what happens to images between a network and the features that a distance is computed on.

Everything here takes and returns floating-point images (n, C, H, W) in pixel values 0 … 255, never in place;
`pixel_values` is the door through which images of other ranges come in.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from PIL import Image
from torch import Tensor

from vaelab.errors import InputError

_TOLERANCE = 1e-3  # beyond [0, 1]; what float16 and a resize may add
_NOISE = 1e-4  # grey levels; scaling whole levels to [0, 1] or [−1, 1] and back in float32 leaves up to 3e-5


def pixel_values(images: Tensor, *, name: str = "images") -> Tensor:
    """Return images as pixel values 0 … 255 in float32, on the same device.

    Works on blocks of a data set, so an image is refused only for what no image in [0, 1] can hold: a block that merely
    looks dark is taken.

    Parameters
    ----------
    images
        (n, C, H, W): uint8, which keep their values, or floating point in [0, 1], which are multiplied by 255. Values
        up to 0.001 outside are clipped, and those within 0.0001 of a whole grey level become whole, since a level that
        lost its last digit by scaling would be truncated to the one below.
    name
        What messages call them.

    Raises
    ------
    InputError
        Not four dimensions, channels last, no images, NaN or infinity, another range or dtype.
    """
    _check_layout(images, name)
    if images.dtype == torch.uint8:
        return images.float()
    if not images.is_floating_point():
        raise InputError(
            f"{name} of dtype {images.dtype}",
            "uint8 in [0, 255] or floating point in [0, 1]",
            "Masks: images.float(); whole numbers from 0 to 255: images.to(torch.uint8).",
        )
    bad = int((~torch.isfinite(images)).flatten(1).any(1).sum())
    if bad:
        raise InputError(
            f"NaN or infinity in {bad} of {len(images)} {name}", "finite values", "Look at what made them."
        )
    low, high = float(images.amin()), float(images.amax())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        looks, remedy = _range_of(low, high)
        raise InputError(
            f"{name} in [{low:g}, {high:g}], which {looks}", "floating point in [0, 1], or uint8 in [0, 255]", remedy
        )
    levels = images.float().clamp(0, 1) * 255
    whole = levels.round()
    return torch.where((levels - whole).abs() < _NOISE, whole, levels)


def _check_layout(images: Tensor, name: str) -> None:
    shape = tuple(images.shape)
    wanted = "(n, C, H, W)"
    if images.ndim == 3:
        raise InputError(f"{name} of shape {shape}", wanted, "One channel is named too: images.unsqueeze(1).")
    if images.ndim != 4:
        raise InputError(f"{name} of shape {shape}", wanted, "Rows of pixels: images.reshape(n, C, H, W).")
    if shape[1] not in (1, 3) and shape[3] in (1, 3):
        raise InputError(
            f"{name} of shape {shape}, which looks like channels last", wanted, "Use images.permute(0, 3, 1, 2)."
        )
    if images.numel() == 0:
        raise InputError(f"{name} of shape {shape}", "at least one image with pixels")


def _range_of(low: float, high: float) -> tuple[str, str]:
    """Say what a range other than [0, 1] looks like, and what mends it."""
    if low >= -1 - _TOLERANCE and high <= 1 + _TOLERANCE:
        return "looks like [−1, 1]", "Use (images + 1) / 2; if a decoder merely overshoots, images.clamp(0, 1)."
    if low >= -_TOLERANCE and 2 < high <= 255:
        return "looks like [0, 255]", "Give uint8, or divide by 255."
    return "is no range of pixels", "Undo the scaling; if a decoder merely overshoots, use images.clamp(0, 1)."


def quantise(images: Tensor, how: Literal["round", "truncate", "none"]) -> Tensor:
    """Return whole grey levels, clipped to [0, 255].

    Parameters
    ----------
    images
        (n, C, H, W) pixel values.
    how
        ``"round"`` to the nearest level, halves to the even one; ``"truncate"`` to the level below, as a bare cast to
        uint8 does; ``"none"`` leaves the images as they are, unclipped too.

    Raises
    ------
    InputError
        Not four dimensions, or no floating-point dtype.
    """
    _check_floating(images)
    if how == "none":
        return images
    clipped = images.clamp(0, 255)
    return clipped.round() if how == "round" else clipped.floor()


def stretch(images: Tensor) -> Tensor:
    """Stretch each image by itself, over all its channels, so that it spans [0, 255]; a constant image becomes 0.

    The program of Dai & Wipf 2019 does so to generated images and not to real ones.

    Parameters
    ----------
    images
        (n, C, H, W) pixel values.

    Raises
    ------
    InputError
        Not four dimensions, or no floating-point dtype.
    """
    _check_floating(images)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    span = high - low
    return (images - low) / torch.where(span > 0, span, 1) * 255


def jpeg(images: Tensor, quality: int = 75) -> Tensor:
    """Return what is left of each image after a JPEG file, written and read by Pillow in memory.

    A file holds whole grey levels, so use `quantise` first. Colour files keep chroma at half the resolution, Pillow's
    default.

    Parameters
    ----------
    images
        (n, 1, H, W) grey or (n, 3, H, W) RGB pixel values, whole.
    quality
        1 … 100, Pillow's scale; its default is 75.

    Raises
    ------
    InputError
        Another shape or dtype, values that are not whole or outside 0 … 255, or a quality out of range.
    """
    _check_floating(images)
    if images.shape[1] not in (1, 3):
        raise InputError(f"images of {images.shape[1]} channels", "1 (grey) or 3 (RGB) channels")
    if not 1 <= quality <= 100:
        raise InputError(f"quality={quality}", "1 … 100")
    levels = images.detach().cpu()
    whole = levels.clamp(0, 255).round()
    if not torch.equal(whole, levels):
        raise InputError(
            "pixel values that are not whole grey levels 0 … 255",
            "what an 8-bit file can hold",
            'Use quantise(images, "round") first.',
        )
    rows = whole.to(torch.uint8).permute(0, 2, 3, 1).numpy()
    back = np.empty_like(rows)
    for row, out in zip(rows, back, strict=True):
        out[...] = _through_file(row, quality)
    return torch.from_numpy(back).permute(0, 3, 1, 2).contiguous().to(images)


def _through_file(row: np.ndarray, quality: int) -> np.ndarray:
    """Write and read one (H, W, C) image of uint8."""
    file = io.BytesIO()
    Image.fromarray(row[..., 0] if row.shape[2] == 1 else row).save(file, format="JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image).reshape(row.shape)


def resize(images: Tensor, size: tuple[int, int], how: Literal["tf1-bilinear", "bilinear"]) -> Tensor:
    """Resize by bilinear interpolation between the two nearest pixels of each axis; no antialiasing.

    Parameters
    ----------
    images
        (n, C, H, W) pixel values.
    size
        (height, width) wanted.
    how
        Where target pixel i lies in an axis resized from n_in to n_out pixels. ``"tf1-bilinear"``: at i·n_in/n_out, so
        that the first pixels coincide and the last ones are repeated, as in TensorFlow 1's ``resize_bilinear`` with its
        defaults. ``"bilinear"``: at (i + ½)·n_in/n_out − ½, so that the borders coincide, as in
        ``torch.nn.functional.interpolate`` with ``align_corners=False``. Enlarged images differ by a shift of up to
        half a source pixel.

    Raises
    ------
    InputError
        Not four dimensions, no floating-point dtype, or a size below 1.
    """
    _check_floating(images)
    if min(size) < 1:
        raise InputError(f"size={size}", "a height and a width of at least 1")
    if how == "bilinear":
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=False)
    height, width = size
    return _corner_anchored(_corner_anchored(images, 3, width), 2, height)


def _corner_anchored(images: Tensor, axis: int, target: int) -> Tensor:
    """Resize one axis with source coordinates i·n_in/n_out; in float32, as in TensorFlow, for images up to float32."""
    source = images.shape[axis]
    dtype = torch.promote_types(images.dtype, torch.float32)
    at = torch.arange(target, dtype=dtype, device=images.device) * (source / target)
    lower = at.long()
    upper = (lower + 1).clamp(max=source - 1)
    weight = (at - lower).to(images.dtype).reshape(-1, *[1] * (3 - axis))
    start = images.index_select(axis, lower)
    return start + (images.index_select(axis, upper) - start) * weight


def as_rgb(images: Tensor) -> Tensor:
    """Return (n, 3, H, W): RGB images as they are, grey ones with their channel repeated (a view).

    Raises
    ------
    InputError
        Not four dimensions, or neither 1 nor 3 channels.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"images of shape {tuple(images.shape)}", "(n, 1, H, W) grey or (n, 3, H, W) RGB")
    return images.expand(-1, 3, -1, -1)


def _check_floating(images: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            f"images of shape {tuple(images.shape)} and dtype {images.dtype}",
            "(n, C, H, W) pixel values 0 … 255 in floating point",
            "Use pixel_values(images).",
        )
