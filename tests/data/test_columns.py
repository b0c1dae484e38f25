"""Tables with categories and gaps: coded and back, scaled, read from files."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab.data import MappedArray, Scaling, Schema, from_arrays, load, load_rows
from vaelab.errors import InputError, VaelabWarning

NAN = math.nan


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "length": [1.5, None, 3.25, 4.0],
            "city": ["Rome", "Oslo", None, "Rome"],
            "size": pd.Categorical(["S", None, "L", "S"], categories=["S", "M", "L"], ordered=True),
            "grade": pd.Categorical([3, 1, 1, 3]),
            "open": [True, False, True, True],
            "asked": [None, False, True, None],
            "count": [7, 8, 9, 10],
            "whole": pd.array([1, None, 3, 4], dtype="Int64"),
        }
    )


CODED = torch.tensor(
    [
        [1.5, 1, 0, 1, 1, NAN, 7, 1],
        [NAN, 0, NAN, 0, 0, 0, 8, NAN],
        [3.25, NAN, 2, 0, 1, 1, 9, 3],
        [4.0, 1, 0, 1, 1, NAN, 10, 4],
    ],
    dtype=torch.float64,
)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def test_frames_are_coded_by_what_their_columns_hold():
    schema = Schema.fit(frame())
    assert schema.levels == (0, 2, 3, 2, 2, 2, 0, 0)
    assert [column.levels for column in schema.columns[1:6]] == [
        ("Oslo", "Rome"),
        ("S", "M", "L"),  # declared, though M does not occur
        (1, 3),
        (False, True),
        (False, True),
    ]
    coded = schema.to_tensor(frame())
    assert coded.dtype == torch.float64
    assert same(coded, CODED)


def test_columns_are_found_by_name_and_text_may_come_as_a_category():
    schema = Schema.fit(frame())
    shuffled = frame()[frame().columns[::-1]].astype({"city": "category", "size": "object"})
    assert same(schema.to_tensor(shuffled), CODED)


def test_frames_come_back():
    schema, given = Schema.fit(frame()), frame()
    back = schema.to_frame(CODED)
    assert list(back.columns) == list(given.columns)
    pd.testing.assert_series_equal(back["size"], given["size"])
    assert list(back["city"].where(back["city"].notna(), "?")) == ["Rome", "Oslo", "?", "Rome"]
    assert back["open"].dtype == bool
    assert back["grade"].dtype == given["grade"].dtype
    assert back["count"].tolist() == [7.0, 8.0, 9.0, 10.0]
    assert same(schema.to_tensor(back), CODED)


@pytest.mark.parametrize(
    ("given", "levels", "row"),
    [
        (np.array([["b", 1.5], [None, 2], ["a", None]], dtype=object), (2, 0), [1, 1.5]),
        ([["b", 1.5], [None, 2], ["a", 3]], (2, 0), [1, 1.5]),
        (np.array([["x", "q"], ["y", "q"]]), (2, 1), [0, 0]),
        (np.array([[1.0, NAN], [2.0, 3.0]], dtype=np.float32), (0, 0), [1, NAN]),
        (torch.tensor([[1.0, NAN], [2.0, 3.0]], dtype=torch.float64), (0, 0), [1, NAN]),
        (np.array([[True, False], [False, False]]), (2, 2), [1, 0]),
        (np.array([[1, 2], [3, 4]]), (0, 0), [1, 2]),
    ],
)
def test_arrays_are_coded_by_position(given, levels, row):
    schema = Schema.fit(given)
    assert schema.levels == levels
    coded = schema.to_tensor(given)
    assert same(coded[0].double(), torch.tensor(row, dtype=torch.float64))
    assert coded.dtype == (torch.float32 if getattr(given, "dtype", None) == np.float32 else torch.float64)
    if not isinstance(given, torch.Tensor):
        assert same(schema.to_tensor(schema.to_array(coded)), coded)


def test_schema_survives_plain_values():
    import yaml

    schema = Schema.fit(frame())
    assert Schema.from_meta(yaml.safe_load(yaml.safe_dump(schema.meta()))) == schema
    with pytest.raises(InputError, match="form"):
        Schema.from_meta([{"name": "a"}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"city": ["Rome", "Bern", "Oslo", "Ulm"]}, r"unknown level 'Bern', 'Ulm' in column 'city'.*'Oslo', 'Rome'"),
        ({"grade": [1, 2, 3, 1]}, r"unknown level 2.* in column 'grade'.*1, 3"),
        ({"length": ["a", "b", "c", "d"]}, "column 'length' of X without numbers"),
        ({"length": [1.0, np.inf, NAN, 2.0]}, r"1 infinite value\(s\).*'length'"),
        ({"extra": [1, 2, 3, 4]}, r"extra column\(s\) 'extra'"),
        ({"city": ["Rome", 3, None, "Oslo"]}, "number and text.*astype"),
    ],
)
def test_rows_unlike_those_of_fit_are_refused(change, message):
    schema = Schema.fit(frame())
    with pytest.raises(InputError, match=message):
        schema.to_tensor(frame().assign(**change))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (frame().assign(none=[None] * 4), "'none' of X without any entry"),
        (frame().assign(when=np.ones(4) * 1j), "'when' of X of dtype complex"),
        (frame().assign(odd=[[1], [2], [3], [4]]), "'odd' of X with values of kind list"),
        (frame().assign(cut=pd.cut([1, 2, 3, 4], 2)), "categories of type Interval"),
        (pd.concat([frame(), frame()[["city"]]], axis=1), "several columns named 'city'"),
        (np.zeros((4, 1, 3, 3)), "a table"),
        (np.zeros(4), "Reshape your data"),
        ([["a", 1], ["b"]], r"shape \(2,\)"),
    ],
)
def test_what_is_no_mixed_table_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        Schema.fit(given)


def test_columns_that_name_rows_are_pointed_out():
    rows = pd.DataFrame({"id": [f"row {i}" for i in range(50)], "x": np.arange(50.0)})
    with pytest.warns(VaelabWarning, match="'id' of X names rows.*made anew.*row 50 and on"):
        Schema.fit(rows)


def test_gaps_are_filled_and_nothing_else_is_touched():
    schema, given = Schema.fit(frame()), frame()
    complete = CODED.clone()
    complete[1, [0, 2, 7]] = torch.tensor([2.5, 1, 2.25], dtype=torch.float64)
    complete[2, 1], complete[[0, 3], 5] = 0, 1
    out = schema.fill(given, complete)
    assert out.index.equals(given.index)
    assert out["length"].tolist() == [1.5, 2.5, 3.25, 4.0]
    assert out["city"].tolist() == ["Rome", "Oslo", "Oslo", "Rome"]
    assert out["size"].tolist() == ["S", "M", "L", "S"]
    assert out["size"].dtype == given["size"].dtype
    assert out["asked"].tolist() == [True, False, True, True]
    assert out["count"].dtype == np.int64
    assert out["whole"].tolist() == [1, 2, 3, 4]
    assert out["whole"].dtype == "Int64"
    pd.testing.assert_frame_equal(given, frame())  # the caller's own is left as it is
    shuffled = schema.fill(given[given.columns[::-1]], complete)
    pd.testing.assert_frame_equal(shuffled[given.columns], out)


@pytest.mark.parametrize("make", [np.array, torch.tensor, lambda x: np.array(x, dtype=object), list])
def test_arrays_are_filled_in_their_own_kind(make):
    given = make([[1.0, NAN], [2.0, 3.0]])
    out = Schema.of_numbers(2).fill(given, torch.tensor([[1.0, 9.0], [2.0, 3.0]]))
    assert np.asarray(out, dtype=float).tolist() == [[1.0, 9.0], [2.0, 3.0]]
    assert isinstance(out, torch.Tensor if isinstance(given, torch.Tensor) else np.ndarray)


def test_scaling_leaves_categories_and_reads_observed_numbers():
    schema = Schema.fit(frame())
    scaling = Scaling.fit(CODED, "table", columns=schema.names, levels=schema.levels)
    net = scaling.to_net(CODED, dtype=torch.float64)
    chosen = torch.tensor(schema.levels) > 0
    assert same(net[:, chosen], CODED[:, chosen])
    numbers = net[:, ~chosen]
    torch.testing.assert_close(numbers.nanmean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(numbers.square().nanmean(0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(scaling.from_net(net), CODED, equal_nan=True)
    again = Scaling.from_state(scaling.state(), scaling.meta())
    again.check(CODED)
    with pytest.raises(InputError, match="infinite"):
        again.check(CODED.nan_to_num(nan=math.inf))


def test_volume_counts_observed_entries_only():
    x = torch.tensor([[1.0, 10.0], [3.0, NAN], [NAN, NAN], [5.0, 30.0]], dtype=torch.float64)
    scaling = Scaling.fit(x, "table", levels=(0, 0))
    one, two = scaling.scale.log().tolist()
    assert scaling.log_volume_of(x).tolist() == pytest.approx([one + two, one, 0.0, one + two])


def test_scaling_by_blocks_is_that_of_the_observed_values(monkeypatch):
    import vaelab.data.scaling as module

    generator = torch.Generator().manual_seed(0)
    x = 1e6 + torch.randn(500, 3, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.6] = NAN
    x[:40, 1] = NAN  # a column without any entry in the first blocks
    monkeypatch.setattr(module, "blocks", lambda rows: rows.split(20))
    scaling = Scaling.fit(x, "table", levels=(0, 0, 0))
    seen = [column[~column.isnan()] for column in x.T]
    torch.testing.assert_close(scaling.shift, torch.stack([column.mean() for column in seen]), rtol=1e-13, atol=0)
    wanted = torch.stack([column.std(correction=0) for column in seen])
    torch.testing.assert_close(scaling.scale, wanted, rtol=1e-9, atol=0)


def test_a_constant_column_is_one_whose_observed_entries_are_equal():
    x = torch.tensor([[2.0, 1.0], [NAN, 0.0], [2.0, 1.0]])
    with pytest.warns(VaelabWarning, match="1 constant column.*: a"):
        scaling = Scaling.fit(x, "table", columns=["a", "b"], levels=(0, 2))
    assert scaling.scale.tolist() == [1, 1]
    assert scaling.shift.tolist() == [2, 0]


def test_files_keep_categories_only_where_asked(tmp_path):
    path = tmp_path / "t.csv"
    rows = pd.concat([frame().drop(columns="grade")] * 5)
    rows.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"'city', 'size', 'asked'; .*likelihood='mixed'"):
        load(path)
    data = load(path, mixed=True)
    assert data.columns == tuple(rows.columns)
    assert data.schema.levels == (0, 2, 2, 2, 2, 0, 0)
    assert len(data.train) + len(data.test) == 20
    rows.iloc[:4, ::-1].to_csv(path, index=False)
    read, columns = load_rows(path, schema=data.schema)
    assert columns == data.columns
    kept = CODED[:, [0, 1, 2, 4, 5, 6, 7]]
    kept[:, 2] = torch.tensor([1, NAN, 0, 1])  # a file knows no order: L, S
    assert same(read, kept)


def test_gaps_in_files_are_refused_with_a_remedy(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [1.0, None, 2.0, 3.0], "b": [1.0, 2.0, 3.0, 4.0]}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"1 NaN .*column\(s\) 'a'.*likelihood='mixed'"):
        load(path)
    assert load(path, mixed=True).schema.levels == (0, 0)


@pytest.mark.parametrize("mapped", [True, False])
def test_numbers_with_gaps_on_disk(tmp_path, mapped):
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[4, 1] = NAN
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InputError, match="likelihood='mixed'"):
        load(tmp_path / "x.npy", memory_map=mapped)
    data = load(tmp_path / "x.npy", mixed=True, memory_map=mapped)
    assert isinstance(data.train.x, MappedArray) == mapped
    assert data.schema == Schema.of_numbers(3)


def test_archives_are_coded_by_one_schema(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x_train=np.array([["b"], ["c"], ["b"]]), x_test=np.array([["a"], ["c"]]))
    data = load(path, mixed=True)
    assert data.schema.columns[0].levels == ("a", "b", "c")
    assert data.train.x.flatten().tolist() == [1, 2, 1]
    assert data.test.x.flatten().tolist() == [0, 2]


def test_joined_frames_and_their_fingerprint():
    schema = Schema.fit(frame())
    data = from_arrays(frame(), frame().iloc[:1], schema=schema)
    assert same(data.train.x, CODED)
    assert same(data.test.x, CODED[:1])
    other = frame().assign(city=["Bonn", "Aarau", None, "Bonn"])  # other names for the same numbers
    assert (
        from_arrays(other, schema=Schema.fit(other)).fingerprint() != from_arrays(frame(), schema=schema).fingerprint()
    )
