"""Noise along latent axes against linear decoders, whose outputs vary by the squared lengths of their columns."""

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.data.batches import ArrayBatches
from vaelab.diagnostics.measures.axes import axis_noise, axis_ratios
from vaelab.errors import InputError
from vaelab.model import VAE, Conditional, Deterministic, DiagonalNormal, StandardNormal
from vaelab.nets import InfoGANDecoder, InfoGANEncoder

D = 5


class Affine(nn.Module):
    """x = W z + 0.3."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, z, c=None):
        return z @ self.weight.T + 0.3


class Given(nn.Module):
    """Means that follow x, and given log deviations."""

    def __init__(self, log_std, spread=1.0):
        super().__init__()
        self.log_std, self.spread = nn.Parameter(log_std), spread

    def forward(self, x, c=None):
        mean = self.spread * x[:, :1] * torch.ones_like(self.log_std)
        return torch.cat([mean, self.log_std.expand(len(x), -1)], 1)


def rows(n=16):
    return Rows(torch.randn(n, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64))


def linear(kappa=4, seed=0, ratios=None):
    weight = torch.randn(D, kappa, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight[:, 1 % kappa] = 0
    ratios = torch.linspace(1, 0.1, kappa, dtype=torch.float64) if ratios is None else ratios
    return VAE(Given(0.5 * ratios.log()), Affine(weight), latent_dim=kappa).double()


def test_a_linear_decoder_varies_by_its_squared_columns():
    vae = linear()
    found = axis_noise(vae, rows(), draws=2000)
    wanted = vae.decoder.weight.detach().square().sum(0)[found.order]
    # a variance of 16 × 2000 draws is known to √(2/32000) = 0.8 %
    torch.testing.assert_close(found.variance, wanted, rtol=0.03, atol=0)
    assert found.order.tolist() == [3, 2, 1, 0]
    torch.testing.assert_close(found.ratios, torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=torch.float64))
    assert (found.rows, found.draws) == (16, 2000)
    pairs = axis_noise(vae, rows(4000), rows=4000, draws=2)
    torch.testing.assert_close(pairs.variance, wanted, rtol=5 * (2 / 4000) ** 0.5, atol=0)
    few = axis_noise(vae, rows())
    read = wanted > 0
    proportion = few.variance[read] / wanted[read]
    torch.testing.assert_close(proportion, proportion[:1].expand_as(proportion))  # one noise for all axes
    assert float(proportion[0]) == pytest.approx(1, abs=5 * (2 / (16 * 14)) ** 0.5)


def test_an_axis_that_is_not_read_moves_nothing_at_all():
    """Exactly, in float32 and through convolutions and batch norm too."""
    assert axis_noise(linear(), rows()).variance[2] == 0
    torch.manual_seed(0)
    vae = VAE(InfoGANEncoder((1, 8, 8), 6), InfoGANDecoder(3, (1, 8, 8)), latent_dim=3).train()
    first = next(m for m in vae.decoder.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        first.weight[:, 1] = 0
    state = {name: value.clone() for name, value in vae.state_dict().items()}
    found = axis_noise(vae, Rows(torch.rand(7, 1, 8, 8)))
    assert vae.training
    assert all(torch.equal(state[name], value) for name, value in vae.state_dict().items())
    by_axis = dict(zip(found.order.tolist(), found.variance.tolist(), strict=True))
    assert by_axis[1] == 0
    assert min(by_axis[0], by_axis[2]) > 0
    assert found.shown.shape == (3, 7, 1, 8, 8)


def test_examples_walk_along_their_axis():
    vae = linear()
    found = axis_noise(vae, rows(), shown=2)
    assert found.shown_axes.tolist() == [3, 0]
    weight = vae.decoder.weight.detach()
    for axis, outputs in zip(found.shown_axes, found.shown, strict=True):
        steps = outputs - outputs[3]
        torch.testing.assert_close(steps, found.shown_steps[:, None] * weight[:, axis])


def test_many_axes_are_thinned_out_from_the_first_rank_to_the_last():
    found = axis_noise(linear(4096), rows(), most=5, draws=2, shown=2)
    assert found.order[0] == 4095
    assert found.order[-1] == 0
    assert len(found.order) == 5
    assert (found.ratios.diff() > 0).all()
    assert len(axis_noise(linear(1), rows()).order) == 1


def test_noise_has_the_scale_of_the_prior_or_of_codes_that_have_none():
    weight = torch.eye(D, 2, dtype=torch.float64)
    prior = Conditional(nn.Linear(1, 4), 2)
    with torch.no_grad():
        prior.network.weight.zero_()
        prior.network.bias.copy_(torch.tensor([0.0, 0.0, 3.0, 0.5]).log().nan_to_num(neginf=0.0))
    vae = VAE(Given(torch.zeros(2)), Affine(weight), latent_dim=2, prior=prior).double()
    batches = ArrayBatches(rows().x, torch.ones(16, 1, dtype=torch.float64), dtype=torch.float64)
    found = axis_noise(vae, batches, draws=500)
    ratio = found.variance[found.order.argsort()]
    torch.testing.assert_close(ratio[0] / ratio[1], torch.tensor(36.0, dtype=torch.float64), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.ratios, torch.tensor([1 / 9, 4.0], dtype=torch.float64), rtol=1e-5, atol=0)

    encoder = nn.Linear(D, 2, bias=False)
    plain = VAE(Plain(encoder), Affine(weight), latent_dim=2, posterior=Deterministic(), regularizers=[]).double()
    data = rows(400)
    found = axis_noise(plain, Rows(100 * data.x), rows=100, draws=500)
    codes = plain.encode(100 * data.x).mean.var(0).detach()
    torch.testing.assert_close(found.variance, codes, rtol=0.2, atol=0)
    assert found.ratios.tolist() == [0, 0]


class Plain(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, c=None):
        return self.network(x)


def test_lambda_of_a_full_covariance_is_that_along_the_axis(monkeypatch):
    tril = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tril()
    s = torch.tensor([0.5, 2.0], dtype=torch.float64)
    p = DiagonalNormal(torch.zeros(2, dtype=torch.float64), s)
    full = torch.distributions.MultivariateNormal(torch.zeros(3, 2, dtype=torch.float64), scale_tril=tril.abs())
    wanted = 1 / torch.linalg.inv(full.covariance_matrix).diagonal(dim1=1, dim2=2) / s.square()
    torch.testing.assert_close(axis_ratios(full, p), wanted)
    monkeypatch.setattr("vaelab.diagnostics.measures.axes._INVERTED", 4)
    torch.testing.assert_close(axis_ratios(full, p), wanted)
    standard = StandardNormal(torch.zeros(2), torch.ones(2))
    assert (
        axis_ratios(DiagonalNormal(torch.zeros(3, 2), torch.full((3, 2), 0.5)), standard).tolist() == [[0.25] * 2] * 3
    )


def test_numbers_out_of_range_are_refused():
    vae = small_vae(d=D).double()
    for options in ({"draws": 1}, {"most": 0}, {"shown": 0}):
        with pytest.raises(InputError):
            axis_noise(vae, rows(), **options)
    assert axis_noise(vae, rows(), seed=1).variance.tolist() == axis_noise(vae, rows(), seed=1).variance.tolist()


def test_large_rows_are_measured_on_fewer(monkeypatch):
    monkeypatch.setattr("vaelab.diagnostics.measures.axes._DECODED", 4 * 15 * D * 6)
    assert axis_noise(linear(), rows()).rows == 6
    monkeypatch.setattr("vaelab.diagnostics.measures.axes._DECODED", 0)
    assert axis_noise(linear(), rows()).rows == 4
