"""Stepwise EM against scikit-learn's EM and a mixture that is known."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from vaelab.latent import Codes, Mixture, mixtures
from vaelab.latent.stepwise import Parameters, maximum, statistics, stepwise_em


def rows(n=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(9))
    which = torch.randint(6, (n,), generator=generator)
    return (100 + means[which] + 0.5 * torch.randn(n, 3, generator=generator)).double()


def score(found, x):
    return float(Mixture(found.weights, found.means, torch.linalg.cholesky(found.covariances)).log_prob(x).mean())


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_a_step_on_all_rows_is_a_step_of_em(kind):
    x, generator = rows(400) - 100, torch.Generator().manual_seed(1)
    weights = torch.tensor([0.25, 0.5, 0.25]).double()
    means = torch.randn(3, 3, generator=generator).double()
    precisions = torch.diag_embed(torch.rand(3, 3, generator=generator).double() + 0.5)
    given = Parameters(weights, means, torch.linalg.inv(precisions))
    ours = maximum(statistics(x, given), ridge=1e-4, diagonal=kind == "diag")
    model = GaussianMixture(
        3,
        covariance_type=kind,
        max_iter=1,
        reg_covar=1e-4,
        weights_init=weights.numpy(),
        means_init=means.numpy(),
        precisions_init=(precisions if kind == "full" else precisions.diagonal(dim1=1, dim2=2)).numpy(),
    )
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model.fit(x.numpy())
    covariances = torch.as_tensor(model.covariances_)
    theirs = torch.diag_embed(covariances) if kind == "diag" else covariances
    np.testing.assert_allclose(ours.weights, model.weights_, rtol=1e-10)
    np.testing.assert_allclose(ours.means, model.means_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.covariances, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("diagonal", [False, True])
def test_batches_end_where_em_ends(monkeypatch, diagonal):
    from vaelab.latent import stepwise

    monkeypatch.setattr(stepwise, "_LEAST_BATCH", 500)
    monkeypatch.setattr(stepwise, "_BLOCK", 700)
    x, unseen = rows(), rows(2000, 1)
    found = stepwise_em(x, 6, ridge=1e-5, seed=0, diagonal=diagonal)
    model = GaussianMixture(6, covariance_type="diag" if diagonal else "full", random_state=0).fit(x.numpy())
    assert score(found, unseen) > model.score(unseen.numpy()) - 0.03
    assert found.weights.sum() == pytest.approx(1)
    again = stepwise_em(x, 6, ridge=1e-5, seed=0, diagonal=diagonal)
    assert torch.equal(found.means, again.means)
    if diagonal:
        assert (
            float((found.covariances - torch.diag_embed(found.covariances.diagonal(dim1=1, dim2=2))).abs().max()) == 0
        )


def test_more_components_than_clusters_leave_a_proper_mixture():
    x = torch.cat([torch.zeros(300, 2), torch.ones(300, 2)]).double()
    found = stepwise_em(x, 20, ridge=1e-5, seed=0)
    assert bool(torch.linalg.eigvalsh(found.covariances).min() > 0)
    assert np.isfinite(score(found, x))


def test_large_mixtures_are_fitted_in_batches(monkeypatch):
    x = rows().float()
    codes, unseen = Codes(x, torch.zeros_like(x)), rows(1000, 1).float()
    whole = Mixture.fit(codes, components=6)
    monkeypatch.setattr(mixtures, "_MANY", 0)
    batches = Mixture.fit(codes, components=6)
    assert not torch.equal(whole.means, batches.means)
    assert float(batches.log_prob(unseen).mean()) == pytest.approx(float(whole.log_prob(unseen).mean()), abs=0.05)
