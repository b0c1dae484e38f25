"""A Gaussian beside a VAE, against the closed form; a training that finds nothing says so."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from sklearn.covariance import ledoit_wolf
from sklearn.mixture import GaussianMixture
from torch.distributions import MultivariateNormal

from helpers import small_vae
from vaelab import GaussianVAE
from vaelab.data import ArrayBatches, from_arrays
from vaelab.errors import VaelabWarning
from vaelab.model import VAE, Bernoulli, FixedVariance, Gaussian, Mixed
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader, table_width
from vaelab.runs import assess, baseline, findings, train
from vaelab.runs.baseline import Gain, Rival, gain_over_columns, gain_over_gaussian, gain_over_simple, mixture_beside
from vaelab.runs.first_stage import FirstStage, Kept
from vaelab.specs import MLP, Settings
from vaelab.training import FitSettings, Hook

X = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)) @ torch.randn(
    4, 4, generator=torch.Generator().manual_seed(1)
)


def test_the_gain_is_the_elbo_above_the_gaussian():
    vae = small_vae(4, 2)
    train, unseen = X[:200], X[200:]
    found = gain_over_gaussian(vae, ArrayBatches(train), ArrayBatches(unseen), seed=0)
    covariance = torch.from_numpy(ledoit_wolf(train.double().numpy())[0])
    gaussian = MultivariateNormal(train.double().mean(0), covariance).log_prob(unseen.double())
    noise = torch.randn(2000, 1, 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        distortion, kl = vae.elbo(unseen, noise=noise)
    assert found.value == pytest.approx(float((-(distortion + kl) - gaussian).mean()), abs=0.1)
    assert found.error > 0


def test_what_cannot_be_compared_is_left():
    vae, rows = small_vae(4, 2), ArrayBatches(X)
    assert gain_over_gaussian(vae, rows, None, seed=0) is None
    assert gain_over_gaussian(vae, rows, ArrayBatches(X[:9]), seed=0) is None
    assert gain_over_gaussian(vae.replace(likelihood=Bernoulli()), rows, rows, seed=0) is None
    assert gain_over_gaussian(vae, ArrayBatches(X, torch.ones(300, 1)), rows, seed=0) is None


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Gain(0.1, 0.1, True), "found nothing"),
        (Gain(-0.3, 0.1, True), "found nothing"),
        (Gain(-0.3, 0.1, False), "explains the data better"),
        (Gain(-0.1, 0.1, False), ""),
        (Gain(0.3, 0.1, True), ""),
        (Gain(0.1, 0.1, True, beside="columns"), "found nothing: the code is unused"),
        (Gain(-0.1, 0.1, False, beside="columns"), "found nothing: unseen rows"),
        (Gain(-0.3, 0.1, False, beside="columns"), "independent explain the data better"),
        (Gain(0.3, 0.1, False, beside="columns"), ""),
    ],
)
def test_what_is_said(gain, said):
    assert (said in gain.doubt) if said else gain.doubt == ""


def test_noise_is_said_to_be_no_manifold_in_fit_and_in_findings(tmp_path):
    noise = np.random.default_rng(0).normal(size=(300, 4))
    with pytest.warns(VaelabWarning, match="Training found nothing"):
        model = GaussianVAE(2, network="mlp([8])", epochs=10, random_state=0).fit(noise)
    trained = model.trained_
    found = assess(trained, model.as_dataset(noise).train)
    assert any("Training found nothing" in line for line in findings(trained, found))
    model.save(tmp_path / "run")
    assert "gaussian_gain" in (tmp_path / "run" / "config.yaml").read_text()


def test_the_gain_over_columns_is_the_bound_above_their_shares_and_normals():
    levels, nan = (0, 3, 0), math.nan
    rng = torch.Generator().manual_seed(0)
    x = torch.stack([2 + torch.randn(300, generator=rng), torch.randint(3, (300,), generator=rng), torch.ones(300)], 1)
    x[torch.rand(300, generator=rng) < 0.3, 0] = nan
    reader = TableReader(MLPEncoder((table_width(levels),), 4, hidden=(8,)), levels)
    law = Mixed(levels, FixedVariance(0.5), gaps=(1, 0, 0))
    vae = VAE(reader, MLPDecoder(2, law.parameter_shape((3,)), hidden=(8,)), latent_dim=2, likelihood=law)
    train, unseen = x[:200], x[200:]
    found = gain_over_columns(vae, ArrayBatches(train), ArrayBatches(unseen), seed=0)
    first = train[:, 0][~train[:, 0].isnan()].double()
    number = torch.distributions.Normal(first.mean(), first.std(correction=0))
    shares = ((train[:, 1].long().bincount() + 1) / 203).double()
    gap = float((train[:, 0].isnan().sum() + 1) / 202)
    simple = shares[unseen[:, 1].long()].log() - 0.5 * math.log(2 * math.pi * 0.5)  # the constant has γ too
    missing = unseen[:, 0].isnan()
    simple += torch.where(
        missing, math.log(gap), math.log(1 - gap) + number.log_prob(unseen[:, 0].nan_to_num().double())
    )
    noise = torch.randn(2000, 1, 2, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        objective = vae(unseen.repeat(2000, 1), noise=noise.expand(2000, 100, 2).reshape(-1, 2))
    bound = -objective.per_sample.view(2000, 100).mean(0).double()
    assert found.value == pytest.approx(float((bound - simple).mean()), abs=0.1)
    assert found.beside == "columns"
    assert len(found.rows) == 100
    assert gain_over_columns(vae, ArrayBatches(train), ArrayBatches(unseen[:9]), seed=0) is None
    assert gain_over_simple(vae, ArrayBatches(train), ArrayBatches(unseen), seed=0) == found
    assert mixture_beside(vae, ArrayBatches(train[:, 1:]), ArrayBatches(unseen[:, 1:]), seed=0) is None


def test_a_mixed_table_without_structure_is_said_to_have_taught_nothing():
    rng = np.random.default_rng(0)
    u = rng.normal(size=400)
    for share, said in ((0.0, True), (1.0, False)):
        frame = pd.DataFrame({"x": share * u + 0.4 * rng.normal(size=400), "kind": rng.choice(list("abc"), 400)})
        frame["sign"] = np.where(share * u + 0.4 * rng.normal(size=400) > 0, "up", "down")
        frame["y"] = np.exp(share * u + 0.4 * rng.normal(size=400))
        frame["x"] = frame["x"].mask(rng.random(400) < 0.2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = GaussianVAE(2, network="mlp([16])", likelihood="mixed", lr=3e-3, epochs=60, random_state=0).fit(
                frame
            )
        assert any("found nothing" in str(one.message) for one in caught) == said
        lines = findings(model.trained_, assess(model.trained_, model.as_dataset(frame).train))
        assert any("found nothing" in line for line in lines) == said
        assert any("nats more than to columns that are independent" in line for line in lines) != said


@pytest.mark.parametrize("seed", [0, 1])
def test_a_saddle_is_left_by_a_second_training_from_below(seed):
    """A circle in whitened columns: one training stays at γ = 1, and alone would say nothing."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, 600)
    circle = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], 1)
    common = {"network": "mlp([64, 64])", "epochs": 150, "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        stuck = GaussianVAE(4, likelihood="gaussian(profiled(start=1))", **common).fit(circle)
        found = GaussianVAE(4, **common).fit(circle)
    assert found.score(circle) >= stuck.score(circle) - 0.05
    assert found.score(circle) > -4 * 0.5 * np.log(2 * np.pi * np.e * 0.5) + 1  # a Gaussian's, and a nat


def test_the_bound_with_many_draws_is_tighter():
    model = GaussianVAE(2, network="mlp([16], start=random)", epochs=20, random_state=0).fit(X.numpy())
    rows = X[:50].numpy()
    one, many = (model.log_likelihood(rows, k=k).mean() for k in (1, 200))
    assert one == pytest.approx(model.score(rows), abs=0.5)
    assert many > one
    assert model.log_likelihood(rows, k=5).tolist() == model.log_likelihood(rows, k=5).tolist()
    with pytest.raises(ValueError, match="k=0"):
        model.log_likelihood(rows, k=0)


@pytest.mark.parametrize("network", ["mlp([16])", "mlp([16], start=random)", "mlp([16], start=linear)"])
def test_a_variance_per_column_is_tried_from_both_starts(network):
    model = GaussianVAE(2, network=network, likelihood="gaussian(shape=diag-i)", epochs=3, random_state=0)
    stages = []

    class Told(Hook):
        def start(self, start):
            stages.append(start.stage)

    train(from_arrays(X.numpy()), model.settings(0), hooks=[Told()])
    assert ("stage one from a linear model" in stages) == (network == "mlp([16])")


@pytest.mark.parametrize(
    ("gains", "taken"),
    [
        # one variance; a variance per column of it, trained from there, linear as it is, trained from there
        ((0.3, 0.4, 0.5, 0.2, 1.5), 1.5),
        ((0.3, 0.4, 0.5, 0.2, 0.3), 0.5),
        ((0.3, 0.4, 0.5, 0.6, 0.4), 0.6),
        ((0.3, 0.4, 0.5, 0.6, 0.7), 0.6),  # within the standard error of the simpler
        ((0.3, 0.6, 0.5, 0.2, 0.3), 0.6),
        ((0.65, 0.4, 0.5, 0.6, 0.3), 0.65),
        ((0.65, 0.4, 0.5, 0.6, 0.7), 0.65),  # what is simpler is what another would be worth, not what was taken last
    ],
)
def test_unseen_rows_choose_between_starts(gains, taken, monkeypatch):
    noise = torch.tensor([-1.0, 1.0]).repeat(50)  # of deviation 1: an error of 0.1 where one has noise and one has not
    rows = [noise * 2 * (index == 4) + gain for index, gain in enumerate(gains)]
    found = iter([Gain(gain, 0.1, False, tuple(each.tolist())) for gain, each in zip(gains, rows, strict=True)])
    monkeypatch.setattr("vaelab.runs.first_stage.gain_over_simple", lambda *a, **k: next(found))
    monkeypatch.setattr("vaelab.runs.first_stage.FirstStage._by_halves", lambda self, vae, gain, *_: gain)
    model = GaussianVAE(2, network="mlp([16])", likelihood="gaussian(shape=diag-i)", epochs=1, random_state=0)
    facts = train(from_arrays(X.numpy()), model.settings(0)).facts
    assert facts.gaussian_gain.value == taken
    assert facts.gaussian_gain.rows == ()


@pytest.mark.parametrize("count", [10, 30, 1000])
def test_of_few_rows_twice_the_error_is_as_rare_as_of_many(count):
    rows = torch.linspace(-1, 1, count, dtype=torch.float64)
    value, error = baseline._mean(rows)
    assert value == pytest.approx(0, abs=1e-12)
    plain = float(rows.std()) / math.sqrt(count)
    assert error / plain == pytest.approx(float(student.ppf(0.97725, count - 1)) / 2, rel=1e-4)


def test_one_row_that_a_model_rules_out_stands_for_more_that_were_not_seen():
    even = torch.cat([torch.linspace(-2, 8, 39), torch.tensor([3.0])])
    odd = torch.cat([torch.linspace(0, 7, 39), torch.tensor([-18.0])])
    nothing = Gain(0.0, 0.0, False, (0.0,) * 40)
    above = {}
    for name, each in (("even", even), ("odd", odd), ("lucky", 5 - odd)):
        gain = Gain(float(each.mean()), 0.1, False, tuple(each.tolist()))
        above[name] = [gain.clearly_above(nothing, errors=errors) for errors in (1, 2)]
    assert above == {"even": [True, True], "odd": [True, False], "lucky": [True, True]}
    assert baseline._righted(torch.full((10,), 0.5)) == 0.5
    assert baseline._righted(odd + 100) > 50  # monotone: what is far above stays so


@pytest.mark.parametrize("kind", ["linear", "lossless"])
def test_what_unseen_rows_have_chosen_needs_twice_the_evidence(kind):
    """A mean of 0.3 over errors of 0.2, beside a model that they have chosen nothing of."""
    noise = 2 * torch.tensor([-1.0, 1.0]).repeat(50)
    rows, level = tuple((noise + 0.3).tolist()), (0.0,) * 100
    trained, plain = (Kept(None, None, Gain(0.0, 0.1, False, each), "one") for each in (rows, level))
    assert trained.clearly_above(plain)
    assert not trained.clearly_above(plain._replace(**{kind: True}))
    assert trained._replace(**{kind: True}).clearly_above(plain)


def test_a_variance_per_column_is_judged_on_rows_that_did_not_set_it(monkeypatch):
    """Of 40 unseen rows a γ for each of 30 columns of noise learns nothing that others confirm."""
    x = torch.randn(400, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = []
    judged = FirstStage._by_halves

    def halves(self, vae, gain, *rest):
        found = judged(self, vae, gain, *rest)
        seen.append((gain.value, found.value, found.error))
        return found

    monkeypatch.setattr(FirstStage, "_by_halves", halves)
    settings = Settings(2, MLP((8,)), likelihood="gaussian(shape=diag-i)", training=FitSettings(1), densities=())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        train(from_arrays(x.numpy()), settings)
    assert seen
    assert all(own < whole for whole, own, _ in seen)


def test_few_unseen_rows_are_named():
    few, many = Gain(-3.0, 0.1, False, compared=12), Gain(3.0, 0.1, False, law="mixture", compared=80)
    assert "12 unseen rows are worth" in few.doubt
    assert many.found.startswith("With a mixture of its codes, unseen rows are worth")
    assert "explains 12 unseen rows better" in Rival(2, 1.0, 0.1, 12).better


def test_fifty_rows_are_enough_to_compare():
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    settings = Settings(latent_dim=2, network=MLP((8,)), densities=(), training=FitSettings(2, 20))
    with pytest.warns(VaelabWarning, match="10 unseen rows are worth"):
        facts = train(from_arrays(x), settings).facts
    assert facts.gaussian_gain.compared == 10
    assert facts.rows == 40


def test_a_mixture_that_explains_unseen_rows_better_is_named():
    generator = np.random.default_rng(0)
    apart = np.concatenate([generator.normal(3, 0.2, size=(300, 3)), generator.normal(-1, 0.3, size=(300, 3))])
    model = GaussianVAE(2, network="mlp([16])", epochs=20, random_state=0).fit(apart)
    mixture = model.trained_.facts.mixture
    assert mixture.components == 2
    assert mixture.value > 2 * mixture.error
    said = findings(model.trained_, assess(model.trained_, model.as_dataset(apart).train))
    assert any("A Gaussian mixture of 2 components explains unseen rows better" in line for line in said)
    assert Rival(4, 0.1, 0.1).better == ""
    assert Rival(1, 1.0, 0.1).better.startswith("A single Gaussian explains")


def test_the_gain_of_a_mixture_against_scikit_learn():
    """Beside a VAE whose decoder reads nothing, which is N(0, γ I)."""
    generator = np.random.default_rng(0)
    rows, unseen = (torch.from_numpy(generator.normal(size=(n, 3)) * [1, 2, 3]) for n in (400, 200))
    vae = VAE(MLPEncoder((3,), 4), MLPDecoder(2, (3,)), latent_dim=2, likelihood=Gaussian(FixedVariance(1.0))).double()
    for weights in [*vae.encoder.parameters(), *vae.decoder.parameters()]:
        weights.data.zero_()
    both = (ArrayBatches(each, dtype=torch.float64) for each in (rows, unseen))
    found = mixture_beside(vae, *both, seed=0)
    assert found.components == 1
    expected = GaussianMixture(1, reg_covar=1e-3).fit(rows.numpy()).score(unseen.numpy())
    expected += float(unseen.square().sum(1).mean()) / 2 + 1.5 * np.log(2 * np.pi)
    assert found.value == pytest.approx(expected, abs=1e-4)


def test_active_dimensions_of_noisy_data_are_those_that_carry_something():
    """Four columns of a common factor with as much noise: none is below 0.05, and one carries 0.8 nats."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1500, 1)) + generator.normal(size=(1500, 4))
    model = GaussianVAE(3, network="mlp([16])", epochs=40, random_state=0).fit(x)
    assert min(model.variance_ratios_) > 0.05
    assert model.trained_.active_below == pytest.approx(np.exp(-0.2))
    assert model.active_dimensions_ == model.trained_.active_dimensions == 1
    said = findings(model.trained_, assess(model.trained_, model.as_dataset(x).train))[0]
    assert said.startswith("1 of 3 latent dimensions carry a tenth of a nat or more. The noise is too large")


def test_a_collapse_is_said_where_there_are_too_few_rows_to_compare():
    x = np.random.default_rng(0).normal(size=(45, 4)).astype(np.float32)
    settings = Settings(latent_dim=2, network=MLP((8,)), densities=(), training=FitSettings(2, 20))
    with pytest.warns(VaelabWarning, match="Training found nothing: the code is unused. Too few rows"):
        trained = train(from_arrays(x), settings)
    assert trained.facts.gaussian_gain is None
    assert trained.unused in findings(trained, assess(trained, from_arrays(x).train))
    along = x[:, :1] @ np.array([[1.0, 2.0, -1.0, 1.0]]) + 0.05 * x
    used = train(from_arrays(along.astype(np.float32)), settings.set_params(training=FitSettings(200, 20, 5e-3)))
    assert used.facts.gaussian_gain is None
    assert not used.unused


def test_a_linear_model_with_a_variance_per_column_is_left_for_what_is_clearly_better_alone(monkeypatch):
    settings = Settings(network="mlp", likelihood="gaussian(shape=diag-i)")
    one, own = SimpleNamespace(), SimpleNamespace()
    tried = iter([Kept(settings, one, None, "one"), Kept(settings, own, None, "own", linear=True)])
    monkeypatch.setattr(FirstStage, "_tried", lambda *_, **__: next(tried))
    monkeypatch.setattr(FirstStage, "_or_lossless", lambda self, settings, kept: kept)
    monkeypatch.setattr(Kept, "clearly_above", lambda self, simpler: False)
    stage = FirstStage(None, None, (3,), 1.0, (), (), (), (), (), None, False)
    assert stage.trained(settings).vae is own
