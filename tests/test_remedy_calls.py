"""Every call that a verdict prints works as it stands, for every kind of model that it is printed for."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import vaelab
from helpers import small_vae
from vaelab.cli import main
from vaelab.diagnostics import verdicts
from vaelab.diagnostics.diagnosis import Measures
from vaelab.diagnostics.verdicts import rules, verdicts_of
from vaelab.model import VAE, FixedVariance
from vaelab.specs import MLP
from vaelab.training import settings
from vaelab.verbs.diagnosis import _context
from vaelab.verbs.enhancement import Enhanced
from vaelab.verbs.remedies import Recalibrated
from vaelab.verbs.subject import subject_of

ROWS, COLUMNS = 150, 4
KINDS = ("estimator", "run", "vae", "foreign", "conditional")
EMPTY = Measures()
CALLS = [rule.name for rule in rules() if rule.call]


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward, self.outward = nn.Linear(COLUMNS, 4), nn.Linear(2, COLUMNS)

    def encode(self, x):
        return self.inward(x).chunk(2, 1)

    def decode(self, z):
        return self.outward(z)


def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 2)) @ rng.normal(size=(2, COLUMNS)) + 0.1 * rng.normal(size=(ROWS, COLUMNS))


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Let a stage whose length is not said take one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        for length in ("_STEPS", "_LEAST_STEPS", "_LEAST_EPOCHS"):
            patch.setattr(settings, length, 1)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory, brief):
    """Kind → model and y; the estimators use some of their three dimensions and leave others idle."""
    X, y = rows(), np.array(["left", "right", "middle"] * (ROWS // 3))
    short = {"latent_dim": 3, "network": MLP((16,)), "epochs": 50, "lr": 2e-2, "random_state": 0}
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "X.npy", X)
    options = "--latent-dim 3 --network mlp --network.hidden 16 --epochs 50 --lr 0.02 --densities gaussian --name run "
    options += "--quiet --likelihood gaussian(fixed(0.01))"
    assert main(["train", str(folder / "X.npy"), "--out", str(folder), *options.split()]) == 0
    torch.manual_seed(0)
    fixed = {**short, "likelihood": "gaussian(fixed(0.01))"}
    return {
        "conditional": (vaelab.ConditionalVAE(**fixed).fit(X, y), y),
        "estimator": (vaelab.GaussianVAE(**fixed).fit(X), None),
        "run": (str(folder / "run"), None),
        "vae": (small_vae(COLUMNS, 2, variance=FixedVariance(1.0)), None),
        "foreign": (Foreign(), None),
    }


def call_of(name, context, measures, monkeypatch):
    """Return what the verdict of a rule prints, with the rule as the one that always holds."""
    rule = next(rule for rule in rules() if rule.name == name)
    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "rules", lambda: (dataclasses.replace(rule, when=()),))
        (found,) = verdicts_of(measures, context)
    assert found.name == name
    return found.call


def evaluated(kind, name, models, monkeypatch, measures=EMPTY):
    """Run the call; return it and what it gives."""
    (model, y), X = models[kind], rows()
    X = torch.tensor(X, dtype=torch.float32) if kind in ("vae", "foreign") else X
    context = _context(subject_of(model, X, y))
    assert context.form == ("module" if kind in ("vae", "foreign") else "estimator")
    if context.epochs is not None:
        context = dataclasses.replace(context, epochs=1)
    call = call_of(name, context, measures, monkeypatch)
    found = eval(call, {"vaelab": vaelab, "model": model, "X": X, "y": y}) if call else None
    return call, found


def wanted(call, kind):
    """Return the type that a call gives."""
    if call.startswith("vaelab.GaussianVAE"):
        return vaelab.GaussianVAE
    if call.startswith("vaelab.enhance"):
        return Enhanced
    if kind in ("vae", "foreign"):
        return Recalibrated if call.startswith("vaelab.recalibrate") else VAE
    return {
        "conditional": vaelab.ConditionalVAE,
        "estimator": vaelab.GaussianVAE,
        "run": vaelab.TwoStageVAE,
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_the_call_of_a_verdict_works(name, kind, models, monkeypatch):
    call, found = evaluated(kind, name, models, monkeypatch)
    if not call:
        assert kind in ("vae", "foreign")
        return
    assert type(found) is wanted(call, kind), call
    source = found.vae if isinstance(found, Recalibrated) else found
    given = {} if kind != "conditional" or isinstance(found, vaelab.GaussianVAE) else {"y": models[kind][1][:2]}
    drawn = torch.as_tensor(source.sample(2, **given))
    assert drawn.shape == (2, COLUMNS)
    assert drawn.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["diag-i", "iso-d", "diag-d"])
def test_every_shape_that_is_suggested_can_be_trained(shape, kind, models, monkeypatch):
    measures = Measures(residuals=SimpleNamespace(gains=dict.fromkeys(("diag-i", "iso-d"), 0.0) | {shape: 1.0}))
    call, found = evaluated(kind, "variance-misshaped", models, monkeypatch, measures)
    assert shape in call
    variance = (found if isinstance(found, VAE) else found.trained_.vae).likelihood.variance
    assert (variance.diagonal, variance.per_sample) == (shape.startswith("diag"), shape.endswith("d"))
