"""Two-sample distances against closed forms and direct evaluations."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import polynomial_kernel

from vaelab.errors import InputError
from vaelab.metrics.distances import (
    energy_distance,
    frechet_distance,
    kernel_distance,
    polynomial_mmd2,
    sliced_wasserstein,
)
from vaelab.metrics.moments import Moments


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def rotation(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def gaussian(mean: torch.Tensor, covariance: torch.Tensor, n: int = 50) -> Moments:
    return Moments(n, mean.double(), (n - 1) * covariance.double())


def spread(d: int, power: float, seed: int = 0) -> torch.Tensor:
    """Covariance with eigenvalues 1 … d^−power, rotated."""
    q = rotation(d, seed)
    return (q * torch.arange(1, d + 1, dtype=torch.float64) ** -power) @ q.T


# --- Fréchet


def test_frechet_of_commuting_covariances_is_their_closed_form():
    q, a, b = rotation(300), normal(300, seed=1).square() + 0.1, normal(300, seed=2).square() + 0.1
    m = normal(300, seed=3)
    exact = m.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    found = frechet_distance(gaussian(m, (q * a) @ q.T), gaussian(0 * m, (q * b) @ q.T, n=80))
    assert found == pytest.approx(float(exact), rel=1e-11)


def test_frechet_in_one_dimension():
    x, y = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [9.0]])
    exact = (5 - 2) ** 2 + (math.sqrt(32) - 2) ** 2
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(exact, rel=1e-14)


def test_frechet_of_planes_at_an_angle():
    """Both covariances singular, ranges neither equal nor orthogonal: u uᵀ and v vᵀ have tr (C₁ C₂)^½ = |uᵀ v|."""
    u, v = torch.tensor([2.0, 0, 0, 0]), torch.tensor([3 * math.cos(0.3), 3 * math.sin(0.3), 0, 0], dtype=torch.float64)
    found = frechet_distance(gaussian(u * 0, torch.outer(u, u)), gaussian(u * 0, torch.outer(v, v)))
    assert found == pytest.approx(4 + 9 - 2 * 6 * math.cos(0.3), abs=1e-13)


@pytest.mark.parametrize("singular", ["first", "second", "both"])
def test_frechet_of_singular_covariances_is_their_closed_form(singular):
    d = 120
    q, a, b = rotation(d), normal(d, seed=1).square() + 0.1, normal(d, seed=2).square() + 0.1
    if singular != "second":
        a[:50] = 0
    if singular != "first":
        b[30:100] = 0
    exact = float((a.sqrt() - b.sqrt()).square().sum())
    found = frechet_distance(gaussian(0 * a, (q * a) @ q.T), gaussian(0 * a, (q * b) @ q.T))
    assert found == pytest.approx(exact, abs=1e-9 * float(a.sum() + b.sum()))


@pytest.mark.parametrize(("power", "rel"), [(0.0, 1e-12), (1.0, 1e-11), (2.0, 1e-9)])
def test_frechet_agrees_with_the_matrix_square_root(power, rel):
    a, b = spread(64, power), spread(64, power, seed=1)
    exact = float(a.trace() + b.trace()) - 2 * np.trace(scipy.linalg.sqrtm(a.numpy() @ b.numpy())).real
    found = frechet_distance(gaussian(torch.zeros(64), a), gaussian(torch.zeros(64), b))
    assert found == pytest.approx(exact, rel=rel)


@pytest.mark.parametrize("power", [0.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("order", ["rotated", "ascending", "descending"])
def test_frechet_is_accurate_for_badly_conditioned_covariances(power, order):
    """Scaling by s has the closed form (1 − s)² tr C, whatever C is."""
    values = torch.arange(1, 301, dtype=torch.float64) ** -power
    q = {"rotated": rotation(300), "ascending": torch.eye(300).flip(0), "descending": torch.eye(300)}[order].double()
    a = (q * values) @ q.T
    found = frechet_distance(gaussian(torch.zeros(300), a), gaussian(torch.zeros(300), 1.21 * a))
    assert found == pytest.approx(0.01 * float(a.trace()), abs=1e-9 * float(a.trace()))


def degenerate_rows(kind: str) -> torch.Tensor:
    x = normal(400, 60) @ normal(60, 60, seed=1)
    if kind == "few rows":
        return x[:20]
    if kind == "constant features":
        x[:, [0, 17, 59]] = torch.tensor([0.0, 3.0, 1e4], dtype=torch.float64)
    elif kind == "dependent features":
        x[:, 40:] = x[:, :20] - 2 * x[:, 20:40]
    elif kind == "scales":
        x = x * torch.logspace(-7, 4, 60, dtype=torch.float64)
    elif kind == "all equal":
        x = torch.full_like(x, 0.1)
    return x


KINDS = ["ordinary", "few rows", "constant features", "dependent features", "scales", "all equal"]


@pytest.mark.parametrize("kind", KINDS)
def test_frechet_of_equal_sets_is_zero(kind):
    """Also if the rows came in another order, in parts, or both far from the origin."""
    x = degenerate_rows(kind)
    found = Moments.of(x)
    shuffled = x[torch.randperm(len(x), generator=generator())]
    streamed = Moments.of(shuffled[:7]).merge(Moments.of(shuffled[7:]))
    limit = 1e-9 * float(found.covariance.trace())
    assert 0 <= frechet_distance(found, found) <= limit
    assert 0 <= frechet_distance(found, streamed) <= limit + 1e-20


@pytest.mark.parametrize("kind", KINDS[:4])
def test_frechet_is_invariant(kind):
    x, y = degenerate_rows(kind), degenerate_rows(kind).flip(1) * 1.3
    expected = frechet_distance(Moments.of(x), Moments.of(y))
    scale = float((Moments.of(x).covariance + Moments.of(y).covariance).trace())
    assert expected > 0.01 * scale
    q = rotation(60, seed=5)
    assert frechet_distance(Moments.of(y), Moments.of(x)) == pytest.approx(expected, abs=1e-9 * scale)
    assert frechet_distance(Moments.of(x @ q), Moments.of(y @ q)) == pytest.approx(expected, abs=1e-8 * scale)
    assert frechet_distance(Moments.of(x + 1e4), Moments.of(y + 1e4)) == pytest.approx(expected, abs=1e-8 * scale)


def test_frechet_refuses_what_it_cannot_compare():
    x = Moments.of(normal(5, 3))
    with pytest.raises(InputError, match="moments of 3 and 2 features"):
        frechet_distance(x, Moments.of(normal(5, 2)))
    with pytest.raises(InputError, match="5 and 1 rows"):
        frechet_distance(x, Moments.of(normal(1, 3)))


# --- kernel


def direct_mmd2(x, y, kernel):
    n, m = len(x), len(y)
    within_x = np.mean([kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j])
    within_y = np.mean([kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j])
    return within_x + within_y - 2 * np.mean([kernel(a, b) for a in x for b in y])


@pytest.mark.parametrize(("degree", "coef0"), [(3, 1.0), (1, 0.0), (2, 0.5)])
def test_polynomial_mmd_is_a_direct_double_loop(degree, coef0):
    x, y = normal(13, 4), normal(9, 4, seed=1) + 0.3
    exact = direct_mmd2(x.numpy(), y.numpy(), lambda a, b: (a @ b / 4 + coef0) ** degree)
    assert polynomial_mmd2(x, y, degree=degree, coef0=coef0) == pytest.approx(exact, rel=1e-12)


def test_polynomial_mmd_agrees_with_scikit_learn_across_blocks():
    x, y = normal(700, 5), 1.2 * normal(531, 5, seed=1)
    kxx, kyy, kxy = (polynomial_kernel(a, b, degree=3) for a, b in ((x, x), (y, y), (x, y)))
    exact = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kxx, kyy)) - 2 * kxy.mean()
    assert polynomial_mmd2(x, y) == pytest.approx(exact, rel=1e-10)


def test_polynomial_mmd_is_unbiased():
    """On points of {−1, 1} with P(1) = p: (xy + 1)³ = 4 (1 + xy), so MMD² = 4 (E x − E y)²; also 0 for equal laws."""
    draw = generator(0)
    for p, q in ((0.5, 0.8), (0.7, 0.7)):
        found = []
        for _ in range(1500):
            x, y = ((torch.rand(k, 1, generator=draw) < r).double() * 2 - 1 for k, r in ((6, p), (9, q)))
            found.append(polynomial_mmd2(x, y))
        error = np.std(found) / math.sqrt(len(found))
        assert error < 0.1  # the estimate with the diagonal would be off by 0.9
        assert abs(np.mean(found) - 4 * (2 * p - 2 * q) ** 2) < 4 * error


def test_kernel_distance_averages_unbiased_subsets():
    x, y = normal(90, 3), normal(70, 3, seed=1) + 0.5
    found = kernel_distance(x, y, subsets=1000, subset_size=20, generator=generator())
    # each subset estimates the U-statistic of all rows without bias
    assert found.mean == pytest.approx(polynomial_mmd2(x, y), abs=4 * found.std / 1000**0.5)
    assert found.std > 0.1
    assert found == kernel_distance(x, y, subsets=1000, subset_size=20, generator=generator())
    assert found != kernel_distance(x, y, subsets=1000, subset_size=20, generator=generator(1))


def test_kernel_distance_is_the_mean_and_the_spread_of_its_subsets():
    x, y, drawn = normal(90, 3), normal(70, 3, seed=1) + 0.5, generator()
    values = torch.tensor(
        [polynomial_mmd2(*(z[torch.randperm(len(z), generator=drawn)[:20]] for z in (x, y))) for _ in range(4)]
    )
    found = kernel_distance(x, y, subsets=4, subset_size=20, generator=generator())
    mean = float(values.sum()) / 4
    assert found == pytest.approx((mean, (float((values - mean).square().sum()) / 4) ** 0.5), rel=1e-6)


def test_subsets_are_drawn_without_replacement_and_are_at_most_all_rows():
    x, y = normal(30, 3), normal(30, 3, seed=1)
    whole = polynomial_mmd2(x, y)
    assert kernel_distance(x, y) == (whole, 0.0)
    assert kernel_distance(x, y, subset_size=30, subsets=3) == (whole, 0.0)
    # all of x in every subset, so that only y varies: draws with replacement would vary x too
    constant = torch.ones(45, 3, dtype=torch.float64)
    found = kernel_distance(x, constant, subsets=5)
    assert found.mean == pytest.approx(polynomial_mmd2(x, constant), rel=1e-12)
    assert found.std < 1e-12


# --- sliced Wasserstein


def test_sliced_wasserstein_of_a_shift_is_its_length_along_the_projections():
    x, t = normal(50, 6), torch.tensor([3.0, 0, -1, 2, 0.5, 1], dtype=torch.float64)
    shuffled = x[torch.randperm(50, generator=generator(1))] + t
    directions = torch.randn(40, 6, dtype=torch.float64, generator=generator(7))
    exact = ((directions @ t) / directions.norm(dim=1)).square().mean().sqrt()
    found = sliced_wasserstein(x, shuffled, projections=40, generator=generator(7))
    assert found == pytest.approx(float(exact), rel=1e-12)
    many = sliced_wasserstein(x, shuffled, projections=20_000, generator=generator(7))
    assert many == pytest.approx(float(t.norm()) / math.sqrt(6), rel=0.02)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (4, 6), (5, 1), (7, 12), (12, 4)])
def test_sliced_wasserstein_of_unequal_numbers_is_exact(n, m):
    """Repeating every row until the numbers are equal changes neither law; d = 1 needs one direction."""
    x, y = normal(n, 1), normal(m, 1, seed=1) * 2
    repeated = x.repeat_interleave(m, 0).sort(0).values - y.repeat_interleave(n, 0).sort(0).values
    expected = float(repeated.square().mean().sqrt())
    assert sliced_wasserstein(x, y, projections=2) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein(x, x.repeat(3, 1), projections=5) == pytest.approx(0, abs=1e-12)


def test_sliced_wasserstein_draws_its_directions_from_the_generator():
    x, y = normal(20, 3), 2 * normal(25, 3, seed=1)
    state = torch.get_rng_state()
    assert sliced_wasserstein(x, y) == sliced_wasserstein(x, y)
    assert sliced_wasserstein(x, y) != sliced_wasserstein(x, y, generator=generator(9))
    assert torch.equal(state, torch.get_rng_state()), "global randomness was used"


# --- energy


def test_energy_distance_is_a_direct_double_loop_far_from_the_origin():
    x, y = normal(14, 3), normal(11, 3, seed=1) + 0.2
    exact = -direct_mmd2(x.numpy(), y.numpy(), lambda a, b: np.linalg.norm(a - b))
    assert energy_distance(x, y) == pytest.approx(exact, rel=1e-12)
    assert energy_distance(x + 1e4, y + 1e4) == pytest.approx(exact, rel=1e-9)


def test_energy_distance_of_a_set_with_itself_lacks_only_the_diagonal():
    """With the diagonal it would be 0, so without it is −2/(n − 1) of the mean distance; across several blocks."""
    x = normal(600, 4)
    assert energy_distance(x, x) == pytest.approx(-2 / 599 * float(torch.cdist(x, x).mean()), rel=1e-6)


# --- all of them


MEASURES = {
    "frechet": lambda x, y: frechet_distance(Moments.of(x), Moments.of(y)),
    "mmd": polynomial_mmd2,
    "kernel": lambda x, y: kernel_distance(x, y, subsets=3, subset_size=30).mean,
    "sliced": sliced_wasserstein,
    "energy": energy_distance,
}


@pytest.mark.parametrize("name", MEASURES)
def test_float32_input_gives_what_its_numbers_give_in_float64(name):
    x, y = normal(300, 5).float() + 10, normal(280, 5, seed=1).float() * 2 + 10
    found = MEASURES[name](x.requires_grad_(), y)
    assert type(found) is float
    assert found == pytest.approx(MEASURES[name](x.double(), y.double()), rel=1e-12)


@pytest.mark.parametrize("name", ["mmd", "kernel", "sliced", "energy"])
def test_rows_that_cannot_be_compared_are_refused(name):
    x, broken = normal(6, 3), normal(6, 3)
    broken[1, 2] = torch.nan
    with pytest.raises(InputError, match=r"\(6, 3\) and \(6, 2\).*the same d"):
        MEASURES[name](x, x[:, :2])
    with pytest.raises(InputError, match="y with NaN or infinity in 1 of 6 rows"):
        MEASURES[name](x, broken)
    with pytest.raises(InputError, match=r"y with 0 row\(s\)"):
        MEASURES[name](x, x[:0])


def test_wrong_settings_are_refused():
    x = normal(6, 3)
    with pytest.raises(InputError, match="degree=0"):
        polynomial_mmd2(x, x, degree=0)
    with pytest.raises(InputError, match="subsets=0"):
        kernel_distance(x, x, subsets=0)
    with pytest.raises(InputError, match="projections=0"):
        sliced_wasserstein(x, x, projections=0)
