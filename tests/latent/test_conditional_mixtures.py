"""Mixtures per class, and conditionals of joint mixtures."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaelab.errors import InputError
from vaelab.latent import ClassMixture, Codes, JointMixture, Mixture, density_from_state, fit_mixture


def sharp(z, c) -> Codes:
    return Codes(z, torch.zeros_like(z), c)


def one_hot(labels, width) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, width).double()


def mixture_over(size: int, k: int):
    """A random joint mixture in float64."""
    generator = torch.Generator().manual_seed(size)
    roots = torch.randn(k, size, size, generator=generator, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.3 * torch.eye(size, dtype=torch.float64)
    means = 2 * torch.randn(k, size, generator=generator, dtype=torch.float64)
    weights = torch.arange(1.0, k + 1, dtype=torch.float64)
    return weights / weights.sum(), means, covariances


def test_one_component_is_the_bivariate_gaussian_given_its_second_coordinate():
    mean, std, correlation = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0]).double(), 0.8
    cross = correlation * std[0] * std[1]
    covariance = torch.tensor([[std[0] ** 2, cross], [cross, std[1] ** 2]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    density = JointMixture.of_joint(one, mean[None], covariance[None], latent_dim=1)
    c = torch.linspace(-9, 5, 15).double()[:, None]
    z = torch.linspace(-1, 4, 15).double()[:, None]
    wanted = torch.distributions.Normal(
        mean[0] + correlation * std[0] / std[1] * (c - mean[1]), std[0] * math.sqrt(1 - correlation**2)
    )
    torch.testing.assert_close(density.log_prob(z, c), wanted.log_prob(z)[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("latent_dim", "width"), [(1, 1), (1, 3), (2, 2)])
def test_the_conditional_is_the_joint_over_its_integral(latent_dim, width):
    weights, means, covariances = mixture_over(latent_dim + width, 3)
    density = JointMixture.of_joint(weights, means, covariances, latent_dim=latent_dim)
    joint = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    axis = torch.linspace(-25, 25, 20_001 if latent_dim == 1 else 401, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latent_dim).view(-1, latent_dim)
    cell = float(axis[1] - axis[0]) ** latent_dim
    for shift in (-1.0, 0.0, 2.0):
        c = torch.full((len(grid), width), shift, dtype=torch.float64)
        both = joint.log_prob(torch.cat([grid, c], 1))
        wanted = both - (both.logsumexp(0) + math.log(cell))
        seen = wanted > -50
        torch.testing.assert_close(density.log_prob(grid, c)[seen], wanted[seen], rtol=1e-8, atol=1e-8)


def test_joint_draws_have_the_moments_of_the_conditional():
    weights, means, covariances = mixture_over(4, 3)
    density = JointMixture.of_joint(weights, means, covariances, latent_dim=2)
    c = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    grid = torch.cartesian_prod(*[torch.linspace(-20, 20, 401, dtype=torch.float64)] * 2)
    mass = density.log_prob(grid, c.expand(len(grid), -1)).softmax(0)
    mean = mass @ grid
    spread = (grid - mean).T @ ((grid - mean) * mass[:, None])
    z = density.sample(60_000, c.expand(60_000, -1), generator=torch.Generator().manual_seed(0))
    error = spread.diagonal().sqrt() / 60_000**0.5
    assert ((z.mean(0) - mean).abs() < 5 * error).all()
    torch.testing.assert_close(torch.cov(z.T), spread, rtol=0.05, atol=0.05 * float(spread.diagonal().max()))


def test_a_single_joint_gaussian_is_linear_regression():
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    z = c @ torch.randn(3, 2, generator=generator, dtype=torch.float64) + 1
    z = z + 0.3 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    density = fit_mixture(sharp(z, c), single=True)
    assert isinstance(density, JointMixture)
    line = LinearRegression().fit(c.numpy(), z.numpy())
    np.testing.assert_allclose(density.gains[0].numpy(), line.coef_, atol=1e-4)
    left = torch.as_tensor(z.numpy() - line.predict(c.numpy()))
    wanted = MultivariateNormal(torch.zeros(2).double(), left.T @ left / 500).log_prob(left)
    torch.testing.assert_close(density.log_prob(z, c), wanted, rtol=1e-3, atol=1e-3)


def test_a_joint_mixture_follows_a_bend_and_mixed_columns():
    """Numbers beside a class; the curve of each class differs, and k is chosen by the conditional likelihood."""
    generator = torch.Generator().manual_seed(0)
    t = 2 * torch.rand(3000, generator=generator) - 1
    label = torch.randint(2, (3000,), generator=generator)
    noise = 0.05 * torch.randn(3000, generator=generator)
    z = torch.stack([torch.where(label == 0, t.square(), -t) + noise, noise.roll(1)], 1)
    c = torch.cat([t[:, None], torch.nn.functional.one_hot(label, 2).float()], 1)
    density = fit_mixture(sharp(z, c), single=False)
    assert isinstance(density, JointMixture)
    assert density.components >= 5
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.05))
    assert float(density.log_prob(z, c).mean()) > -entropy - 0.4
    assert float(fit_mixture(sharp(z, c), single=True).log_prob(z, c).mean()) < -entropy - 1
    at = torch.tensor([[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]])
    drawn = density.sample(2000, at.repeat(1000, 1), generator=torch.Generator().manual_seed(0)).view(1000, 2, 2)
    torch.testing.assert_close(drawn[..., 0].median(0).values, torch.tensor([0.25, -0.5]), atol=0.05, rtol=0)


def test_every_class_has_the_mixture_of_its_own_codes():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (900,), generator=generator)
    z = torch.randn(900, 2, generator=generator, dtype=torch.float64) * (1 + labels[:, None]) + 5 * labels[:, None]
    codes = sharp(z, one_hot(labels, 3))
    density = fit_mixture(codes, single=False, components=2, covariance="full", seed=4)
    assert isinstance(density, ClassMixture)
    scores = density.log_prob(z, codes.c)
    for label in range(3):
        own = labels == label
        alone = Mixture.fit(sharp(z[own], None), components=2, seed=4)
        torch.testing.assert_close(scores[own], alone.log_prob(z[own]), rtol=1e-12, atol=1e-12)
    asked = torch.tensor([2, 0] * 4000)
    drawn = density.sample(8000, one_hot(asked, 3), generator=torch.Generator().manual_seed(0))
    for label in (0, 2):
        torch.testing.assert_close(drawn[asked == label].mean(0), z[labels == label].mean(0), atol=0.2, rtol=0)
    assert len(fit_mixture(codes, single=True).parts[0].weights) == 1
    assert isinstance(fit_mixture(sharp(z, None), single=True), Mixture)


@pytest.mark.parametrize("single", [True, False])
def test_small_classes_borrow_the_covariance_of_all_and_empty_ones_the_whole(single):
    generator = torch.Generator().manual_seed(1)
    spread = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    labels = torch.tensor([0] * 400 + [1] * 400 + [2] * 5 + [3])
    z = torch.randn(806, 2, generator=generator, dtype=torch.float64) @ spread.T + 10 * labels[:, None]
    codes = sharp(z, one_hot(labels, 5))
    density = fit_mixture(codes, single=single)
    few, one, none = (density.parts[label] for label in (2, 3, 4))
    torch.testing.assert_close(few.means[0], z[labels == 2].mean(0))
    torch.testing.assert_close(one.means[0], z[-1])
    for part in (few, one):
        own = part.scale_trils[0] @ part.scale_trils[0].T
        torch.testing.assert_close(own.diagonal(), torch.ones(2).double(), atol=0.15, rtol=0)
    if single:
        torch.testing.assert_close(own, spread @ spread.T, atol=0.15, rtol=0)
        torch.testing.assert_close(none.means[0], z.mean(0))
    drawn = density.sample(500, one_hot(torch.full((500,), 3), 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), z[-1], atol=0.3, rtol=0)


def test_classes_of_one_code_each_do_not_crash():
    z = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    density = fit_mixture(sharp(z, torch.eye(4)), single=False)
    assert torch.isfinite(density.log_prob(z, torch.eye(4))).all()
    with pytest.raises(InputError, match="1 codes"):
        fit_mixture(sharp(z[:1], torch.ones(1, 1)), single=True)


def test_wrong_conditions_say_what_is_wanted():
    z = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    density = fit_mixture(sharp(z, torch.eye(3).repeat(20, 1)), single=True)
    with pytest.raises(InputError, match=r"row 1 of c, which is none of the 3 classes \(0, 0, 0\)"):
        density.sample(2, torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(InputError, match="none of the 3 classes"):
        density.log_prob(z[:1], torch.tensor([[0.5, 0.5, 0.0]]))
    with pytest.raises(InputError, match=r"shape \(1, 4\); wanted c of shape \(1, 3\)"):
        density.sample(1, torch.tensor([[1.0, 0, 0, 0]]))
    with pytest.raises(InputError, match="without a condition"):
        density.sample(1)
    with pytest.raises(InputError, match="second_stage, flow or flow_matching"):
        fit_mixture(sharp(z, torch.zeros(60, 5, 2)), single=False)
    with pytest.raises(InputError, match="wanted one of gaussian, mixture"):
        density_from_state("flow", density.state_dict())
    with pytest.raises(InputError, match="state of a mixture"):
        density_from_state("mixture", {})
