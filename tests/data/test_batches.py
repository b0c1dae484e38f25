"""Rows and what belongs to them, taken in parts: by index, in memory or on disk, and held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vaelab.data import ArrayBatches, MappedBatches, TrainSplit
from vaelab.data.batches import split
from vaelab.data.mapped import MappedArray
from vaelab.data.partition import partition

N = 20
X = torch.arange(2.0 * N).view(N, 2)
C = 100 + torch.arange(float(N)).view(N, 1)


def in_memory(tmp_path):
    return ArrayBatches(X, C)


def on_disk(tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    return MappedBatches(MappedArray(tmp_path / "x.npy"), C)


@pytest.mark.parametrize("make", [in_memory, on_disk])
def test_parts_of_parts_are_the_rows_that_were_named(make, tmp_path):
    """Also once moved to a device, where a subset leaves the other rows behind."""
    part, rows = make(tmp_path), torch.arange(N)
    for index in ([17, 3, 11, 5, 8, 2], [4, 1, 5], [2, 0]):
        part, rows = part.subset(torch.tensor(index)), rows[index]
        for each in (part, part.to("cpu")):
            index = torch.arange(len(rows)).flip(0)
            x, c = each.take(index)
            assert len(each) == len(rows)
            assert torch.equal(x, X[rows[index]])
            assert torch.equal(c, C[rows[index]])


def test_a_moved_subset_holds_its_own_rows_only():
    moved = ArrayBatches(X, C).subset(torch.tensor([7, 2])).to("meta")
    assert moved.x.shape == (2, 2)
    assert moved.c.shape == (2, 1)


def test_parts_of_a_split_keep_what_belongs_to_their_rows():
    whole = TrainSplit(X, torch.arange(N), C, groups=torch.arange(N) // 3)
    index = torch.tensor([13, 4, 9])
    part = whole.subset(index)
    wanted = (X[index], index, C[index], index // 3)
    for found, want in zip((part.x, part.labels, part.c, part.groups), wanted, strict=True):
        assert torch.equal(found, want)


@pytest.mark.parametrize(("n", "fraction", "held"), [(20, 0.25, 5), (20, 0.01, 1), (3, 0.5, 2), (7, 0.2, 1)])
def test_every_row_is_kept_or_held_out(n, fraction, held):
    kept, out = partition(n, fraction, seed=3)
    assert len(out) == held
    assert sorted([*kept.tolist(), *out.tolist()]) == list(range(n))
    assert all(torch.equal(part, part.sort().values) for part in (kept, out))


def test_which_rows_are_held_out_is_random_and_the_seeds():
    found = [tuple(partition(200, 0.5, seed)[1].tolist()) for seed in range(40)]
    assert len(set(found)) == 40
    assert found[0] == tuple(partition(200, 0.5, 0)[1].tolist())
    times = torch.bincount(torch.tensor(found).flatten(), minlength=200)
    assert (times - 20).abs().max() <= 5 * 10**0.5  # five standard deviations
    kept, out = split(ArrayBatches(X, C), 0.25, seed=4)
    for part, rows in zip((kept, out), partition(N, 0.25, 4), strict=True):
        assert torch.equal(part.take(torch.arange(len(part)))[0], X[rows])
