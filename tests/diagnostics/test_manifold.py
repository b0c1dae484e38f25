"""Codes on a ring, where what is off it can be counted by hand."""

import math

import pytest
import torch
from scipy.spatial import cKDTree
from torch import nn

from helpers import Rows
from vaelab.data.batches import ArrayBatches
from vaelab.diagnostics.measures.manifold import off_manifold
from vaelab.errors import InputError
from vaelab.latent import LatentDensity
from vaelab.model import VAE

WIDTH = 0.05


class Given(nn.Module):
    """Posterior means that are x, with a small deviation."""

    def __init__(self, kappa, log_std):
        super().__init__()
        self.kappa, self.log_std = kappa, nn.Parameter(torch.tensor(float(log_std)))

    def forward(self, x, c=None):
        mean = x[:, : self.kappa]
        return torch.cat([mean, self.log_std.expand_as(mean)], 1)


class Same(nn.Module):
    """The code itself, or more numbers that are linear in it, moved by the condition."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, z, c=None):
        x = z @ self.weight.T.to(z)
        return x if c is None else x + c


def ring(n, seed=0, radius=1.0):
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed))
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


class Ring(LatentDensity):
    """Fresh draws of the codes' own law."""

    name = "ring"

    def draw(self, n, c, normals):
        angle = 2 * math.pi * torch.rand(n, generator=normals.generator)
        noise = WIDTH * torch.randn(n, 2, generator=normals.generator)
        return torch.stack([angle.cos(), angle.sin()], 1) + noise

    def log_prob(self, z, c=None):
        raise NotImplementedError


class Still(Ring):
    """One point of the ring, always."""

    def draw(self, n, c, normals):
        return torch.tensor([[1.0, 0.0]]).expand(n, -1)


def model(weight=None, width=WIDTH, kappa=2) -> VAE:
    weight = torch.eye(kappa) if weight is None else weight
    return VAE(Given(kappa, math.log(width)), Same(weight), latent_dim=kappa)


def simulated():
    """Share of N(0, I) beyond the 95 % quantile of distances to a ring, by other means."""
    generator = torch.Generator().manual_seed(9)
    tree = cKDTree((ring(1000, 1) + WIDTH * torch.randn(1000, 2, generator=generator)).numpy())
    usual = tree.query((ring(20_000, 2) + WIDTH * torch.randn(20_000, 2, generator=generator)).numpy())[0]
    drawn = tree.query(torch.randn(20_000, 2, generator=generator).numpy())[0]
    threshold = torch.from_numpy(usual).quantile(0.95)
    return float(threshold), float((torch.from_numpy(drawn) > threshold).double().mean())


def test_draws_from_the_codes_are_on_the_manifold_and_most_of_the_prior_is_off():
    found = off_manifold(model(), Rows(ring(2500)), {"ring": Ring(), "still": Still()})
    threshold, rate = simulated()
    assert (found.rows, found.draws, found.floor) == (2000, 1000, 0.05)
    assert found.threshold == pytest.approx(threshold, rel=0.25)
    assert 0.5 < rate < 0.95
    assert found.rates["prior"] == pytest.approx(rate, abs=0.05)
    # two binomial errors, of the threshold and of the rate
    assert found.rates["ring"] == pytest.approx(0.05, abs=4 * math.sqrt(2 * 0.05 * 0.95 / 1000))
    assert found.rates["still"] in (0, 1)
    assert list(found.rates) == ["prior", "ring", "still"]


def test_straight_lines_cross_the_hole_and_great_circles_go_round_it():
    """A chord's middle is at cos(θ/2) from the centre, θ uniform on [0, π]: how many are well inside the ring."""
    found = off_manifold(model(), Rows(ring(2500)), {})
    lenient, strict = (1 - 2 / math.pi * math.acos(1 - found.threshold - edge) for edge in (0.0, 3 * WIDTH))
    error = 3 * math.sqrt(0.25 / 250)
    assert strict - error < found.holes < lenient + error
    assert strict > 0.5
    assert found.holes_spherical < 0.2
    assert found.profile.shape == found.profile_spherical.shape == (9,)
    for path in (found.profile, found.profile_spherical):
        assert path[[0, -1]].tolist() == pytest.approx([1, 1], rel=0.3)
    assert 3 <= found.profile.argmax() <= 5
    assert found.profile[4] > 6 * found.profile[0]
    assert found.profile_spherical.max() < 3


def test_the_space_of_the_decoder_decides_and_not_that_of_the_codes():
    """Distances after 50 principal axes are those of all 200 outputs, for outputs in a plane."""
    turn = torch.linalg.qr(torch.randn(200, 2, generator=torch.Generator().manual_seed(0)))[0]
    wide = off_manifold(model(3 * turn), Rows(ring(1500)), {"ring": Ring()})
    plain = off_manifold(model(), Rows(ring(1500)), {"ring": Ring()})
    assert wide.threshold == pytest.approx(3 * plain.threshold, rel=1e-4)
    assert wide.rates == pytest.approx(plain.rates, abs=2e-3)
    assert wide.holes == pytest.approx(plain.holes, abs=0.01)
    # a dimension that the decoder does not read makes nothing off
    flat = off_manifold(model(torch.tensor([[1.0, 0.0]])), Rows(ring(1500)), {"ring": Ring()})
    assert flat.rates["prior"] < 0.5


def test_what_leaves_the_plane_of_the_reconstructions_is_off():
    """The codes keep to two of three dimensions: no principal axis of theirs sees the third."""
    x = torch.cat([torch.randn(1500, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(1500, 1)], 1)
    found = off_manifold(model(width=1e-6, kappa=3), Rows(x), {})
    assert found.rates["prior"] > 0.8
    assert found.holes < 0.1  # convex


def test_a_decoder_that_says_one_thing_makes_nothing_off():
    found = off_manifold(model(torch.zeros(3, 2)), Rows(ring(400)), {"ring": Ring()})
    assert set(found.rates.values()) == {0.0}
    assert (found.holes, found.holes_spherical) == (0, 0)
    assert found.profile.isfinite().all()


def test_conditions_go_to_densities_and_decoder():
    c = torch.where(torch.arange(2000)[:, None] < 1000, -20.0, 20.0).expand(-1, 2).contiguous()
    found = off_manifold(model(), ArrayBatches(ring(2000), c), {"ring": Ring()})
    assert found.rates["ring"] < 0.12
    assert 0.4 < found.rates["prior"] < 0.95
    assert found.profile[-1] < 2  # the other end, under the condition of the start


@pytest.mark.parametrize("kappa", [1, 4096])
def test_codes_of_any_width(kappa):
    x = 3 + 0.1 * torch.randn(300, kappa, generator=torch.Generator().manual_seed(0))
    found = off_manifold(model(torch.eye(60, kappa), kappa=kappa), Rows(x), {}, rows=200)
    assert found.rates["prior"] > 0.9
    assert found.rows == 200


def test_blocks_change_nothing_and_the_model_stays(monkeypatch):
    vae, density = model().train(), Ring().eval()
    whole = off_manifold(vae, Rows(ring(300)), {"ring": density})
    assert vae.training
    assert not density.training
    monkeypatch.setattr("vaelab.diagnostics.measures.manifold.rows_at_once", lambda shape: 7)
    monkeypatch.setattr("vaelab.diagnostics.measures.manifold._PANEL", 11)
    parts = off_manifold(vae, Rows(ring(300)), {"ring": density})
    assert parts.rates == whole.rates
    assert parts.threshold == pytest.approx(whole.threshold, rel=1e-6)


def test_too_few_rows_and_outputs_that_are_no_numbers():
    with pytest.raises(InputError):
        off_manifold(model(), Rows(ring(3)), {})
    with pytest.raises(InputError):
        off_manifold(model(torch.full((2, 2), math.inf)), Rows(ring(100)), {})
    assert off_manifold(model(), Rows(ring(4)), {}).rows == 4
