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
    assert sound.membership.interval[0] < 0.5
    assert "membership inference" in str(sound)
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
    assert math.isnan(found.membership.value)
    assert "membership" not in str(found)
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


def test_columns_that_a_model_drops_are_left_out_and_said(tmp_path):
    real, fake = _people(300, 0), _people(300, 1)
    found = compare_tables(real.assign(note="x"), fake)
    assert found.left_out == ("note",)
    assert "left out                note" in str(found)
    assert found.told_apart == compare_tables(real, fake).told_apart
    assert found.as_dict()["left_out"] == ["note"]
    with pytest.raises(InputError, match="in any order"):
        compare_tables(real, fake.assign(note="x"))
    page = _page(found, tmp_path)  # what each column holds, as the schema has it
    assert "int64: whole numbers from" in page
    assert "2 levels: high, low" in page


def test_frames_of_polars_are_compared_as_those_of_pandas():
    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    real, fake = (pd.DataFrame({"x": rng.normal(size=100), "k": rng.choice(["a", "b"], 100)}) for _ in range(2))
    one, two = compare_tables(real, fake), compare_tables(pl.from_pandas(real), pl.from_pandas(fake))
    assert one.as_dict() == two.as_dict()


def _page(found, tmp_path):
    found.save_html(tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_says_its_point_and_fetches_nothing(tmp_path):
    real, train = _people(400, 0), _people(400, 1)
    sound = _page(compare_tables(real, _people(400, 2), train=train, target="class"), tmp_path)
    assert "These rows pass for real ones" in sound or "These rows nearly pass for real ones" in sound
    assert "Nothing gives away which rows were trained on" in sound
    assert "entries are missing" in sound
    assert "http" not in sound.replace("http://www.w3.org", "")
    assert "\x1b" not in sound
    assert "$ odd" in sound
    shifted = _people(400, 2)
    shifted["income"] = shifted["income"].fillna(0) + 3
    text = _page(compare_tables(real, shifted), tmp_path)
    assert "easily told from real ones" in text
    assert "They go by “income” first" in text
    assert "sample with missing=True" in text
    assert "Membership" not in text
    lone = compare_tables(pd.DataFrame({"<b>x": np.arange(60.0)}), pd.DataFrame({"<b>x": np.arange(60.0) + 0.5}))
    text = _page(lone, tmp_path)
    assert "&lt;b&gt;x" in text
    assert "<b>x" not in text


def test_a_model_that_memorises_is_the_first_thing_on_the_page(tmp_path):
    rng = np.random.default_rng(0)
    train, real = rng.normal(size=(300, 4)), rng.normal(size=(300, 4))
    found = compare_tables(real, train + 0.02 * rng.normal(size=(300, 4)), train=train)
    assert found.membership.interval[0] > 0.6
    assert found.copies == 0
    text = _page(found, tmp_path)
    assert "These rows give away what they were learned from" in text
    assert text.index('id="privacy-title"') < text.index('id="clues-title"')
    copied = compare_tables(real, np.concatenate([train[:10], rng.normal(size=(290, 4))]), train=train)
    assert "3\N{NO-BREAK SPACE}% of these rows are copies of training rows" in _page(copied, tmp_path)
