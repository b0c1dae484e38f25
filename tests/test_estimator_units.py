"""Scores and decoded values of estimators against direct computations, in the units that they are said to be in."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from vaelab import GaussianVAE, RegularizedAutoencoder
from vaelab.runs import Trained

QUICK = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}
X = 7 + np.random.default_rng(0).normal(size=(80, 3)) @ np.array([[1.0, 2.0, 0.0], [0.0, 30.0, 1.0], [0.0, 0.0, 0.5]])


@pytest.fixture(scope="module")
def model():
    return GaussianVAE(**QUICK, score_draws=3).fit(X)


def test_scores_are_the_mean_bound_over_the_draws_in_the_units_of_x(model):
    """ln N(x; μ(z), γ) − KL(q ‖ N(0, I)) of every draw, less the logarithm of the columns' deviations."""
    vae, mean, std = copy.deepcopy(model.trained_.vae).double(), X.mean(0), X.std(0)
    x, gamma = torch.tensor((X - mean) / std), model.gamma_
    assert model.score_noise_.shape == (3, 2)
    with torch.no_grad():
        q = vae.encode(x)
        kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
        total = torch.zeros(len(x), dtype=torch.float64)
        for noise in model.score_noise_.double():
            error = (x - vae.decode(q.mean + q.stddev * noise)).square().sum(1)
            total += -0.5 * error / gamma - 1.5 * math.log(2 * math.pi * gamma) - kl
    wanted = total.numpy() / 3 - np.log(std).sum()
    np.testing.assert_allclose(model.score_samples(X), wanted, rtol=1e-5)
    assert model.score(X) == pytest.approx(wanted.mean(), rel=1e-5)


def test_the_score_of_an_autoencoder_is_minus_its_mean_squared_error_in_standard_deviations():
    found = RegularizedAutoencoder(**QUICK, densities=("gaussian",)).fit(X)
    wanted = -(((found.reconstruct(X) - X) / X.std(0)) ** 2).mean()
    assert found.score(X) == pytest.approx(wanted, rel=1e-5)


def test_decoded_pixels_are_rounded_and_clipped(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 2, 2), dtype=np.uint8)
    found = GaussianVAE(**QUICK).fit(pixels)
    monkeypatch.setattr(Trained, "decode", lambda *_: torch.tensor([12.6, 12.4, -3.0, 300.0]).view(1, 1, 2, 2))
    decoded = found.inverse_transform(np.zeros((1, 2)))
    assert decoded.dtype == np.uint8
    assert decoded.flatten().tolist() == [13, 12, 0, 255]


def test_the_tolerance_of_prune_is_the_callers(model):
    for tolerance in (1e-9, 1e9):
        if tolerance < 1:
            with pytest.warns(UserWarning, match="dropped dimensions carry something"):
                small = model.prune(X, keep=[0], tolerance=tolerance)
        else:
            small = model.prune(X, keep=[0], tolerance=tolerance)
        assert small.pruned_.tolerance == tolerance
        assert small.pruned_.parity == (tolerance > 1)
