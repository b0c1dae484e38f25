"""The importance-weighted bound as an objective."""

import math

import pytest
import torch
from torch.testing import assert_close

from helpers import Rows
from vaelab.errors import InputError
from vaelab.model import (
    KL,
    MMD,
    VAE,
    CodeNorm,
    Deterministic,
    FixedVariance,
    FullCovariance,
    Gaussian,
    Isotropic,
    LearnedVariance,
    Mixed,
    ProfiledVariance,
    draw,
)
from vaelab.model.linear import begin_linear, can_begin_linear, probabilistic_pca
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader, table_width
from vaelab.specs import Settings
from vaelab.types import Objective

NAN = math.nan
D, KAPPA, K = 4, 2, 5


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def small(*, posterior=None, likelihood=None, **how):
    torch.manual_seed(0)
    width = 2 * KAPPA if posterior is None else posterior.parameter_count(KAPPA)
    likelihood = Gaussian(LearnedVariance(0.5)) if likelihood is None else likelihood
    return VAE(
        MLPEncoder((D,), width, hidden=(8,)),
        MLPDecoder(KAPPA, likelihood.parameter_shape((D,)), hidden=(8,)),
        latent_dim=KAPPA,
        posterior=posterior,
        likelihood=likelihood,
        **{"bound": "iwae", "draws": K, **how},
    )


def of_table(**how):
    """A VAE of a number, a category and two numbers, of which two columns have gaps."""
    torch.manual_seed(0)
    levels = (0, 3, 0, 0)
    likelihood = Mixed(levels, LearnedVariance(0.5), gaps=(1, 0, 2, 0))
    encoder = TableReader(MLPEncoder((table_width(levels),), 2 * KAPPA, hidden=(8,)), levels)
    decoder = MLPDecoder(KAPPA, likelihood.parameter_shape((D,)), hidden=(8,))
    return VAE(encoder, decoder, latent_dim=KAPPA, likelihood=likelihood, **{"bound": "iwae", "draws": K, **how})


def table():
    x = torch.randn(6, D)
    x[:, 1] = torch.randint(3, (6,))
    x[0, 0] = x[1, 2] = x[2, 0] = x[2, 2] = NAN
    return x


def one_by_one(vae, x, noise):
    """(B,) minus the bound, by a loop over rows and draws."""
    found = []
    for row, own in zip(x, noise, strict=True):
        log_w = []
        for part in own[: vae.draws * KAPPA].view(vae.draws, KAPPA):
            q, p = vae.encode(row[None]), vae.prior(None)
            z = draw(q, part[None])
            parameters = vae.decoder(z)
            nll = vae.likelihood.nll(parameters, row[None])
            for term in vae.likelihood.beside(parameters, row[None]).values():
                nll = nll + term
            log_w.append(-nll + p.log_prob(z) - q.log_prob(z))
        found.append(-(torch.stack(log_w).exp().mean(0).log()))
    return torch.cat(found)


CASES = {
    "diagonal": small,
    "full": lambda **how: small(posterior=FullCovariance(), **how),
    "isotropic": lambda **how: small(posterior=Isotropic(0.7), **how),
    "fixed γ": lambda **how: small(likelihood=Gaussian(FixedVariance(0.3)), **how),
    "table": of_table,
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_those_of_a_loop_over_rows_and_draws(double, case):
    vae = CASES[case]().double()
    x = table() if case == "table" else torch.randn(6, D)
    noise = torch.randn(6, *vae.noise_shape)
    objective = vae(x, noise=noise)
    wanted = one_by_one(vae, x, noise)
    assert_close(objective.per_sample, wanted)
    moved = [p for p in vae.parameters() if p.requires_grad]
    ours = torch.autograd.grad(objective.total, moved, allow_unused=True)
    theirs = torch.autograd.grad(wanted.mean(), moved, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert_close(one, other)


def test_one_draw_is_the_elbo_with_its_kl_at_that_draw(double):
    vae = small(draws=1).double()
    x, noise = torch.randn(6, D), torch.randn(6, KAPPA)
    weighted, plain = vae(x, noise=noise), vae.replace(bound="elbo")(x, noise=noise)
    assert_close(weighted.distortion, plain.distortion)
    q, p = vae.encode(x), vae.prior(None)
    z = draw(q, noise)
    assert_close(weighted.penalties["kl"], q.log_prob(z) - p.log_prob(z))


def test_the_bound_grows_with_the_draws(double):
    vae, x = small().double(), torch.randn(50, D)
    means = []
    for draws in (1, 2, 8, 32):
        own = vae.replace(draws=draws)
        means.append(
            torch.stack([own(x, noise=torch.randn(50, draws * KAPPA)).per_sample.detach() for _ in range(100)]).mean()
        )
    assert means == sorted(means, reverse=True)
    assert float(means[0] - means[-1]) > 0.05


def linear():
    """A linear model whose q is too wide, and its rows."""
    x = torch.randn(400, 2) @ torch.randn(2, D) + 0.5 * torch.randn(400, D)
    model = probabilistic_pca(x, KAPPA)
    vae = small(likelihood=Gaussian(ProfiledVariance())).double()
    assert can_begin_linear(vae) == KAPPA
    begin_linear(vae, model)
    return vae, x, model


def widened(vae, by):
    with torch.no_grad():
        for name, parameter in vae.encoder.named_parameters():
            if name.endswith("bias") and len(parameter) == 2 * KAPPA:
                parameter[KAPPA:] += math.log(by)
                return vae
    raise AssertionError("no bias of the encoder's last layer")


def test_the_bound_of_a_linear_model_comes_to_its_density(double):
    torch.manual_seed(1)
    vae, x, model = linear()
    vae = widened(vae, 1.5).eval()
    exact = -model.log_prob(x[:20])
    gaps = []
    for draws in (1, 4, 2000):
        own = vae.replace(draws=draws).eval()
        with torch.no_grad():
            found = own(x[:20], noise=torch.randn(20, draws * KAPPA)).per_sample
        gaps.append(float((found - exact).mean()))
    assert gaps[0] > 0.1
    assert abs(gaps[2]) < 0.01


def test_a_profiled_variance_is_where_the_bound_is_at_its_maximum(double):
    """γ of draws of equal weight would be far too large, since q is too wide."""
    torch.manual_seed(2)
    vae, x, _ = linear()
    vae = widened(vae, 3.0).train()
    noise = torch.randn(len(x), K * KAPPA)
    with torch.no_grad():
        for _ in range(60):
            vae(x, noise=noise)
    gamma = float(vae.likelihood.variance.gamma)
    learned = torch.tensor(gamma).log().requires_grad_()

    class Given(FixedVariance):
        def forward(self, squared_error, raw=None):
            return learned.exp().view(1, 1)

    fixed = vae.replace(likelihood=Gaussian(Given(gamma)))
    (slope,) = torch.autograd.grad(fixed(x, noise=noise).total, learned)
    assert abs(float(slope)) < 1e-3
    with torch.no_grad():
        vae.replace(bound="elbo")(x, noise=noise)
    assert float(vae.likelihood.variance.gamma) > 1.5 * gamma


def test_calibration_finds_the_noise_though_q_is_too_wide(double):
    torch.manual_seed(3)
    vae, x, model = linear()
    vae = widened(vae, 2.0).replace(draws=50)
    found = {}
    for bound in ("elbo", "iwae"):
        vae.likelihood.variance.calibrate(model.noise)
        own = vae.replace(bound=bound)
        own.calibrate(Rows(x), generator=torch.Generator().manual_seed(0))
        found[bound] = float(own.likelihood.variance.gamma / model.noise.mean())
    assert found["iwae"] == pytest.approx(1, abs=0.1)
    assert found["elbo"] > 1.3


@pytest.mark.parametrize(
    "axes",
    [
        {"posterior": Deterministic(), "regularizers": [CodeNorm(1.0)], "draws": 1},
        {"regularizers": [KL(2.0)]},
        {"regularizers": [CodeNorm(1.0)]},
        {"likelihood": Gaussian(ProfiledVariance(per_sample=True))},
    ],
)
def test_what_is_no_such_bound_is_refused(axes):
    with pytest.raises(InputError, match="iwae"):
        small(**axes)


def test_other_penalties_are_beside_it():
    vae = small(regularizers=[KL(), MMD(3.0)])
    objective: Objective = vae(torch.randn(6, D))
    assert set(objective.penalties) == {"kl", "mmd"}
    plain = small()(torch.randn(6, D))
    assert set(plain.penalties) == {"kl"}


def test_settings_refuse_another_weight_of_the_kl():
    with pytest.raises(ValueError, match="iwae"):
        Settings(posterior="diagonal(draws=5, bound=iwae)", penalties=("kl(2)",))
