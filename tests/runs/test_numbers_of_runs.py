"""Every number and row that a training hands back, against the same computed from its parts."""

import copy
import math
import sys
import warnings

import pytest
import torch

from vaelab import runs, specs
from vaelab.data import ArrayBatches, Dataset, TestSplit, TrainSplit, from_arrays
from vaelab.latent import Codes, LatentDensity
from vaelab.metrics import energy_distance
from vaelab.model import VAE
from vaelab.runs import Draws, gallery, pruning
from vaelab.runs.stages import held_out_rows, hold_out, mean_variance
from vaelab.specs import Settings
from vaelab.training import stream

training, assessing = sys.modules[runs.train.__module__], sys.modules[runs.assess.__module__]
BRIEF = specs.FitSettings(epochs=2, batch_size=32)
SETTINGS = Settings(2, "mlp([4])", training=BRIEF, densities="gaussian", held_out=0.2, seed=3)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def data():
    x = 5 + randn(2100, 3).double() * torch.tensor([1.0, 10.0, 0.1])
    return Dataset("x", "table", TrainSplit(x[:100]), TestSplit(x[100:]))


@pytest.fixture(scope="module")
def trained(data):
    found = runs.train(data, SETTINGS)
    found.densities["elsewhere"] = Elsewhere()
    return found


class Elsewhere(LatentDensity):
    """All draws at one place far from 0, up to a little noise."""

    def draw(self, n, c, normals):
        return 40 + torch.randn(n, 2, generator=normals.generator)

    def log_prob(self, z, c=None):
        return -7 * torch.ones(len(z))


def test_rows_are_those_of_the_networks_in_the_units_of_the_data(trained, data):
    """Of the density and the seed that were asked for, block after block."""
    x, vae = data.test.x, trained.vae
    with torch.no_grad():
        net = trained.scaling.to_net(x).float()
        q = vae.encode(net)
        rebuilt, decoded = (
            trained.scaling.from_net(vae.decode(q.mean)),
            trained.scaling.from_net(vae.decode(randn(9, 2))),
        )
        z = [Elsewhere().sample(50, generator=stream("cpu", seed, "sample")) for seed in (3, 4)]
        drawn = [trained.scaling.from_net(vae.decode(each)) for each in z]
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(trained.encode(x), q.mean, **close)
    torch.testing.assert_close(trained.reconstruct(x), rebuilt, **close)
    torch.testing.assert_close(trained.decode(randn(9, 2)), decoded, **close)
    for seed, wanted in zip((3, 4), drawn, strict=True):
        means = trained.sample(50, how=Draws("elsewhere", observation_noise=False, seed=seed))
        torch.testing.assert_close(means, wanted, **close)
        noise = (trained.scaling.to_net(trained.sample(50, how=Draws("elsewhere", seed=seed)) - wanted)).double()
        noise = noise - trained.scaling.to_net(torch.zeros_like(wanted)).double()
        assert float(noise.square().mean()) == pytest.approx(float(vae.likelihood.variance.gamma), rel=0.5)
    assert trained.generator().density is trained.densities[trained.facts.best_density]


def test_a_score_is_the_bound_in_the_units_of_the_data(trained, data):
    x, noise = data.test.x[:60], randn(5, 2).double()
    vae = copy.deepcopy(trained.vae).double()
    with torch.no_grad():
        distortion, kl = vae.elbo(trained.scaling.to_net(x, dtype=torch.float64), noise=noise[:, None])
    wanted = -(distortion + kl) - trained.scaling.log_volume_of(x)
    torch.testing.assert_close(trained.bound(x, noise), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(trained.bound(x[7:8], noise), wanted[7:8], rtol=1e-12, atol=1e-12)


def test_facts_are_those_of_the_training_rows(trained, data):
    batches = trained.batches_of(data.train)
    kept, rest = hold_out(batches, SETTINGS)
    assert (trained.facts.rows, len(rest)) == (80, 20)
    x, _ = kept.take(torch.arange(80))
    with torch.no_grad():
        q = trained.vae.encode(x)
    assert trained.facts.variance_ratios == pytest.approx(q.variance.mean(0).tolist(), rel=1e-5)
    aggregated = q.mean.double().var(0, correction=0) + q.variance.double().mean(0)
    assert trained.facts.code_variance == pytest.approx(float(aggregated.mean()), rel=1e-5)
    assert trained.facts.data_variance == pytest.approx(float(x.double().var(0, correction=0).mean()), rel=1e-6)


def test_the_variance_of_data_is_the_mean_over_columns():
    x = randn(50, 3) * torch.tensor([1.0, 2.0, 5.0]) + torch.tensor([0.0, 9.0, -9.0])
    assert mean_variance(ArrayBatches(x)) == pytest.approx(float(x.double().var(0, correction=0).mean()))
    gaps = x.clone()
    gaps[3, 0], gaps[:, 2] = math.nan, (torch.arange(50) % 4).float()
    columns = [gaps[:, 0][~gaps[:, 0].isnan()], gaps[:, 1]]
    wanted = sum(float(column.double().var(correction=0)) for column in columns) / 2
    assert mean_variance(ArrayBatches(gaps), (0, 0, 4)) == pytest.approx(wanted)


@pytest.mark.parametrize(("n", "share", "rows"), [(200_000, 0.5, 5000), (100, 0.2, 20), (100, 0.0, 0), (3, 0.5, 0)])
def test_rows_are_held_out_up_to_a_limit(n, share, rows):
    assert held_out_rows(n, Settings(held_out=share)) == rows


def test_each_stage_is_calibrated_on_what_it_was_trained_on_and_no_more(data, monkeypatch):
    """And both see the scale of their data: where a learned γ starts, and its floor."""
    seen = []

    def fit(model, batches, settings, *, held_out, **_):
        seen.append(("fit", len(batches), len(held_out), float(model.likelihood.variance.gamma.mean())))
        model.encoder.head.output.bias.data[2:] = -2  # so that the codes do not vary by about 1

    monkeypatch.setattr("vaelab.runs.first_stage.fit", fit)
    monkeypatch.setattr(VAE, "calibrate", lambda self, batches, **_: seen.append(("calibrate", len(batches))))
    second = specs.SecondStage(hidden=(4,), training=BRIEF)
    images = from_arrays((randn(100, 1, 8, 8).sigmoid() * 0.2).numpy())
    settings = SETTINGS.set_params(densities=second, likelihood="gaussian(learned)")
    found = runs.train(images, settings)
    assert [each[:3] for each in seen] == [("fit", 80, 20), ("calibrate", 80)] * 2
    assert seen[0][3] == pytest.approx(found.facts.data_variance, rel=1e-4)
    assert found.facts.data_variance < 0.01
    assert seen[2][3] == pytest.approx(found.facts.code_variance, rel=1e-4)
    assert found.facts.code_variance != pytest.approx(1, abs=0.01)


def test_an_assessment_is_of_all_test_rows(trained, data):
    found = runs.assess(trained, data.test, seed=5)
    x = trained.scaling.to_net(data.test.x).float()
    with torch.no_grad():
        q = trained.vae.encode(x)
        noise = torch.cat(
            [torch.randn(1, 1000, 2, generator=stream("cpu", 5, "assess", start))[0] for start in (0, 1000)]
        )
        distortion, kl = trained.vae.elbo(x, noise=noise[None])
        mse = (trained.vae.decode(q.mean) - x).square().mean()
    codes = Codes.of(trained.vae, trained.batches_of(data.test))
    assert found.rows == 2000
    assert found.mse == pytest.approx(float(mse), rel=1e-4)
    assert found.distortion == pytest.approx(float(distortion.mean()), rel=1e-4)
    assert found.kl == pytest.approx(float(kl.mean()), rel=1e-4)
    assert found.nelbo == pytest.approx(found.distortion + found.kl)
    assert found.gamma == pytest.approx(float(trained.vae.likelihood.variance.gamma))
    assert found.variance_ratios == pytest.approx(q.variance.mean(0).tolist(), rel=1e-4)
    assert found.active_dimensions == sum(ratio < 0.05 for ratio in found.variance_ratios)
    assert found.code_log_density["elsewhere"] == -7
    real, _ = codes.pairs(2000, generator=stream("cpu", 5, "assess"))
    for name, density in trained.densities.items():
        wanted = energy_distance(real, density.sample(2000, generator=stream("cpu", 5, "assess", name)))
        assert found.code_distance[name] == pytest.approx(wanted, rel=1e-4)


def test_the_words_say_how_much_better_than_the_prior_the_best_is(trained, data):
    found = runs.assess(trained, data.test)
    other = copy.copy(trained)
    other.facts = trained.facts.model_copy(update={"best_density": "gaussian"})
    prior = found.code_log_density["prior"]
    found.code_log_density["gaussian"] = prior + 1.23
    assert " 1.2 nats better" in runs.findings(other, found)[-1]
    found.code_log_density["gaussian"] = prior - 0.1
    assert "explains no better" in runs.findings(other, found)[-1]


def test_pictures_show_the_density_that_they_name(trained, monkeypatch):
    asked = []
    monkeypatch.setattr(
        type(trained), "sample", lambda self, n, c=None, how=None: asked.append((how.density, how.seed))
    )
    other = copy.copy(trained)
    other.facts = trained.facts.model_copy(update={"best_density": "gaussian"})
    titles = list(gallery._sampled(other, other, TestSplit(randn(3, 3))))
    assert asked == [("prior", 3), ("prior", 3), ("gaussian", 3)]
    assert titles == ["a plain VAE (γ = 1)", "from the prior", "from one Gaussian"]


def test_after_pruning_densities_are_fitted_and_compared_on_different_rows(trained, data, monkeypatch):
    seen = []
    monkeypatch.setattr(
        pruning, "fit_densities", lambda smaller, codes, unseen, **_: seen.append((smaller, codes, unseen))
    )
    batches = trained.batches_of(data.train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smaller, _ = runs.prune(trained, batches, keep=[1])
    kept, rest = hold_out(batches, SETTINGS)
    ((_, codes, unseen),) = seen
    for part, rows in ((codes, kept), (unseen, rest)):
        whole = Codes.of(trained.vae, rows)
        torch.testing.assert_close(part.loc, whole.loc[:, 1:])
        torch.testing.assert_close(part.scale, whole.scale[:, 1:])
    assert smaller.facts.variance_ratios == trained.facts.variance_ratios[1:]
    assert smaller.facts.rows == 80


def test_a_loaded_run_is_the_one_that_was_saved(trained, data, tmp_path):
    saved = copy.copy(trained)
    saved.densities = {name: law for name, law in trained.densities.items() if name != "elsewhere"}
    runs.save(saved, tmp_path)
    again = runs.read_run(tmp_path)
    assert not any(part.training for part in again.vae.modules())
    assert (again.settings, again.facts) == (saved.settings, saved.facts)
    torch.testing.assert_close(again.reconstruct(data.test.x[:9]), saved.reconstruct(data.test.x[:9]))
    for name in saved.densities:
        torch.testing.assert_close(again.sample(5, how=Draws(name, seed=1)), saved.sample(5, how=Draws(name, seed=1)))
