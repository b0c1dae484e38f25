"""Held-out rows against training rows: probabilistic PCA in closed form, and a model that knows its rows by heart."""

import math

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from oracle_models import Linear, exact_rows, probabilistic_pca, silent
from vaelab.diagnostics.measures import generalisation
from vaelab.errors import InputError
from vaelab.model import VAE, Bernoulli, FixedVariance, Gaussian, Mixed, ProfiledVariance

VARIANCES = torch.tensor([6.0, 3.0, 0.5, 0.5, 0.5], dtype=torch.float64)
GAMMA, D, N = 0.5, 5, 2000
X, AXES = exact_rows(VARIANCES, N)
OTHER = exact_rows(torch.ones(D, dtype=torch.float64), N, seed=5)[0] * VARIANCES.sqrt() @ AXES.T


def pca(**options) -> VAE:
    return probabilistic_pca(VARIANCES[:2], AXES[:, :2], GAMMA, **options)


class Memory(nn.Module):
    """The stored row that is nearest."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, z, c=None):
        return self.rows[torch.cdist(z, self.rows).argmin(1)]


def test_the_bound_is_the_likelihood_of_probabilistic_pca():
    found = generalisation(pca(), Rows(X), Rows(OTHER))
    # E −log p(x) under the same moments, which both have exactly
    nll = 0.5 * (D * math.log(2 * math.pi) + float(VARIANCES.log().sum()) + D)
    for terms in (found.train, found.held_out):
        assert abs(terms.nelbo.value - nll) < 3 * terms.nelbo.error
        assert terms.nelbo.value == pytest.approx(terms.distortion.value + terms.kl.value)
        assert terms.kl.value == pytest.approx(0.5 * float((VARIANCES[:2] / GAMMA).log().sum()), rel=1e-9)
        assert terms.residual == pytest.approx(terms.error.value / D)
        assert terms.rows == N
    assert found.error_ratio == pytest.approx(1, abs=0.05)
    assert abs(found.gap.value) < 3 * found.gap.error < 0.4
    assert found.kl_gap.value == pytest.approx(0, abs=1e-9)
    assert found.caveat is None


def test_rows_of_twice_the_variance_cost_half_a_nat_per_dimension():
    found = generalisation(pca(), Rows(X), Rows(2**0.5 * OTHER))
    assert abs(found.gap.value - D / 2) < 3 * found.gap.error
    assert found.gap.error == pytest.approx(math.hypot(found.train.nelbo.error, found.held_out.nelbo.error))
    # KL: ½ Σ (1 − λ), the means' squares being twice as large
    assert found.kl_gap.value == pytest.approx(0.5 * float((1 - GAMMA / VARIANCES[:2]).sum()), rel=1e-9)


def test_rows_known_by_heart():
    encoder = Linear(torch.eye(D, dtype=torch.float64), constant=torch.full((D,), -9.0).double())
    vae = VAE(encoder, Memory(X), latent_dim=D, likelihood=Gaussian(FixedVariance(0.5))).double()
    found = generalisation(vae, Rows(X), Rows(OTHER))
    assert found.train.error.value == 0
    assert found.error_ratio == math.inf
    nearest = torch.cdist(OTHER, X).amin(1).square()
    assert found.held_out.error.value == pytest.approx(float(nearest.mean()), rel=1e-2)
    assert found.gap.value - found.kl_gap.value == pytest.approx(found.held_out.error.value / (2 * 0.5))
    same = generalisation(vae, Rows(X), Rows(X))
    assert (same.error_ratio, same.gap.value) == (1.0, 0.0)


def test_what_is_no_density_has_no_gap_but_a_ratio():
    found = generalisation(pca(posterior="deterministic"), Rows(X), Rows(OTHER))
    assert (found.gap, found.kl_gap, found.train.kl, found.train.nelbo) == (None,) * 4
    assert found.train.distortion is not None
    assert "deterministic" in found.caveat
    assert found.error_ratio == pytest.approx(1, abs=1e-9)
    per_row = small_vae(d=D).double()
    per_row.likelihood = Gaussian(ProfiledVariance(per_sample=True)).double()
    found = generalisation(per_row, Rows(X), Rows(OTHER))
    assert (found.gap, found.train.distortion) == (None, None)
    assert found.kl_gap is not None
    assert "fitted to the row" in found.caveat


def test_grey_pixels_have_no_density_and_binary_ones_do():
    grey, vae = torch.rand(40, 1, 3, 3, dtype=torch.float64), silent((1, 3, 3), Bernoulli())
    assert generalisation(vae, Rows(grey), Rows(grey)).gap is None
    found = generalisation(vae, Rows(grey.round()), Rows(grey.round()))
    assert found.train.distortion.value == pytest.approx(9 * math.log(2))
    assert found.train.residual == pytest.approx(0.25)
    assert found.gap.value == 0


def test_rows_are_chosen_and_the_model_is_left_as_it_was():
    vae = pca().train()
    found = generalisation(vae, Rows(X), Rows(OTHER[:50]), rows=300)
    assert vae.training
    assert (found.train.rows, found.held_out.rows) == (300, 50)
    assert generalisation(vae, Rows(X), Rows(OTHER[:50]), rows=300) == found
    assert generalisation(vae, Rows(X), Rows(OTHER[:50]), rows=300, seed=1) != found


def test_rows_that_do_not_fit_are_refused():
    gaps = X[:20].clone()
    gaps[3, 1] = math.nan
    vae = pca()
    for batches, held_out, match in (
        (Rows(X), Rows(X[:, :3]), "shape"),
        (Rows(X), Rows(gaps), "1 of 20"),
        (Rows(gaps), Rows(X), "1 of 20"),
        (Rows(X), Rows(X[:1]), "1 rows"),
    ):
        with pytest.raises(InputError, match=match):
            generalisation(vae, batches, held_out)
    vae.likelihood = Mixed((0,) * D)
    with pytest.raises(InputError, match="mixed table"):
        generalisation(vae, Rows(X), Rows(X))
