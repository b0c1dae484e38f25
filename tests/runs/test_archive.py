"""A run as one file: the same model comes out, and nothing else than such a file is taken."""

import json
import stat
import zipfile

import numpy as np
import pytest

import vaelab
from vaelab import GaussianVAE
from vaelab.cli import main
from vaelab.errors import InputError, RunFolderError
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.runs.archive import MANIFEST, pack, unpack
from vaelab.specs import Compute

X = np.random.default_rng(0).normal(size=(60, 2)) @ [[1.0, 2, 0], [0, 1, 3]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        GaussianVAE(2, network="mlp([4])", epochs=2, compute=Compute(accelerator="cpu"), random_state=0).fit(X).save(
            folder
        )
    (folder / "samples.png").write_bytes(b"a picture")
    (folder / "train_state").mkdir()
    (folder / "train_state" / "stage-one.safetensors").write_bytes(b"of the training")
    return folder


@pytest.fixture
def packed(run, tmp_path):
    pack(run, tmp_path / "a.zip")
    return tmp_path / "a.zip"


def test_a_run_goes_through_one_file(run, packed, tmp_path):
    again = tmp_path / "b"
    unpack(packed, again)
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert {path.name: path.read_bytes() for path in again.iterdir()} == files
    assert "samples.png" in files
    for model in (vaelab.load(packed), vaelab.load(again)):
        np.testing.assert_array_equal(model.transform(X), vaelab.load(run).transform(X))
    pack(again, tmp_path / "c.zip")
    assert (tmp_path / "c.zip").read_bytes() == packed.read_bytes()


def test_the_shell_packs_and_unpacks(run, tmp_path, capsys):
    assert main(["pack", str(run), str(tmp_path / "a.zip")]) == 0
    assert main(["pack", str(tmp_path / "a.zip"), str(tmp_path / "b")]) == 0
    assert main(["info", str(tmp_path / "b")]) == 0
    assert main(["pack", str(tmp_path / "a.zip"), str(tmp_path / "b")]) == 2
    assert "which is there already" in capsys.readouterr().err
    assert main(["pack", str(run), str(tmp_path / "c")]) == 2


@pytest.mark.parametrize("words", ["info", "sample", "evaluate", "explore", "diagnose", "enhance", "train --resume"])
def test_verbs_that_want_a_folder_say_how_to_unpack(packed, capsys, words):
    assert main([*words.split(), str(packed)]) == 2
    said = capsys.readouterr().err
    assert f"{packed}, a packed run" in said
    assert f"vaelab pack {packed} FOLDER" in said


def test_a_wrong_place_of_networks_is_no_damage(tmp_path):
    """Said as it is, without the folder that a file was unpacked into."""

    def make(shapes):
        return MLPEncoder(shapes.event_shape, shapes.encoder_outputs, hidden=(3,)), MLPDecoder(
            shapes.latent_dim, shapes.decoder_shape, hidden=(3,)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        GaussianVAE(2, network=make, epochs=1, random_state=0).fit(X).save(tmp_path / "own")
    pack(tmp_path / "own", tmp_path / "own.zip")
    with pytest.raises(InputError, match=r"nope\.py") as refused:
        vaelab.load(tmp_path / "own.zip", network="nope.py:make")
    assert "together" not in str(refused.value)
    assert not isinstance(refused.value, RunFolderError)


def rewritten(packed, out, change):
    """Write the archive once more, with entries that a function changes: name → (info, content)."""
    with zipfile.ZipFile(packed) as archive:
        entries = {info.filename: (info, archive.read(info)) for info in archive.infolist()}
    with zipfile.ZipFile(out, "w") as archive:
        for info, content in change(entries).values():
            archive.writestr(info, content)
    return out


def listed(entries, name, content, info=None):
    """Add an entry, with its hash in the manifest, as someone would who means harm."""
    import hashlib

    manifest = json.loads(entries[MANIFEST][1])
    manifest[name] = hashlib.sha256(content).hexdigest()
    changed = {**entries, MANIFEST: (zipfile.ZipInfo(MANIFEST), json.dumps(manifest).encode())}
    return {**changed, name: (info or zipfile.ZipInfo(name), content)}


def linked(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def squeezed(name):
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


HARM = {
    "above": lambda e: listed(e, "../evil.txt", b"x"),
    "absolute": lambda e: listed(e, "/evil.txt", b"x"),
    "inside a folder": lambda e: listed(e, "a/evil.txt", b"x"),
    "backslash": lambda e: listed(e, "..\\evil.txt", b"x"),
    "drive": lambda e: listed(e, "c:evil.txt", b"x"),
    "hidden": lambda e: listed(e, ".evil", b"x"),
    "link": lambda e: listed(e, "evil.txt", b"/etc/passwd", linked("evil.txt")),
    "bomb": lambda e: listed(e, "evil.txt", b"0" * 10_000_000, squeezed("evil.txt")),
    "unlisted": lambda e: {**e, "evil.txt": (zipfile.ZipInfo("evil.txt"), b"x")},
    "missing": lambda e: {name: entry for name, entry in e.items() if name != "model.safetensors"},
    "changed": lambda e: {**e, "model.safetensors": (e["model.safetensors"][0], e["model.safetensors"][1] + b"0")},
    "no manifest": lambda e: {name: entry for name, entry in e.items() if name != MANIFEST},
    "no JSON": lambda e: {**e, MANIFEST: (zipfile.ZipInfo(MANIFEST), b"{")},
    "a list": lambda e: {**e, MANIFEST: (zipfile.ZipInfo(MANIFEST), b"[]")},
    "twice": lambda e: listed(e, "MODEL.safetensors", b"x"),
}


@pytest.mark.parametrize("harm", HARM)
def test_another_file_is_refused_and_nothing_is_left(packed, tmp_path, harm):
    place = tmp_path / "place"
    place.mkdir()
    evil = rewritten(packed, tmp_path / "evil.zip", HARM[harm])
    with pytest.raises(RunFolderError):
        unpack(evil, place / "run")
    assert not list(place.iterdir())
    assert not (tmp_path / "evil.txt").exists()
    with pytest.raises(RunFolderError):
        vaelab.load(evil)


@pytest.mark.parametrize("cut", [0, 10, 500, -10])
def test_a_file_that_was_cut_off_is_refused(packed, tmp_path, cut):
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:cut])
    with pytest.raises(RunFolderError):
        unpack(tmp_path / "cut.zip", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunFolderError, match="no file"):
        unpack(tmp_path / "none.zip", tmp_path / "run")


def test_a_list_of_entries_that_begins_before_the_file_is_refused(packed, tmp_path):
    """One flipped bit of the place that the end of a zip file names."""
    content = bytearray(packed.read_bytes())
    content[content.rindex(b"PK\x05\x06") + 19] ^= 1 << 3
    (tmp_path / "flipped.zip").write_bytes(content)
    with pytest.raises(RunFolderError, match="no whole zip file"):
        unpack(tmp_path / "flipped.zip", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_a_finished_run_is_packed(run, tmp_path):
    import shutil

    half = shutil.copytree(run, tmp_path / "half")
    (half / "model.safetensors").write_bytes(b"0" + (half / "model.safetensors").read_bytes())
    for folder in (half, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"model\.safetensors|no such folder"):
            pack(folder, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()
