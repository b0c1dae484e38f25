"""Batches and samples of several parts: what is the row, whatever put them together, or a word on why not."""

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler, TensorDataset, default_collate

from vaelab.data import gather
from vaelab.errors import InputError

X = np.arange(200.0).reshape(20, 10)
Y = np.arange(20) % 2
PAIRS = [(row.tolist(), int(label)) for row, label in zip(X, Y, strict=True)]
GRIDS = [torch.full((5, 3), float(i)) for i in range(12)]


@pytest.mark.parametrize("size", [1, 4, 10])
def test_rows_that_are_lists_come_out_as_rows(size):
    x, y = gather(DataLoader(PAIRS, batch_size=size), y=True)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    whole = [([int(value) for value in row], label) for row, label in PAIRS]
    np.testing.assert_array_equal(gather(DataLoader(whole, batch_size=size))[0], X)
    nested = [([row[:5], row[5:]], [label, 1 - label]) for row, label in PAIRS]
    x, y = gather(DataLoader(nested, batch_size=size), y=True)
    np.testing.assert_array_equal(x, X.reshape(20, 2, 5))
    np.testing.assert_array_equal(y, np.stack([Y, 1 - Y], 1))
    named = [{"x": row, "label": str(label)} for row, label in PAIRS]
    x, y = gather(DataLoader(named, batch_size=size), key="x", y=True)
    np.testing.assert_array_equal(x, X)
    assert y.tolist() == [str(label) for label in Y]


def test_samples_that_are_lists_of_numbers_are_rows():
    rows = gather(DataLoader([row for row, _ in PAIRS], batch_size=4))[0]
    np.testing.assert_array_equal(rows, X)
    with pytest.raises(InputError, match="without labels"):
        gather(DataLoader([row for row, _ in PAIRS], batch_size=4), y=True)


def test_further_parts_of_a_sample_are_left_out():
    def collate(samples):
        rows, labels, places = zip(*samples, strict=True)
        return torch.stack(rows), torch.tensor(labels), torch.tensor(places)

    samples = [(torch.tensor(row), label, i) for i, (row, label) in enumerate(PAIRS)]
    for options in ({}, {"collate_fn": collate}):
        x, y = gather(DataLoader(samples, batch_size=3, **options), y=True)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 12, 30])
def test_batches_that_are_lists_of_samples_are_refused(size):
    with pytest.raises(InputError, match=r"parts of the shapes \(5, 3\).*collate_fn stack"):
        gather(DataLoader(GRIDS, batch_size=size, collate_fn=list))
    batches = BatchSampler(SequentialSampler(GRIDS), size, drop_last=False)
    with pytest.raises(InputError, match="parts of the shapes"):
        gather(DataLoader(GRIDS, batch_sampler=batches, collate_fn=list))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (DataLoader([(1.5, 0)] * 4, batch_size=2), "2 parts"),
        (DataLoader([(1.5, 0, 7)] * 4, batch_size=2), "3 parts"),
        (DataLoader(GRIDS, batch_size=4, collate_fn=lambda rows: (torch.stack(rows), torch.zeros(5))), "2 parts"),
        (DataLoader(PAIRS, batch_size=10, collate_fn=lambda pairs: default_collate(pairs)), "2 parts"),
        (DataLoader(PAIRS, batch_size=4, collate_fn=lambda pairs: default_collate(pairs)), "2 parts"),
        (DataLoader([([torch.zeros(2), torch.zeros(3)], 0)] * 4), "several shapes"),
    ],
)
def test_parts_of_which_none_can_be_meant_are_refused(loader, message):
    with pytest.raises(InputError, match=message):
        gather(loader)


def test_more_labels_than_rows_are_refused():
    loader = DataLoader(GRIDS, batch_size=4, collate_fn=lambda rows: {"x": torch.stack(rows), "y": torch.zeros(5)})
    with pytest.raises(InputError, match=r"5 label\(s\) for 4 rows"):
        gather(loader, key="x", y="y")


def test_a_users_function_may_leave_samples_out():
    loader = DataLoader(GRIDS, batch_size=4, collate_fn=lambda rows: torch.stack(rows[1:]))
    assert len(gather(loader)[0]) == 9


def test_more_rows_than_the_length_says_are_refused():
    class Long(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, place):
            return X[place]

        def __getitems__(self, places):
            return [X[place] for place in (*places, 0)]

    with pytest.raises(InputError, match="goes on after 3 rows"):
        gather(DataLoader(Long(), batch_size=3))


def test_dictionaries_of_numbers_are_read_by_name():
    x, y = gather(iter([{"a": 1, "b": 2, "y": 0}, {"b": 4, "y": 1, "a": 1.5}]), y=True)
    np.testing.assert_array_equal(x, [[1, 2], [1.5, 4]])
    assert y.tolist() == [0, 1]
    with pytest.raises(InputError, match="sample of 'a', 'c'; wanted 'a', 'b' as in the first"):
        gather({"a": 1, "b" if i < 300 else "c": i} for i in range(400))


def test_pairs_of_tensors_are_rows_and_labels():
    pairs = TensorDataset(torch.tensor(X), torch.tensor(Y))
    np.testing.assert_array_equal(gather(DataLoader(pairs, batch_size=2))[0], X)
