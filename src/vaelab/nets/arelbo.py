"""The MNIST networks of the generalised decoder variance, and those of its smoothness study.

References
----------
Takida et al. 2022, appendices I.1 (MNIST) and D.1 (smoothness study).
"""

from __future__ import annotations

from typing import Final, final

from torch import nn

from vaelab.nets.convolution import SameConv2d, batch_norm, cropping, doubling, image_shape, start_grid
from vaelab.nets.network import Decoder, Encoder, whole

_DOUBLINGS: Final = 2
_DENSE: Final = 16
"""Units of the dense layer, as a multiple of the base width."""


@final
class ARELBOEncoder(Encoder):
    """Two strided convolutions and two dense layers; raw output, the posterior applies its own link.

    conv 5×5 s2 64, ReLU → conv 5×5 s2 128, ReLU → flatten (the condition joins) → dense 1024, BN, ReLU → dense
    `out_features`.

    Parameters
    ----------
    event_shape
        (C, H, W), H and W of at least 8.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    condition_dim
        Width of the condition; 0 for none.
    base_width
        Channels of the first convolution, w; the others are 2w and 16w. The paper's is 64.
    kernel
        Side of the convolutions: 5, or 4 in the smoothness study.
    norm
        Normalise the dense layer; False in the smoothness study.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> ARELBOEncoder((1, 28, 28), 2 * 16, base_width=4).eval()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 32])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        out_features: int,
        *,
        condition_dim: int = 0,
        base_width: int = 64,
        kernel: int = 5,
        norm: bool = True,
        norm_decay: float = 0.999,
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        channels, height, width = image_shape("event_shape", event_shape)
        base, side = whole("base_width", base_width), whole("kernel", kernel, least=2)
        half, quarter = (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))
        self.features = nn.Sequential(
            SameConv2d(channels, base, side, size=(height, width), stride=2),
            nn.ReLU(inplace=True),
            SameConv2d(base, 2 * base, side, size=half, stride=2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * base * quarter[0] * quarter[1] + condition_dim, _DENSE * base),
            *([batch_norm(_DENSE * base, norm_decay, axes=0)] if norm else []),
            nn.ReLU(inplace=True),
            nn.Linear(_DENSE * base, out_features),
        )


@final
class ARELBODecoder(Decoder):
    """Two dense layers and two transposed convolutions; raw output, the likelihood applies its own link.

    dense 1024, BN, ReLU → dense 128·⌈H/4⌉·⌈W/4⌉, BN, ReLU → deconv 5×5 s2 64, BN, ReLU → deconv 5×5 s2 C → centre
    crop to H×W where 4 does not divide them.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        (C, H, W), H and W of at least 8.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.
    base_width
        Channels before the last layer, w; the others are 2w and 16w. The paper's is 64.
    kernel
        Side of the transposed convolutions: 5, or 4 in the smoothness study.
    norm
        Normalise every layer but the last; False in the smoothness study.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> ARELBODecoder(8, (1, 28, 28), base_width=4, kernel=4, norm=False)(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: tuple[int, ...],
        *,
        condition_dim: int = 0,
        base_width: int = 64,
        kernel: int = 5,
        norm: bool = True,
        norm_decay: float = 0.999,
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        channels, *size = image_shape("out_shape", out_shape)
        base, side = whole("base_width", base_width), whole("kernel", kernel, least=2)
        grid = start_grid((size[0], size[1]), _DOUBLINGS)
        units = 2 * base * grid[0] * grid[1]

        def activated(layer: nn.Module, width: int, axes: int) -> list[nn.Module]:
            return [layer, *([batch_norm(width, norm_decay, axes=axes)] if norm else []), nn.ReLU(inplace=True)]

        self.body = nn.Sequential(
            *activated(nn.Linear(latent_dim + condition_dim, _DENSE * base), _DENSE * base, 0),
            *activated(nn.Linear(_DENSE * base, units), units, 0),
            nn.Unflatten(1, (2 * base, *grid)),
            *activated(doubling(2 * base, base, side), base, 2),
            doubling(base, channels, side),
            *cropping((size[0], size[1]), _DOUBLINGS),
        )
