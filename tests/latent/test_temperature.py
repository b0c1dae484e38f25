"""Temperature and rejection: draws against what they are in closed form."""

import math

import pytest
import torch
from torch import nn

from vaelab.errors import InputError
from vaelab.latent import Generator, JointMixture, Mixture, PriorDensity, Rejection, SecondStage
from vaelab.model import VAE, FixedVariance, Gaussian, Standard

T = 0.4


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_the_prior_at_a_temperature_is_a_normal_of_t_squared():
    law = PriorDensity(Standard(3))
    assert torch.equal(law.sample(50, generator=seeded(), temperature=T), T * law.sample(50, generator=seeded()))
    spread = law.sample(200_000, generator=seeded(), temperature=T).T.cov()
    torch.testing.assert_close(spread, T**2 * torch.eye(3), atol=4 * T**2 * math.sqrt(2 / 200_000), rtol=0)


def test_components_of_a_mixture_keep_means_and_weights_and_have_t_squared_of_their_covariance():
    means = torch.tensor([[-50.0, 0.0], [50.0, 0.0]])
    factors = torch.tensor([[[1.0, 0.0], [0.5, 2.0]], [[3.0, 0.0], [-1.0, 0.2]]])
    law = Mixture(torch.tensor([0.3, 0.7]), means, factors)
    n = 100_000
    z = law.sample(n, generator=seeded(), temperature=T)
    for k, weight in enumerate(law.weights):
        own = z[(z[:, 0] > 0) == bool(k)]
        wanted = T**2 * factors[k] @ factors[k].T
        assert len(own) / n == pytest.approx(float(weight), abs=4 * math.sqrt(0.21 / n))
        torch.testing.assert_close(own.T.cov(), wanted, rtol=0, atol=5 * float(wanted.max()) * math.sqrt(2 / len(own)))
        assert float((own.mean(0) - means[k]).abs().max()) < 5 * float(wanted.max() / len(own)) ** 0.5


def test_a_conditional_of_a_joint_mixture_keeps_its_regression():
    covariance = torch.tensor([[[2.0, 0.9], [0.9, 1.0]]], dtype=torch.float64)
    law = JointMixture.of_joint(torch.ones(1), torch.zeros(1, 2).double(), covariance, latent_dim=1).float()
    c = torch.linspace(-3, 3, 30)[:, None]
    usual, cool = (law.sample(30, c, generator=seeded(), temperature=t) for t in (1.0, T))
    torch.testing.assert_close(cool - 0.9 * c, T * (usual - 0.9 * c))


class Affine(nn.Module):
    """Reads codes of any size into 3 z + 1."""

    def forward(self, z, c=None):
        return 3 * z + 1


def test_stage_two_scales_both_of_its_noises():
    """z = 3 u + 1 + √γ ε at 1 is 1 + T (3 u + √γ ε) at T."""
    vae = VAE(nn.Linear(2, 4), Affine(), latent_dim=2, likelihood=Gaussian(FixedVariance(4.0)))
    law = SecondStage(vae).eval()
    usual, cool = (law.sample(500, generator=seeded(), temperature=t) for t in (1.0, T))
    torch.testing.assert_close(cool - 1, T * (usual - 1))
    assert float(cool.var()) == pytest.approx(T**2 * 13, rel=0.15)


def planted(z, c=None):
    """Whether a code is off: its first number is above 1; above the condition, where there is one."""
    return z[:, 0] > (1.0 if c is None else c[:, 0])


def test_codes_that_are_off_are_drawn_again_until_none_is():
    """What is left is the law cut off: the mean of a normal below 1 is −φ(1) / Φ(1)."""
    law, rejection, source = PriorDensity(Standard(2)), Rejection(planted), seeded()
    z = rejection.draw(lambda n, c: law.sample(n, c, generator=source), 20_000, None)
    below = float(torch.special.ndtr(torch.tensor(1.0)))
    assert not planted(z).any()
    assert float(z[:, 0].mean()) == pytest.approx(-0.24197 / below, abs=0.02)
    assert float(z[:, 1].mean()) == pytest.approx(0, abs=0.03)
    assert rejection.share == pytest.approx(1 - below, abs=0.01)
    assert rejection.drawn - rejection.rejected == 20_000
    first = law.sample(20_000, generator=seeded())
    assert torch.equal(z[~planted(first)], first[~planted(first)])


def test_a_row_that_is_drawn_again_keeps_its_condition():
    c = torch.tensor([[-1.0], [2.0]]).repeat(500, 1)
    source = seeded()

    def law(n, c):
        return torch.cat([torch.randn(n, 1, generator=source), c], 1)

    z = Rejection(planted).draw(law, 1000, c)
    assert torch.equal(z[:, 1:], c)
    assert float(z[::2, 0].max()) <= -1
    assert float(z[1::2, 0].max()) > 1


def test_nothing_off_leaves_draws_as_they_are_and_nearly_all_off_is_refused():
    vae = VAE(nn.Linear(2, 4), Affine(), latent_dim=2).eval()
    usual = Generator(vae, PriorDensity(vae.prior)).sample(30, generator=seeded(), observation_noise=True)
    for off, share in ((lambda z, c: z[:, 0] > 99, 0.0), (lambda z, c: z[:, 0] > -2, None)):
        rejection = Rejection(off)
        generator = Generator(vae, PriorDensity(vae.prior))
        how = {"generator": seeded(), "observation_noise": True, "rejection": rejection}
        if share is None:
            with pytest.raises(InputError, match="draws are off the manifold"):
                generator.sample(30, **how)
        else:
            assert torch.equal(generator.sample(30, **how), usual)
            assert (rejection.share, rejection.drawn) == (share, 30)


def test_one_condition_whose_draws_are_all_off_is_refused():
    c = torch.ones(1000, 1)
    c[7] = -math.inf
    source = seeded()
    with pytest.raises(InputError, match="under every condition"):
        Rejection(planted).draw(lambda n, c: torch.randn(n, 2, generator=source), 1000, c)
