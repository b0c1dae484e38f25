"""Scaling: units there and back, densities, warnings, saving."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from vaelab.data import MappedArray, Scaling
from vaelab.errors import InputError, VaelabWarning


def test_uint8_images_come_back_exactly():
    x = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    scaling = Scaling.fit(x, "image")
    net = scaling.to_net(x)
    assert net.dtype == torch.float32
    assert (float(net.min()), float(net.max())) == (0.0, 1.0)
    back = scaling.restore(net)
    assert back.dtype == np.uint8
    assert np.array_equal(back, x.numpy())


def test_restoring_uint8_clips_and_rounds():
    scaling = Scaling.fit(torch.full((2, 1, 1, 3), 200, dtype=torch.uint8), "image")
    net = torch.tensor([-0.2, 1.7, 100.6 / 255]).view(1, 1, 1, 3)
    assert scaling.restore(net).flatten().tolist() == [0, 255, 101]


@pytest.mark.parametrize(
    ("low", "high", "shift", "scale", "warning"),
    [
        (0.0, 1.0, 0.0, 1.0, None),
        (0.1, 0.3, 0.0, 1.0, None),
        (-1.0, 1.0, -1.0, 2.0, None),
        (-0.5, 0.9, -1.0, 2.0, None),
        (0.0, 255.0, 0.0, 255.0, "divided by 255"),
        (3.0, 90.0, 0.0, 255.0, "divided by 255"),
        (0.0, 1.2, 0.0, 1.2, r"\[0, 1.2\].*own smallest"),
        (-3.0, 5.0, -3.0, 8.0, "own smallest"),
    ],
)
def test_float_images_by_range(low, high, shift, scale, warning):
    x = torch.linspace(low, high, 2 * 3 * 4 * 4).view(2, 3, 4, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scaling = Scaling.fit(x, "image")
    assert float(scaling.shift) == pytest.approx(shift)
    assert float(scaling.scale) == pytest.approx(scale)
    if warning is None:
        assert not caught
    else:
        with pytest.warns(VaelabWarning, match=warning):
            Scaling.fit(x, "image")
    net = scaling.to_net(x)
    assert -1e-6 <= float(net.min()) <= float(net.max()) <= 1 + 1e-6
    assert np.allclose(scaling.restore(net), x.numpy(), atol=1e-4)
    assert scaling.restore(net).dtype == np.float32


def test_binary_uint8_images_are_not_darkened():
    x = torch.tensor([0, 1, 1, 0], dtype=torch.uint8).view(2, 1, 1, 2)
    with pytest.warns(VaelabWarning, match="only 0 and 1"):
        scaling = Scaling.fit(x, "image")
    assert scaling.to_net(x).unique().tolist() == [0.0, 1.0]


def test_table_columns_are_standardised_in_float64():
    generator = torch.Generator().manual_seed(0)
    # a float32 mean of these would be off by more than the spread
    x = 1e9 + torch.randn(5000, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 50.0])
    scaling = Scaling.fit(x, "table")
    net = scaling.to_net(x, dtype=torch.float64)
    assert torch.allclose(net.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(net.std(0, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6)
    back = scaling.restore(scaling.to_net(x))
    assert back.dtype == np.float64
    assert np.abs(back - x.numpy()).max() < 1e-4


def test_blocks_agree_with_the_whole(monkeypatch):
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(1)).double() * 7 + 3
    from vaelab.data import mapped, scaling

    monkeypatch.setattr(scaling, "blocks", lambda x: mapped.blocks(x, 1000))
    fitted = Scaling.fit(x, "table")
    assert torch.allclose(fitted.shift, x.mean(0))
    assert torch.allclose(fitted.scale, x.std(0, correction=0))


def test_constant_columns_are_named_and_survive():
    x = torch.tensor([[1.0, 0.1, 5.0], [2.0, 0.1, 5.0], [4.0, 0.1, 5.0]])
    with pytest.warns(VaelabWarning, match=r"2 constant column\(s\).*: width, 2") as caught:
        scaling = Scaling.fit(x, "table", columns=["a", "width", "2"])
    assert len(caught) == 1
    assert scaling.scale[1:].tolist() == [1.0, 1.0]
    assert scaling.to_net(x)[:, 1:].abs().max() == 0
    assert np.array_equal(scaling.restore(scaling.to_net(x))[:, 1:], x.numpy()[:, 1:])
    with pytest.warns(VaelabWarning, match=": 1, 2"):
        Scaling.fit(x, "table")


def test_tiny_spread_is_not_divided_by_zero():
    scaling = Scaling.fit(torch.tensor([[0.0], [1e-200]], dtype=torch.float64), "table")
    assert torch.isfinite(scaling.to_net(torch.tensor([[1e-200]], dtype=torch.float64))).all()


def test_huge_values_are_refused():
    with pytest.raises(InputError, match=r"column\(s\) big.*Rescale"):
        Scaling.fit(torch.tensor([[1e300], [-1e300]], dtype=torch.float64), "table", columns=["big"])


def test_log_volume_is_the_change_of_density():
    x = torch.tensor([[1.0, 10.0], [3.0, 50.0], [2.0, 90.0]], dtype=torch.float64)
    scaling = Scaling.fit(x, "table")
    net = Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    user = Normal(scaling.shift, scaling.scale)
    expected = user.log_prob(x).sum(1)
    found = net.log_prob(scaling.to_net(x, dtype=torch.float64)).sum(1) - scaling.log_volume
    assert torch.allclose(found, expected)


def test_log_volume_of_images_counts_every_pixel():
    scaling = Scaling.fit(torch.full((2, 3, 4, 5), 9, dtype=torch.uint8), "image")
    assert scaling.log_volume == pytest.approx(60 * math.log(255))


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (np.array([[1, 9], [200, 4]], np.uint8), "table", np.float64),
        (np.array([[1.5, 9], [2, 4]], np.float16), "table", np.float16),
        (np.array([[1.5, 9], [2, 4]], np.float32), "table", np.float32),
        (np.array([[1.5, 9], [2, 4]], np.float64), "table", np.float64),
        (np.linspace(0, 1, 8).reshape(2, 1, 2, 2), "image", np.float64),
    ],
)
def test_inverse_to_the_original_dtype(values, kind, dtype):
    x = torch.from_numpy(values)
    scaling = Scaling.fit(x, kind)
    back = scaling.restore(scaling.to_net(x))
    assert back.dtype == dtype
    assert np.allclose(back, values, rtol=1e-5)


def test_the_input_is_left_alone_and_from_net_is_differentiable():
    x = torch.rand(4, 1, 2, 2) * 2 - 1
    kept = x.clone()
    scaling = Scaling.fit(x, "image")
    net = scaling.to_net(x).requires_grad_()
    scaling.from_net(net).sum().backward()
    assert torch.equal(x, kept)
    assert torch.equal(net.grad, torch.full_like(net, 2.0))


def test_state_and_meta_rebuild_it():
    scaling = Scaling.fit(torch.randn(9, 3, generator=torch.Generator().manual_seed(2)), "table")
    rebuilt = Scaling.from_state(scaling.state(), json.loads(json.dumps(scaling.meta())))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
    assert torch.equal(rebuilt.to_net(x), scaling.to_net(x))
    assert rebuilt.event_shape == (3,)
    assert rebuilt.restore(x).dtype == np.float32
    with pytest.raises(InputError, match="without scale, kind"):
        Scaling.from_state({"shift": scaling.shift}, {"dtype": "uint8", "event_shape": [3]})


def test_mapped_arrays_are_fitted_alike(tmp_path):
    x = np.random.default_rng(0).normal(5, 3, (100, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    on_disk, in_memory = (
        Scaling.fit(MappedArray(tmp_path / "x.npy"), "table"),
        Scaling.fit(torch.from_numpy(x), "table"),
    )
    assert torch.allclose(on_disk.shift, in_memory.shift)
    assert torch.allclose(on_disk.scale, in_memory.scale)


def test_constant_columns_come_back_exactly_whatever_a_model_makes_of_them():
    x = torch.tensor([[1.0, 0.1, 5.0], [2.0, 0.1, 5.0], [4.0, 0.1, 5.0]])
    with pytest.warns(VaelabWarning, match="constant"):
        scaling = Scaling.fit(x, "table")
    net = torch.full((2, 3), 0.3)
    for fitted in (scaling, Scaling.from_state(scaling.state(), scaling.meta())):
        assert np.array_equal(fitted.restore(net)[:, 1:], x.numpy()[:2, 1:])
        assert torch.equal(fitted.from_net(net)[:, 1:], x[:2, 1:])
    old = {name: value for name, value in scaling.state().items() if name != "constant"}
    assert Scaling.from_state(old, scaling.meta()).restore(net)[0, 2] == pytest.approx(5.3)
    with pytest.warns(VaelabWarning, match="constant"):
        assert Scaling.fit(x[:, 1:2], "table").restore(net[:, :1])[0, 0] == np.float32(0.1)


def test_new_images_in_other_units_are_refused():
    bytes_, unit = (torch.rand(3, 1, 4, 4) * 255).byte(), torch.rand(3, 1, 4, 4)
    of_bytes, of_unit = Scaling.fit(bytes_, "image"), Scaling.fit(unit, "image")
    of_bytes.check(bytes_)
    of_unit.check(unit.double() * 1.009)
    with pytest.raises(InputError, match=r"Z with images of dtype float32; wanted uint8.*\[0, 255\]"):
        of_bytes.check(unit, name="Z")
    with pytest.raises(InputError, match=r"dtype uint8; wanted floating-point.*\[0, 1\]"):
        of_unit.check(bytes_)
    with pytest.raises(InputError, match=r"pixels in \[.*in \[0, 1\]"):
        of_unit.check(unit * 255)
    with pytest.raises(InputError, match=r"pixels in \[-0\.5.*in \[0, 1\]"):
        of_unit.check(unit - 0.5 - unit.min())
    with pytest.raises(InputError, match="1 NaN"):
        of_unit.check(
            unit.index_fill(3, torch.tensor([0]), 0.5).index_put((torch.tensor([0]),) * 4, torch.tensor(math.nan))
        )


def test_new_tables_may_hold_any_finite_number():
    scaling = Scaling.fit(torch.rand(9, 2), "table")
    scaling.check(torch.full((2, 2), 1e9, dtype=torch.float64))
    with pytest.raises(InputError, match="1 NaN"):
        scaling.check(torch.tensor([[math.inf, 0.0]]))


def test_tables_are_converted_in_blocks(monkeypatch):
    x = torch.rand(300, 3, dtype=torch.float64)
    scaling = Scaling.fit(x, "table")
    whole = scaling.to_net(x)
    from vaelab.data import mapped
    from vaelab.data import scaling as module

    largest = []
    monkeypatch.setattr(module, "blocks", lambda x: mapped.blocks(x, 1000))
    monkeypatch.setattr(module, "_wide", lambda x: largest.append(x.numel()) or x.double())
    assert torch.equal(scaling.to_net(x), whole)
    assert max(largest) <= 1000 // 8
    assert torch.equal(scaling.to_net(x[4]), whole[4])
    assert scaling.to_net(x[:0]).shape == (0, 3)
