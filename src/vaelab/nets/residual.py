"""Small residual networks for images, down to a quarter of the size and back.

References
----------
Zheng et al. 2022, appendix A ("Real Data"); widths, activations and the order of layers from the authors' program.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Final, final

from torch import Tensor, nn

from vaelab.nets.convolution import SameConv2d, batch_norm, cropping, doubling, image_shape, start_grid
from vaelab.nets.mlp import MLP
from vaelab.nets.network import Decoder, Encoder, whole

_HALVINGS: Final = 2


@final
class HalvingBlock(nn.Module):
    """Halve H×W: conv 3×3 s2 → BN → PReLU → conv 3×3 → BN, plus conv 1×1 s2 → BN of the input, then PReLU."""

    def __init__(self, before: int, after: int, size: tuple[int, int], norm_decay: float) -> None:
        super().__init__()
        norm = partial(batch_norm, decay=norm_decay)
        self.residual = nn.Sequential(
            SameConv2d(before, after, 3, size=size, stride=2),
            norm(after),
            nn.PReLU(),
            nn.Conv2d(after, after, 3, padding=1),
            norm(after),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, 2), norm(after))
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, before, H, W)`` to ``(B, after, ⌈H/2⌉, ⌈W/2⌉)``."""
        out: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return out


@final
class DoublingBlock(nn.Module):
    """Double H×W: x + (conv 3×3 → BN → PReLU) of x, then deconv 4×4 s2 → BN → PReLU."""

    def __init__(self, width: int, norm_decay: float) -> None:
        super().__init__()
        norm = partial(batch_norm, decay=norm_decay)
        self.residual = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), norm(width), nn.PReLU())
        self.up = nn.Sequential(doubling(width, width, 4), norm(width), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, width, H, W)`` to ``(B, width, 2H, 2W)``."""
        out: Tensor = self.up(x + self.residual(x))
        return out


@final
class ResidualEncoder(Encoder):
    """Two residual blocks of stride 2, their mean over space, a perceptron; raw output, the posterior applies a link.

    conv 3×3 `base_width` → BN → PReLU → block of `base_width` → block of twice the width → mean over space (the
    condition joins) → dense `dense_width` → PReLU → dense `out_features`.

    Parameters
    ----------
    event_shape
        (C, H, W), H and W of at least 8.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    condition_dim
        Width of the condition; 0 for none.
    base_width
        Channels of the first convolution; in the paper 5 without a condition and 32 with one.
    dense_width
        Width of the perceptron's hidden layer.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Raises
    ------
    InputError
        If the images are smaller or not of this form, or a width is below 1.

    Examples
    --------
    >>> import torch
    >>> ResidualEncoder((1, 28, 28), 2 * 8, base_width=5).eval()(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 16])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        out_features: int,
        *,
        condition_dim: int = 0,
        base_width: int = 32,
        dense_width: int = 32,
        norm_decay: float = 0.9,
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        channels, *size = image_shape("event_shape", event_shape)
        width = whole("base_width", base_width)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, padding=1),
            batch_norm(width, norm_decay),
            nn.PReLU(),
        ]
        for level in range(_HALVINGS):
            before = width << max(level - 1, 0)
            layers.append(HalvingBlock(before, width << level, start_grid((size[0], size[1]), level), norm_decay))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        joined = (width << (_HALVINGS - 1)) + condition_dim
        self.head = MLP(joined, out_features, (whole("dense_width", dense_width),), activation="prelu")


@final
class ResidualDecoder(Decoder):
    """A dense layer to a quarter of the size, then two doublings; raw output, the likelihood applies its own link.

    dense → ReLU → ⌈H/4⌉×⌈W/4⌉ map of `base_width` channels → two blocks that double it → conv 3×3 C → centre crop to
    H×W where these are not multiples of 4.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        (C, H, W), H and W of at least 8.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.
    base_width
        Channels of every map; in the paper 5 without a condition and 32 with one.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Raises
    ------
    InputError
        If the images are smaller or not of this form, or a width is below 1.

    Examples
    --------
    >>> import torch
    >>> ResidualDecoder(8, (1, 28, 28), base_width=5).eval()(torch.zeros(3, 8)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: tuple[int, ...],
        *,
        condition_dim: int = 0,
        base_width: int = 32,
        norm_decay: float = 0.9,
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        channels, height, width = image_shape("out_shape", out_shape)
        grid = (whole("base_width", base_width), *start_grid((height, width), _HALVINGS))
        self.body = nn.Sequential(
            nn.Linear(latent_dim + condition_dim, prod(grid)),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, grid),
            *(DoublingBlock(base_width, norm_decay) for _ in range(_HALVINGS)),
            nn.Conv2d(base_width, channels, 3, padding=1),
            *cropping((height, width), _HALVINGS),
        )
