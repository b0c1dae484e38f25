"""Flow matching on codes: its field, solver and density, against laws that are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from vaelab.errors import InputError
from vaelab.latent import Codes, Mixture, build_flow_matching, compare_on_codes, fit_mixture, flow_matching
from vaelab.latent.flow_matching import FlowMatching
from vaelab.training import Compute, FitSettings, fit

CPU = Compute(accelerator="cpu")


class Exact(nn.Module):
    """The velocity that carries N(0, I) to N(m, S) along straight lines between independent draws.

    v(y, t) = E[y₁ − u | y_t = y], for which y_t ~ N(t m, Σ_t) with Σ_t = (1 − t)² I + t² S.
    """

    def __init__(self, mean, covariance):
        super().__init__()
        self.mean, self.covariance = mean, covariance
        self.unit = nn.Parameter(torch.ones(()).double())

    def read(self, c, rows, forgotten=None):
        return None

    def forward(self, y, t, read=None):
        t, eye = t[0, 0], torch.eye(len(self.mean)).to(self.mean)
        spread = (1 - t) ** 2 * eye + t**2 * self.covariance
        gain = t * self.covariance - (1 - t) * eye
        return self.mean + torch.linalg.solve(spread, (y - t * self.mean).mT).mT @ gain


def normal(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT / size + 0.3 * torch.eye(size).double()
    return torch.randn(size, generator=generator, dtype=torch.float64), covariance


def exact(size, **options):
    mean, covariance = normal(size)
    loc, scale = torch.linspace(-1, 1, size).double(), torch.linspace(0.5, 2, size).double()
    law = FlowMatching(Exact(mean, covariance), loc=loc, scale=scale, **options)
    target = torch.distributions.MultivariateNormal(
        loc + scale * mean, scale.diag() @ covariance @ scale.diag(), validate_args=False
    )
    return law, target


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_density_of_an_exact_field_is_that_of_its_gaussian(size):
    law, target = exact(size)
    z = target.sample((40,))
    torch.testing.assert_close(law.log_prob(z), target.log_prob(z), atol=0.01, rtol=0)


def test_scores_are_unbiased_for_the_density():
    law, target = exact(5)
    z = target.sample((1,)).expand(4000, 5)
    scores = law.score(z)
    assert scores.std() > 0.01  # one sign per dimension and row
    assert abs(scores.mean() - law.log_prob(z[:1])[0]) < 4 * scores.std() / len(z) ** 0.5 + 1e-6


@pytest.mark.parametrize("variance", [1.0, 1e-2, 1e-4])
def test_thin_directions_are_drawn_and_scored_as_thin_as_they_are(variance):
    covariance = torch.diag(torch.tensor([1.0, variance]).double())
    law = FlowMatching(
        Exact(torch.zeros(2).double(), covariance), loc=torch.zeros(2).double(), scale=torch.ones(2).double()
    )
    target = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance)
    z = target.sample((500,))
    assert abs(float((law.log_prob(z) - target.log_prob(z)).mean())) < 0.02
    drawn = law.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert float(drawn[:, 1].var()) == pytest.approx(variance, rel=0.04)


def test_weights_are_exact_in_any_number_of_dimensions(monkeypatch):
    monkeypatch.setattr(flow_matching, "EXACT_UP_TO", 2)
    law, target = exact(5)
    z = target.sample((8,))
    torch.testing.assert_close(law.log_weight(z), target.log_prob(z), atol=0.01, rtol=0)
    assert (law.log_prob(z) - target.log_prob(z)).abs().max() > 0.01


def test_an_estimate_comes_with_its_standard_error(monkeypatch):
    """Errors of many codes, in units of the standard errors that are told, have a mean square of about 1."""
    law, target = exact(5)
    z = target.sample((300,))
    found = law.estimate(z, probes=32)
    off = (found.value - law.log_prob(z)) / found.error
    assert float(off.square().mean()) == pytest.approx(31 / 29, rel=0.35)
    assert abs(float(off.mean())) < 4 / 300**0.5
    assert float((law.score(z) - law.log_prob(z)).std()) == pytest.approx(float(found.error.mean()) * 32**0.5, rel=0.25)
    with pytest.raises(InputError, match="probes=1"):
        law.estimate(z, probes=1)
    monkeypatch.setattr(flow_matching, "EXACT_UP_TO", 2)
    assert torch.equal(law.log_prob(z), law.estimate(z).value)


def test_draws_of_an_exact_field_have_the_moments_of_its_gaussian():
    law, target = exact(3)
    z = law.sample(20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(0), target.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(z.T.cov(), target.covariance_matrix, atol=0.15, rtol=0)


def test_codes_go_to_noise_and_come_back():
    law, target = exact(4)
    y = (target.sample((50,)) - law.loc) / law.scale
    torch.testing.assert_close(law.carry(law.carry(y, back=True, steps=200), steps=200), y, atol=1e-4, rtol=0)
    assert (law.carry(y, back=True) - y).abs().max() > 0.1


def test_the_solver_is_at_least_of_second_order():
    law, target = exact(2)
    y = (target.sample((50,)) - law.loc) / law.scale
    best = law.carry(y, steps=1000)
    errors = [float((law.carry(y, steps=steps) - best).abs().mean()) for steps in (20, 40, 80)]
    assert all(math.log2(a / b) > 1.8 for a, b in pairwise(errors))


def test_the_objective_is_the_error_of_the_velocity_between_normals_and_codes():
    law = build_flow_matching(3, width=8, loc=torch.ones(3), scale=torch.full((3,), 2.0))
    z, noise = torch.randn(7, 3), torch.randn(7, 4)
    seen = []
    law.velocity.register_forward_hook(lambda module, given, out: seen.append(given))
    loss = law(z, noise=noise).distortion
    (y, t, read), u = seen[0], noise[:, :3]
    torch.testing.assert_close(t, noise[:, 3:].sigmoid())
    torch.testing.assert_close(y, (1 - t) * u + t * (z - 1) / 2)
    torch.testing.assert_close(loss, ((z - 1) / 2 - u).square().sum(1))  # an untrained velocity is zero
    assert read is None


def test_the_assignment_pairs_each_code_with_one_normal_at_least_distance():
    law = build_flow_matching(1, width=8, coupling="optimal_transport")
    z, noise = torch.randn(50, 1), torch.randn(50, 2)
    loss = law(z, noise=noise).distortion.sum()  # on a line, the assignment is that of the order
    torch.testing.assert_close(loss, (z.sort(0).values - noise[:, :1].sort(0).values).square().sum())
    with pytest.raises(InputError, match="under conditions"):
        build_flow_matching(2, condition_shape=3, coupling="optimal_transport")


def mixture(seed=0):
    means = torch.tensor([[2.0, 0.0], [-2.0, 1.0]])
    factors = torch.tensor([[[0.5, 0.0], [0.3, 0.4]], [[0.8, 0.0], [0.0, 0.3]]])
    return Mixture(torch.tensor([0.6, 0.4]), means, factors)


def trained(codes, **options):
    mean, std = codes.moments()
    law = build_flow_matching(2, width=64, blocks=2, loc=mean, scale=std, **options)
    fit(law, codes, FitSettings(40, 128, 2e-3, ema=0.99), compute=CPU)
    return law


@pytest.mark.parametrize("coupling", ["independent", "optimal_transport"])
def test_training_finds_a_mixture(coupling):
    target = mixture()
    z, unseen = target.sample(4000, generator=torch.Generator().manual_seed(1)), target.sample(1000)
    law = trained(Codes(z, torch.zeros_like(z)), coupling=coupling)
    assert -0.02 < float((target.log_prob(unseen) - law.log_prob(unseen)).mean()) < 0.06
    drawn = law.sample(4000, generator=torch.Generator().manual_seed(2))
    right, wanted = (drawn[:, 0] > 0).float().mean(), (unseen[:, 0] > 0).float().mean()
    assert abs(right - wanted) < 0.05
    for side in (1, -1):
        ours, theirs = (x[x[:, 0] * side > 0] for x in (drawn, unseen))
        torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.12, rtol=0)
        torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.12, rtol=0)
    scores = compare_on_codes(
        {"gaussian": fit_mixture(Codes(z, 0 * z), single=True), "ours": law}, Codes(unseen, 0 * unseen)
    )
    assert scores.best == "ours"


def test_conditions_and_guidance():
    means = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]])
    labels = torch.randint(3, (3000,), generator=torch.Generator().manual_seed(0))
    z = means[labels] + 0.7 * torch.randn(3000, 2, generator=torch.Generator().manual_seed(1))
    law = trained(Codes(z, torch.zeros_like(z), torch.eye(3)[labels]), condition_shape=3)
    c = torch.eye(3).repeat_interleave(500, 0)

    def drawn(**how):
        return law.sample(1500, c, generator=torch.Generator().manual_seed(2), **how).view(3, 500, 2)

    plain, strong = drawn(), drawn(guidance=3.0)
    torch.testing.assert_close(plain.mean(1), means, atol=0.3, rtol=0)
    torch.testing.assert_close(plain.std(1), torch.full((3, 2), 0.7), atol=0.15, rtol=0)
    assert bool(strong.std(1).mean() < 0.9 * plain.std(1).mean())
    law.guidance = 3.0
    assert torch.equal(drawn(), strong)
    assert torch.equal(drawn(guidance=0.0), plain)
    right = law.log_prob(means, torch.eye(3))
    assert bool((right > law.log_prob(means, torch.eye(3).roll(1, 0)) + 5).all())
