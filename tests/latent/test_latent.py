"""Codes, densities, generators."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from helpers import Rows, curved_manifold, small_vae
from vaelab import specs
from vaelab.errors import InputError
from vaelab.latent import Codes, Generator, Mixture, PriorDensity, SecondStage, compare_on_codes
from vaelab.metrics import energy_distance
from vaelab.specs import Compute, Settings, build_second_stage
from vaelab.training import FitSettings, fit


def codes_of(z: torch.Tensor, scale: float = 1e-3) -> Codes:
    return Codes(z, torch.full_like(z, scale))


@pytest.fixture(scope="module")
def ring() -> Codes:
    """Codes on a ring of radius 2: nowhere near the middle of a standard normal."""
    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.rand(4000, generator=generator)
    radius = 2 + 0.1 * torch.randn(4000, generator=generator)
    return codes_of(torch.stack([radius * angle.cos(), radius * angle.sin()], 1), 0.05)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_mixture_scores_like_scikit_learn_and_samples_what_it_scores(covariance):
    z = torch.cat([torch.randn(300, 2) + 4, 0.5 * torch.randn(300, 2)]).double()
    ours = Mixture.fit(Codes(z, torch.zeros_like(z)), components=2, covariance=covariance)
    theirs = GaussianMixture(2, covariance_type=covariance, reg_covar=1e-5, random_state=0, init_params="k-means++")
    theirs.fit(z.numpy())
    np.testing.assert_allclose(ours.log_prob(z).numpy(), theirs.score_samples(z.numpy()), rtol=1e-6, atol=1e-6)
    drawn = ours.sample(40_000, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(drawn.mean(0), z.mean(0), atol=0.06)
    np.testing.assert_allclose(torch.cov(drawn.T), torch.cov(z.T), rtol=0.05)


def test_mixture_chooses_its_size_on_held_out_codes(ring):
    chosen = Mixture.select(ring)
    assert chosen.components >= 10
    assert Mixture.select(codes_of(torch.randn(2000, 2))).components <= 2
    assert Mixture.select(ring, components=3).components == 3
    with pytest.raises(InputError, match="3 codes"):
        Mixture.fit(codes_of(torch.randn(3, 2)), components=5)


def test_codes_are_drawn_afresh_and_means_are_given_without_noise(ring):
    index = torch.arange(5)
    first, second = ring.take(index, torch.randn(5, 2))[0], ring.take(index, torch.randn(5, 2))[0]
    assert not torch.equal(first, second)
    torch.testing.assert_close(ring.take(index)[0], ring.loc[:5])
    draws = torch.stack([ring.take(index, torch.randn(5, 2))[0] for _ in range(3000)])
    torch.testing.assert_close(draws.std(0), ring.scale[:5], rtol=0.1, atol=0)


def test_codes_of_a_vae_are_its_posterior():
    vae, x = small_vae(), torch.randn(23, 6)
    codes = Codes.of(vae, Rows(x), batch_size=10)
    torch.testing.assert_close(codes.loc, vae.encode(x).mean)
    torch.testing.assert_close(codes.scale, vae.encode(x).stddev)
    assert vae.training


def test_generator_decodes_what_its_density_draws():
    vae = small_vae(latent_dim=2).eval()
    density = Mixture(torch.ones(1), torch.full((1, 2), 3.0), 1e-4 * torch.eye(2)[None])
    x = Generator(vae, density).sample(2100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, vae.decode(torch.full((2100, 2), 3.0)).detach(), atol=1e-2, rtol=1e-2)
    noisy = Generator(vae, density).sample(2100, generator=torch.Generator().manual_seed(0), observation_noise=True)
    assert float((noisy - x).var()) == pytest.approx(float(vae.likelihood.variance.gamma), rel=0.1)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (1, 2))])
def test_second_stage_is_closer_to_the_codes_than_the_prior(ring, seed):
    """On a ring, and at least three times closer in energy distance; its bound is better than the prior's density."""
    settings = Settings(latent_dim=2, densities=("gaussian", "mixture", specs.SecondStage(hidden=(64, 64))), seed=seed)
    second = build_second_stage(settings, code_variance=2.0)
    fit(second, ring, FitSettings(epochs=60, batch_size=100, lr=3e-3), compute=Compute(accelerator="cpu"), seed=seed)
    second.calibrate(ring, generator=torch.Generator().manual_seed(0))
    densities = {"prior": PriorDensity(second.prior), "second_stage": SecondStage(second)}
    real = ring.sample(2000, generator=torch.Generator().manual_seed(seed))
    distance = {
        name: energy_distance(real, density.sample(2000, generator=torch.Generator().manual_seed(9)).detach())
        for name, density in densities.items()
    }
    assert distance["second_stage"] < distance["prior"] / 3, distance
    scores = compare_on_codes(densities, ring).scores
    assert scores["second_stage"] > scores["prior"] + 0.3, scores


def test_energy_distance_is_zero_for_equal_laws_and_equals_its_closed_form():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1500, 2, generator=generator), torch.randn(1500, 2, generator=generator)
    assert abs(energy_distance(x, y)) < 0.01
    # one dimension, points at 0 and at a: 2a
    assert energy_distance(torch.zeros(4, 1), torch.full((5, 1), 1.5)) == pytest.approx(3.0)
    direct = 2 * torch.cdist(x[:9], y[:7]).mean() - sum(
        torch.stack([(s[i] - s[j]).norm() for i in range(len(s)) for j in range(len(s)) if i != j]).mean()
        for s in (x[:9], y[:7])
    )
    assert energy_distance(x[:9], y[:7]) == pytest.approx(float(direct), abs=1e-6)
    with pytest.raises(InputError, match="n, m ≥ 2"):
        energy_distance(x[:1], y)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.campaign)])
def test_a_vae_counts_the_dimensions_of_a_manifold(seed):
    """γ falls and λ splits into two clusters: 2 active of 6 latent dimensions on a curved sheet in 10 dimensions."""
    x = curved_manifold(5000, r=2, d=10, noise=0.1, seed=seed)
    vae = small_vae(10, 6, hidden=(64, 64), seed=seed)
    history = fit(
        vae, Rows(x), FitSettings(epochs=60, batch_size=100, lr=5e-3), compute=Compute(accelerator="cpu"), seed=seed
    )
    ratios = Codes.of(vae, Rows(x)).scale.square().mean(0).sort().values
    assert float(vae.likelihood.variance.gamma) < 0.05
    assert history[-1]["gamma"] < history[0]["gamma"] / 5
    assert history[-1]["active_dimensions"] == 2
    assert float(ratios[1]) < 0.05
    assert float(ratios[2]) > 0.9


def test_comparison_prefers_the_simplest_of_those_that_cannot_be_told_apart(ring):
    prior = PriorDensity(small_vae(latent_dim=2).prior)
    normal, curved = codes_of(torch.randn(3000, 2)), ring
    for codes, best in ((normal, "prior"), (curved, "mixture")):
        densities = {"prior": prior, "mixture": Mixture.fit(codes, components=5)}
        found = compare_on_codes(densities, codes)
        assert found.best == best
        assert found.scores.keys() == densities.keys()
