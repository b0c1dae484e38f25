"""Dates, times and durations: seconds inside, and back as they came."""

import warnings

import numpy as np
import pandas as pd
import pytest

from vaelab import GaussianVAE
from vaelab.cli import main
from vaelab.data import Schema
from vaelab.data.delimited import read_csv
from vaelab.errors import VaelabWarning

N = 200


def _frame():
    rng = np.random.default_rng(0)
    days = rng.integers(0, 900, N)
    frame = pd.DataFrame(
        {
            "day": pd.to_datetime("2020-01-01") + pd.to_timedelta(days, unit="D"),
            "at": pd.date_range("1999-03-27", periods=N, freq="37min", tz="Europe/Paris"),  # over the change of hours
            "took": pd.to_timedelta(rng.integers(10, 1000, N), unit="s"),
            "x": days / 100 + rng.normal(size=N),
        }
    )
    frame.loc[::7, "day"] = pd.NaT
    frame.loc[::5, ["at", "took"]] = pd.NaT
    return frame


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_they_are_seconds_and_come_back(unit):
    frame = _frame().astype({"day": f"datetime64[{unit}]", "took": f"timedelta64[{unit}]"})
    schema = Schema.fit(frame)
    coded = schema.to_tensor(frame)
    assert float(coded[1, 0]) == frame["day"][1].timestamp()
    assert float(coded[1, 1]) == frame["at"][1].timestamp()
    assert float(coded[1, 2]) == frame["took"][1].total_seconds()
    pd.testing.assert_frame_equal(schema.to_frame(coded), frame)
    again = Schema.from_meta(schema.meta())
    pd.testing.assert_frame_equal(again.to_frame(coded), frame)
    array = schema.to_array(coded)
    assert array[0, 0] is None
    assert array[1, 0].startswith(str(frame["day"][1].date()))


def test_before_1677_and_to_the_microsecond():
    old = pd.DataFrame({"a": np.array(["1500-01-01", "2020-01-01T00:00:00.000001"], dtype="datetime64[us]")})
    schema = Schema.fit(old)
    pd.testing.assert_frame_equal(schema.to_frame(schema.to_tensor(old)), old)


def test_samples_and_gaps_that_are_filled_are_dates():
    frame = _frame()
    model = GaussianVAE(2, network="mlp([16])", likelihood="mixed", epochs=5, random_state=0).fit(frame)
    drawn, full = model.sample(300), model.impute(frame)
    for found in (drawn, full):
        assert found.dtypes.tolist() == frame.dtypes.tolist()
        assert not found.isna().to_numpy().any()
    assert (drawn["day"] == drawn["day"].dt.normalize()).all()
    for name in frame:
        assert frame[name].min() <= drawn[name].min()
        assert drawn[name].max() <= frame[name].max()
    same = frame.notna().to_numpy()
    assert (full.astype(object).to_numpy()[same] == frame.astype(object).to_numpy()[same]).all()


def test_a_newcomers_csv_with_dates_and_gaps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = _frame()[["day", "x"]].assign(visits=rng.poisson(3, N), shop=rng.choice(["north", "south"], N))
    frame.loc[::9, "shop"] = None
    frame.to_csv("shop.csv", index=False)
    quick = "--latent-dim 2 --network mlp([8]) --epochs 2 --densities gaussian --compute.accelerator cpu --quiet"
    assert main(["train", "shop.csv", "--likelihood", "mixed", *quick.split()]) == 0
    run = capsys.readouterr().out.strip()
    assert main(["sample", run, "-n", "60", "-o", "new.csv"]) == 0
    drawn = pd.read_csv("new.csv")
    assert drawn["day"].str.fullmatch(r"\d{4}-\d{2}-\d{2}").all()
    assert drawn["visits"].dtype == np.int64
    assert set(drawn["shop"]) <= {"north", "south"}
    assert main(["evaluate", "--real", "shop.csv", "--fake", "new.csv"]) == 0
    assert "told apart by trees" in capsys.readouterr().out
    assert main(["impute", run, "shop.csv", "-o", "full.csv"]) == 0
    assert not pd.read_csv("full.csv").isna().to_numpy().any()


@pytest.mark.parametrize("text", ["2024-02-{:02d}", "{:02d}.2.2024", "2/{:02d}/24", "2024/02/{:02d} 10:30"])
def test_dates_as_text_are_told_from_other_text(text):
    frame = pd.DataFrame({"day": [text.format(1 + i % 28) for i in range(60)], "x": np.arange(60.0)})
    with pytest.warns(VaelabWarning, match=r"'day' of X holds dates as text.*to_datetime"):
        Schema.fit(frame)
    frame.loc[0, "day"] = "Monday"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dates as text")
        Schema.fit(frame)


def test_dates_with_slashes_and_the_year_first_are_dates_in_a_file(tmp_path):
    frame = pd.DataFrame({"day": pd.date_range("2024-01-30", periods=60), "x": np.arange(60.0)})
    written = frame.assign(day=frame["day"].dt.strftime("%Y/%m/%d"))
    written.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(VaelabWarning, match="column 'day' as dates, year first"):
        found, _ = read_csv(tmp_path / "t.csv")
    assert (found["day"] == frame["day"]).all()
