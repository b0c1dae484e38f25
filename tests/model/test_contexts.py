"""`evaluating`: every part of a module has its own mode again afterwards, whatever happened in between."""

import math

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.errors import NonFiniteObjectiveError
from vaelab.model import VAE, Conditional, Gaussian, absorb_prior
from vaelab.model.contexts import evaluating
from vaelab.nets import MLPDecoder
from vaelab.specs import Compute
from vaelab.training import FitSettings, fit
from vaelab.training.evaluation import mean_objective


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


class Frozen(nn.Module):
    """An encoder whose batch norm can be frozen while the rest is trained."""

    def __init__(self):
        super().__init__()
        self.norm, self.rest = nn.BatchNorm1d(6), nn.Linear(6, 6)

    def forward(self, x, c=None):
        return self.rest(self.norm(x))


def frozen_vae():
    vae = small_vae()
    vae.encoder = Frozen()
    vae.train()
    vae.encoder.norm.eval()
    return vae


def test_a_frozen_norm_stays_frozen_through_a_whole_training():
    vae, x = frozen_vae(), torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) + 3
    seen = []
    vae.encoder.norm.register_forward_hook(lambda norm, *_: seen.append((norm.training, vae.training)))
    fit(vae, Rows(x), FitSettings(epochs=3, batch_size=10), compute=Compute(accelerator="cpu"), held_out=Rows(x[:10]))
    assert {(False, True), (False, False)} == set(seen)  # steps and held-out rows
    assert vae.encoder.norm.num_batches_tracked == 0
    assert torch.equal(vae.encoder.norm.running_mean, torch.zeros(6))
    assert not any(modes(vae))


@pytest.mark.parametrize("finite", [True, False])
def test_the_objective_of_unseen_rows_leaves_the_modes(finite):
    vae, x = frozen_vae(), torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    before = modes(vae)
    if finite:
        mean_objective(vae, Rows(x))
    else:
        with pytest.raises(IndexError):
            mean_objective(vae, Unreadable(x))
    assert modes(vae) == before


class Unreadable(Rows):
    def take(self, index, noise=None):
        raise IndexError


def test_absorbing_a_prior_leaves_the_modes():
    network = nn.Linear(2, 6)
    vae = VAE(Frozen(), MLPDecoder(3, (6,)), latent_dim=3, prior=Conditional(network, 3), likelihood=Gaussian())
    vae.encoder.norm.eval()
    before = modes(vae)
    absorbed = absorb_prior(vae)
    assert modes(vae) == before
    assert absorbed.training
    assert not absorb_prior(vae.eval()).training
