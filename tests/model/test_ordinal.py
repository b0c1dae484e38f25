"""Levels with an order: probabilities that add up to one, and what an order is worth."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab import GaussianVAE, specs
from vaelab.errors import InputError
from vaelab.model import FixedVariance, Mixed
from vaelab.model.ordinal import ordered_log_probabilities

NAN = math.nan
LEVELS, ORDERED = (5, 0, 3, 5, 2), (True, False, True, False, True)
# a number, the levels of the category of two (an order of two is none), of three (ordered), of five, of five (ordered)
PLACES = {1: slice(0, 1), 4: slice(1, 3), 2: slice(3, 5), 3: slice(5, 10), 0: slice(10, 14)}


def raw(*shape, scale=2.0, seed=0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 3, 7, 200])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_probabilities_add_up_to_one(levels, scale):
    log_p = ordered_log_probabilities(raw(50, levels - 1, scale=scale))
    assert log_p.shape == (50, levels)
    assert log_p.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(50, dtype=torch.float64), rtol=1e-12, atol=0)
    if not scale:
        torch.testing.assert_close(
            log_p.exp(), torch.full((50, levels), 1 / levels, dtype=torch.float64), rtol=1e-4, atol=0
        )


def test_cumulative_logits_fall_and_all_move_with_the_first_number():
    one = raw(50, 6)
    above = ordered_log_probabilities(one).exp().flip(-1).cumsum(-1).flip(-1)[:, 1:].clamp(1e-12, 1 - 1e-12).logit()
    assert (above.diff(dim=-1) < 0).all()
    moved = one.clone()
    moved[:, 0] += 0.7
    higher = ordered_log_probabilities(moved).exp().flip(-1).cumsum(-1).flip(-1)[:, 1:].logit()
    inner = above.abs() < 10
    torch.testing.assert_close((higher - above)[inner], torch.full_like(above, 0.7)[inner], rtol=1e-5, atol=1e-5)


def test_gradients_are_finite_far_out():
    one = raw(20, 5, scale=200.0).float().requires_grad_()
    ordered_log_probabilities(one).sum().backward()
    assert one.grad.isfinite().all()


def test_mixed_tables_have_orders_beside_categories():
    likelihood = Mixed(LEVELS, FixedVariance(0.25), ordered=ORDERED).double()
    assert likelihood.ordered == (True, False, True, False, False)
    assert likelihood.parameter_shape((5,)) == (14,)
    parameters = raw(3, 14)
    x = torch.tensor([[4.0, 0.5, 2.0, 0.0, 1.0], [NAN, 1.0, 0.0, 3.0, NAN], [0.0, NAN, 1.0, NAN, 0.0]])
    wanted = torch.zeros(3, dtype=torch.float64)
    for j, place in PLACES.items():
        own, there = parameters[:, place], ~x[:, j].isnan()
        if not LEVELS[j]:
            nats = -torch.distributions.Normal(own[:, 0], 0.5).log_prob(x[:, j].nan_to_num().double())
        else:
            log_p = ordered_log_probabilities(own) if likelihood.ordered[j] else own.log_softmax(1)
            nats = -log_p.gather(1, x[:, j].nan_to_num().long()[:, None])[:, 0]
        wanted[there] += nats[there]
    torch.testing.assert_close(likelihood.nll(parameters, x.double()), wanted)


def test_samples_of_orders_follow_their_probabilities_and_means_are_the_most_likely():
    likelihood = Mixed(LEVELS, FixedVariance(0.25), ordered=ORDERED)
    parameters = raw(1, 14).float()
    drawn = likelihood.sample(parameters.repeat(20_000, 1), generator=torch.Generator().manual_seed(0))
    for j in (0, 2):
        p = ordered_log_probabilities(parameters[:, PLACES[j]]).exp()[0]
        found = torch.stack([(drawn[:, j] == level).float().mean() for level in range(LEVELS[j])])
        torch.testing.assert_close(found, p, atol=0.02, rtol=0)
        assert likelihood.mean(parameters)[0, j] == p.argmax()


def test_gaps_of_orders_get_the_level_that_is_most_likely_over_all_draws():
    likelihood = Mixed((4, 0), FixedVariance(1.0), ordered=(True, False)).double()
    parameters = raw(6, 1, 4)
    weights = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], dtype=torch.float64)[:, None]
    filled = likelihood.impute(torch.tensor([[NAN, 0.3]], dtype=torch.float64), parameters, weights)
    p = (weights[:, 0, None] * ordered_log_probabilities(parameters[:, 0, 1:]).exp()).sum(0)
    assert filled.tolist() == [[float(p.argmax()), 0.3]]


def test_orders_of_other_columns_are_refused():
    with pytest.raises(InputError, match="1 orders for 2 columns"):
        Mixed((0, 3), ordered=(True,))


def test_an_order_teaches():
    """Twenty levels in 300 rows: unseen rows are explained better, and samples keep the relation better."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        u = rng.normal(size=n)
        level = np.clip(np.round(4 * (u + 0.4 * rng.normal(size=n)) + 10), 0, 19).astype(int)
        return pd.DataFrame(
            {"x": u + 0.1 * rng.normal(size=n), "y": np.exp(u + 0.1 * rng.normal(size=n)), "level": level}
        )

    bound, related = {}, {}
    for kind in (specs.Category(levels=tuple(range(20))), specs.Ordered(levels=tuple(range(20)))):
        likelihood = specs.Mixed(columns={"level": kind})
        model = GaussianVAE(2, network="mlp([32])", likelihood=likelihood, epochs=150, lr=3e-3, random_state=0)
        model.fit(rows(300, 0))
        drawn = model.sample(4000)
        bound[kind.kind] = model.score_samples(rows(1000, 100)).mean()
        related[kind.kind] = np.corrcoef(drawn["x"], drawn["level"])[0, 1]
    assert bound["ordered"] > bound["category"] + 0.1, bound
    assert related["ordered"] > related["category"] + 0.05, related
