"""Codes whose law is known against densities whose law is known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from helpers import Rows
from vaelab.data.batches import ArrayBatches
from vaelab.diagnostics.measures.aggregated import aggregated, embedding, kolmogorov_smirnov
from vaelab.diagnostics.measures.latent_draws import drawn_codes
from vaelab.diagnostics.measures.principal import Frame
from vaelab.errors import InputError
from vaelab.latent import LatentDensity, SecondStage
from vaelab.model import VAE, Conditional, Deterministic, FullCovariance
from vaelab.nets import MLPDecoder


class Given(nn.Module):
    """Posterior means that are the first numbers of x, and one log deviation."""

    def __init__(self, kappa, log_std):
        super().__init__()
        self.kappa, self.log_std = kappa, nn.Parameter(torch.tensor(float(log_std)))

    def forward(self, x, c=None):
        mean = x[:, : self.kappa]
        return torch.cat([mean, self.log_std.expand_as(mean)], 1)


class Normal(LatentDensity):
    """N(0, s²I), or N(c, s²I) if it is conditional."""

    name = "normal"

    def __init__(self, kappa, std=1.0, *, conditional=False):
        super().__init__()
        self.kappa, self.std, self.conditional = kappa, std, conditional
        self.dropout = nn.Dropout().eval()

    def draw(self, n, c, normals):
        assert not self.training
        z = self.std * torch.randn(n, self.kappa, generator=normals.generator)
        return z + c if self.conditional else z

    def log_prob(self, z, c=None):
        raise NotImplementedError


def model(kappa=2, variance=1e-12, **axes) -> VAE:
    return VAE(Given(kappa, 0.5 * math.log(variance)), MLPDecoder(kappa, (kappa,)), latent_dim=kappa, **axes)


def normal(n, kappa=2, seed=0):
    return torch.randn(n, kappa, generator=torch.Generator().manual_seed(seed))


def test_codes_of_the_prior_cannot_be_told_from_it():
    """All noise: q(z | x) = N(0, I) for every x."""
    found = aggregated(model(variance=1.0), Rows(torch.zeros(4000, 2)), {"normal": Normal(2)})
    assert found.rows == 4000
    assert list(found.matches) == ["prior", "normal"]
    for match in found.matches.values():
        assert match.share < 1e-3
        assert abs(match.energy) < 5e-3
        assert abs(match.floor) < 5e-3
        assert abs(match.accuracy.accuracy - 0.5) < 3 * match.accuracy.standard_error
        assert float(match.ks.max()) < 1.63 * math.sqrt(2 / 4000)  # the 1 % point of Kolmogorov's law
        assert float(match.mean.abs().max()) < 4 * math.sqrt(2 / 4000)
        torch.testing.assert_close(match.variance, torch.ones(2, dtype=torch.float64), rtol=0.12, atol=0)
    torch.testing.assert_close(found.spectra["z ~ q(z)"], found.spectra["normal draws"], rtol=0.05, atol=0)


def test_codes_of_half_the_width_by_closed_form():
    found = aggregated(model(kappa=1), Rows(0.5 * normal(4000, 1)), {}).matches["prior"]
    root = math.sqrt(2 / math.pi)
    across, within = root * math.sqrt(1.25), root * math.sqrt(2) * (0.5 + 1)
    assert found.energy == pytest.approx(2 * across - within, rel=0.15)
    assert found.share == pytest.approx(1 - within / (2 * across), rel=0.15)
    # the densities of N(0, ¼) and N(0, 1) cross where x² = ln 2 / 1.5
    crossing = math.sqrt(math.log(2) / 1.5)
    phi = torch.distributions.Normal(0.0, 1.0).cdf
    distance = float(phi(torch.tensor(2 * crossing)) - phi(torch.tensor(crossing)))
    assert float(found.ks) == pytest.approx(distance, abs=0.03)
    # the best classifier is right by ½ + the total variation / 2, which is twice that distance here
    assert found.accuracy.accuracy == pytest.approx(0.5 + distance, abs=4 * found.accuracy.standard_error)
    assert found.accuracy.accuracy > 0.6
    assert float(found.variance) == pytest.approx(0.25, rel=0.1)


def test_shifted_and_clustered_codes_are_far_from_the_prior():
    shifted = aggregated(model(), Rows(normal(2000) + torch.tensor([2.0, 0.0])), {}).matches["prior"]
    assert shifted.ks[0] == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.05)  # Φ(1) − Φ(−1)
    assert shifted.ks[1] < 0.06
    assert float(shifted.mean[0]) == pytest.approx(2, abs=0.15)
    assert shifted.share > 0.2
    signs = normal(2000, seed=1).sign()
    clusters = aggregated(model(), Rows(signs * 3 + 0.1 * normal(2000)), {}).matches["prior"]
    assert clusters.share > 0.1
    assert clusters.accuracy.accuracy > 0.99
    assert clusters.energy > 50 * abs(clusters.floor)


def test_the_spectrum_is_that_of_the_covariance():
    widths = torch.tensor([3.0, 1.0, 0.1])
    turn = torch.linalg.qr(normal(3, 3))[0]
    z = normal(5000, 3)
    white = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / 5000)).T  # Σ z zᵀ / n is I exactly
    batches = Rows(white * widths @ turn.T)
    found = aggregated(model(kappa=3), batches, {}).spectra["z ~ q(z)"]
    torch.testing.assert_close(found, widths.double(), rtol=1e-3, atol=0)
    few = aggregated(model(kappa=3), Rows(batches.x[:4] * 0), {}, rows=4).spectra
    assert few["z ~ q(z)"].shape == (3,)
    assert float(few["z ~ q(z)"].max()) < 1e-5


def test_a_second_stage_shows_its_own_codes():
    second = model(kappa=2, variance=1.0).train()
    second.encoder.forward = lambda x, c=None: torch.zeros(len(x), 4)  # u ~ N(0, I) whatever z is
    density = SecondStage(second)
    found = aggregated(model(), Rows(0.3 * normal(3000)), {"second_stage": density})
    assert second.training
    assert set(found.spectra) == {"z ~ q(z)", "normal draws", "u ~ q(u)"}
    torch.testing.assert_close(found.spectra["u ~ q(u)"], found.spectra["normal draws"], rtol=0.06, atol=0)
    assert float(found.spectra["z ~ q(z)"].max()) < 0.33


def test_densities_get_the_conditions_of_the_rows():
    c = torch.where(torch.arange(2000)[:, None] < 1000, -4.0, 4.0).expand(-1, 2)  # sorted, as files are
    batches = ArrayBatches(normal(2000) + c, c.contiguous())
    prior = Conditional(nn.Linear(2, 4), 2)
    with torch.no_grad():
        prior.network.weight.copy_(torch.cat([torch.eye(2), torch.zeros(2, 2)]))
        prior.network.bias.zero_()
    vae = model(prior=prior)
    found = aggregated(vae, batches, {"conditional": Normal(2, conditional=True), "blind": Normal(2)})
    assert found.matches["prior"].share < 5e-3
    assert found.matches["conditional"].share < 5e-3
    assert found.matches["blind"].share > 0.2
    assert abs(found.matches["prior"].floor) < 0.05  # halves are drawn at random
    assert float(found.spectra["z ~ q(z)"].max()) < 1.1  # in the units of the prior


@pytest.mark.parametrize("kappa", [1, 4096])
def test_codes_of_any_width(kappa):
    """N(0, I) codes and codes shrunk to half; wide ones take fewer rows, and a classifier reads 64 columns of them."""
    same = aggregated(model(kappa, variance=1.0), Rows(torch.zeros(300, kappa)), {}, rows=120)
    assert same.rows == 120
    assert same.matches["prior"].share < 0.02
    assert same.matches["prior"].ks.shape == (kappa,)
    assert len(same.spectra["normal draws"]) == min(kappa, 120)
    half = aggregated(model(kappa, variance=0.25), Rows(torch.zeros(300, kappa)), {}, rows=120)
    assert half.matches["prior"].share > same.matches["prior"].share
    if kappa > 1:
        assert half.matches["prior"].accuracy.accuracy > 0.75


def test_the_model_and_the_densities_are_left_as_they_were():
    vae, density = model().train(), Normal(2).train()
    density.dropout.eval()
    vae.prior.eval()
    before = torch.get_rng_state()
    first = aggregated(vae, Rows(normal(100)), {"normal": density}, rows=60)
    assert torch.equal(before, torch.get_rng_state())
    assert (vae.training, density.training, density.dropout.training) == (True, True, False)
    second = aggregated(vae, Rows(normal(100)), {"normal": density}, rows=60)
    assert first.matches["normal"].energy == second.matches["normal"].energy
    assert torch.equal(first.matches["normal"].ks, second.matches["normal"].ks)
    assert first.matches["normal"].accuracy == second.matches["normal"].accuracy
    assert first.matches["normal"].energy != aggregated(vae, Rows(normal(100)), {}, rows=60).matches["prior"].energy


def test_few_rows_and_codes_that_are_no_numbers():
    assert aggregated(model(), Rows(normal(49)), {}).matches["prior"].accuracy is None
    assert aggregated(model(), Rows(normal(50)), {}).matches["prior"].accuracy is not None
    for rows in (Rows(normal(3)), Rows(normal(10) / 0)):
        with pytest.raises(InputError):
            aggregated(model(), rows, {})
    with pytest.raises(InputError):
        aggregated(model(), Rows(normal(10)), {}, rows=3)


def test_deterministic_codes_that_are_all_the_same():
    vae = model(posterior=Deterministic(), regularizers=[])
    vae.encoder.forward = lambda x, c=None: torch.ones(len(x), 2)
    found = aggregated(vae, Rows(normal(200)), {}).matches["prior"]
    assert found.ks.tolist() == pytest.approx([0.84] * 2, abs=0.1)  # Φ(1)
    assert found.variance.tolist() == [0, 0]
    assert found.accuracy.accuracy > 0.95


def test_codes_are_drawn_from_full_posteriors_in_blocks(monkeypatch):
    """Their covariance is the posterior's where all means are the same."""
    tril = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    vae = VAE(nn.Linear(2, 5), MLPDecoder(2, (2,)), latent_dim=2, posterior=FullCovariance())
    with torch.no_grad():
        vae.encoder.weight.zero_()
        vae.encoder.bias.copy_(torch.tensor([0.0, 0.0, 0.0, math.log(0.6), 0.8]))
    vae.encoder.forward = lambda x, c=None: vae.encoder.bias.expand(len(x), -1)
    monkeypatch.setattr("vaelab.diagnostics.measures.latent_draws._FACTORS", 4 * 300)
    z, _ = drawn_codes(vae, Rows(torch.zeros(3000, 2)), rows=3000, seed=0)
    torch.testing.assert_close(torch.cov(z.T), tril @ tril.T, rtol=0.1, atol=0.05)


def test_rows_come_in_random_order():
    z, _ = drawn_codes(model(kappa=1), Rows(torch.arange(1000.0)[:, None]), rows=400, seed=0)
    assert len(z.round().unique()) == 400
    assert abs(float(z[:200].mean() - z[200:].mean())) < 120
    assert not torch.equal(z, z.sort(0).values)


def test_kolmogorov_smirnov_is_scipys():
    x, y = normal(101, 3), normal(57, 3, seed=1) + 0.3
    x[:, 2], y[:, 2] = x[:, 2].round(), y[:, 2].round()  # with ties
    wanted = [ks_2samp(x[:, j].numpy(), y[:, j].numpy()).statistic for j in range(3)]
    np.testing.assert_allclose(kolmogorov_smirnov(x, y), wanted, atol=1e-12)


def test_principal_frames_keep_distances():
    low = normal(80, 2) @ normal(2, 30, seed=1) + 5  # a plane in 30 dimensions
    for rows in (low, low[:10]):  # more rows than columns, and fewer
        frame = Frame.of(rows, 50)
        assert frame.axes.shape == (30, 2)
        torch.testing.assert_close(frame.axes.T @ frame.axes, torch.eye(2, dtype=torch.float64))
        torch.testing.assert_close(torch.pdist(frame.coordinates(low)), torch.pdist(low.double()), rtol=1e-5, atol=1e-5)
    assert Frame.of(low, 1).axes.shape == (30, 1)
    off = low[:1] + 3 * torch.linalg.svd(low - low.mean(0), full_matrices=True).Vh[-1]
    apart = (frame.with_remainder(off) - frame.with_remainder(low[:1])).norm()
    assert float(apart) == pytest.approx(3, rel=1e-4)
    assert Frame.of(torch.ones(5, 3), 50).axes.shape[1] == 0


def test_an_embedding_lays_two_clusters_apart():
    codes, draws = 0.1 * normal(40, 60) + 5, 0.1 * normal(30, 60, seed=1)
    plane = embedding(codes, draws, most=25)
    assert plane.shape == (50, 2)
    first, second = plane[:25], plane[25:]
    assert float((first.mean(0) - second.mean(0)).norm()) > 2 * float(first.std() + second.std()) / 2
    assert torch.equal(plane, embedding(codes, draws, most=25))
    with pytest.raises(InputError):
        embedding(codes, draws[:, :5])
    with pytest.raises(InputError):
        embedding(codes[:2], draws[:1])


def test_the_prior_of_another_name_is_taken_as_given():
    found = aggregated(model(), Rows(normal(60)), {"prior": Normal(2, std=100.0)})
    assert list(found.matches) == ["prior"]
    assert float(found.matches["prior"].variance.max()) < 1e-3
