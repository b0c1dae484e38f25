"""The networks of the regularised autoencoders.

The MNIST and CIFAR-10 networks of the paper's program take pixels x in [0, 1] to 2x − 1 first; all encoders here do.
The CelebA network does not, which is the same network up to the value that stands outside the image: grey here, black
there.

References
----------
Ghosh et al. 2020, appendix.
Miyato et al. 2018, algorithm 1.
"""

from __future__ import annotations

from math import log2
from typing import Final, Literal, final

from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.convolution import (
    CentreCrop,
    SameConv2d,
    SpectralConvTranspose2d,
    SpectralLinear,
    batch_norm,
    cropping,
    image_shape,
    start_grid,
)
from vaelab.nets.network import Decoder, Encoder, whole

_LEVELS: Final = 3  # doublings of the width, from w to 8w
_GRID: Final = 8  # side of the decoder's first map

Ends = Literal["normalised", "plain"]


@final
class _Centred(nn.Module):
    """[0, 1] → [−1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


@final
class RAEEncoder(Encoder):
    """Four strided convolutions and one dense layer; raw output, the posterior applies its own link.

    2x − 1 → conv 4×4 s2 128 → 256 → 512 → 1024, each BN, ReLU → flatten (the condition joins) → dense `out_features`.

    Parameters
    ----------
    event_shape
        (C, H, W), H and W of at least 8; pixels in [0, 1].
    out_features
        Width of the output: κ for a deterministic code of κ dimensions, 2κ for its mean and scale.
    condition_dim
        Width of the condition; 0 for none.
    base_width
        Channels of the first convolution, doubled by each of the others; the paper's is 128.
    kernel
        Side of the convolutions: 4 for MNIST and CIFAR-10, 5 for CelebA.
    spectral
        Normalise the convolutions and the dense layer to largest singular value 1 (RAE-SN).
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.
    ends
        ``"plain"``: pixels as they are, and no normalisation after the first convolution, as Takida et al. 2022 have it
        for CelebA (appendix I.2).

    Examples
    --------
    >>> import torch
    >>> RAEEncoder((3, 32, 32), 8, base_width=4, spectral=True).eval()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        out_features: int,
        *,
        condition_dim: int = 0,
        base_width: int = 128,
        kernel: int = 4,
        spectral: bool = False,
        norm_decay: float = 0.99,
        ends: Ends = "normalised",
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        before, height, width = image_shape("event_shape", event_shape)
        side = whole("kernel", kernel, least=2)
        layers: list[nn.Module] = [] if ends == "plain" else [_Centred()]
        for level in range(_LEVELS + 1):
            after = whole("base_width", base_width) << level
            layers += [
                SameConv2d(before, after, side, size=(height, width), stride=2, spectral=spectral),
                *_norm(after, norm_decay, leave_out=ends == "plain" and not level),
                nn.ReLU(inplace=True),
            ]
            before, height, width = after, -(-height // 2), -(-width // 2)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = _dense(before * height * width + condition_dim, out_features, spectral)


@final
class RAEDecoder(Decoder):
    """One dense layer and transposed convolutions; raw output, the likelihood applies its own link.

    dense 1024·h·w → (deconv 4×4 s2 of half the width, BN, ReLU) until the image is covered → deconv 4×4 s1 C → centre
    crop to H×W. The dense layer has no activation. 32×32 starts from 8×8 and has 512 and 256 channels after it, 64×64
    from 8×8 and has 512, 256 and 128; 28×28 starts from 7×7. The paper pads MNIST to 32×32 instead.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        (C, H, W), H and W of at least 8.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.
    base_width
        An eighth of the channels of the first map; the paper's is 128.
    kernel
        Side of the transposed convolutions: 4 for MNIST and CIFAR-10, 5 for CelebA.
    spectral
        Normalise the dense layer and the transposed convolutions to largest singular value 1 (RAE-SN).
    norm_decay
        Share of the running statistics that batch normalisation keeps per step.
    doublings
        How often the first map is doubled, 1 to 3; by default so that its shorter side is near 8.
    ends
        ``"plain"``: no normalisation after the first transposed convolution; see `RAEEncoder`.

    Raises
    ------
    InputError
        A size or setting is out of range.

    Examples
    --------
    >>> import torch
    >>> RAEDecoder(8, (1, 28, 28), base_width=4).eval()(torch.zeros(5, 8)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: tuple[int, ...],
        *,
        condition_dim: int = 0,
        base_width: int = 128,
        kernel: int = 4,
        spectral: bool = False,
        norm_decay: float = 0.99,
        doublings: int | None = None,
        ends: Ends = "normalised",
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        channels, height, width = image_shape("out_shape", out_shape)
        side = whole("kernel", kernel, least=2)
        if doublings is None:
            doublings = min(max(round(log2(min(height, width) / _GRID)), 1), _LEVELS)
        if whole("doublings", doublings) > _LEVELS:
            raise InputError(f"doublings={doublings}", f"1 to {_LEVELS}", "Leave it out to fit it to the image.")
        grid = start_grid((height, width), doublings)
        before = whole("base_width", base_width) << _LEVELS
        layers: list[nn.Module] = [
            _dense(latent_dim + condition_dim, before * grid[0] * grid[1], spectral),
            nn.Unflatten(1, (before, *grid)),
        ]
        for level in range(doublings):
            after = before // 2
            layers += [
                _transposed(before, after, side, 2, spectral),
                *_norm(after, norm_decay, leave_out=ends == "plain" and not level),
                nn.ReLU(inplace=True),
            ]
            before = after
        layers.append(_transposed(before, channels, side, 1, spectral))
        # an even kernel of stride 1 gives one row and one column too many
        size = (height, width)
        self.body = nn.Sequential(*layers, *(cropping(size, doublings) if side % 2 else [CentreCrop(size)]))


def _norm(width: int, decay: float, *, leave_out: bool) -> list[nn.Module]:
    return [] if leave_out else [batch_norm(width, decay)]


def _dense(before: int, after: int, spectral: bool) -> nn.Linear:
    return SpectralLinear(before, after) if spectral else nn.Linear(before, after)


def _transposed(before: int, after: int, kernel: int, stride: int, spectral: bool) -> nn.ConvTranspose2d:
    """Transposed convolution, padded as `doubling` is; of stride 1 and an even kernel it gives one more H and W."""
    build = SpectralConvTranspose2d if spectral else nn.ConvTranspose2d
    return build(before, after, kernel, stride, (kernel - 1) // 2, kernel % 2 if stride == 2 else 0)
