"""The parts of convolutional networks: padding, doubling, cropping, normalisation.

Image sizes, one rule for all families, any number of channels, 8×8 and more, square or not, even or odd:

- an encoder pads as TensorFlow's SAME does, so that a layer of stride s turns H×W into ⌈H/s⌉×⌈W/s⌉;
- a decoder that doubles k times starts from ⌈H/2ᵏ⌉×⌈W/2ᵏ⌉ and crops the centre H×W of what it reaches.

Spectral normalisation divides a weight matrix W by an estimate of its largest singular value σ. A unit vector u is kept
between steps, and each training step does one power iteration:

    v = Wᵀu / ‖Wᵀu‖,   σ = ‖Wv‖,   u ← Wv / σ

u and v are constants for the gradient; that of ‖Wv‖ with respect to W is then u vᵀ. In evaluation u stays as it is.

References
----------
Miyato et al. 2018, algorithm 1.
Ioffe & Szegedy 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.network import whole

SMALLEST_SIDE = 8


def image_shape(name: str, sizes: Sequence[int]) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` if a convolutional network can take it; raise `InputError` otherwise."""
    if len(sizes) == 3 and sizes[0] >= 1 and min(sizes[1:]) >= SMALLEST_SIDE:
        return int(sizes[0]), int(sizes[1]), int(sizes[2])
    remedy = "Use MLPEncoder and MLPDecoder, which take any shape, or pad the images."
    if len(sizes) == 3 and sizes[2] <= 4 and min(sizes[:2]) >= SMALLEST_SIDE:
        remedy = f"This looks channels-last: permute the images to ({sizes[2]}, {sizes[0]}, {sizes[1]})."
    raise InputError(f"{name}={tuple(sizes)}", f"(C, H, W) with H and W of at least {SMALLEST_SIDE}", remedy)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis of `size`, so that the output has ⌈size/stride⌉; an odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@final
class SameConv2d(nn.Conv2d):
    """A convolution with SAME padding for a known image size: ``(B, C, H, W)`` → ``(B, C′, ⌈H/s⌉, ⌈W/s⌉)``.

    What is equal on both sides is left to the convolution; a pad operation runs only for an odd zero after.

    Parameters
    ----------
    in_channels, out_channels, kernel, stride
        As usual; the kernel is square.
    size
        (H, W) of the input.
    spectral
        Normalise the kernel, as an (out, in · kernel²) matrix, to largest singular value 1.
    """

    u: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        size: tuple[int, int],
        stride: int = 1,
        spectral: bool = False,
    ) -> None:
        (top, bottom), (left, right) = (same_padding(side, kernel, stride) for side in size)
        super().__init__(in_channels, out_channels, kernel, stride, padding=(top, left))
        self.odd = (0, right - left, 0, bottom - top)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0) if spectral else None)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)``."""
        if any(self.odd):
            input = F.pad(input, self.odd)
        weight = self.weight
        if self.u is not None:
            matrix = weight.flatten(1)
            weight = weight / _singular_value(matrix @ _right_vector(matrix, self.u), self.u, self.training)
        out: Tensor = self._conv_forward(input, weight, self.bias)
        return out


@final
class SpectralLinear(nn.Linear):
    """A dense layer whose weight is normalised to largest singular value 1: ``(B, in)`` → ``(B, out)``.

    The output is divided by σ, which equals dividing the larger weight. v travels through the product as one more row,
    so that Wv, and its gradient, cost no further pass over W.
    """

    u: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("u", F.normalize(torch.randn(out_features), dim=0))

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(B, in)`` to ``(B, out)``."""
        v = _right_vector(self.weight, self.u)
        product = F.linear(torch.cat((input, v[None])), self.weight)
        sigma = _singular_value(product[-1], self.u, self.training)
        out: Tensor = torch.addcdiv(self.bias, product[:-1], sigma)
        return out


@final
class SpectralConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose kernel is normalised: ``(B, C, H, W)`` → ``(B, C′, sH + …, sW + …)``.

    What has largest singular value 1 is the kernel as a (C, C′ · kernel²) matrix, as in the program of the regularised
    autoencoders. ``torch.nn.utils.parametrizations.spectral_norm`` takes it as (C′, C · kernel²) instead, and gives
    modules that cannot be pickled.

    Parameters
    ----------
    in_channels, out_channels, kernel, stride, padding, output_padding
        As for the layer without normalisation.
    """

    u: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int, output_padding: int
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding, output_padding)
        self.register_buffer("u", F.normalize(torch.randn(in_channels), dim=0))

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Map ``(B, C, H, W)``; the output size is that of the settings."""
        if output_size is not None:
            raise InputError(f"output_size={tuple(output_size)}", "none: the settings fix it")
        matrix = self.weight.flatten(1)
        weight = self.weight / _singular_value(matrix @ _right_vector(matrix, self.u), self.u, self.training)
        padding = cast("tuple[int, ...]", self.padding)
        return F.conv_transpose2d(input, weight, self.bias, self.stride, padding, self.output_padding)


def _right_vector(matrix: Tensor, u: Tensor) -> Tensor:
    """Return v = Wᵀu / ‖Wᵀu‖, a constant for the gradient."""
    with torch.no_grad():
        return F.normalize(matrix.t() @ u, dim=0)


def _singular_value(product: Tensor, u: Tensor, training: bool) -> Tensor:
    """Return σ = ‖Wv‖ from Wv; in training also step u."""
    sigma: Tensor = torch.linalg.vector_norm(product)
    if training:
        with torch.no_grad():
            u.copy_(product / sigma)
    return sigma


def doubling(in_channels: int, out_channels: int, kernel: int) -> nn.ConvTranspose2d:
    """Transposed convolution of stride 2 that takes H×W to exactly 2H×2W.

    For an odd kernel one more row and column is cut before than after, so that no separate crop is needed; TensorFlow
    cuts after, which is the same network mirrored.
    """
    padding = (kernel - 1) // 2
    return nn.ConvTranspose2d(in_channels, out_channels, kernel, 2, padding, output_padding=kernel % 2)


def start_grid(size: tuple[int, int], doublings: int) -> tuple[int, int]:
    """Return the smallest grid that covers `size` after so many doublings: ⌈H/2ᵏ⌉×⌈W/2ᵏ⌉."""
    return -(-size[0] >> doublings), -(-size[1] >> doublings)


@final
class CentreCrop(nn.Module):
    """Keep the centre H×W; where the surplus is odd, one row or column more is lost after than before."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Crop ``(B, C, ≥H, ≥W)`` to ``(B, C, H, W)``."""
        height, width = self.size
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        return x[..., top : top + height, left : left + width]


def cropping(size: tuple[int, int], doublings: int) -> list[nn.Module]:
    """Return the crop that a decoder of so many doublings ends with: one module, or none where it fits exactly."""
    grid = start_grid(size, doublings)
    return [] if (grid[0] << doublings, grid[1] << doublings) == size else [CentreCrop(size)]


def batch_norm(width: int, decay: float, *, axes: int = 2) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Batch normalisation with ε 1e-5 over images (``axes=2``) or features (``axes=0``).

    Parameters
    ----------
    width
        Channels or features.
    decay
        Share of the running mean and variance that a step keeps, in [0, 1); PyTorch's momentum is 1 − decay.
    axes
        Axes after the channels.
    """
    if not 0 <= decay < 1:
        raise InputError(f"norm_decay={decay}", "a number in [0, 1)", "The usual values are 0.9 to 0.999.")
    kind = nn.BatchNorm2d if axes else nn.BatchNorm1d
    return kind(whole("width", width), eps=1e-5, momentum=1 - decay)
