"""What analyses and remedies leave of a model that is somebody else's: everything, to the last mode."""

import random

import numpy as np
import pytest
import rich.style  # noqa: F401  draws from Python's generator when it is imported, as the first training does
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab import TwoStageVAE, diagnose, enhance, recalibrate, specs, wrap
from vaelab.diagnostics.dimension import dimensions_of
from vaelab.diagnostics.measures import off_manifold, reconstruction
from vaelab.diagnostics.prune import prune
from vaelab.diagnostics.variance_pictures import row_variances
from vaelab.errors import InputError
from vaelab.latent import Codes, Generator, PriorDensity
from vaelab.model import VAE
from vaelab.specs import MLP, FitSettings
from vaelab.verbs.subject import modules_of


def sheet(n=160, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, 2)) @ np.array([[1.0, 2, 0, 1], [0, 1, 1, -1]])
    return torch.from_numpy(u + 0.1 * rng.normal(size=(n, 4))).float()


class BlownError(Exception):
    """Of a network whose calls are counted."""


class Net(nn.Module):
    """Layers that differ between the modes, of which some are frozen and some have gradients."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, outputs)
        )
        self.layers[1].running_mean.normal_()
        self.layers[0].weight.requires_grad_(False)
        self.layers[4].weight.grad = torch.randn_like(self.layers[4].weight)
        self.calls_left = None

    def forward(self, x, c=None):
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise BlownError
        return self.layers(x)


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = Net(4, 4), Net(2, 4)

    def encode(self, x):
        return self.inner(x).chunk(2, 1)

    def decode(self, z):
        return self.outer(z)


def uneven(model):
    """Put a model into training mode, but for some parts of its parts."""
    for module in modules_of(model):
        module.train()
        parts = list(module.modules())
        for part in parts[2::3]:
            part.training = False
    return model


def made(kind):
    torch.manual_seed(0)
    if kind == "vae":
        return uneven(VAE(Net(4, 4), Net(2, 4), latent_dim=2))
    if kind == "module":
        return uneven(Foreign())
    if kind == "wrapped":
        own = Foreign()
        return uneven(wrap(own.encode, own.decode, gamma=0.5))
    settings = {
        "network": MLP((8,)),
        "densities": ("gaussian", "mixture", specs.SecondStage(hidden=(8,), training=FitSettings(epochs=2))),
        "epochs": 2,
        "random_state": 0,
    }
    return uneven(TwoStageVAE(latent_dim=2, **settings).fit(sheet().numpy()))


def state(model):
    """All that could change, and the global states of randomness."""
    parts = [part for module in modules_of(model) for part in module.modules()]
    assert {part.training for part in parts} == {True, False}
    weights = [p for module in modules_of(model) for p in module.parameters()]
    kept = [t for module in modules_of(model) for t in (*module.parameters(), *module.buffers())]
    kept += [p.grad for p in weights if p.grad is not None]
    return (
        [part.training for part in parts],
        [(p.requires_grad, p.grad is None) for p in weights],
        [t.detach().numpy().tobytes() for t in kept],
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
    )


ACTIONS = {
    "diagnose": lambda model, x: diagnose(model, x, held_out=sheet(100, 1).to(x) if torch.is_tensor(x) else None),
    "diagnose without pictures": lambda model, x: diagnose(model, x, pictures=False),
    "enhance": lambda model, x: enhance(model, x, densities=("gaussian",), samples=50),
    "recalibrate": lambda model, x: recalibrate(model, x),
}
KINDS = ("vae", "module", "wrapped", "estimator")


@pytest.fixture(autouse=True)
def _random_states():
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    torch.set_rng_state(before[0])
    np.random.set_state(before[1])  # noqa: NPY002
    random.setstate(before[2])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_left_as_it_is(kind, action):
    model, x = made(kind), sheet()
    before = state(model)
    ACTIONS[action](model, x.numpy() if kind == "estimator" else x)
    assert state(model) == before


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("kind", "calls"), [("vae", 0), ("vae", 2), ("module", 0), ("module", 6)])
def test_also_if_it_fails_on_the_way(kind, action, calls):
    model = made(kind)
    broken = model.decoder if kind == "vae" else model.outer
    broken.calls_left = calls
    before = state(model)
    adapting = kind == "module" and calls == 0  # where whatever goes wrong becomes a message
    with pytest.raises(InputError if adapting else BlownError, match="Blown" if adapting else None):
        ACTIONS[action](model, sheet())
    assert state(model) == before


MEASURES = {
    "a mean over rows": lambda vae, rows: reconstruction(vae, rows),
    "codes": lambda vae, rows: Codes.of(vae, rows),
    "a count of dimensions": lambda vae, rows: dimensions_of(vae, rows),
    "samples off the manifold": lambda vae, rows: off_manifold(vae, rows, {}),
    "variances of rows": lambda vae, rows: row_variances(vae, rows.x),
    "samples": lambda vae, rows: Generator(vae, PriorDensity(vae.prior)).sample(3000),
    "a calibration": lambda vae, rows: vae.calibrate(rows, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_gives_the_modes_back(measure):
    vae, rows = made("vae"), Rows(sheet())
    before = state(vae)[0]
    MEASURES[measure](vae, rows)
    assert state(vae)[0] == before
    vae.encoder.calls_left = vae.decoder.calls_left = 0
    with pytest.raises(BlownError):
        MEASURES[measure](vae, rows)
    assert state(vae)[0] == before


def test_a_model_is_left_as_it_is_by_a_failed_pruning(monkeypatch):
    def fail(*args):
        raise BlownError

    vae = uneven(small_vae(4))
    before = state(vae)
    monkeypatch.setattr(VAE, "reconstruct", fail)
    with pytest.raises(BlownError):
        prune(vae, Rows(sheet()), keep=[0, 1])
    assert state(vae) == before


@pytest.mark.parametrize("kind", ["vae", "module"])
def test_what_was_enhanced_draws_in_evaluation_mode(kind):
    model = made(kind)
    before = state(model)
    found = enhance(model, sheet(), densities=("gaussian",), samples=50)
    first, second = (found.sample(20, seed=3) for _ in range(2))
    assert torch.equal(first, second)  # with dropout they would differ
    whole = found.sample(200, seed=3)
    model.eval()
    assert torch.equal(whole, found.sample(200, seed=3))
    uneven(model)
    assert state(model) == before
