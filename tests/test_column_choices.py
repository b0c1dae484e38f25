"""Columns as they are, or as somebody says: from Python and the shell, saved, loaded, resumed; polars in and out."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import vaelab
from vaelab import GaussianVAE, runs, specs
from vaelab.cli import main
from vaelab.data import Schema, from_arrays
from vaelab.errors import InputError
from vaelab.specs import Compute

N = 200
QUICK = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0, "compute": Compute(accelerator="cpu")}
CHOICES = {
    "zip": "category",
    "price": "standardised",
    "grade": {"kind": "ordered", "levels": ["low", "mid", "high"]},
    "age": "ordered",
    "junk": "drop",
}
pytestmark = pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")


def shop(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    u = rng.normal(size=n)
    level = 1 * (u > -0.5) + (u > 0.5)
    return pd.DataFrame(
        {
            "id": [f"C-{i:05d}" for i in range(n)],
            "age": rng.integers(17, 40, n),
            "zip": rng.choice([1000, 2000, 3000], n),
            "price": np.exp(u),
            "spent": np.where(u < -0.5, 0.0, np.round(np.exp(u), 2)),
            "size": pd.Categorical.from_codes(level, ["S", "M", "L", "XL"], ordered=True),
            "grade": np.array(["low", "mid", "high"])[level],
            "ok": u > 0,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 300, n), unit="D"),
            "fixed": np.full(n, 3, dtype=np.int8),
            "junk": rng.normal(size=n),
        }
    )


def fitted(frame, columns=CHOICES, **changes):
    return GaussianVAE(**{**QUICK, **changes}, likelihood=specs.Mixed(columns=columns)).fit(frame)


def test_the_schema_says_how_every_column_is_modelled(tmp_path):
    frame = shop()
    frame.loc[::10, "spent"] = np.nan
    model = fitted(frame)
    kinds = {column.name: column.kind for column in model.schema_.given}
    assert kinds == {
        "id": "identifier",
        "age": "ordered",
        "zip": "category",
        "price": "standardised",
        "spent": "scores",
        "size": "ordered",
        "grade": "ordered",
        "ok": "category",
        "day": "scores",
        "fixed": "constant",
        "junk": "drop",
    }
    spent = next(column for column in model.schema_.columns if column.name == "spent")
    share = float((frame["spent"] == 0).sum() / frame["spent"].notna().sum())
    assert (spent.step, spent.gaps) == (0.01, 0.1)
    assert spent.span == (0.0, frame["spent"].max())
    assert spent.atoms == ((0.0, pytest.approx(share)),)
    text = str(model.schema_)
    for words in (
        rf"10.0 %  float64 .* numbers from 0 to {frame['spent'].max():g} in steps of 0.01; {100 * share:.1f} % 0",
        r"category\[str\] .* 4 levels: S < M < L < …",
        r"dates from 2020-01-.* to 2020-10-.. in steps of 1 d",
        r"always 3",
    ):
        assert pd.Series(text.split("\n")).str.contains(words).any(), words
    assert json.loads(json.dumps(model.schema_.meta())) == model.schema_.meta()
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert str(again.schema_) == text
    pd.testing.assert_frame_equal(again.sample(9), model.sample(9))
    assert again.likelihood == model.likelihood


def test_what_is_drawn_has_the_dtypes_and_order_of_what_came(tmp_path):
    frame = shop()
    model = fitted(frame)
    drawn = model.sample(50)
    assert drawn.dtypes.to_dict() == frame.drop(columns="junk").dtypes.to_dict()
    assert list(drawn.columns) == list(frame.drop(columns="junk").columns)
    assert drawn["size"].cat.ordered
    assert drawn["id"].tolist() == [f"C-{N + i:05d}" for i in range(50)]
    assert (drawn["fixed"] == 3).all()
    assert set(drawn["zip"]) <= {1000, 2000, 3000}
    assert np.isfinite(model.score_samples(drawn)).all()  # without the column that was dropped
    rebuilt = model.reconstruct(frame[5:9])
    assert rebuilt["id"].tolist() == frame["id"][5:9].tolist()
    gaps = frame.assign(
        grade=frame["grade"].mask(frame.index % 3 == 0), price=frame["price"].mask(frame.index % 4 == 0)
    )
    full = model.impute(gaps, k=3)
    assert not full.isna().to_numpy().any()
    assert full["id"].equals(frame["id"])
    assert full["junk"].equals(frame["junk"])


def test_ranges_of_levels_with_an_order_are_given():
    model = fitted(shop())
    drawn = model.sample(30, given={"age": (20, 30), "size": ("S", "M")})
    assert drawn["age"].between(20, 30).all()
    assert set(drawn["size"]) <= {"S", "M"}


def test_arrays_have_columns_by_place():
    X = np.arange(60.0).reshape(20, 3) % 4
    model = fitted(X, {2: "ordered", 0: "identifier"})
    assert model.schema_.levels == (0, 4)
    assert model.sample(3).shape == (3, 3)
    assert model.transform(X).shape == (20, 2)
    assert model.sample(3)[:, 0].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"aeg": "ordered"}, "'aeg'.*Did you mean 'age'"),
        ({"age": "ordred"}, "column='ordred'.*Did you mean 'ordered'"),
        ({"grade": "scores"}, "column 'grade' of X, which holds none"),
    ],
)
def test_wrong_choices_are_refused_before_training(columns, message):
    with pytest.raises(InputError, match=message):
        GaussianVAE(**QUICK, likelihood={"kind": "mixed", "columns": columns}).fit(shop())


def test_rows_that_were_coded_otherwise_are_refused():
    frame = shop()
    settings = GaussianVAE(**QUICK, likelihood=specs.Mixed(columns=CHOICES)).settings()
    with pytest.raises(InputError, match=r"'age' as 'ordered', in rows coded otherwise.*Schema\.fit"):
        runs.train(from_arrays(frame, schema=Schema.fit(frame)), settings)
    schema = Schema.fit(frame, columns=settings.likelihood.columns)
    assert runs.train(from_arrays(frame, schema=schema), settings).schema == schema


def test_thousands_of_levels_go_through_in_small_blocks():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=6000), "place": [f"p{i}" for i in np.arange(6000) % 3000]})
    model = fitted(frame, {"place": "category"}, epochs=1, batch_size=500)
    assert model.schema_.levels == (0, 3000)
    sizes = []
    model.trained_.vae.decoder.register_forward_hook(lambda net, x, out: sizes.append(out.numel()))
    assert model.score_samples(frame).shape == (6000,)
    gaps = frame.assign(place=frame["place"].mask(frame.index % 2 == 0))
    assert set(model.impute(gaps[:40])["place"]) <= set(frame["place"])
    assert max(sizes) <= 1_000_000
    assert len(set(model.sample(500)["place"])) > 100


# the shell


TRAIN = "--likelihood mixed --latent-dim 2 --network mlp([8]) --epochs 2 --densities gaussian --compute.accelerator cpu"


def vaelab_says(capsys, *words) -> str:
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out.strip()


def test_a_file_of_choices_goes_round(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shop().to_csv("shop.csv", index=False)
    (tmp_path / "columns.yaml").write_text(yaml.safe_dump(CHOICES))
    run = vaelab_says(capsys, "train", "shop.csv", "--schema", "columns.yaml", *TRAIN.split(), "--quiet")
    assert "ordered" in vaelab_says(capsys, "info", run)
    text = vaelab_says(capsys, "info", run, "--schema")
    assert (
        "# 3 levels: low < mid < high; determined by size\ngrade:\n  kind: ordered\n  levels: [low, mid, high]" in text
    )
    assert "# made anew: C-00200 and on\nid: identifier" in text
    (tmp_path / "again.yaml").write_text(text)
    other = vaelab_says(capsys, "train", "shop.csv", "--schema", "again.yaml", *TRAIN.split(), "--quiet")
    assert other != run
    assert vaelab_says(capsys, "info", other, "--schema") == text
    one, two = vaelab.load(run), vaelab.load(other)
    assert one.schema_.meta() == two.schema_.meta()
    assert one.sample(20).tolist() == two.sample(20).tolist()
    vaelab_says(capsys, "evaluate", run)
    vaelab_says(capsys, "sample", run, "-n", 8, "-o", "new.csv")
    drawn = pd.read_csv("new.csv")
    assert list(drawn.columns) == list(shop().drop(columns="junk").columns)
    assert drawn["id"].tolist() == [f"C-{N + i:05d}" for i in range(8)]
    shop().assign(price=np.nan).to_csv("gaps.csv", index=False)
    vaelab_says(capsys, "impute", run, "gaps.csv", "-o", "full.csv", "-n", 30)
    assert pd.read_csv("full.csv")["id"].tolist() == shop()["id"][:30].tolist()
    vaelab_says(capsys, "reconstruct", run, "shop.csv", "-o", "rebuilt.csv")
    assert "id" not in pd.read_csv("rebuilt.csv").columns


def test_parquet_in_and_out_keeps_dtypes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = (
        shop().drop(columns="junk").assign(at=pd.date_range("2024-10-27", periods=N, freq="13min", tz="Europe/Rome"))
    )
    frame["age"] = frame["age"].astype("Int16").mask(frame.index % 5 == 0)
    frame.to_parquet("shop.parquet")
    run = vaelab_says(capsys, "train", "shop.parquet", *TRAIN.split(), "--quiet")
    vaelab_says(capsys, "sample", run, "-n", 8, "-o", "new.parquet")
    drawn = pd.read_parquet("new.parquet")
    assert drawn.dtypes.to_dict() == frame.dtypes.to_dict()
    assert drawn["id"][0] == f"C-{N:05d}"
    vaelab_says(capsys, "impute", run, "shop.parquet", "-o", "full.parquet")
    full = pd.read_parquet("full.parquet")
    assert not full.isna().to_numpy().any()
    pd.testing.assert_frame_equal(full.drop(columns="age"), frame.drop(columns="age"))


@pytest.mark.parametrize("name", ["new.csv", "new.parquet"])
def test_identifiers_go_on_from_block_to_block(name, tmp_path, monkeypatch):
    from vaelab.cli.output import write_rows

    model = fitted(shop())
    rows = model.schema_.to_tensor(shop())
    write_rows(tmp_path / name, model.trained_, rows[:9].split(4), 9)
    drawn = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert drawn["id"].tolist() == [f"C-{N + i:05d}" for i in range(9)]
    assert drawn["age"].tolist() == shop()["age"][:9].tolist()


def test_choices_are_those_of_a_run_that_is_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shop().to_csv("shop.csv", index=False)
    (tmp_path / "columns.yaml").write_text(yaml.safe_dump(CHOICES))
    run = vaelab_says(capsys, "train", "shop.csv", "--schema", "columns.yaml", *TRAIN.split(), "--quiet")
    whole = vaelab.load(run)
    settings, source = runs.source_of(tmp_path / run)
    half = tmp_path / "half"
    runs.prepare(half, runs.data_of(source), settings, source)
    vaelab_says(capsys, "train", "--resume", half, "--quiet")
    again = vaelab.load(half)
    assert again.schema_.meta() == whole.schema_.meta()
    for name, value in whole.trained_.vae.state_dict().items():
        assert torch.equal(again.trained_.vae.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (TRAIN, "aeg: ordered", "Did you mean 'age'"),
        (TRAIN, "age: ordred", "Did you mean 'ordered'"),
        (TRAIN, "- age", "--schema columns.yaml that holds no names"),
        (TRAIN, "a: [", "a readable YAML file"),
        (TRAIN.replace("mixed", "gaussian"), "age: ordered", "Add --likelihood mixed"),
    ],
)
def test_wrong_files_of_choices_are_refused(words, text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shop().to_csv("shop.csv", index=False)
    (tmp_path / "columns.yaml").write_text(text)
    assert main(["train", "shop.csv", "--schema", "columns.yaml", *words.split(), "--quiet"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()


# polars


@pytest.mark.parametrize("mixed", [True, False])
def test_frames_of_polars_in_frames_of_polars_out(mixed, tmp_path):
    pl = pytest.importorskip("polars")
    frame = pl.from_pandas(shop()[["age", "zip", "price", "spent"] if not mixed else list(shop())])
    model = fitted(frame) if mixed else GaussianVAE(**QUICK).fit(frame)
    model.save(tmp_path / "run")
    for one in (model, vaelab.load(tmp_path / "run")):
        drawn = one.sample(7)
        assert isinstance(drawn, pl.DataFrame)
        if mixed:
            assert drawn.schema == frame.drop("junk").schema
            assert drawn["id"][0] == f"C-{N:05d}"
        else:
            assert drawn.columns == frame.columns
    rebuilt = model.reconstruct(frame)
    assert isinstance(rebuilt, pl.DataFrame)
    assert isinstance(model.impute(frame), pl.DataFrame)
    np.testing.assert_array_equal(model.transform(frame), model.transform(frame.to_pandas()))
    if mixed:
        assert rebuilt["id"].equals(frame["id"])
        assert model.impute(frame).equals(frame)


@pytest.mark.parametrize(
    "words",
    [
        ["--likelihood", "mixed(columns={age: ordered, junk: drop})"],
        ["--likelihood.columns", "{age: ordered, junk: drop}"],
    ],
)
def test_choices_are_settings_like_others(words):
    from vaelab.cli.flags import settings_of
    from vaelab.specs import Settings

    found, rest = settings_of(words, Settings(likelihood="mixed"))
    assert not rest
    assert found.likelihood.columns == {"age": specs.Ordered(), "junk": specs.Drop()}
    assert (
        GaussianVAE(likelihood="mixed").set_params(likelihood__columns={"a": "drop"}).likelihood.columns["a"]
        == specs.Drop()
    )
