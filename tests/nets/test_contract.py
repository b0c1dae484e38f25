"""One contract for every family of networks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from vaelab.errors import InputError
from vaelab.nets import (
    ARELBODecoder,
    ARELBOEncoder,
    InfoGANDecoder,
    InfoGANEncoder,
    MLPDecoder,
    MLPEncoder,
    RAEDecoder,
    RAEEncoder,
    ResNetDecoder,
    ResNetEncoder,
    WAEDecoder,
    WAEEncoder,
)

LATENT, WIDTH, CONDITION = 3, 6, 4
SHAPES = [(1, 8, 8), (3, 9, 11), (1, 28, 28), (2, 30, 45), (3, 32, 32)]


@dataclass(frozen=True)
class Family:
    """How to build both directions with a given image shape and condition width."""

    encoder: Callable[[tuple[int, ...], int], nn.Module]
    decoder: Callable[[tuple[int, ...], int], nn.Module]


FAMILIES = {
    "mlp": Family(
        lambda shape, c: MLPEncoder(shape, WIDTH, hidden=(16, 16), condition_dim=c),
        lambda shape, c: MLPDecoder(LATENT, shape, hidden=(16, 16), condition_dim=c),
    ),
    "mlp-skip": Family(
        lambda shape, c: MLPEncoder(shape, WIDTH, hidden=(16,), skip=True, activation="prelu", condition_dim=c),
        lambda shape, c: MLPDecoder(LATENT, shape, hidden=(16,), skip=True, activation="silu", condition_dim=c),
    ),
    "infogan": Family(
        lambda shape, c: InfoGANEncoder(shape, WIDTH, condition_dim=c),
        lambda shape, c: InfoGANDecoder(LATENT, shape, condition_dim=c),
    ),
    "resnet": Family(
        lambda shape, c: ResNetEncoder(shape, WIDTH, base_width=4, dense_width=16, condition_dim=c),
        lambda shape, c: ResNetDecoder(LATENT, shape, base_width=4, condition_dim=c),
    ),
    "resnet-average": Family(
        lambda shape, c: ResNetEncoder(
            shape, WIDTH, base_width=4, dense_width=8, blocks_per_scale=1, pooling="average", condition_dim=c
        ),
        lambda shape, c: ResNetDecoder(LATENT, shape, base_width=2, blocks_per_scale=1, condition_dim=c),
    ),
    "wae": Family(
        lambda shape, c: WAEEncoder(shape, WIDTH, base_width=4, condition_dim=c),
        lambda shape, c: WAEDecoder(LATENT, shape, base_width=4, condition_dim=c),
    ),
    "arelbo": Family(
        lambda shape, c: ARELBOEncoder(shape, WIDTH, base_width=4, condition_dim=c),
        lambda shape, c: ARELBODecoder(LATENT, shape, base_width=4, condition_dim=c),
    ),
    "arelbo-plain": Family(
        lambda shape, c: ARELBOEncoder(shape, WIDTH, base_width=4, kernel=4, norm=False, condition_dim=c),
        lambda shape, c: ARELBODecoder(LATENT, shape, base_width=4, kernel=4, norm=False, condition_dim=c),
    ),
    "rae": Family(
        lambda shape, c: RAEEncoder(shape, WIDTH, base_width=4, kernel=5, condition_dim=c),
        lambda shape, c: RAEDecoder(LATENT, shape, base_width=4, kernel=5, condition_dim=c),
    ),
    "rae-spectral": Family(
        lambda shape, c: RAEEncoder(shape, WIDTH, base_width=4, spectral=True, condition_dim=c),
        lambda shape, c: RAEDecoder(LATENT, shape, base_width=4, spectral=True, condition_dim=c),
    ),
}


@dataclass(frozen=True)
class Case:
    """One network to test: the shapes at its ends and how to build it."""

    build: Callable[[int], nn.Module]
    into: tuple[int, ...]
    out: tuple[int, ...]

    def inputs(self, rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(rows, *self.into, dtype=dtype)


def cases(shapes: list[tuple[int, ...]]) -> list[object]:
    """Both directions of every family at every shape."""
    params: list[object] = []
    for name, family in FAMILIES.items():
        for shape in shapes:
            label = f"{name}-{'x'.join(map(str, shape))}"
            encoder = Case(lambda c, f=family, s=shape: f.encoder(s, c), shape, (WIDTH,))
            decoder = Case(lambda c, f=family, s=shape: f.decoder(s, c), (LATENT,), shape)
            params += [pytest.param(encoder, id=f"{label}-encoder"), pytest.param(decoder, id=f"{label}-decoder")]
    return params


ALL = pytest.mark.parametrize("case", cases(SHAPES))
SMALL = pytest.mark.parametrize("case", cases([(3, 9, 11)]))


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def trained(net: nn.Module, case: Case, c: Tensor | None = None, rows: int = 8) -> nn.Module:
    """Two forward passes in training mode, so that running statistics are not those of a new network."""
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(case.inputs(rows), c)
    return net.eval()


@ALL
def test_shapes_and_gradients(case: Case) -> None:
    net = case.build(0).train()
    out = net(case.inputs(4))
    assert out.shape == (4, *case.out)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if parameter.dim() > 1:  # a bias before batch normalisation has gradient 0
            assert parameter.grad.abs().max() > 0, name


@ALL
def test_evaluation_is_deterministic_and_row_independent(case: Case) -> None:
    net = trained(case.build(0), case)
    x = case.inputs(5)
    rows = torch.tensor([3, 0, 3])
    with torch.no_grad():
        out = net(x)
        assert torch.equal(out, net(x))
        assert_close(net(x[rows]), out[rows], rtol=1e-4, atol=1e-5)
        assert_close(net(x[:1]), out[:1], rtol=1e-4, atol=1e-5)
        assert (out[0] - out[1]).abs().max() > 0


@pytest.mark.parametrize("case", cases([(3, 64, 64)]))
def test_shape_at_64_pixels(case: Case) -> None:
    with torch.no_grad():
        assert case.build(0).eval()(case.inputs(2)).shape == (2, *case.out)


@SMALL
def test_state_dict_round_trip(case: Case) -> None:
    net, other = trained(case.build(CONDITION), case, torch.randn(8, CONDITION)), case.build(CONDITION).eval()
    x, c = case.inputs(3), torch.randn(3, CONDITION)
    with torch.no_grad():
        assert not torch.equal(net(x, c), other(x, c))
        other.load_state_dict(net.state_dict())
        assert torch.equal(net(x, c), other(x, c))
        assert torch.equal(net.train()(x, c), other.train()(x, c))  # the next training step is the same too


@SMALL
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_equal_and_independent(case: Case, duplicate: Callable[[nn.Module], nn.Module]) -> None:
    net = case.build(0).train()
    net(case.inputs(4)).sum().backward()
    twin = duplicate(net).eval()
    x = case.inputs(3)
    with torch.no_grad():
        before = net.eval()(x)
        assert torch.equal(before, twin(x))
        for parameter in net.parameters():
            parameter.add_(0.1)
        assert torch.equal(before, twin(x))


@SMALL
def test_float64(case: Case) -> None:
    net = trained(case.build(CONDITION), case, torch.randn(8, CONDITION))
    x, c = case.inputs(3), torch.randn(3, CONDITION)
    single = net(x, c)
    double = net.double()(x.double(), c)
    assert double.dtype == torch.float64
    assert_close(double.float(), single, rtol=1e-3, atol=1e-4)


@SMALL
def test_output_depends_on_the_condition(case: Case) -> None:
    net = trained(case.build(CONDITION), case, torch.randn(8, CONDITION))
    x = case.inputs(1).expand(2, *case.into)
    out = net(x, torch.eye(CONDITION)[:2])
    assert out.shape == (2, *case.out)
    assert (out[0] - out[1]).abs().max() > 1e-6
    assert net.condition_dim == CONDITION


@SMALL
def test_missing_condition(case: Case) -> None:
    with pytest.raises(InputError, match=r"no condition; wanted a condition c of shape \(2, 4\).*condition_dim=0"):
        case.build(CONDITION).eval()(case.inputs(2))


@SMALL
def test_unexpected_condition(case: Case) -> None:
    with pytest.raises(InputError, match=r"wanted no condition.*condition_dim=7"):
        case.build(0).eval()(case.inputs(2), torch.zeros(2, 7))


@SMALL
@pytest.mark.parametrize(
    "c",
    [
        torch.zeros(2, CONDITION + 1),
        torch.zeros(2),
        torch.zeros(1, CONDITION),
        torch.zeros(2, CONDITION, dtype=torch.long),
        torch.zeros(2, CONDITION, 1),
    ],
    ids=["width", "rank", "rows", "dtype", "rank-3"],
)
def test_wrong_condition(case: Case, c: Tensor) -> None:
    with pytest.raises(InputError, match=r"shape \(2, 4\) and a floating-point dtype.*one_hot\(labels, 4\)"):
        case.build(CONDITION).eval()(case.inputs(2), c)


@SMALL
def test_wrong_input_shape(case: Case) -> None:
    wrong = torch.zeros(2, case.into[0] + 1, *case.into[1:])
    with pytest.raises(InputError, match=r"wanted shape \(B, .*Reshape"):
        case.build(0).eval()(wrong)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_attributes(family: Family) -> None:
    encoder, decoder = family.encoder((1, 8, 8), 2), family.decoder((1, 8, 8), 2)
    assert (encoder.event_shape, encoder.out_features, encoder.condition_dim) == ((1, 8, 8), WIDTH, 2)
    assert (decoder.latent_dim, decoder.out_shape, decoder.condition_dim) == (LATENT, (1, 8, 8), 2)


@SMALL
def test_jacobian_by_vmap(case: Case) -> None:
    net = trained(case.build(0), case).double()
    x = case.inputs(2, torch.float64)
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda row: net(row[None])[0]))(x)
    assert jacobian.shape == (2, *case.out, *case.into)
    direction = torch.randn(case.into, dtype=torch.float64)
    step = 1e-6 * direction
    slope = (net(x + step) - net(x - step)) / 2e-6
    assert_close(jacobian.flatten(1 + len(case.out)) @ direction.flatten(), slope, rtol=1e-3, atol=1e-5)


CONVOLUTIONAL = pytest.mark.parametrize("name", ["infogan", "resnet", "wae", "arelbo", "rae"])


@CONVOLUTIONAL
@pytest.mark.parametrize("shape", [(12,), (8, 8), (1, 7, 8), (1, 8, 7), (1, 1, 8, 8)])
def test_convolutions_refuse_what_they_cannot_take(name: str, shape: tuple[int, ...]) -> None:
    for build in (FAMILIES[name].encoder, FAMILIES[name].decoder):
        with pytest.raises(InputError, match=r"\(C, H, W\) with H and W of at least 8.*MLPEncoder"):
            build(shape, 0)


@CONVOLUTIONAL
def test_convolutions_detect_channels_last(name: str) -> None:
    with pytest.raises(InputError, match=r"channels-last: permute the images to \(3, 32, 28\)"):
        FAMILIES[name].encoder((32, 28, 3), 0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: MLPEncoder((4,), 0),
        lambda: MLPDecoder(0, (4,)),
        lambda: MLPDecoder(2.5, (4,)),
        lambda: MLPDecoder(2, ()),
        lambda: MLPEncoder((4, 0), 2),
        lambda: MLPEncoder((4,), 2, condition_dim=-1),
        lambda: MLPEncoder((4,), 2, hidden=(8, 0)),
        lambda: MLPEncoder((4,), 2, hidden=(), skip=True),
        lambda: MLPEncoder((4,), 2, activation="rleu"),
        lambda: InfoGANEncoder((1, 8, 8), 2, norm_decay=1.0),
        lambda: InfoGANDecoder(2, (1, 8, 8), norm_decay=-0.1),
        lambda: WAEEncoder((1, 8, 8), 2, base_width=0),
        lambda: ARELBOEncoder((1, 8, 8), 2, base_width=0),
        lambda: ARELBODecoder(2, (1, 8, 8), kernel=1),
        lambda: ARELBODecoder(2, (1, 8, 8), norm_decay=1.0),
        lambda: RAEEncoder((1, 8, 8), 2, kernel=0),
        lambda: RAEEncoder((1, 8, 8), 2, base_width=0),
        lambda: RAEDecoder(2, (1, 8, 8), doublings=0),
        lambda: RAEDecoder(2, (1, 8, 8), doublings=4),
        lambda: ResNetEncoder((1, 8, 8), 2, scales=0),
        lambda: ResNetEncoder((1, 8, 8), 2, blocks_per_scale=0),
        lambda: ResNetEncoder((1, 8, 8), 2, dense_width=0),
        lambda: ResNetEncoder((1, 8, 8), 2, pooling="max"),
        lambda: ResNetDecoder(2, (1, 8, 8), base_width=0),
    ],
)
def test_impossible_settings_are_refused(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError):
        build()
