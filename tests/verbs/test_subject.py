"""`subject_of`: every way to give a model and rows ends in the same networks and the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import vaelab
from helpers import small_vae
from vaelab import ConditionalVAE, GaussianVAE, runs, wrap
from vaelab.data import Dataset, TestSplit, TrainSplit, from_arrays
from vaelab.errors import InputError
from vaelab.model import FixedVariance
from vaelab.runs.stages import hold_out
from vaelab.specs import MLP, FitSettings, Settings
from vaelab.verbs.subject import subject_of

QUICK = {"latent_dim": 2, "network": MLP((8,)), "epochs": 1, "random_state": 0}


class Autoencoder(nn.Module):
    """A foreign one, of points."""

    def __init__(self, shape=(4,)):
        super().__init__()
        self.shape, d = shape, int(np.prod(shape))
        self.inward, self.outward = nn.Linear(d, 2), nn.Linear(2, d)

    def encode(self, x):
        return self.inward(x.flatten(1))

    def decode(self, z):
        return self.outward(z).view(-1, *self.shape)


def rows_of(batches):
    return batches.take(torch.arange(len(batches)))[0]


def numbers(n=60, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def split_data(n=60, d=4):
    x = torch.from_numpy(numbers(n + 20, d))
    labels = torch.arange(n + 20) % 3
    train, test = TrainSplit(x[:n], labels[:n]), TestSplit(x[n:], labels[n:])
    return Dataset("points", "table", train, test, classes=("a", "b", "c"))


def test_an_estimator_and_what_it_has_trained_give_the_same_rows():
    X = numbers()
    model = GaussianVAE(**QUICK).fit(X)
    subject = subject_of(model, X)
    assert subject.trained is model.trained_
    assert subject.gamma_known
    assert subject.origin == "training"
    assert subject.held_out is None
    assert torch.allclose(rows_of(subject.batches).double(), torch.from_numpy((X - X.mean(0)) / X.std(0)), atol=1e-6)
    assert torch.equal(rows_of(subject_of(model.trained_, X).batches), rows_of(subject.batches))
    apart = subject_of(model, X, held_out=X[:5])
    assert torch.equal(rows_of(apart.held_out), rows_of(subject.batches)[:5])


def test_a_conditional_estimator_brings_conditions_and_labels():
    X, y = numbers(), np.array(["left", "right"] * 30)
    model = ConditionalVAE(**QUICK).fit(X, y)
    subject = subject_of(model, X, y, held_out=(X[:6], y[:6]))
    assert subject.labels.tolist() == [0, 1] * 30
    assert subject.batches.take(torch.arange(2))[1].tolist() == [[1, 0], [0, 1]]
    assert len(subject.held_out) == 6
    bare = subject_of(model.trained_, X, y)
    assert torch.equal(bare.labels, subject.labels)


def test_a_run_brings_the_rows_that_it_was_trained_on(tmp_path, monkeypatch):
    data = split_data()
    settings = Settings(
        latent_dim=2, network=MLP((8,)), training=FitSettings(epochs=1), densities=(), held_out=0.2, seed=3
    )
    trained = runs.train(data, settings)
    runs.save(trained, tmp_path / "run", {"data": {"data": "points"}})
    monkeypatch.setattr(runs, "data_of_run", lambda folder: data)
    subject = subject_of(tmp_path / "run")
    kept, _ = hold_out(trained.batches_of(data.train), settings)
    assert len(subject.batches) == trained.facts.rows == 48
    assert torch.equal(rows_of(subject.batches), rows_of(kept))
    assert torch.equal(rows_of(subject.held_out), rows_of(trained.batches_of(data.test)))
    assert subject.folder == tmp_path / "run"
    # the labels are still those of their rows
    everything = rows_of(trained.batches_of(data.train))
    places = [int((everything == x).all(1).nonzero()) for x in rows_of(subject.batches)]
    assert subject.labels.tolist() == [int(data.train.labels[place]) for place in places]
    given = subject_of(tmp_path / "run", data.train.x.numpy())
    assert (len(given.batches), given.held_out) == (60, None)


def test_a_bare_vae_takes_tensors_as_they_are():
    vae, x = small_vae(4, 2, variance=FixedVariance(0.3)), torch.from_numpy(numbers()).float() * 7 + 100
    subject = subject_of(vae, x, held_out=x[:3])
    trained = subject.trained
    assert trained.vae is vae
    assert torch.equal(rows_of(subject.batches), x)
    assert torch.equal(rows_of(subject.held_out), x[:3])
    assert trained.scaling.is_identity
    assert torch.equal(trained.scaling.from_net(x), x)
    assert (trained.settings.latent_dim, trained.settings.likelihood.variance.kind) == (2, "fixed")
    assert trained.settings.density("second_stage").training.epochs > 1
    assert trained.sample(3).shape == (3, 4)


def test_conditions_of_a_bare_vae_are_known_as_such():
    class Conditioned(nn.Module):
        def __init__(self, outputs, inputs):
            super().__init__()
            self.layer = nn.Linear(inputs + 3, outputs)

        def forward(self, x, c=None):
            return self.layer(torch.cat([x, c], 1))

    vae = type(small_vae())(Conditioned(4, 4), Conditioned(4, 2), latent_dim=2)
    x, c = torch.from_numpy(numbers()).float(), torch.eye(3).repeat(20, 1)
    subject = subject_of(vae, x, c)
    assert subject.labels.tolist() == [0, 1, 2] * 20
    assert torch.equal(subject.trained.conditions(c.numpy(), 60), c)
    with pytest.raises(InputError, match="floating-point tensor"):
        subject_of(vae, x, [0] * 60)


@pytest.mark.parametrize("shape", [(4,), (3, 8, 8), (5, 2), (8, 8, 1)])
def test_a_foreign_network_gets_rows_of_any_shape_as_they_are(shape):
    X = (np.random.default_rng(0).normal(size=(20, *shape)) * 300).astype(np.float32)
    subject = subject_of(Autoencoder(shape), X)
    assert subject.origin == "foreign"
    assert not subject.gamma_known
    assert subject.trained.settings.posterior.degenerate
    assert torch.equal(rows_of(subject.batches), torch.from_numpy(X))
    assert subject.trained.facts.kind == ("image" if shape == (3, 8, 8) else "table")
    assert subject.trained.facts.event_shape == shape
    subject.trained.scaling.check(torch.from_numpy(X))  # no range is wrong


def test_frames_data_sets_and_a_declared_variance():
    model, X = Autoencoder(), numbers()
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert torch.equal(rows_of(subject_of(model, frame).batches), torch.from_numpy(X).float())
    data = split_data()
    subject = subject_of(model, data)
    assert (len(subject.batches), len(subject.held_out)) == (60, 20)
    assert subject.labels.tolist() == data.train.labels.tolist()
    known = subject_of(model, X, gamma=0.25)
    assert known.gamma_known
    assert float(known.trained.vae.likelihood.variance.gamma) == 0.25


@pytest.mark.parametrize(("said", "asked"), [("log_variance", True), ("std", False)])
def test_an_encoder_that_returns_deviations_is_asked_about(said, asked):
    """A line with noise, and the exact posterior of its two-dimensional model."""
    x = torch.randn(300, 1, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 3)
    x = x + 0.3 * torch.randn(300, 3, generator=torch.Generator().manual_seed(1))

    def encode(rows):
        mean = rows.mean(1, keepdim=True) * 0.97
        return torch.cat([mean, 0 * mean], 1), torch.tensor([0.17, 1.0]).expand(len(rows), 2)

    model = vaelab.wrap(encode=encode, decode=lambda z: z[:, :1].expand(-1, 3), gamma=0.09, variance=said)
    notes = vaelab.diagnose(model, x, pictures=False).notes
    assert any("variance='std'" in note for note in notes) == asked


def test_wrapped_functions_are_subjects():
    basis = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0][:, :2]
    wrapped = wrap(encode=lambda x: x @ basis, decode=lambda z: z @ basis.T, gamma=0.5)
    X = numbers().astype(np.float32)
    subject = subject_of(wrapped, X)
    assert torch.allclose(subject.trained.reconstruct(torch.from_numpy(X)), torch.from_numpy(X) @ basis @ basis.T)


def test_what_cannot_be_a_subject_is_refused(tmp_path):
    X, vae = numbers(), small_vae(4, 2)
    with pytest.raises(InputError, match="uint8"):
        subject_of(Autoencoder((1, 8, 8)), np.zeros((9, 1, 8, 8), np.uint8))
    with pytest.raises(InputError, match="NaN"):
        subject_of(Autoencoder(), np.where(X > 2, np.nan, X))
    with pytest.raises(InputError, match="without rows"):
        subject_of(vae)
    with pytest.raises(InputError, match="has its own"):
        subject_of(vae, torch.zeros(9, 4), gamma=1.0)
    with pytest.raises(InputError, match="takes none"):
        subject_of(Autoencoder(), X, np.zeros(60))
    with pytest.raises(InputError, match="Fit it first"):
        subject_of(GaussianVAE(), X)
    with pytest.raises(InputError, match="type object"):
        subject_of(object(), X)
    with pytest.raises(InputError, match="as X"):
        subject_of(vae, torch.zeros(9, 4), held_out=torch.zeros(9, 5))
    model = GaussianVAE(**QUICK).fit(X)
    with pytest.raises(InputError, match="y beside"):
        subject_of(model, from_arrays(X), np.zeros(60))
    with pytest.raises(InputError, match="shape"):
        subject_of(model.trained_, X[:, :3])
