"""Columns that others determine are found where they are planted, and nowhere else, and samples keep them."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab import GaussianVAE, load
from vaelab.data import Schema
from vaelab.data.ties import Tie, find_ties, on_grid, set_tied
from vaelab.errors import InputError, VaelabWarning

RNG = np.random.default_rng(0)
N = 600


def planted() -> pd.DataFrame:
    """A town with its region and rent, a total of two prices, and the same in another unit."""
    rng = np.random.default_rng(0)
    town = rng.integers(0, 12, N)
    rents = np.array([5.5, 7.25, 5.5, 9.0, 3.75, 8.0, 6.5, 7.0, 4.25, 9.5, 6.0, 8.75])
    frame = pd.DataFrame({"town": [f"t{k:02d}" for k in town], "region": [f"r{k // 4}" for k in town]})
    frame["rent"] = rents[town]
    frame["food"] = (100 * rng.gamma(2, 1, N)).round() / 100
    frame["travel"] = rng.poisson(3, N).astype("int64")
    frame["total"] = (frame["rent"] + frame["food"] + frame["travel"]).round(2)
    frame["cents"] = (100 * frame["total"]).round().astype("int64")
    return frame


def ties_of(frame):
    schema = Schema.fit(frame)
    return find_ties(schema.to_tensor(frame), schema.names, schema.levels)


def test_what_is_planted_is_found():
    ties = ties_of(planted())
    assert set(ties) == {"region", "rent", "total", "cents"}
    assert ties["region"].sources == ties["rent"].sources == ("town",)
    sums = {name: dict(zip(ties[name].sources, ties[name].weights, strict=True)) for name in ("total", "cents")}
    assert sums["cents"] == {"total": 100.0} or sums["cents"] == {"rent": 100.0, "food": 100.0, "travel": 100.0}
    assert sums["total"] == {"rent": 1.0, "food": 1.0, "travel": 1.0}
    assert ties["region"].described == "determined by town"
    assert Tie.from_meta(ties["total"].meta()) == ties["total"]
    assert Tie.from_meta(ties["rent"].meta()) == ties["rent"]
    assert Tie(("a", "b"), (1.0, -2.0), -3.0).described == "= a -2 · b -3"


def test_gaps_hide_no_tie_and_one_exception_breaks_it():
    frame = planted()
    frame["total"] = frame["total"].mask(RNG.random(N) < 0.2)
    frame["region"] = frame["region"].mask(RNG.random(N) < 0.2)
    assert {"region", "rent"} <= set(ties_of(frame))
    frame = planted()[["town", "region", "food", "travel"]].assign(total=lambda x: x["food"] + x["travel"])
    assert set(ties_of(frame)) == {"region", "total"}
    frame.loc[3, "total"] += 0.01
    frame.loc[5, "region"] = "r0" if frame.loc[5, "region"] != "r0" else "r1"
    assert ties_of(frame) == {}


@pytest.mark.parametrize("seed", range(5))
def test_chance_ties_nothing(seed):
    """Rare levels, few values, near copies: none determines another."""
    rng = np.random.default_rng(seed)
    rare = np.where(rng.random(N) < 0.002, "yes", "no")
    rare[0] = "yes"
    x = rng.normal(size=N)
    frame = pd.DataFrame({"rare": rare, "many": rng.integers(0, 50, N), "few": rng.integers(0, 2, N), "x": x})
    frame["near"] = 2 * x + 1e-3 * rng.normal(size=N)
    assert ties_of(frame) == {}
    frame.loc[:2, "many"] = 60  # three rows with a value and a level of their own are no evidence
    frame["rare"] = np.where(frame["many"] == 60, "yes", "no")
    assert ties_of(frame) == {}
    assert ties_of(planted()[:99]) == {}


def test_values_that_were_not_met_stay_and_gaps_too():
    tie = Tie(("town",), table=((0.0, 5.0), (1.0, 6.0), (3.0, 7.0)))
    found = tie.values(torch.tensor([[1.0], [2.0], [3.0], [math.nan]]))
    assert found[[0, 2]].tolist() == [6.0, 7.0]
    assert found[[1, 3]].isnan().all()
    assert on_grid(torch.tensor([12.299, 7.0], dtype=torch.float64), 0.1).tolist() == [12.3, 7.0]
    assert on_grid(torch.tensor([12.0, 7.0], dtype=torch.float64), 5.0).tolist() == [10.0, 5.0]


def test_samples_keep_ties_and_the_schema_says_them(tmp_path):
    frame = planted()
    frame["total"] = frame["total"].mask(RNG.random(N) < 0.1)
    options = {"network": "mlp([16])", "epochs": 4, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        model = GaussianVAE(3, likelihood="mixed", **options).fit(frame)
        free = GaussianVAE(3, likelihood="mixed(ties=none)", **options).fit(frame)
    model.save(tmp_path / "run")
    for each in (model, load(tmp_path / "run")):
        drawn = each.sample(300, missing=True)
        region = frame.groupby("town")["region"].first()
        assert (drawn["region"] == drawn["town"].map(region)).all()
        assert (drawn["rent"] == drawn["town"].map(frame.groupby("town")["rent"].first())).all()
        whole = drawn.dropna()
        assert 0 < len(whole) < 300
        for total in (whole["total"], whole["cents"] / 100):
            np.testing.assert_allclose(total, whole["rent"] + whole["food"] + whole["travel"], atol=1e-6)
        assert "determined by town" in str(each.schema_)
    assert not any(column.tie for column in free.schema_.columns)
    given = model.sample(20, given={"region": "r1"})
    assert set(given["town"]) <= {"t04", "t05", "t06", "t07"}


def test_a_sum_that_holds_only_where_another_column_is_there_is_none():
    rng = np.random.default_rng(0)
    a, b, extra = rng.normal(size=(3, 400)).round(2)
    odd = rng.random(400) < 0.5
    frame = pd.DataFrame({"a": a, "b": b, "t": a + b + np.where(odd, extra, 0.0), "e": np.where(odd, np.nan, extra)})
    rows = torch.tensor(frame.to_numpy())
    assert "t" not in find_ties(rows, list(frame.columns), (0, 0, 0, 0))


def test_a_sum_of_a_sum_is_set_after_it():
    names = ["big", "t", "c", "d", "e"]
    ties = {"big": Tie(("e", "t"), (1.0, 1.0), 0.0), "t": Tie(("c", "d"), (1.0, 1.0), 0.0)}
    rows = set_tied(torch.tensor([[9.0, 9.0, 1.0, 2.0, 4.0]]), ties, Schema.of_numbers(5, names))
    assert rows.tolist() == [[7.0, 3.0, 1.0, 2.0, 4.0]]


def test_what_others_determine_is_filled_in_so():
    frame = planted()[["food", "travel", "rent", "total"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        model = GaussianVAE(2, network="mlp([8])", likelihood="mixed", epochs=2, random_state=0).fit(frame)
        gaps = frame[:40].copy()
        gaps.loc[:19, "total"] = np.nan
        gaps.loc[20:, ["total", "food"]] = np.nan
        for full in (model.impute(gaps), *model.impute(gaps, draws=2)):
            np.testing.assert_allclose(full["total"], full[["food", "travel", "rent"]].sum(axis=1), atol=1e-9)
        with pytest.raises(InputError, match="without a probability"):
            model.impute_quantiles(gaps, [])
