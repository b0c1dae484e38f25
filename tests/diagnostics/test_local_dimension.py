"""Counts around rows against decoders whose tangent planes are known, and estimates from neighbours on flat data."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vaelab import local_dimension as verb
from vaelab.data import ArrayBatches
from vaelab.diagnostics.local_dimension import local_dimension
from vaelab.diagnostics.neighbour_dimension import _Neighbourhoods, danco, levina_bickel, two_nn
from vaelab.errors import InputError
from vaelab.model import VAE, Bernoulli, FixedVariance, Gaussian


class Towards(nn.Module):
    """An encoder to the first numbers of a row, with the same deviation everywhere."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x, c=None):
        z = x[:, : self.size] + self.weight
        return torch.cat([z, torch.full_like(z, -3.0)], 1)


class Drawn(nn.Module):
    """A decoder by a formula."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, z, c=None):
        return self.formula(z)


def vae(formula, gamma, size=2):
    return VAE(Towards(size), Drawn(formula), latent_dim=size, likelihood=Gaussian(FixedVariance(gamma)))


def test_a_direction_counts_where_it_stands_out_of_the_noise():
    """Of x = (3 z₁, s z₂) with γ = 1: λ₁ = 1/10, never below 0.05; λ₂ = 1/(1 + s²) is below it from s² = 19 on."""
    for s, wanted in ((4.3, 0), (4.4, 1)):
        model = vae(lambda z, s=s: z * torch.tensor([3.0, s], dtype=z.dtype), 1.0)
        found = local_dimension(model, ArrayBatches(torch.randn(7, 2).double(), dtype=torch.float64))
        assert found.counts.tolist() == [wanted] * 7
    assert local_dimension(model, ArrayBatches(torch.randn(7, 2)), threshold=0.11).counts.tolist() == [2] * 7


def test_turned_axes_are_one_direction():
    """Both axes of the code move x along (1, 1): each is active, the tangent is a line."""
    model = vae(lambda z: (z.sum(1, keepdim=True)).expand(-1, 2) * 10, 1.0)
    found = local_dimension(model, ArrayBatches(torch.randn(9, 2)))
    assert found.counts.tolist() == [1] * 9
    assert (found.mean, found.error) == (1.0, 0.0)
    assert str(found).startswith("1.00 ± 0.00 dimensions around a row (1: 100% of 9 rows)")


def test_rows_differ_where_the_manifold_does():
    """x = (z₁, relu(z₂)) has a second dimension where z₂ > 0."""
    model = vae(lambda z: torch.stack([z[:, 0], z[:, 1].relu()], 1), 1e-3)
    x = torch.tensor([[0.5, 1.0], [0.5, -1.0], [-0.5, 2.0]])
    assert local_dimension(model, ArrayBatches(x)).counts.tolist() == [2, 1, 2]
    assert verb(model, x).tolist() == [2, 1, 2]
    some = local_dimension(model, ArrayBatches(x), rows=2)
    assert len(some.counts) == 2
    assert math.isinf(local_dimension(model, ArrayBatches(x[:1])).error)


def test_without_a_gaussian_there_is_no_noise_to_stand_out_of():
    model = vae(lambda z: z, 1.0).replace(likelihood=Bernoulli())
    with pytest.raises(InputError, match="Bernoulli"):
        local_dimension(model, ArrayBatches(torch.rand(5, 2)))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_neighbours_count_flat_data(d):
    u = np.random.default_rng(d).uniform(size=(2000, d))
    x = u @ np.linalg.qr(np.random.default_rng(0).normal(size=(7, d)))[0].T
    assert two_nn(x) == pytest.approx(d, rel=0.1)
    assert levina_bickel(x) == pytest.approx(d, rel=0.2)
    assert two_nn(np.concatenate([x, x])) == two_nn(x)  # of equal rows one


def test_neighbours_against_the_formulas():
    x = np.random.default_rng(3).normal(size=(60, 3))
    distances = np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1), 1)[:, 1:]
    k = 20
    local = [(k - 2) / sum(math.log(row[k - 1] / row[j]) for j in range(k - 1)) for row in distances]
    assert levina_bickel(x) == pytest.approx(1 / np.mean([1 / each for each in local]), rel=1e-9)
    mu = np.sort(np.log(distances[:, 1] / distances[:, 0]))[:54]
    share = -np.log(1 - np.arange(1, 55) / 60)
    assert two_nn(x) == pytest.approx(float(mu @ share / (mu @ mu)), rel=1e-9)


@pytest.mark.parametrize("d", [1, 3, 10, 20])
def test_balls_of_the_same_number_of_rows_correct_for_few_rows_in_many_dimensions(d):
    """Cubes and normal laws, which are no balls; TwoNN says 15 of 20."""
    generator = np.random.default_rng(d)
    turn = np.linalg.qr(generator.normal(size=(25, d)))[0].T
    for u in (generator.uniform(size=(1000, d)), generator.normal(size=(1000, d))):
        assert danco(u @ turn) == pytest.approx(d, abs=0.1 * d)
    assert danco(np.concatenate([u @ turn] * 2)) == danco(u @ turn)


def test_divergences_against_numerical_integration():
    k, r, angle = 10, np.linspace(1e-9, 1 - 1e-9, 400_001), np.linspace(-math.pi, math.pi, 200_001)

    def distance_law(d):
        return k * d * r ** (d - 1) * (1 - r**d) ** (k - 1)

    def angle_law(mean, concentration):
        return np.exp(concentration * np.cos(angle - mean)) / (2 * math.pi * np.i0(concentration))

    def integral(p, q, x):
        positive = (p > 0) & (q > 0)
        return np.trapezoid(np.where(positive, p * np.log(np.where(positive, p / q, 1.0)), 0.0), x)

    a, b = _Neighbourhoods(3.2, 1.3, 4.0), _Neighbourhoods(5.1, 1.5, 2.5)
    for one, other in ((a, b), (b, a)):
        wanted = integral(distance_law(one.dimension), distance_law(other.dimension), r)
        wanted += integral(angle_law(*one[1:]), angle_law(*other[1:]), angle)
        assert one.divergence(other, k) == pytest.approx(wanted, rel=1e-4)
    assert a.divergence(a, k) == pytest.approx(0, abs=1e-9)


def test_few_rows_are_refused():
    for estimate in (two_nn, levina_bickel, danco):
        with pytest.raises(InputError, match="2 different rows"):
            estimate(np.array([[0.0, 1.0], [1.0, 0.0]] * 20))
