"""Tables with categories and gaps: the likelihood against its parts, imputation against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from helpers import Rows
from vaelab.errors import InputError
from vaelab.model import (
    VAE,
    FixedVariance,
    FullCovariance,
    Gaussian,
    LearnedVariance,
    Mixed,
    ProfiledVariance,
    impute,
)
from vaelab.model.variances import DecodedVariance
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader, table_width

LEVELS = (0, 3, 0, 2, 3, 0)
NAN = math.nan


def table(n: int = 7, *, missing: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, len(LEVELS), generator=generator, dtype=torch.float64)
    for j, count in enumerate(LEVELS):
        if count:
            x[:, j] = torch.randint(count, (n,), generator=generator)
    gaps = torch.rand(x.shape, generator=generator) < missing
    return torch.where(gaps, NAN, x)


def parameters_for(n: int = 7, seed: int = 1) -> Tensor:
    # three numbers, then the logits of the column of two levels, then those of the two columns of three
    return torch.randn(n, 3 + 2 + 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PLACES = {0: slice(0, 1), 2: slice(1, 2), 5: slice(2, 3), 3: slice(3, 5), 1: slice(5, 8), 4: slice(8, 11)}


def by_hand(parameters: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Sum the terms of the observed entries, one at a time."""
    out = []
    for raw, row in zip(parameters, x, strict=True):
        total = torch.zeros((), dtype=torch.float64)
        for j, count in enumerate(LEVELS):
            own = raw[PLACES[j]]
            if row[j].isnan():
                continue
            if count:
                total = total - torch.distributions.Categorical(logits=own).log_prob(row[j])
            else:
                total = total - torch.distributions.Normal(own[0], math.sqrt(gamma)).log_prob(row[j])
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize("missing", [0.0, 0.4, 1.0])
def test_nll_is_that_of_the_observed_entries(missing):
    x, parameters = table(missing=missing), parameters_for().requires_grad_()
    likelihood = Mixed(LEVELS, FixedVariance(0.3)).double()
    assert likelihood.parameter_shape((6,)) == (11,)
    nll = likelihood.nll(parameters, x)
    torch.testing.assert_close(nll, by_hand(parameters, x, float(likelihood.variance.gamma)))
    (gradient,) = torch.autograd.grad(nll.sum(), parameters)
    for j, place in PLACES.items():
        gone = x[:, j].isnan()
        assert (gradient[gone, place] == 0).all(), "a missing entry has a gradient"
        assert (gradient[~gone, place] != 0).all()


def test_nll_equals_that_of_the_smaller_table_without_the_missing_columns():
    x, parameters = table(), parameters_for()
    x[:, [0, 1, 3]] = NAN
    rest = Mixed((0, 3, 0), FixedVariance(0.3))
    few = torch.cat([parameters[:, 1:3], parameters[:, 8:11]], dim=1)
    full = Mixed(LEVELS, FixedVariance(0.3)).nll(parameters, x)
    torch.testing.assert_close(full, rest.nll(few, x[:, [2, 4, 5]]), rtol=1e-14, atol=0)


def test_a_table_of_numbers_without_gaps_is_gaussian():
    x = torch.randn(9, 4, dtype=torch.float64)
    mean = torch.randn(9, 4, dtype=torch.float64)
    for make in (lambda: FixedVariance(0.2), ProfiledVariance, lambda: ProfiledVariance(diagonal=True, floor=1e-9)):
        mixed, gaussian = Mixed((0, 0, 0, 0), make()), Gaussian(make())
        torch.testing.assert_close(mixed.nll(mean, x), gaussian.nll(mean, x))
        torch.testing.assert_close(mixed.variance.gamma, gaussian.variance.gamma)


@pytest.mark.parametrize("diagonal", [False, True])
def test_profiled_variance_is_that_of_observed_numbers(diagonal):
    x, parameters = table(200, missing=0.5).float(), parameters_for(200).float()
    likelihood = Mixed(LEVELS, ProfiledVariance(diagonal=diagonal))
    likelihood.nll(parameters, x)
    squared = (x[:, [0, 2, 5]] - parameters[:, :3]).square()
    assert likelihood.squared_error(parameters, x).isnan().equal(squared.isnan())
    torch.testing.assert_close(likelihood.variance.gamma, squared.nanmean(0) if diagonal else squared.nanmean())


def test_profiled_variance_is_the_best_one():
    x, parameters = table(50, missing=0.3), parameters_for(50)
    profiled = Mixed(LEVELS, ProfiledVariance()).double()
    least = profiled.nll(parameters, x).sum()
    for factor in (0.9, 1.1):
        other = FixedVariance(1.0).double()
        other._gamma.fill_(factor * profiled.variance.gamma)
        assert Mixed(LEVELS, other).nll(parameters, x).sum() > least


def test_rows_without_any_number_leave_a_finite_variance():
    likelihood = Mixed((0, 2), ProfiledVariance(floor=1e-6))
    x = torch.tensor([[NAN, 1.0], [NAN, NAN]])
    nll = likelihood.nll(torch.zeros(2, 3, requires_grad=True), x)
    torch.testing.assert_close(nll, torch.tensor([math.log(2), 0.0]))


def test_a_table_of_categories_has_no_variance():
    likelihood = Mixed((2, 5), LearnedVariance())
    assert likelihood.variance is None
    assert not likelihood.parameter_groups()
    assert not likelihood.readings()
    nll = likelihood.nll(torch.zeros(3, 7), torch.zeros(3, 2))
    torch.testing.assert_close(nll, torch.full((3,), math.log(10)))


def test_mean_is_the_most_likely_level_and_samples_follow_the_probabilities():
    likelihood = Mixed(LEVELS, FixedVariance(0.25))
    parameters = parameters_for(2).float()
    mean = likelihood.mean(parameters)
    assert mean.shape == (2, 6)
    for j, place in PLACES.items():
        own = parameters[:, place]
        torch.testing.assert_close(mean[:, j], own.argmax(1).float() if LEVELS[j] else own[:, 0])
    n = 20_000
    many = parameters.repeat(n, 1)
    drawn = likelihood.sample(many, generator=torch.Generator().manual_seed(0)).view(n, 2, 6)
    torch.testing.assert_close(drawn[..., [0, 2, 5]].mean(0), parameters[:, :3], atol=0.02, rtol=0)
    torch.testing.assert_close(drawn[..., 0].var(0), torch.full((2,), 0.25), atol=0.02, rtol=0)
    for j in (1, 3, 4):
        found = torch.stack([(drawn[..., j] == level).float().mean(0) for level in range(LEVELS[j])], dim=1)
        torch.testing.assert_close(found, parameters[:, PLACES[j]].softmax(1), atol=0.02, rtol=0)
    again = likelihood.sample(many, generator=torch.Generator().manual_seed(0)).view(n, 2, 6)
    assert again.equal(drawn)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mixed(()), "one count per column"),
        (lambda: Mixed((0, -1)), "one count per column"),
        (lambda: Mixed((0, 2), ProfiledVariance(per_sample=True)), "variance per row"),
        (lambda: Mixed((0, 2), DecodedVariance()), "variance per row"),
        (lambda: Mixed((0, 2)).parameter_shape((3,)), r"rows of shape \(3,\)"),
        (lambda: TableReader(MLPEncoder((3,), 2), (0, 2)), "table_width"),
        (lambda: TableReader(MLPEncoder((table_width((0, 2)),), 2), (0, 2))(torch.zeros(4, 3)), r"\(4, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_reader_codes_numbers_levels_and_gaps():
    class Echo(nn.Module):
        def forward(self, x, c=None):
            return x

    coded = TableReader(Echo(), (0, 3, 0))(torch.tensor([[1.5, 2.0, NAN], [NAN, NAN, -1.0]]))
    assert table_width((0, 3, 0)) == 8
    # numbers, one-hot levels, and a flag per column
    assert coded.tolist() == [[1.5, 0, 0, 0, 1, 0, 0, 1], [0, -1.0, 0, 0, 0, 1, 1, 0]]


def mixed_vae(levels=LEVELS, variance=None, latent_dim: int = 2) -> VAE:
    torch.manual_seed(0)
    likelihood = Mixed(levels, variance)
    return VAE(
        TableReader(MLPEncoder((table_width(levels),), 2 * latent_dim, hidden=(8,)), levels),
        MLPDecoder(latent_dim, likelihood.parameter_shape((len(levels),)), hidden=(8,)),
        latent_dim=latent_dim,
        likelihood=likelihood,
    )


@pytest.mark.parametrize("draws", [1, 3])
def test_training_step_has_finite_gradients_everywhere(draws):
    vae = mixed_vae()
    vae.draws = draws
    vae(table(20, missing=0.5).float()).total.backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_calibration_leaves_missing_entries_out():
    vae, x = mixed_vae(), table(300, missing=0.5).float()
    x[:200, 0] = NAN  # columns weigh as many entries as they have
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    vae.calibrate(Rows(x), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(vae.likelihood.variance.gamma, x[:, [0, 2, 5]].square().nanmean())


class LinearEncoder(nn.Module):
    """The posterior of x = W z + b + noise of variance γ given the observed entries of each row, off by a known shift.

    Of the exact posterior every weight would be the same.
    """

    shift = 0.4

    def __init__(self, weight: Tensor, bias: Tensor, gamma: float) -> None:
        super().__init__()
        self.weight, self.bias, self.gamma = weight, bias, gamma

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        rows = []
        for row in x:
            seen = ~row.isnan()
            own = self.weight[seen]
            precision = torch.eye(own.shape[1], dtype=x.dtype) + own.T @ own / self.gamma
            mean = torch.linalg.solve(precision, own.T @ (row[seen] - self.bias[seen]) / self.gamma)
            rows.append(torch.cat([mean + self.shift, 0.5 * precision.inverse().diagonal().log() + 0.2]))
        return torch.stack(rows)


class LinearDecoder(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return z @ self.weight.T + self.bias


def test_imputation_of_a_linear_model_is_the_conditional_mean():
    generator = torch.Generator().manual_seed(3)
    d, size, gamma = 5, 2, 0.3
    weight = torch.randn(d, size, generator=generator, dtype=torch.float64)
    bias = torch.randn(d, generator=generator, dtype=torch.float64)
    vae = VAE(
        LinearEncoder(weight, bias, gamma),
        LinearDecoder(weight, bias),
        latent_dim=size,
        likelihood=Mixed((0,) * d, FixedVariance(gamma)),
    ).double()
    x = torch.randn(6, d, generator=generator, dtype=torch.float64) * 2
    whole = x.clone()
    for i in range(5):
        x[i, : i + 1] = NAN
    covariance = weight @ weight.T + float(vae.likelihood.variance.gamma) * torch.eye(d, dtype=torch.float64)
    wanted = whole.clone()
    for row in wanted[:5]:
        gone = torch.zeros(d, dtype=torch.bool)
        gone[: int((wanted == row).all(1).nonzero()[0]) + 1] = True
        gain = covariance[gone][:, ~gone]
        if (~gone).any():
            gain = gain @ covariance[~gone][:, ~gone].inverse()
        row[gone] = bias[gone] + gain @ (row[~gone] - bias[~gone])
    noise = torch.randn(20_000, 1, size, generator=generator, dtype=torch.float64)
    found = impute(vae, x, noise=noise)
    assert torch.equal(found[~x.isnan()], x[~x.isnan()])
    torch.testing.assert_close(found, wanted, atol=0.04, rtol=0)
    unweighted = torch.where(x.isnan(), vae.reconstruct(x), x)
    assert float((unweighted - wanted).detach().abs().max()) > 0.2, "the encoder alone would do here"


def test_imputation_of_categories_is_the_most_likely_level_by_bayes():
    """Two binary columns that depend on the sign of z; the exact answer by quadrature over z."""

    class Sign(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(4.0, dtype=torch.float64))

        def forward(self, z, c=None):
            logit = self.scale * (z - 0.3)
            zero = torch.zeros_like(logit)
            return torch.cat([zero, logit, zero, -logit], dim=1)

    class Wide(nn.Module):
        def forward(self, x, c=None):
            return torch.zeros(len(x), 2, dtype=x.dtype)  # the prior

    vae = VAE(Wide(), Sign(), latent_dim=1, likelihood=Mixed((2, 2)))
    x = torch.tensor([[0.0, NAN], [1.0, NAN], [NAN, 0.0], [NAN, NAN]], dtype=torch.float64)
    noise = torch.randn(4000, 4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # the first column is 1 and the second 0 where z is large; without either, z is below 0.3 more often than not
    assert impute(vae, x, noise=noise).tolist() == [[0, 1], [1, 0], [1, 0], [0, 1]]


def test_rows_without_gaps_are_returned_as_they_are():
    x = torch.randn(4, 6)
    vae = VAE(MLPEncoder((6,), 4, hidden=(8,)), MLPDecoder(2, (6,), hidden=(8,)), latent_dim=2)
    assert torch.equal(impute(vae, x, noise=torch.randn(5, 4, 2)), x)


def test_imputation_takes_a_full_covariance():
    torch.manual_seed(0)
    posterior = FullCovariance()
    outputs = posterior.parameter_count(2)
    vae = VAE(
        TableReader(MLPEncoder((table_width(LEVELS),), outputs, hidden=(8,)), LEVELS),
        MLPDecoder(2, (11,), hidden=(8,)),
        latent_dim=2,
        posterior=posterior,
        likelihood=Mixed(LEVELS),
    )
    x = table(missing=0.5).float()
    filled = impute(vae, x, noise=torch.randn(6, 1, 2))
    assert filled.isfinite().all()
    assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
