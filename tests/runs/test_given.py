"""Rows with given columns follow the model's law under that condition."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab import GaussianVAE, TwoStageVAE
from vaelab.data import Scaling, Schema
from vaelab.errors import InputError, VaelabWarning
from vaelab.runs.given import draw_balanced, matcher

SHORT = {"network": "mlp([32])", "epochs": 40, "random_state": 0}


def test_a_gaussian_given_a_range_has_its_known_conditional():
    rng = np.random.default_rng(0)
    first = rng.normal(size=1000)
    X = np.stack([first, 0.8 * first + 0.6 * rng.normal(size=1000)], 1)
    model = GaussianVAE(1, likelihood="gaussian(shape=diag-i)", **SHORT).fit(X)
    drawn = model.sample(2000, given={0: (1.0, 1.2)})
    assert drawn[:, 0].min() >= 1.0
    assert drawn[:, 0].max() <= 1.2
    assert drawn[:, 1].mean() == pytest.approx(0.8 * 1.1, abs=0.12)
    assert drawn[:, 1].std() == pytest.approx(0.6, abs=0.08)
    assert (drawn == model.sample(2000, given={0: (1.0, 1.2)})).all()


def test_levels_values_dates_and_lists():
    rng = np.random.default_rng(0)
    size = rng.normal(size=600)
    frame = pd.DataFrame(
        {
            "sex": np.where(size + 0.5 * rng.normal(size=600) > 0, "F", "M"),
            "age": (40 + 10 * size).round().astype("int64"),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 100, 600), unit="D"),
        }
    )
    model = TwoStageVAE(2, likelihood="mixed", densities=("gaussian",), **SHORT).fit(frame)
    given = {"sex": "F", "age": (30, 40), "day": ("2020-01-01", "2020-02-01")}
    drawn = model.sample(50, given=given)
    assert set(drawn["sex"]) == {"F"}
    assert drawn["age"].between(30, 40).all()
    assert (drawn["day"] <= "2020-02-01").all()
    assert set(model.sample(40, given={"age": [30, 31], "sex": ["F", "M"]})["age"]) <= {30, 31}
    assert (model.sample(5, given={"age": 42})["age"] == 42).all()
    for wrong, said in (
        ({"sex": "X"}, "one of 'F', 'M'"),
        ({"size": 1}, "one of sex, age, day"),
        ({"age": (40, 30)}, "low ≤ high"),
        ({"day": "soon"}, "a date"),
        ({"age": (1000, 2000)}, "0 of"),
    ):
        with pytest.raises(InputError, match=said):
            model.sample(3, given=wrong)


def test_what_has_no_meaning_is_refused():
    X = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(InputError, match="no row equals"):
        GaussianVAE(1, **{**SHORT, "epochs": 1}).fit(X).sample(3, given={0: 1.0})
    images = np.random.default_rng(0).random((60, 1, 8, 8))
    with pytest.raises(InputError, match="images"):
        GaussianVAE(1, **{**SHORT, "epochs": 1}).fit(images).sample(3, given={0: 1.0})
    two = TwoStageVAE(1, condition="standard", densities=("gaussian",), **{**SHORT, "epochs": 1})
    with pytest.raises(InputError, match="conditional"):
        two.fit(X, X[:, 0] > 0).sample(3, y=True, given={0: (0, 1)})


def test_what_helps_is_named():
    frame = pd.DataFrame({"sex": ["F", "M"] * 50, "year": range(1950, 2050)})
    schema = Schema.fit(frame)
    mixed = schema.described(Scaling.fit(schema.to_tensor(frame), "table", levels=schema.levels))
    with pytest.raises(InputError, match=r"columns=\{'year': 'scores'\}"):
        matcher({"year": 2000}, mixed, densities=True)
    with pytest.raises(InputError, match="likelihood='mixed'"):
        matcher({"year": 2000}, Schema.of_numbers(1, ["year"]), densities=True)


def test_a_balanced_draw_has_equal_shares_and_each_level_keeps_its_law():
    rng = np.random.default_rng(0)
    rare = rng.random(800) < 0.1
    frame = pd.DataFrame(
        {
            "income": np.where(rare, "high", "low"),
            "age": (35 + 20 * rare + 5 * rng.normal(size=800)).round().astype("int64"),
            "label": rng.integers(0, 3, 800),
            "size": rng.normal(size=800),
        }
    )
    longer = {**SHORT, "lr": 3e-3, "epochs": 120}
    model = TwoStageVAE(3, likelihood="mixed", densities=("mixture(components=3)",), **longer).fit(frame)
    drawn = model.sample(301, balance="income")
    assert sorted(drawn["income"].value_counts()) == [150, 151]
    assert set(drawn["income"][:20]) == {"high", "low"}, "levels are not mixed"
    whole = model.sample(4000)
    assert (whole["income"] == "high").mean() < 0.3
    for level in ("high", "low"):
        own = [rows["age"][rows["income"] == level] for rows in (whole, drawn)]
        assert own[0].mean() == pytest.approx(own[1].mean(), abs=3 * own[0].std() / 10)
    assert (model.sample(30, balance="label")["label"].value_counts() == 10).all()
    both = model.sample(20, balance="income", given={"age": (40, 60)})
    assert both["age"].between(40, 60).all()
    assert (both["income"].value_counts() == 10).all()
    assert drawn.equals(model.sample(301, balance="income"))
    for wrong, said in (("size", "at most 20 values"), ("town", "one of income"), (3, "balanced, which holds numbers")):
        with pytest.raises(InputError, match=said):
            model.sample(10, balance=wrong)
    with pytest.raises(InputError, match=r"level '(high|low)', which 0 of"):
        model.sample(10, balance="income", given={"age": (500, 600)})


def test_a_level_that_is_not_met_is_named():
    def draw(n, block):
        return torch.zeros(n, 1)

    with pytest.raises(InputError, match="level 'b', which 0 of 100,000 drawn rows have"):
        draw_balanced(draw, 3, lambda rows: torch.ones(len(rows), dtype=torch.bool), 0, {0.0: "a", 1.0: "b"})


def test_values_that_are_close_are_other_values():
    """Minutes as seconds of the epoch, numbers like dates, and numbers of nine digits, by ones."""
    rng = np.random.default_rng(0)
    few = np.array([1_000_000_000, 1_000_000_001, 1_000_000_005])
    frame = pd.DataFrame(
        {
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 8, 400), unit="min"),
            "ymd": 20_200_100 + rng.integers(1, 9, 400),
            "few": rng.choice(few, 400),
        }
    )
    model = GaussianVAE(2, likelihood="mixed", **SHORT).fit(frame)
    assert set(model.sample(20, given={"when": "2020-01-01 00:03"}).when) == {pd.Timestamp("2020-01-01 00:03")}
    assert set(model.sample(20, given={"ymd": 20_200_105}).ymd) == {20_200_105}
    assert model.sample(30, balance="few").few.value_counts().to_dict() == dict.fromkeys(few.tolist(), 10)
    two = model.sample(30, balance="few", given={"few": few[:2].tolist()})
    assert two.few.value_counts().to_dict() == dict.fromkeys(few[:2].tolist(), 15)


def test_levels_that_never_occur_have_no_share():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300)})
    frame["size"] = pd.Categorical(np.where(frame["x"] > 0, "L", "S"), categories=["S", "M", "L"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        model = GaussianVAE(2, likelihood="mixed", network="mlp([8])", epochs=5, random_state=0).fit(frame)
    assert model.schema_.columns[1].unseen == (1,)
    assert Schema.from_meta(model.schema_.meta()).columns[1].unseen == (1,)
    assert model.sample(40, balance="size")["size"].value_counts().to_dict() == {"S": 20, "L": 20, "M": 0}
