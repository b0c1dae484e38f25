"""How close a reconstruction is to its original: one number per row, for rows or images in [0, peak]."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vaelab.errors import InputError

_WINDOW: Final = 11  # pixels; with σ, K1 and K2 the constants of Wang et al. 2004, section III C
_SIGMA: Final = 1.5
_K1, _K2 = 0.01, 0.03
_NUMBERS_AT_ONCE: Final = 2**21  # float64 numbers per statistic and block


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Squared error Σ (x − y)², summed over the event, as papers on autoencoders report it.

    Parameters
    ----------
    x, y
        (n, *event_shape), originals and reconstructions, in the same units.

    Returns
    -------
    Tensor
        (n,) float64, in squared units of `x`.

    Raises
    ------
    InputError
        Different shapes, or no rows.
    """
    x, y = _pair(x, y)
    return (x - y).square().flatten(1).sum(1)


def psnr(x: Tensor, y: Tensor, *, peak: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio 10 log₁₀(peak² / mean squared error).

    Parameters
    ----------
    x, y
        (n, *event_shape) in [0, peak], originals and reconstructions.
    peak
        Largest possible value: 1, or 255 for pixels in uint8's range.

    Returns
    -------
    Tensor
        (n,) float64, dB; infinite where a row equals its original. Average with care: one such row makes the mean
        infinite.

    Raises
    ------
    InputError
        Different shapes, no rows, or a peak that is not positive.
    """
    x, y = _pair(x, y, peak=peak)
    return 10 * torch.log10(peak**2 / (x - y).square().flatten(1).mean(1))


def ssim(x: Tensor, y: Tensor, *, peak: float = 1.0) -> Tensor:
    """Structural similarity of images: 1 for equal ones, about 0 for unrelated ones.

    Wang et al. 2004, eq. 13, with its constants: a Gaussian window of 11×11 pixels with σ = 1.5, K₁ = 0.01, K₂ = 0.03.
    Only windows that lie within the image count; the mean is over them and over channels.

    Along a side of fewer than 11 pixels the window shrinks to the largest odd number that fits, with the same σ. Such
    numbers compare with others of that image size only.

    Parameters
    ----------
    x, y
        (n, C, H, W) in [0, peak], originals and reconstructions.
    peak
        Largest possible value: 1, or 255 for pixels in uint8's range.

    Returns
    -------
    Tensor
        (n,) float64 in [−1, 1].

    Raises
    ------
    InputError
        Different shapes, no images, or a peak that is not positive.
    """
    if x.ndim != 4:
        raise InputError(f"rows of shape {tuple(x.shape[1:])}", "images (n, C, H, W)", "Use psnr for other rows.")
    _pair(x[:1], y[:1], peak=peak)
    if len(x) != len(y):
        raise InputError(f"{len(x)} and {len(y)} images", "as many of both")
    step = max(1, _NUMBERS_AT_ONCE // x[0].numel())
    parts = [_ssim(x[i : i + step], y[i : i + step], peak) for i in range(0, len(x), step)]
    return torch.cat(parts)


def _ssim(x: Tensor, y: Tensor, peak: float) -> Tensor:
    x, y = x.double(), y.double()
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    # weighted moments about the local means; float64 keeps what the differences cancel
    var_x = _local_mean(x * x) - mean_x.square()
    var_y = _local_mean(y * y) - mean_y.square()
    covariance = _local_mean(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return (above / below).flatten(1).mean(1)


def _local_mean(x: Tensor) -> Tensor:
    """Gaussian-weighted mean in every window within the image, one axis after the other."""
    n, channels, height, width = x.shape
    flat = x.reshape(n * channels, 1, height, width)
    rows, columns = _window(height, x), _window(width, x)
    flat = F.conv2d(F.conv2d(flat, rows.view(1, 1, -1, 1)), columns.view(1, 1, 1, -1))
    return flat.reshape(n, channels, *flat.shape[2:])


def _window(side: int, like: Tensor) -> Tensor:
    """(size,) weights that sum to 1, size the largest odd number up to 11 that fits."""
    size = min(_WINDOW, side - 1 + side % 2)
    distance = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    weights = torch.exp(-0.5 * (distance / _SIGMA).square())
    return weights / weights.sum()


def _pair(x: Tensor, y: Tensor, *, peak: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return both in float64 if they belong together."""
    if x.shape != y.shape or x.ndim < 2 or not x.numel():
        raise InputError(f"shapes {tuple(x.shape)} and {tuple(y.shape)}", "two equal shapes (n, *event_shape), n ≥ 1")
    if not (peak > 0 and math.isfinite(peak)):
        raise InputError(f"peak={peak}", "the largest possible value, above 0", "Use 1 or 255.")
    return x.double(), y.double()
