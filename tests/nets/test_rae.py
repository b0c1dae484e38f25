"""The networks of the regularised autoencoders and of the generalised decoder variance are the published ones."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from vaelab.errors import InputError
from vaelab.nets import ARELBODecoder, ARELBOEncoder, RAEDecoder, RAEEncoder
from vaelab.nets.convolution import SameConv2d, SpectralConvTranspose2d, SpectralLinear

Spectral = SameConv2d | SpectralLinear | SpectralConvTranspose2d


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def conv(kernel: int, before: int, after: int) -> int:
    return kernel * kernel * before * after + after


def dense(before: int, after: int) -> int:
    return before * after + after


def norms(*widths: int) -> int:
    return 2 * sum(widths)


def kinds(*parts: nn.Sequential) -> list[str]:
    return [type(module).__name__ for part in parts for module in part]


# --- sizes


@pytest.mark.parametrize(("channels", "kappa"), [(1, 16), (3, 128)])
def test_rae_at_32(channels: int, kappa: int) -> None:
    encoder = conv(4, channels, 128) + conv(4, 128, 256) + conv(4, 256, 512) + conv(4, 512, 1024)
    encoder += norms(128, 256, 512, 1024) + dense(2 * 2 * 1024, kappa)
    decoder = dense(kappa, 8 * 8 * 1024) + conv(4, 1024, 512) + conv(4, 512, 256) + norms(512, 256)
    decoder += conv(4, 256, channels)
    with torch.device("meta"):
        assert count(RAEEncoder((channels, 32, 32), kappa)) == encoder
        assert count(RAEDecoder(kappa, (channels, 32, 32))) == decoder
        assert count(RAEDecoder(kappa, (channels, 32, 32), spectral=True)) == decoder


def test_rae_at_64() -> None:
    encoder = conv(5, 3, 128) + conv(5, 128, 256) + conv(5, 256, 512) + conv(5, 512, 1024)
    encoder += norms(128, 256, 512, 1024) + dense(4 * 4 * 1024, 64)
    decoder = dense(64, 8 * 8 * 1024) + conv(5, 1024, 512) + conv(5, 512, 256) + conv(5, 256, 128)
    decoder += norms(512, 256, 128) + conv(5, 128, 3)
    with torch.device("meta"):
        assert count(RAEEncoder((3, 64, 64), 64, kernel=5)) == encoder
        assert count(RAEDecoder(64, (3, 64, 64), kernel=5)) == decoder


@pytest.mark.parametrize("norm", [True, False])
def test_arelbo_at_28(norm: bool) -> None:
    kernel = 5 if norm else 4
    encoder = conv(kernel, 1, 64) + conv(kernel, 64, 128) + dense(128 * 7 * 7, 1024) + dense(1024, 2 * 16)
    decoder = dense(16, 1024) + dense(1024, 128 * 7 * 7) + conv(kernel, 128, 64) + conv(kernel, 64, 1)
    if norm:
        encoder += norms(1024)
        decoder += norms(1024, 128 * 7 * 7, 64)
    with torch.device("meta"):
        assert count(ARELBOEncoder((1, 28, 28), 2 * 16, kernel=kernel, norm=norm)) == encoder
        assert count(ARELBODecoder(16, (1, 28, 28), kernel=kernel, norm=norm)) == decoder


# --- order of layers


def test_arelbo_order() -> None:
    encoder, decoder = ARELBOEncoder((1, 28, 28), 2, base_width=2), ARELBODecoder(2, (1, 28, 28), base_width=2)
    assert kinds(encoder.features, encoder.head) == [
        *("SameConv2d", "ReLU", "SameConv2d", "ReLU", "Flatten"),
        *("Linear", "BatchNorm1d", "ReLU", "Linear"),
    ]
    assert kinds(decoder.body) == [
        *("Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Unflatten"),
        *("ConvTranspose2d", "BatchNorm2d", "ReLU", "ConvTranspose2d"),
    ]


def test_arelbo_without_norm_has_none() -> None:
    for net in (
        ARELBOEncoder((1, 28, 28), 2, base_width=2, norm=False),
        ARELBODecoder(2, (1, 28, 28), base_width=2, norm=False),
    ):
        assert not list(net.buffers())
        alone = net.train()(torch.randn(1, *((1, 28, 28) if isinstance(net, ARELBOEncoder) else (2,))))
        assert alone.isfinite().all()


@pytest.mark.parametrize("spectral", [False, True])
def test_rae_order(spectral: bool) -> None:
    encoder = RAEEncoder((1, 32, 32), 2, base_width=2, spectral=spectral)
    decoder = RAEDecoder(2, (1, 32, 32), base_width=2, spectral=spectral)
    deconv = "SpectralConvTranspose2d" if spectral else "ConvTranspose2d"
    last = "SpectralLinear" if spectral else "Linear"
    assert kinds(encoder.features)[1:] == 4 * ["SameConv2d", "BatchNorm2d", "ReLU"] + ["Flatten"]
    assert type(encoder.head).__name__ == last
    assert kinds(decoder.body) == [
        *(last, "Unflatten", deconv, "BatchNorm2d", "ReLU", deconv, "BatchNorm2d", "ReLU"),
        *(deconv, "CentreCrop"),
    ]
    normalised = [m for net in (encoder, decoder) for m in net.modules() if getattr(m, "u", None) is not None]
    assert len(normalised) == (9 if spectral else 0)


@pytest.mark.parametrize(
    ("size", "doublings", "grid"),
    [
        ((32, 32), 2, (8, 8)),
        ((28, 28), 2, (7, 7)),
        ((64, 64), 3, (8, 8)),
        ((128, 128), 3, (16, 16)),
        ((8, 8), 1, (4, 4)),
        ((30, 45), 2, (8, 12)),
    ],
)
def test_rae_starting_grid(size: tuple[int, int], doublings: int, grid: tuple[int, int]) -> None:
    decoder = RAEDecoder(2, (1, *size), base_width=1)
    assert decoder.body[1].unflattened_size == (8, *grid)
    assert sum(isinstance(m, nn.ConvTranspose2d) and m.stride == (2, 2) for m in decoder.body) == doublings
    assert decoder.eval()(torch.zeros(1, 2)).shape == (1, 1, *size)


def test_rae_doublings_can_be_chosen() -> None:
    decoder = RAEDecoder(2, (1, 32, 32), base_width=1, doublings=3)
    assert decoder.body[1].unflattened_size == (8, 4, 4)
    assert decoder.eval()(torch.zeros(1, 2)).shape == (1, 1, 32, 32)


def test_rae_encoder_centres_pixels() -> None:
    encoder = RAEEncoder((1, 8, 8), 2, base_width=2)
    seen: list[Tensor] = []
    encoder.features[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.rand(3, 1, 8, 8)
    encoder(x)
    assert_close(seen[0], 2 * x - 1)


@pytest.mark.parametrize("spectral", [False, True])
def test_last_layer_of_an_even_kernel_cuts_as_same_padding_does(spectral: bool) -> None:
    # stride 1, kernel 4: the full transposed convolution is 3 larger; one is cut before, two after
    body = RAEDecoder(2, (2, 16, 16), base_width=1, spectral=spectral).double().eval().body
    layer, crop = body[-2], body[-1]
    x = torch.randn(3, layer.in_channels, 16, 16, dtype=torch.float64)
    weight = layer.weight / sigma(layer) if spectral else layer.weight
    full = F.conv_transpose2d(x, weight, layer.bias)
    assert_close(crop(layer(x)), full[..., 1:17, 1:17])


@pytest.mark.parametrize("decay", [0.9, 0.99])
def test_norm_decay_reaches_every_norm(decay: float) -> None:
    for net in (
        ARELBOEncoder((1, 8, 8), 2, base_width=2, norm_decay=decay),
        ARELBODecoder(2, (1, 8, 8), base_width=2, norm_decay=decay),
        RAEEncoder((1, 8, 8), 2, base_width=2, norm_decay=decay),
        RAEDecoder(2, (1, 8, 8), base_width=2, norm_decay=decay),
    ):
        found = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert found
        assert all(m.momentum == pytest.approx(1 - decay) for m in found)


# --- spectral norm


def sigma(layer: Spectral) -> Tensor:
    """The estimate that an evaluation divides by: ‖W v‖ with v = Wᵀu / ‖Wᵀu‖."""
    with torch.no_grad():
        matrix = layer.weight.flatten(1)
        return (matrix @ F.normalize(matrix.t() @ layer.u, dim=0)).norm()


def trained_spectral_nets() -> list[nn.Module]:
    """Both networks after a few optimiser steps on noise, with weights that started far from norm 1."""
    encoder = RAEEncoder((3, 16, 16), 6, base_width=4, spectral=True)
    decoder = RAEDecoder(6, (3, 16, 16), base_width=4, spectral=True)
    for layer in (*encoder.modules(), *decoder.modules()):
        if getattr(layer, "u", None) is not None:
            layer.weight.data.mul_(3)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    x = torch.rand(16, 3, 16, 16)
    for _ in range(60):
        optimiser.zero_grad()
        (decoder(encoder(x)) - x).square().mean().backward()
        optimiser.step()
    return [encoder, decoder]


def test_largest_singular_values_are_one_after_training() -> None:
    for net, many in zip(trained_spectral_nets(), (5, 3), strict=True):
        layers = [m for m in net.modules() if getattr(m, "u", None) is not None]
        assert len(layers) == many
        for layer in layers:
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert (largest / sigma(layer)).item() == pytest.approx(1, abs=0.02)


def test_transposed_spectral_norm_equals_torch() -> None:
    layer = SpectralConvTranspose2d(4, 3, 4, 2, 1, 0).double()
    plain = nn.ConvTranspose2d(4, 3, 4, 2, 1).double()
    plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    reference = spectral_norm(plain, dim=0)  # the (in, out · kernel²) matrix
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.mul_(3), reference.parametrizations.weight.original.mul_(3)
        for _ in range(400):
            layer(x), reference(x)
    direction = torch.randn_like(layer(x))
    (layer(x) * direction).sum().backward()
    (reference(x) * direction).sum().backward()
    assert_close(layer(x), reference(x))
    assert_close(layer.weight.grad, reference.parametrizations.weight.original.grad)
    assert_close(layer.bias.grad, reference.bias.grad)


def test_the_layer_itself_has_largest_singular_value_one_at_kernel_one() -> None:
    layer = SpectralConvTranspose2d(5, 3, 1, 1, 0, 0).double()
    with torch.no_grad():
        layer.weight.mul_(7)
        for _ in range(300):
            layer(torch.zeros(1, 5, 1, 1, dtype=torch.float64))
        matrix = (layer.eval()(torch.eye(5, dtype=torch.float64)[..., None, None]) - layer.bias[:, None, None]).flatten(
            1
        )
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=1e-9)


def test_spectral_transposed_convolution_refuses_another_size() -> None:
    layer = SpectralConvTranspose2d(1, 1, 4, 2, 1, 0)
    with pytest.raises(InputError, match="output_size"):
        layer(torch.zeros(1, 1, 4, 4), [9, 9])


def test_evaluation_leaves_the_estimates_and_training_moves_them() -> None:
    decoder = RAEDecoder(6, (3, 16, 16), base_width=4, spectral=True)
    z = torch.randn(4, 6)
    before = {name: value.clone() for name, value in decoder.named_buffers() if name.endswith(".u")}
    assert len(before) == 3
    with torch.no_grad():
        first = decoder.eval()(z)
        assert torch.equal(first, decoder(z))
        assert all(torch.equal(decoder.get_buffer(name), value) for name, value in before.items())
        decoder.train()(z)
    assert not any(torch.equal(decoder.get_buffer(name), value) for name, value in before.items())


def test_spectral_weights_survive_a_file_and_a_copy(tmp_path: Path) -> None:
    encoder, decoder = trained_spectral_nets()
    others = [
        RAEEncoder((3, 16, 16), 6, base_width=4, spectral=True),
        RAEDecoder(6, (3, 16, 16), base_width=4, spectral=True),
    ]
    inputs = [torch.rand(5, 3, 16, 16), torch.randn(5, 6)]
    for net, other, x in zip((encoder, decoder), others, inputs, strict=True):
        save_file(net.state_dict(), tmp_path / "weights.safetensors")
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
        twin = copy.deepcopy(net)
        with torch.no_grad():
            wanted = net.eval()(x)
            assert torch.equal(other.eval()(x), wanted)
            assert torch.equal(twin.eval()(x), wanted)
            assert torch.equal(net.train()(x), other.train()(x))  # the next power iteration is the same too


def test_plain_ends_are_the_celeba_networks_of_takida():
    """Appendix I.2: Conv, ReLU, then thrice Conv, BN, ReLU; dense, ConvT, ReLU, then twice ConvT, BN, ReLU."""
    encoder = RAEEncoder((3, 64, 64), 128, base_width=2, kernel=5, ends="plain")
    decoder = RAEDecoder(64, (3, 64, 64), base_width=2, kernel=5, ends="plain")
    names = [[type(m).__name__ for m in part] for part in (encoder.features, decoder.body)]
    assert names[0] == ["SameConv2d", "ReLU", *["SameConv2d", "BatchNorm2d", "ReLU"] * 3, "Flatten"]
    up = "ConvTranspose2d"
    assert names[1][:10] == ["Linear", "Unflatten", up, "ReLU", *[up, "BatchNorm2d", "ReLU"] * 2]
    assert names[1][10] == up
    x = torch.rand(2, 3, 64, 64)
    first = encoder.features[0]
    assert torch.equal(encoder.features[:2](x), first(x).relu())
    assert [m.out_channels for m in decoder.body if isinstance(m, torch.nn.ConvTranspose2d)] == [8, 4, 2, 3]
