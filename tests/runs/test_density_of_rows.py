"""On plain tables two stages are at least a mixture of Gaussians, and a richer variance at least a poorer one."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.mixture import GaussianMixture

import vaelab
from vaelab import GaussianVAE, TwoStageVAE, VAEDetector
from vaelab.data import ArrayBatches
from vaelab.errors import VaelabWarning
from vaelab.latent import Codes, Mixture
from vaelab.model import ProfiledVariance
from vaelab.runs import assess, findings

QUICK = {"network": "mlp([64])", "epochs": 40, "random_state": 0}


def table(name):
    """Standardised rows of training and others, with ties broken."""
    if name == "clusters":
        generator = np.random.default_rng(1)
        x = np.concatenate(
            [generator.normal(size=(300, 4)) @ generator.normal(size=(4, 4)) * 0.3 + m for m in (0, 2, 4)]
        )
    else:
        x = getattr(datasets, f"load_{name}")().data.astype(float)
    generator = np.random.default_rng(0)
    x = x + np.array([np.diff(np.unique(column)).min() for column in x.T]) * generator.uniform(-0.5, 0.5, x.shape)
    x = x[generator.permutation(len(x))]
    train, unseen = x[: len(x) * 7 // 10], x[len(x) * 7 // 10 :]
    return (train - train.mean(0)) / train.std(0), (unseen - train.mean(0)) / train.std(0)


def by_bic(rows, unseen):
    kinds = [(k, covariance) for k in range(1, 9) for covariance in ("full", "tied", "diag")]
    fits = [GaussianMixture(k, covariance_type=kind, reg_covar=1e-5, random_state=0).fit(rows) for k, kind in kinds]
    return min(fits, key=lambda fit: fit.bic(rows)).score(unseen)


def fitted(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        return model.fit(x)


@pytest.mark.parametrize("name", ["iris", "diabetes", "breast_cancer", "clusters"])
def test_two_stages_are_worth_at_least_a_mixture(name):
    """A mixture by BIC of the same rows, all of them; under the prior alone the clusters are 2 nats below it."""
    rows, unseen = table(name)
    model = fitted(TwoStageVAE(32, densities=("gaussian", "mixture"), held_out=0.25, **QUICK), rows)
    found = max(model.log_likelihood(unseen, k=50, density=each).mean() for each in ("prior", "mixture"))
    assert found > by_bic(rows, unseen) - 0.4


@pytest.mark.parametrize("name", ["iris", "wine", "diabetes", "breast_cancer", "clusters"])
def test_a_variance_per_column_is_worth_at_least_one_variance(name):
    rows, unseen = table(name)
    one, per_column = (
        fitted(GaussianVAE(8, likelihood=each, **QUICK), rows).log_likelihood(unseen, k=50).mean()
        for each in ("gaussian", "gaussian(shape=diag-i)")
    )
    assert per_column > one - 0.05


@pytest.fixture(scope="module")
def whitened():
    rows, _ = table("clusters")
    return fitted(TwoStageVAE(6, densities=("gaussian", "mixture"), **QUICK), rows), rows


def test_a_code_that_is_the_whitened_columns_is_named_wherever_dimensions_are_read(whitened):
    model, rows = whitened
    trained = model.trained_
    assert trained.facts.lossless
    assert model.active_dimensions_ == 4
    assert float(trained.vae.likelihood.variance.gamma) == pytest.approx(1e-6, rel=0.05)
    assert findings(trained, assess(trained, model.as_dataset(rows).train))[0] == trained.whitened
    for count in (vaelab.manifold_dimension, vaelab.local_dimension):
        with pytest.warns(VaelabWarning, match="The code is the whitened columns"):
            count(model, rows)
    said = vaelab.diagnose(model, rows)
    assert said.main.name == "whitened-columns"
    assert said.healthy
    assert "Healthy" not in str(said)
    assert said.active == 4


def test_what_is_judged_by_its_bound_or_counted_is_never_whitened():
    rows, _ = table("clusters")
    assert not fitted(GaussianVAE(6, **QUICK), rows).trained_.facts.lossless
    assert not fitted(TwoStageVAE("auto", densities="mixture", **QUICK), rows).trained_.facts.lossless
    one_start = QUICK | {"network": "mlp([64], start=random)"}
    assert not fitted(TwoStageVAE(6, densities="mixture", **one_start), rows).trained_.facts.lossless


def test_densities_are_fitted_to_all_codes_in_the_end_and_compared_before(whitened):
    model, rows = whitened
    vae, scaling = model.trained_.vae, model.trained_.scaling
    everything = Codes.of(vae, ArrayBatches(scaling.to_net(torch.from_numpy(rows).float())))
    mean, _ = everything.moments()
    used = ~everything.idle  # of the others there are draws
    torch.testing.assert_close(model.trained_.densities["gaussian"].means[0, used], mean[used], atol=2e-3, rtol=0)
    held_out = model.trained_.facts.code_scores["gaussian"]
    again = model.trained_.densities["gaussian"].log_prob(everything.sample()).mean()
    assert held_out != pytest.approx(float(again), abs=1e-4)


def test_a_mixture_of_few_codes_is_the_mean_of_five_by_bic():
    rows, unseen = (torch.from_numpy(part).float() for part in table("clusters"))
    codes, still = Codes(rows, torch.zeros_like(rows)), torch.zeros_like(unseen)
    found = Mixture.select(codes)
    assert found.components == 5 * 3
    assert found.weights.sum() == pytest.approx(1, abs=1e-5)
    parts = [
        Mixture(5 * found.weights[own], found.means[own], found.scale_trils[own]) for own in torch.arange(15).chunk(5)
    ]
    each = torch.stack([part.log_prob(unseen) for part in parts])
    torch.testing.assert_close(found.log_prob(unseen), each.logsumexp(0) - np.log(5), atol=1e-3, rtol=1e-4)
    assert found.log_prob(unseen).mean() >= each.mean() - 1e-4
    assert Mixture.select(Codes(unseen[:19], still[:19])).components == 1


def test_idle_dimensions_have_a_law_of_their_own():
    rows = torch.from_numpy(table("clusters")[0]).float()
    generator = torch.Generator().manual_seed(0)
    idle = 0.01 * torch.randn(len(rows), 2, generator=generator)
    loc = torch.cat([idle[:, :1], rows, idle[:, 1:]], 1)
    scale = torch.cat([torch.ones(len(rows), 1), torch.zeros_like(rows), torch.ones(len(rows), 1)], 1)
    codes = Codes(loc, scale)
    assert codes.idle.tolist() == [True, False, False, False, False, True]
    found, alone = Mixture.select(codes), Mixture.select(codes.of_dimensions(~codes.idle))
    beside = torch.distributions.Normal(*(each[codes.idle] for each in codes.moments()))
    z = codes.sample(generator=generator)
    wanted = alone.log_prob(z[:, 1:5]) + beside.log_prob(z[:, [0, 5]]).sum(1)
    torch.testing.assert_close(found.log_prob(z), wanted, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_floor_of_a_variance_is_not_counted_twice(diagonal):
    from helpers import small_vae
    from vaelab.model import Gaussian
    from vaelab.model.linear import begin_linear, whitening

    rows = torch.from_numpy(table("clusters")[0])
    vae = small_vae(4, 4).double().replace(likelihood=Gaussian(ProfiledVariance(diagonal=diagonal, floor=1e-4)))
    model = whitening(rows, 1e-4)
    covariance = torch.cov(rows.T, correction=0)
    exact = torch.distributions.MultivariateNormal(rows.mean(0), covariance).log_prob(rows)
    torch.testing.assert_close(model.log_prob(rows), exact)
    begin_linear(vae.eval(), model)
    with torch.no_grad():
        found = vae.importance(rows, noise=torch.randn(2, len(rows), 4).double())
        weights = found.log_likelihood + vae.prior(None).log_prob(found.z) - found.log_q
    torch.testing.assert_close(weights, exact.expand(2, -1), rtol=1e-5, atol=1e-5)


def test_rows_are_scored_by_the_law_of_a_whitened_code():
    """Rows of clusters are told from rows of a Gaussian with their covariance; under N(0, I) they could not be."""
    rows, unseen = table("clusters")
    model = fitted(TwoStageVAE(6, densities=("gaussian", "mixture"), held_out=0.25, **QUICK), rows)
    assert model.trained_.facts.lossless
    generator = np.random.default_rng(0)
    others = generator.multivariate_normal(rows.mean(0), np.cov(rows.T), len(unseen))
    ours, theirs = model.score_samples(unseen), model.score_samples(others)
    assert (ours[:, None] > theirs).mean() > 0.8
    best = model.log_likelihood(unseen, k=50, density="mixture").mean()
    assert ours.mean() == pytest.approx(best, abs=0.5)
    assert np.isfinite(model.score_samples(1e6 * unseen)).all()
    detector = VAEDetector(model)
    detector.calibrate(rows[:100])
    entries, divergence = detector.explain(unseen)
    np.testing.assert_allclose(-entries.sum(1) - divergence, detector.score_samples(unseen), rtol=1e-5)
