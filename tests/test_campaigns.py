"""A few trials of each campaign of random harm; ``python -m tests.campaigns`` does as many as wanted."""

import sys

import numpy as np
import pytest

if sys.platform == "win32":
    pytest.skip("processes that are forked", allow_module_level=True)

from campaigns import damage, kill, write_errors
from campaigns.ground import Ground, TrialError


def _many(few, all_of_them):
    return [each if each in few else pytest.param(each, marks=pytest.mark.campaign) for each in all_of_them]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("campaign") / "ground")


@pytest.mark.parametrize("seed", _many([0], range(8)))
def test_a_training_that_is_killed_ends_at_the_same_model(ground, seed):
    kill.trial(ground, np.random.default_rng([17, seed]))


@pytest.mark.parametrize("seed", _many([0], range(20)))
def test_a_damaged_run_is_named_or_gives_the_right_result(ground, seed):
    damage.trial(ground, np.random.default_rng([17, seed]))


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.campaign) for n in range(1, 4))])
@pytest.mark.parametrize("verb", _many(["save", "sample"], write_errors.VERBS))
def test_a_disk_that_takes_nothing_is_said_and_nothing_is_half_written(ground, verb, seed):
    write_errors.trial(ground, np.random.default_rng([17, seed]), verb)


@pytest.mark.campaign
def test_a_campaign_notices_another_model(ground, monkeypatch):
    monkeypatch.setattr(ground, "tensors", {})
    with pytest.raises(TrialError, match="another model"):
        kill.trial(ground, np.random.default_rng(1))
