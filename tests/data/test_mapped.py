"""MappedArray and the batches: the same rows as in memory, in the order asked for."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from vaelab.data import ArrayBatches, MappedArray, MappedBatches, Scaling, as_batches, mapped, split
from vaelab.errors import InputError


@pytest.fixture
def images(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    return torch.from_numpy(x), MappedArray(tmp_path / "x.npy")


def test_rows_keep_the_order_of_the_index(images):
    x, array = images
    index = torch.tensor([7, 3, 49, 3, 0, 12])
    assert torch.equal(array.rows(index), x[index])
    assert torch.equal(array.rows(index.numpy()), x[index])
    assert array.rows(index[:0]).shape == (0, 3, 4, 4)


def test_shape_dtype_and_blocks(images):
    x, array = images
    assert (array.shape, array.dtype, len(array)) == (x.shape, torch.uint8, 50)
    assert torch.equal(torch.cat(list(array.blocks(100))), x)
    assert len(list(array.blocks(48 * 7))) == 8


def test_views_of_views(images):
    x, array = images
    view = array.subset(torch.arange(40, 10, -1)).subset(torch.tensor([0, 5, 29]))
    assert torch.equal(view.rows(torch.tensor([2, 0])), x[[11, 40]])
    assert torch.equal(torch.cat(list(view.blocks(50))), x[[40, 35, 11]])
    assert len(view) == 3


def test_rows_outside_are_refused(images):
    with pytest.raises(IndexError, match="row 3 … 50 of an array of 50"):
        images[1].rows(torch.tensor([50, 3]))
    with pytest.raises(IndexError):
        images[1].subset(torch.arange(5)).rows(torch.tensor([5]))
    with pytest.raises(IndexError):
        images[1].rows(torch.tensor([-1]))


def test_reading_in_small_portions_changes_nothing(images, monkeypatch):
    monkeypatch.setattr(mapped, "AT_ONCE", 200)
    x, array = images
    index = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(array.rows(index), x[index])


@pytest.mark.parametrize("dtype", [">f8", "<i4", bool, np.float16])
def test_other_dtypes(tmp_path, dtype):
    x = np.arange(12).reshape(6, 2).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    array = MappedArray(tmp_path / "x.npy")
    rows = array.rows(torch.tensor([4, 1]))
    assert rows.dtype == array.dtype
    assert rows.dtype.is_floating_point
    assert np.array_equal(rows.double().numpy(), x[[4, 1]].astype(float))


def test_pickling_opens_the_file_again(images):
    x, array = images
    view = pickle.loads(pickle.dumps(array.subset(torch.tensor([9, 4]))))
    assert torch.equal(view.rows(torch.tensor([0, 1])), x[[9, 4]])
    assert len(pickle.dumps(array)) < 1000


def test_files_that_cannot_be_mapped(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(np.ones((3, 4))))
    with pytest.raises(InputError, match=r"Fortran order.*ascontiguousarray"):
        MappedArray(path)
    np.save(path, np.array([[1, "a"]], dtype=object))
    with pytest.raises(InputError, match="pickled Python objects"):
        MappedArray(path)
    np.save(path, np.ones((3, 4), complex))
    with pytest.raises(InputError, match="complex128; wanted real numbers"):
        MappedArray(path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match=r"no \.npy file"):
        MappedArray(path)
    np.save(path, np.ones((0, 4)))
    with pytest.raises(InputError, match="at least one row"):
        MappedArray(path)
    np.save(path, np.ones((30, 4)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"952 bytes.*960 bytes.*cut off"):
        MappedArray(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_does_not_grow_with_the_file(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8)
    with (tmp_path / "x.npy").open("wb") as file:  # written, since a sparse file would be read page by page
        header = {"descr": "|u1", "fortran_order": False, "shape": (300 * 16, 2**16)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(300):
            file.write(values.data)
    program = """
import sys, torch
from vaelab.data import MappedArray
def read(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
array = MappedArray(sys.argv[1])
before = read("VmRSS")
order = torch.randperm(len(array), generator=torch.Generator().manual_seed(0))
for index in order.split(64):
    array.rows(index)
for block in array.blocks():
    pass
print((read("VmHWM") - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.npy")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120


def test_a_file_cut_off_while_it_is_read_is_refused(images):
    _, array = images
    with array.path.open("r+b") as file:
        file.truncate(array.path.stat().st_size - 48)
    assert array.rows(torch.tensor([48])).shape == (1, 3, 4, 4)
    with pytest.raises(InputError, match="cut off"):
        array.rows(torch.tensor([0, 49]))


def test_batches_from_disk_equal_batches_from_memory(images):
    x, array = images
    c = torch.eye(5)[torch.arange(50) % 5]
    scaling = Scaling.fit(x, "image")
    memory, disk = as_batches(x, c, scaling), as_batches(array, c, scaling)
    assert isinstance(memory, ArrayBatches)
    assert isinstance(disk, MappedBatches)
    index = torch.tensor([31, 2, 2, 40])
    for batches in (memory, disk, memory.to("cpu"), disk.to("cpu")):
        taken, condition = batches.take(index)
        assert taken.dtype == torch.float32
        assert torch.equal(taken, x[index].float() / 255)
        assert torch.equal(condition, c[index])
        assert (batches.event_shape, batches.noise_shape, len(batches)) == ((3, 4, 4), (0,), 50)
    assert memory.x.dtype == torch.uint8
    assert memory.x.data_ptr() == x.data_ptr()


def test_float_rows_pass_untouched():
    x = torch.rand(6, 1, 2, 2)
    taken, condition = ArrayBatches(x, None, Scaling.fit(x, "image")).take(torch.tensor([4, 1]))
    assert torch.equal(taken, x[[4, 1]])
    assert condition is None
    assert (
        ArrayBatches(x, dtype=torch.float64, scaling=Scaling.fit(x, "image")).take(torch.tensor([0]))[0].dtype
        == torch.float64
    )


def test_rows_without_a_scaling_come_in_the_dtype_asked_for(tmp_path):
    x = torch.rand(6, 3, dtype=torch.float64)
    np.save(tmp_path / "x.npy", x.numpy())
    for rows in (x, MappedArray(tmp_path / "x.npy")):
        assert torch.equal(as_batches(rows).take(torch.tensor([0]))[0], x[:1].float())
        assert torch.equal(as_batches(rows, dtype=torch.float64).take(torch.tensor([0]))[0], x[:1])


def test_tables_are_standardised_alike_in_memory_and_on_disk(tmp_path):
    x = np.random.default_rng(1).normal(1e6, 3, (30, 4))
    np.save(tmp_path / "x.npy", x)
    scaling = Scaling.fit(torch.from_numpy(x), "table")
    index = torch.tensor([5, 29, 0])
    memory = ArrayBatches(torch.from_numpy(x), None, scaling).take(index)[0]
    disk = MappedBatches(MappedArray(tmp_path / "x.npy"), None, scaling).take(index)[0]
    expected = ((x - x.mean(0)) / x.std(0))[index.numpy()]
    assert np.allclose(memory.numpy(), expected, atol=1e-5)
    assert torch.equal(memory, disk)
    assert memory.dtype == torch.float32


def test_split_is_seeded_disjoint_and_leaves_the_global_generator(images):
    x, array = images
    c = torch.arange(50.0)[:, None]
    scaling = Scaling.fit(x, "image")
    state = torch.get_rng_state()
    for rows in (x, array):
        kept, held = split(as_batches(rows, c, scaling), 0.2, seed=3)
        assert (len(kept), len(held)) == (40, 10)
        rows_held, which = held.take(torch.arange(10))
        assert torch.equal(rows_held, x[which[:, 0].long()].float() / 255)
        which_kept = kept.take(torch.arange(40))[1]
        assert sorted([*which.flatten().tolist(), *which_kept.flatten().tolist()]) == list(range(50))
    again = split(as_batches(x, c, scaling), 0.2, seed=3)[1].take(torch.arange(10))[1]
    other = split(as_batches(x, c, scaling), 0.2, seed=4)[1].take(torch.arange(10))[1]
    assert torch.equal(again, which)
    assert not torch.equal(other, which)
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_refuse_what_does_not_fit(images):
    x, array = images
    with pytest.raises(InputError, match=r"uint8 without a scaling.*Scaling\.fit"):
        ArrayBatches(x)
    with pytest.raises(InputError, match="without a scaling"):
        MappedBatches(array)
    with pytest.raises(InputError, match=r"x of type ndarray.*torch\.from_numpy\(x\)"):
        ArrayBatches(x.numpy())
    with pytest.raises(InputError, match=r"c of type ndarray.*torch\.from_numpy\(c\)"):
        ArrayBatches(x, np.ones((50, 1)), Scaling.fit(x, "image"))
    with pytest.raises(InputError, match="3 conditions for 50 rows"):
        ArrayBatches(x, torch.ones(3, 1), Scaling.fit(x, "image"))
    with pytest.raises(InputError, match=r"rows of shape \(3, 4, 4\); wanted \(3, 2, 4\)"):
        ArrayBatches(x, None, Scaling.fit(x[:, :, :2], "image"))
    with pytest.raises(InputError, match="at least one row on either side"):
        split(ArrayBatches(torch.rand(1, 2)), 0.5)
    with pytest.raises(InputError, match="between 0 and 1"):
        split(ArrayBatches(torch.rand(4, 2)), 1.0)
