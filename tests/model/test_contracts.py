"""One suite per axis: every value of it must pass."""

import copy
import inspect

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.errors import InputError
from vaelab.model import (
    KL,
    MMD,
    VAE,
    Adversarial,
    Bernoulli,
    CodeNorm,
    Deterministic,
    Diagonal,
    DiscretizedLogisticMixture,
    FixedVariance,
    FullCovariance,
    Gaussian,
    JacobianPenalty,
    LearnedVariance,
    Likelihood,
    ProfiledVariance,
    Regularizer,
    Standard,
    WeightNorm,
    complete,
    completed,
    impute,
)
from vaelab.nets import MLP, MLPDecoder, MLPEncoder
from vaelab.training import Compute, FitSettings, fit
from vaelab.types import ParameterGroup, Step

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

CPU = Compute(accelerator="cpu")


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


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("posterior", [Diagonal, FullCovariance, Deterministic])
def test_gaps_are_filled_whatever_the_likelihood_and_the_posterior(name, posterior):
    one, likelihood = posterior(), LIKELIHOODS[name]()
    vae = VAE(
        MLPEncoder((6,), one.parameter_count(2), hidden=(8,)),
        MLPDecoder(2, likelihood.parameter_shape((6,)), hidden=(8,)),
        latent_dim=2,
        posterior=one,
        likelihood=likelihood,
        regularizers=[],
    ).eval()
    x, noise = torch.rand(4, 6), torch.randn(40, 1, 2)
    x[1, 2] = x[3, 0] = x[3, 5] = torch.nan
    x[2] = torch.nan
    filled = impute(vae, x, noise=noise)
    assert filled.isfinite().all()
    assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
    if not one.degenerate:
        drawn = completed(vae, x, complete(vae, x, noise=noise), 3, generator=torch.Generator().manual_seed(0))
        assert drawn.shape == (3, 4, 6)
        assert drawn.isfinite().all()
        assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("posterior", [Diagonal, Deterministic])
def test_a_likelihood_without_a_place_for_gaps_says_what_has_one(posterior):
    one, likelihood = posterior(), DiscretizedLogisticMixture(2)
    shape = (1, 4, 4)
    vae = VAE(
        MLPEncoder(shape, one.parameter_count(2), hidden=(8,)),
        MLPDecoder(2, likelihood.parameter_shape(shape), hidden=(8,)),
        latent_dim=2,
        posterior=one,
        likelihood=likelihood,
        regularizers=[],
    ).eval()
    x, noise = torch.rand(4, *shape), torch.randn(5, 4, 2)
    assert torch.equal(impute(vae, x, noise=noise), x)
    x[1, 0, 2] = torch.nan
    with pytest.raises(InputError, match=r"independent given z.*likelihood='mixed'"):
        impute(vae, x, noise=noise)


class Laplace(Likelihood):
    """A likelihood from outside: its class is all that it takes, gaps included."""

    def nll(self, parameters, x):
        return torch.where(x.isnan(), 0.0, (x - parameters).abs() + torch.tensor(2.0).log()).sum(1)

    def mean(self, parameters):
        return parameters

    def sample(self, parameters, *, generator=None):
        return parameters

    def impute(self, x, parameters, weights):
        return torch.where(x.isnan(), (weights[..., None] * parameters).sum(0), x)


class Filled(nn.Module):
    """An encoder that reads 0 for a gap."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, c=None):
        return self.network(x.nan_to_num(), c)


def test_a_likelihood_from_outside_fills_gaps_by_its_own_rule():
    vae = small_vae(6, 3).replace(likelihood=Laplace())
    vae = vae.replace(encoder=Filled(vae.encoder))
    x, noise = torch.randn(4, 6), torch.randn(5, 4, 3)
    x[1, 2] = x[3, 0] = torch.nan
    filled = impute(vae, x, noise=noise)
    drawn = vae.importance(x, noise=noise)
    weights = (vae.prior().log_prob(drawn.z) + drawn.log_likelihood - drawn.log_q).softmax(0)
    wanted = (weights[..., None] * torch.stack([vae.decode(z) for z in drawn.z])).sum(0)
    torch.testing.assert_close(filled, torch.where(x.isnan(), wanted, x))
    fit(vae, Rows(torch.randn(20, 6)), FitSettings(epochs=1, batch_size=10), compute=CPU)


class Scored(Regularizer):
    """A penalty from outside, with a network of its own, a learning rate, noise, and a step before the others'."""

    name = "scored"

    def __init__(self):
        super().__init__()
        self.weight, self.network = 1.0, nn.Linear(3, 1)

    def noise_count(self, latent_dim):
        return 2

    def parameter_groups(self):
        return [ParameterGroup(list(self.network.parameters()), 0.5, decays=False)]

    def step_before(self, codes):
        def loss(x, c, noise):
            z, prior, own = codes(x, c, noise)
            assert not z.requires_grad
            assert torch.equal(own, noise[:, -2:])  # the last of the regularisers
            return self.network(z).square()[:, 0] * prior.log_prob(z)

        return Step("scorer", list(self.network.parameters()), loss)

    def forward(self, draw):
        return self.network(draw.z).square()[:, 0]


def test_a_regularizer_from_outside_has_parameters_and_a_step_of_its_own():
    vae = small_vae(6, 3).replace(regularizers=[KL(), MMD(1.0), Scored()])
    assert vae.noise_shape == (3 + 3 + 2,)
    assert [group.lr_scale for group in vae.parameter_groups()] == [1.0, 0.5]
    (step,) = vae.steps_before()
    assert (step.name, step.loss(torch.randn(5, 6), None, torch.randn(5, 8)).shape) == ("scorer", (5,))
    before = vae.regularizers[2].network.weight.clone()
    fit(vae, Rows(torch.randn(20, 6)), FitSettings(epochs=1, batch_size=10), compute=CPU)
    assert not torch.equal(vae.regularizers[2].network.weight, before)


REGULARIZERS = {
    "kl": KL,
    "mmd": MMD,
    "code_norm": CodeNorm,
    "weight_norm": WeightNorm,
    "jacobian": lambda: JacobianPenalty(dimensions=6),
    "adversarial": lambda: Adversarial(1.0, MLP(3, 1, (4,))),
    "scored": Scored,
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizer_contract(name):
    regularizer = REGULARIZERS[name]()
    vae = small_vae(6, 3).replace(regularizers=[regularizer])
    x, noise = torch.randn(5, 6), torch.randn(5, *vae.noise_shape)
    penalty = vae(x, noise=noise).penalties[regularizer.name]
    assert penalty.shape == (5,)
    assert torch.equal(penalty, vae(x, noise=noise).penalties[regularizer.name])
    groups = [id(p) for group in vae.parameter_groups() for p in group.parameters]
    assert sorted(groups) == sorted({id(p) for p in vae.parameters()})
    for step in vae.steps_before():
        step.loss(x, None, noise).sum().backward()
        assert {id(p) for p in vae.parameters() if p.grad is not None} == {id(p) for p in step.parameters}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_what_needs_a_density_is_refused_for_a_deterministic_posterior(name):
    vae, regularizer = small_vae(6, 3), REGULARIZERS[name]()
    axes = {"encoder": MLPEncoder((6,), 3, hidden=(8,)), "posterior": Deterministic(), "regularizers": [regularizer]}
    if regularizer.needs_density:
        with pytest.raises(InputError, match="infinite"):
            vae.replace(**axes)
    else:
        assert vae.replace(**axes)(torch.randn(5, 6)).total.isfinite()


def test_the_vae_asks_no_axis_what_it_is():
    assert "isinstance(" not in inspect.getsource(inspect.getmodule(VAE))
