"""Residuals made by hand: white, of unequal variances, with directions in common; and those of probabilistic PCA."""

import math
import sys

import pytest
import torch

from helpers import Rows, small_vae
from oracle_models import exact_rows, probabilistic_pca, silent
from vaelab.diagnostics.measures import parallel_analysis as analysis
from vaelab.diagnostics.measures import residuals
from vaelab.diagnostics.measures.parallel_analysis import parallel_analysis
from vaelab.errors import InputError
from vaelab.model import Mixed

D, N = 20, 2000


def normals(n=N, d=D, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of(x, **options):
    return residuals(silent(tuple(x.shape[1:])), Rows(x), **options)


@pytest.mark.parametrize("seed", range(4))
def test_white_noise_has_nothing_to_gain(seed):
    found = of(0.3 * normals(seed=seed))
    assert -3 < found.gains["diag-i"] < 0.1
    assert -3 < found.gains["iso-d"] < 0.1
    assert (found.suggested, found.structured, found.structured_share, found.expected_nats) == ("iso-i", 0, 0.0, 0.0)
    assert found.spectrum == pytest.approx(torch.ones(D).double(), abs=0.3)
    assert float(found.spectrum.mean()) == pytest.approx(1)
    assert found.per_dimension == pytest.approx(torch.full((D,), 0.09).double(), rel=0.15)
    assert found.spread_dimensions < 1.15
    assert found.spread_rows == pytest.approx(28.41 / 12.44, rel=0.08)  # percentiles of χ² with 20 degrees of freedom


def test_columns_of_unequal_variance_gain_the_gap_of_jensen():
    variances = torch.linspace(0.2, 3, D, dtype=torch.float64)
    x = exact_rows(torch.ones(D, dtype=torch.float64), N)[0] * variances.sqrt()
    found = of(x)
    wanted = 0.5 * float((variances.mean() / variances).log().sum())
    assert found.gains["diag-i"] == pytest.approx(wanted, rel=0.03)
    assert found.gains["iso-d"] < 0
    assert (found.suggested, found.structured) == ("diag-i", 0)
    assert found.per_dimension == pytest.approx(variances)
    low, high = variances.quantile(torch.tensor([0.1, 0.9]).double())
    assert found.spread_dimensions == pytest.approx(float(high / low))


def test_rows_of_unequal_variance_gain_the_gap_of_jensen():
    d = 400
    variances = torch.linspace(0.2, 3, N, dtype=torch.float64)[:, None]
    found = of(normals(d=d) * variances.sqrt())
    wanted = 0.5 * d * float((variances.mean() / variances).log().mean())
    assert found.gains["iso-d"] == pytest.approx(wanted, rel=0.05)
    assert found.gains["diag-i"] < 0
    assert found.suggested == "iso-d"
    low, high = variances.quantile(torch.tensor([0.1, 0.9]).double())
    assert found.spread_rows == pytest.approx(float(high / low), rel=0.1)


def test_both_at_once():
    rows = torch.linspace(0.2, 3, N, dtype=torch.float64)[:, None]
    found = of(normals(d=100) * rows.sqrt() * torch.linspace(0.3, 2, 100, dtype=torch.float64))
    assert found.suggested == "diag-d"


@pytest.mark.parametrize(("n", "d"), [(N, D), (150, 600)])
def test_two_strong_directions_are_found_and_priced(n, d):
    # of equal loads, so that no dimension varies more than another
    axes = torch.stack([torch.ones(d), torch.tensor([1.0, -1.0]).repeat(d // 2)], 1).double() / d**0.5
    strength = torch.tensor([80.0, 40.0], dtype=torch.float64) * d / D
    u = exact_rows(strength, n, 1)[0] if n > d else normals(n, 2, 1) * strength.sqrt()
    found = of(normals(n, d) + u @ axes.T)
    assert found.structured == 2
    eigenvalues = torch.ones(d, dtype=torch.float64)
    eigenvalues[:2] += strength
    assert found.structured_share == pytest.approx(float((1 + strength).sum() / eigenvalues.sum()), rel=0.1)
    wanted = 0.5 * (d * math.log(float(eigenvalues.mean())) - float(eigenvalues.log().sum()))
    assert found.expected_nats == pytest.approx(wanted, rel=0.05 if n > d else 0.15)
    assert float(found.spectrum[2]) < 0.2 * float(found.spectrum[1])


def test_rows_of_unequal_size_are_no_directions():
    sizes = 0.2 * torch.ones(100, 1, dtype=torch.float64)
    sizes[:3] = 5.0
    found = of(normals(100, 400) * sizes)
    assert found.structured == 0
    assert float(found.spectrum[0]) > 50  # although they make up most of the covariance


def test_what_probabilistic_pca_leaves_is_white_and_one_dimension_less_leaves_a_direction():
    variances = torch.full((D,), 0.5, dtype=torch.float64)
    variances[:3] = torch.tensor([9.0, 6.0, 4.0])
    x, axes = exact_rows(variances, N)
    found = residuals(probabilistic_pca(variances[:3], axes[:, :3], 0.5), Rows(x))
    assert (found.structured, found.suggested) == (0, "iso-i")
    assert float(found.per_dimension.mean()) == pytest.approx(0.5, rel=0.03)
    gamma = (4 + 17 * 0.5) / 18
    left = residuals(probabilistic_pca(variances[:2], axes[:, :2], gamma), Rows(x))
    assert left.structured == 1
    # what the optimum with three dimensions has more of log-likelihood, but for chance and unequal columns
    wanted = 0.5 * (18 * math.log(gamma) - math.log(4) - 17 * math.log(0.5))
    assert 0.5 * wanted < left.expected_nats < 1.1 * wanted


def test_dimensions_that_never_vary_do_not_count():
    noise = normals(N, 12).view(N, 1, 3, 4)
    x = torch.nn.functional.pad(noise, (1, 1, 1, 1))
    found, bare = of(x), of(noise)
    assert found.per_dimension.shape == (1, 5, 6)
    assert float(found.per_dimension[0, 0].sum()) == 0
    assert found.spread_dimensions == pytest.approx(bare.spread_dimensions)
    assert found.gains["diag-i"] == pytest.approx(bare.gains["diag-i"])
    assert (found.suggested, found.structured) == ("iso-i", 0)


def test_rows_that_are_rebuilt_without_error():
    found = of(torch.zeros(10, 4, dtype=torch.float64))
    assert found.gains == {"diag-i": 0.0, "iso-d": 0.0}
    assert (found.structured, found.structured_share, found.spread_rows, found.suggested) == (0, 0.0, 1.0, "iso-i")
    assert of(normals(10, 1)).gains["iso-d"] == 0.0


def test_large_rows_are_fewer_and_blocks_change_nothing(monkeypatch):
    vae = small_vae(d=D).double().train()
    whole = residuals(vae, Rows(normals()), rows=200)
    assert vae.training
    monkeypatch.setattr("vaelab.rows.rows_at_once", lambda shape: 7)
    monkeypatch.setattr(analysis, "_AT_ONCE", 1000)
    parts = residuals(vae, Rows(normals()), rows=200)
    assert parts.spectrum.shape == whole.spectrum.shape == (D,)
    assert parts.spectrum == pytest.approx(whole.spectrum, rel=1e-9)
    assert parts.gains == pytest.approx(whole.gains, rel=1e-9)
    assert len(parts.per_row) == parts.rows == 200
    monkeypatch.setattr(sys.modules[residuals.__module__], "_MOST_NUMBERS", 50 * D)
    assert residuals(vae, Rows(normals())).rows == 50


def test_the_two_gram_matrices_have_the_same_eigenvalues():
    x = normals(30, 40)
    x = x - x.mean(0)
    wide, tall = analysis._eigenvalues(x), analysis._eigenvalues(x.T)
    assert 30 * wide == pytest.approx(40 * tall, abs=1e-9)
    assert wide[:29] == pytest.approx(torch.linalg.svdvals(x)[:29].square() / 30)
    assert parallel_analysis(x).spectrum.shape == (30,)


def test_permuted_rows_keep_the_sizes_of_rows_and_columns():
    x = normals(200, 30) * torch.linspace(0.1, 4, 200).double()[:, None] * torch.linspace(1, 3, 30).double()
    x = x - x.mean(0)
    mixed = analysis._permuted(x, 0, 0)
    assert mixed.square().sum(0) == pytest.approx(x.square().sum(0))
    sizes = torch.stack([x.square().mean(1), mixed.square().mean(1)])
    assert float(torch.corrcoef(sizes)[0, 1]) > 0.9
    assert not torch.equal(mixed, analysis._permuted(x, 0, 1))


def test_what_has_no_residuals_is_refused():
    with pytest.raises(InputError, match="3 rows"):
        of(normals(3))
    vae = silent((2,))
    vae.likelihood = Mixed((0, 3))
    with pytest.raises(InputError, match="without gaps"):
        residuals(vae, Rows(normals(10, 2)))
