"""`compare_tables` on frames and arrays: what is planted is found."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from vaelab import compare_tables
from vaelab.errors import InputError


def _people(n, seed):
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "age": (40 + 8 * size).round().astype("int64"),
            "income": np.where(size < -1, 0.0, np.exp(size)),
            "class": np.where(size > 0, "high", "low"),
            "$ odd \x1b[31m": rng.integers(0, 3, n).astype(str),
        }
    )
    frame.loc[rng.random(n) < 0.1, "income"] = np.nan
    return frame


def test_faults_are_found_where_they_are(tmp_path):
    real, train, fake = _people(400, 0), _people(400, 1), _people(400, 2)
    sound = compare_tables(real, fake, train=train, target="class")
    assert sound.told_apart.value == pytest.approx(0.5, abs=4 * sound.told_apart.error)
    assert min(sound.shape, sound.pair) > 0.9
    assert abs(sound.taught - sound.taught_by_real) < 0.05
    fake["age"] = fake["age"].astype(float) + 0.5  # off the grid
    fake.loc[:39, "income"] = 1e6  # out of range, and no gaps among them
    fake["class"] = "low"  # a level that is lost
    fake.iloc[-50:] = train.iloc[:50]  # copies
    found = compare_tables(real[fake.columns[::-1]], fake, train=train, target="class")
    columns = {column.name: column for column in found.columns}
    assert found.told_apart.value > 0.9
    assert columns["age"].off_grid == pytest.approx(350 / 400)
    assert columns["income"].outside == pytest.approx(40 / 400, abs=0.02)
    assert columns["income"].gaps_fake < columns["income"].gaps_real
    assert found.copies >= 50 / 400
    assert math.isnan(columns["class"].outside)
    text = str(found)
    assert "told apart" in text
    assert "copies of training rows" in text
    json.dumps(found.as_dict(), allow_nan=False)
    found.save(tmp_path / "tables.png")
    assert (tmp_path / "tables.png").read_bytes()[:4] == b"\x89PNG"


def test_arrays_and_wrong_input():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(120, 2)), rng.normal(size=(100, 2))
    found = compare_tables(X, Y, target=1)
    assert found.rows == (120, 100)
    assert math.isnan(found.copies)
    assert "copies" not in str(found)
    with pytest.raises(InputError, match="equal width"):
        compare_tables(X, Y[:, :1])
    with pytest.raises(InputError, match="target='z'"):
        compare_tables(X, Y, target="z")
    with pytest.raises(InputError, match="in any order"):
        compare_tables(_people(60, 0), _people(60, 1).rename(columns={"age": "years"}))
    with pytest.raises(InputError, match="at least 50"):
        compare_tables(X[:40], Y)


def test_identifiers_are_not_compared():
    rows = pd.DataFrame({"x": np.random.default_rng(0).normal(size=200), "id": [f"C-{i}" for i in range(200)]})
    found = compare_tables(rows[:100], rows[100:].assign(id=[f"C-{900 + i}" for i in range(100)]), train=rows[:100])
    assert [column.name for column in found.columns] == ["x"]


def test_frames_of_polars_are_compared_as_those_of_pandas():
    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    real, fake = (pd.DataFrame({"x": rng.normal(size=100), "k": rng.choice(["a", "b"], 100)}) for _ in range(2))
    one, two = compare_tables(real, fake), compare_tables(pl.from_pandas(real), pl.from_pandas(fake))
    assert one.as_dict() == two.as_dict()
