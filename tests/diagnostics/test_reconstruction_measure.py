"""Reconstruction against probabilistic PCA in closed form, and decoders that are wrong in one way."""

import math

import pytest
import torch

from helpers import Rows, small_vae
from oracle_models import exact_rows, probabilistic_pca, silent
from vaelab.diagnostics.measures import generalisation, reconstruction, residuals
from vaelab.errors import InputError
from vaelab.model import (
    VAE,
    Bernoulli,
    DecodedVariance,
    FixedVariance,
    Gaussian,
    LearnedVariance,
    Mixed,
    ProfiledVariance,
)
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.rows import RunningVariance

VARIANCES = torch.tensor([6.0, 3.0, 0.5, 0.5, 0.5], dtype=torch.float64)
GAMMA, D, N = 0.5, 5, 2000
X, AXES = exact_rows(VARIANCES, N)


def pca(**options) -> VAE:
    return probabilistic_pca(VARIANCES[:2], AXES[:, :2], GAMMA, **options)


def test_the_gap_of_theorem_4_and_gamma_in_closed_form():
    found = reconstruction(pca(), Rows(X))
    shrunk = GAMMA**2 / VARIANCES[:2]
    at_mean = float(shrunk.sum()) + 3 * GAMMA
    assert found.error_at_mean.value == pytest.approx(at_mean, rel=1e-10)
    gap = float((GAMMA / VARIANCES[:2] * (VARIANCES[:2] - GAMMA)).sum())  # Σ σ_j² ‖w_j‖²
    assert at_mean + gap == pytest.approx(D * GAMMA)
    assert abs(found.error_of_draws.value - at_mean - gap) < 3 * found.error_of_draws.error
    assert found.error_of_draws.error < 0.03 * D * GAMMA
    assert found.gap_share == pytest.approx(gap / (D * GAMMA), abs=0.03)
    assert found.residual == found.error_of_draws.value / D
    assert found.data_variance == pytest.approx(float(VARIANCES.mean()), rel=1e-10)
    assert found.explained == pytest.approx(1 - found.residual / 2.1, rel=1e-10)
    share = X.var(0, correction=0)
    assert found.largest_share == pytest.approx(float(share.max() / share.sum()), rel=1e-10)
    assert (found.gamma, found.rows) == (GAMMA, N)
    assert found.data_range == (float(X.min()), float(X.max()))


def test_measures_of_the_same_rows_agree_on_gamma():
    found = reconstruction(pca(), Rows(X), rows=300)
    assert residuals(pca(), Rows(X), rows=300).per_row.mean() == pytest.approx(found.residual, rel=1e-12)
    assert generalisation(pca(), Rows(X), Rows(X), rows=300).train.residual == pytest.approx(found.residual, rel=1e-12)


def test_a_decoder_that_is_twice_too_large_has_slope_one_half():
    plain = reconstruction(pca(), Rows(X)).slope
    assert plain == pytest.approx(1, abs=0.02)  # E[x | z] = W z at the optimum; at the posterior mean it would be 1.12
    assert reconstruction(pca(scale=2.0), Rows(X)).slope == pytest.approx(plain / 2, rel=1e-10)
    assert reconstruction(pca(scale=0.5), Rows(X)).slope == pytest.approx(2 * plain, rel=1e-10)


def test_an_offset_is_told_in_standard_deviations_of_the_data():
    plain = reconstruction(pca(), Rows(X))
    assert plain.offset == pytest.approx(0, abs=0.02)
    found = reconstruction(pca(offset=3.0), Rows(X))
    assert found.slope == pytest.approx(plain.slope, rel=1e-10)
    assert found.offset == pytest.approx(plain.offset - 3.0 * found.slope / math.sqrt(2.1), rel=1e-10)
    assert found.output_range == pytest.approx([end + 3 for end in plain.output_range])


def test_no_digits_are_lost_far_from_the_origin():
    plain, vae = reconstruction(pca(), Rows(X)), pca(offset=1e6)
    vae.encoder.bias.data = -1e6 * vae.encoder.weight.sum(1)
    far = reconstruction(vae, Rows(X + 1e6))
    assert far.slope == pytest.approx(plain.slope, rel=1e-6)
    assert far.data_variance == pytest.approx(plain.data_variance, rel=1e-8)


@pytest.mark.parametrize("variance", [FixedVariance(2.0), ProfiledVariance(), LearnedVariance(2.0)])
def test_nats_are_what_the_likelihood_gains_by_the_fitted_gamma(variance):
    vae = pca()
    vae.likelihood = Gaussian(variance).double()
    gamma = float(variance.gamma)
    found = reconstruction(vae, Rows(X))
    ratio = found.residual / gamma
    assert found.ratio == pytest.approx(1 / ratio)
    assert found.nats == pytest.approx(0.5 * D * (ratio - 1 - math.log(ratio)), rel=1e-6)
    vae.likelihood = Gaussian(FixedVariance(found.residual)).double()
    assert reconstruction(vae, Rows(X)).nats == pytest.approx(0, abs=1e-12)


def test_a_gamma_per_dimension_is_compared_dimension_by_dimension():
    vae = silent((D,), Gaussian(FixedVariance(torch.linspace(0.5, 4, D))))
    found = reconstruction(vae, Rows(X))
    ratio = X.square().mean(0) / torch.linspace(0.5, 4, D)
    assert found.nats == pytest.approx(0.5 * float((ratio - 1 - ratio.log()).sum()), rel=1e-6)
    assert found.gamma == pytest.approx(2.25)


def test_a_floor_limits_what_can_be_gained():
    x = 1e-3 * X
    vae = silent((D,), Gaussian(LearnedVariance(1.0, floor=0.5)))
    r = float(x.square().mean())
    wanted = 0.5 * D * (r / 1.0 - r / 0.5 - math.log(0.5))
    assert reconstruction(vae, Rows(x)).nats == pytest.approx(wanted, rel=1e-5)
    without = silent((D,), Gaussian(FixedVariance(1.0)))
    found = reconstruction(without, Rows(torch.zeros(10, D, dtype=torch.float64)))
    assert found.nats > 100  # rebuilt without error
    assert found.ratio == math.inf
    assert math.isnan(found.explained)
    assert math.isnan(found.slope)


def test_codes_without_noise_have_no_gap():
    found = reconstruction(pca(posterior="deterministic"), Rows(X))
    assert found.gap_share == 0
    assert found.error_at_mean == found.error_of_draws
    full, diagonal = reconstruction(pca(posterior="full"), Rows(X)), reconstruction(pca(), Rows(X))
    assert full.error_of_draws.value == pytest.approx(diagonal.error_of_draws.value, rel=1e-10)


def test_pixels_and_decoded_gammas():
    pixels = torch.rand(30, 1, 4, 4, dtype=torch.float64)
    found = reconstruction(silent((1, 4, 4), Bernoulli()), Rows(pixels))
    assert (found.gamma, found.ratio, found.nats) == (None, None, None)
    assert found.residual == pytest.approx(float((pixels - 0.5).square().mean()))  # of the mean, σ(0)
    assert math.isnan(found.slope)
    assert found.output_range == (0.5, 0.5)
    variance = DecodedVariance(0.5)
    vae = VAE(MLPEncoder((D,), 4), MLPDecoder(2, (D + 1,)), latent_dim=2, likelihood=Gaussian(variance)).double()
    found = reconstruction(vae, Rows(X[:50]))
    assert (found.gamma, found.nats) == (0.5, None)


def test_neither_blocks_nor_the_mode_matter_and_the_model_is_left_as_it_was(monkeypatch):
    vae = small_vae(d=D).double().train()
    state = torch.get_rng_state()
    whole = reconstruction(vae, Rows(X), rows=300, seed=4)
    assert vae.training
    assert torch.equal(state, torch.get_rng_state())
    monkeypatch.setattr("vaelab.rows.rows_at_once", lambda shape: 7)
    parts = reconstruction(vae, Rows(X), rows=300, seed=4)
    assert parts.rows == 300
    for name in ("residual", "data_variance", "slope", "offset", "nats", "largest_share"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-9), name


def test_blocks_add_up_to_the_variance_of_all():
    running = RunningVariance()
    for part in X.split([1, 700, N - 701]):
        running.add(part + 1e8)
    assert running.mean == pytest.approx(X.mean(0) + 1e8)
    assert running.variance == pytest.approx(X.var(0, correction=0), rel=1e-6)


def test_rows_that_cannot_be_diagnosed_are_refused():
    vae = pca().train()
    gaps = X[:20].clone()
    gaps[3, 1] = math.nan
    gaps[7, 0] = math.inf
    with pytest.raises(InputError, match=r"2 of 20 rows .* without gaps"):
        reconstruction(vae, Rows(gaps))
    with pytest.raises(InputError, match="1 rows"):
        reconstruction(vae, Rows(X[:1]))
    with pytest.raises(InputError, match="0 rows"):
        reconstruction(vae, Rows(X[:0]))
    assert vae.training
    vae.likelihood = Mixed((0,) * D)
    with pytest.raises(InputError, match="mixed table"):
        reconstruction(vae, Rows(X))
