"""What codes are used for: probabilistic PCA in closed form, collapsed codes, and decoders that ignore theirs."""

import math
import sys

import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from helpers import Rows, small_vae
from oracle_models import Linear, exact_rows, probabilistic_pca, silent
from vaelab.data import ArrayBatches
from vaelab.diagnostics.measures import code_use
from vaelab.diagnostics.measures import reconstruction as rebuild
from vaelab.errors import InputError
from vaelab.model import (
    VAE,
    Bernoulli,
    Conditional,
    FixedVariance,
    FullCovariance,
    Gaussian,
    Isotropic,
    Mixed,
    variance_ratio,
)
from vaelab.nets import MLPEncoder

module = sys.modules[code_use.__module__]
VARIANCES = torch.tensor([6.0, 3.0, 1.5, 0.3, 0.3, 0.3], dtype=torch.float64)
GAMMA, D, N = 0.3, 6, 2000
X, AXES = exact_rows(VARIANCES, N)


def pca(posterior="diagonal") -> VAE:
    return probabilistic_pca(VARIANCES[:3], AXES[:, :3], GAMMA, posterior=posterior, declared=7.0)


def holds(bounds, value):
    return bounds.lower.value - 3 * bounds.lower.error < value < bounds.upper.value + 3 * bounds.upper.error


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_probabilistic_pca_in_closed_form(posterior):
    found = code_use(pca(posterior), Rows(X))
    kept = VARIANCES[:3]
    wanted = 0.5 * (kept / GAMMA).log()  # E μ_j² = 1 − λ_j, so that KL_j = −½ ln λ_j
    if posterior == "diagonal":
        assert found.kl == pytest.approx(wanted, rel=1e-9)
        assert found.ratios == pytest.approx(GAMMA / kept)
    else:
        assert found.kl is None
        assert found.ratios == pytest.approx((GAMMA / kept).sort().values)
    assert found.total_kl == pytest.approx(float(wanted.sum()), rel=1e-9)
    assert found.code_variance == pytest.approx(torch.ones(3).double(), rel=1e-9)
    assert (found.active, found.latent_dim, found.rows, found.degenerate) == (3, 3, N, False)
    assert holds(found.information, float(wanted.sum()))  # the codes fill the prior: all of the KL is information
    outputs = 0.5 * float((1 + (kept - GAMMA).square() / (kept * GAMMA)).log().sum())
    assert holds(found.transmitted, outputs)  # under γ̂, not under the γ of 7 that the model declares
    assert found.transmitted.upper.value - found.transmitted.lower.value < 0.15


def test_a_decoder_that_ignores_its_code_transmits_nothing():
    found = code_use(silent((D,)), Rows(X))
    assert found.total_kl > 2
    assert found.information.lower.value > 1
    for bound in (found.transmitted.lower, found.transmitted.upper):
        assert bound.value == pytest.approx(0, abs=1e-9)


def test_outputs_that_are_far_apart_tell_which_row():
    x = torch.arange(300, dtype=torch.float64)[:, None].expand(-1, 4)
    identity = torch.eye(4, dtype=torch.float64)
    encoder = Linear(identity, constant=torch.full((4,), -5.0).double())
    vae = VAE(encoder, Linear(identity), latent_dim=4, likelihood=Gaussian(FixedVariance(1e4)))
    found = code_use(vae, Rows(x))
    assert found.transmitted.lower.value == pytest.approx(math.log(300), abs=1e-9)
    assert found.transmitted.rows == 300


def test_a_collapsed_code_says_nothing():
    vae = small_vae(d=D, latent_dim=2).double()
    with torch.no_grad():
        for parameter in vae.encoder.parameters():
            parameter.zero_()
    found = code_use(vae, Rows(X))
    assert found.kl == pytest.approx(torch.zeros(2).double(), abs=1e-12)
    assert found.ratios == pytest.approx(torch.ones(2).double())
    assert found.active == 0
    for bounds in (found.information, found.transmitted):
        assert bounds.lower.value == pytest.approx(0, abs=1e-9)


def test_the_part_of_the_kl_in_every_dimension_adds_up_under_a_conditional_prior():
    torch.manual_seed(3)
    c = torch.randn(40, 2, dtype=torch.float64)
    prior = Conditional(Linear(0.5 * torch.randn(6, 2, dtype=torch.float64), 0.2), 3)

    class Joined(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x, c=None):
            return self.net(torch.cat([x, c], 1))

    x = X[:40]
    encoder = Joined(Linear(0.2 * torch.randn(6, D + 2, dtype=torch.float64)))
    decoder = Joined(Linear(torch.randn(D, 5, dtype=torch.float64)))
    vae = VAE(encoder, decoder, latent_dim=3, prior=prior)
    found = code_use(vae, ArrayBatches(x, c, dtype=torch.float64))
    q, p = vae.encode(x, c), vae.prior(c)
    each = kl_divergence(
        torch.distributions.Normal(q.mean, q.stddev), torch.distributions.Normal(p.mean, p.stddev)
    ).detach()
    assert found.kl == pytest.approx(each.mean(0))
    assert found.total_kl == pytest.approx(float(found.kl.sum()))
    assert found.ratios == pytest.approx(variance_ratio(q, p).mean(0).detach())


def test_codes_without_noise():
    found = code_use(pca("deterministic"), Rows(X))
    assert found.degenerate
    assert (found.kl, found.total_kl, found.ratios, found.dimension, found.active, found.information) == (None,) * 6
    assert found.code_variance == pytest.approx(1 - GAMMA / VARIANCES[:3], rel=1e-9)
    # γ̂ is smaller without noise on z
    gamma = rebuild(pca("deterministic"), Rows(X)).residual
    assert gamma < 0.7 * GAMMA
    kept = VARIANCES[:3]
    assert holds(found.transmitted, 0.5 * float((1 + (kept - GAMMA).square() / (kept * gamma)).log().sum()))


def test_one_variance_for_all_dimensions_counts_none():
    encoder = MLPEncoder((D,), 3, hidden=())
    vae = VAE(encoder, Linear(AXES[:, :3]), latent_dim=3, posterior=Isotropic(0.04)).double()
    found = code_use(vae, Rows(X))
    assert (found.dimension, found.active) == (None, None)
    assert found.ratios == pytest.approx(torch.full((3,), 0.04).double())
    assert found.kl.shape == (3,)


def test_pixels_and_rows_that_are_rebuilt_exactly():
    pixels = torch.rand(50, 1, 4, 4, dtype=torch.float64)
    assert code_use(silent((1, 4, 4), Bernoulli()), Rows(pixels)).transmitted.lower.value == pytest.approx(0, abs=1e-9)
    nothing = code_use(silent((3,)), Rows(torch.zeros(10, 3, dtype=torch.float64)))
    assert nothing.transmitted is None


def test_distances_of_outputs_survive_their_coordinates():
    for n, d in ((30, 8), (8, 30)):
        means = 5 + torch.randn(n, d, dtype=torch.float64)
        found = module._coordinates(means, 1e-9)
        assert found.shape[1] <= min(n, d)
        assert torch.cdist(found, found) == pytest.approx(torch.cdist(means, means), abs=1e-6)
    flat = torch.randn(50, 2, dtype=torch.float64) @ torch.randn(2, 9, dtype=torch.float64)
    assert module._coordinates(flat, 1.0).shape == (50, 2)
    assert module._coordinates(torch.ones(50, 9), 1.0).shape == (50, 1)


def test_large_codes_and_outputs_are_fewer(monkeypatch):
    vae = VAE(
        MLPEncoder((D,), FullCovariance().parameter_count(4), hidden=()),
        Linear(torch.randn(D, 4)),
        latent_dim=4,
        posterior=FullCovariance(),
    ).double()
    monkeypatch.setattr(module, "_MOST_NUMBERS", 480)
    monkeypatch.setattr(module, "_AT_ONCE", 48)
    found = code_use(vae.train(), Rows(X))
    assert (found.rows, found.transmitted.rows) == (30, 80)
    assert vae.training
    assert found.total_kl > 0
    again = code_use(vae, Rows(X))
    assert (again.total_kl, again.transmitted) == (found.total_kl, found.transmitted)


def test_gaps_and_categories_are_refused():
    gaps = X[:20].clone()
    gaps[3, 1] = math.nan
    vae = pca()
    with pytest.raises(InputError, match="not finite"):
        code_use(vae, Rows(gaps))
    vae.likelihood = Mixed((0,) * D)
    with pytest.raises(InputError, match="neither categories nor missing"):
        code_use(vae, Rows(X))
