"""Linear Gaussian models against scikit-learn and the closed form; a VAE that begins as one is one."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch.distributions import MultivariateNormal

from vaelab import GaussianVAE
from vaelab.errors import InputError
from vaelab.model import VAE, Conditional, Gaussian, LearnedVariance, ProfiledVariance
from vaelab.model.linear import (
    begin_linear,
    best_linear_model,
    can_begin_linear,
    factor_analysis,
    probabilistic_pca,
)
from vaelab.nets import MLP, MLPDecoder, MLPEncoder

FITS = {False: probabilistic_pca, True: factor_analysis}


def _rows(n: int, seed: int, *, d: int = 6, q: int = 2) -> torch.Tensor:
    """Factor analysis: q factors, and noise whose deviations grow from 0.3 to 1 along the columns."""
    source = torch.Generator().manual_seed(100)
    loadings, mean = torch.randn(q, d, generator=source), torch.randn(d, generator=source)
    source = torch.Generator().manual_seed(seed)
    noise = torch.linspace(0.3, 1, d) * torch.randn(n, d, generator=source)
    return (torch.randn(n, q, generator=source) @ loadings + noise + mean).double()


def _vae(d: int, kappa: int, variance, *, activation: str = "silu") -> VAE:
    torch.manual_seed(0)
    encoder = MLPEncoder((d,), 2 * kappa, hidden=(16,), activation=activation)
    decoder = MLPDecoder(kappa, (d,), hidden=(16,), activation=activation)
    return VAE(encoder, decoder, latent_dim=kappa, likelihood=Gaussian(variance)).double()


def test_fits_are_those_of_scikit_learn():
    x = _rows(500, 0)
    found = probabilistic_pca(x, 2).log_prob(x).mean()
    assert float(found) == pytest.approx(PCA(2, svd_solver="full").fit(x.numpy()).score(x.numpy()), abs=1e-4)
    exact = FactorAnalysis(2, svd_method="lapack", tol=1e-6, max_iter=5000).fit(x.numpy())
    assert float(factor_analysis(x, 2).log_prob(x).mean()) == pytest.approx(exact.score(x.numpy()), abs=2e-3)


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_log_density_is_that_of_its_covariance(diagonal):
    x = _rows(200, 0)
    model = FITS[diagonal](x, 3)
    covariance = model.loadings @ model.loadings.T + model.noise.diag()
    exact = MultivariateNormal(model.mean, covariance).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), exact, rtol=1e-9, atol=1e-9)
    products = model.loadings.T @ (model.loadings / model.noise[:, None])
    assert float((products - products.diagonal().diag()).abs().max()) < 1e-9


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_vae_that_begins_as_one_has_its_likelihood(diagonal):
    """The posterior is exact, so the importance weights are all equal: one draw gives log p(x)."""
    x = _rows(100, 0)
    model = FITS[diagonal](x, 2)
    vae = _vae(6, 4, ProfiledVariance(diagonal=diagonal)).eval()
    begin_linear(vae, model)
    noise = torch.randn(3, 100, 4, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        found = vae.importance(x, noise=noise)
        weights = found.log_likelihood + vae.prior(None).log_prob(found.z) - found.log_q
    torch.testing.assert_close(weights, model.log_prob(x).expand(3, -1), rtol=1e-6, atol=1e-6)


def test_unseen_rows_choose_the_number_of_dimensions():
    x, unseen = _rows(300, 0), _rows(2000, 1)
    assert best_linear_model(x, unseen, 4, diagonal=True).loadings.shape == (6, 2)
    assert best_linear_model(x, unseen, 1, diagonal=True).loadings.shape == (6, 1)
    flat = torch.cat([x[:, :2], 0.01 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0))], 1)
    assert best_linear_model(flat[:200], flat[200:], 9, diagonal=False).loadings.shape == (6, 2)


@pytest.mark.parametrize("seed", range(3))
def test_all_rows_choose_where_few_are_unseen(seed):
    """Noise without factors is what 20 unseen rows say; 300 others know better, and none of them for itself."""
    x, odd = _rows(300, seed), torch.randn(20, 6, generator=torch.Generator().manual_seed(seed)).double()
    model = best_linear_model(x, odd + x.mean(0), 4, diagonal=True)
    assert model.loadings.shape == (6, 2)
    assert float(model.noise.std()) > 0.1
    noise = torch.randn(60, 6, generator=torch.Generator().manual_seed(seed)).double()
    assert best_linear_model(noise[:50], noise[50:], 4, diagonal=True).loadings.shape[1] <= 1


def test_factor_analysis_of_fewer_rows_than_columns():
    x, unseen = _rows(12, 0, d=20), _rows(500, 1, d=20)
    exact = FactorAnalysis(1, svd_method="lapack", tol=1e-8, max_iter=5000).fit(x.numpy())
    assert float(factor_analysis(x, 1).log_prob(x).mean()) == pytest.approx(exact.score(x.numpy()), abs=0.05)
    assert bool(factor_analysis(x, 1, floor=1e-3).log_prob(unseen).isfinite().all())


def test_no_noise_ends_at_the_floor():
    x = _rows(200, 0)[:, :2].repeat(1, 2)
    for fit in FITS.values():
        assert float(fit(x, 2, floor=1e-3).noise.max()) >= 1e-3 - 1e-12
        assert bool(fit(x, 2, floor=1e-3).log_prob(x).isfinite().all())


def test_networks_that_cannot_begin_so_are_told():
    assert can_begin_linear(_vae(6, 2, LearnedVariance())) == 2
    assert can_begin_linear(_vae(20, 15, LearnedVariance())) == 8  # of 16 units
    assert not can_begin_linear(_vae(6, 2, LearnedVariance(), activation="tanh"))
    shared = _vae(6, 2, LearnedVariance()).replace(prior=Conditional(MLP(3, 4, (8,)), 2))
    assert not can_begin_linear(shared)
    with pytest.raises(InputError, match=r"rank 3.*at most 2"):
        MLP(3, 3, (9, 4)).begin_affine(torch.eye(3), torch.zeros(3))


@pytest.mark.parametrize("activation", ["relu", "silu", "leaky_relu"])
@pytest.mark.parametrize(("hidden", "skip"), [((9,), False), ((8, 12, 8), False), ((12, 8), True)])
def test_a_perceptron_begins_as_any_affine_map(activation, hidden, skip):
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 4, generator=source).double() @ torch.randn(4, 5, generator=source).double()
    bias, x = torch.randn(7, generator=source).double(), torch.randn(20, 6, generator=source).double()
    network = MLP(6, 7, hidden, skip=skip, activation=activation).double()
    network.begin_affine(weight, bias)
    torch.testing.assert_close(network(x), x[:, :5] @ weight.T + bias, rtol=1e-9, atol=1e-9)
    network(x).square().sum().backward()
    assert all(bool(p.grad.abs().max() > 0) for p in network.output.parameters())


def test_a_start_that_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="start='linear'"):
        GaussianVAE(2, network="mlp([8], tanh, start=linear)", epochs=1).fit(_rows(50, 0).numpy())
    images = np.zeros((50, 1, 4, 4), dtype=np.float32)
    with pytest.raises(InputError, match="start='linear'"):
        GaussianVAE(2, network="mlp([8], start=linear)", epochs=1).fit(images)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rows", [200, 600])
def test_a_linear_table_is_worth_what_factor_analysis_makes_of_it(rows, seed):
    """Unseen rows, 2,000 of them; of 200 rows 20 choose between starts: worst of eight seeds 0.02 nats below."""
    x, unseen = _rows(rows, seed), _rows(2000, 50)
    model = GaussianVAE(4, network="mlp([32])", likelihood="gaussian(shape=diag-i)", random_state=seed, epochs=30)
    found = model.fit(x.numpy()).log_likelihood(unseen.numpy(), k=50).mean()
    exact = FactorAnalysis(2, svd_method="lapack", tol=1e-5, max_iter=5000).fit(x.numpy())
    assert found > exact.score(unseen.numpy()) - 0.05
