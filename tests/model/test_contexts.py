"""`evaluating`: every part of a module has its own mode again afterwards, whatever happened in between."""

import math

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.errors import NonFiniteObjectiveError
from vaelab.model.contexts import evaluating


def modes(*modules):
    return [part.training for module in modules for part in module.modules()]


def mixed():
    """In training mode, but for a batch norm and for a part whose own part trains."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    network[1].eval()
    network[2].eval()
    network[2][0].train()
    return network


@pytest.mark.parametrize("whole", [True, False])
def test_every_part_has_its_own_mode_again(whole):
    network = mixed()
    network.training = whole
    before = modes(network)
    with evaluating(network):
        assert not any(modes(network))
    assert modes(network) == before == [whole, True, False, False, True, False]


def test_also_after_an_exception():
    network = mixed()
    before = modes(network)
    with pytest.raises(ZeroDivisionError), evaluating(network):
        1 / 0  # noqa: B018
    assert modes(network) == before


def test_blocks_may_be_nested():
    network = mixed()
    before = modes(network)
    with evaluating(network):
        with evaluating(network[2]):
            pass
        assert not any(modes(network))
    assert modes(network) == before


def test_modules_may_share_parts():
    shared = nn.Dropout()
    one, other = nn.Sequential(shared, nn.Dropout()), nn.Sequential(nn.Dropout(), shared)
    other.eval()
    shared.train()
    before = modes(one, other)
    with evaluating(one, other):
        assert not any(modes(one, other))
    assert modes(one, other) == before == [True, True, True, False, False, True]


class Folding(nn.Linear):
    """Does more than note its mode, as layers with an additional part of low rank do."""

    folded = False

    def train(self, mode=True):
        self.folded = not mode
        return super().train(mode)


@pytest.mark.parametrize("training", [True, False])
def test_what_a_mode_brings_with_it_is_undone(training):
    network = nn.Sequential(Folding(2, 2))
    network.eval()
    network[0].train(training)
    with evaluating(network):
        assert network[0].folded
    assert network[0].folded is not training


@pytest.mark.parametrize("finite", [True, False])
def test_a_calibration_leaves_the_modes(finite):
    vae = small_vae().train()
    vae.encoder.eval()
    before = modes(vae)
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    if not finite:
        x[3] = math.inf
        with pytest.raises(NonFiniteObjectiveError):
            vae.calibrate(Rows(x), generator=torch.Generator().manual_seed(0))
    else:
        vae.calibrate(Rows(x), generator=torch.Generator().manual_seed(0))
    assert modes(vae) == before
