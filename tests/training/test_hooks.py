"""Onlookers of a training: what they are told, how they end it, and what is left where they fail."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from helpers import Rows, curved_manifold, small_vae
from vaelab import GaussianVAE, SequenceVAE, TwoStageVAE, VAEDetector, VAEImputer, specs
from vaelab.data import from_arrays
from vaelab.errors import InputError
from vaelab.runs import train
from vaelab.specs import Settings
from vaelab.training import Compute, FitSettings, Hook, fit
from vaelab.training.hooks import hooks_of

QUICK = {"latent_dim": 2, "network": "mlp([8])", "compute": Compute(accelerator="cpu"), "random_state": 0}
SECOND = specs.SecondStage(hidden=(4,), training=FitSettings(epochs=5))
CPU = Compute(accelerator="cpu", checkpoint_seconds=0.0)
X = curved_manifold(60, d=4).double().numpy()


class Watching(Hook):
    """Notes what it is told; fails, or ends the training, in an epoch."""

    def __init__(self, *, fails=0, ends=0, begins=True):
        self.fails, self.ends, self.begins, self.told = fails, ends, begins, []

    def start(self, start):
        self.told.append("start")
        if not self.begins:
            raise OSError("no place")

    def epoch(self, record):
        self.told.append(record["epoch"])
        if record["epoch"] == self.fails:
            raise RuntimeError("a callback's own")
        return record["epoch"] == self.ends

    def end(self):
        self.told.append("end")


def rows(n=100):
    return Rows(curved_manifold(n, d=6))


def test_a_hook_ends_a_training_which_stays_ended(tmp_path):
    """The model is that of the steps so far, and resuming does not go on."""
    settings, state = FitSettings(epochs=5, batch_size=16, schedule="constant"), tmp_path / "state.safetensors"
    model, same, resumed = small_vae(), small_vae(), small_vae(seed=5)
    first, other = Watching(ends=2), Watching()
    history = fit(model, rows(), settings, compute=CPU, state_file=state, hooks=[first, other])
    assert (first.told, other.told) == (["start", 1, 2, "end"], ["start", 1, 2, "end"])
    fit(same, rows(), settings.set_params(epochs=2), compute=CPU)
    again = fit(resumed, rows(), settings, compute=CPU, state_file=state, resume=True)
    assert again == history
    for name, value in same.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
        assert torch.equal(resumed.state_dict()[name], value), name
    assert not model.training


@pytest.mark.parametrize("begins", [True, False])
def test_where_one_hook_fails_all_that_were_begun_end(begins):
    first, failing, last = Watching(), Watching(fails=1, begins=begins), Watching()
    with pytest.raises(RuntimeError if begins else OSError, match="a callback's own" if begins else "no place"):
        fit(small_vae(), rows(), FitSettings(epochs=2), compute=CPU, hooks=[first, failing, last])
    assert first.told == (["start", 1, "end"] if begins else ["start", "end"])
    assert last.told == (["start", "end"] if begins else [])


def test_an_estimator_calls_back_in_both_stages():
    records = []
    model = TwoStageVAE(**QUICK, epochs=3, densities=SECOND).fit(X, callbacks=[records.append])
    assert {str(record["stage"])[:9] for record in records} == {"stage one", "stage two"}
    one, two = ([r for r in records if r["stage"] == stage] for stage in ("stage one", "stage two"))
    assert ([r["epoch"] for r in one], [r["epoch"] for r in two]) == ([1, 2, 3], [1, 2, 3, 4, 5])
    wanted = {"loss", "distortion", "kl", "gamma", "active_dimensions", "held_out_loss", "seconds", "lr", "step"}
    assert wanted <= one[0].keys()
    assert "callbacks" not in model.get_params()
    silent = clone(model).fit(X)  # a callback looks on, and changes nothing
    np.testing.assert_array_equal(silent.transform(X), model.transform(X))


def test_only_true_ends_a_stage_and_the_next_one_is_trained():
    heard = []

    def second_epoch(record):
        heard.append((record["stage"], record["epoch"]))
        if record["stage"] == "stage two":
            return record["loss"]  # a number is no answer
        return np.bool_(heard[-1][1] == 2)

    train(from_arrays(X), Settings(2, "mlp([8])", training=FitSettings(4), densities=(SECOND,)), hooks=[second_epoch])
    assert [epoch for stage, epoch in heard if stage == "stage one"] == [1, 2]
    assert [epoch for stage, epoch in heard if stage == "stage two"] == [1, 2, 3, 4, 5]


def test_what_a_callback_does_to_its_record_stays_there():
    hooks = hooks_of([lambda record: record.clear()])
    history = fit(small_vae(), rows(), FitSettings(epochs=2), compute=CPU, hooks=hooks)
    assert [record["epoch"] for record in history] == [1, 2]


def test_a_callback_that_fails_leaves_an_estimator_as_it_was():
    model = GaussianVAE(**QUICK, epochs=2).fit(X)
    before = dict(vars(model))
    with pytest.raises(ZeroDivisionError):
        model.fit(X, callbacks=[lambda record: 1 / 0])
    assert vars(model) == before
    fresh = GaussianVAE(**QUICK, epochs=2)
    with pytest.raises(ZeroDivisionError):
        fresh.fit(X, callbacks=[lambda record: 1 / 0])
    assert not [name for name in vars(fresh) if name.endswith("_")]


@pytest.mark.parametrize("wrong", [print, [Hook], [3], "loss", None])
def test_what_calls_nothing_back_is_refused(wrong):
    with pytest.raises(InputError, match="functions of a record"):
        GaussianVAE(**QUICK, epochs=2).fit(X, callbacks=wrong)


@pytest.mark.parametrize(
    "fit_one",
    [
        lambda calls: SequenceVAE(2, units=4, epochs=2, random_state=0).fit([X[:9, :2]] * 3, callbacks=calls),
        lambda calls: VAEImputer(GaussianVAE(**QUICK, epochs=2)).fit_transform(X, callbacks=calls),
        lambda calls: VAEDetector(GaussianVAE(**QUICK, epochs=2), random_state=0).fit(X, callbacks=calls),
        lambda calls: make_pipeline(GaussianVAE(**QUICK, epochs=2), LogisticRegression()).fit(
            X, X[:, 0] > 0, gaussianvae__callbacks=calls
        ),
    ],
    ids=["sequences", "imputer", "detector", "pipeline"],
)
def test_every_fit_calls_back(fit_one):
    records = []
    fit_one([records.append])
    assert [record["epoch"] for record in records][:2] == [1, 2]
