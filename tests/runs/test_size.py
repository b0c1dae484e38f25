"""Codes whose size training finds: grown while they are full, without what is idle, the same after a resume."""

import numpy as np
import pytest
import torch

from vaelab import GaussianVAE, TwoStageVAE, load, runs
from vaelab.cli import main
from vaelab.data import as_batches, from_arrays
from vaelab.errors import InputError
from vaelab.runs.size import first_size, largest_size
from vaelab.specs import MLP, Compute, FitSettings, Settings
from vaelab.training import Hook, read_records
from vaelab_papers.synthetic import sigmoid_manifold

QUICK = Settings(
    latent_dim="auto",
    network=MLP((32,), "relu"),
    training=FitSettings(epochs=60, batch_size=100, lr=5e-3, schedule="one_cycle"),
    compute=Compute(accelerator="cpu"),
    densities=("gaussian",),
)


@pytest.fixture(scope="module")
def data():
    """A plane in eight dimensions, with noise; all columns vary alike."""
    generator = np.random.default_rng(0)
    angle = np.arange(8) * np.pi / 8
    plane = generator.normal(size=(1000, 2)) @ np.stack([np.cos(angle), np.sin(angle)])
    return from_arrays((plane + 0.05 * generator.normal(size=(1000, 8))).astype(np.float32))


@pytest.fixture(scope="module")
def trained(data):
    return runs.train(data, QUICK)


def test_what_is_idle_is_dropped(trained, data):
    assert trained.settings.latent_dim == trained.vae.latent_dim == len(trained.facts.variance_ratios) == 2
    assert trained.encode(data.train.x[:3].float()).shape == (3, 2)
    assert trained.sample(5).shape == (5, 8)
    assert trained.facts.stage.startswith("stage one, ")
    assert trained.facts.trained_latent_dim in (6, 8)
    said = runs.findings(trained, runs.assess(trained, data.train))[0]
    assert said.startswith("8 columns live on about 2 dimensions")  # and not: try a larger code


def test_a_code_that_is_full_is_doubled(monkeypatch, data):
    monkeypatch.setattr("vaelab.runs.size.first_size", lambda batches, levels: 2)
    grown = runs.train(data, QUICK)
    assert grown.facts.stage.startswith("stage one, 4 dimensions")
    assert grown.settings.latent_dim == 2


def test_first_and_largest_sizes():
    rows = as_batches(sigmoid_manifold(800, 12, 3, seed=0).x)
    assert first_size(rows, ()) in (6, 8)
    assert first_size(rows, (0,) * 10 + (3, 3)) in (10, 12)
    assert first_size(rows.subset(torch.arange(3)), ()) == 8
    assert largest_size((12,), ()) == 12
    assert largest_size((3, 64, 64), ()) == 256
    assert largest_size((3,), (0, 5, 2)) == 6


def test_estimators_and_the_shell(tmp_path, data):
    x = data.train.x.numpy()
    model = GaussianVAE(latent_dim="auto", network=MLP((16,)), epochs=3, random_state=0).fit(x[:300])
    assert model.latent_dim == "auto"
    assert model.transform(x[:2]).shape == (2, model.trained_.vae.latent_dim)
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").transform(x[:2]).shape == model.transform(x[:2]).shape
    np.savetxt(tmp_path / "x.csv", x[:300], delimiter=",", header=",".join("abcdefgh"), comments="")
    arguments = ["--latent-dim", "auto", "--network", "mlp(hidden=[16])", "--epochs", "3", "--densities", "gaussian"]
    assert main(["train", str(tmp_path / "x.csv"), *arguments, "--out", str(tmp_path), "--name", "run"]) == 0
    stages = {record["stage"] for record in read_records(tmp_path / "run" / "metrics.jsonl")}
    assert any(stage.startswith("stage one, ") for stage in stages)
    saved = runs.read_run(tmp_path / "run")
    assert isinstance(saved.settings.latent_dim, int)
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_resumed_training_is_the_same(tmp_path, data, trained):
    class Killed(Hook):
        def note(self, text):
            if "fitting" in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(data, QUICK, states=tmp_path, hooks=[Killed()])
    assert [path.name for path in sorted(tmp_path.iterdir())]
    again = runs.train(data, QUICK, states=tmp_path, resume=True)
    for one, other in zip(again.vae.parameters(), trained.vae.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_what_cannot_be_counted_is_refused():
    for posterior in ("full", "isotropic", "deterministic"):
        with pytest.raises(InputError, match="latent_dim='auto'"):
            TwoStageVAE(latent_dim="auto", posterior=posterior).fit(np.zeros((20, 3)))
    for wrong in (0, 2.5, "many", True, None, float("nan")):
        with pytest.raises(ValueError, match="latent_dim"):
            Settings(latent_dim=wrong)
    assert Settings(latent_dim=np.int64(3)).size == 3
    with pytest.raises(InputError, match="without a training"):
        Settings(latent_dim="auto").size  # noqa: B018
