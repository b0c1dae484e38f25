"""Exact answers: linear models, closed forms, autograd. All in float64."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from helpers import Rows, small_vae
from vaelab.data import ArrayBatches
from vaelab.diagnostics.dimension import dimensions_of
from vaelab.model import (
    VAE,
    Bernoulli,
    DiagonalNormal,
    FixedVariance,
    Gaussian,
    LearnedVariance,
    ProfiledVariance,
    StandardNormal,
    draw,
    kl,
)
from vaelab.model.posteriors import Posterior
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.training.evaluation import mean_objective


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Affine(nn.Module):
    """A network that takes and ignores a condition."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.as_tensor(weight)), nn.Parameter(torch.as_tensor(bias))

    def forward(self, x, c=None):
        return x @ self.weight.T + self.bias


class GivenCovariance(Posterior):
    """N(what the encoder says, one covariance for all x); the exact posterior of a linear Gaussian model."""

    def __init__(self, covariance):
        super().__init__()
        self.tril = torch.linalg.cholesky(covariance)

    def parameter_count(self, latent_dim):
        return latent_dim

    def forward(self, parameters):
        return MultivariateNormal(parameters, scale_tril=self.tril.expand(len(parameters), -1, -1))


def linear_vae(loadings, mean, noise, variance):
    """The VAE whose posterior is the exact one of x = W z + m + N(0, diag noise)."""
    precision = loadings.T / noise  # (κ, d)
    covariance = torch.linalg.inv(torch.eye(loadings.shape[1]) + precision @ loadings)
    gain = covariance @ precision
    return VAE(
        Affine(gain, -gain @ mean),
        Affine(loadings, mean),
        latent_dim=loadings.shape[1],
        posterior=GivenCovariance(covariance),
        likelihood=Gaussian(variance),
    )


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.3, 1.5, 6)
    return rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + scales * rng.normal(size=(300, 6)) + 1.0


def test_bound_of_a_linear_vae_is_the_likelihood_of_pca(table):
    pca = PCA(2).fit(table)
    scale = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    loadings = torch.as_tensor(pca.components_.T * scale)
    noise = torch.full((6,), float(pca.noise_variance_))
    vae = linear_vae(loadings, torch.as_tensor(pca.mean_), noise, FixedVariance(float(pca.noise_variance_)))
    elbo = torch.stack([-vae(torch.as_tensor(table)).per_sample for _ in range(3)])
    # the bound is tight, so log p(x|z) + log p(z) − log q(z|x) is log p(x) for every draw; here in expectation over q
    one_draw = _one_draw_bound(vae, torch.as_tensor(table))
    np.testing.assert_allclose(one_draw.detach().numpy(), pca.score_samples(table), atol=1e-9)
    assert abs(float(elbo.mean()) - pca.score_samples(table).mean()) < 0.2


def test_bound_of_a_linear_vae_is_the_likelihood_of_factor_analysis(table):
    fa = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(table)
    noise = torch.as_tensor(fa.noise_variance_)
    vae = linear_vae(torch.as_tensor(fa.components_.T), torch.as_tensor(fa.mean_), noise, FixedVariance(noise))
    one_draw = _one_draw_bound(vae, torch.as_tensor(table))
    np.testing.assert_allclose(one_draw.detach().numpy(), fa.score_samples(table), atol=1e-9)


def _one_draw_bound(vae, x):
    q = vae.encode(x)
    z = draw(q, torch.randn_like(q.mean))
    p = vae.prior()
    return -vae.likelihood.nll(vae.decoder(z), x) + p.log_prob(z) - q.log_prob(z)


def test_expected_bound_with_closed_form_kl_is_the_likelihood(table):
    """The same through `VAE.forward`: E_q of the distortion in closed form, plus the closed-form KL."""
    pca = PCA(2).fit(table)
    loadings = torch.as_tensor(pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_))
    gamma = float(pca.noise_variance_)
    vae = linear_vae(loadings, torch.as_tensor(pca.mean_), torch.full((6,), gamma), FixedVariance(gamma))
    x = torch.as_tensor(table)
    at_mean = vae(x, noise=torch.zeros(len(x), 2))
    spread = torch.trace(loadings @ vae.posterior.tril @ vae.posterior.tril.T @ loadings.T) / (2 * gamma)
    elbo = -(at_mean.per_sample + spread)
    np.testing.assert_allclose(elbo.detach().numpy(), pca.score_samples(table), atol=1e-9)


def test_gamma_and_posterior_at_the_optimum_of_probabilistic_pca():
    """Fit a linear VAE by gradient: γ* is the mean discarded eigenvalue, λ_j = γ*/eigenvalue_j."""
    generator = torch.Generator().manual_seed(0)
    eigenvalues = torch.tensor([4.0, 2.0, 0.3, 0.2, 0.1])
    x = torch.randn(2000, 5, generator=generator)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T, correction=0))).T * eigenvalues.sqrt()
    encoder, decoder = nn.Linear(5, 4), nn.Linear(2, 5)
    vae = VAE(Wrapped(encoder), Wrapped(decoder), latent_dim=2, likelihood=Gaussian(ProfiledVariance()))
    optimizer = torch.optim.Adam(vae.parameters(), 2e-2)
    for step in range(3000):
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * (1 - step / 3000)
        optimizer.zero_grad()
        vae(x, noise=torch.randn(2000, 2, generator=generator)).total.backward()
        optimizer.step()
    assert float(vae.likelihood.variance.gamma) == pytest.approx(0.2, rel=0.05)
    ratios = vae.encode(x).variance.mean(0).sort().values.detach()
    np.testing.assert_allclose(ratios, [0.2 / 4, 0.2 / 2], rtol=0.1)


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, c=None):
        return self.net(x)


def test_closed_form_kl_equals_torch_and_monte_carlo():
    loc, scale = torch.randn(4, 3), torch.rand(4, 3) + 0.2
    q, p = DiagonalNormal(loc, scale), StandardNormal(torch.zeros(3), torch.ones(3))
    reference = kl_divergence(Independent(Normal(loc, scale), 1), Independent(Normal(torch.zeros(3), torch.ones(3)), 1))
    torch.testing.assert_close(kl(q, p, loc), reference)
    other = DiagonalNormal(torch.randn(4, 3), torch.rand(4, 3) + 0.2)
    reference = kl_divergence(Independent(Normal(loc, scale), 1), Independent(Normal(other.loc, other.scale), 1))
    torch.testing.assert_close(kl(q, other, loc), reference)
    full = MultivariateNormal(loc, scale_tril=torch.diag_embed(scale) + torch.randn(4, 3, 3).tril(-1))
    reference = kl_divergence(full, MultivariateNormal(other.loc, torch.diag_embed(other.variance)))
    torch.testing.assert_close(kl(full, other, loc), reference)
    z = draw(q, torch.randn(200_000, 4, 3))
    sampled = (q.log_prob(z) - p.log_prob(z)).mean(0)
    torch.testing.assert_close(kl(q, p, loc), sampled, rtol=0.02, atol=0.02)


def test_nelbo_has_all_its_constants():
    vae = small_vae(variance=FixedVariance(0.37)).double()
    x, noise = torch.randn(5, 6), torch.randn(5, 3)
    q = vae.encode(x)
    z = q.mean + q.stddev * noise
    p_x = Independent(Normal(vae.decode(z), math.sqrt(0.37)), 1)
    reference = -p_x.log_prob(x) + kl_divergence(
        Independent(Normal(q.mean, q.stddev), 1), Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    )
    torch.testing.assert_close(vae(x, noise=noise).per_sample, reference)


def test_bernoulli_is_the_cross_entropy():
    logits, x = torch.randn(4, 1, 3, 3), torch.rand(4, 1, 3, 3)
    p = logits.sigmoid()
    reference = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(Bernoulli().nll(logits, x), reference)


@pytest.mark.parametrize("link", ["identity", "sigmoid"])
def test_profiled_objective_is_the_plain_nll_with_gamma_put_in(link):
    """Value and gradient: (d/2) log of the mean squared error, against N(μ, γ̂ I) with γ̂ detached."""
    x, out = torch.rand(7, 2, 3), torch.randn(7, 2, 3, requires_grad=True)
    profiled = Gaussian(ProfiledVariance(), link=link)
    value = profiled.nll(out, x).mean()
    (gradient,) = torch.autograd.grad(value, out)
    squared = (x - (out.sigmoid() if link == "sigmoid" else out)).square()
    d = 6
    closed = d / 2 * (1 + math.log(2 * math.pi) + squared.mean().log())
    (expected,) = torch.autograd.grad(closed, out, retain_graph=True)
    torch.testing.assert_close(value, closed)
    torch.testing.assert_close(gradient, expected)
    gamma = float(squared.mean())
    plain = -Normal(x - x + profiled.mean(out), math.sqrt(gamma)).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(profiled.nll(out, x), plain)


def test_learned_gamma_has_the_gradient_of_the_gaussian():
    variance = LearnedVariance(0.5)
    x, out = torch.randn(4, 5), torch.randn(4, 5)
    Gaussian(variance).nll(out, x).mean().backward()
    squared = (x - out).square().sum(1).mean()
    # d/ds of ‖e‖²/(2e^{2s}) + d s, with s = log √γ
    assert float(variance.log_std.grad) == pytest.approx(float(-squared / 0.5 + 5))


def test_calibration_is_the_mean_squared_error_of_the_training_set():
    vae = small_vae().double()
    x = torch.randn(257, 6)
    generator = torch.Generator().manual_seed(3)
    vae.calibrate(Rows(x), batch_size=100, generator=generator)
    generator = torch.Generator().manual_seed(3)
    errors = []
    for part in x.split(100):
        torch.randn(len(part), 0, generator=generator)
        noise = torch.randn(len(part), 3, generator=generator)
        errors.append((vae.decode(draw(vae.encode(part), noise)) - part).square())
    assert float(vae.likelihood.variance.gamma) == pytest.approx(float(torch.cat(errors).mean()))


def test_evaluation_uses_the_stored_gamma_and_fixed_noise():
    vae = small_vae().double()
    vae.calibrate(Rows(torch.randn(64, 6)), generator=torch.Generator().manual_seed(0))
    rows = Rows(torch.randn(40, 6))
    first, second = mean_objective(vae, rows, batch_size=16), mean_objective(vae, rows, batch_size=16)
    assert first == second
    assert mean_objective(vae, rows, batch_size=16, seed=1)["loss"] != first["loss"]
    assert first["loss"] == pytest.approx(first["distortion"] + first["kl"])


class Unsquashed(nn.Module):
    """An encoder that reads logit x beside c: on a sigmoid manifold an affine map of these is exact."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x, c=None):
        return self.encoder(x.logit(), c)


def _expected(vae, x, c, kappa):
    """Mean NELBO with E over z by 2κ points ±√κ e_j, exact up to third moments: no noise in loss or gradient."""
    points = math.sqrt(kappa) * torch.cat([torch.eye(kappa), -torch.eye(kappa)])
    many = 2 * kappa
    conditions = None if c is None else c.repeat_interleave(many, 0)
    return vae(x.repeat_interleave(many, 0), conditions, noise=points.repeat(len(x), 1)).total


def _minimise(vae, x, c, kappa, steps):
    optimizer = torch.optim.LBFGS(
        vae.parameters(), max_iter=steps, history_size=30, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure():
        optimizer.zero_grad()
        loss = _expected(vae, x, c, kappa)
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return float(_expected(vae, x, c, kappa))


@pytest.mark.parametrize(("d", "r", "t"), [(8, 3, 0), (8, 3, 2)])
def test_nelbo_falls_with_log_gamma_as_the_theorems_say(d, r, t):
    """Zheng et al. 2022, Theorems 1 and 2: 2 NELBO = (d − r + t) log γ + O(1), and r − t active dimensions.

    x = sigmoid(G u + b) and c = the first t entries of u; γ is fixed, and each optimum starts from the last one.
    """
    generator = torch.Generator().manual_seed(d + r + t)
    u = torch.randn(60, r, generator=generator)
    x = (u @ torch.randn(r, d, generator=generator) * 0.5 + 0.3 * torch.randn(d, generator=generator)).sigmoid()
    c, kappa = u[:, :t] if t else None, r + 2
    encoder = MLPEncoder((d,), 2 * kappa, hidden=(), condition_dim=t)
    vae = VAE(
        Unsquashed(encoder),
        MLPDecoder(kappa, (d,), hidden=(), condition_dim=t),
        latent_dim=kappa,
        likelihood=Gaussian(FixedVariance(0.1), link="sigmoid"),
    )
    losses, logs = [], []
    for exponent in (-2, -3, -4, -5, -6):
        vae.likelihood = Gaussian(FixedVariance(10.0**exponent), link="sigmoid")
        losses.append(_minimise(vae, x, c, kappa, 80))
        logs.append(exponent * math.log(10))
    slope = np.polyfit(logs[-3:], losses[-3:], 1)[0]
    assert slope == pytest.approx((d - r + t) / 2, rel=0.05)
    found = dimensions_of(vae, ArrayBatches(x, c, dtype=torch.float64), groups={}).all
    assert (found.count, found.by_gap, found.clear) == (r - t, r - t, True)
