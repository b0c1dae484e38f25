"""The classifier two-sample test."""

import math

import pytest
import torch

from vaelab.errors import InputError
from vaelab.metrics.two_sample import two_sample_accuracy


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_one_law_cannot_be_told_apart(seed):
    # held out: 151 rows of either kind
    found = two_sample_accuracy(normal(400, 3, seed=seed), normal(301, 3, seed=seed + 10), seed=seed)
    assert found.standard_error == pytest.approx(math.sqrt(found.accuracy * (1 - found.accuracy) / 302))
    assert abs(found.accuracy - 0.5) < 4 * found.standard_error


def test_copies_of_rows_show_as_an_accuracy_below_one_half():
    """A held-out copy has its twin, of the other kind, in training half of the time."""
    x = normal(400, 3)
    found = two_sample_accuracy(x, x)
    assert found.accuracy < 0.5 - 4 * found.standard_error


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_separated_laws_are_always_told_apart(shift):
    x = normal(200, 2).double() + shift
    assert two_sample_accuracy(x, x + 20) == (1.0, 0.0)


def test_shifted_laws_come_close_to_the_best_possible_accuracy():
    """Two unit Gaussians 3 apart: the best rule is right with probability Φ(1.5) = 0.933."""
    found = two_sample_accuracy(normal(2000, 1), normal(2000, 1, seed=1) + 3)
    assert 0.89 < found.accuracy < 0.933 + 4 * found.standard_error


def test_unequal_numbers_are_balanced():
    """Nine real rows to one generated: always saying "real" would be right nine times in ten."""
    found = two_sample_accuracy(normal(1800, 2), normal(200, 2, seed=1))
    assert abs(found.accuracy - 0.5) < 4 * found.standard_error
    assert found.standard_error == pytest.approx(0.5 / math.sqrt(200), rel=0.1)


def test_a_seed_fixes_the_result():
    x, y = normal(200, 2), normal(200, 2, seed=1) + 0.7
    state = torch.get_rng_state()
    assert two_sample_accuracy(x, y, seed=3) == two_sample_accuracy(x, y, seed=3)
    assert len({two_sample_accuracy(x, y, seed=seed).accuracy for seed in range(4)}) > 1
    assert torch.equal(state, torch.get_rng_state()), "global randomness was used"


def test_too_few_rows_are_refused():
    with pytest.raises(InputError, match=r"fake with 49 row\(s\).*≥ 50"):
        two_sample_accuracy(normal(60, 2), normal(49, 2))
