"""Gaussian mixtures of rows with gaps, against what dense algebra and complete rows say."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from vaelab.latent.incomplete import choose_incomplete, fit_incomplete, given, maximise_incomplete, told
from vaelab.latent.mixtures import Maximum

LAW = Maximum(
    torch.tensor([0.3, 0.7]).double(),
    torch.tensor([[0.0, 1.0, -1.0], [2.0, -1.0, 0.5]]).double(),
    torch.stack([torch.eye(3).double() + 0.5, torch.tensor([[1.0, 0.8, 0], [0.8, 1.0, 0.2], [0, 0.2, 0.5]]).double()]),
)


def drawn(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    which = torch.multinomial(LAW.weights, n, replacement=True, generator=generator)
    noise = torch.randn(n, 3, generator=generator).double()
    return LAW.means[which] + torch.einsum("nij,nj->ni", torch.linalg.cholesky(LAW.covariances)[which], noise)


def test_components_are_conditioned_exactly():
    rows = torch.tensor([[0.5, float("nan"), 1.0], [float("nan")] * 3, [1.0, 2.0, 3.0]]).double()
    found = given(rows, LAW, spread=True)
    for k in range(2):
        mean, covariance = LAW.means[k], LAW.covariances[k]
        o = [0, 2]
        density = multivariate_normal(mean[o], covariance[o][:, o]).logpdf(rows[0, o])
        assert found.log_prob[0, k] == pytest.approx(float(LAW.weights[k].log()) + density)
        gain = covariance[1, o] @ torch.linalg.inv(covariance[o][:, o])
        assert found.expected[0, k, 1] == pytest.approx(float(mean[1] + gain @ (rows[0, o] - mean[o])))
        assert found.spread[0, k, 1, 1] == pytest.approx(float(covariance[1, 1] - gain @ covariance[o, 1]))
        assert found.spread[0, k].count_nonzero() == 1
        torch.testing.assert_close(found.expected[1, k], mean)
        torch.testing.assert_close(found.spread[1, k], covariance)
    torch.testing.assert_close(found.log_prob[1], LAW.weights.log())


def test_an_entry_is_told_as_if_it_were_missing():
    rows = drawn(20)
    rows[::3, 1] = float("nan")
    found = told(rows, LAW)
    bent = told(rows, LAW, lambda own: 2 * own + 1)
    for j in range(3):
        without = rows.clone()
        without[:, j] = float("nan")
        apart = given(without, LAW)
        wanted = (apart.log_prob.softmax(1)[..., None] * apart.expected).sum(1)[:, j]
        there = ~rows[:, j].isnan()
        torch.testing.assert_close(found[there, j], wanted[there])
        torch.testing.assert_close(bent[there, j], 2 * wanted[there] + 1)


def test_a_mixture_is_found_again_from_rows_with_gaps():
    rows = drawn(3000)
    rows[torch.rand(rows.shape, generator=torch.Generator().manual_seed(1)) < 0.25] = float("nan")
    found = maximise_incomplete(rows, 2)
    order = found.weights.argsort()
    torch.testing.assert_close(found.weights[order], LAW.weights, atol=0.04, rtol=0)
    torch.testing.assert_close(found.means[order], LAW.means, atol=0.15, rtol=0)
    torch.testing.assert_close(found.covariances[order], LAW.covariances, atol=0.2, rtol=0)


def test_one_gaussian_of_whole_rows_has_their_moments_but_for_the_prior():
    rows = drawn(500)
    found = maximise_incomplete(rows, 1, strength=1e-6)
    torch.testing.assert_close(found.means[0], rows.mean(0))
    torch.testing.assert_close(found.covariances[0], torch.cov(rows.T, correction=0), rtol=1e-3, atol=1e-4)


def test_components_are_as_many_as_tell_entries_from_each_other():
    rows = drawn(400)
    gaussian = torch.from_numpy(
        np.random.default_rng(0).multivariate_normal(np.zeros(3), LAW.covariances[1].numpy(), 400)
    )
    assert choose_incomplete(rows, most=2).components == 2
    one, many = choose_incomplete(gaussian, most=1), choose_incomplete(gaussian, most=4)
    assert many.error > 0.98 * one.error
    together = fit_incomplete(rows, 2)
    assert float(together.weights.sum()) == pytest.approx(1)
    assert len(together.means) == 10
