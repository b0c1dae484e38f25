"""Membership inference: nothing where there is nothing, all where training rows are given away."""

import math

import numpy as np
import pytest

from vaelab.metrics.privacy import copies, membership

LEVELS = (0, 0, 0, 3, 0)
NUMBERS = [0, 1, 2, 4]


def _rows(n, seed):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n)
    rows = np.stack(
        [
            u + 0.5 * rng.normal(size=n),
            np.exp(u + rng.normal(size=n)),
            np.maximum(0, u + rng.normal(size=n)),
            np.digitize(u + 0.5 * rng.normal(size=n), [-0.5, 0.5]),
            rng.normal(size=n),
        ],
        axis=1,
    )
    rows[rng.random(n) < 0.2, 0] = math.nan
    return rows


def _jittered(rows, by, seed=0):
    out = rows.copy()
    noise = np.random.default_rng(seed).normal(size=(len(rows), len(NUMBERS)))
    out[:, NUMBERS] += by * np.nanstd(rows, 0)[NUMBERS] * noise
    return out


def test_a_model_that_knows_the_law_gives_nothing_away():
    scores = []
    for seed in range(12):
        found = membership(_rows(400, 3 * seed), _rows(200, 3 * seed + 1), _rows(400, 3 * seed + 2), LEVELS)
        scores.append((found.value - 0.5) / found.error)
    assert abs(np.mean(scores)) < 3 / math.sqrt(12)
    assert 0.5 < np.std(scores) < 1.6  # the interval is as wide as it should be


@pytest.mark.parametrize(("by", "least"), [(0.0, 0.999), (0.02, 0.75), (0.05, 0.65)])
def test_a_model_that_memorises_is_found(by, least):
    train, unseen = _rows(500, 0), _rows(300, 1)
    found = membership(train, unseen, _jittered(train, by), LEVELS)
    assert found.value > least
    assert found.interval[0] > 0.5
    # and one that memorises rows in dense parts alone, where distance to the nearest fake row says nothing
    half = np.concatenate([_jittered(train[:250], 0.01), _rows(250, 2)])
    assert membership(train, unseen, half, LEVELS).interval[0] > 0.55


def test_distances_are_taken_relative_to_those_of_real_rows():
    """Half of the rows are dense: any fake row is near to those, and so says little of them."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        width = np.where(rng.random((n, 1)) < 0.5, 0.01, 1.0)
        return rng.normal(size=(n, 1)) + width * rng.normal(size=(n, 5))

    train = rows(500, 0)
    fake = train + 0.05 * np.random.default_rng(1).normal(size=train.shape)
    found = [membership(train, rows(300, seed), fake, (0,) * 5).value for seed in (2, 3)]
    assert np.mean(found) > 0.78  # 0.72 by the distance alone


def test_levels_and_gaps_count_too():
    rng = np.random.default_rng(0)
    train, unseen, other = (rng.integers(0, 5, (300, 12)).astype(float) for _ in range(3))
    assert membership(train, unseen, train, (5,) * 12).value > 0.95
    apart = membership(train, unseen, other, (5,) * 12)
    assert apart.value == pytest.approx(0.5, abs=3 * apart.error)
    gaps = [np.where(rng.random((300, 20)) < 0.5, math.nan, 1.0) for _ in range(3)]
    assert membership(gaps[0], gaps[1], gaps[0], (0,) * 20).value > 0.95
    apart = membership(gaps[0], gaps[1], gaps[2], (0,) * 20)
    assert apart.value == pytest.approx(0.5, abs=3 * apart.error)


def test_what_cannot_be_told_is_nan():
    train, unseen = _rows(100, 0), _rows(100, 1)
    assert math.isnan(membership(train, unseen[:49], train, LEVELS).value)
    assert math.isnan(membership(train, train[:60], unseen, LEVELS).value)  # nothing is unseen
    again = membership(train, unseen, train, LEVELS, seed=3)
    assert again == membership(train, unseen, train, LEVELS, seed=3)


def test_copies_are_equal_in_all_columns():
    train = np.array([[1.0, math.nan], [0.0, 2.0], [3.0, 3.0]])
    rows = np.array([[1.0, math.nan], [-0.0, 2.0], [3.0, math.nan], [1.0, 1.0]])
    assert copies(rows, train) == 0.5


@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
def test_rows_that_were_trained_on_are_no_unseen_ones(share):
    train, unseen = _rows(400, 0), _rows(300, 1)
    unseen[: int(share * 300)] = train[: int(share * 300)]
    assert math.isnan(membership(train, unseen, _rows(300, 2), LEVELS).value)


def test_rows_that_repeat_by_chance_may_be_compared():
    few = [np.random.default_rng(seed).integers(0, 4, (400, 3)).astype(float) for seed in range(3)]
    assert copies(few[1], few[0]) > 0.9
    assert membership(*few, (4, 4, 4)).value == pytest.approx(0.5, abs=0.1)
