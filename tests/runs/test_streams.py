"""Streams in runs: a training is resumed at the row where it stopped, and memory does not grow with the rows."""

import subprocess
import sys

import numpy as np
import pytest

from vaelab.data import MappedArray, gather, load
from vaelab.runs.execution import execute, prepare
from vaelab.specs import MLP, Compute, FitSettings, Settings
from vaelab.training import checkpoint

SETTINGS = Settings(
    latent_dim=2,
    network=MLP((16,)),
    training=FitSettings(epochs=3, batch_size=32, augment="flip"),
    compute=Compute(accelerator="cpu", checkpoint_seconds=0.0),
    densities=("gaussian",),
)


def stream():
    generator = np.random.default_rng(0)
    while True:
        yield generator.integers(0, 256, (1, 6, 7), dtype=np.uint8)


def test_a_training_on_a_stream_resumes_at_the_row_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[execute.__module__], "draw_pictures", lambda *a, **k: None)
    gather(stream(), rows=200, path=tmp_path / "rows.npy")
    for name in ("whole", "cut"):
        prepare(tmp_path / name, load(tmp_path / "rows.npy", memory_map=True), SETTINGS, {"data": "rows.npy"})
    data = load(tmp_path / "rows.npy", memory_map=True)
    assert isinstance(data.train.x, MappedArray)
    execute(tmp_path / "whole", data)
    save, states = checkpoint.save_state, []

    def interrupted(path, *rest):
        save(path, *rest)
        states.append(rest)
        if len(states) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "cut", load(tmp_path / "rows.npy", memory_map=True))
    gather(stream(), rows=200, path=tmp_path / "rows.npy")  # the same stream once more, as another process would
    execute(tmp_path / "cut", load(tmp_path / "rows.npy", memory_map=True), resume=True)
    whole, resumed = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == resumed.read_bytes()


PROGRAM = """
import sys
import numpy as np
from vaelab import GaussianVAE
from vaelab.data import MappedArray, gather
from vaelab.data.containers import spool
def read(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) // 1024
def stream():
    generator = np.random.default_rng(0)
    while True:
        yield from generator.integers(0, 256, (1000, 1, 28, 28), dtype=np.uint8)
spool.IN_MEMORY = 2**20
def fitted(rows):
    x, _ = gather(stream(), rows=rows)
    assert isinstance(x, MappedArray)
    return GaussianVAE(4, network="mlp([8])", epochs=1, batch_size=1000, random_state=0).fit(x)
fitted(2_000)  # libraries are loaded, and buffers of usual size
before = read("VmHWM")
fitted(int(sys.argv[1]))
print(read("VmHWM") - before)
"""


@pytest.mark.campaign
def test_memory_does_not_grow_with_a_stream(tmp_path, monkeypatch):
    """200,000 images of 28 × 28 are 157 MB; what grows with their number is their order, and means of their codes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM, "200000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100
