"""The decoder variance in its four shapes: profiled, trained, calibrated. Exact answers are in float64."""

import copy
import math

import pytest
import torch
from torch.distributions import Normal

from helpers import Rows, small_vae
from vaelab.data import ArrayBatches
from vaelab.diagnostics.measures import continuation
from vaelab.errors import InputError, NonFiniteObjectiveError
from vaelab.model import (
    VAE,
    DecodedVariance,
    Deterministic,
    FixedVariance,
    Gaussian,
    LearnedVariance,
    ProfiledVariance,
    draw,
)
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.training import Compute, FitSettings, fit, mean_objective

SHAPES = {
    "iso-i": {"diagonal": False, "per_sample": False},
    "diag-i": {"diagonal": True, "per_sample": False},
    "iso-d": {"diagonal": False, "per_sample": True},
    "diag-d": {"diagonal": True, "per_sample": True},
}
TINY = 1e-13  # a floor that a diagonal variance per row must have, and that changes nothing here


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def closed_form(shape: str, squared: torch.Tensor) -> torch.Tensor:
    """Mean reconstruction term of Takida et al., Table 1, with its constants; squared errors (K, B, d)."""
    d = squared.shape[-1]
    within = squared.mean(0)  # E_z
    constant = d / 2 * (1 + math.log(2 * math.pi))
    if shape == "iso-i":
        return d / 2 * (squared.sum(-1).mean() / d).log() + constant
    if shape == "iso-d":
        return d / 2 * (within.sum(-1) / d).log().mean() + constant
    if shape == "diag-i":
        return within.mean(0).log().sum() / 2 + constant
    return within.log().sum(-1).mean() / 2 + constant


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_profiled_objective_is_the_closed_form_and_the_plain_nll(double, shape, draws):
    torch.manual_seed(0)
    likelihood = Gaussian(ProfiledVariance(**SHAPES[shape], floor=TINY))
    x, out = torch.randn(6, 5), torch.randn(draws, 6, 5, requires_grad=True)
    rows = likelihood.nll(out[0], x) if draws == 1 else likelihood.nll_of_draws(out, x).mean(0)
    (gradient,) = torch.autograd.grad(rows.mean(), out)
    expected = closed_form(shape, (x - out).square())
    (wanted,) = torch.autograd.grad(expected, out)
    torch.testing.assert_close(rows.mean(), expected)
    torch.testing.assert_close(gradient, wanted)
    # the plain Gaussian with the estimate put in
    squared = (x - out.detach()).square().mean(0)
    axes = {"iso-i": (0, 1), "diag-i": (0,), "iso-d": (1,), "diag-d": ()}[shape]
    gamma = squared.mean(axes, keepdim=True) if axes else squared
    plain = -Normal(out, gamma.sqrt()).log_prob(x).sum(-1).mean(0)
    torch.testing.assert_close(rows, plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_within_a_training_step_share_their_variance(double, shape):
    vae = small_vae(variance=ProfiledVariance(**SHAPES[shape], floor=TINY)).double()
    many = vae.replace(draws=4)
    x, noise = torch.randn(5, 6), torch.randn(5, 12)
    assert many.noise_shape == (12,)
    q = many.encode(x)
    zs = torch.stack([draw(q, noise[:, 3 * k : 3 * k + 3]) for k in range(4)])
    squared = (torch.stack([many.decode(z) for z in zs]) - x).square()
    torch.testing.assert_close(many(x, noise=noise).distortion.mean(), closed_form(shape, squared))


@pytest.mark.parametrize("shape", ["iso-i", "diag-i"])
def test_shared_variance_is_fixed_in_evaluation(shape):
    variance = ProfiledVariance(**SHAPES[shape], floor=1e-6)
    variance(torch.rand(7, 2, 3))
    variance.eval()
    before = variance(torch.rand(4, 2, 3))
    torch.testing.assert_close(variance(9 * torch.rand(4, 2, 3)), before)
    assert variance.gamma.shape == ((2, 3) if shape == "diag-i" else ())
    assert Gaussian(variance).caveat(torch.rand(4, 2, 3)) is None


@pytest.mark.parametrize("shape", ["iso-d", "diag-d"])
def test_variance_per_sample_follows_the_row_and_says_so(shape):
    likelihood = Gaussian(ProfiledVariance(**SHAPES[shape], floor=1e-6)).eval()
    x, out = torch.randn(4, 3), torch.randn(4, 3)
    alone = torch.cat([likelihood.nll(out[i : i + 1], x[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(likelihood.nll(out, x), alone)
    assert not torch.allclose(likelihood.variance((x - out).square()), likelihood.variance(9 * (x - out).square()))
    assert "fitted to the row it scores" in (likelihood.caveat(x) or "")


def test_trained_variance_per_sample_is_a_density(double):
    """Given z, the mass over a fine grid of x is one, whatever the decoder says of γ."""
    for diagonal in (False, True):
        likelihood = Gaussian(DecodedVariance(0.3, diagonal=diagonal, floor=1e-6))
        parameters = torch.randn(1, *likelihood.parameter_shape((2,)))
        grid = torch.linspace(-12, 12, 801)
        x = torch.cartesian_prod(grid, grid)
        density = (-likelihood.nll(parameters.expand(len(x), -1), x)).exp()
        assert float(density.sum() * (grid[1] - grid[0]) ** 2) == pytest.approx(1, abs=1e-6)
        assert likelihood.caveat(x) is None


def test_decoded_variance_starts_where_it_is_told_and_learns(double):
    for diagonal in (False, True):
        likelihood = Gaussian(DecodedVariance(0.3, diagonal=diagonal))
        shape = likelihood.parameter_shape((3, 4, 4))
        assert shape == ((6, 4, 4) if diagonal else (4, 4, 4))
        parameters = torch.zeros(2, *shape, requires_grad=True)
        x = torch.randn(2, 3, 4, 4)
        gamma = likelihood.variance_of(parameters, x)
        torch.testing.assert_close(gamma, torch.full_like(gamma, 0.3))
        assert gamma.shape == ((2, 3, 4, 4) if diagonal else (2, 1, 1, 1))
        likelihood.nll(parameters, x).sum().backward()
        assert bool((parameters.grad[:, 3:] != 0).all())


def test_learned_variance_per_dimension_has_the_gradient_of_the_gaussian(double):
    variance = LearnedVariance(0.5, event_shape=(5,))
    x, out = torch.randn(4, 5), torch.randn(4, 5)
    Gaussian(variance).nll(out, x).mean().backward()
    torch.testing.assert_close(variance.log_std.grad, 1 - (x - out).square().mean(0) / 0.5)


def test_fixed_variance_per_dimension(double):
    gamma = torch.tensor([0.1, 1.0, 4.0])
    x, out = torch.randn(4, 3), torch.randn(4, 3)
    expected = -Normal(out, gamma.sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(Gaussian(FixedVariance(gamma)).nll(out, x), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_state_round_trip_and_copy(shape):
    vae = small_vae(variance=ProfiledVariance(**SHAPES[shape], floor=1e-6))
    vae.calibrate(Rows(torch.randn(30, 6)), generator=torch.Generator().manual_seed(0))
    other = small_vae(variance=ProfiledVariance(**SHAPES[shape], floor=1e-6), seed=5)
    other.load_state_dict(vae.state_dict())
    x, noise = torch.randn(3, 6), torch.randn(3, 3)
    for again in (other, copy.deepcopy(vae)):
        torch.testing.assert_close(again.eval()(x, noise=noise).total, vae.eval()(x, noise=noise).total)
        torch.testing.assert_close(again.likelihood.variance.gamma, vae.likelihood.variance.gamma)


def test_sampled_noise_has_the_variance_of_its_dimension():
    likelihood = Gaussian(ProfiledVariance(diagonal=True, floor=1e-6))
    likelihood.variance.calibrate(torch.tensor([0.01, 1.0, 9.0], dtype=torch.float64))
    drawn = likelihood.sample(torch.zeros(20_000, 3), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.var(0), torch.tensor([0.01, 1.0, 9.0]), rtol=0.05, atol=0)


def test_missing_entries_are_left_out_of_calibration(double):
    vae = small_vae().double()
    variance = ProfiledVariance(diagonal=True, floor=TINY)

    class Gappy(Gaussian):
        """A Gaussian that does not know one entry."""

        def squared_error(self, parameters, x):
            squared = super().squared_error(parameters, x).clone()
            squared[0, 2] = torch.nan
            return squared

    x = torch.randn(9, 6)
    noise = torch.randn(9, 3, generator=torch.Generator().manual_seed(4))
    vae.likelihood = Gappy(variance)
    vae.calibrate(Rows(x), generator=torch.Generator().manual_seed(4))
    squared = (vae.decode(draw(vae.encode(x), noise)) - x).square()
    expected = squared.mean(0)
    expected[2] = squared[1:, 2].mean()
    torch.testing.assert_close(variance.gamma.double(), expected, rtol=1e-6, atol=0)


def noisy_rows(pattern: str, level: float, n: int = 2000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows on a plane in 30 dimensions plus noise, on all entries, half of the columns, half of the rows, or both.

    Returns x, which entries are noisy, and the plane's own little noise.
    """
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(n, 2, generator=generator)
    x = u @ torch.randn(2, 30, generator=generator)
    where = torch.ones(n, 30, dtype=torch.bool)
    if pattern in ("spatial", "both"):
        where[:, 15:] = False
    if pattern in ("conditional", "both"):
        where[u[:, 0] > 0] = False
    clean = 0.002
    noise = torch.randn(n, 30, generator=generator) * (clean + level * where).sqrt()
    return x + noise, where, torch.tensor(clean)


EXPRESSED = [
    ("iso-i", "uniform"),
    ("diag-i", "uniform"),
    ("diag-i", "spatial"),
    ("iso-d", "uniform"),
    ("iso-d", "conditional"),
    ("diag-d", "uniform"),
    ("diag-d", "spatial"),
    ("diag-d", "conditional"),
    ("diag-d", "both"),
]


@pytest.mark.parametrize(("shape", "pattern"), EXPRESSED)
def test_a_planted_variance_is_recovered_where_the_shape_can_express_it(shape, pattern):
    """Takida et al., Table 3, on a plane.

    Over ten seeds of rows and weights, single errors come out at most 8 % off, all else at most 2 %; what the wrong
    shape finds is off by half or more.
    """
    level = 0.1
    x, where, clean = noisy_rows(pattern, level)
    torch.manual_seed(0)
    vae = VAE(
        MLPEncoder((30,), 4, hidden=(32,)),
        MLPDecoder(2, (30,), hidden=(32,)),
        latent_dim=2,
        likelihood=Gaussian(ProfiledVariance(**SHAPES[shape], floor=1e-6)),
    )
    # the logarithm of every single error is the slowest to settle
    epochs = 120 if (shape, pattern) == ("diag-d", "uniform") else 60
    settings = FitSettings(epochs=epochs, batch_size=100, lr=5e-3, schedule="cosine")
    fit(vae, ArrayBatches(x), settings, compute=Compute(accelerator="cpu"))
    vae.calibrate(ArrayBatches(x), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = draw(vae.encode(x), torch.randn(len(x), 2, generator=torch.Generator().manual_seed(1)))
        gamma = vae.likelihood.variance_of(vae.decoder(z), x).expand_as(x)
    assert float(gamma[where].mean()) == pytest.approx(level + float(clean), rel=0.25 if shape == "diag-d" else 0.06)


def test_evaluation_of_a_variance_per_sample_runs_on_unseen_rows():
    vae = small_vae(variance=ProfiledVariance(per_sample=True, diagonal=True, floor=1e-6)).eval()
    found = mean_objective(vae, Rows(torch.randn(20, 6)))
    assert math.isfinite(found["loss"])
    assert found["loss"] == pytest.approx(found["distortion"] + found["kl"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ProfiledVariance(diagonal=True, per_sample=True), "no limit"),
        (lambda: FixedVariance(torch.tensor([1.0, 0.0])), "positive variance"),
        (lambda: DecodedVariance(1e-3, floor=1.0), "above the floor"),
        (lambda: small_vae_with(likelihood=Gaussian(DecodedVariance(diagonal=True))), r"out_shape=\(10,\)"),
        (lambda: small_vae_with(draws=0), "draws=0"),
        (lambda: small_vae_with(draws=2, posterior=Deterministic(), regularizers=[]), "draws=2"),
        (lambda: small_vae_with(posterior=Deterministic()), "infinite"),
    ],
)
def test_impossible_variances_and_draws_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def small_vae_with(**options):
    outputs = 2 if isinstance(options.get("posterior"), Deterministic) else 4
    return VAE(MLPEncoder((5,), outputs), MLPDecoder(2, (5,)), latent_dim=2, **options)


@pytest.mark.parametrize("shape", SHAPES)
def test_bound_of_several_draws_is_that_of_training(double, shape):
    vae = small_vae(variance=ProfiledVariance(**SHAPES[shape], floor=TINY)).double()
    vae.calibrate(Rows(torch.randn(30, 6)), generator=torch.Generator().manual_seed(0))
    many = vae.replace(draws=4).eval()
    x, noise = torch.randn(5, 6), torch.randn(4, 5, 3)
    distortion, _ = many.elbo(x, noise=noise)
    torch.testing.assert_close(distortion, many(x, noise=noise.transpose(0, 1).flatten(1)).distortion)
    torch.testing.assert_close(-many.importance(x, noise=noise).log_likelihood.mean(0), distortion)


def test_a_decoder_that_is_not_finite_is_refused_by_calibration():
    vae = small_vae()
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(NonFiniteObjectiveError, match="not finite"):
        vae.calibrate(Rows(torch.randn(30, 6)), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", ["diag-i", "diag-d"])
def test_mixed_precision_leaves_the_variance_in_full(shape):
    vae = small_vae(variance=ProfiledVariance(**SHAPES[shape], floor=1e-4))
    seen = []
    forward = ProfiledVariance.forward

    def listen(self, squared_error, raw=None):
        seen.append(squared_error.dtype)
        return forward(self, squared_error, raw)

    settings = FitSettings(epochs=1, batch_size=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProfiledVariance, "forward", listen)
        fit(vae, Rows(torch.randn(40, 6)), settings, compute=Compute(precision="bf16-mixed", accelerator="cpu"))
    assert set(seen) == {torch.float32}
    assert vae.likelihood.variance.gamma.dtype == torch.float32


def test_floors_hold_and_a_profiled_variance_has_no_gradient():
    learned = LearnedVariance(1.0, floor=0.5)
    with torch.no_grad():
        learned.log_std.fill_(-40)
    assert float(learned(torch.ones(3, 2)).detach()) == pytest.approx(0.5)
    for diagonal, per_sample in ((False, False), (True, False), (False, True), (True, True)):
        profiled = ProfiledVariance(diagonal=diagonal, per_sample=per_sample, floor=0.25)
        errors = torch.zeros(3, 2, requires_grad=True)
        gamma = profiled.train()(errors)
        assert (gamma == 0.25).all()
        assert not gamma.requires_grad


def test_a_start_holds_the_variance_down_for_the_first_part_of_a_training():
    squared = torch.full((6, 3), 4.0)
    held = ProfiledVariance(start=0.5).train()
    for share, wanted in ((0.0, 0.5), (0.29, 0.5), (0.3, 4.0), (0.9, 4.0)):
        held.begin_step(share)
        assert float(held(squared)) == wanted
    held.begin_step(0.0)
    assert float(held(squared / 100)) == pytest.approx(0.04)  # below the start it is the error
    assert ProfiledVariance(start=1e-9, floor=1e-3).start == 1e-3
    with pytest.raises(InputError, match="start=0"):
        ProfiledVariance(start=0.0)


@pytest.mark.parametrize("diagonal", [False, True])
def test_unseen_rows_set_a_variance_and_few_easy_ones_lower_it_a_little(diagonal):
    """With errors of unseen rows nine times those seen, or a ninth; of the latter, n count n / (n + 50)."""
    vae = small_vae(3, 2)
    vae = vae.replace(likelihood=Gaussian(ProfiledVariance(diagonal=diagonal)))
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))

    def gamma(unseen):
        vae.calibrate(Rows(x), unseen=unseen, generator=torch.Generator().manual_seed(1))
        return vae.likelihood.variance.gamma.log().mean()

    def error(rows):
        return gamma(None) + gamma_of(rows)

    def gamma_of(rows):
        vae.calibrate(Rows(rows), generator=torch.Generator().manual_seed(1))
        found = vae.likelihood.variance.gamma.log().mean()
        return found - gamma(None)

    assert float(gamma(Rows(3 * x))) == pytest.approx(float(error(3 * x)), abs=0.1)
    few, numbers = x[:50] / 3, 50 * (1 if diagonal else 3)
    wanted = gamma(None) + gamma_of(few) * numbers / (numbers + 50)
    assert float(gamma(Rows(few))) == pytest.approx(float(wanted), abs=0.1)


@pytest.mark.parametrize("variance", [FixedVariance(1.0), ProfiledVariance()], ids=["fixed", "profiled"])
def test_further_training_is_worth_something_to_what_has_only_begun(variance):
    """`share` is what the steps add of all that the code is worth: much at the start, and little at the end."""
    torch.manual_seed(0)
    x = torch.randn(600, 2) @ torch.randn(2, 4) + 0.3 * torch.randn(600, 4)
    vae = small_vae(4, 2).replace(likelihood=Gaussian(variance))
    fit(vae, Rows(x[:400]), FitSettings(epochs=16, lr=1e-2), compute=Compute(accelerator="cpu"), seed=0)
    fresh = continuation(vae, Rows(x[:400]), Rows(x[400:]), steps=400)
    fit(vae, Rows(x[:400]), FitSettings(epochs=150, lr=1e-2), compute=Compute(accelerator="cpu"), seed=0)
    done = continuation(vae, Rows(x[:400]), Rows(x[400:]), steps=400)
    assert fresh.share > 0.04
    assert abs(done.share) < 0.03
    # by hand: under a fixed variance half the fall of the error, and that of the KL
    fall = fresh.error_before.value - fresh.error_after.value, fresh.kl_before.value - fresh.kl_after.value
    wanted = 0.5 * fall[0] + fall[1] if isinstance(variance, FixedVariance) else fresh.nats
    assert fresh.own.value == pytest.approx(wanted)
    spread = float((x[400:] - x[400:].mean(0)).square().sum(1).mean())
    logs = 2 * math.log(spread / done.error_after.value), 0.5 * (spread - done.error_after.value)
    worth = logs[isinstance(variance, FixedVariance)] - done.kl_after.value
    assert done.share == pytest.approx(done.own.value / worth, rel=1e-4)


def test_further_training_does_not_start_again():
    """`continuation` of a model that was trained from a low start is that of the same one without."""
    torch.manual_seed(0)
    x = torch.randn(300, 4) @ torch.randn(4, 4)
    variances = (ProfiledVariance(diagonal=True), ProfiledVariance(diagonal=True, start=1e-6))
    vae, found = small_vae(4, 2), []
    for variance in variances:
        own = copy.deepcopy(vae).replace(likelihood=Gaussian(variance))
        found.append(continuation(own, Rows(x), steps=30))
        assert own.likelihood.variance.start == variance.start
    assert found[0].error_after.value == pytest.approx(found[1].error_after.value, rel=1e-9)
