"""Files that were damaged, crafted, or left by killed processes: an error that names the file, or the right result."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from helpers import sealed
from vaelab import GaussianVAE, TwoStageVAE, load, runs, storage
from vaelab.data import from_arrays
from vaelab.errors import InputError, RunFolderError, VaelabError
from vaelab.runs import Draws
from vaelab.specs import MLP, Compute, FitSettings, Settings

X = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
SETTINGS = Settings(
    latent_dim=2,
    network=MLP((8,)),
    training=FitSettings(epochs=3, batch_size=30),
    densities=("gaussian", "mixture(components=2)"),
    compute=Compute(accelerator="cpu", checkpoint_seconds=0.0),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with its states, which tests copy."""
    folder = tmp_path_factory.mktemp("made") / "run"
    trained = runs.train(from_arrays(X), SETTINGS, states=folder / "train_state")
    runs.save(trained, folder)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def _numbers(folder):
    trained = runs.read_run(folder)
    return trained.sample(5, how=Draws(seed=1)), trained.bound(torch.from_numpy(X[:5]), torch.zeros(1, 2))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.campaign) for n in range(2, 26))])
def test_a_flipped_bit_is_noticed_or_changes_nothing(run, tmp_path, seed):
    generator = np.random.default_rng(seed)
    known = _numbers(run)
    for number in range(12):
        copy = shutil.copytree(run, tmp_path / str(number))
        path = copy / ("model.safetensors" if number % 2 else "config.yaml")
        content = bytearray(path.read_bytes())
        content[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
        path.write_bytes(content)
        try:
            found = _numbers(copy)
        except VaelabError as error:
            found, said = None, str(error)
        if found is None:
            assert str(copy) in said
            continue
        for one, other in zip(found, known, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_weights_of_another_run_are_noticed(copy, tmp_path):
    other = TwoStageVAE(2, network=MLP((8,)), densities=("gaussian",), epochs=1, random_state=3).fit(X)
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", copy / "model.safetensors")
    with pytest.raises(RunFolderError, match="not the one that"):
        load(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": 3},
        {"facts": None},
        {"facts": {"event_shape": []}},
        {"scaling": "none"},
        {"files": []},
        {"settings": {"latent_dim": 30_000_000}},
        {"settings": {"network": {"kind": "mlp", "hidden": [100_000_000]}}},
        {"settings": {"densities": [{"kind": "mixture", "components": "many"}]}},
        {"facts": {"data_variance": "large"}},
        {"scaling": {"kind": 7}},
    ],
)
def test_a_crafted_config_is_refused_in_time(copy, change):
    path = copy / "config.yaml"
    content = yaml.safe_load(path.read_text())
    for name, value in change.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(content))
    sealed(path)
    with pytest.raises(RunFolderError, match="copy"):
        load(copy)


def _rewrite(path, change, meta=None):
    """Write other tensors with a checksum that is right."""
    tensors, known = storage.load_tensors(path)
    storage.save_tensors(path, change(tensors), known | (meta or {}))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {name: value for name, value in t.items() if "encoder" not in name},
        lambda t: t | {next(name for name in t if "bias" in name): torch.zeros(1)},
        lambda t: t | {next(name for name in t if "weights" in name): torch.full((2,), torch.nan)},
        lambda t: t | {next(name for name in t if "weights" in name): torch.tensor([-1.0, 2.0])},
        lambda t: {name: torch.zeros(7) if name.startswith("scaling/") else value for name, value in t.items()},
        lambda t: {name: value * torch.nan if value.is_floating_point() else value for name, value in t.items()},
        lambda t: {},
    ],
)
def test_crafted_tensors_are_refused(copy, change):
    _rewrite(copy / "model.safetensors", change)
    path = copy / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["files"]["model.safetensors"] = storage.hash_of(copy / "model.safetensors")
    path.write_text(yaml.safe_dump(content))
    sealed(path)
    with pytest.raises(RunFolderError, match=str(copy)):
        load(copy)


def _shrunk(slot):
    return lambda t: {name: torch.zeros(1) if name.endswith(slot) else value for name, value in t.items()}


@pytest.mark.parametrize(
    ("change", "meta"),
    [
        (_shrunk("/exp_avg"), {}),
        (_shrunk("/exp_avg_sq"), {}),
        (lambda t: {n: v.double() if n.endswith("exp_avg") else v for n, v in t.items()}, {}),
        (lambda t: {n: v for n, v in t.items() if not n.endswith("exp_avg_sq")}, {}),
        (lambda t: t | {"optimizer/99/exp_avg": torch.zeros(2)}, {}),
        (lambda t: t | {"optimizer/x/exp_avg": torch.zeros(2)}, {}),
        (lambda t: {n: v for n, v in t.items() if not n.startswith("model/")}, {}),
        (lambda t: {n: v[:1] if n.startswith("best/") and v.ndim else v for n, v in t.items()}, {}),
        (lambda t: t, {"step": "many"}),
        (lambda t: t, {"step": -5}),
        (lambda t: t, {"step": 10**9}),
        (lambda t: t, {"history": 3}),
        (lambda t: t, {"history": [1, 2]}),
        (lambda t: t, {"best_loss": "low"}),
        (lambda t: t, {"precision": None}),
        (lambda t: t, {"key": "mine"}),
    ],
)
def test_a_crafted_state_is_refused_before_a_step(copy, change, meta):
    state = copy / "train_state" / "stage-one.safetensors"
    _rewrite(state, change, meta)
    with pytest.raises(InputError, match="stage-one"):
        runs.train(from_arrays(X), SETTINGS, states=copy / "train_state", resume=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_of_a_state_is_noticed(copy, seed):
    path = copy / "train_state" / "stage-one.safetensors"
    generator, content = np.random.default_rng(seed), bytearray(path.read_bytes())
    content[len(content) - 1 - generator.integers(200)] ^= 4  # among the last tensors' numbers
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or changed"):
        runs.train(from_arrays(X), SETTINGS, states=copy / "train_state", resume=True)


def test_a_state_of_other_processes_is_not_gone_on_with(copy):
    state = copy / "train_state" / "stage-one.safetensors"
    tensors, meta = storage.load_tensors(state)
    storage.save_tensors(state, tensors, meta | {"key": meta["key"] | {"processes": 2}})
    with pytest.raises(InputError, match="processes=2"):
        runs.train(from_arrays(X), SETTINGS, states=copy / "train_state", resume=True)


def test_the_checksum_stands_in_one_header_entry(run):
    """Two would be written in an order that differs between processes."""
    with safe_open(run / "model.safetensors", framework="pt") as file:
        assert list(file.metadata()) == ["vaelab"]


def test_saving_over_something_is_asked_for(tmp_path):
    model = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "new" / "model")
    (tmp_path / "new" / "model" / "results.json").write_text("{}")
    with pytest.raises(RunFolderError, match="overwrite=True"):
        model.save(tmp_path / "new" / "model")
    again = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=1).fit(X)
    again.save(tmp_path / "new" / "model", overwrite=True)
    assert not (tmp_path / "new" / "model" / "results.json").exists()  # of the model that was there
    np.testing.assert_allclose(load(tmp_path / "new" / "model").transform(X), again.transform(X), atol=1e-6)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="no run's"):
        model.save(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "a.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    model = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    monkeypatch.setattr("vaelab.runs.folder.versions", lambda: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(VaelabError, match="untouched"):
        model.save(tmp_path / "model", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupt_between_the_renames_of_a_swap_loses_nothing(tmp_path, monkeypatch):
    model = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "model")
    rename, times = Path.rename, []

    def interrupted(self, target):
        times.append(self.name)
        if len(times) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "model", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    np.testing.assert_array_equal(load(tmp_path / "model").transform(X), model.transform(X))


_SWAP = """
import os, sys
from pathlib import Path
from vaelab import storage
left, rename, replace = [int(sys.argv[2])], Path.rename, Path.replace
def counted(move):
    def moved(self, target):
        left[0] -= 1
        if not left[0]:
            print("here", flush=True)
            sys.stdin.read()  # until it is killed
        return move(self, target)
    return moved
Path.rename, Path.replace = counted(rename), counted(replace)
storage.replace_folder(Path(sys.argv[1]), lambda new: storage.write_text(new / "a.txt", "new"))
"""


def _stopped(folder, event):
    """Return a process that stands before an event of a swap: 1 inside the writing, 2 and 3 the renames."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SWAP, str(folder), str(event)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "here\n"
    return process


def _kill(process):
    process.kill()
    process.communicate()


@pytest.mark.parametrize("event", [1, 2, 3])
@pytest.mark.parametrize("then", ["load", "save"])
def test_a_swap_that_is_killed_is_mended_by_what_comes_next(tmp_path, event, then):
    model = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=0).fit(X)
    folder = tmp_path / "model"
    model.save(folder)
    _kill(_stopped(folder, event))
    assert folder.exists() == (event < 3)
    assert len(list(tmp_path.iterdir())) == 1 + (event < 3)  # something stayed
    if then == "load":
        np.testing.assert_array_equal(load(folder).transform(X), model.transform(X))
    with pytest.raises(RunFolderError, match="overwrite=True"):
        model.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    model.save(folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("event", [1, 2, 3])
def test_a_swap_of_a_live_process_is_left_alone(tmp_path, event):
    model = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=0).fit(X)
    folder = tmp_path / "model"
    model.save(folder)
    model.save(tmp_path / "model-b")  # whose name begins in the same way
    process = _stopped(folder, event)
    try:
        model.save(tmp_path / "model-b", overwrite=True)
        with pytest.raises(RunFolderError, match=f"{folder}, into which another process writes"):
            model.save(folder, overwrite=True)
        process.communicate("on")
        assert process.returncode == 0
        assert (folder / "a.txt").read_text() == "new"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-b"]
    finally:
        _kill(process) if process.poll() is None else None


def test_a_run_is_not_started_where_a_killed_swap_left_a_model(tmp_path):
    model = GaussianVAE(2, network=MLP((4,)), epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "model")
    _kill(_stopped(tmp_path / "model", 3))
    with pytest.raises(RunFolderError, match="not empty"):
        runs.prepare(tmp_path / "model", from_arrays(X), SETTINGS, {})


def test_a_run_inside_a_folder_that_another_run_is_to_have_keeps_its_files(tmp_path):
    inside = tmp_path / "runs" / "a" / "train_state"
    inside.mkdir(parents=True)
    live = inside / ".vaelab-unfinished-stage-one-x.safetensors"
    live.write_text("")
    with pytest.raises(RunFolderError, match="not empty"):
        runs.prepare(tmp_path / "runs", from_arrays(X), SETTINGS, {})
    with storage.held(tmp_path / "runs"):
        storage.sweep(tmp_path / "runs")
    assert live.exists()


@pytest.mark.parametrize("system", ["folders are locked", "as on Windows"])
def test_a_folder_is_held_by_one_process_and_not_by_a_dead_one(tmp_path, monkeypatch, system):
    script = "import sys, time; from pathlib import Path; from vaelab import storage\n"
    if system == "as on Windows":  # without locks of folders; those of files are the system's own
        import filelock

        assert filelock.FileLock is not filelock.SoftFileLock
        monkeypatch.setitem(sys.modules, "fcntl", None)
        script += "import filelock; sys.modules['fcntl'] = None\n"
    script += f"with storage.held(Path({str(tmp_path / 'run')!r})): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match="another process writes"), storage.held(tmp_path / "run"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with storage.held(tmp_path / "run"):
        assert not any((tmp_path / "run").iterdir())


def test_of_two_trainings_into_one_folder_one_is_refused(tmp_path):
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="a,b,c", comments="")
    short = ["--network", "mlp([8])", "--epochs", "20", "--densities", "gaussian", "--latent-dim", "2", "--quiet"]
    script = f"from vaelab.cli import main; raise SystemExit(main({['train', 'x.csv', *short, '--name', 'run']!r}))"
    both = [
        subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [each.communicate()[1] for each in both]
    assert sorted(each.returncode for each in both) == [0, 2]
    refused = said[0] if both[0].returncode else said[1]
    assert "another process writes" in refused or "which is not empty" in refused
    assert runs.read_run(tmp_path / "runs" / "run").sample(2).isfinite().all()


@pytest.mark.parametrize("events", [1, 4, *(pytest.param(n, marks=pytest.mark.campaign) for n in (2, 6))])
def test_a_run_that_is_killed_at_a_file_event_goes_on_or_starts_anew(tmp_path, events):
    """Killed before the rename of its n-th file; what was written under a temporary name is swept away."""
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="a,b,c", comments="")
    script = textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        from vaelab.cli import main
        left, rename = [{events}], Path.replace
        def replace(self, target):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), 9)
            return rename(self, target)
        Path.replace = replace
        main(sys.argv[1:])
    """)
    short = ["--network", "mlp(hidden=[8])", "--epochs", "2", "--densities", "gaussian", "--latent-dim", "2"]
    arguments = ["train", "x.csv", *short, "--name", "run", "--quiet"]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert killed.returncode == -9
    folder = tmp_path / "runs" / "run"
    resumable = (folder / "config.yaml").exists()
    again = ["train", "--resume", "runs/run"] if resumable else arguments
    command = [sys.executable, "-c", f"from vaelab.cli import main; raise SystemExit(main({again!r}))"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob(".vaelab-unfinished-*"))
    whole = tmp_path / "whole"
    clean = ["train", "x.csv", *short, "--name", "whole", "--out", str(tmp_path), "--quiet"]
    with contextlib.chdir(tmp_path):
        from vaelab.cli import main

        assert main(clean) == 0
    one, other = (storage.load_tensors(each / "model.safetensors")[0] for each in (folder, whole))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


@pytest.mark.skipif(os.name == "nt", reason="modes of folders")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunFolderError, match="cannot be made"), storage.held(tmp_path / "taken" / "run"):
        pass


def test_damaged_results_and_metrics_are_named_or_written_anew(tmp_path, capsys, monkeypatch):
    from vaelab.cli import main

    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", X, delimiter=",", header="a,b,c", comments="")
    short = ["--network", "mlp(hidden=[8])", "--epochs", "2", "--densities", "gaussian", "--latent-dim", "2"]
    assert main(["train", "x.csv", *short, "--name", "run", "--quiet"]) == 0
    results, metrics = tmp_path / "runs/run/results.json", tmp_path / "runs/run/metrics.jsonl"
    whole, lines = results.read_bytes(), metrics.read_bytes()
    for damaged in (whole[:50], b"", whole.replace(b"1", b"2"), b"\xff" + whole):
        results.write_bytes(damaged)
        assert main(["info", "runs/run"]) == 2
        assert "runs/run/results.json, which was damaged" in capsys.readouterr().err
    for damaged in (lines[:50], b"\xff\xfe" + lines, b"3\n" + lines, lines.replace(b"stage", b"st\xffge")):
        metrics.write_bytes(damaged)
        assert main(["train", "--resume", "runs/run", "--quiet"]) == 0
        assert results.read_bytes() == whole
        assert metrics.read_bytes() == lines
    assert main(["info", "runs/run"]) == 0
