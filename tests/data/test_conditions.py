"""Conditions in every form a user has: what a network is given, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab.data import Conditioning, from_arrays
from vaelab.data.conditions import is_one_hot
from vaelab.errors import InputError


@pytest.mark.parametrize(
    "y",
    [
        np.array(["b", "a", "b"]),
        ["b", "a", "b"],
        np.array(["b", "a", "b"], dtype=object),
        pd.Series(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], dtype="category"),
    ],
)
def test_text_is_classes(y):
    conditioning = Conditioning.fit(y)
    assert conditioning.classes == ("a", "b")
    assert conditioning.shape == (2,)
    c = conditioning.to_net(y)
    assert torch.equal(c, torch.tensor([[0.0, 1], [1, 0], [0, 1]]))
    assert torch.equal(conditioning.labels(c), torch.tensor([1, 0, 1]))


@pytest.mark.parametrize("y", [[3, 1, 3], np.array([3, 1, 3]), torch.tensor([3, 1, 3]), pd.Series([3, 1, 3])])
def test_whole_numbers_are_classes_and_so_are_their_names(y):
    conditioning = Conditioning.fit(y)
    assert conditioning.classes == ("1", "3")
    for same in (3, np.int64(3), "3", 3.0):
        assert torch.equal(conditioning.to_net(same, 2, spread=True), torch.tensor([[0.0, 1], [0, 1]]))


def test_pandas_categories_and_missing_values():
    numbers = pd.Categorical([1, 2, 3, 1])
    for y in (numbers, pd.Series(numbers), pd.DataFrame({"a": numbers}), pd.Series([1, 2, 3, 1], dtype="Int64")):
        assert Conditioning.fit(y).classes == ("1", "2", "3")
    assert Conditioning.fit(pd.DataFrame({"a": numbers, "b": pd.Categorical([0.5, 1.5, 0.5, 0.5])})).shape == (5,)
    assert Conditioning.fit(pd.DataFrame({"a": [1, 2], "b": pd.array([1, 2], dtype="Int64")})).shape == (2,)
    for gap in (
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series(["a", None], dtype="string"),
        pd.Series([True, None], dtype="boolean"),
        pd.Categorical(["a", None]),
    ):
        with pytest.raises(InputError, match=r"missing|NaN"):
            Conditioning.fit(gap)


def test_one_column_is_no_table():
    """A frame of one column, or (n, 1), is read as the column alone is."""
    frame = pd.DataFrame({"kind": ["a", "b", "a"]})
    conditioning = Conditioning.fit(frame)
    assert conditioning.classes == ("a", "b")
    assert torch.equal(conditioning.to_net(frame), conditioning.to_net(["a", "b", "a"]))
    assert torch.equal(conditioning.to_net("b"), torch.tensor([[0.0, 1]]))
    assert Conditioning.fit(np.array([[0], [1]])).classes == ("0", "1")


def test_columns_go_by_their_names():
    conditioning = Conditioning.fit(pd.DataFrame({"height": [1.0, 2], "weight": [3.0, 5]}))
    with pytest.raises(InputError, match="without height, but with Height"):
        conditioning.to_net(pd.DataFrame({"weight": [3.0], "Height": [1.0]}))
    assert torch.equal(conditioning.to_net(np.array([[1.0, 3]])), torch.tensor([[-1.0, -1]]))


def test_booleans_are_classes():
    assert Conditioning.fit(np.array([True, False])).classes == ("False", "True")


def test_numbers_are_standardised():
    y = np.random.default_rng(0).normal(5, 3, 50)
    c = Conditioning.fit(y).to_net(y)
    assert c.shape == (50, 1)
    assert c.mean().abs() < 1e-6
    assert c.std(correction=0) == pytest.approx(1, abs=1e-6)


def test_a_table_of_both_kinds_by_name():
    frame = pd.DataFrame({"size": [1.0, 2, 3], "kind": ["x", "y", "x"], "count": [1, 2, 3], "on": [True, False, True]})
    conditioning = Conditioning.fit(frame)
    assert conditioning.shape == (1 + 2 + 1 + 2,), "whole numbers in a table are quantities"
    assert conditioning.classes is None
    shuffled = frame[["on", "count", "size", "kind"]]
    assert torch.equal(conditioning.to_net(frame), conditioning.to_net(shuffled))
    assert torch.equal(conditioning.to_net(frame)[:, 1:3], torch.tensor([[1.0, 0], [0, 1], [1, 0]]))


def test_rows_of_text_and_numbers():
    conditioning = Conditioning.fit([[1.0, "x"], [3.0, "y"]])
    assert torch.equal(conditioning.to_net([3.0, "x"], 2, spread=True), torch.tensor([[1.0, 1, 0], [1, 1, 0]]))
    assert torch.equal(conditioning.to_net([[1, "y"]]), torch.tensor([[-1.0, 0, 1]]))


def test_a_constant_column_has_no_infinities():
    for value in (1.0, 0.1):  # of 0.1 a standard deviation by formula is 1e-17
        y = np.full((60, 2), value)
        assert torch.equal(Conditioning.fit(y).to_net(y), torch.zeros(60, 2))
        assert Conditioning.fit(y).to_net(y + 0.1).max() == pytest.approx(0.1)
        steps = [np.full((4, 1), value)] * 7
        assert Conditioning.fit(steps).to_net([steps[0] + 0.1]).max() == pytest.approx(1.0), "the channel of presence"


def test_sequences_are_padded_on_the_left():
    y = [np.array([[1.0], [2.0], [3.0]]), np.array([[4.0]])]
    conditioning = Conditioning.fit(y)
    assert conditioning.shape == (3, 2)
    c = conditioning.to_net(y)
    points = np.array([1.0, 2, 3, 4])
    standard = (points - points.mean()) / points.std()
    assert c[0, :, 0].numpy() == pytest.approx(standard[:3], abs=1e-6)
    assert torch.equal(c[1, :2], torch.zeros(2, 2))
    assert float(c[1, 2, 0]) == pytest.approx(standard[3], abs=1e-6)
    assert torch.equal(c[..., 1], torch.tensor([[1.0, 1, 1], [0, 0, 1]]))
    longer = np.arange(5.0)[:, None]
    assert conditioning.to_net(longer, 2, spread=True).shape == (2, 3, 2), (
        "the last three steps of one sequence, for both rows"
    )
    assert torch.equal(conditioning.to_net([longer]), conditioning.to_net([longer[2:]]))


@pytest.mark.parametrize(
    "y",
    [
        np.array(["b", "a"]),
        np.array([0.5, 1.5]),
        [[1.0, "x"], [2.0, "y"]],
        np.arange(12.0).reshape(2, 3, 2),
    ],
)
def test_it_survives_a_file(y):
    import yaml

    conditioning = Conditioning.fit(y)
    again = Conditioning.from_meta(yaml.safe_load(yaml.safe_dump(conditioning.meta())))
    assert again == conditioning
    assert torch.equal(again.to_net(y), conditioning.to_net(y))
    with pytest.raises(InputError, match="saved conditioning"):
        Conditioning.from_meta({"form": "column"})


CLASSES = Conditioning.fit(["a", "b"])
NUMBERS = Conditioning.fit(np.arange(6.0).reshape(3, 2))
MIXED = Conditioning.fit([[1.0, "x"], [2.0, "y"]])
STEPS = Conditioning.fit(np.zeros((3, 4, 2)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: CLASSES.to_net(None, 3), "no y.*one of the classes a, b.*Pass y"),
        (lambda: CLASSES.to_net(["a", "z"]), "unknown class z.*one of a, b"),
        (lambda: CLASSES.to_net(["a", "b"], 3), "2 conditions in y for 3 rows"),
        (lambda: CLASSES.to_net(["a"], 3), "1 conditions in y for 3 rows; wanted one per row"),
        (lambda: CLASSES.to_net(["a", "b"], 3, spread=True), "one per row, or a single one"),
        (lambda: CLASSES.to_net(np.zeros((2, 2))), "2 column"),
        (lambda: NUMBERS.to_net(np.zeros((2, 3))), "3 column.*2 columns"),
        (lambda: NUMBERS.to_net([0.0], 2), "1 column"),
        (lambda: NUMBERS.to_net([[0.0, float("nan")]]), "NaN"),
        (lambda: MIXED.to_net([["x", "x"]]), "text in 'column 0'"),
        (lambda: STEPS.to_net(np.zeros((2, 4, 3))), "3 features per step.*2"),
        (lambda: Conditioning.fit(["a", None]), "missing label"),
        (lambda: Conditioning.fit([1.0, float("inf")]), "infinite"),
        (lambda: Conditioning.fit(np.zeros((2, 0))), "shape"),
        (lambda: Conditioning.fit([[1.0], [1.0, 2.0]]), "rows of 1, 2 values"),
    ],
)
def test_what_does_not_fit_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_labels_of_a_data_set_become_conditions():
    data = from_arrays(np.zeros((3, 2)), labels=["b", "a", "b"]).conditioned()
    assert data.conditioning.classes == ("a", "b")
    assert torch.equal(data.train.c, torch.tensor([[0.0, 1], [1, 0], [0, 1]]))
    assert data.conditioned() is data
    assert data.unconditioned().train.c is None
    assert torch.equal(data.train.subset(torch.tensor([1])).c, torch.tensor([[1.0, 0]]))
    model = Conditioning.of_classes(("a", "b", "c"))
    plain = from_arrays(np.zeros((3, 2)), labels=["b", "a", "b"])
    assert plain.conditioned(model).train.c.shape == (3, 3), "a trained model's classes, in its order"
    with pytest.raises(InputError, match="unknown class b"):
        plain.conditioned(Conditioning.of_classes(("a", "c")))
    with pytest.raises(InputError, match=r"without labels.*label_column"):
        from_arrays(np.zeros((3, 2))).conditioned()


def test_conditions_of_arrays_and_those_of_another_model():
    y = np.array([1.0, 2, 3])
    data = from_arrays(np.zeros((3, 2)), y=y)
    assert data.conditioned(Conditioning.fit(y)) is data
    with pytest.raises(InputError, match="units of its own"):
        data.conditioned(Conditioning.fit(10 * y))
    assert from_arrays(np.zeros((3, 2)), y=["b", "a", "b"]).classes == ("a", "b")


def test_one_hot_rows():
    assert is_one_hot(torch.eye(3))
    assert not is_one_hot(torch.tensor([[0.5, 0.5]]))
    assert not is_one_hot(torch.ones(2, 2))
    assert not is_one_hot(torch.zeros(2, 2, 2))
