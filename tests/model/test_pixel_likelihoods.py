"""Pixel likelihoods against sums over all levels, integrals, slow direct formulas and their own samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, logsumexp
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.testing import assert_close

from vaelab.errors import InputError
from vaelab.model.pixels import Bernoulli, ContinuousBernoulli, DiscretizedLogisticMixture

LOGITS = [-1e3, -60.0, -3.0, -0.51, -0.49, -1e-3, -1e-30, 0.0, 1e-6, 0.3, 0.499, 0.501, 2.0, 17.0, 60.0, 1e3]


def column(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)[:, None]


def uniform(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def mixture_parameters(likelihood, shape, rows=1, *, spread=1.0):
    """Raw numbers whose components lie inside the range and have scales from narrow to wide."""
    return spread * torch.randn(rows, *likelihood.parameter_shape(shape), dtype=torch.float64)


# --- Bernoulli


def test_bernoulli_masses_sum_to_one():
    parameters = torch.randn(3, 4, dtype=torch.float64)
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    for row in parameters:
        log_mass = -Bernoulli().nll(row.expand(len(rows), 4), rows)
        assert_close(log_mass.exp().sum().item(), 1.0)


def test_bernoulli_says_when_it_is_no_density():
    assert Bernoulli().caveat(torch.tensor([[0.0, 1.0]])) is None
    assert "no density" in Bernoulli().caveat(torch.tensor([[0.0, 0.5]]))


# --- continuous Bernoulli


@pytest.mark.parametrize("logit", [-60.0, -3.0, -0.4, 0.0, 1e-6, 0.3, 0.51, 17.0])
def test_continuous_bernoulli_integrates_to_one_and_to_its_mean(logit):
    likelihood = ContinuousBernoulli()

    def density(x):
        return math.exp(-likelihood.nll(column([logit]), column([x])).item())

    knots = np.linspace(0, 1, 9)[1:-1]
    assert quad(density, 0, 1, points=knots)[0] == pytest.approx(1, abs=1e-8)
    mean = quad(lambda x: x * density(x), 0, 1, points=knots)[0]
    assert likelihood.mean(column([logit])).item() == pytest.approx(mean, abs=1e-8)


def test_continuous_bernoulli_equals_torch_where_torch_is_exact():
    logits = column([-8.0, -3.0, -0.5, -0.2, 0.1, 0.7, 4.0, 9.0])
    x = uniform(len(logits), 1)
    peer = TorchContinuousBernoulli(logits=logits)
    assert_close(-ContinuousBernoulli().nll(logits, x), peer.log_prob(x)[:, 0], rtol=1e-9, atol=1e-9)
    assert_close(ContinuousBernoulli().mean(logits), peer.mean, rtol=1e-9, atol=1e-9)


def test_continuous_bernoulli_at_large_logits():
    # e^{ηx} η / (e^η − 1) is η at x = 1, and torch's distribution saturates there
    nll = ContinuousBernoulli().nll(column([60.0, 1e3], torch.float32), column([1.0, 1.0], torch.float32))
    assert_close(nll, -torch.tensor([60.0, 1e3]).log(), rtol=1e-4, atol=0)
    mean = ContinuousBernoulli().mean(column([-1e3, 1e3]))
    assert_close(mean, column([1e-3, 1 - 1e-3]))


def test_continuous_bernoulli_mean_is_the_slope_of_its_normaliser():
    logits = column(LOGITS).requires_grad_()
    x = uniform(*logits.shape)
    (gradient,) = torch.autograd.grad(ContinuousBernoulli().nll(logits, x).sum(), logits)
    assert_close(gradient, ContinuousBernoulli().mean(logits) - x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_is_finite_with_gradients(dtype):
    logits = column(LOGITS, dtype).requires_grad_()
    likelihood = ContinuousBernoulli()
    for value in (0.0, 0.3, 1.0):
        nll = likelihood.nll(logits, torch.full_like(logits, value))
        mean = likelihood.mean(logits)
        gradients = torch.autograd.grad(nll.sum() + mean.sum(), logits)[0]
        assert nll.isfinite().all()
        assert gradients.isfinite().all()
        assert ((mean >= 0) & (mean <= 1)).all()


@pytest.mark.parametrize("logit", [-40.0, -2.0, 0.0, 1e-5, 0.4, 3.0, 40.0])
def test_continuous_bernoulli_samples_follow_its_distribution(logit):
    n = 4000
    samples = ContinuousBernoulli().sample(column([logit]).expand(n, 1), generator=torch.Generator().manual_seed(0))
    assert ((samples >= 0) & (samples <= 1)).all()
    ranks = np.sort(samples[:, 0].numpy())
    # expm1(ηx) / expm1(η), the same with −η where that overflows
    cdf = ranks if logit == 0 else np.expm1(logit * ranks) / np.expm1(logit)
    gap = np.abs(cdf - np.arange(1, n + 1) / n).max()
    assert gap < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov at 0.1 %


def test_continuous_bernoulli_refers_to_the_range():
    assert ContinuousBernoulli().caveat(torch.tensor([[0.0, 0.5, 1.0]])) is None
    assert "outside [0, 1]" in ContinuousBernoulli().caveat(torch.tensor([[1.1]]))


# --- discretised mixture of logistics


def direct(likelihood, parameters, x):
    """log-probabilities by the definition, one pixel, component and channel at a time."""
    rows, channels, height, width = x.shape
    k = likelihood.components
    numbers = parameters.numpy().reshape(rows, k, -1, height, width)
    half = 1 / (likelihood.levels - 1)
    total = np.zeros(rows)
    for row, i, j in itertools.product(range(rows), range(height), range(width)):
        per_component = []
        logits = numbers[row, :, 0, i, j]
        for component in range(k):
            own = numbers[row, component, :, i, j]
            means, scales = own[1 : 1 + channels], np.exp(np.maximum(own[1 + channels : 1 + 2 * channels], -7))
            raw = iter(own[1 + 2 * channels :])
            y = 2 * x[row, :, i, j].numpy() - 1
            log_mass = logits[component] - logsumexp(logits)
            for channel in range(channels):
                mean = means[channel] + sum(np.tanh(next(raw)) * y[earlier] for earlier in range(channel))
                upper = 1.0 if y[channel] > 1 - half else expit((y[channel] + half - mean) / scales[channel])
                lower = 0.0 if y[channel] < half - 1 else expit((y[channel] - half - mean) / scales[channel])
                log_mass += np.log(upper - lower)
            per_component.append(log_mass)
        total[row] += logsumexp(per_component)
    return torch.from_numpy(total)


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2), (3, 2, 1), (4, 1, 1)])
def test_mixture_equals_its_definition(shape):
    likelihood = DiscretizedLogisticMixture(3, levels=16)
    parameters = mixture_parameters(likelihood, shape, rows=4)
    x = torch.randint(16, (4, *shape)).double() / 15
    assert_close(likelihood.log_mass(parameters, x), direct(likelihood, parameters, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [0.1, 1.0, 8.0])
def test_grey_masses_sum_to_one(spread):
    likelihood = DiscretizedLogisticMixture()
    levels = torch.arange(256, dtype=torch.float64) / 255
    for row in mixture_parameters(likelihood, (1, 1, 1), rows=5, spread=spread):
        log_mass = likelihood.log_mass(row.expand(256, *row.shape), levels.view(-1, 1, 1, 1))
        assert_close(log_mass.exp().sum().item(), 1.0, rtol=1e-12, atol=0)


def test_colour_masses_sum_to_one():
    likelihood = DiscretizedLogisticMixture(2, levels=5)
    triples = torch.tensor(list(itertools.product(range(5), repeat=3)), dtype=torch.float64).view(-1, 3, 1, 1) / 4
    for row in mixture_parameters(likelihood, (3, 1, 1), rows=5):
        log_mass = likelihood.log_mass(row.expand(len(triples), *row.shape), triples)
        assert_close(log_mass.exp().sum().item(), 1.0, rtol=1e-12, atol=0)


def test_two_levels_are_a_bernoulli():
    likelihood = DiscretizedLogisticMixture(1, levels=2)
    mean, log_scale = torch.randn(2, 6, 1, 1, 1, dtype=torch.float64)
    parameters = torch.cat([torch.zeros_like(mean), mean, log_scale], 1)
    x = torch.randint(2, (6, 1, 1, 1)).double()
    wanted = Bernoulli().nll(mean / log_scale.exp(), x)
    assert_close(-likelihood.log_mass(parameters, x), wanted)
    assert_close(likelihood.nll(parameters, x), wanted)  # a level has width 1 in [0, 1]


@pytest.mark.parametrize(("log_scale", "most"), [(-7.0, 2.2), (-5.0, 0.06), (-4.0, 0.01)])
def test_rare_levels_differ_little_from_the_published_program(log_scale, most):
    """It takes density times width where a mass is below 1e-5."""
    levels = torch.arange(1, 255, dtype=torch.float64) / 255
    parameters = torch.tensor([0.0, 0.2, log_scale], dtype=torch.float64).view(1, 3, 1, 1).expand(254, 3, 1, 1)
    exact = DiscretizedLogisticMixture(1).log_mass(parameters, levels.view(-1, 1, 1, 1))
    centred = (2 * levels - 1 - 0.2) * math.exp(-log_scale)
    rule = centred - log_scale - 2 * torch.nn.functional.softplus(centred) - math.log(127.5)
    gap = (exact - rule)[exact.exp() < 1e-5].abs().max()
    assert most / 2 < gap < most


def test_nll_is_the_uniform_density_over_levels():
    likelihood = DiscretizedLogisticMixture(2)
    parameters = mixture_parameters(likelihood, (3, 2, 2), rows=3)
    x = torch.randint(256, (3, 3, 2, 2)).double() / 255
    assert_close(likelihood.nll(parameters, x), -likelihood.log_mass(parameters, x) - 12 * math.log(255))
    # a logistic far wider than a level has nearly the density of the logistic itself at x
    smooth = torch.tensor([0.0, 0.1, -1.5], dtype=torch.float64).view(1, 3, 1, 1)
    scale, at = 0.5 * math.exp(-1.5), (100 / 255 - 0.55)
    log_density = -at / scale - math.log(scale) - 2 * math.log1p(math.exp(-at / scale))
    nll = DiscretizedLogisticMixture(1).nll(smooth, torch.full((1, 1, 1, 1), 100 / 255, dtype=torch.float64))
    assert nll.item() == pytest.approx(-log_density, abs=1e-3)


def test_log_scales_stop_at_minus_seven():
    likelihood = DiscretizedLogisticMixture(1)
    x = torch.full((1, 1, 1, 1), 128 / 255)
    both = [torch.tensor([0.0, 0.01, s]).view(1, 3, 1, 1) for s in (-7.0, -50.0)]
    assert torch.equal(*(likelihood.log_mass(p, x) for p in both))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1)])
def test_mixture_is_finite_with_gradients_at_the_extremes(dtype, shape):
    likelihood = DiscretizedLogisticMixture(2)
    extremes = [-1e4, -100.0, -7.0, 0.0, 7.0, 100.0, 1e4]
    size = likelihood.parameter_shape(shape)
    picks = torch.randint(len(extremes), (400, *size), generator=torch.Generator().manual_seed(3))
    parameters = torch.tensor(extremes, dtype=dtype)[picks].requires_grad_()
    for level in (0, 1, 100, 254, 255):
        x = torch.full((400, *shape), level / 255, dtype=dtype)
        log_mass = likelihood.log_mass(parameters, x)
        assert log_mass.isfinite().all()
        assert (log_mass <= 1e-6).all()
        assert torch.autograd.grad(log_mass.sum(), parameters)[0].isfinite().all()
    mean = likelihood.mean(parameters)
    assert ((mean >= 0) & (mean <= 1)).all()
    assert torch.autograd.grad(mean.sum(), parameters)[0].isfinite().all()
    sample = likelihood.sample(parameters, generator=torch.Generator().manual_seed(0))
    assert likelihood.caveat(sample) is None


def test_float32_agrees_with_float64():
    likelihood = DiscretizedLogisticMixture()
    parameters = mixture_parameters(likelihood, (3, 4, 4), rows=8, spread=2.0)
    x = torch.randint(256, (8, 3, 4, 4)).double() / 255
    double, single = likelihood.nll(parameters, x), likelihood.nll(parameters.float(), x.float())
    assert_close(single.double(), double, rtol=1e-5, atol=1e-3)


def test_gradients_are_those_of_differences():
    likelihood = DiscretizedLogisticMixture(2, levels=8)
    parameters = mixture_parameters(likelihood, (3, 1, 2), rows=2).requires_grad_()
    x = torch.randint(8, (2, 3, 1, 2)).double() / 7
    assert torch.autograd.gradcheck(lambda p: likelihood.log_mass(p, x), parameters)


def test_a_bad_decoder_learns_to_hit_a_far_level():
    """Where every component is far from the data the gradient still points there."""
    likelihood = DiscretizedLogisticMixture(1)
    parameters = torch.tensor([0.0, -1.0, -7.0]).view(1, 3, 1, 1).requires_grad_()
    likelihood.nll(parameters, torch.full((1, 1, 1, 1), 200 / 255)).backward()
    assert parameters.grad[0, 1] < 0  # a larger mean is better


def test_grey_sample_frequencies_are_the_masses():
    likelihood, n = DiscretizedLogisticMixture(2, levels=6), 20_000
    row = mixture_parameters(likelihood, (1, 1, 1))
    sample = likelihood.sample(row.expand(n, *row.shape[1:]), generator=torch.Generator().manual_seed(0))
    counts = torch.bincount((sample * 5).round().long().flatten(), minlength=6)
    levels = torch.arange(6, dtype=torch.float64).view(-1, 1, 1, 1) / 5
    mass = likelihood.log_mass(row.expand(6, *row.shape[1:]), levels).exp()
    chi_squared = ((counts - n * mass).square() / (n * mass)).sum()
    assert chi_squared < 20.5  # 0.1 % of 5 degrees of freedom


def test_colour_sample_frequencies_are_the_masses():
    likelihood, n = DiscretizedLogisticMixture(2, levels=3), 20_000
    row = mixture_parameters(likelihood, (3, 1, 1))
    sample = likelihood.sample(row.expand(n, *row.shape[1:]), generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(((2 * sample).round().long().flatten(1) @ torch.tensor([9, 3, 1])), minlength=27)
    triples = torch.tensor(list(itertools.product(range(3), repeat=3)), dtype=torch.float64).view(-1, 3, 1, 1) / 2
    mass = likelihood.log_mass(row.expand(27, *row.shape[1:]), triples).exp()
    chi_squared = ((counts - n * mass).square() / (n * mass)).sum()
    assert chi_squared < 54.1  # 0.1 % of 26 degrees of freedom


def test_grey_mean_is_that_of_the_levels():
    likelihood = DiscretizedLogisticMixture()
    parameters = mixture_parameters(likelihood, (1, 1, 1), rows=20, spread=3.0)
    levels = torch.arange(256, dtype=torch.float64) / 255
    for row, mean in zip(parameters, likelihood.mean(parameters), strict=True):
        mass = likelihood.log_mass(row.expand(256, *row.shape), levels.view(-1, 1, 1, 1)).exp()
        assert mean.item() == pytest.approx((mass * levels).sum().item(), abs=0.5 / 255)


def test_colour_mean_is_near_that_of_samples():
    likelihood, n = DiscretizedLogisticMixture(3), 4000
    row = mixture_parameters(likelihood, (3, 1, 1))
    many = likelihood.sample(row.expand(n, *row.shape[1:]), generator=torch.Generator().manual_seed(0))
    assert_close(many.mean(0), likelihood.mean(row)[0], rtol=0, atol=0.04)


def test_mean_of_a_far_component_is_at_the_end():
    for mean, wanted in [(-1e9, 0.0), (1e9, 1.0)]:
        parameters = torch.tensor([0.0, mean, -7.0]).view(1, 3, 1, 1)
        assert DiscretizedLogisticMixture(1).mean(parameters).item() == pytest.approx(wanted, abs=1e-6)


def test_mixture_sample_is_a_function_of_its_generator():
    likelihood = DiscretizedLogisticMixture(3)
    parameters = mixture_parameters(likelihood, (3, 4, 5), rows=2)
    state = torch.get_rng_state()
    first = likelihood.sample(parameters, generator=torch.Generator().manual_seed(7))
    assert torch.equal(first, likelihood.sample(parameters, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (2, 3, 4, 5)
    assert likelihood.caveat(first) is None


@pytest.mark.parametrize(("channels", "outputs"), [(1, 3), (2, 6), (3, 10), (4, 15)])
def test_mixture_parameter_shape(channels, outputs):
    assert DiscretizedLogisticMixture(5).parameter_shape((channels, 8, 9)) == (5 * outputs, 8, 9)


def test_mixture_says_when_pixels_are_no_levels():
    likelihood = DiscretizedLogisticMixture()
    levels = torch.arange(256).view(1, 1, 16, 16)
    assert likelihood.caveat(levels / 255) is None
    assert likelihood.caveat(levels / 255 + 5e-5) is not None  # 255 is then above 1
    assert likelihood.caveat(levels[..., :8] / 255 + 5e-5) is None
    assert "multiples of 1/255" in likelihood.caveat(levels / 256)
    assert "outside" in likelihood.caveat(levels / 255 + 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DiscretizedLogisticMixture(0), "components=0"),
        (lambda: DiscretizedLogisticMixture(2.5), "components=2.5"),
        (lambda: DiscretizedLogisticMixture(levels=1), "levels=1"),
        (lambda: DiscretizedLogisticMixture().parameter_shape((5,)), r"images \(C, H, W\)"),
        (lambda: DiscretizedLogisticMixture(10).mean(torch.zeros(1, 31, 2, 2)), "output of 31 channels"),
        (lambda: DiscretizedLogisticMixture(10).mean(torch.zeros(1, 40, 2, 2)), "output of 40 channels"),
        (lambda: DiscretizedLogisticMixture(10).mean(torch.zeros(1, 5, 2, 2)), "output of 5 channels"),
    ],
)
def test_impossible_mixtures_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("build", [Bernoulli, ContinuousBernoulli, DiscretizedLogisticMixture])
def test_nll_of_draws_is_that_of_each(build):
    likelihood = build()
    x = torch.randint(256, (4, 3, 2, 2)) / 255
    parameters = torch.randn(5, 4, *likelihood.parameter_shape((3, 2, 2)))
    wanted = torch.stack([likelihood.nll(draw, x) for draw in parameters])
    assert_close(likelihood.nll_of_draws(parameters, x), wanted)
