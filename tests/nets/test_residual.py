"""The residual networks of Zheng et al.: their sizes, their layers, and what each family of the house owes."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vaelab.errors import InputError
from vaelab.nets import Embedded, ResidualDecoder, ResidualEncoder
from vaelab.training import forked

SHAPES = [(1, 8, 8), (3, 9, 11), (1, 28, 28), (2, 30, 45)]


@pytest.fixture(autouse=True)
def _own_random_state():
    with forked("cpu", "residual networks"):
        yield


def conv(before, after, kernel):
    return before * after * kernel**2 + after


@pytest.mark.parametrize("width", [5, 32])
def test_parameters_are_those_of_the_layers(width):
    norm = 2 * width
    block = conv(width, width, 3) + conv(width, width, 3) + conv(width, width, 1) + 3 * norm + 2
    wider = conv(width, 2 * width, 3) + conv(2 * width, 2 * width, 3) + conv(width, 2 * width, 1) + 3 * 2 * norm + 2
    head = (2 * width + 1) * 32 + 1 + 33 * 64
    encoder = conv(1, width, 3) + norm + 1 + block + wider + head
    up = conv(width, width, 3) + conv(width, width, 4) + 2 * norm + 2
    decoder = 33 * 49 * width + 2 * up + conv(width, 1, 3)
    nets = (
        ResidualEncoder((1, 28, 28), 64, base_width=width),
        ResidualDecoder(32, (1, 28, 28), base_width=width),
    )
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == [encoder, decoder]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_gradients(shape):
    for net, into, out in (
        (ResidualEncoder(shape, 6, base_width=3), shape, (6,)),
        (ResidualDecoder(4, shape, base_width=3), (4,), shape),
    ):
        result = net(torch.randn(5, *into))
        assert result.shape == (5, *out)
        (result * torch.randn_like(result)).sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad.isfinite().all(), name
            if parameter.dim() > 1:  # a bias before batch normalisation has gradient 0
                assert parameter.grad.abs().max() > 0, name


def test_stride_reaches_a_quarter_of_the_size():
    sizes = []
    encoder = ResidualEncoder((1, 28, 28), 6, base_width=3)
    for layer in encoder.features:
        layer.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[1:])))
    encoder(torch.zeros(2, 1, 28, 28))
    maps = [size for size in sizes if len(size) == 3]
    assert maps[-3:] == [(3, 14, 14), (6, 7, 7), (6, 1, 1)]


def test_evaluation_does_not_mix_rows():
    net = ResidualEncoder((1, 12, 12), 6, base_width=3)
    net(torch.randn(20, 1, 12, 12))
    net.eval()
    x = torch.randn(4, 1, 12, 12)
    with torch.no_grad():
        assert_close(net(x[1:2]), net(x)[1:2])


def test_blocks_add_their_input():
    decoder = ResidualDecoder(4, (1, 8, 8), base_width=3).eval()
    block = decoder.body[3]
    nn.init.zeros_(block.residual[0].weight)
    nn.init.zeros_(block.residual[0].bias)
    x = torch.randn(2, 3, 2, 2)
    assert_close(block(x), block.up(x))


def test_conditions():
    encoder = ResidualEncoder((1, 8, 8), 6, base_width=3, condition_dim=2).eval()
    decoder = ResidualDecoder(4, (1, 8, 8), base_width=3, condition_dim=2).eval()
    x, z, c = torch.randn(2, 1, 8, 8), torch.randn(2, 4), torch.eye(2)
    assert not torch.allclose(encoder(x, c), encoder(x, c.flip(0)))
    assert not torch.allclose(decoder(z, c), decoder(z, c.flip(0)))
    assert Embedded(decoder, 5, 2, hidden=(4,))(z, torch.eye(5)[:2]).shape == (2, 1, 8, 8)
    for net, given in ((encoder, x), (decoder, z)):
        with pytest.raises(InputError, match="no condition"):
            net(given)
        with pytest.raises(InputError, match=r"shape \(2, 2\)"):
            net(given, torch.zeros(2, 3))


@pytest.mark.parametrize(
    "build",
    [
        lambda: ResidualEncoder((28, 28, 1), 6),
        lambda: ResidualDecoder(4, (1, 4, 4)),
        lambda: ResidualEncoder((1, 8, 8), 6, base_width=0),
        lambda: ResidualEncoder((1, 8, 8), 6, dense_width=0),
        lambda: ResidualDecoder(4, (1, 8, 8), base_width=0),
        lambda: ResidualDecoder(4, (1, 8, 8), norm_decay=1.0),
    ],
)
def test_impossible_settings_are_refused(build):
    with pytest.raises(InputError):
        build()
