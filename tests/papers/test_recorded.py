"""A recording has the results, gradients and side effects of the function; what cannot be recorded is refused."""

import pytest
import torch
from torch import fx
from torch.func import vmap
from torch.testing import assert_close

from vaelab_papers.recorded import record


def _tensors(*shapes, requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_(requires_grad) for shape in shapes
    ]


def layers(tensors):
    """Two dense layers of several networks, as `vmap` runs them."""
    weight, bias, x = tensors

    def one(weight, bias, x):
        return torch.nn.functional.linear(x, weight, bias).relu().square().sum(1)

    return [vmap(one)(weight, bias, x)]


def test_results_and_gradients_are_the_functions():
    arguments = _tensors((3, 4, 5), (3, 4), (3, 7, 5))
    recording = record(layers, arguments)
    others = [value.detach() * 2 + 1 for value in arguments]
    gradients = []
    for function in (recording, layers):
        own = [value.clone().requires_grad_() for value in others]
        (result,) = function(own)
        gradients.append((result, *torch.autograd.grad(result.sum(), own)))
    for found, wanted in zip(*gradients, strict=True):
        assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_biases_are_added_within_the_products():
    recording = record(layers, _tensors((3, 4, 5), (3, 4), (3, 7, 5)))
    assert isinstance(recording, fx.GraphModule)
    names = [str(node.target) for node in recording.graph.nodes]
    assert names.count("aten.baddbmm.default") == 1
    assert not {"aten.bmm.default", "aten.add.Tensor"} & set(names)


def test_what_is_not_returned_is_not_computed():
    def function(tensors):
        tensors[0].exp().sum()
        return [tensors[0] * 2]

    recording = record(function, _tensors((3,)))
    assert "aten.exp.default" not in [str(node.target) for node in recording.graph.nodes]


def test_recording_leaves_its_arguments_alone_and_repeats_what_is_written_to_them():
    def function(tensors):
        x, count = tensors
        count += 1
        return [x * count]

    x, count = _tensors((3,), requires_grad=False)[0], torch.zeros(1, dtype=torch.float64)
    recording = record(function, [x, count])
    assert count == 0
    for step in (1, 2):
        assert_close(recording([x, count])[0], x * step)
        assert count == step


@pytest.mark.parametrize("write", ["after", "before"])
def test_a_product_that_is_read_twice_is_kept(write):
    def function(tensors):
        a, b, bias = tensors
        product = torch.bmm(a, b)
        total = product + bias if write == "after" else bias + product
        return [total, product * 3]

    arguments = _tensors((2, 3, 4), (2, 4, 5), (2, 1, 5))
    for found, wanted in zip(record(function, arguments)(arguments), function(arguments), strict=True):
        assert_close(found, wanted)


def without_gradient(tensors):
    with torch.no_grad():
        scale = tensors[0].sum()
    return [tensors[0] * scale]


def by_value(tensors):
    return [tensors[0] * (2 if tensors[0].sum() > 0 else 3)]


@pytest.mark.parametrize("function", [without_gradient, by_value, lambda tensors: [torch.randn_like(tensors[0])]])
def test_what_cannot_be_recorded_is_refused(function):
    assert record(function, _tensors((3,))) is None


def test_a_detached_part_stays_detached():
    recording = record(lambda tensors: [tensors[0] * tensors[0].detach()], _tensors((3,)))
    (x,) = _tensors((3,))
    assert_close(torch.autograd.grad(recording([x])[0].sum(), x)[0], x.detach())
