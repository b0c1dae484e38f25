"""Data sets by name, from folders in the layouts that they come in; nothing is downloaded."""

import io
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vaelab.data import cache, catalogue, load, named, names
from vaelab.data.faces import faces
from vaelab.diagnostics.neighbour_dimension import two_nn
from vaelab.errors import InputError, MissingExtraError

HOME = os.environ.get("VAELAB_DATA")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA", raising=False)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, pixels, labels=None, *, column="image", classes=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [{"bytes": png(image), "path": None} for image in pixels]
    table = {column: pa.array(content, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if labels is not None:
        table["label"] = pa.array(labels, pa.int64())
    features = {"label": {"names": classes, "_type": "ClassLabel"}} if classes else {}
    schema = pa.table(table).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(schema, path)


def grey_images(n, first=0):
    return [np.full((28, 28), first + i, np.uint8) for i in range(n)]


@pytest.fixture
def mnist(tmp_path):
    home = tmp_path / "home"
    classes = list("0123456789")
    write_shard(home / "mnist/train-00000-of-00002.parquet", grey_images(3), [5, 0, 4], classes=classes)
    write_shard(home / "mnist/train-00001-of-00002.parquet", grey_images(2, 3), [9, 9], classes=classes)
    write_shard(home / "mnist/test-00000-of-00001.parquet", grey_images(2, 100), [7, 2], classes=classes)
    return home


def test_digits_are_bundled_and_split_by_seed():
    first, again, other = load("digits"), load("digits"), load("digits", seed=1)
    assert first.train.x.shape == (1438, 1, 8, 8)
    assert first.test.x.shape == (359, 1, 8, 8)
    assert first.train.x.dtype == torch.uint8
    assert (int(first.train.x.min()), int(first.train.x.max())) == (0, 255)
    assert first.classes == tuple("0123456789")
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert load("digits", image_size=16).event_shape == (1, 16, 16)


@pytest.mark.parametrize("by", ["argument", "variable", "cache"])
def test_the_official_split_is_kept_wherever_it_lies(mnist, tmp_path, monkeypatch, by):
    if by == "variable":
        monkeypatch.setenv("VAELAB_DATA", str(mnist))
    if by == "cache":
        (tmp_path / "cache/vaelab").mkdir(parents=True)
        mnist.rename(tmp_path / "cache/vaelab/data")
    dataset = load("mnist", home=mnist if by == "argument" else None)
    assert dataset.train.x[:, 0, 5, 5].tolist() == [0, 1, 2, 3, 4]
    assert dataset.test.x[:, 0, 5, 5].tolist() == [100, 101]
    assert dataset.train.labels.tolist() == [5, 0, 4, 9, 9]
    assert dataset.test.labels.tolist() == [7, 2]
    assert (dataset.event_shape, dataset.classes) == ((1, 28, 28), tuple("0123456789"))


def test_decoded_images_are_cached_by_content(mnist, tmp_path, monkeypatch):
    first = load("mnist", home=mnist)
    stored = sorted((tmp_path / "cache/vaelab/decoded").iterdir())
    assert [path.suffix for path in stored] == [".npy", ".npy"]
    with monkeypatch.context() as patch:
        patch.setattr("vaelab.data.parquet.decode", None)  # would fail if it were called
        assert load("mnist", home=mnist).fingerprint() == first.fingerprint()
    stored[0].write_bytes(b"spoilt")
    assert load("mnist", home=mnist).fingerprint() == first.fingerprint()
    write_shard(mnist / "mnist/test-00000-of-00001.parquet", grey_images(2, 50), [7, 2])
    assert load("mnist", home=mnist).test.x[:, 0, 0, 0].tolist() == [50, 51]
    assert load("mnist", home=mnist, image_size=14).event_shape == (1, 14, 14)


def test_a_cache_that_cannot_be_written_costs_nothing_else(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "file")
    assert len(load("mnist", home=mnist).train) == 5


def test_other_column_names_and_colours(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]
    for split, part in (("train", images[:2]), ("test", images[2:])):
        write_shard(tmp_path / f"cifar10/{split}-00000-of-00001.parquet", part, [1] * len(part), column="img")
    dataset = load("cifar10", home=tmp_path)
    assert torch.equal(dataset.train.x[1], torch.from_numpy(images[1]).permute(2, 0, 1))
    assert dataset.classes == ("1",)


def test_a_path_to_the_folder_reads_the_same(mnist):
    assert load(mnist / "mnist").fingerprint() == load("mnist", home=mnist).fingerprint()
    alone = (mnist / "mnist/test-00000-of-00001.parquet").rename(mnist / "alone.parquet")
    assert len(load(alone, test_fraction=0.5).train) == 1


def test_incomplete_or_spoilt_files_are_refused(mnist):
    shard = mnist / "mnist/train-00001-of-00002.parquet"
    write_shard(shard, grey_images(2), [4, -1], classes=list("0123456789"))
    with pytest.raises(InputError, match=r"1 label\(s\) outside the 10 classes"):
        load("mnist", home=mnist)
    write_shard(shard, [np.zeros((9, 9), np.uint8)], [4])
    with pytest.raises(InputError, match=r"4 images of 2 sizes.*3 of 28×28, 1 of 9×9"):
        load("mnist", home=mnist)
    shard.unlink()
    with pytest.raises(InputError, match=r"1 file\(s\) train-\*-of-00002"):
        load("mnist", home=mnist)


def test_absent_data_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError) as caught:
        load("celeba", home=tmp_path / "here")
    for part in ("here/celeba", "elsewhere/celeba", "cache/vaelab/data/celeba"):
        assert part in caught.value.got
    for part in ("VAELAB_DATA", "--download", "pip install 'vaelab[download]'"):
        assert part in caught.value.remedy


def test_catalogue_lists_all_and_finds_what_is_there(mnist):
    entries = {entry.name: entry for entry in catalogue(mnist)}
    assert tuple(entries) == names() == ("digits", "faces", "mnist", "fashion_mnist", "cifar10", "celeba", "celeba140")
    assert (entries["digits"].present, entries["digits"].where) == (True, "bundled")
    assert (entries["faces"].present, entries["faces"].shape) == (True, (1, 24, 24))
    assert (entries["mnist"].present, entries["mnist"].where) == (True, str(mnist / "mnist"))
    assert (entries["cifar10"].present, entries["cifar10"].where) == (False, "")
    assert entries["celeba"].shape == (3, 64, 64)


def test_faces_are_always_the_same_and_on_a_manifold_of_few_dimensions():
    data = load("faces")
    assert (tuple(data.train.x.shape), len(data.test.x)) == ((4000, 1, 24, 24), 1000)
    assert torch.equal(data.train.x, load("faces").train.x)
    drawn = faces(3000, seed=1)
    assert drawn.dtype == np.uint8
    assert not np.array_equal(drawn[:10], faces(10, seed=2))
    grey = ((drawn > 90) & (drawn < 115)).mean((1, 2, 3))  # few pixels but those of hats
    assert 0.3 < (grey > 0.05).mean() < 0.5
    assert 2 < two_nn(drawn.reshape(3000, -1) / 255.0) < 6.5


# CelebA


def face(frame, value):
    """218×178 black, with a frame of one pixel just inside (top, left, bottom, right)."""
    top, left, bottom, right = frame
    image = np.zeros((218, 178, 3), np.uint8)
    image[top : bottom + 1, left : right + 1] = value
    image[top + 1 : bottom, left + 1 : right] = 0
    return image


@pytest.mark.parametrize(
    ("name", "frame", "side"), [("celeba", (45, 25, 172, 152), 128), ("celeba140", (39, 19, 178, 158), 140)]
)
def test_celeba_crops_to_the_pixel(tmp_path, monkeypatch, name, frame, side):
    monkeypatch.setattr(named, "CELEBA_TRAIN", 2)
    monkeypatch.setattr(named, "CELEBA_VALIDATION", 3)
    outside = (frame[0] - 1, frame[1] - 1, frame[2] + 1, frame[3] + 1)
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    faces = [face(frame, 250), face(outside, 250), face(frame, 0), face(frame, 120), face(outside, 120)]
    for i, image in reversed(list(enumerate(faces))):  # sorted names decide, not the order on disk
        Image.fromarray(image).save(folder / f"{(i + 1):06}.png")
    dataset = load(name, home=tmp_path, image_size=side)  # no resizing, so that pixels can be compared
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
    inside = dataset.train.x[0, 0]
    assert inside.shape == (side, side)
    assert all(bool((edge == 250).all()) for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    assert bool((inside[1:-1, 1:-1] == 0).all())
    assert bool((dataset.train.x[1] == 0).all())
    assert int(dataset.test.x[0].max()) == 120
    assert load(name, home=tmp_path).event_shape == (3, 64, 64)


def test_celeba_parquet_leaves_validation_out(tmp_path):
    for split, value in (("train", 10), ("valid", 20), ("test", 30)):
        images = [np.full((218, 178, 3), value, np.uint8)] * 2
        write_shard(tmp_path / f"celeba/{split}-00000-of-00001.parquet", images)
    dataset = load("celeba", home=tmp_path)
    assert (dataset.train.x.unique().tolist(), dataset.test.x.unique().tolist()) == ([10], [30])
    assert dataset.train.labels is None


def test_an_incomplete_celeba_folder_is_refused(tmp_path):
    (tmp_path / "celeba/img_align_celeba").mkdir(parents=True)
    Image.new("RGB", (178, 218)).save(tmp_path / "celeba/img_align_celeba/000001.jpg")
    with pytest.raises(InputError, match=r"1 images in .*202,599"):
        load("celeba", home=tmp_path)


def test_faces_that_are_not_aligned_are_refused(tmp_path):
    for split in ("train", "test"):
        write_shard(tmp_path / f"celeba/{split}-00000-of-00001.parquet", [np.zeros((300, 200, 3), np.uint8)])
    with pytest.raises(InputError, match=r"row 0 of .* of 300×200 pixels.*wanted 218×178"):
        load("celeba", home=tmp_path)


# downloads


class FakeRows:
    def __init__(self, rows, *, fails=False):
        self.rows, self.fails = rows, fails

    def to_parquet(self, path):
        write_shard(Path(path), self.rows, [0] * len(self.rows))
        if self.fails:
            raise OSError("connection lost")


def fake_datasets(monkeypatch, train, asked):
    module = types.ModuleType("datasets")

    def load_dataset(hub_id):
        asked.append(hub_id)
        return {"train": train, "test": FakeRows(grey_images(1, 9))}

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_download_writes_the_layout_once(tmp_path, monkeypatch):
    asked = []
    fake_datasets(monkeypatch, FakeRows(grey_images(3)), asked)
    for _ in range(2):
        dataset = load("mnist", home=tmp_path / "home", download=True)
    assert asked == ["ylecun/mnist"]
    assert (len(dataset.train), dataset.test.x.unique().tolist()) == (3, [9])
    assert sorted(path.name for path in (tmp_path / "home/mnist").iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]


def test_a_download_that_breaks_leaves_nothing_half_written(tmp_path, monkeypatch):
    fake_datasets(monkeypatch, FakeRows(grey_images(3), fails=True), [])
    with pytest.raises(Exception, match="connection lost"):
        load("mnist", home=tmp_path / "home", download=True)
    assert [path.name for path in (tmp_path / "home/mnist").iterdir()] == ["test-00000-of-00001.parquet"]
    with pytest.raises(InputError, match="no mnist in"):
        load("mnist", home=tmp_path / "home")


def test_download_without_the_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"Downloading mnist needs the package 'datasets'.*vaelab\[download\]"):
        load("mnist", home=tmp_path, download=True)


@pytest.mark.skipif(HOME is None, reason="VAELAB_DATA is not set")
def test_real_mnist():
    dataset = load("mnist", home=HOME)
    assert (dataset.train.x.shape, dataset.test.x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert dataset.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert dataset.train.x.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)
