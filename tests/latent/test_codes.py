"""Codes of every posterior, with and without conditions."""

from dataclasses import dataclass

import pytest
import torch

from vaelab.errors import InputError
from vaelab.latent import Codes
from vaelab.model import VAE, Deterministic, FullCovariance, Isotropic, draw
from vaelab.nets import MLPDecoder, MLPEncoder


@dataclass(frozen=True)
class Given:
    """Rows with conditions."""

    x: torch.Tensor
    c: torch.Tensor
    event_shape = (6,)
    noise_shape = (0,)

    def __len__(self):
        return len(self.x)

    def to(self, device):
        return self

    def take(self, index, noise=None):
        return self.x[index], self.c[index]


@dataclass(frozen=True)
class Cut:
    """Windows that are made when they are asked for."""

    series: torch.Tensor
    steps: int

    def __len__(self):
        return len(self.series) - self.steps + 1

    def index_select(self, dim, index):
        return self.series[index[:, None] + torch.arange(self.steps)][..., None]

    def to(self, device):
        return Cut(self.series.to(device), self.steps)


@pytest.mark.parametrize(
    "posterior", [Isotropic(0.3), Deterministic(), FullCovariance()], ids=lambda p: type(p).__name__
)
def test_codes_draw_what_the_posterior_draws(posterior):
    torch.manual_seed(0)
    encoder = MLPEncoder((6,), posterior.parameter_count(3), hidden=(8,), condition_dim=2)
    vae = VAE(
        encoder,
        MLPDecoder(3, (6,), hidden=(8,), condition_dim=2),
        latent_dim=3,
        posterior=posterior,
        regularizers=[] if posterior.degenerate else None,
    ).double()
    x, c = torch.randn(23, 6).double(), torch.randn(23, 2).double()
    codes = Codes.of(vae, Given(x, c), batch_size=10)
    q = vae.encode(x, c)
    index, noise = torch.tensor([22, 3, 3]), torch.randn(3, 3).double()
    z, own = codes.take(index, noise)
    torch.testing.assert_close(z, draw(vae.encode(x[index], c[index]), noise).detach())
    assert torch.equal(own, c[index])
    torch.testing.assert_close(codes.scale, q.stddev.detach())
    assert (codes.scale_tril is None) == (not isinstance(posterior, FullCovariance))
    part, moved = codes.subset(index), codes.to("cpu")
    assert torch.equal(part.take(torch.arange(3), noise)[0], z)
    assert torch.equal(moved.take(index, noise)[0], z)
    assert (codes.event_shape, codes.noise_shape, len(part)) == ((3,), (3,), 3)


def test_pairs_keep_the_condition_of_their_row():
    c = torch.arange(50.0)[:, None]
    codes = Codes(c.expand(-1, 2).contiguous(), torch.full((50, 2), 1e-4), c)
    z, own = codes.pairs(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(z, own.expand(-1, 2), atol=1e-3, rtol=0)
    assert len(own.unique()) > 5
    assert torch.equal(z, codes.sample(20, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(codes.pairs()[1], c)


def test_moments_are_those_of_the_aggregated_posterior():
    loc = torch.tensor([[0.0, 5.0], [2.0, 5.0]], dtype=torch.float64)
    tril = torch.tensor([[1.0, 0.0], [3.0, 4.0]], dtype=torch.float64).expand(2, 2, 2)
    mean, std = Codes(loc, tril.square().sum(-1).sqrt(), scale_tril=tril).moments()
    torch.testing.assert_close(mean, torch.tensor([1.0, 5.0], dtype=torch.float64))
    torch.testing.assert_close(std, torch.tensor([2.0**0.5, 5.0], dtype=torch.float64))
    constant = Codes(torch.ones(3, 2), torch.zeros(3, 2)).moments()[1]
    assert torch.equal(constant, torch.ones(2))


def test_conditions_may_be_made_when_they_are_asked_for():
    series = torch.arange(10.0)
    codes = Codes(torch.zeros(8, 2), torch.ones(8, 2), Cut(series, 3)).to("cpu")
    c = codes.take(torch.tensor([4, 0]))[1]
    assert torch.equal(c[..., 0], torch.tensor([[4.0, 5.0, 6.0], [0.0, 1.0, 2.0]]))
    assert torch.equal(codes.subset(torch.tensor([4])).pairs()[1], c[:1])


def test_parts_that_do_not_belong_together_are_refused():
    z = torch.zeros(4, 2)
    for make, message in (
        (lambda: Codes(z, torch.zeros(4, 2, 2)), "scale_tril"),
        (lambda: Codes(z, z, scale_tril=torch.zeros(4, 3, 3)), r"\(4, 2, 2\)"),
        (lambda: Codes(z, z, torch.zeros(3, 1)), "3 conditions for 4 codes"),
    ):
        with pytest.raises(InputError, match=message):
            make()
