"""The InfoGAN networks, the neutral architecture for comparisons.

References
----------
Chen et al. 2016.
Lucic et al. 2018.
Dai & Wipf 2019, Table 1.
"""

from __future__ import annotations

from typing import Final, final

from torch import nn

from vaelab.nets.convolution import (
    SameConv2d,
    SpectralLinear,
    batch_norm,
    cropping,
    doubling,
    image_shape,
    start_grid,
)
from vaelab.nets.network import Decoder, Encoder

_STD: Final = 0.02
_DOUBLINGS: Final = 2


@final
class InfoGANEncoder(Encoder):
    """Two strided convolutions and two dense layers, all spectrally normalised; raw output, no link.

    conv 4×4 s2 64, LeakyReLU 0.2 → conv 4×4 s2 128, BN, LeakyReLU → flatten (the condition joins) → dense 1024, BN,
    LeakyReLU → dense `out_features`. The posterior applies its own link. Weights start from N(0, 0.02²), truncated at
    two standard deviations for convolutions; biases from 0.

    Parameters
    ----------
    event_shape
        (C, H, W), H and W of at least 8.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    condition_dim
        Width of the condition; 0 for none.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> InfoGANEncoder((1, 28, 28), 2 * 8).eval()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self, event_shape: tuple[int, ...], out_features: int, *, condition_dim: int = 0, norm_decay: float = 0.999
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        channels, height, width = image_shape("event_shape", event_shape)
        half, quarter = (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))
        self.features = nn.Sequential(
            SameConv2d(channels, 64, 4, size=(height, width), stride=2, spectral=True),
            nn.LeakyReLU(0.2, inplace=True),
            SameConv2d(64, 128, 4, size=half, stride=2, spectral=True),
            batch_norm(128, norm_decay),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            SpectralLinear(128 * quarter[0] * quarter[1] + condition_dim, 1024),
            batch_norm(1024, norm_decay, axes=0),
            nn.LeakyReLU(0.2, inplace=True),
            SpectralLinear(1024, out_features),
        )
        self.apply(_initialise)


@final
class InfoGANDecoder(Decoder):
    """Two dense layers and two transposed convolutions; raw output, the likelihood applies its own link.

    dense 1024, BN, ReLU → dense 128·⌈H/4⌉·⌈W/4⌉, BN, ReLU → deconv 4×4 s2 64, BN, ReLU → deconv 4×4 s2 C → centre
    crop to H×W where 4 does not divide them. Weights start from N(0, 0.02²), biases from 0.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        (C, H, W), H and W of at least 8.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> InfoGANDecoder(8, (1, 28, 28)).eval()(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self, latent_dim: int, out_shape: tuple[int, ...], *, condition_dim: int = 0, norm_decay: float = 0.999
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        channels, *size = image_shape("out_shape", out_shape)
        grid = start_grid((size[0], size[1]), _DOUBLINGS)
        units = 128 * grid[0] * grid[1]
        self.body = nn.Sequential(
            nn.Linear(latent_dim + condition_dim, 1024),
            batch_norm(1024, norm_decay, axes=0),
            nn.ReLU(inplace=True),
            nn.Linear(1024, units),
            batch_norm(units, norm_decay, axes=0),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (128, *grid)),
            doubling(128, 64, 4),
            batch_norm(64, norm_decay),
            nn.ReLU(inplace=True),
            doubling(64, channels, 4),
            *cropping((size[0], size[1]), _DOUBLINGS),
        )
        self.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """Start one layer as the published program does."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=_STD, a=-2 * _STD, b=2 * _STD)
    elif isinstance(module, nn.Linear | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=_STD)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
