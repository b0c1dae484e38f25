"""Padding, doubling, cropping and normalisation against direct references."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from vaelab.nets.convolution import (
    CentreCrop,
    SameConv2d,
    SpectralLinear,
    batch_norm,
    cropping,
    doubling,
    same_padding,
    start_grid,
)


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
@pytest.mark.parametrize("size", [(8, 9), (11, 28), (30, 45)])
def test_same_convolution_gives_the_ceiling(size: tuple[int, int], kernel: int, stride: int) -> None:
    out = SameConv2d(1, 1, kernel, size=size, stride=stride)(torch.zeros(1, 1, *size))
    assert out.shape[2:] == tuple(math.ceil(side / stride) for side in size)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (28, 4, 2, (1, 1)),
        (28, 3, 2, (0, 1)),
        (9, 4, 2, (1, 2)),
        (64, 5, 2, (1, 2)),
        (28, 4, 1, (1, 2)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_same_padding_by_hand(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding


def direct(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """A SAME convolution by its definition: window i starts at i · stride − before, zeros outside."""
    height, width, kernel = x.shape[-2], x.shape[-1], weight.shape[-1]
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    top = max((rows - 1) * stride + kernel - height, 0) // 2
    left = max((columns - 1) * stride + kernel - width, 0) // 2
    canvas = torch.zeros(*x.shape[:2], height + 3 * kernel, width + 3 * kernel, dtype=x.dtype)
    canvas[..., top : top + height, left : left + width] = x
    out = torch.empty(len(x), len(weight), rows, columns, dtype=x.dtype)
    for i in range(rows):
        for j in range(columns):
            window = canvas[..., i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            out[..., i, j] = torch.einsum("bckl,ockl->bo", window, weight) + bias
    return out


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 2), (5, 2), (4, 1), (3, 1)])
@pytest.mark.parametrize("size", [(9, 11), (8, 9), (10, 8)])
def test_same_convolution_against_its_definition(size: tuple[int, int], kernel: int, stride: int) -> None:
    layer = SameConv2d(2, 3, kernel, size=size, stride=stride).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    assert_close(layer(x), direct(x, layer.weight, layer.bias, stride))


@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_doubling_is_exact(kernel: int) -> None:
    assert doubling(2, 3, kernel)(torch.zeros(1, 2, 5, 7)).shape == (1, 3, 10, 14)


@pytest.mark.parametrize("kernel", [3, 5])
def test_odd_doubling_is_tensorflows_mirrored(kernel: int) -> None:
    # SAME: full transposed convolution, total = kernel − 2 cut, the odd one after
    layer = doubling(2, 3, kernel).double()
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64)
    before = (kernel - 2) // 2
    flipped = layer.weight.flip(2, 3)
    full = F.conv_transpose2d(x.flip(2, 3), flipped, layer.bias, stride=2)
    wanted = full[..., before : before + 10, before : before + 8].flip(2, 3)
    assert_close(layer(x), wanted)


def test_28_pixels_come_from_32() -> None:
    assert start_grid((28, 28), 4) == (2, 2)
    (crop,) = cropping((28, 28), 4)
    x = torch.arange(32.0 * 32).view(1, 1, 32, 32)
    assert torch.equal(crop(x), x[..., 2:30, 2:30])


def test_crop_of_an_odd_surplus_loses_more_after() -> None:
    x = torch.arange(12.0 * 12).view(1, 1, 12, 12)
    assert torch.equal(CentreCrop((9, 11))(x), x[..., 1:10, 0:11])


def test_no_crop_where_it_fits() -> None:
    assert cropping((64, 32), 3) == []
    assert start_grid((64, 32), 3) == (8, 4)
    assert start_grid((30, 45), 3) == (4, 6)


def layers() -> list[tuple[nn.Module, Tensor]]:
    return [
        (SpectralLinear(20, 7), torch.randn(5, 20)),
        (SameConv2d(3, 6, 4, size=(9, 9), stride=2, spectral=True), torch.randn(2, 3, 9, 9)),
    ]


def effective_weight(layer: nn.Module) -> Tensor:
    """The matrix that an evaluation really applies, read off its answers to unit inputs."""
    with torch.no_grad():
        if isinstance(layer, SpectralLinear):
            return (layer(torch.eye(20)) - layer.bias).t()
        unit = torch.eye(48).view(48, 3, 4, 4)
        padded = F.pad(unit, (3, 2, 3, 2))  # one 9×9 image per entry of the kernel; rows start at 2·i − 1
        return (layer(padded)[:, :, 2, 2] - layer.bias).t()


@pytest.mark.parametrize("index", [0, 1], ids=["dense", "convolution"])
def test_spectral_normalisation_reaches_one(index: int) -> None:
    layer, x = layers()[index]
    with torch.no_grad():
        layer.weight.mul_(5)
    before = torch.linalg.matrix_norm(effective_weight(layer.eval()), 2)
    layer.train()
    for _ in range(300):
        layer(x)
    weight = effective_weight(layer.eval())
    assert before > 1.01
    assert_close(torch.linalg.matrix_norm(weight, 2), torch.tensor(1.0), rtol=1e-4, atol=0)
    assert_close(
        weight, layer.weight.flatten(1) / torch.linalg.matrix_norm(layer.weight.flatten(1), 2), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("index", [0, 1], ids=["dense", "convolution"])
def test_spectral_normalisation_equals_torch(index: int) -> None:
    layer, x = layers()[index]
    layer, x = layer.double(), x.double()
    plain = nn.Linear(20, 7) if index == 0 else nn.Conv2d(3, 6, 4, 2, padding=1)
    plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    reference = spectral_norm(plain.double())
    if index == 1:
        x = x[..., :8, :8]
        other = SameConv2d(3, 6, 4, size=(8, 8), stride=2, spectral=True).double()
        other.load_state_dict(layer.state_dict())
        layer = other
    for _ in range(400):
        layer(x), reference(x)
    layer.zero_grad(), reference.zero_grad()
    direction = torch.randn_like(layer(x))
    (layer(x) * direction).sum().backward()
    (reference(x) * direction).sum().backward()
    assert_close(layer(x), reference(x))
    assert_close(layer.weight.grad, reference.parametrizations.weight.original.grad)
    assert_close(layer.bias.grad, reference.bias.grad)


@pytest.mark.parametrize("index", [0, 1], ids=["dense", "convolution"])
def test_evaluation_and_frozen_steps_leave_u(index: int) -> None:
    layer, x = layers()[index]
    start = layer.u.clone()
    layer.eval()(x)
    assert torch.equal(layer.u, start)
    layer.train()(x)
    assert not torch.equal(layer.u, start)
    assert_close(layer.u.norm(), torch.tensor(1.0))


def test_two_forwards_before_one_backward() -> None:
    layer, x = layers()[0]
    (layer(x) - layer(2 * x)).square().sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_batch_norm_keeps_the_stated_share() -> None:
    norm = batch_norm(1, 0.75, axes=0)
    norm(torch.tensor([[2.0], [6.0]]))
    assert norm.eps == 1e-5
    assert_close(norm.running_mean, torch.tensor([0.25 * 4.0]))
    assert_close(norm.running_var, torch.tensor([0.75 * 1.0 + 0.25 * 8.0]))
