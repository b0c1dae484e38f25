"""`fit(X, y)`, `sample(n, y)`, `transform(X, y)` of conditional estimators, in every form of y; and sequences."""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import vaelab
from vaelab import ConditionalVAE, GaussianVAE, SequenceVAE, Settings, TwoStageVAE, specs
from vaelab.cli import main
from vaelab.errors import InputError, VaelabWarning
from vaelab.specs import MLP, Compute, FitSettings

QUICK = {
    "latent_dim": 2,
    "network": MLP((16,), "relu"),
    "condition": "standard(hidden=[8])",
    "epochs": 2,
    "batch_size": 20,
    "score_draws": 2,
}
QUICK |= {"compute": Compute(accelerator="cpu"), "random_state": 0}
TWO = QUICK
SECOND = specs.SecondStage((8,), FitSettings(2))
N = 60
KINDS = np.array(["left", "middle", "right"])[np.arange(N) % 3]


def rows(kind=KINDS, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([-4.0, 0.0, 4.0])[np.unique(kind, return_inverse=True)[1]][:, None] + rng.normal(
        size=(len(kind), 3)
    )


FORMS = {
    "text": (KINDS, "left"),
    "whole numbers": (np.arange(N) % 3, 2),
    "numbers": (np.linspace(0, 1, N), 0.5),
    "vectors": (np.random.default_rng(1).normal(size=(N, 4)), [0.1, 0.2, 0.3, 0.4]),
    "a mixed table": (pd.DataFrame({"a": np.linspace(0, 1, N), "b": KINDS}), [0.5, "left"]),
    "sequences": ([np.ones((2 + i % 3, 2)) * i for i in range(N)], np.zeros((4, 2))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_condition(form, tmp_path):
    y, one = FORMS[form]
    X = rows()
    model = ConditionalVAE(**QUICK).fit(X, y)
    assert model.transform(X, y).shape == (N, 2)
    assert model.inverse_transform(np.zeros((N, 2)), y).shape == X.shape
    assert model.reconstruct(X, y).shape == X.shape
    assert np.isfinite(model.score_samples(X, y)).all()
    assert model.sample(5, one).shape == (5, 3)
    assert model.sample(N, y).shape == (N, 3)
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert type(again) is ConditionalVAE
    assert np.array_equal(again.sample(5, one, random_state=1), model.sample(5, one, random_state=1))
    for call in (
        lambda: model.sample(5),
        lambda: model.transform(X),
        lambda: model.score_samples(X),
        lambda: model.inverse_transform(np.zeros((2, 2))),
        lambda: clone(model).fit(X),
    ):
        with pytest.raises(InputError, match="no y, for a conditional model"):
            call()


@pytest.mark.parametrize("form", ["text", "vectors"])
def test_two_stages_are_conditional_throughout(form, tmp_path):
    y, one = FORMS[form]
    X = rows()
    model = TwoStageVAE(**TWO, densities=("gaussian", "mixture(1, diag)", "flow(training(epochs=2))", SECOND)).fit(X, y)
    assert set(model.code_scores_) == {"prior", "gaussian", "mixture_1_diag", "flow", "second_stage"}
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    for density in ("auto", *model.code_scores_):
        drawn = model.sample(4, one, density=density, random_state=3)
        assert drawn.shape == (4, 3)
        assert np.array_equal(again.sample(4, one, density=density, random_state=3), drawn), density
        with pytest.raises(InputError, match="no y"):
            model.sample(4, density=density)


def test_samples_follow_the_class():
    """A short training suffices to tell three clusters apart, whatever the density of the codes."""
    y = np.repeat(KINDS, 10)
    X = rows(y)
    settings = {
        **TWO,
        "densities": ("mixture", specs.SecondStage((8,), FitSettings(10))),
        "epochs": 40,
        "lr": 5e-3,
    }
    model = TwoStageVAE(**settings).fit(X, y)
    for density in ("prior", "mixture", "second_stage"):
        means = [model.sample(200, kind, density=density).mean() for kind in ("left", "middle", "right")]
        assert means == pytest.approx([-4, 0, 4], abs=0.8), density
    assert model.classes_ == ("left", "middle", "right")


@pytest.mark.parametrize("prior", ["standard", "conditional"])
@pytest.mark.parametrize("posterior", ["diagonal", "isotropic", "full"])
@pytest.mark.parametrize("attention", [True, False])
def test_the_axes_combine(posterior, prior, attention, tmp_path):
    X = rows()
    settings = {**TWO, "posterior": posterior, "condition": {"kind": prior, "attention": attention}}
    model = TwoStageVAE(**settings, densities=("gaussian",)).fit(X, KINDS)
    assert np.isfinite(model.score(X, KINDS))
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert np.array_equal(again.transform(X, KINDS), model.transform(X, KINDS))
    assert len(model.variance_ratios_) == 2


def test_an_unconditional_full_posterior():
    model = GaussianVAE(latent_dim=2, network=MLP((8,)), posterior="full", epochs=2, random_state=0)
    assert model.fit(rows()).transform(rows()).shape == (N, 2)


def test_a_conditional_image_model():
    X = (np.random.default_rng(0).random((N, 1, 8, 8)) * 255).astype(np.uint8)
    model = ConditionalVAE(latent_dim=2, compute=Compute(accelerator="cpu"), epochs=1, random_state=0).fit(X, KINDS)
    assert model.sample(2, "left").shape == (2, 1, 8, 8)


def test_pipelines_pass_targets_that_are_no_conditions():
    model = make_pipeline(TwoStageVAE(**{**TWO, "condition": None}, densities=("gaussian",)), LogisticRegression())
    assert model.fit(rows(), KINDS).predict(rows()).shape == (N,)
    with pytest.raises(InputError, match=r"takes none.*condition="):
        GaussianVAE(latent_dim=2, network=MLP((8,)), epochs=1).fit(rows()).transform(rows(), KINDS)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"condition": "shared"}, "lstm"),
        ({"network": "lstm"}, "SequenceVAE"),
        ({"condition": "conditionel"}, "Did you mean 'conditional'"),
    ],
)
def test_contradictions_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        TwoStageVAE(**{**TWO, **settings}).fit(rows(), KINDS)


def test_an_unknown_class_and_a_class_of_one():
    y = KINDS.copy()
    y[0] = "once"
    model = TwoStageVAE(**TWO, densities=("mixture",)).fit(rows(), y)
    assert model.sample(3, "once", density="mixture").shape == (3, 3)
    with pytest.raises(InputError, match=r"unknown class nowhere.*left"):
        model.sample(3, "nowhere")
    with pytest.raises(InputError, match="2 conditions in y for 3 rows"):
        model.sample(3, ["left", "right"])


def waves(n, seed):
    """Points that go round a circle by half a radian a step."""
    rng = np.random.default_rng(seed)
    found = []
    for steps in rng.integers(3, 9, n):
        angle = rng.uniform(0, 2 * np.pi) + 0.5 * np.arange(steps)
        found.append(10 + 3 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.01 * rng.normal(size=(steps, 2)))
    return found


SHORT = {
    "latent_dim": 2,
    "compute": Compute(accelerator="cpu"),
    "units": 16,
    "epochs": 2,
    "score_draws": 2,
    "random_state": 0,
}


def test_sequences_go_on_where_the_prefix_ends(tmp_path):
    X = waves(200, 0)
    model = SequenceVAE(**{**SHORT, "epochs": 60, "lr": 1e-2}).fit(X)
    unseen = waves(20, 1)
    prefixes = [x[:-1] for x in unseen if len(x) > 3]
    last = np.stack([x[-1] for x in unseen if len(x) > 3])
    drawn = model.sample(len(prefixes), steps=1, prefix=prefixes, observation_noise=False)[:, 0]
    assert ((drawn - last) ** 2).mean() < 0.02 * last.var(0).mean()
    assert model.score(waves(20, 2)) > model.score([x[::-1] for x in waves(20, 2)]), "backwards is another direction"
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert type(again) is SequenceVAE
    assert (again.settings(), again.context) == (model.settings(), 7)
    assert np.array_equal(again.sample(2, 3, random_state=1), model.sample(2, 3, random_state=1))
    assert np.allclose(again.score_samples(X), model.score_samples(X))


def test_dimensions_of_points_by_their_place():
    """On circles only the first point is open; a circle closes on itself, which takes a dimension more."""
    X = waves(200, 0)
    model = SequenceVAE(**{**SHORT, "epochs": 200, "lr": 1e-2, "latent_dim": 4}).fit(X)
    found = vaelab.manifold_dimension(model, X)
    assert list(found.groups)[:2] == ["point 1", "point 2"]
    assert found.groups["point 1"].by_gap == 2
    assert {one.by_gap for name, one in found.groups.items() if name != "point 1"} == {0}


def test_scores_of_a_sequence_add_up_over_its_points():
    """The score of a sequence is the sum of those of its points, each given those before it, in X's own units."""
    X = waves(30, 0)
    model = SequenceVAE(**SHORT).fit(X)
    points, trained = model.as_dataset([X[3]]).train, model.trained_
    each = [
        trained.bound(points.x[i : i + 1], model.score_noise_, points.c.index_select(0, torch.tensor([i])))
        for i in range(len(X[3]))
    ]
    assert model.score_samples([X[3]])[0] == pytest.approx(float(torch.cat(each).sum()))
    tenfold = SequenceVAE(**SHORT).fit([10 * x for x in X])
    change = model.score_samples(X) - tenfold.score_samples([10 * x for x in X])
    assert change == pytest.approx([len(x) * 2 * np.log(10) for x in X], abs=1e-3)
    only_last = SequenceVAE(**SHORT, loss="last").fit(X)
    assert only_last.score_samples(X[:4]).shape == (4,)
    assert only_last.transform(X).shape == (30, 2)


def test_sequences_in_every_form():
    X = np.stack([x[:3] for x in waves(20, 0)])
    padded = np.full((20, 5, 2), np.nan)
    padded[:, :3] = X
    first = SequenceVAE(**SHORT).fit(X)
    for same in (list(X), torch.tensor(X), padded, [pd.DataFrame(x) for x in X]):
        other = clone(first).fit(same)
        assert np.allclose(other.score_samples(X), first.score_samples(X))
    shared = SequenceVAE(**SHORT, shared_prior=True, context=2).fit(X)
    assert shared.context_ == 2
    assert shared.sample(3, 2, prefix=X[0]).shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, X: m.sample(2, 3, prefix=X[:3]), "3 prefixes for n=2"),
        (lambda m, X: m.sample(2, 3, prefix=X[0][:, :1]), "1 features per step.*2"),
        (lambda m, X: m.score_samples([X[0], X[1][:, :1]]), "same features"),
        (lambda m, X: m.sample(2, 0), "steps=0"),
        (lambda m, X: clone(m).set_params(loss="al").fit(X), "loss='al'"),
        (lambda m, X: vaelab.manifold_dimension(m, X, ["a"] * 20), "A point's condition is its past"),
        (lambda m, X: vaelab.prune(m, X), "a SequenceVAE"),
        (lambda m, X: clone(m).fit([]), "without a sequence"),
        (lambda m, X: clone(m).set_params(loss="last").fit(X).sample(2, 3), "no prefix"),
    ],
)
def test_wrong_sequences_are_refused(call, text):
    X = waves(20, 0)
    model = SequenceVAE(**SHORT).fit(X)
    with pytest.raises(InputError, match=text):
        call(model, X)


def test_pruning_leaves_an_ordinary_model(tmp_path):
    """Idle dimensions go; reconstructions and samples stay, in memory and through a file."""
    rng = np.random.default_rng(0)
    y = np.array(["flat", "steep"])[np.arange(600) % 2]
    X = rng.normal(size=(600, 1)) * np.where(y == "flat", 0.5, 2.0)[:, None] * np.ones((1, 4))
    X = X + 0.01 * rng.normal(size=X.shape)
    settings = {
        **TWO,
        "latent_dim": 6,
        "training": FitSettings(schedule="one_cycle"),
        "epochs": 200,
        "batch_size": 60,
        "lr": 5e-3,
    }
    settings |= {
        "network": MLP((16,), "relu"),
        "likelihood": "gaussian(variance=learned)",
        "condition": "standard(attention=false, hidden=[8])",
    }
    model = TwoStageVAE(**settings, densities=("gaussian",)).fit(X, y)
    small = model.prune(X, y)
    assert small.latent_dim == len(small.pruned_.kept) < 6
    assert small.pruned_.parity, small.pruned_
    assert small.transform(X, y) == pytest.approx(model.transform(X, y)[:, list(small.pruned_.kept)], abs=1e-5)
    assert np.abs(small.reconstruct(X, y) - model.reconstruct(X, y)).max() < 0.05
    assert set(small.code_scores_) == {"prior", "gaussian"}
    small.save(tmp_path / "small")
    again = vaelab.load(tmp_path / "small")
    assert np.array_equal(again.sample(4, "flat", random_state=1), small.sample(4, "flat", random_state=1))
    model.save(tmp_path / "whole")
    assert vaelab.prune(tmp_path / "whole", X, y, keep=[0, 1]).latent_dim == 2
    assert vaelab.prune(model.trained_.vae, torch.randn(9, 4), torch.eye(2)[[0] * 9], keep=[3]).vae.latent_dim == 1
    with pytest.raises(InputError, match="without rows"):
        vaelab.prune(model)


def test_masks_and_numbers_to_keep():
    X = rows()
    model = GaussianVAE(latent_dim=3, network=MLP((8,)), epochs=2, random_state=0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        for keep in ([2, 0], torch.tensor([True, False, True]), np.array([0, 2])):
            assert model.prune(X, keep=keep).pruned_.kept == (0, 2)
        for keep in ([0.5], [True, False], [3], [], [2, 0, 2]):
            with pytest.raises(InputError):
                model.prune(X, keep=keep)
        fewer = TwoStageVAE(**{**TWO, "latent_dim": 3, "condition": None}, densities=("gaussian",)).fit(X)
        facts = fewer.prune(X[:4], keep=[0]).trained_.facts
        assert (facts.rows, facts.scored_on_training) == (4, True)


def test_a_run_is_pruned_on_its_own_rows(tmp_path):
    frame = pd.DataFrame(rows(), columns=list("abc")).assign(kind=KINDS)
    frame.to_csv(tmp_path / "trees.csv", index=False)
    fast = "--latent-dim 3 --network mlp --network.hidden 8 --epochs 2 --densities gaussian --conditional "
    fast += "--label-column kind --quiet"
    assert main(["train", str(tmp_path / "trees.csv"), *fast.split(), "--out", str(tmp_path)]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        small = vaelab.prune(tmp_path / "trees", keep=[1])
    assert small.latent_dim == 1
    assert small.sample(2, "left").shape == (2, 3)
    with pytest.raises(InputError, match="a int"):
        vaelab.prune(3)


def test_columns_of_a_frame_are_told_apart():
    frame = pd.DataFrame(rows(), columns=list("abc"))
    model = ConditionalVAE(**QUICK).fit(frame, KINDS)
    with pytest.raises((InputError, ValueError), match=r"(?i)feature names|columns"):
        vaelab.manifold_dimension(model, frame[["c", "b", "a"]], KINDS)
    with pytest.raises(InputError, match="in this order"):
        vaelab.manifold_dimension(model.trained_, frame[["c", "b", "a"]], KINDS)


def test_what_is_refused_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("vaelab.runs.first_stage.fit_stage", lambda *_, **__: pytest.fail("trained"))
    y = FORMS["sequences"][0]
    with pytest.raises(InputError, match="gaussian under conditions that are sequences"):
        TwoStageVAE(**TWO).fit(rows(), y)
    with pytest.raises(InputError, match="1 conditions in y for 60 rows"):
        ConditionalVAE(**QUICK).fit(rows(), ["left"])
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match="flow"):
        TwoStageVAE(**TWO, densities=("flow",)).fit(rows(), KINDS)


def test_points_of_one_sequence_are_held_out_together():
    from vaelab.data import as_batches

    hold_out = sys.modules[vaelab.runs.train.__module__].hold_out
    groups = torch.arange(20).repeat_interleave(5)
    kept, apart = hold_out(as_batches(groups[:, None].double()), Settings(), groups=groups)
    inside, outside = set(kept.take(torch.arange(len(kept)))[0].flatten().tolist()), set()
    outside.update(apart.take(torch.arange(len(apart)))[0].flatten().tolist())
    assert (len(kept), len(apart)) == (90, 10)
    assert not inside & outside
    assert hold_out(as_batches(torch.zeros(50, 1)), Settings(), groups=torch.zeros(50))[1] is None
