"""One suite per axis: every value of it must pass."""

import copy

import pytest
import torch

from helpers import small_vae
from vaelab.errors import InputError
from vaelab.model import (
    KL,
    VAE,
    Bernoulli,
    Diagonal,
    FixedVariance,
    Gaussian,
    LearnedVariance,
    ProfiledVariance,
    Standard,
)
from vaelab.nets import MLPDecoder, MLPEncoder

VARIANCES = {
    "fixed": lambda: FixedVariance(0.3),
    "learned": lambda: LearnedVariance(0.3, floor=1e-6),
    "profiled": lambda: ProfiledVariance(floor=1e-6),
}
LIKELIHOODS = {
    **{f"gaussian-{name}": (lambda make=make: Gaussian(make())) for name, make in VARIANCES.items()},
    "gaussian-sigmoid": lambda: Gaussian(link="sigmoid"),
    "bernoulli": Bernoulli,
}


@pytest.mark.parametrize("scale", ["exp", "softplus"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_posterior_contract(scale, batch, dtype):
    posterior = Diagonal(scale)
    parameters = torch.randn(batch, posterior.parameter_count(4), dtype=dtype, requires_grad=True)
    q = posterior(parameters)
    assert (q.batch_shape, q.event_shape) == ((batch,), (4,))
    assert (q.stddev > 0).all()
    z = q.rsample()
    assert z.shape == (batch, 4)
    assert z.dtype == dtype
    (z.square().sum() + q.log_prob(z).sum()).backward()
    assert (parameters.grad != 0).any(0).all()
    assert q.expand([3, batch]).rsample().shape == (3, batch, 4)
    assert "4" in repr(q)
    assert q.entropy().shape == (batch,)


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_contract(name):
    variance = VARIANCES[name]()
    squared = torch.rand(6, 2, 3)
    gamma = variance(squared)
    assert gamma.ndim == squared.ndim
    assert torch.broadcast_shapes(gamma.shape, squared.shape) == squared.shape
    assert float(gamma.min()) > 0
    assert not variance.gamma.requires_grad
    variance.eval()
    before = variance(squared)
    torch.testing.assert_close(variance(squared * 9), before, msg="γ depends on the batch in evaluation mode")
    other = VARIANCES[name]()
    other.load_state_dict(variance.state_dict())
    torch.testing.assert_close(other.gamma, variance.gamma)
    assert {id(p) for g in variance.parameter_groups() for p in g.parameters} == {id(p) for p in variance.parameters()}


def test_profiled_variance_respects_its_floor_and_says_so():
    variance = ProfiledVariance(floor=1e-3)
    assert float(variance(torch.full((4, 2), 1e-9)).squeeze()) == pytest.approx(1e-3)
    assert variance.at_floor
    variance(torch.ones(4, 2))
    assert not variance.at_floor


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihood_contract(name):
    likelihood = LIKELIHOODS[name]()
    shape = likelihood.parameter_shape((2, 3))
    parameters, x = torch.randn(5, *shape, requires_grad=True), torch.rand(5, 2, 3)
    nll = likelihood.nll(parameters, x)
    assert nll.shape == (5,)
    nll.sum().backward()
    assert (parameters.grad != 0).any()
    likelihood.eval()
    assert likelihood.mean(parameters).shape == x.shape
    generator = torch.Generator().manual_seed(1)
    first = likelihood.sample(parameters, generator=generator)
    assert first.shape == x.shape
    torch.testing.assert_close(likelihood.sample(parameters, generator=torch.Generator().manual_seed(1)), first)
    many = torch.stack([likelihood.sample(parameters, generator=generator) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(many, likelihood.mean(parameters), atol=0.08, rtol=0)


def test_prior_contract():
    p = Standard(3)()
    assert p.event_shape == (3,)
    torch.testing.assert_close(p.log_prob(torch.zeros(3)), torch.tensor(-1.5 * 1.8378770664))


def test_kl_weight_scales_the_penalty():
    plain, doubled = small_vae(), small_vae()
    doubled.regularizers[0] = KL(2.0)
    x, noise = torch.randn(4, 6), torch.randn(4, 3)
    one, two = plain(x, noise=noise), doubled(x, noise=noise)
    torch.testing.assert_close(2 * one.penalties["kl"], two.penalties["kl"])
    torch.testing.assert_close(two.total, (two.distortion + two.penalties["kl"]).mean())


def test_forward_is_a_function_of_its_noise():
    vae = small_vae().eval()
    x, noise = torch.randn(4, 6), torch.randn(4, 3)
    torch.testing.assert_close(vae(x, noise=noise).per_sample, vae(x, noise=noise).per_sample)
    assert not torch.equal(vae(x).per_sample, vae(x).per_sample)


def test_sampling_takes_a_generator_and_leaves_global_randomness_alone():
    vae = small_vae().eval()
    state = torch.get_rng_state()
    first = vae.sample(5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(first, vae.sample(5, generator=torch.Generator().manual_seed(2)))
    noisy = vae.sample(5, generator=torch.Generator().manual_seed(2), observation_noise=True)
    assert not torch.allclose(first, noisy)


def test_parameter_groups_hold_every_parameter_once():
    vae = small_vae(variance=LearnedVariance(0.5, lr_scale=7.0))
    groups = vae.parameter_groups()
    ids = [id(p) for group in groups for p in group.parameters]
    assert sorted(ids) == sorted(id(p) for p in vae.parameters())
    assert [group.lr_scale for group in groups] == [1.0, 7.0]


def test_copy_and_state_round_trip():
    vae = small_vae().eval()
    clone = copy.deepcopy(vae)
    other = small_vae(seed=5)
    other.load_state_dict(vae.state_dict())
    x, noise = torch.randn(3, 6), torch.randn(3, 3)
    expected = vae(x, noise=noise).per_sample
    torch.testing.assert_close(clone(x, noise=noise).per_sample, expected)
    torch.testing.assert_close(other.eval()(x, noise=noise).per_sample, expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VAE(MLPEncoder((5,), 7), MLPDecoder(2, (5,)), latent_dim=2), "encoder with 7 outputs; wanted 4"),
        (lambda: VAE(MLPEncoder((5,), 4), MLPDecoder(3, (5,)), latent_dim=2), "decoder that reads 3"),
        (lambda: VAE(MLPEncoder((5,), 4), MLPDecoder(2, (5,)), latent_dim=2, prior=Standard(3)), "prior over 3"),
        (
            lambda: VAE(MLPEncoder((5,), 4), MLPDecoder(2, (5,)), latent_dim=2, regularizers=[KL(), KL(2.0)]),
            "one of each name",
        ),
        (lambda: FixedVariance(0.0), "positive variance"),
        (lambda: LearnedVariance(1e-3, floor=1.0), "above the floor"),
        (lambda: KL(-1.0), "≥ 0"),
    ],
)
def test_impossible_combinations_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_a_vae_with_some_axes_swapped_shares_the_others_and_is_checked():
    vae = small_vae(6, 3)
    other = Gaussian(FixedVariance(2.0))
    swapped = vae.replace(likelihood=other, draws=4)
    assert (swapped.likelihood, swapped.draws, vae.draws) == (other, 4, 1)
    assert (swapped.encoder, swapped.decoder, swapped.prior) == (vae.encoder, vae.decoder, vae.prior)
    assert (list(swapped.regularizers), swapped.posterior) == (list(vae.regularizers), vae.posterior)
    assert not vae.replace(regularizers=[]).regularizers
    with pytest.raises(InputError, match="latent_dim=2"):
        vae.replace(latent_dim=2)
