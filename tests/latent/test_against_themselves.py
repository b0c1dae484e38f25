"""Laws against themselves: draws and log-densities of one law have to agree, whatever the law is.

For draws z of a smooth density p, E[∂ log p / ∂z_j] = 0 and E[z_j ∂ log p / ∂z_j] = −1 (Stein), and for any broad q
E_q[p / q] = 1: the first two tie the draws to the slope of the density, the last one its constant.
"""

import math

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.latent import ClassMixture, Codes, JointMixture, Mixture, PriorDensity, SecondStage, build_flow
from vaelab.model import VAE, Conditional, Diagonal, FixedVariance, Gaussian, Mixed, Standard
from vaelab.model.posteriors import FullCovariance
from vaelab.nets import Embedded, MLPEncoder

SIZE, DRAWS = 2, 6000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clouds():
    """Codes of two tilted clouds, with a class and a number that go along with them."""
    u = torch.randn(900, SIZE, generator=generator()).double()
    which = torch.arange(900) % 3
    tilt = torch.tensor([[1.0, 0.8], [0.0, 0.4]]).double()
    z = u @ tilt + torch.tensor([[0.0, 0.0], [3.0, 1.0], [-2.0, 2.0]]).double()[which]
    return z, torch.eye(3).double()[which], z[:, :1] * 0.5 + 0.1 * torch.randn(900, 1, generator=generator(1)).double()


def still(z, c=None):
    return Codes(z, torch.full_like(z, 1e-4), c)


def untrained_flow(shape=()):
    pytest.importorskip("zuko")
    loc, scale = torch.tensor([3.0, -1.0]), torch.tensor([2.0, 0.5])
    return build_flow(SIZE, condition_shape=shape, hidden=(8,), transforms=2, loc=loc, scale=scale, seed=1).double()


def laws():
    z, classes, number = clouds()
    one = torch.eye(3).double()[1]
    return {
        "prior": (PriorDensity(Standard(SIZE)).double(), None),
        "mixture": (Mixture.fit(still(z), components=3), None),
        "per class": (ClassMixture.fit(still(z, classes), components=2), one),
        "joint": (JointMixture.fit(still(z, number), components=2), number[0]),
        "flow": (untrained_flow(), None),
        "conditional flow": (untrained_flow((1,)), torch.tensor([0.7]).double()),
    }


@pytest.mark.parametrize("name", ["prior", "mixture", "per class", "joint", "flow", "conditional flow"])
def test_draws_and_log_density_are_of_one_law(name):
    law, c = laws()[name]
    own = None if c is None else c.expand(DRAWS, -1)
    z = law.sample(DRAWS, own, generator=generator()).double().requires_grad_()
    (slope,) = torch.autograd.grad(law.log_prob(z, own).sum(), z)
    z = z.detach()
    for value, wanted in ((slope, 0.0), (z * slope, -1.0)):
        error = value.std(0) / DRAWS**0.5
        assert ((value.mean(0) - wanted).abs() < 5 * error + 1e-3).all()
    q = torch.distributions.MultivariateNormal(z.mean(0), 4 * z.T.cov())
    points = q.mean + torch.randn(DRAWS, SIZE, generator=generator(2)).double() @ q.scale_tril.T
    with torch.no_grad():
        ratio = (law.log_prob(points, own) - q.log_prob(points)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / DRAWS**0.5)


def test_a_class_and_a_number_say_where_draws_are():
    z, classes, number = clouds()
    for law, conditions in (
        (ClassMixture.fit(still(z, classes), components=1), classes),
        (JointMixture.fit(still(z, number), components=1), number),
    ):
        drawn = law.sample(900, conditions, generator=generator())
        far = (z - z.mean(0)).square().mean()
        assert (drawn - z).square().mean() < 1.2 * far
        assert torch.corrcoef(torch.stack([drawn[:, 0], z[:, 0]]))[0, 1] > 0.7


class Zero(nn.Module):
    """A decoder that says nothing."""

    latent_dim = SIZE

    def forward(self, z, c=None):
        return torch.zeros_like(z)


def silent_second_stage():
    encoder = MLPEncoder((SIZE,), 2 * SIZE, hidden=(4,))
    vae = VAE(encoder, Zero(), latent_dim=SIZE, likelihood=Gaussian(FixedVariance(0.49)))
    return SecondStage(vae).double().eval()


def test_stage_two_is_drawn_with_its_noise_and_weighs_by_its_density():
    """With a decoder that says nothing, p(z) = N(0, γ'): draws have that variance, and weights that mean."""
    law = silent_second_stage()
    drawn = law.sample(DRAWS, generator=generator())
    assert drawn.var(0).tolist() == pytest.approx([0.49, 0.49], rel=6 * (2 / DRAWS) ** 0.5)
    point = torch.tensor([[0.3, -0.5]]).double()
    truth = torch.distributions.Normal(0, 0.7).log_prob(point).sum(1)
    with torch.no_grad():
        weights = law.log_weight(point.expand(DRAWS, -1), generator=generator()).exp()
        bounds = law.log_prob(point.expand(DRAWS, -1))
        q = law.vae.encode(point)
        u = q.mean + q.stddev * torch.randn(1, 1, SIZE, generator=generator(3))[0].double()
        direct = truth + torch.distributions.Normal(0, 1).log_prob(u).sum(1) - q.log_prob(u)
    torch.testing.assert_close(law.log_weight(point, generator=generator(3)).detach(), direct)
    assert float(weights.mean()) == pytest.approx(float(truth.exp()), abs=5 * float(weights.std()) / DRAWS**0.5)
    assert float(bounds.mean()) < float(truth)


def test_codes_have_the_mean_and_the_spread_of_their_posteriors():
    loc, scale = torch.randn(4000, SIZE, generator=generator()).double(), torch.full((4000, SIZE), 0.5).double()
    codes = Codes(loc, scale)
    z = codes.sample(generator=generator(1))
    assert (z - loc).std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.06)
    assert codes.moments()[1].tolist() == pytest.approx(z.std(0).tolist(), rel=0.04)
    assert not torch.equal(z, codes.sample(generator=generator(2)))


def test_posteriors_read_the_encoder_as_they_say():
    numbers = torch.randn(7, 4, generator=generator()).double()
    loc, raw = numbers[:, :2], numbers[:, 2:]
    for scale, wanted in (("exp", raw.exp()), ("softplus", (1 + raw.exp()).log() + 1e-6)):
        q = Diagonal(scale)(numbers)
        torch.testing.assert_close(q.mean, loc)
        torch.testing.assert_close(q.stddev, wanted)
    five = torch.randn(7, 5, generator=generator()).double()
    q = FullCovariance()(five)
    factor = torch.zeros(7, 2, 2).double()
    factor[:, 0, 0], factor[:, 1, 1], factor[:, 1, 0] = five[:, 2].exp(), five[:, 3].exp(), five[:, 4]
    torch.testing.assert_close(q.scale_tril, factor)


def test_lambda_is_a_mean_over_all_rows_and_draws_differ():
    vae = small_vae(6, 3).double()
    x = torch.randn(50, 6, generator=generator()).double()
    ratio = vae(x).readings["variance_ratio"]
    torch.testing.assert_close(ratio.mean(0), vae.encode(x).variance.mean(0))
    several = VAE(vae.encoder, vae.decoder, latent_dim=3, likelihood=Gaussian(FixedVariance(1.0)), draws=2).double()
    noise = torch.randn(50, 6, generator=generator(1)).double()
    swapped = torch.cat([noise[:, :3], noise[:, :3]], 1)
    both = several(x, noise=noise).distortion
    first, second = (several(x, noise=torch.cat([part, part], 1)).distortion for part in (noise[:, :3], noise[:, 3:]))
    torch.testing.assert_close(both, (first + second) / 2)
    assert not torch.allclose(both, several(x, noise=swapped).distortion)


def test_samples_of_rows_have_the_variance_that_is_said():
    drawn = Gaussian(FixedVariance(0.25)).sample(torch.zeros(DRAWS, 3), generator=generator())
    assert float(drawn.var()) == pytest.approx(0.25, rel=0.06)
    mixed = Mixed((0, 3), FixedVariance(0.25)).sample(torch.zeros(DRAWS, 4), generator=generator())
    assert float(mixed[:, 0].var()) == pytest.approx(0.25, rel=0.1)
    assert torch.bincount(mixed[:, 1].long()).tolist() == pytest.approx([DRAWS / 3] * 3, rel=0.1)


def test_a_condition_moves_what_an_embedded_network_says():
    network = Embedded(MLPEncoder((4,), 2, hidden=(8,), condition_dim=5), (3,), 5)
    x = torch.randn(1, 4, generator=generator()).expand(3, -1)
    out = network(x, torch.eye(3))
    assert not torch.allclose(out[0], out[1])
    prior = Conditional(nn.Linear(3, 4), SIZE)
    moved = PriorDensity(prior).sample(3, torch.eye(3), generator=generator())
    assert moved.shape == (3, SIZE)


def test_rows_are_coded_by_their_own_posterior():
    vae = small_vae(6, 3)
    x = torch.randn(40, 6, generator=generator())
    codes = Codes.of(vae, Rows(x), batch_size=7)
    q = vae.encode(x)
    torch.testing.assert_close(codes.loc, q.mean.detach())
    torch.testing.assert_close(codes.scale, q.stddev.detach())
    assert math.isfinite(float(codes.sample(generator=generator()).sum()))
