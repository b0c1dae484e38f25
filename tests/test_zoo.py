"""Models with a known fault get the verdict that names it, and sound ones no alarm; over seeds."""

from __future__ import annotations

import warnings

import pytest

from vaelab import enhance
from vaelab.errors import VaelabWarning
from zoo import BROKEN, SEEDS, SOUND, confusion

HALF = len(BROKEN) // 2


@pytest.mark.campaign
@pytest.mark.parametrize("kinds", [SOUND, BROKEN[:HALF], BROKEN[HALF:]], ids=["sound", "broken", "broken too"])
def test_the_main_verdict_is_right_nine_times_of_ten(kinds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        found = confusion(kinds)
    right = sum(found[kind.name][kind.verdict] for kind in kinds)
    assert right >= 0.9 * len(kinds) * len(SEEDS), found


@pytest.mark.parametrize("kind", [*SOUND, *BROKEN], ids=lambda kind: kind.name)
def test_one_model_of_each_kind_gets_its_verdict(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        assert confusion([kind], SEEDS[:1]) == {kind.name: {kind.verdict: 1}}


@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.campaign) for seed in SEEDS[1:])])
def test_enhancement_brings_samples_of_a_mismatched_model_nearer(seed):
    patient = next(kind for kind in BROKEN if kind.verdict == "prior-mismatch").make(seed)
    better = enhance(patient.model, patient.X, densities=("prior", "gaussian", "mixture_10"), samples=500, seed=seed)
    assert better.better
    assert better.distances[better.best].energy < better.distances["prior"].energy
