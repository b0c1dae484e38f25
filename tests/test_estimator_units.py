"""Scores and decoded values of estimators against direct computations, in the units that they are said to be in."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from helpers import small_vae
from vaelab import GaussianVAE, RegularizedAutoencoder, SequenceVAE
from vaelab.runs import Trained
from vaelab.verbs import remedies

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


SEQUENCES = [5 + 4 * np.random.default_rng(i).normal(size=(3 + i % 4, 2)) for i in range(12)]


@pytest.fixture(scope="module")
def sequences():
    return SequenceVAE(latent_dim=2, units=4, epochs=1, context=3, score_draws=2, random_state=0).fit(SEQUENCES)


def test_points_of_sequences_stand_with_their_place_their_past_and_their_owner(sequences):
    part = sequences.as_dataset(SEQUENCES).train
    every = np.concatenate(SEQUENCES)
    places = [(i, t) for i, x in enumerate(SEQUENCES) for t in range(len(x))]
    assert part.groups.tolist() == [i for i, _ in places]
    assert part.labels.tolist() == [min(t, 3) for _, t in places]
    windows = part.c.index_select(0, torch.arange(len(places)))
    for window, (i, t) in zip(windows, places, strict=True):
        past = (SEQUENCES[i][max(0, t - 3) : t] - every.mean(0)) / every.std(0)
        wanted = np.zeros((3, 3))
        wanted[3 - len(past) :] = np.concatenate([past, np.ones((len(past), 1))], 1)
        np.testing.assert_allclose(window.numpy(), wanted, atol=1e-5)
    bounds = sequences.trained_.bound(part.x, sequences.score_noise_, part.c).numpy()
    wanted = [sum(b for b, (owner, _) in zip(bounds, places, strict=True) if owner == i) for i in range(12)]
    np.testing.assert_allclose(sequences.score_samples(SEQUENCES), wanted, rtol=1e-6)


@pytest.mark.parametrize("noise", [False, True])
def test_what_was_drawn_is_the_newest_step_of_the_next_window(monkeypatch, sequences, noise):
    seen = []

    def sample(n, windows, *, generator, observation_noise):
        seen.append(windows.clone())
        assert observation_noise == noise
        return torch.full((n, 2), 1.0 + len(seen))  # in the network's units

    monkeypatch.setattr(sequences.trained_.vae, "sample", sample)
    drawn = sequences.sample(2, steps=3, prefix=SEQUENCES[0], observation_noise=noise)
    every = np.concatenate(SEQUENCES)
    np.testing.assert_allclose(drawn[0], every.mean(0) + every.std(0) * np.array([[2.0], [3.0], [4.0]]), rtol=1e-5)
    for step in (1, 2):
        assert torch.equal(seen[step][:, :-1], seen[step - 1][:, 1:])
        torch.testing.assert_close(seen[step][0, -1], torch.tensor([1.0 + step, 1.0 + step, 1.0]))


def bare():
    torch.manual_seed(0)
    return small_vae(3, 2)


def numbers(batches, x):
    rows = batches.take(torch.arange(len(batches)))[0]
    return {int(i) for i in torch.cdist(rows.double(), x.double()).argmin(1)}


@pytest.mark.parametrize(("gain", "shape"), [(0.1, "iso-i"), (0.5, "diag-i")])
def test_a_shape_is_scored_on_rows_that_it_was_not_set_from_and_must_gain_clearly(monkeypatch, gain, shape):
    """Scores differ by ±1 about a gain over 40 rows: two standard errors are 0.32."""
    x, calibrated, scored = torch.randn(40, 3), [], []
    calibrate = remedies._calibrate

    def noted(vae, rows, seed):
        calibrated.append(numbers(rows, x))
        calibrate(vae, rows, seed)

    def scores(vae, rows, seed):
        scored.append(numbers(rows, x))
        own = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(rows) // 2) + gain
        return -own if vae.likelihood.variance.gamma.numel() > 1 else torch.zeros_like(own)

    monkeypatch.setattr(remedies, "_calibrate", noted)
    monkeypatch.setattr(remedies, "_scores", scores)
    assert remedies.recalibrate(bare(), x).shape == shape
    for fitted, other in zip(calibrated[:4], scored[:4], strict=True):
        assert (fitted | other, fitted & other) == (set(range(40)), set())


def test_networks_are_trained_on_at_a_small_rate_without_the_rows_held_out(monkeypatch):
    x, given = torch.randn(60, 3), {}

    def fit(vae, rows, settings, *, seed, held_out):
        given.update(rows=numbers(rows, x), held_out=numbers(held_out, x), lr=settings.lr, epochs=settings.epochs)

    monkeypatch.setattr(remedies, "fit", fit)
    remedies.retrain(bare(), x, {"epochs": 7})
    assert (given["rows"] | given["held_out"], given["rows"] & given["held_out"]) == (set(range(60)), set())
    assert (given["lr"], given["epochs"]) == (remedies._FINE, 7)
