"""Importance-weighted bounds against exact likelihoods of linear VAEs."""

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from helpers import Rows, small_vae
from vaelab.errors import InputError
from vaelab.latent import Mixture, PriorDensity, SecondStage
from vaelab.metrics.likelihood import Dequantised, bits_per_dim, importance_weighted_bounds
from vaelab.model import VAE, Bernoulli, FixedVariance, Gaussian, ProfiledVariance
from vaelab.nets import MLPDecoder, MLPEncoder


def _linear(d=5, k=2, gamma=0.3, *, seed=0):
    """A linear VAE in float64 with its posterior mean and variance right where the decoder's columns are orthogonal."""
    torch.manual_seed(seed)
    vae = VAE(
        MLPEncoder((d,), 2 * k, hidden=()),
        MLPDecoder(k, (d,), hidden=()),
        latent_dim=k,
        likelihood=Gaussian(FixedVariance(gamma)),
    ).double()
    basis = torch.linalg.qr(torch.randn(d, k, dtype=torch.float64)).Q * torch.tensor([1.5, 0.7], dtype=torch.float64)
    bias = torch.randn(d, dtype=torch.float64)
    precision = basis.square().sum(0) / gamma + 1
    # whichever layers a perceptron without hidden layers has, one affine map is left
    encoder = [m for m in vae.encoder.modules() if isinstance(m, torch.nn.Linear)]
    decoder = [m for m in vae.decoder.modules() if isinstance(m, torch.nn.Linear)]
    assert len(encoder) == len(decoder) == 1
    with torch.no_grad():
        decoder[0].weight.copy_(basis)
        decoder[0].bias.copy_(bias)
        mean = basis.T / gamma / precision[:, None]
        encoder[0].weight.zero_()
        encoder[0].weight[:k] = mean
        encoder[0].bias[:k] = -mean @ bias
        encoder[0].bias[k:] = -0.5 * precision.log()
    x = torch.randn(7, d, dtype=torch.float64)
    return vae.eval(), x, basis, bias, gamma


def _exact(x, basis, bias, gamma, mean=None, covariance=None):
    d, k = basis.shape
    mean = torch.zeros(k, dtype=torch.float64) if mean is None else mean
    covariance = torch.eye(k, dtype=torch.float64) if covariance is None else covariance
    total = basis @ covariance @ basis.T + gamma * torch.eye(d, dtype=torch.float64)
    return MultivariateNormal(bias + basis @ mean, total).log_prob(x)


def test_a_single_draw_is_exact_where_the_posterior_is():
    vae, x, *law = _linear()
    found = importance_weighted_bounds(vae, Rows(x), draws=1)
    torch.testing.assert_close(found.bound["prior"], _exact(x, *law), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.elbo("prior"), found.bound["prior"], rtol=1e-6, atol=1e-6)


def test_many_draws_come_to_the_exact_value_from_a_wrong_posterior():
    vae, x, *law = _linear()
    with torch.no_grad():
        head = next(m for m in vae.encoder.modules() if isinstance(m, torch.nn.Linear))
        head.bias[2:] += 0.4  # wider than the truth, which keeps the weights bounded
    found = importance_weighted_bounds(vae, Rows(x), draws=4000)
    exact = _exact(x, *law)
    torch.testing.assert_close(found.bound["prior"], exact, rtol=0, atol=0.06)
    assert bool((found.elbo("prior") < exact - 0.05).all())


def test_the_bound_tightens_with_the_number_of_draws():
    vae = small_vae(6, 3, variance=FixedVariance(0.05), seed=1).double().eval()
    x = torch.randn(40, 6, dtype=torch.float64)
    means = [
        torch.stack([importance_weighted_bounds(vae, Rows(x), draws=k, seed=s).bound["prior"] for s in range(8)]).mean()
        for k in (1, 5, 25, 125)
    ]
    assert all(b > a + 0.05 for a, b in itertools.pairwise(means)), means


def test_another_density_of_codes_gives_the_likelihood_with_that_density():
    vae, x, *law = _linear()
    mean, factor = torch.tensor([0.5, -0.3]).double(), torch.tensor([[0.8, 0.0], [0.2, 0.5]]).double()
    density = Mixture(torch.ones(1).double(), mean[None], factor[None])
    densities = {"prior": PriorDensity(vae.prior), "gaussian": density}
    found = importance_weighted_bounds(vae, Rows(x), densities=densities, draws=4000)
    torch.testing.assert_close(found.bound["gaussian"], _exact(x, *law, mean, factor @ factor.T), rtol=0, atol=0.08)
    torch.testing.assert_close(found.bound["prior"], _exact(x, *law), rtol=1e-6, atol=1e-6)


def test_the_bound_goes_through_both_stages():
    vae, x, basis, bias, gamma = _linear()
    second, _, inner, shift, noise = _linear(2, 2, 0.2, seed=3)
    found = importance_weighted_bounds(vae, Rows(x), densities={"two": SecondStage(second)}, draws=4000)
    exact = _exact(x, basis, bias, gamma, shift, inner @ inner.T + noise * torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(found.bound["two"], exact, rtol=0, atol=0.08)


def test_the_weight_of_a_second_stage_is_unbiased():
    second = small_vae(3, 2, variance=FixedVariance(0.4), seed=2).double().eval()
    density = SecondStage(second)
    z = torch.randn(1, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weights = density.log_weight(z.expand(40_000, 3), generator=generator).exp()
        u = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
        direct = (-second.likelihood.nll(second.decoder(u), z.expand(200_000, 3))).exp()
    error = (weights.var() / len(weights) + direct.var() / len(direct)).sqrt()
    assert abs(float(weights.mean() - direct.mean())) < 4 * float(error)
    assert float(error) < 0.05 * float(direct.mean())


def test_rows_in_blocks_are_rows():
    vae = small_vae(6, 3, seed=1).eval()
    x = torch.randn(45, 6)  # more than one block
    found = importance_weighted_bounds(vae, Rows(x), draws=3)
    assert found.bound["prior"].shape == (45,)
    torch.testing.assert_close(
        found.bound["prior"][:20], importance_weighted_bounds(vae, Rows(x[:20]), draws=3).bound["prior"]
    )


def test_equal_rows_meet_draws_of_their_own_in_every_block():
    found = importance_weighted_bounds(small_vae(6, 3, seed=1).eval(), Rows(torch.ones(45, 6)), draws=1)
    assert len(found.bound["prior"].unique()) == 45


def test_the_mode_is_evaluation_and_is_put_back():
    vae = small_vae(6, 3, variance=ProfiledVariance(), seed=1)
    gamma = vae.likelihood.variance.gamma.clone()
    vae.train()
    importance_weighted_bounds(vae, Rows(torch.randn(5, 6)), draws=2)
    assert vae.training
    assert torch.equal(vae.likelihood.variance.gamma, gamma)


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError, match="0 draws"):
        importance_weighted_bounds(small_vae(), Rows(torch.randn(4, 6)), draws=0)


def test_dequantisation_fills_the_cell_around_a_grid_point():
    x = torch.full((4000, 1), 0.5, dtype=torch.float64)
    rows = Dequantised(Rows(x), 0.1)
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    taken = rows.take(torch.arange(4000), noise)[0]
    assert float(taken.min()) >= 0.45
    assert float(taken.max()) <= 0.55
    assert float(taken.var()) == pytest.approx(0.1**2 / 12, rel=0.05)
    assert torch.equal(rows.take(torch.arange(3))[0], x[:3])


def test_bits_per_dimension():
    assert float(bits_per_dim(torch.tensor(8 * 784 * math.log(2)), 784)) == pytest.approx(8.0)


def test_what_is_no_density_says_so():
    grey, binary = torch.rand(3, 4), torch.tensor([[0.0, 1.0]])
    assert "no density" in (Bernoulli().caveat(grey) or "")
    assert Bernoulli().caveat(binary) is None
    assert Gaussian().caveat(grey) is None
    fitted = Gaussian(ProfiledVariance())
    fitted.variance.per_sample = True
    assert "fitted to the row" in (fitted.caveat(grey) or "")
