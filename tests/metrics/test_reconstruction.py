"""Errors of reconstructions against direct sums."""

import math

import pytest
import torch

from vaelab.errors import InputError
from vaelab.metrics import reconstruction as module
from vaelab.metrics.reconstruction import psnr, squared_error, ssim


def images(n: int = 3, channels: int = 2, height: int = 13, width: int = 16, *, noise: float = 0.2):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, channels, height, width, generator=generator, dtype=torch.float64)
    y = x + noise * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return x, y.clamp(0, 1)


def direct_ssim(x, y, peak):
    """Eq. 13 of Wang et al. 2004 window by window, with central moments."""
    sizes = [min(11, side if side % 2 else side - 1) for side in x.shape]
    axes = [[math.exp(-((i - size // 2) ** 2) / (2 * 1.5**2)) for i in range(size)] for size in sizes]
    weights = torch.tensor([[a * b for b in axes[1]] for a in axes[0]], dtype=torch.float64)
    weights /= weights.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for top in range(x.shape[0] - sizes[0] + 1):
        for left in range(x.shape[1] - sizes[1] + 1):
            a, b = (image[top : top + sizes[0], left : left + sizes[1]] for image in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(float(luminance * (2 * covariance + c2) / (var_a + var_b + c2)))
    return sum(values) / len(values)


@pytest.mark.parametrize("size", [(13, 16), (11, 11), (8, 8), (4, 30), (1, 5)])
@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_ssim_is_the_mean_over_windows_and_channels(size, peak):
    x, y = (peak * part for part in images(2, 2, *size))
    direct = [sum(direct_ssim(a[k], b[k], peak) for k in range(2)) / 2 for a, b in zip(x, y, strict=True)]
    assert ssim(x, y, peak=peak).tolist() == pytest.approx(direct, abs=1e-10)


def test_ssim_of_flat_images_is_its_luminance_term():
    a, b = 0.25, 0.75
    value = ssim(torch.full((1, 1, 16, 16), a).double(), torch.full((1, 1, 16, 16), b).double())
    assert float(value) == pytest.approx((2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4), abs=1e-12)


def test_ssim_is_symmetric_one_for_equal_images_and_falls_with_noise():
    x, little = images(noise=0.05)
    _, much = images(noise=0.5)
    torch.testing.assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(ssim(x, little), ssim(little, x))
    assert bool((ssim(x, little) > ssim(x, much) + 0.1).all())


def test_ssim_does_not_depend_on_the_blocks(monkeypatch):
    x, y = images(7)
    whole = ssim(x, y)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 2 * x[0].numel())
    torch.testing.assert_close(ssim(x, y), whole, rtol=0, atol=1e-14)


def test_squared_error_and_psnr_are_their_sums():
    x, y = images()
    direct = [sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for a, b in _flat(x, y)]
    assert squared_error(x, y).tolist() == pytest.approx(direct, rel=1e-12)
    assert psnr(x, y).tolist() == pytest.approx([-10 * math.log10(total / x[0].numel()) for total in direct], rel=1e-12)
    torch.testing.assert_close(psnr(255 * x, 255 * y, peak=255), psnr(x, y))
    # an error of a tenth of the peak everywhere: 20 dB
    assert psnr(torch.zeros(1, 4).double(), torch.full((1, 4), 0.1).double()).tolist() == pytest.approx([20.0])


def test_equal_rows_have_infinite_psnr_and_the_others_do_not():
    x, y = images(2)
    y[0] = x[0]
    found = psnr(x, y).tolist()
    assert found[0] == math.inf
    assert 0 < found[1] < 100
    assert squared_error(x, y)[0] == 0


def test_uint8_does_not_wrap_around():
    x = torch.tensor([[[[0, 255], [10, 200]]]], dtype=torch.uint8)
    y = torch.tensor([[[[255, 0], [11, 200]]]], dtype=torch.uint8)
    assert squared_error(x, y).tolist() == [2 * 255**2 + 1]
    assert ssim(x, y, peak=255).tolist() == ssim(x.double(), y.double(), peak=255).tolist()
    assert psnr(x, y, peak=255).tolist() == psnr(x.double(), y.double(), peak=255).tolist()


def test_wrong_input_is_refused():
    x, y = images()
    for metric in (squared_error, psnr, ssim):
        with pytest.raises(InputError, match="equal shapes"):
            metric(x, y[..., :-1])
        with pytest.raises(InputError, match="equal shapes"):
            metric(x[:0], y[:0])
    with pytest.raises(InputError, match="3 and 2 images"):
        ssim(x, y[:2])
    with pytest.raises(InputError, match="Use psnr"):
        ssim(x.flatten(1), y.flatten(1))
    for metric in (psnr, ssim):
        for peak in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(InputError, match="peak="):
                metric(x, y, peak=peak)


def _flat(x, y):
    return zip(x.flatten(1).tolist(), y.flatten(1).tolist(), strict=True)
