"""One record of how rows are drawn: temperature, and rejection of rows off the manifold, from Python and the shell."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from vaelab import ConditionalVAE, GaussianVAE, TwoStageVAE, evaluate, runs
from vaelab.cli import main
from vaelab.data import Scaling, TrainSplit, from_arrays
from vaelab.errors import InputError, VaelabWarning
from vaelab.latent import Mixture, PriorDensity
from vaelab.metrics.report import Report
from vaelab.model import VAE, FixedVariance, Gaussian
from vaelab.runs import Draws, Facts, Trained, rejection_of
from vaelab.runs.drawing import drawn_blocks
from vaelab.specs import MLP, Settings
from vaelab.verbs import Options


class Same(nn.Module):
    """Means that are what is read, with a small deviation where one is asked for."""

    def __init__(self, deviation=None):
        super().__init__()
        self.log_std = nn.Parameter(torch.tensor(math.log(deviation or 1.0)))
        self.emits_deviation = deviation is not None

    def forward(self, x, c=None):
        return torch.cat([x, self.log_std.expand_as(x)], 1) if self.emits_deviation else x


def ring(n, seed=0):
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed))
    return torch.stack([angle.cos(), angle.sin()], 1)


@pytest.fixture
def trained():
    """A model of a ring whose codes are its rows; the law "half" has half of its draws at the centre, which is off."""
    likelihood = Gaussian(FixedVariance(1e-6))
    vae = VAE(Same(0.02), Same(), latent_dim=2, likelihood=likelihood).eval()
    angles = torch.arange(60) / 60 * 2 * math.pi
    points = torch.cat([torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(60, 2)])
    half = Mixture(torch.full((120,), 1 / 120), points, (0.01 * torch.eye(2)).repeat(120, 1, 1))
    unit = Scaling(torch.zeros(2).double(), torch.ones(2).double(), "float32", "table", (2,))
    facts = Facts(kind="table", event_shape=(2,), rows=1000, data_variance=0.5, variance_ratios=(0.01, 0.01))
    return Trained(Settings(2), facts, unit, vae, {"prior": PriorDensity(vae.prior), "half": half})


def test_rows_off_the_manifold_are_drawn_again_and_counted(trained):
    rejection = rejection_of(trained, TrainSplit(ring(3000)))
    plain = trained.sample(3000, how=Draws("half", seed=1)).norm(dim=1)
    kept = trained.sample(3000, how=Draws("half", rejection=rejection, seed=1)).norm(dim=1)
    assert float((plain < 0.5).double().mean()) == pytest.approx(0.5, abs=0.04)
    assert float(kept.min()) > 0.8
    assert rejection.share == pytest.approx(0.5, abs=0.05)  # and of those on the ring next to none
    assert rejection.drawn - rejection.rejected == 3000
    assert f"of {rejection.drawn:,} draws" in rejection.said


def test_draws_with_rejection_depend_on_the_seed_alone_and_come_in_the_same_blocks(trained, monkeypatch):
    monkeypatch.setattr("vaelab.runs.drawing._LEAST_DRAWN", 50)
    monkeypatch.setattr("vaelab.runs.drawing._DRAWN", 1)

    def drawn(n, seed=3):
        return trained.sample(n, how=Draws("half", temperature=0.7, rejection=rejection_of(trained, split), seed=seed))

    split = TrainSplit(ring(3000))
    assert torch.equal(drawn(120), drawn(120))
    assert torch.equal(drawn(120)[:100], drawn(100))
    assert not torch.equal(drawn(100), drawn(100, seed=4))
    how = Draws("half", temperature=0.7, rejection=rejection_of(trained, split), seed=3)
    parts = list(drawn_blocks(trained, 120, lambda rows: None, how))
    assert [len(part) for part in parts] == [50, 50, 20]
    assert torch.equal(torch.cat(parts), drawn(120))


def test_a_law_that_is_nearly_all_off_is_refused(trained):
    far = Mixture(torch.ones(1), torch.full((1, 2), 40.0), torch.eye(2)[None])
    trained.densities["far"] = far
    with pytest.raises(InputError, match="200 of 200 draws are off the manifold"):
        trained.sample(200, how=Draws("far", rejection=rejection_of(trained, TrainSplit(ring(500)))))


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, True, "1", None])
def test_a_temperature_that_is_none_is_refused(bad):
    with pytest.raises(InputError, match="temperature"):
        Draws(temperature=bad)
    with pytest.raises(InputError, match="temperature"):
        Options(temperature=bad)


@pytest.fixture(scope="module")
def rows():
    source = np.random.default_rng(0)
    angle = source.uniform(0, 2 * np.pi, 400)
    x = np.stack([np.cos(angle), np.sin(angle), np.cos(angle) ** 2], 1)
    return x + 0.05 * source.normal(size=x.shape)


@pytest.fixture(scope="module")
def model(rows):
    how = {"network": MLP(hidden=(16,), start="random"), "epochs": 20, "random_state": 0, "densities": "gaussian"}
    return TwoStageVAE(2, **how).fit(rows)


def test_an_estimator_says_how_many_were_rejected(model, rows):
    with pytest.warns(VaelabWarning, match=r"% of [\d,]+ draws were off the manifold"):
        kept = model.sample(200, density="gaussian", on_manifold=rows, random_state=1)
    wide = model.sample(200, density="gaussian", temperature=5.0, observation_noise=False, random_state=1)
    narrow = model.sample(200, density="gaussian", temperature=0.2, observation_noise=False, random_state=1)
    assert kept.shape == wide.shape == (200, 3)
    assert narrow.std(0).max() < wide.std(0).max()


def test_a_model_of_one_stage_takes_both(rows):
    model = GaussianVAE(2, network=MLP(hidden=(16,), start="random"), epochs=2, random_state=0).fit(rows)
    one, two = (model.sample(50, temperature=t, observation_noise=False, random_state=1) for t in (1.0, 0.1))
    assert two.std(0).max() < one.std(0).max()
    with pytest.raises(InputError, match="temperature"):
        model.sample(5, temperature=-1)


def test_rows_of_a_conditional_model_come_with_their_conditions(rows):
    y = np.where(rows[:, 0] > 0, "right", "left")
    model = ConditionalVAE(2, network=MLP(hidden=(16,), start="random"), epochs=2, random_state=0).fit(rows, y)
    with pytest.warns(VaelabWarning, match="draws were off the manifold"):
        drawn = model.sample(20, "left", on_manifold=(rows, y), random_state=1)
    assert drawn.shape == (20, 3)
    with pytest.raises(InputError, match="no y"):
        model.sample(20, "left", on_manifold=rows, random_state=1)


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_an_evaluation_says_at_which_temperature_and_how_many_were_rejected(model, rows):
    data = from_arrays(rows[:300], rows[300:])
    how = Options(metrics=("energy",), densities=("prior", "gaussian"), draws=2, temperature=3.0, on_manifold=True)
    report = evaluate(model, data, options=how)
    assert [one.temperature for one in report.readings] == [3.0, 3.0]
    assert all(0.05 < one.rejected < 0.9 for one in report.readings)
    assert "prior (T = 3, " in str(report)
    assert "% rejected)" in str(report)
    saved = json.loads(json.dumps(report.as_dict()))["readings"][0]
    assert (saved["temperature"], saved["rejected"]) == (3.0, report.readings[0].rejected)
    assert isinstance(report, Report)
    plain = evaluate(model, data, options=Options(metrics=("energy",), densities=("gaussian",), draws=2))
    assert (plain.readings[0].temperature, plain.readings[0].rejected) == (1.0, None)
    assert "T =" not in str(plain)


def test_the_shell_draws_as_python_does(tmp_path, rows, capsys):
    table = tmp_path / "table.csv"
    np.savetxt(table, rows, delimiter=",", header="a,b,c", comments="")
    arguments = [
        "--latent-dim",
        "2",
        "--epochs",
        "2",
        "--densities",
        "gaussian",
        "--network",
        "mlp([8])",
        "--quiet",
    ]
    assert main(["train", str(table), "--out", str(tmp_path), "--name", "run", *arguments]) == 0
    run = str(tmp_path / "run")
    drawn = str(tmp_path / "drawn.npy")
    assert main(["sample", run, "-n", "30", "-o", drawn, "--temperature", "0.5", "--on-manifold", "--seed", "3"]) == 0
    assert "draws were off the manifold" in capsys.readouterr().out
    trained = runs.read_run(tmp_path / "run")
    split = trained.conditioned(runs.data_of(runs.source_of(tmp_path / "run")[1])).train
    how = Draws(temperature=0.5, rejection=rejection_of(trained, split), seed=3)
    np.testing.assert_array_equal(np.load(drawn), trained.sample(30, how=how).numpy())

    # of other rows in that place it is not known where the manifold is
    np.savetxt(table, rows[::-1] + 1, delimiter=",", header="a,b,c", comments="")
    assert main(["sample", run, "-n", "30", "-o", drawn, "--temperature", "0.5", "--on-manifold"]) == 2
    assert "table.csv, whose rows are not those that" in capsys.readouterr().err
    assert main(["evaluate", run, "--metrics", "energy", "--draws", "2", "--on-manifold", "--quiet"]) == 2
    assert "wanted those of its training" in capsys.readouterr().err
    with pytest.warns(VaelabWarning, match=r"table\.csv, .*: the data were changed since"):
        assert main(["reconstruct", run, "-o", drawn]) == 0
