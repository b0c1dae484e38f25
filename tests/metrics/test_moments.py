"""Streaming moments."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from vaelab.errors import InputError
from vaelab.metrics.moments import Moments, comparable


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "d"), [(1300, 600), (40, 300), (5, 1), (1, 3)])
def test_moments_are_mean_and_scatter(n, d):
    """Sizes across the blocks of rows and the panels of columns."""
    x = normal(n, d) @ normal(d, d, seed=1)
    found, residual = Moments.of(x), x - x.mean(0)
    assert found.n == n
    torch.testing.assert_close(found.mean, x.mean(0), rtol=0, atol=1e-12 * d)
    torch.testing.assert_close(found.scatter, residual.T @ residual, rtol=1e-11, atol=1e-12 * n * d)
    assert torch.equal(found.scatter, found.scatter.T)
    if n > 1:
        torch.testing.assert_close(found.covariance, torch.cov(x.T).reshape(d, d), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sizes", [[1, 1, 298], [100, 100, 100], [299, 1], [17, 250, 33]])
def test_streaming_equals_one_shot(sizes):
    x = normal(300, 7) * torch.logspace(-3, 3, 7) + 50
    whole, first, *rest = Moments.of(x), *(Moments.of(part) for part in x.split(sizes))
    for part in rest:
        first = first.merge(part)
    assert first.n == 300
    torch.testing.assert_close(first.mean, whole.mean, rtol=1e-13, atol=1e-13)
    scale = whole.scatter.diagonal().sqrt()
    torch.testing.assert_close((first.scatter - whole.scatter) / scale / scale[:, None], torch.zeros(7, 7).double())


def test_a_large_common_shift_costs_no_digits():
    # multiples of 1/1024: the shift itself is exact
    x = (normal(500, 4) * 1024).round() / 1024
    torch.testing.assert_close(Moments.of(x + 2.0**20).scatter, Moments.of(x).scatter, rtol=1e-12, atol=1e-9)
    parts = Moments.of(x[:200] + 2.0**20).merge(Moments.of(x[200:] + 2.0**20))
    torch.testing.assert_close(parts.scatter, Moments.of(x).scatter, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_input_is_summed_in_float64(dtype):
    x = (normal(600, 5) + 30).to(dtype)
    narrow, wide = Moments.of(x.requires_grad_()), Moments.of(x.double())
    assert torch.equal(narrow.mean, wide.mean)
    assert torch.equal(narrow.scatter, wide.scatter)
    assert not narrow.scatter.requires_grad


def test_state_survives_a_file(tmp_path):
    found = Moments.of(normal(20, 3))
    save_file(found.state(), tmp_path / "moments.safetensors")
    again = Moments.from_state(load_file(tmp_path / "moments.safetensors"))
    assert again.n == 20
    assert torch.equal(again.mean, found.mean)
    assert torch.equal(again.scatter, found.scatter)


def test_foreign_states_are_refused():
    state = Moments.of(normal(20, 3)).state()
    with pytest.raises(InputError, match=r"\['mean', 'n'\].*Moments\.state\(\)"):
        Moments.from_state({name: state[name] for name in ("n", "mean")})
    for wrong in ({"scatter": state["scatter"][:2]}, {"mean": state["mean"].float()}, {"n": torch.ones(())}):
        with pytest.raises(InputError, match=r"\(d, d\) in float64"):
            Moments.from_state(state | wrong)


def test_wrong_rows_are_refused():
    x = normal(10, 3)
    broken = x.clone()
    broken[2, 1], broken[2, 2], broken[7, 0] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(InputError, match="features with NaN or infinity in 2 of 10 rows"):
        Moments.of(broken)
    with pytest.raises(InputError, match=r"shape \(10, 3, 1\).*\(n, d\).*flatten"):
        Moments.of(x[..., None])
    with pytest.raises(InputError, match=r"shape \(10, 0\)"):
        Moments.of(x[:, :0])
    with pytest.raises(InputError, match=r"0 row\(s\)"):
        Moments.of(x[:0])
    with pytest.raises(InputError, match=r"int64.*features\.double\(\)"):
        Moments.of(x.long())
    with pytest.raises(InputError, match="moments of 3 and 2 features"):
        Moments.of(x).merge(Moments.of(x[:, :2]))
    with pytest.raises(InputError, match=r"1 row\(s\).*at least 2"):
        _ = Moments.of(x[:1]).covariance
    with pytest.raises(InputError, match=r"real and fake.*\(10, 3\) and \(10, 2\).*the same d"):
        comparable(x, x[:, :2], names=("real", "fake"))
    # large but finite values are no reason to refuse, even where their sum overflows
    comparable(torch.full((4, 2), 1e308, dtype=torch.float64), names=("x",))
