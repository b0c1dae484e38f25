"""Residual networks built from scale blocks.

A *residual block* is (BN → ReLU → conv 3×3) twice, plus a conv 3×3 of the block's input. A *scale block* is
`blocks_per_scale` residual blocks of one width; a dense scale block has dense layers in place of convolutions.

References
----------
Dai & Wipf 2019, Figure 12.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import ceil, log2
from typing import Final, Literal, final

from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.convolution import SameConv2d, batch_norm, cropping, doubling, image_shape, start_grid
from vaelab.nets.network import Decoder, Encoder, whole

_WIDEST: Final = 1024
_SMALLEST_GRID: Final = 2

Pooling = Literal["flatten", "average"]
Layer = Callable[[int, int], nn.Module]
Norm = Callable[[int], nn.Module]


@final
class ResidualBlock(nn.Module):
    """(BN → ReLU → layer) twice, plus a layer of the input; `layer` maps two widths to a convolution or dense layer."""

    def __init__(self, before: int, after: int, layer: Layer, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            norm(before),
            nn.ReLU(inplace=True),
            layer(before, after),
            norm(after),
            nn.ReLU(inplace=True),
            layer(after, after),
        )
        self.shortcut = layer(before, after)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, before, …)`` to ``(B, after, …)``."""
        out: Tensor = self.residual(x).add_(self.shortcut(x))
        return out


@final
class ResNetEncoder(Encoder):
    """Scale blocks with strided convolutions between them, then a dense one; raw output, the posterior applies a link.

    conv 3×3 `base_width` → scale block → (conv 3×3 s2 of twice the width → scale block) × (`scales` − 1) → flatten or
    average (the condition joins) → dense scale block of `dense_width` → dense `out_features`. Widths stop at 1024.

    Parameters
    ----------
    event_shape
        (C, H, W), H and W of at least 8.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    condition_dim
        Width of the condition; 0 for none.
    base_width
        Channels of the first convolution; the paper's is 32, its program's default 16.
    scales
        Number of scale blocks on maps. None: 4 if the shorter side has 64 pixels or more, else 3, so that the last map
        is never smaller than 2×2.
    blocks_per_scale
        Residual blocks in a scale block, the dense one included.
    pooling
        ``"flatten"`` keeps the whole last map (paper), ``"average"`` its mean over space (program).
    dense_width
        Width of the dense scale block.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> ResNetEncoder((3, 32, 32), 2 * 8, base_width=4).eval()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        out_features: int,
        *,
        condition_dim: int = 0,
        base_width: int = 32,
        scales: int | None = None,
        blocks_per_scale: int = 2,
        pooling: Pooling = "flatten",
        dense_width: int = 512,
        norm_decay: float = 0.999,
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        channels, height, width = image_shape("event_shape", event_shape)
        if pooling not in ("flatten", "average"):
            raise InputError(f"pooling={pooling!r}", "'flatten' or 'average'")
        if scales is None:
            scales = 4 if min(height, width) >= 64 else 3
        widths = [_width(base_width, level) for level in range(whole("scales", scales))]
        layers: list[nn.Module] = [SameConv2d(channels, widths[0], 3, size=(height, width))]
        layers += _scale_block(widths[0], widths[0], blocks_per_scale, _conv3, partial(batch_norm, decay=norm_decay))
        for before, after in pairwise(widths):
            layers.append(SameConv2d(before, after, 3, size=(height, width), stride=2))
            layers += _scale_block(after, after, blocks_per_scale, _conv3, partial(batch_norm, decay=norm_decay))
            height, width = -(-height // 2), -(-width // 2)
        if pooling == "average":
            layers.append(nn.AdaptiveAvgPool2d(1))
            height = width = 1
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            *_scale_block(
                widths[-1] * height * width + condition_dim,
                whole("dense_width", dense_width),
                blocks_per_scale,
                nn.Linear,
                partial(batch_norm, decay=norm_decay, axes=0),
            ),
            nn.Linear(dense_width, out_features),
        )


@final
class ResNetDecoder(Decoder):
    """A dense layer to a small map, then doublings with scale blocks; raw output, the likelihood applies its own link.

    dense → map with a shorter side of 2 → (deconv 3×3 s2 of half the width → scale block) until the image is covered →
    conv 3×3 C → centre crop to H×W. The last map has `base_width` channels; going down the widths double up to 1024. A
    power of two needs no crop: 64×64 starts from 2×2×1024 (4096 units), 32×32 from 2×2×512 (2048); 28×28 does as 32×32
    does and is cropped.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        (C, H, W), H and W of at least 8.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.
    base_width
        Channels of the last map.
    blocks_per_scale
        Residual blocks in a scale block.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> ResNetDecoder(8, (1, 28, 28), base_width=4).eval()(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: tuple[int, ...],
        *,
        condition_dim: int = 0,
        base_width: int = 32,
        blocks_per_scale: int = 2,
        norm_decay: float = 0.999,
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        channels, height, width = image_shape("out_shape", out_shape)
        doublings = ceil(log2(min(height, width) / _SMALLEST_GRID))
        grid = start_grid((height, width), doublings)
        widths = [_width(base_width, level) for level in range(doublings, -1, -1)]
        norm = partial(batch_norm, decay=norm_decay)
        layers: list[nn.Module] = [
            nn.Linear(latent_dim + condition_dim, widths[0] * grid[0] * grid[1]),
            nn.Unflatten(1, (widths[0], *grid)),
        ]
        for before, after in pairwise(widths):
            layers.append(doubling(before, after, 3))
            layers += _scale_block(after, after, blocks_per_scale, _conv3, norm)
        layers.append(_conv3(base_width, channels))
        self.body = nn.Sequential(*layers, *cropping((height, width), doublings))


def _width(base: int, level: int) -> int:
    """Channels after so many halvings of the image."""
    return min(whole("base_width", base) << level, _WIDEST)


def _conv3(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, 3, padding=1)


def _scale_block(before: int, after: int, blocks: int, layer: Layer, norm: Norm) -> list[nn.Module]:
    widths = [before] + [after] * whole("blocks_per_scale", blocks)
    return [ResidualBlock(first, second, layer, norm) for first, second in pairwise(widths)]
