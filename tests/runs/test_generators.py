"""GANs as runs: trained, resumed, saved, sampled, measured; and what they have no encoder for is refused."""

import json
import sys

import numpy as np
import pytest
import torch

import vaelab
from vaelab import presets, runs
from vaelab.cli import main
from vaelab.data import Dataset, TestSplit, TrainSplit
from vaelab.errors import InputError
from vaelab.latent import PriorDensity
from vaelab.metrics import frechet_distance
from vaelab.metrics.moments import Moments
from vaelab.model.distributions import Cube
from vaelab.runs import Draws
from vaelab.runs.execution import execute, prepare
from vaelab.runs.generators import SampleDistance
from vaelab.specs import Compute
from vaelab.training import checkpoint
from vaelab.verbs import Options, compare_densities, diagnose, enhance, evaluate, manifold_dimension

COMPUTE = Compute(accelerator="cpu", checkpoint_seconds=0.0)
NAMES = ("minimax", "non-saturating", "least-squares", "wasserstein", "wgan-gp", "dragan", "began")


def images(n=200):
    """Bright bars on a dark ground, of 8 × 8 pixels."""
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.rand(n, 1, 8, 8, generator=generator)
    x[torch.arange(n), 0, :, torch.randint(0, 8, (n,), generator=generator)] = 0.9
    return Dataset("bars", "image", TrainSplit(x[:-50]), TestSplit(x[-50:]))


def table(n=200):
    x = 3 + torch.randn(n, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2, 0], [0, 1, 0], [0, 0, 5]]
    )
    return Dataset("table", "table", TrainSplit(x[:-50]), TestSplit(x[-50:]), columns=("a", "b", "c"))


def settings(name="dragan", epochs=4):
    quick = {"network": "mlp([16])", "training__epochs": epochs, "training__lr": 0.01, "compute": COMPUTE}
    return presets.preset(f"gan/{name}").set_params(latent_dim=3, **quick)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan") / "run"
    prepare(folder, images(), settings(), {"data": "bars"})
    return folder, *execute(folder, images())


def test_a_run_leaves_samples_and_how_far_they_are(finished):
    folder, trained, found = finished
    assert {path.name for path in folder.glob("*.png")} == {"samples.png", "curves.png"}
    assert json.loads((folder / "results.json").read_text()) == found.as_dict()
    assert (found.rows, found.protocol) == (50, "pca-10k")
    (row,) = evaluate(trained, images(), options=Options(metrics=("frechet",), draws=1)).readings
    assert (row.row, row.protocol) == ("prior", "pca-10k")
    assert row.value == pytest.approx(found.distance, rel=0.3)  # of other draws
    again = runs.read_run(folder)
    assert torch.equal(again.sample(70, how=Draws(seed=3)), trained.sample(70, how=Draws(seed=3)))
    drawn = vaelab.load(folder).sample(5)
    assert drawn.shape == (5, 1, 8, 8)
    assert 0 < float(drawn.min()) < float(drawn.max()) < 1
    assert isinstance(again.vae.prior(), Cube)


def test_the_weights_kept_are_those_nearest_to_rows_set_aside(finished):
    folder, trained, _ = finished
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    distances = [record["held_out_loss"] for record in records]
    assert [record["stage"] for record in records] == ["generator and critic"] * 4
    data = images()
    _, rest = runs.stages.hold_out(trained.batches_of(data.train), trained.settings)
    judge = SampleDistance(data, trained.scaling, lambda: [rest.take(torch.arange(len(rest)))[0]], len(rest), seed=0)
    assert judge(trained.vae) == pytest.approx(min(distances), rel=1e-4)


def test_the_distance_is_frechets_in_the_protocols_units():
    """Of a table: of standardised columns as they are, to as many draws as there are rows."""
    data, drawn = table(), []

    class Exact(torch.nn.Linear):
        """Draws the table's own law, twice as wide."""

        def sample(self, n, *, generator):
            drawn.append(2 * torch.randn(n, 3, generator=generator))
            return drawn[-1]

    trained = runs.train(data, settings(epochs=1))
    real = trained.scaling.to_net(data.test.x, dtype=torch.float64)
    judge = SampleDistance(data, trained.scaling, lambda: [real[:20], real[20:]], 50, seed=1)
    found = judge(Exact(1, 1))
    assert judge.protocol.name == "tabular"
    assert found == pytest.approx(frechet_distance(Moments.of(real), Moments.of(drawn[0].double())), rel=1e-6)
    assert judge(Exact(1, 1)) == found  # the same draws at every call


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_resumes_to_the_same_model(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[execute.__module__], "draw_samples", lambda *a, **k: None)
    for each in ("whole", "cut"):
        prepare(tmp_path / each, table(), settings(name), {"data": "table"})
    execute(tmp_path / "whole", table())
    save, saved = checkpoint.save_state, []

    def interrupted(path, *rest):
        save(path, *rest)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path / "cut", table())
    execute(tmp_path / "cut", table(), resume=True)
    whole, resumed = (tmp_path / each / "model.safetensors" for each in ("whole", "cut"))
    assert whole.read_bytes() == resumed.read_bytes()


ASKED = {
    "codes": lambda trained, x: trained.encode(x),
    "reconstructions": lambda trained, x: trained.reconstruct(x),
    "bounds": lambda trained, x: trained.bound(x, trained.score_noise(2)),
    "costs": lambda trained, x: trained.costs(x, trained.score_noise(2)),
    "likelihoods": lambda trained, x: trained.log_likelihood(x, k=2),
    "diagnosis": lambda trained, x: diagnose(trained, x),
    "enhancement": lambda trained, x: enhance(trained, x),
    "pruning": lambda trained, x: vaelab.prune(trained, x),
    "dimension": lambda trained, x: manifold_dimension(trained, x),
    "laws of codes": lambda trained, x: compare_densities(trained, x),
    "recalibration": lambda trained, x: vaelab.recalibrate(trained, x),
    "retraining": lambda trained, x: vaelab.retrain(trained, x),
    "interpolation": lambda trained, x: evaluate(trained, images(), options=Options(metrics=("interpolation",))),
    "off the manifold": lambda trained, x: runs.rejection_of(trained, images().train),
    "a graph of codes": lambda trained, x: trained.export("nowhere.pt2", "encode"),
    "a graph of scores": lambda trained, x: trained.export("nowhere.pt2", "score"),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_needs_an_encoder_is_refused(what, finished):
    with pytest.raises(InputError, match="a GAN, which has no encoder"):
        ASKED[what](finished[1], images().test.x)


def test_a_gan_has_no_noise_of_rows_and_no_other_law(finished):
    with pytest.raises(InputError, match="observation_noise"):
        finished[1].sample(2, how=Draws(observation_noise=True))
    with pytest.raises(InputError, match="one of auto, prior"):
        finished[1].sample(2, how=Draws(density="mixture"))


def test_an_exported_generator_draws_as_the_run_does(finished, tmp_path):
    trained = finished[1]
    trained.export(tmp_path / "g.pt2", "sample")
    noise = torch.randn(4, 3)
    program = torch.export.load(tmp_path / "g.pt2").module()
    z = 2 * torch.special.ndtr(noise) - 1
    torch.testing.assert_close(program(noise), trained.decode(z))
    law = PriorDensity(trained.vae.prior)
    assert float(law.sample(1000, temperature=0.1).abs().max()) < 0.4


def test_no_plain_vae_is_trained_beside_a_gan(tmp_path):
    with pytest.raises(InputError, match="plain=True for a GAN"):
        prepare(tmp_path / "run", table(), settings(), {"data": "table", "plain": True})
    assert not (tmp_path / "run").exists()


def test_in_the_shell(tmp_path, capsys):
    """``--baseline``, and the verbs beside it."""
    rows = tmp_path / "rows.csv"
    np.savetxt(rows, table().train.x.numpy(), delimiter=",", header="a,b,c", comments="")
    run, out = str(tmp_path / "runs" / "g"), str(tmp_path / "drawn.csv")
    quick = ["--epochs", "1", "--network", "mlp([8])", "--out", str(tmp_path / "runs"), "--name", "g"]
    assert main(["train", str(rows), "--baseline", "began", *quick]) == 0
    said = capsys.readouterr().out
    assert "Fréchet distance" in said
    assert "vaelab evaluate" in said
    assert "vaelab explore" not in said
    assert main(["info", run]) == 0
    assert "Fréchet distance" in capsys.readouterr().out
    assert main(["sample", run, "-n", "7", "-o", out]) == 0
    assert len(np.loadtxt(out, delimiter=",", skiprows=1)) == 7
    assert main(["evaluate", run, "--draws", "2", "--quiet"]) == 0
    assert "reconstructions" not in capsys.readouterr().out
    for verb in ("encode", "score", "reconstruct", "impute", "diagnose", "dimension"):
        target = [] if verb in ("diagnose", "dimension") else [str(rows), "-o", str(tmp_path / "x.csv")]
        target = target if verb != "encode" else [str(rows), "-o", str(tmp_path / "x.npy")]
        assert main([verb, run, *target]) == 2, verb
        assert "has no encoder" in capsys.readouterr().err, verb
    for wrong, said in (
        (["--baseline", "wgan_gp"], "Did you mean wgan-gp?"),
        (["--baseline", "began", "--preset", "infogan"], "one of them"),
        (["--baseline", "began", "--condition", "standard"], "condition"),
        (["--baseline", "dragan", "--plain", "--epochs", "1"], "plain=True for a GAN"),
        (["--baseline", "dragan", "--config", f"{run}/config.yaml"], "--baseline and --config"),
        (["--preset", "infogan", "--config", f"{run}/config.yaml"], "--preset and --config"),
    ):
        assert main(["train", str(rows), *wrong]) == 2
        assert said in capsys.readouterr().err
