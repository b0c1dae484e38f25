"""Levels of text that hardly occur: one level for the model, drawn by their shares."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import vaelab
from vaelab import GaussianVAE
from vaelab.data import Schema
from vaelab.data.column import TableColumn
from vaelab.data.rare import decided, heaviest
from vaelab.errors import InputError, VaelabWarning
from vaelab.model import Mixed


def frame(n: int = 400) -> pd.DataFrame:
    """Two towns of many rows, and 30 of one to three."""
    rng = np.random.default_rng(0)
    few = [f"hamlet {i}" for i in range(30) for _ in range(1 + i % 3)]
    towns = few + ["Bath", "York"] * ((n - len(few)) // 2)
    return pd.DataFrame({"town": rng.permutation(towns), "size": rng.normal(size=len(towns))})


def test_they_count_as_one():
    schema = Schema.fit(frame())
    column = schema.columns[0]
    assert column.levels == ("Bath", "York", "other levels")
    assert dict(column.rare) == {f"hamlet {i}": 1 + i % 3 for i in range(30)}
    coded = schema.to_tensor(frame())[:, 0]
    assert float((coded == 2).double().mean()) == pytest.approx(60 / 400)
    assert "3 levels: Bath, York, other levels; 30 rare ones are the last" in str(schema)
    again = Schema.from_meta(schema.meta()).columns[0]
    assert (again.levels, again.rare) == (column.levels, column.rare)


def test_they_come_back_by_their_shares():
    schema = Schema.fit(frame())
    coded = torch.tensor([[2.0, 0.0]]).repeat(6000, 1)
    coded[:, 1] = torch.arange(6000)
    coded[0, 0], coded[1, 0] = 0, float("nan")
    drawn = schema.to_frame(coded)["town"]
    assert drawn[0] == "Bath"
    assert pd.isna(drawn[1])
    shares = drawn[2:].value_counts(normalize=True)
    assert set(shares.index) == {f"hamlet {i}" for i in range(30)}
    assert shares["hamlet 2"] == pytest.approx(3 / 60, abs=0.01)
    assert shares["hamlet 0"] == pytest.approx(1 / 60, abs=0.008)
    assert drawn.equals(schema.to_frame(coded)["town"])
    assert list(schema.to_array(coded)[2:, 0]) == list(drawn[2:])


def test_what_was_not_there_is_rare_too():
    schema, new = Schema.fit(frame()), pd.DataFrame({"town": ["Rome", "York", None], "size": [0.0, 1.0, 2.0]})
    assert schema.to_tensor(new)[:2, 0].tolist() == [2, 1]
    filled = schema.fill(new, torch.tensor([[2.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    assert list(filled["town"][:2]) == ["Rome", "York"]
    assert filled["town"][2].startswith("hamlet")
    with pytest.raises(InputError, match="It is rare, one of 'other levels', which can be given"):
        schema.coded_value(0, "hamlet 3")
    few = Schema.fit(pd.DataFrame({"town": ["Bath", "York"] * 5}))  # of which none is rare
    with pytest.raises(InputError, match="unknown level 'Rome'"):
        few.to_tensor(new[["town"]])


@pytest.mark.parametrize("levels", [12, 60])
def test_few_levels_and_declared_ones_stay(levels):
    names = [f"hamlet {i}" for i in range(levels) for _ in range(2)]
    text = pd.DataFrame({"town": names})
    assert Schema.fit(text.astype("category")).levels == (levels,)
    assert Schema.fit(text, columns={"town": vaelab.specs.Category()}).levels == (levels,)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert Schema.fit(text).levels == (levels if levels == 12 else 1,)
    assert [str(each.message)[:40] for each in said] == (
        [] if levels == 12 else ["Column 'town' of X has 60 levels that ha"]
    )
    taken = [*names, *["other levels"] * 5]
    assert Schema.fit(pd.DataFrame({"town": taken})).columns[0].levels[-1] == (
        "other levels" if levels == 12 else "other levels…"
    )


def test_the_most_likely_level_is_one_level():
    """Half of the rows have one of 120 rare levels, which no single one of is as likely as any town."""
    rng = np.random.default_rng(0)
    names = [*(f"town {j}" for j in range(8)), *(f"hamlet {j:03d}" for j in range(120))]
    city = rng.permutation([*(names[8:] * 2), *(names[:8] * 30)])
    table = pd.DataFrame({"city": city, "x": rng.normal(size=len(city)), "y": rng.normal(size=len(city))})
    model = GaussianVAE(2, network="mlp([8])", lr=5e-2, epochs=8, random_state=0).fit(table)
    few = table[["x", "y"]][:30]
    asked = model.predictive(few, "city", k=20)
    other = asked.proba()["city"]["other levels"]
    assert other.mean() > 0.3
    found = asked.predict()["city"]
    assert found.str.startswith("town").all()
    assert set(model.reconstruct(table)["city"]) <= set(names[:8])
    assert set(model.impute(table[:30].assign(city=None), k=20)["city"]) <= set(names[:8])
    assert model.sample(200)["city"].str.startswith("hamlet").mean() > 0.2
    alone = model.predictive(few[:3], "city", k=20).predict()["city"]
    assert list(alone) == list(found[:3])


def test_a_rare_level_that_is_the_most_likely_is_the_most_frequent():
    column = Schema.fit(frame()).columns[0]
    mixed = Mixed((3, 0, 3))
    weights = torch.tensor([[0.5, 0.2, 0.15, 0.65, 0.2, 0.15, 0.65]]).log()
    mixed.heaviest = heaviest([column, TableColumn("x"), TableColumn("y")])
    assert mixed.heaviest == {0: 3 / 60}
    assert mixed.mean(weights).tolist() == [[0, weights[0, 0], 2]]
    rows = torch.tensor([[2.0, 0.5], [1.0, 2.0]])
    schema = Schema.fit(frame())
    back = schema.to_frame(decided(schema.columns, rows))["town"]
    assert dict(column.rare)[back[0]] == 3
    assert back[1] == "York"


def test_names_of_rows_do_not_hide_what_the_others_hold():
    """150 names in 200 rows: a training that may learn them by heart finds nothing else."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=200)
    table = pd.DataFrame({f"x{j}": size + 0.3 * rng.normal(size=200) for j in range(4)})
    table.insert(0, "name", [f"model {i % 150} {'ab'[i % 2]}" for i in range(200)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        model = GaussianVAE(4, network="mlp([64])", lr=3e-3, epochs=100, random_state=0).fit(table)
    gain = model.trained_.facts.gaussian_gain
    assert gain.value > 2 * gain.error
    drawn = model.sample(300)
    assert set(drawn["name"]) <= set(table["name"])
    found = vaelab.compare_tables(table, drawn)
    assert next(one.levels for one in found.columns if one.name == "name") > 0.5
    assert np.corrcoef(drawn["x0"], drawn["x1"])[0, 1] > 0.5
