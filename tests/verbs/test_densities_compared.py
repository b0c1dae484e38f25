"""`compare_densities`: the ranking, its errors, what is skipped, and every way to give a model."""

import importlib
import math

import numpy as np
import pytest
import torch

from vaelab import ConditionalVAE, GaussianVAE, compare_densities, runs
from vaelab.data import from_arrays
from vaelab.errors import InputError, MissingExtraError
from vaelab.latent import Codes, Mixture
from vaelab.runs import Draws
from vaelab.runs.stages import hold_out
from vaelab.specs import MLP, Settings

QUICK = {"network": MLP((16,)), "epochs": 3, "batch_size": 100}
SETTINGS = {"network": MLP((16,)), "training": {"epochs": 3, "batch_size": 100}}
FAST = ("prior", "gaussian", "mixture_10")


def ring(n=600, seed=0):
    """Points on a ring, whose codes are no Gaussian."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    plane = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(n, 2))
    return plane @ np.array([[1.0, 0.5, -0.5, 2.0], [0.0, 1.0, 1.0, -1.0]])


@pytest.fixture(scope="module")
def model():
    return GaussianVAE(latent_dim=2, network=MLP((32,)), epochs=40, lr=5e-3, random_state=0).fit(ring())


def test_densities_are_ranked_on_codes_that_none_has_seen(model):
    state = torch.get_rng_state()
    before = dict(model.trained_.densities)
    notes = []
    found = compare_densities(model, ring(), densities=FAST, seed=1, note=notes.append)
    assert torch.equal(state, torch.get_rng_state())
    assert model.trained_.densities == before
    assert (found.rows, found.held_out) == (480, 120)
    assert len(notes) == 2
    order = list(found.scores)
    assert order[0] == found.best == "mixture_10"
    nats = [found.scores[name].nats for name in order]
    assert nats == sorted(nats, reverse=True)
    top = found.scores[order[0]]
    assert (top.behind, top.behind_error) == (0, 0)
    for name in order[1:]:
        one = found.scores[name]
        assert one.behind == pytest.approx(top.nats - one.nats, abs=1e-9)
        assert one.behind > 2 * one.behind_error > 0
    again = compare_densities(model, ring(), densities=FAST, seed=1)
    assert {k: v.nats for k, v in again.scores.items()} == {k: v.nats for k, v in found.scores.items()}


def test_the_score_is_that_of_a_density_fitted_by_hand(model):
    found = compare_densities(model, ring(), densities=("gaussian",), seed=4)
    kept, unseen = hold_out(model.trained_.batches_of(from_arrays(ring()).train), Settings(held_out=0.2, seed=4))
    density = Mixture.fit(Codes.of(model.trained_.vae, kept), components=1, seed=4)
    z = Codes.of(model.trained_.vae, unseen).sample(generator=torch.Generator().manual_seed(4))
    assert found.scores["gaussian"].nats == pytest.approx(float(density.log_prob(z).mean()), abs=1e-5)


def test_what_is_fitted_can_be_drawn_from(model):
    found = compare_densities(model, ring(), densities=FAST)
    drawn = found.generator().sample(2000, generator=torch.Generator().manual_seed(0))
    assert isinstance(found.generator("gaussian").density, Mixture)
    assert found.generator().density is found.trained.densities["mixture_10"]
    assert drawn.shape == (2000, 4)
    rows = found.trained.sample(5, how=Draws("mixture_10"))
    assert rows.shape == (5, 4)
    assert found.trained.facts.best_density == found.best
    assert {law.name for law in found.trained.settings.densities} == {"gaussian", "mixture_10"}
    with pytest.raises(InputError, match="'flow'"):
        found.generator("flow")


def test_a_bound_is_marked_and_its_length_can_be_set(model):
    found = compare_densities(model, ring(200), densities=("second_stage", "gaussian"), epochs=1)
    assert found.trained.settings.density("second_stage").training.epochs == 1
    assert not found.scores["second_stage"].exact
    text = str(found)
    assert "≥ " in text
    assert "lower bound" in text
    assert text.splitlines()[0].startswith("40 held-out codes of 2 dimensions, after 160 to fit")
    assert "← simplest not clearly beaten" in text


def test_what_cannot_be_fitted_is_left_out_with_its_reason(model, monkeypatch):
    def absent():
        raise MissingExtraError("zuko", "flow", "The density 'flow'")

    monkeypatch.setattr(importlib.import_module("vaelab.latent.laws"), "require_zuko", absent)
    found = compare_densities(model, ring(90), densities=("gaussian", "mixture_100", "flow"))
    assert list(found.scores) == ["gaussian"]
    assert "72 codes" in found.skipped["mixture_100"]
    assert "pip install" in found.skipped["flow"]
    assert "- mixture_100: Got 72 codes" in str(found)
    with pytest.raises(InputError, match="no density that can be fitted"):
        compare_densities(model, ring(90), densities=("flow",))


def test_an_autoencoder_has_no_prior_but_one_drawn_to_it_has():
    data = from_arrays(ring(200))
    common = {
        **SETTINGS,
        "latent_dim": 2,
        "posterior": "deterministic",
        "likelihood": "gaussian(fixed)",
        "densities": (),
    }
    plain = runs.train(data, Settings(penalties="code_norm(weight=0.1)", **common))
    found = compare_densities(plain, data, densities=("prior", "gaussian"))
    assert list(found.scores) == ["gaussian"]
    assert "without a KL" in found.skipped["prior"]
    drawn = runs.train(data, Settings(penalties="mmd(weight=10.0)", **common))
    assert "prior" in compare_densities(drawn, data, densities=("prior", "gaussian")).scores


def test_models_from_folders_and_arrays(model, tmp_path):
    data = from_arrays(ring(200))
    trained = runs.train(data, Settings(**SETTINGS, latent_dim=2, densities=()))
    by_data = compare_densities(trained, data, densities=FAST)
    by_array = compare_densities(trained, ring(200), densities=FAST)
    runs.save(trained, tmp_path / "run")
    by_folder = compare_densities(tmp_path / "run", ring(200), densities=FAST)
    for other in (by_array, by_folder):
        assert other.scores["gaussian"].nats == pytest.approx(by_data.scores["gaussian"].nats, abs=1e-4)
    runs.save(by_data.trained, tmp_path / "better")
    again = runs.read_run(tmp_path / "better")
    assert set(again.densities) == set(FAST)
    assert torch.equal(again.sample(3, how=Draws("mixture_10")), by_data.trained.sample(3, how=Draws("mixture_10")))


def test_conditions_come_with_the_rows():
    x = ring(300)
    y = np.where(x[:, 0] > 0, "right", "left")
    model = ConditionalVAE(latent_dim=2, random_state=0, **QUICK).fit(x, y)
    found = compare_densities(model, x, y, densities=("gaussian", "bayesian_mixture", "mixture_10"))
    assert set(found.scores) == {"gaussian", "mixture_10"}
    assert "under conditions" in found.skipped["bayesian_mixture"]
    with pytest.raises(InputError):
        compare_densities(model, x, densities=("gaussian",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"densities": ("best",)}, "densities best"),
        ({"densities": ()}, "some of prior"),
        ({"X": None}, "without rows"),
        ({"X": ring(3)}, "held_out=0.2 sets 1 aside"),
        ({"X": ring(50)[:, :3]}, "(shape|features)"),
        ({"X": from_arrays(ring(50)[:, :3])}, "shape"),
        ({"X": from_arrays(ring(50)), "y": np.ones(50)}, "beside a data set"),
    ],
)
def test_wrong_input_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare_densities(model, **{"X": ring(50), **arguments})
    with pytest.raises(InputError, match="model of type"):
        compare_densities(math, ring(50))
