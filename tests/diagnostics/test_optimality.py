"""The posterior's variances against their closed form at the optimum of linear models, where it is exact."""

import math
import sys

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.data.batches import ArrayBatches
from vaelab.diagnostics.measures.optimality import optimality
from vaelab.errors import InputError
from vaelab.model import (
    VAE,
    Bernoulli,
    Conditional,
    ContinuousBernoulli,
    Deterministic,
    FixedVariance,
    FullCovariance,
    Gaussian,
    Isotropic,
    ProfiledVariance,
)

D, KAPPA = 8, 4


class Affine(nn.Module):
    """x = W z + b, whatever the condition."""

    def __init__(self, weight, bias=0.3):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, z, c=None):
        return z @ self.weight.T + self.bias


class Given(nn.Module):
    """Means that follow x, and the same other parameters for every row."""

    def __init__(self, rest, kappa=KAPPA):
        super().__init__()
        self.rest, self.kappa = nn.Parameter(rest), kappa

    def forward(self, x, c=None):
        return torch.cat([x.flatten(1)[:, : self.kappa], self.rest.expand(len(x), -1)], 1)


def loadings(seed=0, kappa=KAPPA):
    """Orthogonal columns of lengths 2, 1, 0.5 … and one that is not read."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(D, kappa, generator=generator, dtype=torch.float64))[0]
    lengths = 2.0 ** (1 - torch.arange(kappa, dtype=torch.float64))
    lengths[-1] = 0
    return directions * lengths


def with_variances(variance, weight, likelihood) -> VAE:
    """A diagonal posterior of the given variances."""
    kappa = weight.shape[1]
    vae = VAE(Given(0.5 * variance.log(), kappa), Affine(weight), latent_dim=kappa, likelihood=likelihood)
    return vae.double()


def pca_vae(declared, trained, weight=None, posterior=None) -> VAE:
    """Its decoder declares one γ, and its posterior is the optimum for another."""
    weight = loadings() if weight is None else weight
    precision = torch.eye(KAPPA, dtype=torch.float64) + weight.T @ weight / trained
    likelihood = Gaussian(FixedVariance(declared))
    if posterior is None:
        return with_variances(1 / precision.diagonal(), weight, likelihood)
    tril = torch.linalg.cholesky(torch.linalg.inv(precision))
    row, column = torch.tril_indices(KAPPA, KAPPA, -1)
    rest = torch.cat([tril.diagonal().log(), tril[row, column]])
    return VAE(Given(rest), Affine(weight), latent_dim=KAPPA, posterior=posterior, likelihood=likelihood).double()


def rows(n=20, d=D):
    return Rows(torch.randn(n, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64))


def full_loadings():
    return torch.randn(D, KAPPA, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# what a squared error declares that is summed, averaged as ½ of the mean, and as the mean
@pytest.mark.parametrize("trained", [0.1, 0.1 * D, 0.05 * D])
def test_the_optimum_of_probabilistic_pca_tells_the_gamma_it_was_made_with(trained):
    found = optimality(pca_vae(0.1, trained), rows())
    assert found.gamma == pytest.approx(0.1, rel=1e-6)
    assert found.implied_gamma == pytest.approx(trained, rel=1e-6)
    assert found.implied_low == pytest.approx(found.implied_high, rel=1e-6)
    assert found.misfit == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(found.expected, found.found, rtol=1e-6, atol=0)
    wanted = loadings().square().sum(0)
    torch.testing.assert_close(found.curvature, wanted.expand(20, -1), rtol=1e-6, atol=1e-12)
    used = int((1 / (1 + wanted / trained) < 0.9).sum())
    assert 0 < used < KAPPA  # the axis that is not read says nothing
    assert found.identified == 20 * used


@pytest.mark.parametrize("posterior", [None, FullCovariance()])
def test_columns_need_not_be_orthogonal(posterior):
    """Eq. 83: of a full covariance too, (Σ⁻¹)_jj is 1 + (JᵀJ)_jj/γ."""
    weight = full_loadings()
    found = optimality(pca_vae(0.3, 0.05, weight, posterior), rows())
    assert found.implied_gamma == pytest.approx(0.05, rel=1e-6)
    assert found.misfit == pytest.approx(0, abs=1e-6)
    if posterior is None:
        columns = nn.functional.normalize(weight, dim=0)
        cosines = (columns.T @ columns).abs()[tuple(torch.triu_indices(KAPPA, KAPPA, 1))]
        assert found.orthogonality == pytest.approx(float(cosines.mean()), rel=1e-6)


def test_principal_axes_are_orthogonal():
    assert optimality(pca_vae(0.01, 0.01), rows()).orthogonality == pytest.approx(0, abs=1e-9)
    assert optimality(pca_vae(100.0, 100.0), rows()).orthogonality is None


def test_one_variance_for_all_has_its_optimum_at_the_mean_curvature():
    weight, gamma = full_loadings(), 0.2
    variance = 1 / (1 + float(weight.square().sum(0).mean()) / gamma)
    vae = VAE(
        Given(torch.zeros(0)),
        Affine(weight),
        latent_dim=KAPPA,
        posterior=Isotropic(variance),
        likelihood=Gaussian(FixedVariance(7.0)),
    ).double()
    found = optimality(vae, rows())
    assert found.implied_gamma == pytest.approx(gamma, rel=1e-5)
    assert found.misfit == pytest.approx(0, abs=1e-5)


def test_a_gamma_per_dimension_weights_its_dimension():
    gammas = torch.linspace(0.1, 2, D, dtype=torch.float64)
    weight = full_loadings()
    factor = 5.0  # the loss was weighted down by this
    variance = 1 / (1 + (weight.square() / (factor * gammas[:, None])).sum(0))
    found = optimality(with_variances(variance, weight, Gaussian(FixedVariance(gammas))), rows())
    assert found.gamma == pytest.approx(float(gammas.mean()))
    assert found.implied_gamma == pytest.approx(factor * found.gamma, rel=1e-6)


def test_a_gamma_fitted_to_the_row_weights_its_row():
    weight, data = full_loadings(), rows()
    vae = with_variances(torch.full((KAPPA,), 0.3), weight, Gaussian(ProfiledVariance(per_sample=True)))
    found = optimality(vae, data)
    error = (data.x - vae.reconstruct(data.x)).square().mean(1).detach()
    assert found.gamma == pytest.approx(float(error.mean()))
    wanted = weight.square().sum(0) * error.mean() / error[:, None]
    torch.testing.assert_close(found.curvature, wanted, rtol=1e-10, atol=0)


def test_a_bernoulli_has_the_variance_of_its_pixels():
    """The curvature of the log-loss in z is Wᵀ diag μ(1 − μ) W, which is JᵀJ over that variance."""
    weight = full_loadings()
    vae = with_variances(torch.full((KAPPA,), 0.5), weight, Bernoulli())
    data = Rows(torch.rand(10, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    found = optimality(vae, data)
    mean = vae.reconstruct(data.x).detach()
    spread = mean * (1 - mean)
    assert found.gamma == pytest.approx(float(spread.mean()))
    wanted = torch.einsum("bi,ij->bj", spread, weight.square()) * found.gamma
    torch.testing.assert_close(found.curvature, wanted, rtol=1e-6, atol=0)


def test_variances_are_relative_to_a_conditional_prior():
    gamma, weight = 0.2, full_loadings()
    s = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    variance = 1 / (1 / s.square() + weight.square().sum(0) / gamma)
    vae = with_variances(variance, weight, Gaussian(FixedVariance(1.0)))
    prior = Conditional(nn.Linear(1, 2 * KAPPA), KAPPA)
    with torch.no_grad():
        prior.network.weight.zero_()
        prior.network.bias.copy_(torch.cat([torch.zeros(KAPPA), s.log()]))
    vae.prior = prior.double()
    found = optimality(vae, ArrayBatches(rows().x, torch.ones(20, 1, dtype=torch.float64), dtype=torch.float64))
    assert found.implied_gamma == pytest.approx(gamma, rel=1e-5)
    assert found.misfit == pytest.approx(0, abs=1e-5)


def test_variances_that_no_gamma_explains_are_a_misfit():
    weight = loadings()
    optimal = 1 / (1 + weight.square().sum(0) / 0.1)
    off = optimal * torch.tensor([3.0, 1.0, 1 / 3, 1.0], dtype=torch.float64)
    found = optimality(with_variances(off, weight, Gaussian(FixedVariance(0.1))), rows())
    assert found.implied_low < 0.5 * found.implied_high
    assert found.misfit > 0.1
    collapsed = optimality(with_variances(torch.ones(KAPPA), weight, Gaussian(FixedVariance(0.1))), rows())
    assert (collapsed.implied_gamma, collapsed.identified) == (None, 0)
    # against the γ declared, where nothing implies another
    torch.testing.assert_close(collapsed.expected, optimal.expand(20, -1), rtol=1e-6, atol=0)
    assert collapsed.misfit > math.log(2)


def test_jacobians_of_curved_decoders_are_autograds():
    vae = small_vae(d=D, latent_dim=3).double().train()
    data = rows(6)
    found = optimality(vae, data, rows=6)
    assert vae.training
    vae.eval()
    for one, curvature in zip(data.x, found.curvature, strict=True):
        mean = vae.encode(one[None]).mean[0]
        jacobian = torch.autograd.functional.jacobian(lambda z: vae.decode(z[None])[0], mean)
        torch.testing.assert_close(curvature, jacobian.square().sum(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("kappa", "most"), [(1, 64), (4096, 5)])
def test_codes_of_any_width(kappa, most, monkeypatch):
    """Of many axes those of smallest λ are measured; blocks of rows change nothing."""
    weight = torch.zeros(D, kappa, dtype=torch.float64)
    weight[0, -1:] = 1.0
    if kappa > 1:
        weight[1, 7] = 2.0
    variance = 1 / (1 + weight.square().sum(0) / 0.1)
    vae = with_variances(variance, weight, Gaussian(FixedVariance(0.3)))
    vae.encoder.forward = lambda x, c=None: torch.cat(
        [x[:, :1].expand(-1, kappa), vae.encoder.rest.expand(len(x), -1)], 1
    )
    found = optimality(vae, rows(), most_axes=most)
    assert len(found.axes) == min(kappa, most)
    assert {kappa - 1, *([7] if kappa > 1 else [])} <= set(found.axes.tolist())
    assert found.implied_gamma == pytest.approx(0.1, rel=1e-6)
    monkeypatch.setattr(sys.modules[optimality.__module__], "_COLUMNS", 3 * D * most)
    torch.testing.assert_close(optimality(vae, rows(), most_axes=most).curvature, found.curvature)


def test_what_has_no_optimum_of_this_form():
    pixels = small_vae(d=D, latent_dim=3).double()
    pixels.likelihood = ContinuousBernoulli()
    assert optimality(pixels, rows()) is None
    codes = VAE(
        Given(torch.zeros(0)), Affine(loadings()), latent_dim=KAPPA, posterior=Deterministic(), regularizers=[]
    ).double()
    assert optimality(codes, rows()) is None
    with pytest.raises(InputError):
        optimality(pca_vae(0.1, 0.1), rows(), most_axes=0)


def test_large_rows_are_measured_on_fewer(monkeypatch):
    monkeypatch.setattr(sys.modules[optimality.__module__], "_PUSHED", 10 * D * KAPPA)
    assert optimality(pca_vae(0.1, 0.1), rows()).found.shape == (10, KAPPA)
