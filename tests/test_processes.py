"""Several processes: evaluation shared over ranks, what starts them, grids on other machines' workers."""

import os
import signal
import socket
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from helpers import TORCHRUN
from vaelab import GaussianVAE, storage
from vaelab.specs import Compute
from vaelab.training import devices

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
MEASURES = """
import json, os, sys, torch
import vaelab
from vaelab.data import from_arrays
from vaelab.metrics.evaluator import Evaluator
from vaelab.metrics.protocols import protocol
from vaelab.training import devices
torch.set_num_threads(1)
devices.join()
x = torch.randn(900, 5, generator=torch.Generator().manual_seed(0))
seen = []

def features(rows):
    seen.append(len(rows))
    return (rows @ torch.linspace(-1, 1, 35).view(5, 7)).tanh().double()

def blocks(rows):  # seven blocks, which two processes cannot share evenly
    return lambda: rows.split(64)

chosen = protocol("tabular")
measures = ("frechet", "kernel", "energy", "precision", "coverage")
evaluator = Evaluator(chosen, features, blocks(x[:400]), measures=measures, floor=blocks(x[400:500]))
found = {f"{r.measure}/{end}": getattr(r, end) for r in evaluator.score("fake", [blocks(1.2 * x[500:])])
         for end in ("value", "low", "floor")}
open(f"{sys.argv[1]}/{os.environ.get('RANK', 'one')}.json", "w").write(json.dumps([found, len(seen)]))
"""


@pytest.mark.campaign
def test_two_processes_measure_what_one_does_with_half_the_extraction(tmp_path):
    script = tmp_path / "measure.py"
    script.write_text(MEASURES)
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, env=ENVIRONMENT)
    subprocess.run([*TORCHRUN, str(script), str(tmp_path)], check=True, env=ENVIRONMENT, capture_output=True)
    (one, all_blocks), *both = (_read(tmp_path / f"{name}.json") for name in ("one", "0", "1"))
    assert len(one) == 15
    assert [blocks for _, blocks in both] == [9, 7]  # of 7, 2 and 7: the first process has one more of the odd ones
    assert all_blocks == 16
    for found, _ in both:
        assert found == pytest.approx(one, rel=1e-9)


def _read(path):
    import json

    return json.loads(path.read_text())


TRAINS = """
import os, sys, torch
from helpers import Rows, curved_manifold, small_vae
from vaelab.training import Compute, FitSettings, fit
torch.set_num_threads(1)
model = small_vae().double()
fit(model, Rows(curved_manifold(90, d=6).double()), FitSettings(epochs=2, batch_size=20),
    compute=Compute(accelerator="cpu", precision="64-true"))
torch.save(model.state_dict(), f"{sys.argv[1]}/{os.environ.get('RANK', 'one')}.pt")
"""


@pytest.mark.campaign
def test_processes_that_something_else_than_torchrun_starts_train_together(tmp_path):
    """With the variables that submitit exports and no others."""
    script = tmp_path / "train.py"
    script.write_text(TRAINS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, str(script), str(tmp_path)]
    started = [
        subprocess.Popen(command, env={**ENVIRONMENT, **shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    one, *both = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "0", "1"))
    for key, value in one.items():
        for other in both:
            torch.testing.assert_close(other[key], value, rtol=1e-9, atol=1e-11, msg=key)


@pytest.mark.campaign
def test_two_processes_that_are_told_to_stop_save_first(tmp_path):
    """As at a pre-emption; states are written every 30 seconds by default, and the signal comes before."""
    np.savetxt(tmp_path / "x.csv", np.random.default_rng(0).normal(size=(300, 3)), delimiter=",", header="a,b,c")
    flags = "--network mlp([16]) --densities gaussian --latent-dim 2 --batch-size 20 --epochs 400 --quiet"
    command = [*TORCHRUN, "-m", "vaelab", "train", str(tmp_path / "x.csv"), *flags.split(), "--out", str(tmp_path)]
    process = subprocess.Popen([*command, "--name", "run"], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    metrics, end = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < end and not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert said.count("vaelab train --resume") == 1
    _, meta = storage.load_tensors(tmp_path / "run" / "train_state" / "stage-one.safetensors")
    assert 0 < meta["step"] < 400 * 13


@pytest.mark.parametrize("missing", ["RANK", "MASTER_PORT", "LOCAL_WORLD_SIZE"])
def test_a_process_with_a_part_of_the_variables_is_alone(monkeypatch, missing):
    names = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    for name in names - {missing}:
        monkeypatch.setenv(name, "3")
    monkeypatch.delenv(missing, raising=False)
    assert devices.make_fabric(Compute(accelerator="cpu")).world_size == 1
    assert devices.rank_and_count() == (0, 1)
    assert devices.gathered("mine") == ["mine"]
    devices.join()


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_a_grid_runs_on_workers_of_dask():
    distributed = pytest.importorskip("distributed")
    x = np.random.default_rng(0).normal(size=(60, 2)) @ [[1.0, 2, 0], [0, 1, 3]]
    model = GaussianVAE(2, network="mlp([4])", epochs=2, compute=Compute(accelerator="cpu"), random_state=0)
    grid = GridSearchCV(model, {"latent_dim": [1, 2]}, cv=2)
    here = grid.fit(x).cv_results_["mean_test_score"]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        there = grid.fit(x).cv_results_["mean_test_score"]
    np.testing.assert_allclose(there, here, rtol=1e-6)
