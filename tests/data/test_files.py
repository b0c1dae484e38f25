"""load() from files and folders: round trips, splits, labels, refusals."""

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vaelab.data import MappedArray, TestSplit, TrainSplit, arrays, load, load_rows
from vaelab.data.checks import check_array
from vaelab.errors import InputError, VaelabWarning


def both(dataset):
    return torch.cat([dataset.train.x, dataset.test.x]), torch.cat([dataset.train.labels, dataset.test.labels])


def picture(path, colour, size=(6, 4), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(20, 3))


# arrays


@pytest.mark.parametrize("memory_map", [None, True, False])
def test_npy_keeps_every_row_once(tmp_path, table, memory_map):
    np.save(tmp_path / "t.npy", table)
    dataset = load(tmp_path / "t.npy", memory_map=memory_map, test_fraction=0.25)
    assert isinstance(dataset.train.x, MappedArray) == bool(memory_map)
    rows = [part.x.rows(torch.arange(len(part))) if memory_map else part.x for part in (dataset.train, dataset.test)]
    assert (len(dataset.train), len(dataset.test)) == (15, 5)
    assert sorted(map(tuple, torch.cat(rows).tolist())) == sorted(map(tuple, table.tolist()))
    assert (dataset.kind, dataset.event_shape, dataset.name) == ("table", (3,), "t")
    assert isinstance(dataset.train, TrainSplit)
    assert isinstance(dataset.test, TestSplit)


def test_mapped_and_read_files_are_split_and_fingerprinted_alike(tmp_path, table):
    np.save(tmp_path / "t.npy", table)
    read, on_disk = load(tmp_path / "t.npy"), load(tmp_path / "t.npy", memory_map=True)
    assert torch.equal(on_disk.test.x.rows(torch.arange(2)), read.test.x)
    assert on_disk.fingerprint() == read.fingerprint()


def test_large_files_stay_on_disk(tmp_path, table, monkeypatch):
    np.save(tmp_path / "t.npy", table)
    monkeypatch.setattr(arrays, "MAP_FROM", 100)
    assert isinstance(load(tmp_path / "t.npy").train.x, MappedArray)
    assert isinstance(load(tmp_path / "t.npy", memory_map=False).train.x, torch.Tensor)


@pytest.mark.parametrize("memory_map", [True, False])
def test_bad_arrays_are_refused(tmp_path, memory_map):
    path = tmp_path / "t.npy"
    cases = [
        (np.array([{}, {}]), "pickled Python objects"),
        (np.ones((4, 8, 8)), r"t\.npy\[:, None\]"),
        (np.ones((4, 8, 8, 3)), "channels-last"),
        (np.array([[1.0], [np.nan], [2.0]]), r"1 NaN or infinite value\(s\) in 1 of 3 rows, first in row 1"),
        (np.ones((1, 3)), "1 sample"),
    ]
    for array, message in cases:
        np.save(path, array)
        with pytest.raises(InputError, match=message):
            load(path, memory_map=memory_map)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"t\.npy"):
        load(path, memory_map=memory_map)


def test_options_that_mean_nothing_are_refused(tmp_path, table):
    np.save(tmp_path / "t.npy", table)
    with pytest.raises(InputError, match=r"image_size and grey for a \.npy file"):
        load(tmp_path / "t.npy", image_size=8, grey=True)
    picture(tmp_path / "f" / "a.png", 0)
    with pytest.raises(InputError, match="label_column for a folder of images"):
        load(tmp_path / "f", label_column="y")


def test_splits_follow_the_seed_and_spare_the_global_generator(tmp_path, table):
    np.save(tmp_path / "t.npy", table)
    state = torch.get_rng_state()
    tests = [load(tmp_path / "t.npy", seed=seed).test.x for seed in (0, 0, 1)]
    assert torch.equal(tests[0], tests[1])
    assert not torch.equal(tests[0], tests[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("key", ["x", "X", "images", "data", "anything"])
def test_npz_with_one_array(tmp_path, table, key):
    np.savez(tmp_path / "t.npz", **{key: table})
    assert len(load(tmp_path / "t.npz").train) == 18


def test_npz_labels_follow_their_rows(tmp_path):
    x = np.arange(20.0)[:, None]
    np.savez(tmp_path / "t.npz", x=x, y=np.where(x[:, 0] < 5, "low", "high"))
    dataset = load(tmp_path / "t.npz")
    rows, labels = both(dataset)
    assert dataset.classes == ("high", "low")
    assert labels.dtype == torch.int64
    assert torch.equal(labels, (rows[:, 0] < 5).long())


@pytest.mark.parametrize(
    "pattern",
    [("x_train", "x_test", "y_train", "y_test"), ("train_images", "test_images", "train_labels", "test_labels")],
)
def test_npz_splits_are_kept(tmp_path, pattern):
    train, test = np.zeros((6, 1, 2, 2), np.uint8), np.full((3, 1, 2, 2), 9, np.uint8)
    parts = dict(zip(pattern, (train, test, np.array([3] * 6), np.array([5, 3, 5])), strict=True))
    np.savez(tmp_path / "t.npz", **parts)
    dataset = load(tmp_path / "t.npz")
    assert torch.equal(dataset.train.x, torch.from_numpy(train))
    assert torch.equal(dataset.test.x, torch.from_numpy(test))
    assert dataset.test.labels.tolist() == [1, 0, 1]
    assert (dataset.classes, dataset.kind) == (("3", "5"), "image")


def test_bad_archives_are_refused(tmp_path, table):
    path = tmp_path / "t.npz"
    np.savez(path, a=table, b=table)
    with pytest.raises(InputError, match="with arrays a, b; wanted one called x"):
        load(path)
    np.savez(path, x=np.array([{}, {}]))
    with pytest.raises(InputError, match="pickles are never loaded"):
        load(path)
    np.savez(path, x=table, y=np.zeros(4))
    with pytest.raises(InputError, match="4 labels for 20 rows"):
        load(path)
    np.savez(path, x=table, y=np.array([np.nan] * 20))
    with pytest.raises(InputError, match=r"20 missing label\(s\)"):
        load(path)
    np.savez(path, x_train=table, x_test=table[:, :2])
    with pytest.raises(InputError, match=r"rows of shape \(3,\) and \(2,\)"):
        load(path)
    np.savez(path, x=table)
    for content in (b"PK\3\4 broken", b"nonsense", b"", path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"t\.npz, which cannot be read"):
            load(path)
    np.save(tmp_path / "t.npy", table)
    (tmp_path / "t.npy").rename(path)
    with pytest.raises(InputError, match="no archive"):
        load(path)
    np.savez(tmp_path / "u", x=table)
    (tmp_path / "u.npz").rename(tmp_path / "u.npy")
    with pytest.raises(InputError, match=r"u\.npy, which cannot be read"):
        load(tmp_path / "u.npy")


# tables


def test_csv_round_trip(tmp_path, table):
    frame = pd.DataFrame(table, columns=["a", "b", "c"])
    frame.insert(1, "kind", np.where(table[:, 0] > 0, "up", "down"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    dataset = load(tmp_path / "t.csv", label_column="kind")
    rows, labels = both(dataset)
    assert (dataset.columns, dataset.classes) == (("a", "b", "c"), ("down", "up"))
    assert rows.dtype == torch.float64
    assert torch.equal(labels, (rows[:, 0] > 0).long())
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, table.tolist()))


def test_csv_without_a_header_loses_no_row(tmp_path):
    (tmp_path / "t.csv").write_text("1,2\n3,4\n5,6\n")
    with pytest.warns(VaelabWarning, match="first row"):
        dataset = load(tmp_path / "t.csv")
    assert sorted(torch.cat([dataset.train.x, dataset.test.x])[:, 0].tolist()) == [1, 3, 5]


def test_bad_csv_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,city,b\n1,x,2\n3,y,4\n")
    with pytest.raises(InputError, match=r"1 column\(s\) that hold no numbers: 'city'.*Drop.*--label-column city"):
        load(path)
    with pytest.raises(InputError, match=r"no column 'town'.*one of a, city, b"):
        load(path, label_column="town")
    path.write_text("a,b\n1,2\n3,\n5,6\n")
    with pytest.raises(InputError, match=r"1 NaN .* in 1 of 3 rows, first in row 1, column\(s\) 'b'"):
        load(path)
    path.write_text("a,b\n1,u\n3,\n5,u\n")
    with pytest.raises(InputError, match=r"1 missing label\(s\) in column 'b'"):
        load(path, label_column="b")
    path.write_text("")
    with pytest.raises(InputError, match="cannot be read"):
        load(path)
    path.write_text('a,b\n1,"2\n')
    with pytest.raises(InputError):
        load(path)


def test_numeric_labels_become_classes(tmp_path):
    (tmp_path / "t.csv").write_text("v,y\n1,30\n2,10\n3,30\n")
    dataset = load(tmp_path / "t.csv", label_column="y")
    rows, labels = both(dataset)
    assert dataset.classes == ("10", "30")
    assert {int(v): int(y) for v, y in zip(rows[:, 0], labels, strict=True)} == {1: 1, 2: 0, 3: 1}


def test_parquet_table_and_shards(tmp_path, table):
    frame = pd.DataFrame(table, columns=["a", "b", "c"])
    frame.to_parquet(tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").columns == ("a", "b", "c")
    for i in range(2):
        frame[i * 8 : i * 8 + 8].to_parquet(tmp_path / f"train-{i:05}-of-00002.parquet")
    frame[16:].to_parquet(tmp_path / "validation-00000-of-00001.parquet")
    dataset = load(tmp_path)
    assert torch.equal(dataset.train.x, torch.from_numpy(table[:16]))
    assert torch.equal(dataset.test.x, torch.from_numpy(table[16:]))
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"1 file\(s\) train-\*-of-00002.*all 2"):
        load(tmp_path)


def test_broken_parquet_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match=r"t\.parquet, which cannot be read.*Download it again"):
        load(tmp_path / "t.parquet")


# folders of images


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp", "jpg", "JPEG"])
def test_every_format_decodes(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    for i in range(3):
        picture(tmp_path / f"{i}.{suffix}", (250, 10, 90 * i), **options)
    dataset = load(tmp_path)
    x = torch.cat([dataset.train.x, dataset.test.x])
    assert (x.shape, x.dtype) == ((3, 3, 4, 6), torch.uint8)
    assert torch.allclose(x[:, 0].float(), torch.tensor(250.0), atol=4)
    assert dataset.train.labels is None


def test_classes_are_the_subfolders(tmp_path):
    for i in range(5):
        picture(tmp_path / "dog" / f"{i}.png", (i, 0, 0))
        picture(tmp_path / "cat" / f"{i}.png", (100 + i, 0, 0))
    (tmp_path / "readme.txt").write_text("no image")
    picture(tmp_path / ".hidden" / "x.png", 0, size=(1, 1))
    dataset = load(tmp_path)
    x, labels = both(dataset)
    assert dataset.classes == ("cat", "dog")
    assert torch.equal(labels, (x[:, 0, 0, 0] < 50).long())


def test_deeper_or_mixed_levels_have_no_classes(tmp_path):
    picture(tmp_path / "a" / "b" / "1.png", 0)
    picture(tmp_path / "2.png", 0)
    assert load(tmp_path).classes is None


@pytest.mark.parametrize("held", ["test", "val"])
def test_train_and_test_folders_are_the_split(tmp_path, held):
    for i in range(4):
        picture(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", (i, 0, 0))
    picture(tmp_path / held / "b" / "9.png", (9, 0, 0))
    dataset = load(tmp_path)
    assert sorted(dataset.train.x[:, 0, 0, 0].tolist()) == [0, 1, 2, 3]
    assert dataset.test.x[:, 0, 0, 0].tolist() == [9]
    assert (dataset.classes, dataset.test.labels.tolist()) == (("a", "b"), [1])


def test_mixed_sizes_say_how_many_of_which(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png", 0)
    picture(tmp_path / "9.png", 0, size=(8, 10))
    with pytest.raises(InputError, match=r"4 images of 2 sizes.*3 of 4×6, 1 of 10×8.*--image-size N.*side is 4"):
        load(tmp_path)
    assert load(tmp_path, image_size=4).event_shape == (3, 4, 4)
    assert load(tmp_path, image_size=(2, 3)).event_shape == (3, 2, 3)


def test_resizing_cuts_evenly(tmp_path):
    image = Image.new("L", (12, 4), 0)
    image.paste(200, (4, 0, 8, 4))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png")
    assert load(tmp_path, image_size=4).train.x.unique().tolist() == [200]


def test_mixed_colours_name_the_remedy(tmp_path):
    picture(tmp_path / "a.png", 7, mode="L")
    picture(tmp_path / "b.png", (9, 9, 9))
    with pytest.raises(InputError, match=r"1 grey and 1 colour images.*grey=True \(--grey\).*--no-grey"):
        load(tmp_path)
    assert load(tmp_path, grey=True).event_shape == (1, 4, 6)
    x = load(tmp_path, grey=False).train.x
    assert x.shape[1] == 3


def test_broken_and_deep_images_are_named(tmp_path):
    picture(tmp_path / "a.png", 0)
    whole = picture(tmp_path / "b.png", 0, size=(64, 64)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"b\.png, which cannot be read as an image"):
        load(tmp_path)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"b\.png"):
        load(tmp_path)
    picture(tmp_path / "b.png", 40000, mode="I;16")
    with pytest.raises(InputError, match=r"b\.png with pixels of mode I;16"):
        load(tmp_path)


def test_photographs_on_their_side_are_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "a.jpg", 0, size=(6, 4), exif=exif)
    picture(tmp_path / "b.jpg", 0, size=(4, 6))
    assert load(tmp_path).event_shape == (3, 6, 4)


# what is no source


def test_unknown_sources(tmp_path):
    with pytest.raises(InputError, match=r"'mnits', which is neither.*Did you mean 'mnist'\?"):
        load("mnits")
    with pytest.raises(InputError, match="neither images nor parquet"):
        load(tmp_path)
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.pkl; wanted a file ending in \.npy"):
        load(tmp_path / "a.pkl")
    with pytest.raises(InputError, match="test_fraction=0"):
        load("digits", test_fraction=0)
    with pytest.raises(InputError, match="image_size=0"):
        load("digits", image_size=0)
    picture(tmp_path / "train" / "a.png", 0)
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match=r"no images in .*test"):
        load(tmp_path)


def test_fingerprints_follow_the_content(tmp_path):
    x = np.zeros((40, 3))
    prints = set()
    for row, column, value in [(0, 0, 0.0), (0, 0, 1.0), (39, 2, 1e-9), (17, 1, -1.0)]:
        changed = x.copy()
        changed[row, column] = value
        np.savez(tmp_path / "t.npz", x=changed)
        prints.add(load(tmp_path / "t.npz").fingerprint())
    np.savez(tmp_path / "u.npz", x=x)
    same = load(tmp_path / "u.npz").fingerprint()
    np.savez(tmp_path / "u.npz", x=x.astype(np.float32))
    other_dtype = load(tmp_path / "u.npz").fingerprint()
    np.savez(tmp_path / "u.npz", x=x, y=np.arange(40) % 2)
    with_labels = load(tmp_path / "u.npz").fingerprint()
    assert len(prints) == 4
    assert same in prints
    assert len({*prints, other_dtype, with_labels}) == 6


# load_rows


def test_whole_arrays_keep_their_order(tmp_path):
    x = np.arange(40.0).reshape(20, 2)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=["a"] * 19)  # labels are not looked at
    for path in (tmp_path / "x.npy", tmp_path / "x.npz"):
        rows, columns = load_rows(path, label_column="y", image_size=8, grey=True)
        assert np.array_equal(rows.numpy(), x)
        assert columns is None
    rows, _ = load_rows(tmp_path / "x.npy", memory_map=True)
    assert isinstance(rows, MappedArray)
    assert np.array_equal(rows.rows(torch.arange(20)).numpy(), x)


def test_whole_tables_keep_their_order_and_drop_the_label(tmp_path):
    frame = pd.DataFrame({"b": [3.0, 1.0, 2.0], "y": ["k", None, "l"], "a": [5.0, 6.0, 7.0]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        rows, columns = load_rows(tmp_path / name, label_column="y")
        assert columns == ("b", "a")
        assert rows.tolist() == [[3, 5], [1, 6], [2, 7]]
    frame[["a"]][:1].to_csv(tmp_path / "one.csv", index=False)
    assert load_rows(tmp_path / "one.csv", label_column="y")[0].tolist() == [[5]]


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_a_table_without_a_header_has_no_names(tmp_path):
    (tmp_path / "t.csv").write_text("1,2\n3,4\n5,7\n")
    assert load_rows(tmp_path / "t.csv")[1] is None
    assert load(tmp_path / "t.csv").columns is None


def test_whole_folders_have_training_images_first(tmp_path):
    for split, values in (("test", (1, 2)), ("train", (3, 4))):
        (tmp_path / split).mkdir()
        for value in values:
            Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / split / f"{value}.png")
    assert load_rows(tmp_path)[0][:, 0, 0, 0].tolist() == [3, 4, 1, 2]
    assert load_rows(tmp_path, image_size=2)[0].shape == (4, 1, 2, 2)


def test_whole_named_sets_are_their_splits_in_turn():
    digits = load("digits")
    assert torch.equal(load_rows("digits")[0], torch.cat([digits.train.x, digits.test.x]))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pictures_are_upright_whatever_the_format(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first row is on the right
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255  # left half bright, which is the upper one upright
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.{suffix}", exif=exif)
    x = load(tmp_path).train.x
    assert x.shape[2:] == (16, 8)
    assert float(x[0, 0, :7].float().mean()) > 200
    assert float(x[0, 0, 9:].float().mean()) < 50


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_several_pictures_in_one_file_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(np.full((8, 8), 40 * i, np.uint8)) for i in range(3)]
    for name in "ab":
        frames[0].save(tmp_path / f"{name}.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="with 3 pictures in one file"):
        load(tmp_path)


def test_sixteen_bits_of_colour_are_refused(tmp_path):
    """Pillow cuts them to eight without a word; such a file is written by hand here."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes(range(48)) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(content)
    with pytest.raises(InputError, match="more than 8 bits"):
        load(tmp_path)


def test_bands_that_come_last_are_told_from_channels():
    for shape in ((5, 16, 16, 13), (5, 16, 16, 2)):
        with pytest.raises(InputError, match="channels-last"):
            check_array(np.zeros(shape, np.float32))
    for shape in ((5, 13, 16, 16), (5, 3, 3, 2), (5, 64, 8, 8), (5, 1, 28, 20)):
        assert check_array(np.zeros(shape, np.float32)).shape == shape
