"""The same features through other people's programs, where these are installed (the extra ``peers``)."""

import importlib
import math

import pytest
import torch

from vaelab.metrics import Moments, frechet_distance, neighbour_measures
from vaelab.metrics.distances import polynomial_mmd2
from vaelab.metrics.reconstruction import psnr, ssim


def _peer(name):
    try:
        return importlib.import_module(name)
    except Exception as error:  # some cannot be imported beside some builds of torch, and say so in their own ways
        pytest.skip(f"{name}: {error}")


def _features():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    x = torch.randn(300, 12, generator=generator, dtype=torch.float64) @ mixing
    y = 0.9 * torch.randn(300, 12, generator=generator, dtype=torch.float64) @ mixing + 0.2
    return x, y


def test_frechet_distance_is_that_of_torch_fidelity():
    peer, (x, y) = _peer("torch_fidelity.metric_fid"), _features()
    statistics = [peer.fid_features_to_statistics(part) for part in (x, y)]
    theirs = peer.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(theirs, rel=1e-9)


def test_kernel_distance_is_that_of_torch_fidelity():
    peer, (x, y) = _peer("torch_fidelity.metric_kid"), _features()
    theirs = peer.kernel_mmd(
        x.numpy(),
        y.numpy(),
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1.0,
    )
    assert polynomial_mmd2(x, y) == pytest.approx(theirs, rel=1e-9)


def test_neighbour_measures_are_those_of_prdc():
    peer, (x, y) = _peer("prdc"), _features()
    theirs = peer.compute_prdc(real_features=x.numpy(), fake_features=y.numpy(), nearest_k=4)
    ours = neighbour_measures(x, y, k_precision=4, k_density=4)._asdict()
    assert ours == pytest.approx({name: float(value) for name, value in theirs.items()}, rel=1e-9)


def test_errors_of_images_are_those_of_scikit_image():
    peer = _peer("skimage.metrics")
    x = torch.rand(1, 24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x + 0.1 * torch.randn(1, 24, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).clamp(0, 1)
    theirs = peer.peak_signal_noise_ratio(x[0].numpy(), y[0].numpy(), data_range=1.0)
    assert float(psnr(x[None], y[None])) == pytest.approx(theirs)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    theirs = peer.structural_similarity(x[0].numpy(), y[0].numpy(), **options)
    assert float(ssim(x[None], y[None])) == pytest.approx(theirs, abs=1e-9)
    assert math.isfinite(theirs)
