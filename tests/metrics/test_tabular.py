"""Measures of two tables: known answers where there is nothing to tell apart, and where everything is."""

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from vaelab.errors import InputError
from vaelab.metrics.tabular import area_of, clues, column_agreement, pair_agreement, teaches, tell_apart

LEVELS = (0, 0, 3)


def _rows(n, seed, *, correlation=0.8, shift=0.0):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=n)
    second = correlation * first + math.sqrt(1 - correlation**2) * rng.normal(size=n)
    kind = np.digitize(first, [-0.5, 0.5]).astype(float)
    return np.stack([first + shift, second, kind], 1)


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_one_law_are_not_told_apart_and_others_are(seed):
    same = tell_apart(_rows(600, 2 * seed), _rows(700, 2 * seed + 1), LEVELS, seed=seed)
    assert same.value == pytest.approx(0.5, abs=4 * same.error)
    assert same.error == pytest.approx(math.sqrt(1 / 12 / 600 * 2), rel=0.1)  # of an area of one half
    other = tell_apart(_rows(600, 2 * seed), _rows(600, 2 * seed + 1, correlation=-0.8), LEVELS, seed=seed)
    assert other.value > 0.85
    assert tell_apart(_rows(300, 0), _rows(300, 0), LEVELS).value < 0.3  # copies
    with pytest.raises(InputError, match="at least 50"):
        tell_apart(_rows(49, 0), _rows(300, 0), LEVELS)


def test_columns_agree_as_distribution_functions_and_shares_do():
    real, fake = _rows(500, 0), _rows(400, 1, shift=0.5)
    real[:50, 1] = math.nan
    found = column_agreement(real, fake, LEVELS)
    assert found[0] == pytest.approx(1 - ks_2samp(real[:, 0], fake[:, 0]).statistic)
    assert found[1] == pytest.approx(1 - ks_2samp(real[50:, 1], fake[:, 1]).statistic)
    shares = [np.bincount(part[:, 2].astype(int), minlength=3) / len(part) for part in (real, fake)]
    assert found[2] == pytest.approx(1 - np.abs(shares[0] - shares[1]).sum() / 2)
    assert np.isnan(column_agreement(np.full((60, 1), np.nan), np.zeros((60, 1)), (0,)))[0]


def test_pairs_agree_as_correlations_and_joint_shares_do():
    real, fake = _rows(5000, 0), _rows(5000, 1, correlation=-0.6)
    found = pair_agreement(real, fake, LEVELS)
    assert found[0, 1] == pytest.approx(1 - (0.8 + 0.6) / 2, abs=0.02)
    assert np.allclose(found, found.T, equal_nan=True)
    assert np.isnan(np.diag(found)).all()
    assert found[0, 2] > 0.95  # the class is a function of the first number in both
    assert found[1, 2] < 0.6
    kinds = np.stack([real[:, 2], fake[:, 2]], 1)
    joint = [np.zeros((3, 3)), np.zeros((3, 3))]
    for table, rows in zip(joint, (kinds, kinds[::-1, ::-1]), strict=True):
        np.add.at(table, tuple(rows.astype(int).T), 1 / len(rows))
    wanted = 1 - np.abs(joint[0] - joint[1]).sum() / 2
    assert pair_agreement(kinds, kinds[:, ::-1], (3, 3))[0, 1] == pytest.approx(wanted)


def test_what_rows_teach():
    real, train = _rows(800, 0), _rows(800, 1)
    assert teaches(train, real, 1, LEVELS) == pytest.approx(0.8**2, abs=0.12)
    assert teaches(train, real, 2, LEVELS) > 0.95
    assert teaches(_rows(800, 2, correlation=0.0), real, 1, LEVELS) < 0.1
    assert math.isnan(teaches(train * [1, 1, 0], real, 2, LEVELS))
    gaps = np.where(np.arange(800)[:, None] % 5 == 0, np.nan, train)
    assert teaches(gaps, real, 2, LEVELS) > 0.9


def test_the_area_of_scores_and_its_error_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    low, high = rng.normal(size=200), rng.normal(size=50) + 1
    found = area_of(low, high)
    above = (high[:, None] > low).mean()
    assert found.value == pytest.approx(above)
    areas = [area_of(rng.normal(size=200), rng.normal(size=50) + 1).value for _ in range(300)]
    assert found.error == pytest.approx(np.std(areas), rel=0.35)
    assert found.interval == pytest.approx((found.value - 1.96 * found.error, found.value + 1.96 * found.error))


def test_trees_go_by_what_differs():
    real, fake = _rows(600, 0), _rows(600, 1, correlation=-0.8)
    found = clues(real, fake, LEVELS)
    assert min(found[0] + found[2], found[1]) > 0.2  # the second column, beside the first or the class
    assert np.abs(clues(_rows(600, 0), _rows(600, 1), LEVELS)).max() < 0.1
    assert clues(_rows(600, 0), _rows(600, 1, shift=3.0), LEVELS).argmax() == 0
