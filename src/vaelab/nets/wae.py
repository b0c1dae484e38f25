"""The networks of the Wasserstein autoencoder on CelebA.

References
----------
Tolstikhin et al. 2018, appendix C.2.
"""

from __future__ import annotations

from typing import Final, final

from torch import nn

from vaelab.nets.convolution import SameConv2d, batch_norm, cropping, doubling, image_shape, start_grid
from vaelab.nets.network import Decoder, Encoder, whole

_DOUBLINGS: Final = 3


@final
class WAEEncoder(Encoder):
    """Four convolutions and one dense layer; raw output, the posterior applies its own link.

    conv 5×5 128 s1 → 256 s2 → 512 s2 → 1024 s2, each BN, ReLU → flatten (the condition joins) → dense `out_features`.

    Parameters
    ----------
    event_shape
        (C, H, W), H and W of at least 8.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    condition_dim
        Width of the condition; 0 for none.
    base_width
        Channels of the first convolution, doubled by each of the others; the paper's is 128.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> WAEEncoder((3, 32, 32), 2 * 8, base_width=4).eval()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        out_features: int,
        *,
        condition_dim: int = 0,
        base_width: int = 128,
        norm_decay: float = 0.999,
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        before, height, width = image_shape("event_shape", event_shape)
        layers: list[nn.Module] = []
        for level in range(_DOUBLINGS + 1):
            after, stride = whole("base_width", base_width) << level, 1 if level == 0 else 2
            layers += [
                SameConv2d(before, after, 5, size=(height, width), stride=stride),
                batch_norm(after, norm_decay),
                nn.ReLU(inplace=True),
            ]
            before, height, width = after, -(-height // stride), -(-width // stride)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(before * height * width + condition_dim, out_features)


@final
class WAEDecoder(Decoder):
    """One dense layer and four transposed convolutions; raw output, the likelihood applies its own link.

    dense 1024·⌈H/8⌉·⌈W/8⌉, ReLU → deconv 5×5 512 s2 → 256 s2 → 128 s2, each BN, ReLU → deconv 5×5 C s1 → centre crop to
    H×W where 8 does not divide them.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        (C, H, W), H and W of at least 8.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.
    base_width
        Channels before the last layer; the paper's is 128, and the first map has eight times as many.
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.

    Examples
    --------
    >>> import torch
    >>> WAEDecoder(8, (1, 30, 45), base_width=4).eval()(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 30, 45])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: tuple[int, ...],
        *,
        condition_dim: int = 0,
        base_width: int = 128,
        norm_decay: float = 0.999,
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        channels, *size = image_shape("out_shape", out_shape)
        grid = start_grid((size[0], size[1]), _DOUBLINGS)
        before = whole("base_width", base_width) << _DOUBLINGS
        layers: list[nn.Module] = [
            nn.Linear(latent_dim + condition_dim, before * grid[0] * grid[1]),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (before, *grid)),
        ]
        for _ in range(_DOUBLINGS):
            after = before // 2
            layers += [doubling(before, after, 5), batch_norm(after, norm_decay), nn.ReLU(inplace=True)]
            before = after
        layers.append(nn.ConvTranspose2d(before, channels, 5, padding=2))
        self.body = nn.Sequential(*layers, *cropping((size[0], size[1]), _DOUBLINGS))
