"""How codes, laws on them and a generator fit together: options, seeds, blocks, modes, against direct computations."""

import math

import pytest
import torch
from torch import nn

from helpers import small_vae
from vaelab.latent import (
    ClassMixture,
    Codes,
    Generator,
    LatentDensity,
    Mixture,
    build_flow,
    fit_named_mixture,
    row_scores,
)
from vaelab.latent import flow as flows
from vaelab.latent import generator as generators
from vaelab.latent.mixtures import RIDGE, choose
from vaelab.model import VAE, FixedVariance, Gaussian

SIZE = 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


class First(LatentDensity):
    """A law whose log-density is the first number of a code, and whose draws are 0; notes its mode."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def draw(self, n, c, normals):
        self.modes.append(self.training)
        return torch.zeros(n, SIZE)

    def log_prob(self, z, c=None):
        self.modes.append(self.training)
        return z[:, 0]


class Says(nn.Module):
    """A decoder that says its condition, and something else in training."""

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.zeros(1))

    def forward(self, z, c=None):
        return c + self.own + (7.0 if self.training else 0.0)


def test_a_generator_decodes_every_row_under_its_own_condition_in_evaluation(monkeypatch):
    monkeypatch.setattr(generators, "_BLOCK", 300)
    vae = VAE(nn.Linear(1, 2 * SIZE), Says(), latent_dim=SIZE, likelihood=Gaussian(FixedVariance(0.25))).train()
    law, c = First().train(), torch.arange(1000.0)[:, None]
    generator = Generator(vae, law)
    assert torch.equal(generator.sample(1000, c), c)
    noise = generator.sample(1000, c, observation_noise=True, generator=seeded()) - c
    assert float(noise.std()) == pytest.approx(0.5, rel=0.12)
    assert law.modes == [False, False]
    assert vae.training


def test_laws_are_compared_on_one_fresh_draw_of_a_seed_in_evaluation():
    codes, law = Codes(randn(50, SIZE), torch.ones(50, SIZE)), First().train()
    found = [row_scores({"first": law}, codes, seed=seed)["first"] for seed in (3, 3, 4)]
    assert torch.equal(found[0], codes.sample(generator=seeded(3))[:, 0].double())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert law.modes == [False] * 3


class Scored(LatentDensity):
    def __init__(self, score):
        super().__init__()
        self.score = score

    def draw(self, n, c, normals):
        raise NotImplementedError

    def log_prob(self, z, c=None):
        return torch.full((len(z),), self.score)


@pytest.mark.parametrize(
    ("components", "covariance", "tried", "best"),
    [
        (
            None,
            None,
            {(1, "full"), (2, "full"), (5, "full"), (1, "diag"), (2, "diag"), (5, "diag"), (10, "diag")},
            (5, "diag"),
        ),
        (None, "full", {(1, "full"), (2, "full"), (5, "full")}, (2, "full")),
        (7, None, {(7, "full"), (7, "diag")}, (7, "diag")),
        (7, "full", {(7, "full")}, (7, "full")),
    ],
)
def test_the_best_of_what_is_left_open_is_fitted_to_all_codes(components, covariance, tried, best):
    scores = {
        (1, "full"): 0.0,
        (2, "full"): 1.0,
        (1, "diag"): 1.5,
        (2, "diag"): 2.0,
        (5, "diag"): 3.0,
        (7, "diag"): 1.0,
    }
    fits = []

    def fit(codes, k, structure):
        fits.append((len(codes), k, structure))
        return Scored(scores.get((k, structure), -1.0))

    choose(fit, Codes(randn(200, SIZE), torch.ones(200, SIZE)), components=components, covariance=covariance, seed=0)
    assert fits[-1] == (200, *best)
    assert {each[1:] for each in fits} == tried
    assert {each[0] for each in fits[:-1]} <= {160}


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_small_classes_have_the_spread_around_the_means_of_all(covariance):
    z, labels = (
        randn(24, SIZE).double() + 5 * torch.eye(3).double()[torch.arange(24) % 3][:, :SIZE],
        torch.arange(24) % 3,
    )
    found = ClassMixture.fit(
        Codes(z, torch.zeros_like(z), torch.eye(3).double()[labels]), components=1, covariance=covariance
    )
    around = torch.zeros(SIZE, SIZE).double()
    for row, label in zip(z, labels, strict=True):
        shift = row - z[labels == label].mean(0)
        around += torch.outer(shift, shift) / (24 - 3)
    wanted = around if covariance == "full" else around.diag().diag()
    for label, part in enumerate(found.parts):
        torch.testing.assert_close(part.means[0], z[labels == label].mean(0))
        factor = part.scale_trils[0]
        torch.testing.assert_close(factor @ factor.T, wanted + RIDGE * torch.eye(SIZE).double())


@pytest.mark.parametrize("name", ["gaussian", "mixture", "bayesian_mixture"])
def test_a_seed_says_which_draws_of_the_codes_are_fitted(name):
    codes = Codes(randn(60, SIZE), torch.ones(60, SIZE))
    options = {"components": 2, "covariance": "full"} if name == "mixture" else {}
    found = [fit_named_mixture(codes, name, seed=seed, **options).means for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_one_component_is_the_mean_and_the_covariance_of_the_codes_with_their_spread(covariance):
    tilt = torch.tensor([[1.0, 0.7], [0.0, 0.5]])
    codes = Codes(randn(20_000, SIZE) @ tilt, torch.tensor([0.5, 0.2]).expand(20_000, SIZE))
    found = Mixture.fit(codes, components=1, covariance=covariance)
    wanted = tilt.T @ tilt + torch.tensor([0.25, 0.04]).diag()
    factor = found.scale_trils[0]
    torch.testing.assert_close(
        factor @ factor.T, wanted if covariance == "full" else wanted.diag().diag(), atol=0.03, rtol=0
    )


def test_random_codes_are_of_any_row_and_rows_keep_what_is_theirs():
    loc, c = torch.arange(50.0)[:, None].expand(50, SIZE), torch.arange(50.0)[:, None]
    tril = torch.diag_embed(torch.arange(1.0, 51.0)[:, None].expand(50, SIZE))
    codes = Codes(loc, torch.zeros_like(loc), c)
    z, own = codes.pairs(40, generator=seeded())
    assert torch.equal(z[:, :1], own)
    assert len(own.unique()) > 15  # with replacement
    assert float(own.max()) > 40
    part = Codes(loc, tril.diagonal(dim1=1, dim2=2), c, tril).subset(torch.tensor([7, 3]))
    assert torch.equal(part.loc[:, 0], torch.tensor([7.0, 3.0]))
    assert torch.equal(part.c[:, 0], torch.tensor([7.0, 3.0]))
    assert torch.equal(part.scale_tril, tril[[7, 3]])


def test_codes_of_a_model_are_made_in_evaluation():
    vae = small_vae(6, SIZE)
    head, rows = vae.encoder.head, randn(9, 6)
    vae.encoder.head = nn.Sequential(head, nn.Dropout(0.5)).train()

    class Rows:
        event_shape, noise_shape = (6,), (0,)

        def __len__(self):
            return 9

        def to(self, device):
            return self

        def take(self, index, noise=None):
            return rows[index], None

    torch.testing.assert_close(Codes.of(vae.train(), Rows(), batch_size=4).loc, head(rows)[:, :SIZE].detach())
    assert vae.training


def test_blocks_of_a_flow_have_their_own_conditions(monkeypatch):
    pytest.importorskip("zuko")
    flow = build_flow(SIZE, condition_shape=(1,), hidden=(8,), transforms=2, seed=1)
    c = randn(7, 1, seed=2)
    whole = flow.sample(7, c, generator=seeded()), flow.log_prob(randn(7, SIZE), c)
    monkeypatch.setattr(flows, "_BLOCK", 2)
    parts = flow.sample(7, c, generator=seeded()), flow.log_prob(randn(7, SIZE), c)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_the_sizes_and_the_seed_of_a_flow_are_heard():
    pytest.importorskip("zuko")
    weights = [next(build_flow(SIZE, hidden=(5,), transforms=1, seed=seed).parameters()) for seed in (0, 0, 1)]
    assert weights[0].shape[0] == 5
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert math.prod(weights[0].shape) > 0
