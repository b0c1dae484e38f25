"""What a model says of a batch, against the same numbers computed directly in float64."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from helpers import Rows, small_vae
from vaelab.model import (
    MMD,
    VAE,
    Adversarial,
    Conditional,
    DecodedVariance,
    DiagonalNormal,
    FixedVariance,
    Gaussian,
    LearnedVariance,
    ProfiledVariance,
    count_active,
    variance_ratio,
)

B, D, K = 40, 6, 3


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_a_bound_is_the_mean_over_its_draws():
    vae, x, noise = small_vae(D, K, variance=FixedVariance(0.3)).double(), randn(B, D), randn(4, B, K, seed=1)
    with torch.no_grad():
        distortion, kl = vae.elbo(x, noise=noise)
        q = vae.encode(x)
        each = [-Normal(vae.decoder(q.mean + q.stddev * eps), 0.3**0.5).log_prob(x).sum(1) for eps in noise]
        wanted = kl_divergence(Independent(Normal(q.mean, q.stddev), 1), Independent(Normal(0 * q.mean, 1.0), 1))
    torch.testing.assert_close(distortion, torch.stack(each).mean(0))
    torch.testing.assert_close(kl, wanted)


def test_reconstructions_are_decoded_posterior_means():
    vae, x = small_vae(D, K).double(), randn(B, D)
    torch.testing.assert_close(vae.reconstruct(x), vae.decoder(vae.encode(x).mean))


def test_a_summary_counts_dimensions_by_their_variance_and_averages_gamma():
    vae = small_vae(D, K, variance=FixedVariance(torch.arange(1.0, 1 + D)))
    ratios = torch.tensor([0.04, 0.06, 0.9])  # of deviations none would be below 0.05
    readings = vae(randn(B, D).float()).readings
    assert float(readings["gamma"]) == pytest.approx(3.5)
    assert vae.summary({"variance_ratio": ratios, "gamma": readings["gamma"]}) == {
        "gamma": pytest.approx(3.5),
        "active_dimensions": 1,
    }
    assert count_active(ratios, 0.5) == 2


def test_lambda_is_relative_to_the_prior():
    loc, scale = randn(B, K), randn(B, K, seed=1).exp()
    p = DiagonalNormal(randn(B, K, seed=2), randn(B, K, seed=3).exp())
    torch.testing.assert_close(variance_ratio(DiagonalNormal(loc, scale), p), scale.square() / p.scale.square())
    tril = randn(B, K, K, seed=4).tril(-1) + torch.diag_embed(scale)
    white = tril / p.scale[:, :, None]
    wanted = torch.linalg.eigvalsh(white @ white.mT)
    torch.testing.assert_close(variance_ratio(MultivariateNormal(loc, scale_tril=tril), p), wanted)


def test_an_entropy_is_torchs():
    loc, scale = randn(B, K), randn(B, K, seed=1).exp()
    torch.testing.assert_close(DiagonalNormal(loc, scale).entropy(), Independent(Normal(loc, scale), 1).entropy())


class Noisy(nn.Module):
    """A decoder that behaves otherwise in training."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z, c=None):
        return self.network(z, c) + (7.0 if self.training else 0.0)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_calibrated_gamma_is_the_mean_squared_error_in_evaluation(diagonal):
    """With z so still that its noise is none."""
    plain = small_vae(D, K)
    plain.encoder.head.output.weight.data[K:] = 0
    plain.encoder.head.output.bias.data[K:] = -30
    vae = VAE(
        plain.encoder, Noisy(plain.decoder), latent_dim=K, likelihood=Gaussian(ProfiledVariance(diagonal=diagonal))
    )
    x = randn(B, D).float() * torch.arange(1.0, 1 + D)
    vae.train().calibrate(Rows(x), batch_size=7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        squared = (x - plain.reconstruct(x)).square()
    torch.testing.assert_close(vae.likelihood.variance.gamma, squared.mean(0) if diagonal else squared.mean())
    assert vae.training


def test_samples_have_the_mean_and_the_variance_of_their_row():
    n = 4000
    likelihood = Gaussian(DecodedVariance(1.0), link="sigmoid")
    raw = torch.tensor([[2.0, -1.0, -1.5], [0.0, 1.0, -0.5]]).double()  # two numbers, then log √γ
    drawn = likelihood.double().sample(raw.repeat_interleave(n, 0), generator=torch.Generator().manual_seed(0))
    drawn = drawn.view(2, n, 2)
    gamma = (2 * raw[:, 2]).exp()
    assert ((drawn.mean(1) - raw[:, :2].sigmoid()).abs() < 5 * (gamma / n).sqrt()[:, None]).all()
    torch.testing.assert_close(drawn.var(1), gamma[:, None].expand(2, 2), rtol=0.12, atol=0)


def test_several_draws_share_a_profiled_gamma_and_the_link():
    raw, x = randn(3, B, D), randn(B, D, seed=1).sigmoid()
    likelihood = Gaussian(ProfiledVariance(), link="sigmoid").double().train()
    squared = (x - raw.sigmoid()).square()
    gamma = squared.mean()
    wanted = 0.5 * (squared / gamma + (2 * torch.pi * gamma).log()).sum(2)
    torch.testing.assert_close(likelihood.nll_of_draws(raw, x), wanted)


def test_a_conditional_prior_reads_the_log_of_a_deviation():
    network, c = nn.Linear(4, 2 * K).double(), randn(B, 4)
    p = Conditional(network, K)(c)
    torch.testing.assert_close(p.mean, network(c)[:, :K])
    torch.testing.assert_close(p.stddev, network(c)[:, K:].exp())


def test_penalties_compare_codes_with_draws_of_the_prior_of_their_condition():
    """Each with its own noise: MMD's kernel is summed over the scales of the published program."""
    critic, c, x, noise = nn.Linear(K, 1).double(), randn(B, 4), randn(B, D), randn(B, 3 * K, seed=1)
    plain = small_vae(D, K).double()
    vae = VAE(
        TakesAnything(plain.encoder),
        TakesAnything(plain.decoder),
        latent_dim=K,
        prior=Conditional(nn.Linear(4, 2 * K), K).double(),
        regularizers=[MMD(2.0), Adversarial(3.0, critic, log_prior=False)],
    ).double()
    p, q = vae.prior(c), vae.encode(x, c)
    z = q.mean + q.stddev * noise[:, :K]
    penalties = vae(x, c, noise=noise).penalties
    real = [p.mean + p.stddev * noise[:, start : start + K] for start in (K, 2 * K)]

    def kernel(a, b):
        squared = (a[:, None] - b).square().sum(2)
        return sum(2 * K * s / (2 * K * s + squared) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    off = 1 - torch.eye(B).double()
    mmd = ((kernel(z, z) + kernel(real[0], real[0])) * off).sum() / (B * B - B) - 2 * kernel(z, real[0]).mean()
    torch.testing.assert_close(penalties["mmd"], (2 * mmd).expand(B))
    torch.testing.assert_close(penalties["adversarial"], -3 * critic(z)[:, 0].sigmoid().log())
    (step,) = vae.steps_before()
    wanted = -3 * (critic(real[1]).sigmoid().log() + (1 - critic(z).sigmoid()).log())[:, 0]
    torch.testing.assert_close(step.loss(x, c, noise), wanted)


class TakesAnything(nn.Module):
    """A network that overlooks its condition."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, c=None):
        return self.network(x)


@pytest.mark.parametrize("shape", [None, (D,)])
def test_a_learned_gamma_starts_where_it_is_told_above_its_floor(shape):
    variance = LearnedVariance(2.0, event_shape=shape, floor=0.5)
    torch.testing.assert_close(variance.gamma, torch.full(shape or (), 2.0))
    assert not variance.at_floor
    variance.log_std.data.fill_(-20)
    torch.testing.assert_close(variance.gamma, torch.full(shape or (), 0.5))
    assert variance.at_floor
    if shape:  # all dimensions have to be there
        variance.log_std.data[0] = 0
        assert not variance.at_floor


def test_a_decoded_gamma_starts_where_it_is_told_and_keeps_the_mean_of_a_training_batch():
    variance, raw = DecodedVariance(2.0, floor=0.5).double(), randn(B, 1)
    torch.testing.assert_close(variance.generative(0 * raw), torch.full((B, 1), 2.0).double())
    gamma = 0.5 + 1.5 * (2 * raw).exp()
    torch.testing.assert_close(variance(randn(B, D), raw), gamma)
    torch.testing.assert_close(variance.gamma, gamma.mean())
    variance.eval()(randn(B, D), raw + 1)
    torch.testing.assert_close(variance.gamma, gamma.mean())
