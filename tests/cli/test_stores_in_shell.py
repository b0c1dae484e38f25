"""Stores in the shell: trained on by key, remembered by the run, and read alike afterwards."""

import numpy as np
import pytest

from vaelab import runs
from vaelab.cli import main
from vaelab.data.containers import spool

h5py = pytest.importorskip("h5py")

FAST = "--latent-dim 2 --network mlp --network.hidden 8 --epochs 2 --densities gaussian --quiet"


def test_a_store_trains_and_is_encoded_by_the_key_of_its_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    x = np.random.default_rng(0).normal(size=(80, 3))
    with h5py.File("x.h5", "w") as file:
        file["other"], file["layers/a"], file["kind"] = x[:, :1], x, np.arange(80) % 2
    assert (
        main(["train", "x.h5", "--key", "layers/a", "--condition", "standard", "--label-column", "kind", *FAST.split()])
        == 0
    )
    assert runs.source_of(tmp_path / "runs" / "x")[1]["key"] == "layers/a"
    assert main(["train", "x.h5", "--key", "layers/a", "--name", "plain", *FAST.split()]) == 0
    np.save("x.npy", x)
    assert main(["train", "x.npy", "--name", "array", *FAST.split()]) == 0
    assert main(["encode", "runs/plain", "x.h5", "-o", "a.npy"]) == 0
    assert main(["encode", "runs/array", "x.npy", "-o", "b.npy"]) == 0
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert main(["train", "x.h5", *FAST.split()]) == 2
    assert main(["train", "x.npy", "--key", "a", *FAST.split()]) == 2
