"""Missing entries given the others: against exact conditionals, with encoders that know nothing of gaps."""

import math

import pytest
import torch
from torch import nn

from vaelab.model import (
    VAE,
    Bernoulli,
    Components,
    ContinuousBernoulli,
    DecodedVariance,
    FixedVariance,
    Gaussian,
    Mixed,
    complete,
    completed,
    impute,
    quantiles,
)
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader, table_width

NAN = math.nan
D, SIZE = 8, 3


class Linear(nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, z, c=None):
        return z @ self.weight.T + self.bias


def linear(likelihood, seed=0):
    """Return a linear decoder with an untrained encoder, and the mean and the covariance of x without noise."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(D, SIZE, generator=generator, dtype=torch.float64)
    bias = torch.randn(D, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        levels = getattr(likelihood, "levels", None)
        width = D if levels is None else table_width(levels)
        encoder = MLPEncoder((width,), 2 * SIZE, hidden=(8,))
    encoder = encoder if levels is None else TableReader(encoder, levels)
    vae = VAE(encoder, Linear(weight, bias), latent_dim=SIZE, likelihood=likelihood).double().eval()
    return vae, bias, weight @ weight.T


def conditional(x, mean, covariance):
    """Exact mean and covariance of the missing entries of one row."""
    gone = x.isnan()
    if gone.all():
        return mean, covariance
    gain = covariance[gone][:, ~gone] @ covariance[~gone][:, ~gone].inverse()
    return mean[gone] + gain @ (x - mean)[~gone], covariance[gone][:, gone] - gain @ covariance[~gone][:, gone]


GAMMAS = torch.linspace(0.05, 1.0, D, dtype=torch.float64)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
@pytest.mark.parametrize(
    ("likelihood", "gamma"),
    [
        (Gaussian(FixedVariance(0.3)), 0.3),
        (Gaussian(FixedVariance(1e-3)), 1e-3),
        (Gaussian(FixedVariance(GAMMAS)), GAMMAS),
        (Mixed((0,) * D, FixedVariance(0.3)), 0.3),
    ],
    ids=["gaussian", "little noise", "diagonal", "mixed"],
)
def test_means_and_covariances_are_the_exact_conditionals(likelihood, gamma, rate):
    vae, mean, covariance = linear(likelihood)
    covariance = covariance + torch.eye(D, dtype=torch.float64) * gamma
    generator = torch.Generator().manual_seed(1)
    x = torch.distributions.MultivariateNormal(mean, covariance).mean + (
        torch.randn(40, D, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    )
    x[torch.rand(x.shape, generator=generator) < rate] = NAN
    noise = torch.randn(1000, 1, SIZE, generator=generator, dtype=torch.float64)
    completion = complete(vae, x, noise=noise)
    assert float(completion.effective.min()) > 500  # of an encoder that knows nothing, a handful
    filled = impute(vae, x, noise=noise)
    drawn = completed(vae, x, completion, 4000, generator=generator)
    errors, ratios, ties = [], [], []
    for i, row in enumerate(x):
        gone = row.isnan()
        if not gone.any():
            assert torch.equal(filled[i], row)
            continue
        wanted, spread = conditional(row, mean, covariance)
        deviation = spread.diagonal().sqrt()
        errors.append((filled[i, gone] - wanted) / deviation)
        found = drawn[:, i, gone].T.cov().view(spread.shape)
        ratios.append(found.diagonal() / spread.diagonal())
        ties.append(((found - spread) / deviation / deviation[:, None]).flatten())
        assert torch.equal(drawn[:, i, ~gone], row[~gone].expand(4000, -1))
    errors, ratios, ties = torch.cat(errors), torch.cat(ratios), torch.cat(ties)
    assert float(errors.square().mean().sqrt()) < 0.08
    assert float(ratios.mean()) == pytest.approx(1, abs=0.06)
    assert float(ties.square().mean().sqrt()) < 0.08, "entries of one table are not drawn together"


@pytest.mark.parametrize("gamma", [0.3, 1e-6])
def test_under_a_mixture_of_codes_draws_are_exact_too(gamma):
    vae, bias, _ = linear(Mixed((0,) * D, FixedVariance(gamma)))
    weight = vae.decoder.weight.detach()
    generator = torch.Generator().manual_seed(2)
    means = 2 * torch.randn(3, SIZE, generator=generator, dtype=torch.float64)
    factors = torch.randn(3, SIZE, SIZE, generator=generator, dtype=torch.float64) / 2
    law = Components(torch.tensor([0.2, 0.3, 0.5]), means, factors @ factors.mT + 0.1 * torch.eye(SIZE).double())
    x = bias + means[[0, 1, 2, 2]] @ weight.T + 0.3 * torch.randn(4, D, generator=generator, dtype=torch.float64)
    x[:, 2:], x[3] = NAN, NAN
    noise = torch.randn(4000, 1, SIZE, generator=generator, dtype=torch.float64)
    found = complete(vae, x, noise=noise, law=law)
    filled = impute(vae, x, noise=noise, law=law)
    assert float(found.effective.min()) > 3999
    for i, row in enumerate(x):
        gone, parts = row.isnan(), []
        for share, mean, spread in zip(*law, strict=True):
            own = bias + weight @ mean, weight @ spread @ weight.T + gamma * torch.eye(D)
            seen = torch.distributions.MultivariateNormal(own[0][~gone], own[1][~gone][:, ~gone])
            log_p = share.log() + (0 if gone.all() else seen.log_prob(row[~gone]))
            parts.append((log_p, conditional(row, *own)[0]))
        log_p = torch.stack([part[0] for part in parts])
        wanted = (log_p.softmax(0)[:, None] * torch.stack([part[1] for part in parts])).sum(0)
        assert float(found.evidence[i]) == pytest.approx(float(log_p.logsumexp(0)), abs=1e-3)
        torch.testing.assert_close(filled[i, gone], wanted, atol=0.15, rtol=0)


class Parabola(nn.Module):
    """x = (z², z)."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, z, c=None):
        return self.one * torch.cat([z.square(), z], dim=1)


class Right(nn.Module):
    """N(1, 0.1²), whatever x is."""

    def forward(self, x, c=None):
        return torch.tensor([[1.0, math.log(0.1)]], dtype=x.dtype).expand(len(x), 2) + 0 * x[:, :1].nan_to_num()


def test_a_branch_that_the_encoder_does_not_know_is_found():
    vae = VAE(Right(), Parabola(), latent_dim=1, likelihood=Gaussian(FixedVariance(1e-3))).double().eval()
    x = torch.tensor([[1.0, NAN], [0.49, NAN]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    completion = complete(vae, x, noise=torch.randn(400, 1, 1, generator=generator, dtype=torch.float64))
    drawn = completed(vae, x, completion, 2000, generator=generator)[..., 1]
    shares = (drawn > 0).double().mean(0)
    assert ((shares > 0.3) & (shares < 0.7)).all(), shares
    torch.testing.assert_close(drawn.abs().mean(0), torch.tensor([1.0, 0.7], dtype=torch.float64), atol=0.05, rtol=0)


def test_another_law_of_codes_takes_the_priors_place():
    vae, bias, own = linear(Gaussian(FixedVariance(0.3)))
    shift = torch.ones(SIZE, dtype=torch.float64)
    mean, covariance = bias + vae.decoder.weight.detach() @ shift, own + 0.3 * torch.eye(D, dtype=torch.float64)
    x = mean.repeat(5, 1) + torch.randn(5, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :6] = NAN
    noise = torch.randn(4000, 1, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(shift, torch.eye(SIZE, dtype=torch.float64)).log_prob
    found = impute(vae, x, noise=noise, law=law)
    for row, filled in zip(x, found, strict=True):
        wanted, spread = conditional(row, mean, covariance)
        assert float(((filled[:6] - wanted) / spread.diagonal().sqrt()).abs().max()) < 0.25
    plain = impute(vae, x, noise=noise)
    assert float((plain - found).abs().max()) > 0.3


def test_rows_are_answered_alone():
    torch.manual_seed(0)
    vae = VAE(MLPEncoder((D,), 2 * SIZE, hidden=(8,)), MLPDecoder(SIZE, (D,), hidden=(16, 16)), latent_dim=SIZE)
    vae = vae.replace(likelihood=Gaussian(FixedVariance(0.01))).double().eval()
    with torch.no_grad():
        for weight in vae.decoder.parameters():
            weight.mul_(1.5)  # bent, so that some climb longer than others
    x = torch.randn(30, D, dtype=torch.float64)
    x[:, 5:] = NAN
    noise = torch.randn(60, 1, SIZE, dtype=torch.float64)
    together = complete(vae, x, noise=noise).parameters
    alone = torch.cat([complete(vae, row[None], noise=noise).parameters for row in x], dim=1)
    torch.testing.assert_close(alone, together)


LAWS = {
    "gaussian": lambda: Gaussian(FixedVariance(0.2)),
    "emitted": lambda: Gaussian(DecodedVariance(0.2, diagonal=True)),
    "sigmoid": lambda: Gaussian(FixedVariance(0.01), link="sigmoid"),
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "mixed": lambda: Mixed((0, 3, 0, 4), FixedVariance(0.2), ordered=(False, False, False, True)),
}


@pytest.mark.parametrize("name", LAWS)
def test_expectations_and_information_are_those_of_samples(name):
    law = LAWS[name]().eval()
    event = (4,)
    parameters = 1.5 * torch.randn(3, *law.parameter_shape(event), generator=torch.Generator().manual_seed(0))
    expected, information = law.moments(parameters)
    torch.manual_seed(0)
    drawn = torch.stack([law.statistics(law.sample(parameters)) for _ in range(20_000)])
    spread = drawn.std(0)
    assert float(((drawn.mean(0) - expected) / spread.clamp(min=0.05)).abs().max()) < 0.04
    if name == "mixed":  # Σ over levels of (p′)²/p is the information on z
        torch.testing.assert_close(information[:, 2:], 1 / expected[:, 2:])
        information, spread = information[:, :2], spread[:, :2]
    torch.testing.assert_close(information, 1 / spread.square(), rtol=0.1, atol=0)


@pytest.mark.parametrize("name", LAWS)
def test_missing_entries_add_nothing_to_what_is_observed(name):
    law, event = LAWS[name]().eval(), (4,)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(2, 5, *law.parameter_shape(event), generator=generator)
    x = torch.rand(5, 4, generator=generator).round() if name != "mixed" else law.sample(parameters[0])
    whole = law.nll_of_observed(parameters, x)
    torch.testing.assert_close(whole, law.nll_of_draws(parameters, x))
    parts = []
    for j in range(4):
        alone = x.clone()
        alone[:, [i for i in range(4) if i != j]] = NAN
        parts.append(law.nll_of_observed(parameters, alone))
    torch.testing.assert_close(torch.stack(parts).sum(0), whole)
    assert not law.nll_of_observed(parameters, x * NAN).any()


def test_quantiles_follow_the_weights():
    values = torch.tensor([3.0, 1.0, 2.0, 4.0]).view(4, 1, 1)
    weights = torch.tensor([0.1, 0.6, 0.2, 0.1]).view(4, 1)
    levels = torch.tensor([0.5, 0.7, 0.85, 0.95])
    assert quantiles(values, weights, levels).flatten().tolist() == [1, 2, 3, 4]
    normal = torch.randn(20_000, 1, 2, generator=torch.Generator().manual_seed(0))
    found = quantiles(normal, torch.full((20_000, 1), 1 / 20_000), torch.tensor([0.05, 0.95]))
    torch.testing.assert_close(found[:, 0], torch.tensor([[-1.645] * 2, [1.645] * 2]), atol=0.05, rtol=0)


def test_small_numbers_of_draws_are_enough_to_answer():
    vae = VAE(MLPEncoder((D,), 4, hidden=(8,)), MLPDecoder(2, (D,), hidden=(8,)), latent_dim=2).eval()
    x = torch.randn(3, D)
    x[:, 1] = NAN
    for k in (1, 2, 4, 7, 11):
        completion = complete(vae, x, noise=torch.randn(k, 1, 2))
        assert completion.weights.shape == (k, 3)
        torch.testing.assert_close(completion.weights.sum(0), torch.ones(3))
