"""Columns of numbers as normal scores and back: exact against scipy, and what comes back is like what went in."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from vaelab import GaussianVAE
from vaelab.data import Scaling
from vaelab.data.marginals import Marginal, Marginals

N = 2000


def _column(kind, seed=0, n=N):
    rng = np.random.default_rng(seed)
    column = {
        "normal": lambda: rng.normal(3, 2, n),
        "heavy": lambda: rng.standard_t(2, n),
        "integers": lambda: rng.poisson(4, n),
        "fives": lambda: 5 * rng.poisson(4, n),
        "cents": lambda: np.round(rng.gamma(2, 10, n), 2),
        "zeros": lambda: np.where(rng.random(n) < 0.3, 0.0, rng.lognormal(8, 1, n)),
        "bounded": lambda: rng.beta(0.4, 0.4, n),
        "spike": lambda: np.where(rng.random(n) < 0.33, 12, rng.integers(0, 19, n)),
        "two": lambda: rng.integers(0, 2, n),
    }[kind]()
    return torch.as_tensor(np.asarray(column, dtype=np.float64))


KINDS = ("normal", "heavy", "integers", "fives", "cents", "zeros", "bounded", "spike", "two")


@pytest.mark.parametrize("kind", KINDS)
def test_normal_scores_come_back_like_the_column(kind):
    x, other = _column(kind), _column(kind, 1)
    marginal = Marginal.fit(x)
    back = marginal.from_normal(torch.randn(20_000, generator=torch.Generator().manual_seed(0)))
    assert x.min() <= back.min() <= back.max() <= x.max()
    steps = {"integers": 1, "fives": 5, "cents": 0.01, "spike": 1, "two": 1}
    assert marginal.step == pytest.approx(steps.get(kind, 0))
    if kind in steps:
        assert set(np.round(back.numpy() / steps[kind], 6) % 1) == {0.0}
    values, counts = torch.unique(x, return_counts=True)
    common = values[counts.argmax()]
    share = float((x == common).double().mean())
    if share > 0.05:
        assert float((back == common).double().mean()) == pytest.approx(share, abs=2 * math.sqrt(0.25 / 20_000))
    for level in (0.01, 0.5, 0.99):
        low, high = (float(torch.quantile(other, min(1, max(0, level + side)))) for side in (-0.03, 0.03))
        assert low - 1e-9 <= float(torch.quantile(back, level)) <= high + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_goes_to_its_score_and_back(kind):
    x = _column(kind)
    marginal = Marginal.fit(x)
    z = marginal.to_normal(x)
    if len(x.unique()) <= 300:  # every value is kept
        assert torch.equal(marginal.from_normal(z), x)
    assert float((marginal.from_normal(z) - x).abs().median()) <= 0.01 * float(x.std())
    spread = marginal.to_normal(x, torch.rand(len(x), generator=torch.Generator().manual_seed(0)).double())
    assert float(spread.mean()) == pytest.approx(0, abs=0.08)
    assert float(spread.std()) == pytest.approx(1, abs=0.06)
    assert bool(z.isfinite().all())


def test_numbers_beside_an_atom_are_not_taken_for_it():
    marginal = Marginal.fit(_column("zeros"))
    new = torch.linspace(0.01, 1, 50).double() * float(marginal.values[1])
    torch.testing.assert_close(marginal.from_normal(marginal.to_normal(new)), new, rtol=1e-6, atol=1e-6)


def test_scores_are_those_of_the_ranks():
    x = torch.randperm(100, generator=torch.Generator().manual_seed(0)).double() * 1.7 + 0.123456789
    ranks = x.argsort().argsort().double()
    torch.testing.assert_close(Marginal.fit(x).to_normal(x), torch.special.ndtri((ranks + 0.5) / 100))


def test_the_change_of_variables_is_that_of_numerical_integration():
    """A normal density of scores is a density of numbers that integrates to one, with jumps where values repeat."""
    marginal = Marginal.fit(_column("zeros"))

    def density(x):
        one = torch.tensor([x], dtype=torch.float64)
        return math.exp(float(norm.logpdf(marginal.to_normal(one))[0]) - float(marginal.log_volume(one)[0]))

    jump = density(0.0)
    assert jump == pytest.approx(0.3, abs=0.03)
    knots = marginal.values[1:].tolist()
    total = sum(quad(density, a + 1e-9 * (b - a), b - 1e-9 * (b - a))[0] for a, b in pairwise(knots))
    assert jump + total == pytest.approx(1, abs=0.01)


def test_what_says_too_little_is_left_alone():
    assert Marginal.fit(torch.arange(49).double()) is None
    assert Marginal.fit(torch.ones(100).double()) is None


def test_gaps_and_categories_stay(tmp_path):
    x = torch.stack([_column("zeros"), torch.arange(N).double() % 3, _column("integers")], 1)
    x[::7, 0] = math.nan
    marginals = Marginals.fit(x, (True, False, True))
    z = marginals.to_normal(x)
    assert torch.equal(z.isnan(), x.isnan())
    assert torch.equal(z[:, 1], x[:, 1])
    again = Marginals.from_state(marginals.state())
    torch.testing.assert_close(again.from_normal(z), marginals.from_normal(z), equal_nan=True)
    scaling = Scaling.fit(x, "table", levels=(0, 3, 0), scores=(True, False, True))
    saved = Scaling.from_state(scaling.state(), scaling.meta())
    torch.testing.assert_close(saved.to_net(x), scaling.to_net(x), equal_nan=True)
    missing = scaling.log_volume_of(torch.full((1, 3), math.nan))
    assert float(missing) == 0


def test_a_table_comes_back_in_its_types_ranges_and_grids():
    """Incomes with exact zeros, whole ages, prices in cents, and classes: as they came, in dtype too."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=600)
    frame = pd.DataFrame(
        {
            "age": (40 + 10 * size + 3 * rng.normal(size=600)).astype("int64"),
            "income": np.where(size < -0.5, 0.0, np.exp(8 + size + 0.2 * rng.normal(size=600))),
            "price": np.round(np.exp(size), 2),
            "children": pd.array(rng.poisson(1, 600), dtype="Int64"),
            "class": np.where(size > 0, "high", "low"),
        }
    )
    frame.loc[::9, "children"] = pd.NA
    model = GaussianVAE(2, network="mlp([64])", likelihood="mixed", epochs=60, random_state=0).fit(frame)
    drawn = model.sample(2000)
    assert drawn.dtypes.astype(str).tolist() == frame.dtypes.astype(str).tolist()
    numbers = ["age", "income", "price"]
    assert (drawn[numbers].min() >= frame[numbers].min()).all()
    assert (drawn[numbers].max() <= frame[numbers].max()).all()
    assert np.allclose(drawn["price"] * 100, np.rint(drawn["price"] * 100))
    assert (drawn["income"] == 0).mean() == pytest.approx((frame["income"] == 0).mean(), abs=0.06)
    assert np.corrcoef(drawn["age"], drawn["price"])[0, 1] > 0.5
    means = model.reconstruct(frame)
    assert means.dtypes.astype(str).tolist() == frame.dtypes.astype(str).tolist()
