"""Whole runs: from data to folder, resumed, on several processes, on disk."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from helpers import TORCHRUN
from vaelab import runs, specs
from vaelab.data import Dataset, TestSplit, TrainSplit, load
from vaelab.errors import InputError, RunFolderError, VaelabError
from vaelab.metrics import energy_distance
from vaelab.presets import names
from vaelab.presets import preset as preset
from vaelab.runs import Draws
from vaelab.runs.execution import execute, prepare
from vaelab.specs import MLP, Compute, FitSettings, Settings, build_vae
from vaelab.training import checkpoint

QUICK = Settings(
    latent_dim=2,
    network=MLP((16,)),
    training=FitSettings(epochs=3, batch_size=32),
    compute=Compute(accelerator="cpu", checkpoint_seconds=0.0),
    densities=(
        "gaussian",
        "mixture(components=2, covariance=full)",
        specs.SecondStage(hidden=(16,), training=FitSettings(epochs=3)),
    ),
)


def table(n=200) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x = 5 + torch.randn(n, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
    x += 0.1 * torch.randn(n, 6, generator=generator)
    return Dataset("table", "table", TrainSplit(x[:-40]), TestSplit(x[-40:]), columns=tuple("abcdef"))


@pytest.mark.parametrize("make", [table, lambda: load("digits")], ids=["table", "images"])
def test_a_run_leaves_all_its_files(make, tmp_path):
    folder, data = tmp_path / "run", make()
    settings = QUICK.set_params(network="mlp")
    prepare(folder, data, settings, {"data": "somewhere"})
    trained, found = execute(folder, data)
    wanted = {"config.yaml", "model.safetensors", "metrics.jsonl", "results.json", "versions.json", "train_state"}
    wanted |= {"samples.png", "reconstructions.png", "curves.png", "curves-second-stage.png", "posterior-variances.png"}
    assert {path.name for path in folder.iterdir()} == wanted
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    stages = [json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first = [
        each for each in stages if each != "stage one from a linear model"
    ]  # of a table, where one start is not enough
    assert first == ["stage one"] * 3 + ["stage two"] * 3
    assert json.loads((folder / "results.json").read_text())["mse"] == pytest.approx(found.mse)
    assert set(found.code_log_density) == {"prior", "gaussian", "mixture_2", "second_stage"}
    assert found.nelbo == pytest.approx(found.distortion + found.kl)
    assert any("dimensions" in line for line in runs.findings(trained, found))
    again = runs.read_run(folder)
    torch.testing.assert_close(again.sample(4, how=Draws(seed=3)), trained.sample(4, how=Draws(seed=3)))
    torch.testing.assert_close(again.encode(data.test.x), trained.encode(data.test.x))


def test_mse_and_nelbo_are_those_of_the_model():
    data = table()
    trained = runs.train(data, QUICK)
    found = runs.assess(trained, data.test)
    net = trained.scaling.to_net(data.test.x)
    with torch.no_grad():
        q = trained.vae.encode(net)
        mse = (trained.vae.decode(q.mean) - net).square().mean()
        draws = torch.stack([trained.vae(net).per_sample.mean() for _ in range(200)])
    assert found.mse == pytest.approx(float(mse), rel=1e-5)
    assert found.nelbo == pytest.approx(float(draws.mean()), abs=5 * float(draws.std()))
    assert found.variance_ratios == pytest.approx(q.variance.mean(0).tolist(), rel=1e-5)


MATCHING = "flow_matching(width=16, blocks=1, coupling={}, training=fit(epochs=3, batch_size=32, ema=0.9))"


@pytest.mark.parametrize("coupling", ["independent", "optimal_transport"])
def test_flow_matching_is_a_law_of_a_run_like_any_other(coupling, tmp_path, monkeypatch):
    """Interrupted in its training, resumed, saved, read, drawn from and scored."""
    monkeypatch.setattr(sys.modules[execute.__module__], "draw_pictures", lambda *a, **k: None)
    settings = QUICK.set_params(densities=("gaussian", MATCHING.format(coupling)))
    for name in ("whole", "cut"):
        prepare(tmp_path / name, table(), settings, {"data": "somewhere"})
    trained, found = execute(tmp_path / "whole", table())
    save = checkpoint.save_state

    def interrupted(path, *rest):
        save(path, *rest)
        if path.stem == "flow-matching":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "cut", table())
    execute(tmp_path / "cut", table(), resume=True)
    whole, resumed = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == resumed.read_bytes()
    again = runs.read_run(tmp_path / "cut")
    drawn = again.sample(5, how=Draws("flow_matching", seed=3))
    assert torch.equal(drawn, trained.sample(5, how=Draws("flow_matching", seed=3)))
    assert np.isfinite(found.code_log_density["flow_matching"])
    assert again.densities["flow_matching"].coupling == coupling


@pytest.mark.parametrize("stage", ["stage-one", "stage-two"])
def test_an_interrupted_run_resumes_to_the_same_model(stage, tmp_path, monkeypatch):
    """Stopped right after the first state of a stage is written."""
    monkeypatch.setattr(
        sys.modules[execute.__module__], "draw_pictures", lambda *a, **k: None
    )  # slow, and not what is compared
    for name in ("whole", "cut"):
        prepare(tmp_path / name, table(), QUICK, {"data": "somewhere"})
    execute(tmp_path / "whole", table())
    save = checkpoint.save_state

    def interrupted(path, *rest):
        save(path, *rest)
        if path.stem == stage:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "cut", table())
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    with pytest.raises(RunFolderError, match="--resume"):
        runs.read_run(tmp_path / "cut")
    execute(tmp_path / "cut", table(), resume=True)
    whole, resumed = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == resumed.read_bytes()


@pytest.mark.campaign
@pytest.mark.parametrize("wait_for", ["stage-one", "stage-two"])
def test_a_killed_run_resumes_to_the_same_model(wait_for, tmp_path):
    """SIGKILL in either stage, then ``vaelab train --resume``: the same weights, bit for bit."""
    np.save(tmp_path / "x.npy", table(3000).train.x.numpy())
    flags = "--latent-dim 2 --network mlp --network.hidden 64 64 --epochs 6 --batch-size 16 "
    flags += "--densities gaussian mixture(2,full) second_stage([64,64],training(epochs=6,batch_size=16)) "
    flags += "--compute.checkpoint_seconds 0 --compute.accelerator cpu"
    command = [sys.executable, "-m", "vaelab", "train", str(tmp_path / "x.npy"), *flags.split(), "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--name", "whole"], check=True, env=environment, capture_output=True)
    process = subprocess.Popen([*command, "--name", "cut"], env=environment, stdout=subprocess.DEVNULL)
    while not (tmp_path / "cut" / "train_state" / f"{wait_for}.safetensors").exists():
        time.sleep(0.002)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    with pytest.raises(RunFolderError, match="--resume"):
        runs.read_run(tmp_path / "cut")
    resume = [sys.executable, "-m", "vaelab", "train", "--resume", str(tmp_path / "cut")]
    subprocess.run(resume, check=True, env=environment, capture_output=True)
    whole, resumed = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == resumed.read_bytes()


@pytest.mark.campaign
def test_two_processes_make_one_run(tmp_path):
    """The command under torchrun: one folder, and the same first stage to rounding."""
    np.save(tmp_path / "x.npy", table(500).train.x.numpy())
    flags = "--latent-dim 2 --network mlp --network.hidden 16 --epochs 4 --batch-size 20 --seed 3 "
    flags += "--densities gaussian mixture(2,full) second_stage([16],training(epochs=4,batch_size=20,keep_best=false)) "
    flags += "--compute.accelerator cpu --training.keep_best false"
    arguments = ["-m", "vaelab", "train", str(tmp_path / "x.npy"), *flags.split(), "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments, "--name", "one"], check=True, env=environment, capture_output=True)
    done = subprocess.run([*TORCHRUN, *arguments, "--name", "two"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training and") == 1, "more than one process printed"
    one, two = (runs.read_run(tmp_path / name) for name in ("one", "two"))
    for key, value in one.vae.state_dict().items():
        torch.testing.assert_close(two.vae.state_dict()[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_settings_in_a_file_are_those_of_the_run(tmp_path):
    folder = tmp_path / "run"
    prepare(folder, table(), QUICK, {"data": "x"})
    settings, source = runs.source_of(folder)
    assert settings == QUICK.resolve(144, (6,))
    assert source["data"] == "x"


def test_changed_data_and_used_folders_are_refused(tmp_path):
    folder = tmp_path / "run"
    prepare(folder, table(), QUICK, {"data": "x"})
    with pytest.raises(RunFolderError, match="differ"):
        execute(folder, table(300))
    with pytest.raises(RunFolderError, match="not empty"):
        prepare(folder, table(), QUICK, {"data": "x"})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    from vaelab import storage

    path = tmp_path / "a.txt"
    storage.write_text(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(VaelabError, match="disk is full"):
        storage.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_tensors_survive_and_pickles_are_refused(tmp_path):
    from vaelab import storage

    path = tmp_path / "a.safetensors"
    storage.save_tensors(path, {"x": torch.arange(3), "y": torch.eye(2).T}, {"note": [1, "γ"]})
    tensors, meta = storage.load_tensors(path)
    assert torch.equal(tensors["x"], torch.arange(3))
    assert meta == {"note": [1, "γ"]}
    torch.save({"x": 1}, path)
    with pytest.raises(InputError, match="unreadable"):
        storage.load_tensors(path)


def test_presets_are_the_paper():
    """Dai & Wipf, appendix: epochs and halvings of both stages per data set."""
    expected = {
        "mnist": (400, 150, 800, 300),
        "fashion_mnist": (400, 150, 800, 300),
        "cifar10": (1000, 300, 2000, 600),
        "celeba": (120, 48, 300, 120),
    }
    for name, lengths in expected.items():
        settings = preset(f"dai-wipf/{name}")
        first, second = settings.training, settings.density("second_stage")
        assert (first.epochs, first.schedule.every, second.training.epochs, second.training.schedule.every) == lengths
        for training in (first, second.training):
            assert (training.batch_size, training.lr, training.weight_decay) == (100, 1e-4, 0)
        assert (settings.latent_dim, second.hidden) == (64, (1024,) * 3)
        assert settings.network == specs.InfoGAN(norm_decay=0.999)
        vae = build_vae(settings.resolve(60_000, (1, 28, 28)), (1, 28, 28), data_variance=0.07)
        assert float(vae.likelihood.variance.gamma) == pytest.approx(1.0)
        assert [g.lr_scale for g in vae.parameter_groups()] == [1.0, 1.0]
    assert {"infogan", "resnet", "wae"} <= set(names())
    with pytest.raises(InputError, match="Did you mean 'dai-wipf/mnist'"):
        preset("dai-wipf/mnis")


@pytest.mark.parametrize("network", ["mlp", "infogan", "resnet", "wae"])
@pytest.mark.parametrize("variance", ["profiled", "learned", "fixed"])
def test_every_network_trains_with_every_variance_on_any_image_size(network, variance):
    x = torch.randint(256, (12, 3, 30, 45), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Dataset("x", "image", TrainSplit(x), TestSplit(x[:2]))
    settings = Settings(
        latent_dim=2,
        network=network,
        likelihood=specs.Gaussian(variance=variance),
        training=FitSettings(epochs=1, batch_size=6),
        densities=(),
        held_out=0.0,
    )
    if network == "wae":  # its widths are the paper's, 1024 channels: only built, not trained, at this size
        build_vae(settings.resolve(12, (3, 30, 45)), (3, 30, 45), data_variance=0.1)
        return
    trained = runs.train(data, settings)
    assert trained.sample(2, how=Draws("prior")).shape == (2, 3, 30, 45)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.campaign)])
def test_second_stage_samples_are_closer_to_curved_data_than_the_prior_s(seed):
    """End to end on a noisy circle in eight dimensions: distances in data space, at least twice as close."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(4000, generator=generator)
    x = torch.stack([angle.cos(), angle.sin()], 1) @ torch.randn(2, 8, generator=generator)
    x += 0.05 * torch.randn(4000, 8, generator=generator)
    data = Dataset("circle", "table", TrainSplit(x[:3000]), TestSplit(x[3000:]))
    settings = Settings(
        latent_dim=4,
        network=MLP((64, 64)),
        training=FitSettings(epochs=40, lr=3e-3),
        compute=Compute(accelerator="cpu"),
        densities=(specs.SecondStage(hidden=(64, 64), training=FitSettings(epochs=80, lr=3e-3)),),
        seed=seed,
    )
    trained = runs.train(data, settings)
    distance = {
        name: energy_distance(data.test.x, trained.sample(1000, how=Draws(name))) for name in ("prior", "second_stage")
    }
    assert distance["second_stage"] < distance["prior"] / 2, distance


def test_bound_ignores_the_weight_of_the_kl():
    """A β-VAE's score is still a lower bound: the unweighted ELBO of its own networks."""
    data = table()
    trained = runs.train(data, QUICK.set_params(penalties="kl(0)", densities=()))
    noise = torch.randn(4, 2)
    net = trained.scaling.to_net(data.test.x)
    with torch.no_grad():
        distortion, kl = trained.vae.elbo(net, noise=noise[:, None])
    assert float(kl.mean()) > 0.1
    expected = -(distortion + kl).double() - trained.scaling.log_volume
    torch.testing.assert_close(trained.bound(data.test.x, noise), expected, rtol=1e-5, atol=1e-5)
