"""Stores: HDF5, Zarr and annotated matrices, as objects and as files; and WebDataset tars."""

import io
import json
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse

from vaelab import ConditionalVAE, GaussianVAE
from vaelab.data import MappedArray, gather, load, load_rows
from vaelab.data.containers import files, spool, stores
from vaelab.errors import InputError, MissingExtraError

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (60, 1, 4, 5), dtype=np.uint8)
COUNTS = np.random.default_rng(2).poisson(0.7, (60, 4)).astype(np.float32)
Y = np.array(["a", "b", "c"])[np.arange(60) % 3]
BRIEF = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def in_memory(x):
    """Rows in memory, from wherever they are."""
    return np.asarray(x.rows(torch.arange(len(x))) if isinstance(x, MappedArray) else x)


def hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=PIXELS, chunks=(7, 1, 4, 5), compression="gzip")
        file.create_dataset("label", data=np.arange(60) % 3)
        file.create_dataset("inner/table", data=X)
        file["kind"] = Y.tolist()


def zarr_group(path):
    group = zarr.open_group(path, mode="w")
    for name, values in (("images", PIXELS), ("label", np.arange(60) % 3), ("inner/table", X)):
        array = group.create_array(name, shape=values.shape, chunks=(7, *values.shape[1:]), dtype=values.dtype)
        array[:] = values


class AnnData:
    """What an annotated matrix in memory has."""

    __module__ = "anndata"

    def __init__(self, x, obs, var, layers, obsm):
        self.X, self.obs, self.var_names, self.layers, self.obsm = x, obs, var.index, layers, obsm


def annotated(kind=AnnData):
    obs = pd.DataFrame({"kind": pd.Categorical(Y), "batch": np.arange(60) % 2}, index=[f"cell{i}" for i in range(60)])
    var = pd.DataFrame(index=[f"gene{i}" for i in range(4)])
    layers = {"counts": sparse.csr_matrix(COUNTS), "columns": sparse.csc_matrix(COUNTS)}
    return kind(X, obs=obs, var=var, layers=layers, obsm={"X_pca": X[:, :2]})


def annotated_by_hand(path):
    """As the layout is described, without its package."""
    with h5py.File(path, "w") as file:
        file["X"] = X
        rows = sparse.csr_matrix(COUNTS)
        layer = file.create_group("layers/counts")
        layer.attrs["encoding-type"], layer.attrs["shape"] = "csr_matrix", (60, 4)
        for name in ("data", "indices", "indptr"):
            layer[name] = getattr(rows, name)
        file["obs/_index"] = [f"cell{i}" for i in range(60)]
        file["obs/kind/categories"], file["obs/kind/codes"] = ["a", "b", "c"], np.arange(60) % 3
        file["obs/holes/categories"], file["obs/holes/codes"] = ["a"], np.arange(60) % 3 - 1
        file["var/_index"] = [f"gene{i}" for i in range(4)]


@pytest.mark.parametrize(("write", "name"), [(hdf5, "x.h5"), (zarr_group, "x.zarr")])
@pytest.mark.parametrize("memory_map", [None, True])
def test_arrays_of_a_store(write, name, memory_map, tmp_path):
    write(tmp_path / name)
    found = load(tmp_path / name, memory_map=memory_map)
    assert (found.kind, found.classes, len(found.train)) == ("image", ("0", "1", "2"), 54)
    np.testing.assert_array_equal(in_memory(load_rows(tmp_path / name, memory_map=memory_map)[0]), PIXELS)
    table, _ = load_rows(tmp_path / name, key="inner/table")
    np.testing.assert_array_equal(table.numpy(), X)
    again = load(tmp_path / name, memory_map=memory_map)
    assert again.fingerprint() == found.fingerprint()
    with pytest.raises(InputError, match="key='none'; wanted an array of"):
        load(tmp_path / name, key="none")
    with pytest.raises(InputError, match="no 'none' in"):
        load(tmp_path / name, label_column="none")
    with pytest.raises(InputError, match="image_size for"):
        load(tmp_path / name, image_size=8)


def test_rows_of_a_store_are_written_once(tmp_path, monkeypatch):
    hdf5(tmp_path / "x.h5")
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    found = load(tmp_path / "x.h5")
    assert isinstance(found.train.x, MappedArray)
    before = found.fingerprint()
    (kept,) = (tmp_path / "cache").rglob("*.npy")
    np.testing.assert_array_equal(np.load(kept), PIXELS)
    monkeypatch.setattr(files, "spooled", None)
    assert load(tmp_path / "x.h5").fingerprint() == before
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept.write_bytes(kept.read_bytes()[:500])  # cut off: read anew
    assert load(tmp_path / "x.h5", memory_map=True).fingerprint() == before
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["images"][0] = 0
    assert load(tmp_path / "x.h5", memory_map=True).fingerprint() != before


def test_objects_of_a_store_are_read_in_place(tmp_path):
    hdf5(tmp_path / "x.h5")
    zarr_group(tmp_path / "x.zarr")
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(gather(file["images"])[0], PIXELS)
        x, y = gather(file, y="kind")
        assert y.tolist() == Y.tolist()
        np.testing.assert_array_equal(x, PIXELS)
        fitted = GaussianVAE(**BRIEF).fit(file["inner/table"])
        np.testing.assert_array_equal(fitted.sample(3), GaussianVAE(**BRIEF).fit(X).sample(3))
        with pytest.raises(InputError, match="a file or group that holds labels too"):
            ConditionalVAE(**BRIEF).fit(file["images"])
        with pytest.raises(InputError, match="an array of X: 'table'"):
            gather(file["inner"], key="x")
        assert len(gather(file["inner"], rows=11)[0]) == 11
    group = zarr.open(tmp_path / "x.zarr", mode="r")
    np.testing.assert_array_equal(gather(group, key="inner/table", rows=9)[0], X[:9])
    np.testing.assert_array_equal(gather(group["images"])[0], PIXELS)


@pytest.mark.parametrize("name", ["x.h5", "x.zarr"])
def test_labels_that_are_not_one_per_row_are_refused(name, tmp_path):
    h5 = name == "x.h5"
    store = h5py.File(tmp_path / name, "w") if h5 else zarr.open_group(tmp_path / name, mode="w")
    for key, values in (("x", X), ("y", np.zeros(61)), ("one", np.array(3.0))):
        store.create_dataset(key, data=values) if h5 else store.create_array(key, data=values)
    if h5:
        store.close()
    for label, message in (("y", "61 labels for 60 rows"), ("one", "a single value for labels")):
        with pytest.raises(InputError, match=message):
            load(tmp_path / name, key="x", label_column=label)


def test_labels_may_be_an_array_of_a_store(tmp_path):
    hdf5(tmp_path / "x.h5")
    expected = ConditionalVAE(**BRIEF).fit(X, Y).transform(X, Y)
    with h5py.File(tmp_path / "x.h5") as file:
        table, kind = file["inner/table"], file["kind"]
        for rows in (table, X):
            fitted = ConditionalVAE(**BRIEF).fit(rows, kind)
            np.testing.assert_array_equal(fitted.transform(rows, kind), expected)
        assert len(fitted.sample(60, y=kind)) == 60
        with pytest.raises(InputError, match="'inner' of X, a group, for labels"):
            gather(file, key="images", y="inner")
        with pytest.raises(InputError, match="y, which is an HDF5 file; wanted an array of labels"):
            ConditionalVAE(**BRIEF).fit(X, file)
    for closed in (file, table):
        with pytest.raises(InputError, match="HDF5 file that is closed"):
            gather(closed)
    with pytest.raises(InputError, match="y of an HDF5 file that is closed"):
        ConditionalVAE(**BRIEF).fit(X, kind)


def test_whole_chunks_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "AT_ONCE", 200)
    hdf5(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert stores._rows_at_once(file["images"]) == 7
        assert stores._rows_at_once(file["inner/table"]) == 12
        np.testing.assert_array_equal(gather(file, y=True)[0], PIXELS)


def test_an_annotated_matrix_and_its_columns(tmp_path):
    cells = annotated()
    x, y = gather(cells, y="kind")
    np.testing.assert_array_equal(x, X)
    assert y.tolist() == Y.tolist()
    for key in ("layers/counts", "layers/columns"):
        np.testing.assert_array_equal(gather(cells, key=key)[0], COUNTS)
    assert gather(cells, key="obsm/X_pca")[0].shape == (60, 2)
    expected = ConditionalVAE(**BRIEF).fit(X, Y)
    fitted = ConditionalVAE(**BRIEF).fit(cells, "kind")
    np.testing.assert_array_equal(fitted.transform(cells, "kind"), expected.transform(X, Y))
    with pytest.raises(InputError, match="one of X, layers/counts"):
        gather(cells, key="layers/none")
    with pytest.raises(InputError, match="Name one as y: 'kind', 'batch'"):
        ConditionalVAE(**BRIEF).fit(cells)


def test_annotated_matrices_as_their_package_writes_them(tmp_path):
    anndata = pytest.importorskip("anndata")
    cells = annotated(anndata.AnnData)
    np.testing.assert_array_equal(gather(cells, key="layers/columns")[0], COUNTS)
    anndata.settings.allow_write_nullable_strings = True
    cells.write_h5ad(tmp_path / "cells.h5ad")
    cells.write_zarr(tmp_path / "cells.zarr")
    for name in ("cells.h5ad", "cells.zarr"):
        for key, values in (("X", X), ("layers/counts", COUNTS), ("layers/columns", COUNTS), ("obsm/X_pca", X[:, :2])):
            np.testing.assert_array_equal(load_rows(tmp_path / name, key=key)[0], values)
        found = load(tmp_path / name, label_column="kind")
        assert (found.classes, found.columns) == (("a", "b", "c"), ("gene0", "gene1", "gene2", "gene3"))
        assert load(tmp_path / name, label_column="batch").classes == ("0", "1")


def test_the_layout_is_read_without_its_package(tmp_path, monkeypatch):
    annotated_by_hand(tmp_path / "cells.h5ad")
    monkeypatch.setattr(stores, "AT_ONCE", 100)
    found = load(tmp_path / "cells.h5ad", label_column="kind")
    assert (found.classes, found.columns) == (("a", "b", "c"), ("gene0", "gene1", "gene2", "gene3"))
    np.testing.assert_array_equal(load_rows(tmp_path / "cells.h5ad")[0], X)
    np.testing.assert_array_equal(load_rows(tmp_path / "cells.h5ad", key="layers/counts")[0], COUNTS)
    with pytest.raises(InputError, match=r"20 missing label\(s\) in 'holes'"):
        load(tmp_path / "cells.h5ad", label_column="holes")


@pytest.mark.parametrize("name", ["x.h5", "x.h5ad", "x.tar"])
def test_what_is_no_store_is_said(name, tmp_path):
    (tmp_path / name).write_bytes(b"something else" * 100)
    with pytest.raises(InputError, match=f"{name}, which cannot be read"):
        load(tmp_path / name)


def test_an_absent_package_is_named(tmp_path, monkeypatch):
    hdf5(tmp_path / "x.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"vaelab\[containers\]"):
        load(tmp_path / "x.h5")


def tars(folder, *, sizes=(4,), label=True, shards=2):
    """Write samples as images, arrays and labels of two kinds."""
    for shard in range(shards):
        with tarfile.open(folder / f"part-{shard}.tar", "w") as tar:
            for i in range(30 * shard, 30 * (shard + 1)):
                buffer, array = io.BytesIO(), io.BytesIO()
                Image.fromarray(PIXELS[i, 0, : sizes[i % len(sizes)]]).save(buffer, "png")
                np.save(array, X[i])
                parts = {"png": buffer.getvalue(), "npy": array.getvalue()}
                if label:
                    parts |= {"cls": str(i % 3).encode(), "json": json.dumps({"kind": str(Y[i])}).encode()}
                for entry, content in parts.items():
                    member = tarfile.TarInfo(f"some/{i:03}.{entry}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("most", [spool.IN_MEMORY, 100])
def test_tars_of_images_arrays_and_labels(tmp_path, monkeypatch, most):
    monkeypatch.setattr(spool, "IN_MEMORY", most)
    tars(tmp_path)
    for _ in range(2):  # the second from the cache
        found = load(tmp_path)
        assert (found.kind, found.classes, len(found.train)) == ("image", ("0", "1", "2"), 54)
        assert load(tmp_path, label_column="kind").classes == ("a", "b", "c")
        rows, _ = load_rows(tmp_path)
        np.testing.assert_array_equal(in_memory(rows), PIXELS)
    one = load(tmp_path / "part-1.tar", key="npy", label_column="kind", memory_map=False)
    order = torch.cat([one.train.x, one.test.x])
    assert sorted(order[:, 0].tolist()) == sorted(X[30:, 0].tolist())
    resized = load(tmp_path, image_size=8, memory_map=False)
    assert resized.event_shape == (1, 8, 8)


def test_labels_of_tars_go_with_their_rows(tmp_path):
    tars(tmp_path)
    for memory_map in (False, True, True):
        found = load(tmp_path, label_column="kind", memory_map=memory_map)
        places = [int((row == PIXELS).all((1, 2, 3)).argmax()) for row in in_memory(found.test.x)]
        assert [found.classes[label] for label in found.test.labels] == Y[places].tolist()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", r"a \.json that cannot be read"), (b"\xff", "cannot be read"), (b"[1]", r"a \.json that is a list")],
)
def test_json_that_names_nothing_is_said(content, message, place, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(2):
            array = io.BytesIO()
            np.save(array, X[i])
            for entry, what in (("npy", array.getvalue()), ("json", content if i == place else b'{"kind": 1}')):
                member = tarfile.TarInfo(f"{i}.{entry}")
                member.size = len(what)
                tar.addfile(member, io.BytesIO(what))
    with pytest.raises(InputError, match=message):
        load(tmp_path / "x.tar", label_column="kind")


def test_tars_that_do_not_fit_are_refused(tmp_path):
    tars(tmp_path, label=False)
    assert load(tmp_path).classes is None
    with pytest.raises(InputError, match="no 'kind' in"):
        load(tmp_path, label_column="kind")
    with pytest.raises(InputError, match=r"key='jpg' for .* whose first sample has npy, png"):
        load(tmp_path, key="jpg")
    content = (tmp_path / "part-1.tar").read_bytes()
    (tmp_path / "part-1.tar").write_bytes(content[: len(content) // 2 + 700])
    with pytest.raises(InputError, match=r"part-1\.tar, which cannot be read"):
        load(tmp_path)
    tars(tmp_path, sizes=(4, 3))
    with pytest.raises(InputError, match="images of 2 sizes"):
        load(tmp_path)
    with tarfile.open(tmp_path / "part-0.tar", "w"):
        pass
    (tmp_path / "part-1.tar").unlink()
    with pytest.raises(InputError, match="without a file in it"):
        load(tmp_path)
