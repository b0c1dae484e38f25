"""Columns as they are: every kind goes in and comes back bit for bit, and is taken for what somebody says."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from vaelab import specs
from vaelab.data import Schema
from vaelab.data.identifiers import Pattern
from vaelab.data.schema_text import choices, in_words
from vaelab.errors import InputError, MissingExtraError, VaelabWarning

N = 60
RNG = np.random.default_rng(0)
COUNT = np.arange(N)


def with_gaps(series, every=7):
    return series.mask(np.arange(len(series)) % every == 3)


KINDS = {
    "float64": pd.Series(RNG.normal(size=N)),
    "float64 with gaps": with_gaps(pd.Series(RNG.normal(size=N))),
    "float32": pd.Series(RNG.normal(size=N).astype(np.float32)),
    "Float64 with gaps": with_gaps(pd.Series(RNG.normal(size=N), dtype="Float64")),
    "Float32 with gaps": with_gaps(pd.Series(RNG.normal(size=N), dtype="Float32")),
    **{kind: pd.Series(COUNT % 100, dtype=kind) for kind in ("int8", "int16", "int64", "uint8", "uint64")},
    **{f"{kind} with gaps": with_gaps(pd.Series(COUNT, dtype=kind)) for kind in ("Int8", "Int64", "UInt16")},
    "large": pd.Series(2**52 + COUNT),
    "grid": pd.Series(np.round(RNG.normal(size=N), 2)),
    "atoms": pd.Series(np.where(COUNT % 2, 0.0, RNG.normal(size=N))),
    "constant": pd.Series(np.full(N, 3.5)),
    "constant, whole": pd.Series(np.full(N, 3, dtype=np.int16)),
    "constant text": pd.Series(["only"] * N),
    "bool": pd.Series(COUNT % 3 == 0),
    "boolean with gaps": with_gaps(pd.Series(COUNT % 3 == 0, dtype="boolean")),
    "bool objects": pd.Series([True, False, None] * 20, dtype=object),
    "str": pd.Series(["a", "b", "ü"] * 20),
    "str with gaps": with_gaps(pd.Series(["a", "b", ""] * 20)),
    "object": pd.Series(["a", "b", None] * 20, dtype=object),
    "string with gaps": with_gaps(pd.Series(["a", "b", "c"] * 20, dtype="string")),
    "category": pd.Series(["S", "L", "S"] * 20, dtype="category"),
    "category with gaps, unused levels": pd.Series(pd.Categorical(["S", None, "L"] * 20, categories=["L", "M", "S"])),
    "ordered": pd.Series(pd.Categorical(["S", None, "L"] * 20, categories=["S", "M", "L"], ordered=True)),
    "category of numbers": pd.Series(pd.Categorical([3, 1, 1] * 20, categories=[1, 2, 3])),
    "category of floats": pd.Series(pd.Categorical([0.5, 1.5, 1.5] * 20)),
    "category of booleans": pd.Series(pd.Categorical([True, False, True] * 20)),
    "dates": pd.Series(pd.date_range("2020-02-28", periods=N)),
    **{
        f"dates in {unit} with gaps": with_gaps(pd.Series(pd.date_range("1650-01-01", periods=N, unit=unit)))
        for unit in ("s", "ms", "us")
    },
    "times with a zone": pd.Series(pd.date_range("1999-03-27", periods=N, freq="37min", tz="Europe/Paris")),
    "times with a zone and gaps": with_gaps(pd.Series(pd.date_range("2024-10-27", periods=N, freq="13min", tz="UTC"))),
    "durations with gaps": with_gaps(pd.Series(pd.to_timedelta(COUNT**2, unit="s"))),
}
ARROW = {
    "double[pyarrow]": RNG.normal(size=N),
    "int32[pyarrow]": COUNT,
    "bool[pyarrow]": COUNT % 2 == 0,
}


def through(frame, columns=None):
    schema = Schema.fit(frame, columns=columns)
    again = Schema.from_meta(yaml.safe_load(yaml.safe_dump(schema.meta())))
    assert again == schema
    assert again.meta() == schema.meta() == json.loads(json.dumps(schema.meta()))
    return again.to_frame(schema.to_tensor(frame))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_bit_for_bit(kind):
    frame = pd.DataFrame({"x": KINDS[kind], "y": RNG.normal(size=N)})
    pd.testing.assert_frame_equal(through(frame), frame, check_exact=True)


def test_all_of_them_at_once_in_their_order():
    frame = pd.DataFrame(KINDS)
    pd.testing.assert_frame_equal(through(frame), frame, check_exact=True)


@pytest.mark.parametrize("dtype", ARROW)
def test_columns_of_arrow_come_back(dtype):
    frame = pd.DataFrame({"x": with_gaps(pd.Series(ARROW[dtype]).astype(dtype)), "y": COUNT})
    pd.testing.assert_frame_equal(through(frame), frame, check_exact=True)


@pytest.mark.parametrize("given", ["category", "ordered"])
@pytest.mark.parametrize(
    "kind", ["int16", "UInt16 with gaps", "float32", "bool", "str with gaps", "category", "ordered"]
)
def test_what_is_taken_for_a_category_comes_back_as_it_came(kind, given):
    frame = pd.DataFrame({"x": KINDS[kind], "y": RNG.normal(size=N)})
    columns = {"x": specs.Column.of(given)}
    schema = Schema.fit(frame, columns=columns)
    assert schema.ordered == (given == "ordered", False)
    assert schema.levels[0] == len(KINDS[kind].dropna().unique()) + (kind == "ordered")  # a level without entries
    pd.testing.assert_frame_equal(through(frame, columns), frame, check_exact=True)


def test_levels_have_the_order_that_is_said():
    frame = pd.DataFrame({"x": ["low", "high", "mid"] * 20, "y": COUNT})
    own = specs.Ordered(levels=("low", "mid", "high", "top"))
    schema = Schema.fit(frame, columns={"x": own})
    assert schema.columns[0].levels == ("low", "mid", "high", "top")
    assert schema.to_tensor(frame)[:3, 0].tolist() == [0, 2, 1]
    ages = Schema.fit(pd.DataFrame({"x": [30, 4, 100] * 20}), columns={"x": specs.Ordered()})
    assert ages.columns[0].levels == (4, 30, 100)


def test_a_schema_in_words_keeps_levels_that_no_row_has():
    frame = pd.DataFrame({"x": ["low", "high"] * 30, "y": COUNT, "z": [True] * N})
    own = {"x": specs.Category(levels=("high", "low", "never"))}
    schema = Schema.fit(frame, columns=own)
    written = choices(schema.given)
    assert written == {"x": {"kind": "category", "levels": ["high", "low", "never"]}, "y": "auto", "z": "category"}
    again = Schema.fit(frame, columns={name: specs.Column.of(value) for name, value in written.items()})
    assert again == schema
    declared = pd.DataFrame({"x": pd.Categorical(["b", "a"] * 30, ["b", "a", "c"], ordered=True), "y": COUNT})
    own = choices(Schema.fit(declared).given)
    assert own["x"] == {"kind": "ordered", "levels": ["b", "a", "c"]}
    for rows in (declared, declared.astype({"x": str})):  # also where a file keeps no declaration
        found = Schema.fit(rows, columns={"x": specs.Column.of(own["x"])})
        assert (found.columns[0].levels, found.columns[0].unseen) == (("b", "a", "c"), (2,))


def test_columns_that_are_dropped_may_hold_anything_and_do_not_come_back():
    frame = pd.DataFrame({"x": [[1]] * N, "y": RNG.normal(size=N), "z": [None] * N})
    schema = Schema.fit(frame, columns={"x": specs.Drop(), "z": specs.Drop()})
    assert schema.names == ("y",)
    for rows in (frame, frame[["y"]], frame[["z", "y"]]):
        pd.testing.assert_frame_equal(schema.to_frame(schema.to_tensor(rows)), frame[["y"]])
    with pytest.raises(InputError, match="without a column to model"):
        Schema.fit(frame[["x"]], columns={"x": specs.Drop()})


def test_identifiers_are_left_out_and_made_anew():
    frame = pd.DataFrame({"y": COUNT, "id": [f"C-{i:04d}" for i in COUNT], "n": 1000 + COUNT})
    with pytest.warns(VaelabWarning, match="'id' of X names rows.*made anew: C-0060 and on.*'category'"):
        schema = Schema.fit(frame, columns={"n": specs.Identifier()})
    assert schema.names == ("y",)
    assert schema.returned == ("y", "id", "n")
    out = schema.to_frame(schema.to_tensor(frame))
    assert list(out.columns) == list(frame.columns)
    assert out["id"][0] == "C-0060"
    assert out["n"].tolist() == list(range(1060, 1060 + N))
    assert out.dtypes.equals(frame.dtypes)
    kept = schema.to_frame(schema.to_tensor(frame), like=frame)
    pd.testing.assert_frame_equal(kept, frame)
    assert schema.to_array(schema.to_tensor(frame))[0].tolist() == [0, "C-0060", 1060]
    kept = Schema.fit(frame, columns={"id": specs.Category(), "n": specs.Drop()})
    assert kept.levels == (0, N)


def _uuids(n):
    words = RNG.integers(0, 2**32, (n, 4))
    return [
        f"{a:08x}-{b & 0xFFFF:04x}-4{c & 0xFFF:03x}-a{d & 0xFFF:03x}-{a:08x}{b & 0xFFFF:04x}" for a, b, c, d in words
    ]


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        ([f"P{i}" for i in range(5, 80)], r"P\d+"),
        ([f"{i:06d}/x" for i in range(80)], r"\d{6}/x"),
        (_uuids(80), r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"),
        (["".join(RNG.choice(list("ABCDEFGHXYZ"), 9)) for _ in range(80)], r"[A-Z]{9}"),
        ([f"{'x' * (i % 7)}name {i}" for i in range(80)], r"who-\d+"),
    ],
)
def test_fresh_identifiers_look_alike_and_are_nobodys(texts, pattern):
    found = Pattern.from_meta(json.loads(json.dumps(Pattern.of_texts("who", texts).meta())))
    rows = RNG.normal(size=(500, 2))
    made = found.texts(rows)
    assert pd.Series(made).str.fullmatch(pattern).all()
    assert len(set(made)) == 500
    assert not set(made) & set(texts)
    assert made == found.texts(rows)
    if found.places:
        assert not set(made) & set(found.texts(rows + 1))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"aeg": "ordered"}, "'aeg', which the table does not have.*Did you mean 'age'"),
        ({"city": "scores"}, "a number's kind for column 'city' of X, which holds none"),
        ({"when": "category"}, "'category' for column 'when' of X, which holds dates"),
        ({"when": "identifier"}, "'identifier' for column 'when'.*'drop'"),
        ({"city": {"kind": "ordered", "levels": ["Rome"]}}, "levels 'Rome' for column 'city'.*'Oslo', 'Rome'"),
        ({"size": {"kind": "ordered", "levels": ["L", "S"]}}, "levels 'L', 'S' for column 'size'.*reorder_categories"),
    ],
)
def test_choices_that_do_not_fit_are_refused(columns, message):
    frame = pd.DataFrame({"age": COUNT, "city": ["Rome", "Oslo"] * 30, "when": pd.date_range("2020", periods=N)})
    frame["size"] = pd.Categorical(["S", "L"] * 30, categories=["S", "L"])
    with pytest.raises(InputError, match=message):
        Schema.fit(frame, columns=specs.Mixed(columns=columns).columns)


def test_a_kind_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"column='ordred'.*Did you mean 'ordered'"):
        specs.Likelihood.of({"kind": "mixed", "columns": {"age": "ordred"}})


def test_whole_numbers_that_floats_round_are_refused():
    frame = pd.DataFrame({"x": 2**53 + np.arange(1, N + 1), "y": COUNT})
    with pytest.raises(InputError, match=r"'x' of X with whole numbers beyond 2\^53.*'identifier'"):
        Schema.fit(frame)
    assert Schema.fit(frame, columns={"x": specs.Identifier()}).names == ("y",)


def test_a_table_prints_as_one_with_what_it_holds():
    frame = pd.DataFrame({"age": COUNT, "city": with_gaps(pd.Series(["Rome", "Oslo"] * 30))})
    text = str(Schema.fit(frame, columns={"age": specs.Ordered()}))
    assert "age     ordered   –       int64  60 levels: 0 < 1 < 2 < …" in text
    assert "city    category  15.0 %  str    2 levels: Oslo, Rome" in text


def test_no_value_breaks_the_line_of_its_column():
    frame = pd.DataFrame({"x": ["a\nb: drop", "c\rd\x85e\u2028f"] * 30, "y\nz": COUNT})
    frame["id"] = [f"n\nx: drop{i}" for i in COUNT]
    schema = Schema.fit(frame, columns={"id": specs.Identifier()})
    assert len(str(schema).splitlines()) == 4
    assert all(len(in_words(column).splitlines()) == 1 for column in schema.given)


# polars


def polars_frame(pl):
    import datetime as dt

    days = [dt.date(2020, 1, 1) + dt.timedelta(days=int(i)) for i in COUNT]
    times = [dt.datetime(2020, 1, 1, 1, 2, 3, 45) + dt.timedelta(hours=int(i)) for i in COUNT]
    columns = {
        "i": pl.Series([None if i % 7 == 0 else int(i) for i in COUNT], dtype=pl.Int16),
        "u": pl.Series(COUNT, dtype=pl.UInt64),
        "f": pl.Series(RNG.normal(size=N), dtype=pl.Float32),
        "s": ["a", None, "b"] * 20,
        "b": [True, None, False] * 20,
        "c": pl.Series(["x", "y", "x"] * 20, dtype=pl.Categorical),
        "e": pl.Series(["lo", "hi", None] * 20, dtype=pl.Enum(["lo", "mid", "hi"])),
        "d": pl.Series(days, dtype=pl.Date),
        "t": pl.Series(times).dt.replace_time_zone("Europe/Rome"),
        "m": pl.Series(times).cast(pl.Datetime("ms")),
        "p": pl.Series([None if i % 5 == 0 else dt.timedelta(seconds=int(i)) for i in COUNT]),
        "h": pl.Series([dt.time(int(i) % 24, 5, 6) for i in COUNT]),
        "w": pl.Series([f"{i}.25" for i in COUNT]).cast(pl.Decimal(10, 2)),
    }
    return pl.DataFrame(columns)


def test_frames_of_polars_come_back_bit_for_bit():
    pl = pytest.importorskip("polars")
    from polars.testing import assert_frame_equal

    from vaelab.data.frames import polars_dtypes, to_polars

    frame = polars_frame(pl)
    schema = Schema.fit(frame)
    assert dict(zip(schema.names, schema.ordered, strict=True))["e"]  # an Enum has an order
    out = to_polars(schema.to_frame(schema.to_tensor(frame)), polars_dtypes(frame))
    assert_frame_equal(out, frame)
    assert torch.equal(
        schema.to_tensor(frame.select(reversed(frame.columns))).nan_to_num(), schema.to_tensor(frame).nan_to_num()
    )
    full = schema.fill(frame, schema.to_tensor(frame).nan_to_num(1.0))
    assert isinstance(full, pl.DataFrame)
    assert full.null_count().sum_horizontal().item() == 0
    assert_frame_equal(full.select("u", "c", "t"), frame.select("u", "c", "t"))
    with pytest.raises(InputError, match=r"LazyFrame.*collect\(\)"):
        Schema.fit(frame.lazy())


def test_whole_numbers_of_128_bits_and_objects_of_polars():
    pl = pytest.importorskip("polars")
    wide = pl.DataFrame(
        {"n": pl.Series(COUNT, dtype=pl.Int128), "x": COUNT, "o": pl.Series([{1}] * N, dtype=pl.Object)}
    )
    schema = Schema.fit(wide, columns={"o": specs.Drop()})
    assert schema.to_tensor(wide)[:, 0].tolist() == list(COUNT)
    assert schema.columns[0].whole
    with pytest.raises(InputError, match=r"'o' of X with values of kind set; .*a column of its own"):
        Schema.fit(wide)
    with pytest.raises(InputError, match="rows with whole numbers beyond 64 bits in 'n'"):
        Schema.fit(wide.with_columns(pl.lit(2**70, dtype=pl.Int128).alias("n")), name="rows")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [([1, 2], "column of its own"), ({"a": 1}, "column of its own"), (b"a", "Decode"), (pd.Interval(0, 1), "its ends")],
)
def test_cells_that_hold_no_single_value_are_refused_with_what_to_do(value, remedy):
    frame = pd.DataFrame({"y": COUNT, "x": pd.Series([value] * N, dtype=object)})
    with pytest.raises(InputError, match=f"column 'x' of X with values of kind .*{remedy}"):
        Schema.fit(frame)


def test_frames_of_polars_need_it_installed(monkeypatch):
    from vaelab.data import frames

    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(frames, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"vaelab\[polars\]"):
        frames.to_polars(pd.DataFrame({"x": COUNT}))
