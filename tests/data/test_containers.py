"""What `gather` reads: the same rows as in an array, from every kind of container, in memory and on disk."""

import os
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from vaelab.data import MappedArray, gather
from vaelab.data.containers import KINDS, kind_of, spool
from vaelab.data.containers.spool import write_npy
from vaelab.errors import InputError, VaelabError

X = np.random.default_rng(0).integers(0, 256, (37, 1, 4, 5), dtype=np.uint8)
Y = np.arange(37) % 3


class Samples(Dataset):
    """Anything by place."""

    def __init__(self, sample, n=37):
        self.sample, self.n = sample, n

    def __len__(self):
        return self.n

    def __getitem__(self, place):
        if place >= 37:
            raise IndexError(place)
        return self.sample(place)


class Endless(IterableDataset):
    def __iter__(self):
        return ((X[i % 37], int(Y[i % 37])) for i in range(10**9))


class WithoutLength(Dataset):
    def __getitem__(self, place):
        return X[place]


def pair(i):
    return X[i], int(Y[i])


def dies(i):
    if i == 20:
        os._exit(1)
    return X[i]


def fails(i):
    if i == 20:
        raise KeyError("no such file")
    return X[i]


LABELLED = {
    "tensors": lambda: TensorDataset(torch.tensor(X), torch.tensor(Y)),
    "a set": lambda: Samples(pair),
    "a set of tensors": lambda: Samples(lambda i: (torch.tensor(X[i]), torch.tensor(Y[i]))),
    "a set of pictures": lambda: Samples(lambda i: (Image.fromarray(X[i, 0]), Y[i])),
    "a loader": lambda: DataLoader(Samples(pair), batch_size=8),
    "a loader with workers": lambda: DataLoader(Samples(pair), batch_size=8, num_workers=2),
    "a loader that shuffles": lambda: DataLoader(Samples(pair), batch_size=8, shuffle=True, drop_last=True),
    "a loader of single samples": lambda: DataLoader(Samples(pair), batch_size=None),
    "a loader with its own batches": lambda: DataLoader(
        Samples(pair), batch_sampler=BatchSampler(SequentialSampler(X), 7, drop_last=False)
    ),
    "a generator": lambda: (pair(i) for i in range(37)),
    "a generator of dictionaries": lambda: ({"image": Image.fromarray(X[i, 0]), "label": int(Y[i])} for i in range(37)),
}


@pytest.mark.parametrize("kind", LABELLED)
@pytest.mark.parametrize("memory_map", [None, True])
def test_rows_and_labels_are_those_of_the_array(kind, memory_map):
    x, y = gather(LABELLED[kind](), y=True, memory_map=memory_map)
    rows = x.rows(torch.arange(len(x))) if isinstance(x, MappedArray) else x
    assert isinstance(x, MappedArray) == (memory_map is True)
    np.testing.assert_array_equal(np.asarray(rows), X)
    assert np.asarray(rows).dtype == np.uint8
    np.testing.assert_array_equal(y, Y)
    assert gather(LABELLED[kind]())[1] is None


def test_a_sampler_that_chooses_rows_is_followed():
    loader = DataLoader(Samples(pair), batch_size=4, sampler=SubsetRandomSampler([5, 9, 30]))
    x, y = gather(loader, y=True)
    assert sorted(y.tolist()) == sorted(Y[[5, 9, 30]].tolist())
    assert len(x) == 3


def test_some_rows_of_what_has_no_end(tmp_path):
    x, y = gather(Endless(), rows=80, y=True)
    np.testing.assert_array_equal(x.numpy(), np.concatenate([X, X, X])[:80])
    assert len(y) == 80
    assert len(gather(WithoutLength(), rows=11)[0]) == 11
    assert len(gather(TensorDataset(torch.tensor(X)), rows=5)[0]) == 5
    rows = (X[i] for i in range(37))
    gather(rows, rows=11)
    assert len(list(rows)) == 26  # none was taken beyond
    kept, _ = gather(Endless(), rows=50, path=tmp_path / "rows.npy")
    assert len(np.load(tmp_path / "rows.npy")) == len(kept) == 50


def test_tensors_are_written_where_a_file_is_named(tmp_path):
    tensors = TensorDataset(torch.tensor(X), torch.tensor(Y))
    x, y = gather(tensors, rows=30, y=True, path=tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), X[:30])
    assert isinstance(x, MappedArray)
    np.testing.assert_array_equal(y, Y[:30])


def test_rows_on_disk_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    x, _ = gather(pair(i) for i in range(37))
    np.testing.assert_array_equal(x.rows(torch.tensor([36, 0, 3])).numpy(), X[[36, 0, 3]])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(InputError, match="rows in a file without a name"):
        x.__reduce__()


def test_a_file_is_what_numpy_writes(tmp_path):
    for n in (1, 123_456):
        with (tmp_path / "x.npy").open("w+b") as file:
            write_npy(file, iter([np.full((n, 2), 3, ">i2"), np.zeros((1, 2), ">i2")]))
        loaded = np.load(tmp_path / "x.npy")
        assert loaded.shape == (n + 1, 2)
        assert loaded.sum() == 6 * n


@pytest.mark.parametrize(
    ("container", "options", "message"),
    [
        (lambda: DataLoader(Samples(lambda i: {"a": X[i], "b": X[i]})), {}, r"dictionaries of 'a', 'b'.*key='a'"),
        (lambda: Samples(lambda i: {"a": X[i], "b": X[i]}), {"key": "c"}, "key='c'; wanted one of 'a', 'b'"),
        (lambda: Samples(lambda i: X[i][:, : 1 + i % 2]), {}, r"row of shape \(1, 2, 5\), row 1"),
        (lambda: (np.zeros(3 if i < 300 else 4) for i in range(400)), {}, r"row of shape \(4,\), row 300"),
        (lambda: DataLoader(Samples(lambda i: X[i][:, : 1 + i % 2]), batch_size=4), {}, "rows of one shape"),
        (lambda: DataLoader(Samples(fails), batch_size=4, num_workers=1), {}, "no such file"),
        (lambda: Samples(fails), {}, "after 0 rows .*no such file"),
        (lambda: Samples(pair, n=90), {}, "37"),
        (lambda: Samples(pair, n=0), {}, "without a row"),
        (lambda: iter([]), {}, "without a row.*read before"),
        (lambda: (X[i] for i in range(5)), {"rows": 6}, "ends after 5 rows; wanted the 6"),
        (lambda: (X[i] for i in range(5)), {"y": True}, "without labels"),
        (lambda: Samples(pair), {"y": "label"}, "labels have no names"),
        (lambda: Samples(pair), {"key": "x"}, "rows have no names"),
        (lambda: iter(["a", "b"]), {}, "rows of type str"),
        (lambda: iter([([[1], [2, 3]], 0)]), {}, "rows that are no regular arrays"),
        (lambda: iter([np.zeros(2), np.zeros(2, np.float32)]), {}, "float32, row 1; wanted float64"),
        (lambda: TensorDataset(torch.tensor(X)), {"key": "x"}, "rows have no names"),
        (lambda: TensorDataset(torch.tensor(X), torch.tensor(Y)), {"y": "label"}, "labels have no names"),
        (lambda: TensorDataset(torch.tensor(X)), {"rows": 38}, "ends after 37 rows; wanted the 38"),
        (lambda: TensorDataset(torch.zeros(0, 3)), {}, "without a row"),
        (lambda: X, {}, "X of type ndarray.*Arrays and frames are rows"),
        (lambda: iter(X), {"rows": 0}, "rows=0"),
    ],
)
@pytest.mark.parametrize("memory_map", [None, True])
def test_what_cannot_be_read_is_said(container, options, message, memory_map, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=message):
            gather(container(), memory_map=memory_map, **options)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_worker_that_dies_is_said():
    with pytest.raises(InputError, match=r"after .* rows .*workers that live"):
        gather(DataLoader(Samples(dies), batch_size=4, num_workers=1))


def test_a_failure_leaves_the_file_that_was_there(tmp_path):
    np.save(tmp_path / "rows.npy", X)
    with pytest.raises(InputError, match="no such file"):
        gather(Samples(fails), path=tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), X)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_said_before_rows_are_written(monkeypatch):
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="GB are free"):
        gather(Samples(pair), memory_map=True)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(VaelabError, match="Could not write rows"):
        gather(Samples(pair), memory_map=True)


def test_every_kind_says_what_it_is():
    assert kind_of(X) is None
    assert len({kind.title for kind in KINDS}) == len(KINDS)
