"""Smoothness and mutual information against closed forms: linear decoders, Jacobians, separated and collapsed codes."""

import math

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.diagnostics import mutual_information as information
from vaelab.diagnostics.mutual_information import mutual_information, mutual_information_bound
from vaelab.diagnostics.row_means import Mean, Part
from vaelab.diagnostics.smoothness import (
    expected_gap,
    linearised_elbo,
    local_smoothness,
    posterior_variance,
    smoothness,
)
from vaelab.errors import InputError
from vaelab.latent import Codes
from vaelab.model import (
    VAE,
    Bernoulli,
    Deterministic,
    FixedVariance,
    FullCovariance,
    Gaussian,
    Isotropic,
    ProfiledVariance,
)
from vaelab.nets import InfoGANDecoder, InfoGANEncoder, LSTMDecoder, MLPEncoder

KAPPA, D = 3, 5


class Affine(nn.Module):
    """x = W z + b."""

    latent_dim = KAPPA

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(D, KAPPA, generator=generator, dtype=torch.float64))

    def forward(self, z, c=None):
        return z @ self.weight.T + 0.3


def linear(posterior=None, gamma=0.7, regularizers=None) -> VAE:
    torch.manual_seed(2)
    posterior = posterior or Isotropic(0.04)
    encoder = MLPEncoder((D,), posterior.parameter_count(KAPPA), hidden=(8,))
    return VAE(
        encoder,
        Affine(),
        latent_dim=KAPPA,
        posterior=posterior,
        likelihood=Gaussian(FixedVariance(gamma)),
        regularizers=regularizers,
    ).double()


def rows(n=400, d=D) -> Rows:
    return Rows(torch.randn(n, d, generator=torch.Generator().manual_seed(3), dtype=torch.float64))


def test_a_linear_decoder_is_as_smooth_as_its_matrix():
    vae = linear()
    squared = float(vae.decoder.weight.detach().square().sum())
    found = local_smoothness(vae, rows(), method="exact")
    assert found.value == pytest.approx(squared, rel=1e-12)
    assert found.error < 1e-12
    for variance in (0.5, 1e-4):  # the gap is 2 s² ‖W‖² at any distance
        gap = expected_gap(vae, rows(), variance, draws=50)
        assert abs(gap.value - 2 * variance * squared) < 4 * gap.error
        assert gap.error < 0.02 * gap.value


def test_random_signs_estimate_the_same_and_say_how_well():
    vae = linear()
    squared = float(vae.decoder.weight.detach().square().sum())
    found = local_smoothness(vae, rows(), method="hutchinson", probes=2)
    assert abs(found.value - squared) < 4 * found.error
    one = local_smoothness(vae, rows(100), method="hutchinson", probes=2)
    assert found.error < 0.75 * one.error


def test_a_curved_decoder_agrees_with_its_jacobian_and_with_the_limit_of_the_gap():
    vae = small_vae(d=D, latent_dim=KAPPA).double().eval()
    x = rows(60).x
    means = vae.encode(x).mean
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda z: vae.decode(z[None])[0], z) for z in means])
    each = jacobians.square().sum((1, 2))
    found = local_smoothness(vae, Rows(x), method="exact")
    assert found.value == pytest.approx(float(each.mean()), rel=1e-10)
    assert found.error == pytest.approx(float(each.std()) / 60**0.5, rel=1e-10)
    # eq. C.8, with the same noise at every distance
    ratios = [expected_gap(vae, Rows(x), s2, draws=200).value / (2 * s2) for s2 in (1e-1, 1e-3, 1e-7, 1e-9)]
    assert ratios[2] == pytest.approx(ratios[3], rel=1e-6)
    assert abs(ratios[1] - ratios[3]) < 0.5 * abs(ratios[0] - ratios[3])
    assert ratios[3] == pytest.approx(found.value, rel=0.05)


def test_batch_norm_is_measured_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(0)
    vae = VAE(InfoGANEncoder((1, 8, 8), 4), InfoGANDecoder(2, (1, 8, 8)), latent_dim=2).train()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    x = torch.rand(3, 1, 8, 8)
    found = local_smoothness(vae, Rows(x), method="exact")
    assert vae.training
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())
    vae.eval()
    means = vae.encode(x).mean
    wanted = [torch.autograd.functional.jacobian(lambda z: vae.decode(z[None]), z).square().sum() for z in means]
    assert found.value == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-4)


def test_recurrent_decoders_can_be_measured():
    torch.manual_seed(0)
    decoder = LSTMDecoder(2, (3,), condition_shape=(4, 3), units=8).double()
    c = torch.randn(5, 4, 3, dtype=torch.float64)
    vae = VAE(MLPEncoder((3,), 4, hidden=(8,)).double(), decoder, latent_dim=2)
    vae.encoder.forward = lambda x, c=None: torch.cat([x[:, :2], x[:, :2]], 1)

    class Conditioned(Rows):
        def to(self, device):
            return self

        def take(self, index, noise=None):
            return self.x[index], c[index]

    x = torch.randn(5, 3, dtype=torch.float64)
    wanted = [
        torch.autograd.functional.jacobian(lambda z, one=one: vae.decode(z[None], c[one : one + 1]), x[one, :2])
        for one in range(5)
    ]
    wanted = torch.stack(wanted).square().sum() / 5
    assert local_smoothness(vae, Conditioned(x), method="exact").value == pytest.approx(float(wanted), rel=1e-8)


@pytest.mark.parametrize("posterior", [Isotropic(0.09), FullCovariance()])
def test_the_linearised_elbo_of_a_linear_decoder_is_the_elbo(posterior):
    vae, data = linear(posterior), rows(50)
    found = linearised_elbo(vae, data, method="exact")
    q = vae.encode(data.x)
    noise = torch.randn(2000, 50, KAPPA, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nll = -vae.importance(data.x, noise=noise).log_likelihood.mean(0)
    expected = float((nll + torch.distributions.kl_divergence(q, vae.prior(None))).mean().detach())
    assert found.total == pytest.approx(expected, rel=5e-3)
    # E‖x − μ(z)‖² = ‖x − μ(μ_φ)‖² + tr(W Σ Wᵀ), exactly
    covariance = q.covariance_matrix if isinstance(posterior, FullCovariance) else torch.diag_embed(q.variance)
    weight = vae.decoder.weight
    spread = torch.einsum("ik,bkl,il->b", weight, covariance, weight).detach() / (2 * 0.7)
    assert found.penalty.value == pytest.approx(float(spread.mean()), rel=1e-6)
    probed = linearised_elbo(vae, data, method="hutchinson", probes=200).penalty
    assert probed.value == pytest.approx(found.penalty.value, rel=0.05)
    assert found.constant.value == pytest.approx(D / 2 * math.log(2 * math.pi * 0.7), rel=1e-6)


def test_a_diagonal_gamma_weights_each_dimension():
    vae, data = linear(), rows(50)
    gamma = torch.linspace(0.1, 2, D, dtype=torch.float64)
    vae.likelihood = Gaussian(FixedVariance(gamma)).double()
    found = linearised_elbo(vae, data)
    variance = float(vae.posterior.log_std.double().exp().square())
    wanted = float((variance * vae.decoder.weight.square() / (2 * gamma[:, None])).sum())
    assert found.penalty.value == pytest.approx(wanted, rel=1e-5)
    assert found.constant.value == pytest.approx(0.5 * float((2 * math.pi * gamma).log().sum()), rel=1e-5)


def test_what_has_no_linearised_elbo_says_so():
    with pytest.raises(InputError, match="deterministic"):
        linearised_elbo(linear(Deterministic(), regularizers=[]), rows())
    bernoulli, fitted = linear(), linear()
    bernoulli.likelihood = Bernoulli()
    fitted.likelihood = Gaussian(ProfiledVariance(per_sample=True))
    for vae in (bernoulli, fitted):
        with pytest.raises(InputError, match="Gaussian one"):
            linearised_elbo(vae, rows())
    for call in (
        lambda: expected_gap(linear(), rows(), 0.0),
        lambda: expected_gap(linear(), rows(), 0.1, draws=0),
        lambda: local_smoothness(linear(), rows(), method="best"),
        lambda: local_smoothness(linear(), rows(), probes=0),
        lambda: local_smoothness(linear(), rows(0)),
    ):
        with pytest.raises(InputError):
            call()


def test_separated_codes_tell_which_row_and_collapsed_ones_nothing():
    means = 1e3 * torch.arange(200, dtype=torch.float64)[:, None].expand(-1, 4)
    apart = mutual_information_bound(means, 0.5)
    assert apart.lower.value == pytest.approx(math.log(200), abs=1e-9)
    assert apart.upper.value > 1e5
    together = mutual_information_bound(torch.zeros(200, 4, dtype=torch.float64), 0.5)
    for bound in (together.lower, together.upper):
        assert bound.value == pytest.approx(0, abs=1e-9)
        assert bound.error < 1e-9


@pytest.mark.parametrize("full", [False, True])
def test_the_bounds_hold_the_information_of_a_gaussian_channel(full):
    """z = x + ε with Gaussian x: I = ½ Σ ln (1 + s_j²/σ_j²)."""
    spread = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    noise = torch.tensor([0.5, 0.7, 0.4], dtype=torch.float64)
    true = 0.5 * float((1 + (spread / noise) ** 2).log().sum())
    means = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * spread
    codes = Codes(means, noise.expand_as(means))
    if full:  # the same law, turned
        turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
        factor = torch.linalg.cholesky(turn @ noise.square().diag() @ turn.T)
        codes = Codes(means @ turn.T, factor.square().sum(1).sqrt().expand_as(means), None, factor.expand(3000, 3, 3))
    found = mutual_information(codes, draws=2)
    assert found.lower.value - 3 * found.lower.error < true < found.upper.value + 3 * found.upper.error
    assert found.upper.value - found.lower.value < 0.1


def test_the_formula_of_the_paper_gives_the_same():
    """Eq. D.1 written out, with the draws of a generator of its own."""
    means = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    s2 = 0.05
    noise = torch.randn(40, 300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = means + s2**0.5 * noise
    squared = (z[:, :, None] - means).square().sum(-1)
    direct = -((-squared / (2 * s2)).exp().mean(-1)).log().mean() - 1
    found = mutual_information_bound(means, s2, draws=40)
    assert found.lower.value == pytest.approx(float(direct), abs=0.03)


def test_blocks_change_nothing(monkeypatch):
    means = torch.randn(301, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes = Codes(means, 0.1 + means.abs())
    whole = mutual_information(codes)
    vae = small_vae(d=D, latent_dim=KAPPA).double()
    gap, local = expected_gap(vae, rows(), 0.01), local_smoothness(vae, rows(), method="hutchinson")
    monkeypatch.setattr(information, "_AT_ONCE", 1000)
    monkeypatch.setattr("vaelab.rows.rows_at_once", lambda shape: 7)
    parts = mutual_information(codes)
    assert parts.lower.value == pytest.approx(whole.lower.value, rel=1e-10)
    assert parts.upper.value == pytest.approx(whole.upper.value, rel=1e-10)
    assert expected_gap(vae, rows(), 0.01).value == pytest.approx(gap.value, rel=1e-10)
    assert local_smoothness(vae, rows(), method="hutchinson").value == pytest.approx(local.value, rel=1e-10)


def test_codes_without_noise_or_company_are_refused():
    means = torch.zeros(5, 2)
    for call in (
        lambda: mutual_information_bound(means, 0.0),
        lambda: mutual_information(Codes(means, means)),
        lambda: mutual_information_bound(means[:1], 1.0),
        lambda: mutual_information_bound(means, 1.0, draws=0),
    ):
        with pytest.raises(InputError):
            call()


def test_one_call_measures_everything():
    vae = linear(Isotropic(0.04))
    state = torch.get_rng_state()
    found = smoothness(vae, rows(), rows=100, points=150)
    assert torch.equal(state, torch.get_rng_state())
    squared = float(vae.decoder.weight.detach().square().sum())
    assert found.rows == 100
    assert found.information.rows == 150
    assert found.posterior_variance == pytest.approx(0.04)
    assert found.local_per_dimension == pytest.approx(squared / KAPPA)
    assert set(found.gaps) == {1e-2, 1e-3}
    assert found.linearised.total == pytest.approx(linearised_elbo(vae, rows(), rows=100).total)
    text = str(found)
    assert "expected gap at s² = 0.01" in text
    assert f"({squared / KAPPA:.4g} per dimension, exact)" in text
    assert "gradient penalty" in text
    assert smoothness(vae, rows(), rows=100, points=150) == found


def test_an_autoencoder_is_measured_without_information_and_bound():
    found = smoothness(linear(Deterministic(), regularizers=[]), rows(), rows=50)
    assert found.posterior_variance == 0
    assert found.information is None
    assert found.linearised is None
    assert "infinite" in str(found)


def test_many_dimensions_are_probed():
    vae = small_vae(d=D, latent_dim=20).double()
    found = smoothness(vae, rows(), rows=50, points=100)
    assert found.method == "hutchinson"
    assert found.local == local_smoothness(vae, rows(), rows=50, method="hutchinson")


def test_parts_of_batches_are_distinct_rows():
    part = Part.of(rows(30), 10, 0)
    x = part.take(torch.arange(10))[0]
    assert len(part) == len(x.unique(dim=0)) == 10
    assert (x[:, None] == rows(30).x).all(-1).any(1).all()
    chosen = torch.cat([Part.of(rows(30), 10, seed).rows for seed in range(60)])
    assert (chosen.bincount(minlength=30) - 20).abs().max() < 5 * (20 * 2 / 3) ** 0.5  # at random, of all
    assert posterior_variance(Codes(x, torch.full_like(x, 0.5))) == 0.25


def test_a_mean_carries_its_error():
    assert Mean.of(torch.tensor([1.0, 3.0])) == (2.0, 1.0)
    assert math.isnan(Mean.of(torch.ones(1)).error)
    assert str(Mean(1.23456, 0.012)) == "1.235 ± 0.01"
