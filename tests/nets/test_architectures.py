"""The families are the published networks: sizes counted by hand, order of layers, initial weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from vaelab.nets import (
    MLP,
    InfoGANDecoder,
    InfoGANEncoder,
    MLPDecoder,
    MLPEncoder,
    ResNetDecoder,
    ResNetEncoder,
    WAEDecoder,
    WAEEncoder,
)

KAPPA = 64


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def conv(kernel: int, before: int, after: int) -> int:
    return kernel * kernel * before * after + after


def dense(before: int, after: int) -> int:
    return before * after + after


def norm(width: int) -> int:
    return 2 * width


def residual(kernel: int, before: int, after: int) -> int:
    """(BN → ReLU → layer) twice, plus the layer of the shortcut; a dense layer is a 1×1 convolution."""
    layers = conv(kernel, before, after) + conv(kernel, after, after) + conv(kernel, before, after)
    return norm(before) + norm(after) + layers


def test_infogan_at_28() -> None:
    encoder = conv(4, 1, 64)  # 16·64 + 64 = 1,088; 28 → 14 pixels
    encoder += conv(4, 64, 128) + norm(128)  # 16·64·128 + 128 + 256 = 131,456; 14 → 7 pixels
    encoder += dense(128 * 7 * 7, 1024) + norm(1024)  # 6272·1024 + 1024 + 2048 = 6,425,600
    encoder += dense(1024, 2 * KAPPA)  # 1024·128 + 128 = 131,200
    decoder = dense(KAPPA, 1024) + norm(1024)  # 64·1024 + 1024 + 2048 = 68,608
    decoder += dense(1024, 128 * 7 * 7) + norm(128 * 7 * 7)  # 1024·6272 + 6272 + 12,544 = 6,441,344
    decoder += conv(4, 128, 64) + norm(64)  # 16·128·64 + 64 + 128 = 131,264
    decoder += conv(4, 64, 1)  # 16·64 + 1 = 1,025
    assert encoder == 6_689_344
    assert decoder == 6_642_241
    assert count(InfoGANEncoder((1, 28, 28), 2 * KAPPA)) == encoder
    assert count(InfoGANDecoder(KAPPA, (1, 28, 28))) == decoder


@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_resnet_at_64(pooling: str) -> None:
    encoder = conv(3, 3, 32) + 2 * residual(3, 32, 32)  # 64×64
    encoder += conv(3, 32, 64) + 2 * residual(3, 64, 64)  # 32×32
    encoder += conv(3, 64, 128) + 2 * residual(3, 128, 128)  # 16×16
    encoder += conv(3, 128, 256) + 2 * residual(3, 256, 256)  # 8×8
    encoder += residual(1, 256 * (8 * 8 if pooling == "flatten" else 1), 512) + residual(1, 512, 512)
    encoder += dense(512, 2 * KAPPA)
    assert count(ResNetEncoder((3, 64, 64), 2 * KAPPA, pooling=pooling)) == encoder


def test_resnet_decoder_at_64() -> None:
    decoder = dense(KAPPA, 4096)  # 2×2×1024
    for width in (512, 256, 128, 64, 32):  # 4, 8, 16, 32, 64 pixels
        decoder += conv(3, 2 * width, width) + 2 * residual(3, width, width)
    decoder += conv(3, 32, 3)
    assert count(ResNetDecoder(KAPPA, (3, 64, 64))) == decoder


@pytest.mark.parametrize("side", [28, 32])
def test_resnet_decoder_has_2048_units_on_small_images(side: int) -> None:
    decoder = ResNetDecoder(KAPPA, (1, side, side))
    assert decoder.body[0].out_features == 2048
    assert decoder.body[1].unflattened_size == (512, 2, 2)


def test_resnet_widths_stop_at_1024() -> None:
    with torch.device("meta"):  # shapes alone
        decoder = ResNetDecoder(2, (1, 64, 64), base_width=64, blocks_per_scale=1)
        encoder = ResNetEncoder(
            (1, 8, 8), 2, base_width=512, scales=3, blocks_per_scale=1, pooling="average", dense_width=8
        )
    assert decoder.body[0].out_features == 4 * 1024
    doublings = [m for m in decoder.body.modules() if isinstance(m, nn.ConvTranspose2d)]
    widths = [(m.in_channels, m.out_channels) for m in doublings]
    assert widths == [(1024, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    assert encoder.head[0].shortcut.in_features == 1024


@pytest.mark.parametrize(
    ("shape", "grid"), [((1, 8, 8), (2, 2)), ((1, 9, 11), (3, 3)), ((1, 28, 28), (7, 7)), ((1, 64, 80), (8, 10))]
)
def test_resnet_last_map(shape: tuple[int, ...], grid: tuple[int, int]) -> None:
    encoder = ResNetEncoder(shape, 2, base_width=1, blocks_per_scale=1, dense_width=4).eval()
    assert encoder.features[:-1](torch.zeros(1, *shape)).shape[2:] == grid


def test_residual_block_is_what_it_says() -> None:
    block = ResNetEncoder((2, 8, 8), 2, base_width=4, blocks_per_scale=1).eval().features[1].double()
    first, _, conv1, second, _, conv2 = block.residual
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    wanted = conv2(second(conv1(first(x).relu())).relu()) + block.shortcut(x)
    assert_close(block(x), wanted)


def test_wae_at_64() -> None:
    encoder = conv(5, 3, 128) + conv(5, 128, 256) + conv(5, 256, 512) + conv(5, 512, 1024)
    encoder += norm(128) + norm(256) + norm(512) + norm(1024)
    encoder += dense(8 * 8 * 1024, 2 * KAPPA)
    decoder = dense(KAPPA, 8 * 8 * 1024)
    decoder += conv(5, 1024, 512) + conv(5, 512, 256) + conv(5, 256, 128)
    decoder += norm(512) + norm(256) + norm(128)
    decoder += conv(5, 128, 3)
    with torch.device("meta"):
        assert count(WAEEncoder((3, 64, 64), 2 * KAPPA)) == encoder
        assert count(WAEDecoder(KAPPA, (3, 64, 64))) == decoder


def test_stage_two() -> None:
    encoder = MLPEncoder((KAPPA,), 2 * KAPPA, hidden=(1024, 1024, 1024), skip=True)
    decoder = MLPDecoder(KAPPA, (KAPPA,), hidden=(1024, 1024, 1024), skip=True)
    assert encoder.head.output.in_features == 1024 + KAPPA
    assert decoder.body.output.in_features == 1024 + KAPPA
    assert count(encoder) == dense(64, 1024) + 2 * dense(1024, 1024) + dense(1024 + 64, 128)


def test_skip_carries_the_input_to_the_output_layer() -> None:
    net = MLP(3, 2, (5, 4), skip=True)
    x = torch.randn(6, 3)
    with torch.no_grad():
        hidden = net.hidden[2](net.hidden[0](x).relu()).relu()
        wanted = torch.cat((x, hidden), 1) @ net.output.weight.t() + net.output.bias
        assert_close(net(x), wanted)


def test_no_hidden_layer_is_affine() -> None:
    decoder = MLPDecoder(2, (1, 3, 3), hidden=())
    with torch.no_grad():
        a, b = torch.randn(2, 4, 2)
        assert_close(decoder(a) + decoder(b), decoder(a + b) + decoder(torch.zeros(4, 2)))


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        ("relu", lambda h: h.clamp_min(0)),
        ("leaky_relu", lambda h: torch.where(h > 0, h, 0.2 * h)),
        ("prelu", lambda h: torch.where(h > 0, h, 0.25 * h)),
        ("silu", lambda h: h * h.sigmoid()),
        ("tanh", torch.tanh),
    ],
)
def test_activations(activation: str, wanted: object) -> None:
    net = MLP(3, 2, (5,), activation=activation)
    x = torch.randn(6, 3)
    assert_close(net(x), net.output(wanted(net.hidden[0](x))))


def sample_moments(weights: Tensor) -> tuple[float, float]:
    return weights.mean().item(), weights.std().item()


def test_infogan_starts_as_published() -> None:
    encoder, decoder = InfoGANEncoder((1, 28, 28), 2 * KAPPA), InfoGANDecoder(KAPPA, (1, 28, 28))
    convolution = encoder.features[2].weight.detach()
    assert convolution.abs().max() <= 0.04
    # standard deviation of N(0, 1) cut at ±2 is 0.8796
    assert sample_moments(convolution) == pytest.approx((0, 0.02 * 0.8796), abs=2e-4)
    for layer in (encoder.head[0], decoder.body[3], decoder.body[7]):
        assert sample_moments(layer.weight.detach()) == pytest.approx((0, 0.02), abs=2e-4)
        assert layer.weight.detach().abs().max() > 0.06
    for net in (encoder, decoder):
        assert all(m.bias.abs().max() == 0 for m in net.modules() if hasattr(m, "bias") and m.bias is not None)


def test_infogan_order() -> None:
    encoder = InfoGANEncoder((1, 28, 28), 2)
    kinds = [type(m).__name__ for m in (*encoder.features, *encoder.head)]
    assert kinds == [
        *("SameConv2d", "LeakyReLU", "SameConv2d", "BatchNorm2d", "LeakyReLU", "Flatten"),
        *("SpectralLinear", "BatchNorm1d", "LeakyReLU", "SpectralLinear"),
    ]
    assert all(encoder.get_submodule(name).u is not None for name in ("features.0", "features.2", "head.0", "head.3"))


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_norm_decay_reaches_every_norm(decay: float) -> None:
    nets = [
        InfoGANEncoder((1, 8, 8), 2, norm_decay=decay),
        InfoGANDecoder(2, (1, 8, 8), norm_decay=decay),
        ResNetEncoder((1, 8, 8), 2, base_width=2, dense_width=4, norm_decay=decay),
        ResNetDecoder(2, (1, 8, 8), base_width=2, norm_decay=decay),
        WAEEncoder((1, 8, 8), 2, base_width=2, norm_decay=decay),
        WAEDecoder(2, (1, 8, 8), base_width=2, norm_decay=decay),
    ]
    for net in nets:
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert norms
        assert all(m.momentum == pytest.approx(1 - decay) for m in norms)
