"""Missing entries and columns given the others, from rows to rows: means, draws, intervals, probabilities, imputers."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaelab.runs.imputation as imputation
from vaelab import ConditionalVAE, GaussianVAE, RegularizedAutoencoder, VAEImputer
from vaelab.cli import main
from vaelab.errors import InputError, VaelabWarning
from vaelab.specs import MLP, Compute

QUICK = {
    "latent_dim": 2,
    "network": MLP((8,)),
    "compute": Compute(accelerator="cpu"),
    "epochs": 2,
    "batch_size": 20,
    "score_draws": 2,
    "random_state": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")

D, NOISE = 6, 0.4
WEIGHT = np.random.default_rng(9).normal(size=(D, 2))
MEAN, COVARIANCE = 10.0 * np.arange(D), WEIGHT @ WEIGHT.T + NOISE**2 * np.eye(D)


def linear(n, seed=0):
    rng = np.random.default_rng(seed)
    return MEAN + rng.normal(size=(n, 2)) @ WEIGHT.T + NOISE * rng.normal(size=(n, D))


@pytest.fixture(scope="module", params=["gaussian", "mixed"])
def fitted(request):
    settings = {**QUICK, "latent_dim": 4, "network": MLP((64,)), "epochs": 60, "batch_size": 100, "lr": 3e-3}
    likelihood = f"{request.param}(shape=diag-i)"
    return GaussianVAE(**settings, likelihood=likelihood).fit(linear(2000))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_means_spread_and_coverage_of_linear_data(fitted, rate):
    """Of models that have seen no gap: they are those of the exact conditionals."""
    whole = linear(400, seed=1)
    gone = np.random.default_rng(2).random(whole.shape) < rate
    X = np.where(gone, np.nan, whole)
    mean, deviation = np.zeros_like(X), np.ones_like(X)
    for i, m in enumerate(gone):
        gain = COVARIANCE[m][:, ~m] @ np.linalg.pinv(COVARIANCE[~m][:, ~m])
        mean[i, m] = MEAN[m] + gain @ (whole[i] - MEAN)[~m]
        deviation[i, m] = np.sqrt(np.diag(COVARIANCE[m][:, m] - gain @ COVARIANCE[~m][:, m]))
    filled = fitted.impute(X)
    assert np.array_equal(filled[~gone], X[~gone])
    mixed = fitted.schema_ is not None  # normal scores bend what is straight
    assert np.sqrt((((filled - mean) / deviation)[gone] ** 2).mean()) < (0.4 if mixed else 0.15)
    drawn = np.stack(fitted.impute(X, draws=30))
    ratio = np.sqrt(((drawn.std(0, ddof=1) / deviation)[gone] ** 2).mean())
    assert ratio == pytest.approx(1, abs=0.2 if mixed else 0.06)
    lower, upper = fitted.impute_interval(X, coverage=0.9)
    assert 0.86 < ((lower <= whole) & (whole <= upper))[gone].mean() < 0.94
    assert np.array_equal(lower[~gone], X[~gone])
    middle = fitted.impute_quantiles(X, 0.5)[0]
    assert ((lower <= middle) & (middle <= upper))[gone].all()


def test_draws_are_pooled_by_rubins_rules(fitted):
    X = linear(300, seed=3)
    X[np.random.default_rng(4).random(300) < 0.5, 0] = np.nan
    tables = pd.concat([pd.DataFrame(table) for table in fitted.impute(X, draws=20)], keys=range(20), names=["draw"])
    means, variances = (getattr(tables[0].groupby("draw"), name)() for name in ("mean", "var"))
    total = variances.mean() / 300 + (1 + 1 / 20) * means.var()
    assert abs(means.mean() - MEAN[0]) < 3 * np.sqrt(total)
    assert variances.mean() == pytest.approx(COVARIANCE[0, 0], rel=0.25)
    assert total > 1.02 * variances.mean() / 300
    assert fitted.impute(X)[:, 0].var() < variances.mean(), "means have the spread of draws"
    again = fitted.impute(X, draws=2, random_state=5)
    np.testing.assert_array_equal(again[1], fitted.impute(X, draws=2, random_state=5)[1])


def test_a_column_given_the_others_is_that_of_least_squares(fitted):
    train, test = linear(2000), linear(500, seed=6)
    found = fitted.predictive(test, [2])
    wanted = LinearRegression().fit(np.delete(train, 2, 1), train[:, 2]).predict(np.delete(test, 2, 1))
    mixed = fitted.schema_ is not None
    assert np.abs(found.predict()[:, 0] - wanted).mean() < (0.25 if mixed else 0.06) * NOISE * 2
    lower, upper = found.interval(0.9)
    assert 0.86 < ((lower <= test[:, [2]]) & (test[:, [2]] <= upper)).mean() < 0.94
    assert np.std([table[0, 0] for table in found.draws(200)]) > 0.8 * NOISE
    both = fitted.predictive(test[:5], [3, 1])
    assert both.predict().shape == (5, 2)
    np.testing.assert_allclose(both.predict()[:, 1], MEAN[1], atol=8)  # in the order asked for


def people(n=900, seed=0):
    """One hidden number behind whole numbers, a share of zeros, dates, a category and an order."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n)
    return pd.DataFrame(
        {
            "visits": rng.poisson(np.exp(1 + u / 2)),
            "spent": np.where(u < -0.8, 0.0, np.round(np.exp(3 + u + 0.3 * rng.normal(size=n)), 2)),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.round(300 + 100 * u), unit="D"),
            "class": np.where(u > 0.3, "large", np.where(u > -0.5, "medium", "small")),
            "size": pd.Categorical.from_codes(1 * (u > -0.5) + (u > 0.5), categories=["S", "M", "L"], ordered=True),
        },
        index=[f"r{i}" for i in range(n)],
    )


@pytest.fixture(scope="module")
def table():
    frame = people()
    gaps = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.15)
    gaps["visits"] = gaps["visits"].astype("Int64")
    settings = {**QUICK, "network": MLP((64,)), "epochs": 60, "batch_size": 100, "lr": 3e-3, "latent_dim": 3}
    return frame, gaps, GaussianVAE(**settings, likelihood="mixed").fit(gaps)


def test_what_is_drawn_is_in_the_columns_own_units(table):
    frame, gaps, model = table
    missing = gaps.isna()
    tables = model.impute(gaps, draws=10)
    assert len(tables) == 10
    for own in tables:
        assert own.dtypes.equals(gaps.dtypes)  # nullable whole numbers stay whole
        assert not own.isna().any(axis=None)
        assert own.index.equals(gaps.index)
        assert all((own[name] == gaps[name])[~missing[name]].all() for name in gaps)
        assert own["since"].between(frame["since"].min(), frame["since"].max()).all()
    zeros = np.mean([(own["spent"] == 0)[missing["spent"]].mean() for own in tables])
    assert zeros == pytest.approx((frame["spent"] == 0).mean(), abs=0.08)
    assert set(tables[0]["class"]) == {"large", "medium", "small"}
    assert any((one["class"] != other["class"]).any() for one, other in itertools.pairwise(tables))


def test_intervals_have_no_categories_and_probabilities_have_labels(table):
    frame, gaps, model = table
    missing = gaps.isna()
    lower, upper = model.impute_interval(gaps, coverage=0.8)
    assert lower["class"].isna().equals(missing["class"])
    for name in ("visits", "spent", "since"):
        assert (lower[name] <= upper[name]).all()
        inside = ((lower[name] <= frame[name]) & (frame[name] <= upper[name]))[missing[name]]
        assert inside.mean() > 0.68
    assert (lower["size"].cat.codes <= upper["size"].cat.codes).all()
    found = model.impute_proba(gaps)
    assert list(found) == ["class", "size"]
    p = found["class"]
    assert list(p.columns) == ["large", "medium", "small"]
    assert p.index.equals(gaps.index)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    there = ~missing["class"]
    assert (p[there].idxmax(axis=1) == gaps["class"][there]).all()
    assert set(np.unique(p[there])) == {0.0, 1.0}
    guess = p[missing["class"]]
    right = np.array([guess.loc[row, frame.loc[row, "class"]] for row in guess.index])
    assert right.mean() > 0.75
    filled = model.impute(gaps)["class"][missing["class"]]
    assert (filled == guess.idxmax(axis=1)).mean() > 0.99


def test_columns_of_a_frame_given_the_others(table):
    _, gaps, model = table
    new = people(300, seed=7)
    found = model.predictive(new.drop(columns=["class", "visits"]), ["class", "visits"])
    assert str(found) == "Predictive(columns=('class', 'visits'))"
    predicted = found.predict()
    assert list(predicted.columns) == ["class", "visits"]
    assert predicted.index.equals(new.index)
    assert (predicted["class"] == new["class"]).mean() > 0.85
    assert predicted["visits"].dtype == float
    assert (predicted["visits"] != predicted["visits"].round()).mean() > 0.9  # means are not rounded
    assert predicted["visits"].mean() == pytest.approx(new["visits"].mean(), rel=0.15)
    assert list(found.proba()) == ["class"]
    drawn = found.draws(2)[0]
    assert drawn["visits"].dtype == gaps["visits"].dtype
    lower, upper = found.interval()
    assert lower["class"].isna().all()
    assert ((lower["visits"] <= new["visits"]) & (new["visits"] <= upper["visits"])).mean() > 0.85
    same = model.predictive(new[gaps.columns], "class", random_state=0).predict()["class"]
    alone = model.predictive(new.drop(columns="class"), "class", random_state=0).predict()["class"]
    assert same.equals(alone), "the column asked for was read"


def test_wrong_questions_are_refused(table):
    _, gaps, model = table
    plain = GaussianVAE(**QUICK).fit(linear(50))
    points = RegularizedAutoencoder(2, network=MLP((8,)), epochs=2, random_state=0).fit(linear(50))
    holes = linear(4)
    holes[1, 2] = np.nan
    assert np.isfinite(points.impute(holes)).all()
    pixels = (np.random.default_rng(0).random((30, 1, 4, 4)) * 255).astype(np.uint8)
    mixture = GaussianVAE(**QUICK, likelihood="logistic_mixture").fit(pixels)
    images = GaussianVAE(**QUICK).fit(pixels)
    for call, words in (
        (lambda: model.predictive(gaps, "klass"), "columns=.*'klass'"),
        (lambda: model.predictive(gaps, []), "columns="),
        (lambda: model.impute_interval(gaps, coverage=90), "coverage=90"),
        (lambda: model.impute_quantiles(gaps, [0.5, 1.0]), r"q=1\.0"),
        (lambda: model.impute(gaps, draws=0), "draws=0"),
        (lambda: model.impute(gaps, mask=gaps.isna()), "mask for a table"),
        (lambda: plain.impute_proba(holes), "without categories"),
        (lambda: plain.impute(np.full((2, 5), np.nan)), "5 features"),
        (lambda: points.impute(holes, draws=2), "deterministic"),
        (lambda: points.impute_interval(holes), "deterministic"),
        (lambda: mixture.impute(pixels, mask=np.ones(pixels.shape, bool)), "independent given z"),
        (lambda: images.impute(pixels, mask=np.ones((30, 2), bool)), "a mask of bool"),
        (lambda: images.impute(pixels, mask=np.ones(pixels.shape)), "a mask of float64"),
        (lambda: images.predictive(pixels, [0]), "columns of images"),
        (lambda: VAEImputer(ConditionalVAE()).fit(holes), "without a condition"),
        (lambda: VAEImputer("mean").fit(holes), "model=str"),
        (lambda: VAEImputer(sample_posterior=3).fit(holes), "sample_posterior=3"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def stripes(n, seed=0):
    """Images of one direction and a brightness."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.linspace(0, 3, 64)).reshape(1, 1, 8, 8)
    return np.clip(0.5 + 0.3 * rng.normal(size=(n, 1, 1, 1)) * wave + 0.02 * rng.normal(size=(n, 1, 8, 8)), 0, 1)


@pytest.mark.parametrize("likelihood", ["gaussian", "continuous_bernoulli"])
def test_hidden_pixels_of_images(likelihood):
    X, new = stripes(400), stripes(40, seed=1)
    model = GaussianVAE(**{**QUICK, "epochs": 80, "lr": 5e-3, "network": MLP((32,))}, likelihood=likelihood)
    model.fit((X * 255).astype(np.uint8))
    mask = np.zeros((40, 1, 8, 8), dtype=bool)
    mask[:, :, 4:] = True
    pixels = (new * 255).astype(np.uint8)
    hidden = np.where(mask, 0, pixels).astype(np.uint8)
    filled = model.impute(hidden, mask=mask)
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[~mask], pixels[~mask])
    error, plain = (np.abs(guess - new * 255.0)[mask].mean() for guess in (filled, X.mean(0) * 255))
    assert error < 0.5 * plain
    assert np.array_equal(filled, model.impute(hidden, mask=mask[:, 0]))  # one for all channels
    drawn = model.impute(torch.from_numpy(hidden), draws=2, mask=torch.from_numpy(mask))
    assert drawn[0].dtype == torch.uint8
    assert not torch.equal(drawn[0], drawn[1])
    floats = GaussianVAE(**QUICK, likelihood=likelihood).fit(X)
    out = floats.impute(np.where(mask, np.nan, new))
    assert np.isfinite(out).all()
    assert np.array_equal(out[~mask], new[~mask])


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, np.ndarray.tolist, pd.DataFrame])
def test_tables_of_numbers_in_every_container(make):
    model = GaussianVAE(**QUICK).fit(make(linear(60)))
    whole = linear(9, seed=1)
    X = whole.copy()
    X[:, 1] = np.nan
    out = model.impute(make(X))
    assert type(out) is (np.ndarray if make is np.ndarray.tolist else type(make(X)))
    values = np.asarray(out)
    assert np.isfinite(values).all()
    assert np.array_equal(np.delete(values, 1, 1), np.delete(whole, 1, 1))
    assert model.impute(make(whole), draws=2)[1] is not None
    given = model.predictive(make(X), [1]).predict()
    np.testing.assert_allclose(np.asarray(given)[:, 0], values[:, 1])


def test_a_guess_is_said_to_be_one(table, monkeypatch):
    _, gaps, model = table

    def one(vae, x, c=None, *, noise, law=None):
        found = complete(vae, x, c, noise=noise, law=law)
        return found._replace(weights=torch.zeros_like(found.weights).index_fill(0, torch.tensor([0]), 1.0))

    complete = imputation.complete
    monkeypatch.setattr(imputation, "complete", one)
    for call in (model.impute, model.impute_interval, model.impute_proba, lambda X: model.impute(X, draws=2)):
        with pytest.warns(VaelabWarning, match=r"rows with gaps fewer than 5 of 200 draws.*Raise k"):
            call(gaps)


# around a model


@parametrize_with_checks([VAEImputer(GaussianVAE(**QUICK, likelihood="mixed"), k=20, random_state=0)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_standardised_counts_and_what_is_never_negative_stay_in_range():
    """Of noise alone standardised draws leave the range; those of the third column, which has both signs, may."""
    rng = np.random.default_rng(0)
    whole = pd.DataFrame({"visits": rng.poisson(0.7, 300), "width": rng.exponential(size=300)})
    whole["level"] = rng.uniform(-1, 1, 300)
    frame = whole.mask(rng.random(whole.shape) < 0.3).astype({"visits": "Int64"})
    model = GaussianVAE(**QUICK, likelihood="mixed(numbers=standardised)").fit(frame)
    tables = [model.impute(frame), *model.impute(frame, draws=3), *model.impute_quantiles(frame, (0.02, 0.98))]
    for table in [*tables, model.sample(300)]:
        for name in ("visits", "width"):
            assert table[name].between(frame[name].min(), frame[name].max()).all()
    free = pd.concat(tables)["level"]
    assert free.min() < frame["level"].min() or free.max() > frame["level"].max()
    assert "whole numbers from 0 to" in str(model.schema_)


def test_an_imputer_in_a_pipeline(table):
    frame, gaps, _ = table
    gaps = gaps.astype({"visits": float}).drop(columns=["since", "class", "size"])
    y = frame["class"] == "large"
    imputer = VAEImputer(GaussianVAE(**QUICK, likelihood="mixed"), random_state=0)
    pipeline = make_pipeline(imputer, LogisticRegression()).fit(gaps, y)
    assert pipeline.score(gaps, y) > 0.77
    assert clone(pipeline).set_params(vaeimputer__model__latent_dim=3).named_steps["vaeimputer"].model.latent_dim == 3
    fitted = pipeline.named_steps["vaeimputer"]
    out = fitted.transform(gaps)
    pd.testing.assert_frame_equal(out, fitted.model_.impute(gaps))
    assert list(fitted.get_feature_names_out()) == list(gaps.columns)
    assert isinstance(fitted.set_output(transform="pandas").transform(gaps.to_numpy()), pd.DataFrame)
    drawn = [clone(imputer).set_params(sample_posterior=True, random_state=i).fit(gaps).transform(gaps) for i in (0, 1)]
    assert not drawn[0].equals(drawn[1])
    with pytest.raises(InputError, match="k=0"):
        VAEImputer(k=0).fit(gaps)


def test_gaps_of_a_gaussian_table_in_the_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = list("abcdef")
    pd.DataFrame(linear(200), columns=names).to_csv("x.csv", index=False)
    holes = pd.DataFrame(linear(30, seed=1), columns=names)
    holes.loc[::2, "b"] = np.nan
    holes.to_csv("holes.csv", index=False)
    assert main(["train", "x.csv", "--network", "mlp([8])", "--epochs", "2", "--densities", "gaussian", "--quiet"]) == 0
    run = capsys.readouterr().out.strip().splitlines()[-1]
    assert main(["impute", run, "holes.csv", "-o", "full.csv", "--draws", "2"]) == 0
    assert capsys.readouterr().out.split() == ["full-1.csv", "full-2.csv"]
    first, second = (pd.read_csv(f"full-{i}.csv") for i in (1, 2))
    assert list(first.columns) == names
    assert (first["b"] != second["b"]).sum() == 15
    pd.testing.assert_frame_equal(first.drop(columns="b"), holes.drop(columns="b"))
    assert main(["impute", run, "holes.csv", "-o", "mean.csv"]) == 0
    assert not pd.read_csv("mean.csv").isna().any(axis=None)


def test_an_imputer_names_the_columns_that_its_model_leaves_out():
    frame = pd.DataFrame({"id": [f"u{i:04d}" for i in range(80)], "a": np.arange(80.0) % 7, "b": np.arange(80) % 3})
    frame.loc[:9, "a"] = np.nan
    model = GaussianVAE(1, network="mlp([4])", epochs=1, random_state=0)
    imputer = VAEImputer(model, random_state=0).set_output(transform="pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        full = imputer.fit_transform(frame)
    assert list(full.columns) == list(imputer.get_feature_names_out()) == ["id", "a", "b"]
    assert not full.isna().any().any()


def test_a_model_of_numbers_fills_nullable_columns():
    frame = pd.DataFrame({"a": np.arange(80.0) % 7, "b": np.arange(80) % 3, "c": np.arange(80) % 2 == 0})
    frame = frame.astype({"b": "Int64", "c": "boolean"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        model = GaussianVAE(1, network="mlp([4])", epochs=1, random_state=0).fit(frame)
        gaps = frame.copy()
        gaps.loc[:5, "b"] = pd.NA
        full = model.impute(gaps)
        gaps.loc[3:9, "c"] = pd.NA
        assert not model.predictive(gaps, "a").predict().isna().any().any()
    assert not full.isna().any().any()
    assert (full["b"][6:] == frame["b"][6:]).all()
