"""Tables with categories and missing entries, from data frame to data frame."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaelab
from vaelab import ConditionalVAE, GaussianVAE, TwoStageVAE, runs, specs
from vaelab.cli import main
from vaelab.data import Schema, from_arrays
from vaelab.errors import InputError, VaelabWarning
from vaelab.runs.assessment import assess
from vaelab.specs import MLP, Compute, FitSettings
from vaelab.training import stream

QUICK = {
    "latent_dim": 2,
    "network": MLP((8,)),
    "likelihood": "mixed",
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
pytestmark = pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")


def people(n: int = 120, *, missing: float = 0.3, seed: int = 0) -> pd.DataFrame:
    """One hidden number behind two measurements, a category of text, an ordered one, and a boolean."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "height": 170 + 10 * u + rng.normal(size=n),
            "weight": (70 + 8 * u + rng.normal(size=n)).round().astype(int),
            "city": np.where(u > 0, "Rome", "Oslo"),
            "size": pd.Categorical.from_codes(1 * (u > -0.5) + (u > 0.5), categories=["S", "M", "L"], ordered=True),
            "tall": u > 0.3,
            "age": rng.integers(20, 60, n),
        }
    )
    gaps = rng.random(frame.shape) < missing
    gaps[:, 5] = False
    for j, name in enumerate(frame.columns[:5]):
        kind = frame[name].astype(object) if name in ("city", "tall") else frame[name]
        frame[name] = kind.where(~gaps[:, j])
    return frame


@parametrize_with_checks([GaussianVAE(**QUICK)])
def test_scikit_learn_contract_of_a_mixed_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("make", [GaussianVAE, TwoStageVAE])
def test_frames_in_frames_out(make, tmp_path):
    frame = people()
    model = make(**(QUICK if make is GaussianVAE else QUICK_TWO)).fit(frame)
    assert model.transform(frame).shape == (120, 2)
    assert np.isfinite(model.score_samples(frame)).all()
    for out in (model.sample(6), model.reconstruct(frame[:6]), model.inverse_transform(np.zeros((6, 2)))):
        assert list(out.columns) == list(frame.columns)
        assert not out.isna().to_numpy().any()
        assert set(out["city"]) <= {"Rome", "Oslo"}
        assert out["size"].dtype == frame["size"].dtype
        assert out["tall"].dtype == bool
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert type(again) is make
    assert again.schema_ == model.schema_
    np.testing.assert_array_equal(again.transform(frame), model.transform(frame))
    np.testing.assert_array_equal(again.score_samples(frame), model.score_samples(frame))
    pd.testing.assert_frame_equal(again.sample(5), model.sample(5))
    pd.testing.assert_frame_equal(again.impute(frame), model.impute(frame))
    assert clone(again).get_params() == again.get_params()


def test_imputation_keeps_what_was_observed_and_fills_the_rest():
    frame = people()
    out = GaussianVAE(**QUICK).fit(frame).impute(frame, k=10)
    assert not out.isna().to_numpy().any()
    there = frame.notna()
    for name in frame.columns:
        assert out[name][there[name]].tolist() == frame[name][there[name]].tolist()
    assert out["age"].dtype == np.int64
    assert out["size"].dtype == frame["size"].dtype


def test_imputed_rows_depend_on_themselves_alone():
    frame = people()
    model = GaussianVAE(**QUICK).fit(frame)
    whole = model.impute(frame, k=10)
    pd.testing.assert_frame_equal(model.impute(frame[7:9], k=10)[["size", "age"]], whole[7:9][["size", "age"]])
    some = model.impute(frame[7:9], k=10)["height"]
    np.testing.assert_allclose(some, whole["height"][7:9], rtol=1e-6)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_numbers_with_gaps_in_arrays(make):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 1)) @ rng.normal(size=(1, 4)) + 5
    values[rng.random(values.shape) < 0.3] = np.nan
    X = make(values)
    with pytest.raises(InputError, match=r"NaN.*likelihood='mixed'"):
        GaussianVAE(**{**QUICK, "likelihood": "gaussian"}).fit(X)
    model = GaussianVAE(**QUICK).fit(X)
    for out in (model.sample(3), model.impute(X), model.reconstruct(X)):
        assert type(out) is type(X)
        assert np.isfinite(np.asarray(out)).all()


def test_arrays_of_objects_come_back_as_such():
    X = np.array([["a", 1.0, True], [None, 2.5, False], ["b", None, None]] * 10, dtype=object)
    model = GaussianVAE(**QUICK).fit(X)
    out = model.impute(X)
    assert out.dtype == object
    assert set(out[:, 0]) == {"a", "b"}
    assert {type(value) for value in model.sample(5)[:, 2]} == {bool}


def test_imputation_beats_the_mean_of_the_column_and_the_commonest_level():
    ratios, hits = [], []
    for seed in range(3):
        full, frame = people(300, missing=0.0, seed=seed), people(300, missing=0.3, seed=seed)
        settings = {**QUICK, "network": MLP((32,)), "epochs": 50, "batch_size": 40, "lr": 3e-3, "random_state": seed}
        filled = GaussianVAE(**settings).fit(frame).impute(frame)
        for name in ("height", "weight"):
            gone = frame[name].isna()
            error = (filled[name] - full[name])[gone].pow(2).mean()
            ratios.append(error / (frame[name].mean() - full[name])[gone].pow(2).mean())
        gone = frame["city"].isna()
        hits.append(
            (filled["city"] == full["city"])[gone].mean() - (frame["city"].mode()[0] == full["city"])[gone].mean()
        )
    assert max(ratios) < 0.4, ratios
    assert min(hits) > 0.2, hits


def test_samples_show_levels_as_often_as_the_data_do():
    """Even of a column that nothing else explains, whose most likely level is always the same."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=500), "rare": np.where(rng.random(500) < 0.2, "yes", "no")})
    model = GaussianVAE(**{**QUICK, "epochs": 40, "lr": 3e-3}).fit(frame)
    assert abs((model.sample(2000)["rare"] == "yes").mean() - 0.2) < 0.06


def test_scores_are_of_what_was_observed_in_the_units_of_the_table():
    frame = people()
    scaled = frame.assign(height=frame["height"] * 1000)
    one, two = GaussianVAE(**QUICK).fit(frame), GaussianVAE(**QUICK).fit(scaled)
    change = one.score_samples(frame) - two.score_samples(scaled)
    np.testing.assert_allclose(change, np.where(frame["height"].notna(), np.log(1000), 0.0), atol=1e-4)
    nothing = pd.DataFrame({name: [None, None] for name in frame.columns})
    bound = one.score_samples(nothing)
    assert (bound <= 0).all(), "a row without entries has probability 1, of which the bound is minus a KL"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianVAE(**{**QUICK, "likelihood": "gaussian"}).fit(people()), r"3 column\(s\).*'city'.*mixed"),
        (lambda: GaussianVAE(**{**QUICK, "likelihood": "gaussian"}).fit([["a", 1], ["b", 2]]), "text.*mixed"),
        (lambda: GaussianVAE(**QUICK).fit(np.zeros((9, 1, 8, 8), np.uint8)), "a table"),
        (lambda: GaussianVAE(**{**QUICK, "likelihood": "mixed(shape=iso-d)"}).fit(people()), "diag-i"),
        (
            lambda: GaussianVAE(**QUICK).fit(people()).transform(people().assign(city="Bern")),
            "unknown level 'Bern' in column 'city'",
        ),
        (lambda: GaussianVAE(**QUICK).fit(people()).impute(people(), draws=0), "draws=0"),
        (lambda: GaussianVAE(**QUICK).fit(people()).impute(people(), k=0), "k=0"),
        (lambda: GaussianVAE(**QUICK).fit(people()).transform(people()[["height"]]), "feature names|1 features"),
    ],
)
def test_what_does_not_fit_is_refused_by_estimators(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_data_for_another_likelihood_are_refused_before_training():
    frame = people()
    settings = vaelab.Settings(
        latent_dim=2,
        network=MLP((8,)),
        training=FitSettings(epochs=1),
        compute=Compute(accelerator="cpu"),
        densities=(),
        likelihood="gaussian",
    )
    with pytest.raises(InputError, match=r"hold no numbers, 'city', 'size', 'tall'.*likelihood='mixed'"):
        runs.train(from_arrays(frame, schema=Schema.fit(frame)), settings)
    numbers = frame[["height", "age"]]
    with pytest.raises(InputError, match=r"NaN.*likelihood='mixed'"):
        runs.train(from_arrays(numbers, schema=Schema.fit(numbers)), settings)


def test_one_variance_per_column_and_tables_of_categories_alone():
    model = GaussianVAE(**{**QUICK, "likelihood": "mixed(shape=diag-i)"}).fit(people())
    assert model.gamma_.shape == (3,)
    model = GaussianVAE(**QUICK).fit(people()[["city", "tall"]])
    assert model.gamma_ is None
    assert set(model.sample(5)["city"]) <= {"Rome", "Oslo"}


def test_conditions_stand_beside_gaps():
    frame = people()
    y = np.array(["left", "right"] * 60)
    model = ConditionalVAE(**QUICK).fit(frame, y)
    assert not model.impute(frame, y, k=5).isna().to_numpy().any()
    assert len(model.sample(4, y="left")) == 4


def test_the_variance_that_is_kept_is_that_of_all_observed_entries():
    frame = people()
    trained = GaussianVAE(**{**QUICK, "held_out": 0.0}).fit(frame).trained_
    data = from_arrays(frame, schema=trained.schema)
    batches = trained.batches_of(data.train)
    x = batches.take(torch.arange(len(batches)))[0]
    vae = trained.vae
    total = count = 0.0
    with torch.no_grad():
        for i in range(200):
            q = vae.encode(x)
            noise = torch.randn(q.mean.shape, generator=stream("cpu", 0, i))
            squared = vae.likelihood.squared_error(vae.decoder(q.mean + q.stddev * noise), x)
            total, count = total + float(squared.nansum()), count + int((~squared.isnan()).sum())
    assert float(vae.likelihood.variance.gamma) == pytest.approx(total / count, rel=0.05)
    found = assess(trained, data.train)
    with torch.no_grad():
        squared = vae.likelihood.squared_error(vae.decoder(vae.encode(x).mean), x)
    assert found.mse == pytest.approx(float(squared.nanmean(1).nan_to_num().mean()), rel=1e-5)


def test_pruned_models_keep_their_columns():
    frame = people()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        small = GaussianVAE(**QUICK).fit(frame).prune(frame, keep=[1])
    assert small.transform(frame).shape == (120, 1)
    assert list(small.sample(2).columns) == list(frame.columns)


def test_evaluation_bounds_the_likelihood_and_refuses_distances():
    from vaelab.verbs import Options, evaluate
    from vaelab.verbs.evaluation import beside_rows

    frame = people()
    model = GaussianVAE(**QUICK).fit(frame)
    data = from_arrays(frame, people(seed=1), schema=model.schema_)
    report = evaluate(model, data, options=Options(likelihood_draws=3, likelihood_rows=20))
    assert {row.measure for row in report.rows} == {"bound", "elbo", "distortion", "kl"}
    assert not report.readings
    told = [note for note in report.notes if "told apart by trees" in note]
    assert len(told) == len(model.trained_.densities)
    assert all("copies" in note for note in told)
    attacked = [note for note in report.notes if "membership inference" in note]
    assert len(attacked) == len(told)
    drawn = beside_rows(model.trained_, data)
    assert drawn.columns[0].gaps_fake > 0.1  # as the rows have them
    assert all(column.gaps_fake == 0 for column in drawn.columns if column.name == "age")
    with pytest.raises(InputError, match="frechet for a mixed table"):
        evaluate(model, data, options=Options(metrics=("frechet",)))
    other = frame.assign(city=frame["city"].replace("Rome", "Bern"))
    with pytest.raises(InputError, match="other levels"):
        evaluate(model, from_arrays(other, other, schema=Schema.fit(other)))


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    people().to_csv("people.csv", index=False)
    people().iloc[:9, ::-1].to_csv("new.csv", index=False)
    quick = [
        "--latent-dim",
        "2",
        "--network",
        "mlp([8])",
        "--epochs",
        "2",
        "--densities",
        "gaussian",
        "--compute.accelerator",
        "cpu",
    ]
    main(["train", "people.csv", "--likelihood", "mixed", *quick, "--quiet"])
    run = capsys.readouterr().out.strip()
    main(["sample", run, "-n", "7", "-o", "samples.csv"])
    drawn = pd.read_csv("samples.csv")
    assert list(drawn.columns) == list(people().columns)
    main(["sample", run, "-n", "90", "-o", "fake.csv"])
    capsys.readouterr()
    main(["evaluate", "--real", "people.csv", "--fake", "fake.csv", "--target", "city", "-o", "found"])
    assert "told apart by trees" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"evaluation.json", "evaluation.txt", "tables.png"}
    assert main(["evaluate", "--real", "people.csv", "--fake", "fake.csv", "--metrics", "energy"]) != 0
    assert "--metrics for tables with categories" in capsys.readouterr().err
    assert set(drawn["city"]) <= {"Rome", "Oslo"}
    assert drawn["tall"].dtype == bool
    main(["encode", run, "new.csv", "-o", "codes.csv"])
    frame = pd.read_csv("people.csv")
    wanted = vaelab.load(run).transform(frame[:9])
    np.testing.assert_allclose(pd.read_csv("codes.csv").to_numpy(), wanted, rtol=1e-5, atol=1e-6)
    main(["reconstruct", run, "-o", "rebuilt.csv"])
    assert set(pd.read_csv("rebuilt.csv")["size"]) <= {"S", "M", "L"}
    assert main(["impute", run, "people.csv", "-o", "full.csv"]) == 0
    full = pd.read_csv("full.csv")
    assert not full.isna().any(axis=None)
    there = frame.notna()
    assert (full[frame.columns].astype(object)[there] == frame.astype(object)[there])[there].stack().all()
    assert main(["impute", run, "people.csv", "-o", "drawn.csv", "--draws", "3", "--k", "50"]) == 0
    drawn = [pd.read_csv(f"drawn-{i}.csv") for i in (1, 2, 3)]
    assert all(list(table.columns) == list(frame.columns) and not table.isna().any(axis=None) for table in drawn)
    assert all((table["height"] == frame["height"])[there["height"]].all() for table in drawn)
    assert (drawn[0]["height"] != drawn[1]["height"])[~there["height"]].mean() > 0.9
    people(600, seed=1).to_csv("unseen.csv", index=False)
    capsys.readouterr()
    main(["evaluate", "--real", "unseen.csv", "--fake", "fake.csv", "--train", "people.csv", "--html", "two.html"])
    assert "membership inference" in capsys.readouterr().out
    assert "real entries are missing" in (tmp_path / "two.html").read_text(encoding="utf-8")
    pd.read_csv("fake.csv").drop(columns="height").to_csv("fewer.csv", index=False)
    assert main(["evaluate", "--real", "unseen.csv", "--fake", "fewer.csv"]) == 0  # as `compare_tables` takes it
    assert "left out                height: fake rows have no such columns" in capsys.readouterr().out
    assert main(["evaluate", "--real", "fewer.csv", "--fake", "unseen.csv"]) == 2
    assert "Compare tables of the same columns" in capsys.readouterr().err
    frame[["height", "age"]].dropna().to_csv("numbers.csv", index=False)
    main(["evaluate", "--real", "numbers.csv", "--fake", "numbers.csv", "--html", "numbers.html"])
    assert "2 columns" in (tmp_path / "numbers.html").read_text(encoding="utf-8")
    main(["train", "unseen.csv", "--likelihood", "mixed", *quick, "--quiet"])
    other = capsys.readouterr().out.strip().splitlines()[-1]
    main(["evaluate", other, "--likelihood-draws", "2", "--likelihood-rows", "20", "--html", "run.html", "--quiet"])
    assert "60 fake rows beside 60 real ones" in (tmp_path / "run.html").read_text(encoding="utf-8")
    assert main(["evaluate", "--real", "digits", "--fake", "digits", "--html", "no.html"]) == 2
    assert "CSV or parquet" in capsys.readouterr().err
    main(["train", "digits", "--network", "mlp([8])", "--epochs", "1", "--densities", "gaussian", "--quiet"])
    plain = capsys.readouterr().out.strip().splitlines()[-1]
    assert main(["impute", plain, "-o", "other.csv"]) == 2
    assert "a run of images" in capsys.readouterr().err


def test_a_frame_of_more_than_numbers_is_taken_column_by_column():
    quick = {name: value for name, value in QUICK.items() if name != "likelihood"}
    frame = people()
    model = GaussianVAE(**quick, likelihood="auto(shape=diag-i)").fit(frame)
    likelihood = model.trained_.settings.likelihood
    assert (likelihood.kind, likelihood.shape) == ("mixed", "diag-i")
    drawn = model.sample(4)
    assert drawn["weight"].dtype == frame["weight"].dtype
    assert set(drawn["city"]) <= {"Rome", "Oslo"}
    assert model.transform(frame[:5]).shape == (5, 2)
    gaps = pd.DataFrame(np.where(np.arange(180).reshape(60, 3) % 7, 1.5, np.nan) * np.linspace(1, 2, 60)[:, None])
    assert GaussianVAE(**quick).fit(gaps).trained_.settings.likelihood.kind == "mixed"
    assert GaussianVAE(**quick).fit(gaps.fillna(0.0)).trained_.settings.likelihood.kind == "gaussian"
    with pytest.raises(InputError, match=r"NaN.*likelihood='mixed'"):  # an array says nothing of what it holds
        GaussianVAE(**quick).fit(gaps.to_numpy())


def test_a_file_of_more_than_numbers_is_taken_column_by_column(tmp_path, capsys):
    people().to_csv(tmp_path / "people.csv", index=False)
    counted = np.arange(180.0).reshape(60, 3)
    np.save(tmp_path / "gaps.npy", np.where(counted % 7, counted % 11, np.nan))
    np.save(tmp_path / "numbers.npy", np.random.default_rng(0).normal(size=(60, 3)))
    words = "--latent-dim 2 --network mlp([8]) --epochs 1 --densities gaussian --compute.accelerator cpu"
    for file, kind in (("people.csv", "mixed"), ("gaps.npy", "mixed"), ("numbers.npy", "gaussian")):
        assert main(["train", str(tmp_path / file), *words.split(), "--out", str(tmp_path / "runs")]) == 0
        assert ("column by column" in capsys.readouterr().out) == (kind == "mixed")
        settings, source = runs.source_of(tmp_path / "runs" / file.split(".")[0])
        assert (settings.likelihood.kind, source["mixed"]) == (kind, kind == "mixed")
