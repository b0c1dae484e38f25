"""encode and reconstruct on files: their own order, columns by name, units checked, block by block."""

import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vaelab
from vaelab.cli import main, output
from vaelab.data import MappedArray, Scaling, arrays, dataset
from vaelab.errors import InputError
from vaelab.runs import Draws, Trained
from vaelab.specs import MLP, Compute

FAST = "--latent-dim 2 --network mlp --network.hidden 8 --epochs 1 --compute.accelerator cpu"
FAST += " --densities gaussian mixture(1,diag) second_stage([8],training(epochs=1)) --quiet"


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


def train(folder, data, *flags):
    assert run("train", data, *FAST.split(), *flags, "--out", folder / "runs", "--name", "a") == 0
    return folder / "runs" / "a"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run on a CSV file with three columns and a class, the file, and its rows."""
    folder = tmp_path_factory.mktemp("table")
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["weight", "charge", "day"])
    frame.insert(1, "kind", ["a", "b", "c"] * 20)
    frame.to_csv(folder / "t.csv", index=False)
    return train(folder, folder / "t.csv", "--label-column", "kind"), folder / "t.csv", frame


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A run on a folder of RGB images made 8×8."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(30):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(
            folder / f"{i:02}.png"
        )
    return train(folder, folder, "--image-size", 8)


def codes_of(folder, values):
    trained = vaelab.runs.read_run(folder)
    return trained.encode(torch.tensor(values)).numpy()


def test_codes_are_in_the_order_of_the_file(table, tmp_path):
    folder, path, frame = table
    values = frame.drop(columns="kind").to_numpy().copy()
    assert run("encode", folder, path, "-o", tmp_path / "z.npy") == 0
    assert np.allclose(np.load(tmp_path / "z.npy"), codes_of(folder, values), atol=1e-6)
    assert run("encode", folder, path, "-n", 5, "-o", tmp_path / "z.csv") == 0
    assert np.allclose(pd.read_csv(tmp_path / "z.csv").to_numpy(), codes_of(folder, values[:5]), atol=1e-6)
    assert run("reconstruct", folder, path, "-n", 1, "-o", tmp_path / "r.csv") == 0
    assert list(pd.read_csv(tmp_path / "r.csv").columns) == ["weight", "charge", "day"]


def test_columns_are_found_by_name(table, tmp_path, capsys):
    folder, _, frame = table
    frame[["day", "weight", "charge"]].to_csv(tmp_path / "p.csv", index=False)
    assert run("encode", folder, tmp_path / "p.csv", "-o", tmp_path / "z.npy") == 0
    values = frame[["weight", "charge", "day"]].to_numpy()
    assert np.allclose(np.load(tmp_path / "z.npy"), codes_of(folder, values), atol=1e-6)
    capsys.readouterr()
    frame[["day", "weight"]].assign(mass=1.0).to_csv(tmp_path / "q.csv", index=False)
    assert run("encode", folder, tmp_path / "q.csv", "-o", tmp_path / "z.npy") == 2
    assert "no column(s) 'charge' and extra column(s) 'mass'" in capsys.readouterr().err
    np.save(tmp_path / "v.npy", values)  # no names: by position, and the label column is not asked for
    assert run("encode", folder, tmp_path / "v.npy", "-o", tmp_path / "z.npy") == 0


def test_one_row_is_enough_to_encode(table, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, 3)))
    assert run("encode", table[0], tmp_path / "one.npy", "-o", tmp_path / "z.npy") == 0
    assert np.load(tmp_path / "z.npy").shape == (1, 2)


def test_a_run_of_an_estimator_takes_files_but_has_no_test_rows(tmp_path, capsys):
    values = np.random.default_rng(0).normal(size=(40, 3))
    model = vaelab.GaussianVAE(latent_dim=2, network=MLP((8,)), compute=Compute(accelerator="cpu"), epochs=1)
    model.fit(values).save(tmp_path / "e")
    np.save(tmp_path / "v.npy", values)
    assert run("encode", tmp_path / "e", tmp_path / "v.npy", "-o", tmp_path / "z.npy") == 0
    assert np.allclose(np.load(tmp_path / "z.npy"), model.transform(values), atol=1e-6)
    assert run("encode", tmp_path / "e", "-o", tmp_path / "z.npy") == 2
    assert "without a note of its data" in capsys.readouterr().err


def test_larger_images_are_brought_to_the_size_of_the_run(pictures, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    Image.fromarray(np.full((40, 30, 3), 9, np.uint8)).save(tmp_path / "other" / "x.png")
    assert run("encode", pictures, tmp_path / "other", "-o", tmp_path / "z.npy") == 0
    assert np.load(tmp_path / "z.npy").shape == (1, 2)
    np.save(tmp_path / "same.npy", np.zeros((3, 3, 8, 8), np.uint8))  # where no size can be asked for
    assert run("reconstruct", pictures, tmp_path / "same.npy", "-o", tmp_path / "r.png") == 0
    assert run("reconstruct", pictures, tmp_path / "same.npy", "-o", tmp_path / "many") == 0
    assert len(list((tmp_path / "many").iterdir())) == 3
    np.save(tmp_path / "large.npy", np.zeros((3, 3, 9, 9), np.uint8))
    capsys.readouterr()
    assert run("encode", pictures, tmp_path / "large.npy", "-o", tmp_path / "z.npy") == 2
    assert "Resize the images" in capsys.readouterr().err


def test_images_in_other_units_are_refused(pictures, tmp_path, capsys):
    np.save(tmp_path / "unit.npy", np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32))
    assert run("encode", pictures, tmp_path / "unit.npy", "-o", tmp_path / "z.npy") == 2
    assert "wanted uint8 images as in training" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_rows_on_disk_are_read_and_written_in_blocks(table, tmp_path, monkeypatch, suffix):
    folder, _, frame = table
    values = frame.drop(columns="kind").to_numpy().copy()
    np.save(tmp_path / "v.npy", values)
    monkeypatch.setattr(arrays, "MAP_FROM", 0)
    monkeypatch.setattr(dataset, "AT_ONCE", 10 * values[0].nbytes)
    sizes = []
    for name in ("encode", "reconstruct"):
        original = getattr(Trained, name)
        monkeypatch.setattr(Trained, name, lambda self, x, c=None, f=original: sizes.append(len(x)) or f(self, x, c))
    rows = output.rows_for(folder, vaelab.runs.read_run(folder), str(tmp_path / "v.npy"), 35).x
    assert isinstance(rows, MappedArray)
    for verb in ("encode", "reconstruct"):
        out = tmp_path / f"{verb}.{suffix}"
        assert run(verb, folder, tmp_path / "v.npy", "-n", 35, "-o", out) == 0
        found = np.load(out) if suffix == "npy" else pd.read_csv(out).to_numpy()
        trained = vaelab.runs.read_run(folder)
        expected = getattr(trained, verb)(torch.tensor(values[:35])).numpy()
        assert sizes[:5] == [10, 10, 10, 5, 35]
        sizes.clear()
        assert np.allclose(found, expected, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["v.npy", f"encode.{suffix}", f"reconstruct.{suffix}"]
    )


@pytest.mark.parametrize(
    ("kind", "suffix"), [("table", ".npy"), ("table", ".csv"), ("pictures", ".npy"), ("pictures", "")]
)
def test_samples_are_written_in_blocks_and_are_those_of_one_draw(kind, suffix, request, tmp_path, monkeypatch):
    made = request.getfixturevalue(kind)
    folder = made[0] if kind == "table" else made
    monkeypatch.setattr("vaelab.runs.drawing._LEAST_DRAWN", 10)
    monkeypatch.setattr("vaelab.runs.drawing._DRAWN", 1)
    trained, blocks, from_net = vaelab.runs.read_run(folder), [], Scaling.from_net
    expected = trained.sample(65, how=Draws(seed=4))

    def recorded(self, x):
        found = from_net(self, x)
        assert sum(earlier() is not None for earlier in blocks) <= 2  # the first, and the one just written
        blocks.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Scaling, "from_net", recorded)
    assert run("sample", folder, "-n", 65, "-o", tmp_path / f"s{suffix}", "--seed", 4) == 0
    assert len(blocks) >= 7
    if suffix == ".npy":
        assert np.array_equal(np.load(tmp_path / "s.npy"), trained.returned(expected))
    elif suffix == ".csv":
        assert np.array_equal(np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1), trained.returned(expected))
    else:
        assert len(list((tmp_path / "s").iterdir())) == 65


def test_more_samples_begin_with_the_same_blocks_and_each_block_has_its_own_stream(table, monkeypatch):
    monkeypatch.setattr("vaelab.runs.drawing._LEAST_DRAWN", 10)
    monkeypatch.setattr("vaelab.runs.drawing._DRAWN", 1)
    trained = vaelab.runs.read_run(table[0])
    few, many, other = (trained.sample(n, how=Draws(seed=seed)) for n, seed in ((20, 1), (30, 1), (20, 2)))
    assert torch.equal(few, many[:20])
    assert not (few[:10] == few[10:]).any()
    assert not (few == other).any()


def test_classes_are_spread_over_the_rows_whatever_the_blocks():
    from vaelab.cli.sample import _spread
    from vaelab.data import Conditioning

    labels = _spread(Conditioning.of_classes(("a", "b", "c")), (), 10)
    assert labels(slice(0, 4)) + labels(slice(4, 10)) == labels(slice(0, 10)) == list("aaaabbbccc")


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_file_larger_than_the_disk_is_refused(table, tmp_path, capsys, monkeypatch, suffix):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5000))
    assert run("sample", table[0], "-n", 1000, "-o", tmp_path / f"s{suffix}") == 2
    assert "GB or more, where the disk has" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert run("sample", table[0], "-n", 100, "-o", tmp_path / f"s{suffix}") == 0


def test_a_picture_of_more_samples_than_memory_is_refused(pictures, tmp_path, capsys):
    assert run("sample", pictures, "-n", 10**13, "-o", tmp_path / "s.png") == 2
    assert "GB where the machine has" in capsys.readouterr().err


def test_no_rows_and_wrong_suffixes_are_refused_before_anything_is_computed(table, monkeypatch):
    folder, path, _ = table
    monkeypatch.setattr(Trained, "encode", lambda *_: pytest.fail("computed"))
    trained = vaelab.runs.read_run(folder)
    with pytest.raises(InputError, match="at least 1"):
        output.rows_for(folder, trained, str(path), 0)
    with pytest.raises(InputError, match=r"\.npy or \.csv"):
        output.write_codes(path.with_suffix(".txt"), trained, output.rows_for(folder, trained, str(path), None))
