"""The estimator contract, judged by scikit-learn, and what users of arrays expect beyond it."""

import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaelab
from helpers import sealed
from vaelab import ConditionalVAE, GaussianVAE, RegularizedAutoencoder, SequenceVAE, Settings, TwoStageVAE, specs
from vaelab.errors import RunFolderError, VaelabWarning
from vaelab.specs import MLP, Compute, FitSettings

QUICK = {
    "latent_dim": 2,
    "network": MLP((8,)),
    "compute": Compute(accelerator="cpu"),
    "epochs": 2,
    "batch_size": 20,
    "score_draws": 2,
    "random_state": 0,
}
QUICK_TWO = {
    **QUICK,
    "densities": (
        "gaussian",
        "mixture(components=1, covariance=diag)",
        specs.SecondStage(hidden=(8,), training=FitSettings(epochs=2)),
    ),
}


QUICK_AUTOENCODER = {n: v for n, v in QUICK_TWO.items() if n != "score_draws"}


@parametrize_with_checks([GaussianVAE(**QUICK), TwoStageVAE(**QUICK_TWO), RegularizedAutoencoder(**QUICK_AUTOENCODER)])
@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def table(n=120):
    rng = np.random.default_rng(0)
    u = rng.normal(size=(n, 2))
    return 100 + 7 * u @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(n, 5))


def images(dtype=np.uint8, channels=1):
    rng = np.random.default_rng(0)
    return (rng.random((40, channels, 8, 8)) * 255).astype(dtype)


ESTIMATORS = [GaussianVAE, ConditionalVAE, TwoStageVAE, RegularizedAutoencoder, SequenceVAE]
OF_SEQUENCES = {"units", "context", "loss", "shared_prior"}


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_arguments_are_the_settings_and_few(cls):
    """At most 16, each a setting under its name, a length, or scikit-learn's; all documented."""
    ours = {n for n in inspect.signature(cls.__init__).parameters if n != "self"}
    assert len(ours) <= 16
    lengths, own = {"epochs", "batch_size", "lr"}, {"random_state", "score_draws", "verbose"}
    assert ours <= set(Settings.model_fields) - {"seed"} | lengths | own | OF_SEQUENCES
    for name in ours:
        assert name in cls.__doc__, f"{name} is not documented"


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_defaults_are_those_of_the_settings(cls):
    settings, default = cls().settings(), Settings()
    if cls is SequenceVAE:  # of numbers
        default = default.suited(mixed=False)
    left = {"latent_dim", "densities", "condition", "network"}
    left |= {"likelihood", "penalties", "posterior"} if cls is RegularizedAutoencoder else set()
    for name in set(Settings.model_fields) - left:
        assert getattr(settings, name) == getattr(default, name)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_what_is_inside_an_argument_can_be_searched(cls):
    model = cls(latent_dim=2, epochs=3)
    twin = clone(model).set_params(
        training__lr=1e-4, training__schedule="step(3)", likelihood__floor=1e-3, compute__accelerator="cpu"
    )
    settings = twin.settings()
    assert (settings.training.epochs, settings.training.lr, settings.training.schedule.every) == (3, 1e-4, 3)
    assert (settings.likelihood.floor, settings.compute.accelerator) == (1e-3, "cpu")
    assert model.settings() == cls(latent_dim=2, epochs=3).settings()
    assert clone(twin).settings() == settings
    assert twin.get_params()["training__lr"] == 1e-4
    assert clone(model).set_params(training=FitSettings(lr=1.0)).set_params(training__lr=2.0).training.lr == 2.0
    assert clone(model).set_params(lr=1.0).set_params(training__lr=2.0).settings().training.lr == 2.0
    for wrong in ({"latent": 3}, {"training__ls": 3}, {"training__schedule": "stap"}, {"nothing__lr": 1}):
        with pytest.raises(ValueError, match=r"latent_dim|lr|step|some of"):
            clone(model).set_params(**wrong)


def test_a_grid_searches_inside_arguments():
    grid = {"training__weight_decay": [0.0, 0.1], "likelihood__variance": ["profiled", "fixed(2)"]}
    model = GaussianVAE(latent_dim=1, network=MLP((4,)), epochs=1, random_state=0)
    search = GridSearchCV(model, grid, cv=2).fit(table(40))
    assert set(search.best_params_) == set(grid)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, lambda x: pd.DataFrame(x, columns=list("abcde"))])
def test_what_comes_out_is_like_what_went_in(make):
    X = make(table())
    model = TwoStageVAE(**QUICK_TWO).fit(X)
    for out in (model.sample(3), model.inverse_transform(np.zeros((3, 2))), model.reconstruct(X[:3])):
        assert type(out) is type(X)
        assert out.shape == (3, 5)
        assert np.asarray(out).dtype == np.float64
    assert 80 < np.asarray(model.sample(50)).mean() < 120, "samples are not in the table's own units"
    assert model.transform(X).shape == (120, 2)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.float32, 1), (np.float64, 1)])
def test_images_keep_shape_dtype_and_range(dtype, top):
    X = images().astype(dtype) if top == 255 else (images() / 255).astype(dtype)
    model = TwoStageVAE(**QUICK_TWO).fit(X)
    out = model.sample(4)
    assert (out.shape, out.dtype) == ((4, 1, 8, 8), X.dtype)
    assert out.min() >= 0
    assert top * 0.2 < out.max() <= top
    assert model.reconstruct(X[:2]).dtype == X.dtype


def test_images_in_minus_one_to_one_come_back_so():
    X = 0.2 * (images() / 127.5 - 1)
    X[..., :4] -= 0.8
    X[..., 4:] += 0.8
    out = GaussianVAE(**{**QUICK, "epochs": 400, "batch_size": 18}).fit(X).sample(8)
    assert -1 <= out.min() < -0.5
    assert 0.5 < out.max() <= 1


def test_scores_are_in_the_units_of_the_table():
    """A change of units by a factor s moves log-densities by d·log s."""
    X = table()
    one, other = GaussianVAE(**QUICK).fit(X), GaussianVAE(**QUICK).fit(1000 * X)
    np.testing.assert_allclose(one.score_samples(X) - other.score_samples(1000 * X), 5 * np.log(1000), rtol=1e-4)


def test_score_is_a_lower_bound_close_to_the_truth():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(1, 4))
    X = rng.normal(size=(2000, 1)) @ W + 0.3 * rng.normal(size=(2000, 4))
    covariance = W.T @ W + 0.09 * np.eye(4)
    from scipy.stats import multivariate_normal

    truth = multivariate_normal(np.zeros(4), covariance).logpdf(X).mean()
    model = GaussianVAE(
        latent_dim=2, network=MLP((64,)), compute=Compute(accelerator="cpu"), epochs=40, random_state=0
    ).fit(X)
    assert truth - 0.4 < model.score(X) < truth + 0.1
    # standardised columns have unequal noise, so one γ is not exact: hence 0.4


def test_pipeline_set_output_and_names():
    frame = pd.DataFrame(table(), columns=list("abcde"))
    pipeline = make_pipeline(StandardScaler(), GaussianVAE(**QUICK)).set_output(transform="pandas")
    codes = pipeline.fit_transform(frame)
    assert list(codes.columns) == ["gaussianvae0", "gaussianvae1"]
    assert list(pipeline[-1].get_feature_names_out()) == list(codes.columns)
    assert codes.index.equals(frame.index)


@pytest.mark.parametrize("cls", [GaussianVAE, TwoStageVAE])
@pytest.mark.parametrize("X", [table(), images()], ids=["table", "images"])
def test_save_and_load(cls, X, tmp_path):
    model = cls(**(QUICK if cls is GaussianVAE else QUICK_TWO)).fit(X)
    model.save(tmp_path / "run")
    assert not [p for p in (tmp_path / "run").iterdir() if p.suffix in {".pkl", ".pt", ".pth"}]
    again = vaelab.load(tmp_path / "run")
    assert type(again) is cls
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    np.testing.assert_allclose(again.sample(5), model.sample(5), rtol=1e-6)
    np.testing.assert_array_equal(again.variance_ratios_, model.variance_ratios_)
    assert clone(again).get_params() == again.get_params()


def test_saved_frames_come_back_as_frames(tmp_path):
    frame = pd.DataFrame(table(), columns=list("abcde"))
    GaussianVAE(**QUICK).fit(frame).save(tmp_path / "run")
    out = vaelab.load(tmp_path / "run").sample(2)
    assert list(out.columns) == list("abcde")


def test_pickle_and_randomness():
    X = table()
    model = TwoStageVAE(**QUICK_TWO).fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.sample(3), model.sample(3))
    assert not np.array_equal(model.sample(3, random_state=1), model.sample(3, random_state=2))
    drawn = {name: model.sample(3, density=name) for name in ("prior", "gaussian", "mixture_1_diag", "second_stage")}
    assert len({array.tobytes() for array in drawn.values()}) == 4
    assert set(model.code_scores_) == set(drawn)


def test_wrong_input_says_what_was_got_wanted_and_what_to_do():
    X = table()
    fitted = GaussianVAE(**QUICK).fit(X)
    holed = X.copy()
    holed[3, 1] = np.nan
    holed[5, 1] = np.inf
    channels_last = np.zeros((10, 8, 8, 3), np.uint8)
    cases = [
        (lambda: GaussianVAE(**QUICK).fit(holed), r"2 .*(NaN|inf)"),
        (lambda: GaussianVAE(**QUICK).fit(X[:, 0]), r"1D array|1-D|\(120,\)"),
        (lambda: GaussianVAE(**QUICK).fit(np.zeros((9, 8, 8))), r"X\[:, None\]"),
        (lambda: GaussianVAE(**QUICK).fit(channels_last), r"transpose\(0, ?3, ?1, ?2\)"),
        (lambda: GaussianVAE(**{**QUICK, "network": "auto"}).fit(np.zeros((9, 1, 4, 4), np.uint8)), "8"),
        (lambda: GaussianVAE(**{**QUICK, "latent_dim": 0}).fit(X), "latent_dim=0"),
        (lambda: GaussianVAE(**{**QUICK, "network": "infogan"}).fit(X), "network='infogan'"),
        (lambda: GaussianVAE(**{**QUICK, "network": "infogam"}).fit(X), "infogam"),
        (lambda: GaussianVAE(**QUICK, likelihood="bernoulli").fit(X), "pixels"),
        (lambda: GaussianVAE(**QUICK, likelihood="gaussian(profiled(1, true))").fit(X), "at most 1"),
        (lambda: GaussianVAE(likelihood="gaussian(variance=fixed(-1.0))", **QUICK).fit(X), "value=-1"),
        (lambda: fitted.transform(X[:, :3]), "3 features"),
        (lambda: fitted.inverse_transform(np.zeros((2, 7))), r"\(2, 7\)"),
        (lambda: fitted.sample(0), "at least 1"),
        (lambda: fitted.sample(2.5), "whole number"),
        (lambda: GaussianVAE(**{**QUICK, "score_draws": 2.5}).fit(X), "score_draws=2.5"),
        (lambda: fitted.inverse_transform(np.full((2, 2), np.nan)), "NaN"),
        (lambda: TwoStageVAE(**{**QUICK_TWO, "densities": ()}).fit(X), "GaussianVAE"),
        (lambda: GaussianVAE(**{**QUICK, "batch_size": 1, "network": "auto"}).fit(images()), "batch norm"),
        (lambda: GaussianVAE(**QUICK).fit(images()).transform(images() / 255), "uint8"),
        (lambda: TwoStageVAE(**QUICK_TWO).fit(X).sample(2, density="flow"), "one of auto, prior"),
        (lambda: TwoStageVAE(**{**QUICK_TWO, "densities": ("mixtures",)}).fit(X), "mixtures"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_constant_columns_warn_by_name_and_come_back():
    frame = pd.DataFrame(table(), columns=list("abcde")).assign(c=3.5)
    with pytest.warns(VaelabWarning, match="constant column.*: c"):
        model = GaussianVAE(**QUICK).fit(frame)
    np.testing.assert_allclose(model.reconstruct(frame)["c"], 3.5, atol=2)


def test_noiseless_data_reach_the_floor_and_say_so():
    X = np.random.default_rng(0).normal(size=(300, 1)) @ np.ones((1, 3))
    model = GaussianVAE(likelihood="gaussian(floor=0.05)", lr=1e-2, **{**QUICK, "epochs": 100})
    with pytest.warns(VaelabWarning, match="floor"):
        model.fit(X)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.yaml").unlink(), "without config.yaml"),
        (lambda run: (run / "config.yaml").write_text("a: 1"), "did not write"),
        (lambda run: (run / "config.yaml").write_text("a: [1"), "unreadable"),
        (lambda run: _edit(run, "format: 2", "format: 3"), "newer vaelab"),
        (lambda run: _edit(run, "format: 2", "format: 1"), "Train it again"),
        (lambda run: _edit(run, "latent_dim: 2", "latent_dim: 3", seal=False), "changed since it was written"),
        (lambda run: _edit(run, "latent_dim: 2", "latent_dim: 3"), "differ in"),
        (lambda run: _edit(run, "latent_dim: 2", "latent_dim: 30000000"), "differ in"),
        (lambda run: _edit(run, "latent_dim: 2", "latent_dimm: 2"), "did you mean 'latent_dim'"),
        (lambda run: (run / "model.safetensors").unlink(), "finished run"),
        (lambda run: (run / "model.safetensors").write_bytes(b"\x80\x04pickle"), "unreadable file"),
        (lambda run: _truncate(run / "model.safetensors"), "unreadable file"),
    ],
)
def test_broken_run_folders_are_refused(damage, message, tmp_path):
    run = tmp_path / "run"
    GaussianVAE(**QUICK).fit(table()).save(run)
    damage(run)
    with pytest.raises(RunFolderError, match=message):
        vaelab.load(run)


def test_no_folder_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match="no such folder"):
        vaelab.load(tmp_path / "nothing")


def _edit(run, old, new, *, seal=True):
    path = run / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    if seal:
        sealed(path)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def test_fit_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianVAE(**QUICK).fit(table())


def test_a_loaded_model_has_all_of_its_settings(tmp_path, recwarn):
    model = GaussianVAE(**QUICK, penalties=("kl(2)", "mmd(3)"), training=FitSettings(beta1=0.5)).fit(table())
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert again.settings(0) == again.trained_.settings == model.trained_.settings
    assert not [one for one in recwarn if issubclass(one.category, VaelabWarning)]


def test_an_autoencoder_round_trips_and_has_no_bound(tmp_path):
    X = table()
    model = RegularizedAutoencoder(penalties=("code_norm", "weight_norm", "mmd(weight=1.0)"), **QUICK_AUTOENCODER).fit(
        X
    )
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert type(again) is RegularizedAutoencoder
    assert again.settings().penalty("mmd") == 1.0
    np.testing.assert_allclose(again.transform(X), model.transform(X))
    np.testing.assert_allclose(again.sample(3, random_state=1), model.sample(3, random_state=1))
    assert not hasattr(model, "score_samples")
    assert model.score(X) < 0
