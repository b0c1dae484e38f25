"""`recalibrate` and `retrain`: γ against closed forms, weights that stay, and every kind of model."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from helpers import small_vae
from vaelab import (
    ConditionalVAE,
    GaussianVAE,
    RegularizedAutoencoder,
    TwoStageVAE,
    load,
    recalibrate,
    retrain,
    runs,
    specs,
)
from vaelab.data import from_arrays
from vaelab.errors import InputError
from vaelab.model import VAE, Bernoulli, DecodedVariance, Deterministic, FixedVariance, Gaussian, ProfiledVariance
from vaelab.specs import MLP, FitSettings, Settings

BASIS = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0][:, :2]
SPREAD = 0.3  # of the posterior
QUICK = {"latent_dim": 2, "network": MLP((8,)), "epochs": 2, "random_state": 0}


class LinearEncoder(nn.Module):
    def __init__(self, *, deterministic=False):
        super().__init__()
        self.weight, self.deterministic = nn.Parameter(BASIS.clone()), deterministic

    def forward(self, x, c=None):
        z = x @ self.weight
        return z if self.deterministic else torch.cat([z, torch.full_like(z, float(np.log(SPREAD)))], 1)


class LinearDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(BASIS.clone())

    def forward(self, z, c=None):
        return z @ self.weight.T


def linear(gamma=1.0, *, deterministic=False):
    own = {"posterior": Deterministic(), "regularizers": []} if deterministic else {}
    likelihood = Gaussian(FixedVariance(torch.tensor(gamma, dtype=torch.float64)))
    encoder = LinearEncoder(deterministic=deterministic)
    return VAE(encoder, LinearDecoder(), latent_dim=2, likelihood=likelihood, **own).double()


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward, self.outward = nn.Linear(5, 2), nn.Linear(2, 5)

    def encode(self, x):
        return self.inward(x)

    def decode(self, z):
        return self.outward(z)


@torch.no_grad()
def error_of(model, x):
    return float((model.decode(model.encode(x)) - x).square().mean())


def noisy(n=3000, noise=0.2, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=g, dtype=torch.float64)
    return z @ BASIS.T + noise * torch.randn(n, 5, generator=g, dtype=torch.float64)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_gamma_of_a_linear_autoencoder_is_its_mean_squared_error():
    vae, x = linear(deterministic=True), noisy()
    before = copy.deepcopy(vae.state_dict())
    found = recalibrate(vae, x, shape="iso-i")
    residual = x - x @ BASIS @ BASIS.T
    assert found.after == pytest.approx(float(residual.square().mean()), rel=1e-6)
    assert found.before == 1.0
    ratio = found.after
    assert found.nats.value == pytest.approx(2.5 * (ratio - 1 - np.log(ratio)), rel=1e-6)
    assert vae.training
    assert all(torch.equal(before[name], value) for name, value in vae.state_dict().items())
    assert same_weights(vae, found.vae)
    each = recalibrate(vae, x, shape="diag-i").vae.likelihood.variance
    assert torch.allclose(each.gamma, residual.square().mean(0) + each.floor, rtol=1e-9)
    assert "before 1" in str(found)


def test_gamma_of_a_linear_vae_counts_the_posterior_s_spread():
    vae, x = linear(), noisy(20_000)
    found = recalibrate(vae, x, shape="iso-i")
    exact = float((x - x @ BASIS @ BASIS.T).square().mean()) + SPREAD**2 * 2 / 5
    assert found.after == pytest.approx(exact, rel=0.02)
    # no other γ gives these rows more nats
    scores = [recalibrate_score(vae, x, gamma) for gamma in (0.9 * found.after, found.after, 1.1 * found.after)]
    assert max(scores) == scores[1]


def recalibrate_score(vae, x, gamma):
    """Mean log p(x | z) at fixed draws."""
    likelihood = Gaussian(FixedVariance(gamma))
    noise = torch.randn(len(x), 2, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return -float(likelihood.nll(vae.decode(x @ BASIS + SPREAD * noise), x).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auto_takes_a_variance_per_dimension_only_where_that_gains(seed):
    vae = linear(deterministic=True)
    vae.decoder = Zero()
    residuals = torch.randn(600, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert recalibrate(vae, residuals).shape == "iso-i"
    assert recalibrate(vae, residuals * torch.tensor([1.0, 1.1, 1.2, 1.3, 1.5])).shape == "diag-i"


class Zero(nn.Module):
    """A decoder that says nothing, so that residuals are the data."""

    def forward(self, z, c=None):
        return torch.zeros(len(z), 5, dtype=z.dtype)


@pytest.mark.parametrize("shape", ["iso-i", "diag-i"])
def test_an_estimator_is_recalibrated_and_saved(shape, tmp_path):
    X = noisy(400).numpy() * 10
    model = TwoStageVAE(likelihood="gaussian(variance=fixed(2.0))", densities=("gaussian",), **QUICK).fit(X)
    codes, weights = model.transform(X), copy.deepcopy(model.trained_.vae.state_dict())
    mended = recalibrate(model, X, shape=shape)
    assert isinstance(mended, TwoStageVAE)
    assert model.gamma_ == 2.0
    assert all(torch.equal(weights[name], value) for name, value in model.trained_.vae.state_dict().items())
    assert np.array_equal(mended.transform(X), codes)
    assert mended.recalibrated_.before == 2.0
    assert mended.recalibrated_.nats.value > 0
    assert mended.score(X) > model.score(X)
    assert (mended.likelihood.variance.kind, mended.likelihood.shape) == ("profiled", shape)
    mended.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert np.array_equal(again.gamma_, mended.gamma_)
    assert np.array_equal(again.score_samples(X), mended.score_samples(X))
    assert np.array_equal(again.sample(4, random_state=1), mended.sample(4, random_state=1))
    assert again.trained_.vae.likelihood.variance.floor == mended.trained_.vae.likelihood.variance.floor
    # a γ that is right already stays, but for the draws of z
    assert np.allclose(recalibrate(mended, X, shape=shape).gamma_, mended.gamma_, rtol=0.1)


def test_runs_trainings_and_conditional_models(tmp_path, monkeypatch):
    X, y = noisy(300).numpy(), np.array(["a", "b", "c"] * 100)
    data = from_arrays(X)
    settings = Settings(
        latent_dim=2,
        network=MLP((8,)),
        likelihood="gaussian(variance=learned)",
        training=FitSettings(epochs=2),
        densities=(),
    )
    trained = runs.train(data, settings)
    assert recalibrate(trained, X).settings.likelihood.variance.kind == "profiled"
    runs.save(trained, tmp_path / "run", {"data": {"data": "points"}})
    monkeypatch.setattr(runs, "data_of_run", lambda folder: data)
    found = recalibrate(tmp_path / "run")
    assert isinstance(found, GaussianVAE)
    assert found.recalibrated_.rows == trained.facts.rows
    model = ConditionalVAE(**QUICK).fit(X, y)
    assert recalibrate(model, X, y, shape="iso-i").gamma_ == pytest.approx(model.gamma_, rel=0.35)  # of 30 unseen rows
    assert recalibrate(RegularizedAutoencoder(**QUICK).fit(X), X, shape="iso-i").gamma_ < 2


def test_a_foreign_autoencoder_gets_a_variance():
    model, x = Foreign(), noisy(300).float()
    weights = copy.deepcopy(model.state_dict())
    found = recalibrate(model, x.numpy(), shape="iso-i")
    assert found.before is None
    assert found.nats is None
    assert found.after == pytest.approx(error_of(model, x), rel=1e-5)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_what_has_no_variance_is_refused():
    x = noisy(50).float().sigmoid()
    bernoulli = VAE(LinearEncoder().float(), LinearDecoder().float(), latent_dim=2, likelihood=Bernoulli())
    with pytest.raises(InputError, match="Bernoulli"):
        recalibrate(bernoulli, x)
    emitted = small_vae(5, 2)
    emitted.likelihood = Gaussian(DecodedVariance())
    with pytest.raises(InputError, match="emits its variance"):
        recalibrate(emitted, x)
    with pytest.raises(InputError, match="shape='iso'"):
        recalibrate(small_vae(5, 2), x, shape="iso")


def test_an_estimator_is_trained_again():
    X = noisy(200).numpy()
    model = GaussianVAE(likelihood="gaussian(variance=fixed(3.0))", **QUICK).fit(X)
    found = retrain(model, X, {"likelihood": "gaussian", "latent_dim": 3})
    assert (found.likelihood, found.latent_dim, found.epochs) == ("gaussian", 3, 2)
    assert found.transform(X).shape == (200, 3)
    assert (model.gamma_, model.latent_dim) == (3.0, 2)
    same = retrain(model, X)
    assert np.array_equal(same.transform(X), model.transform(X))
    with pytest.raises(InputError, match=r"latent_dims.*Did you mean latent_dim\?"):
        retrain(model, X, {"latent_dims": 3})
    with pytest.raises(InputError, match="as in fit"):
        retrain(model)


def test_a_run_is_trained_again(tmp_path, monkeypatch):
    data = from_arrays(noisy(200).numpy())
    settings = Settings(
        latent_dim=2,
        network=MLP((8,)),
        likelihood="gaussian(variance=learned(lr_scale=5.0))",
        training=FitSettings(epochs=2),
        densities=(),
    )
    trained = runs.train(data, settings)
    runs.save(trained, tmp_path / "run", {"data": {"data": "points"}})
    monkeypatch.setattr(runs, "data_of_run", lambda folder: data)
    found = retrain(tmp_path / "run", changes={"likelihood": "gaussian", "densities": ("gaussian",)})
    assert isinstance(found, TwoStageVAE)
    assert found.trained_.settings.network.hidden == (8,)
    assert found.trained_.settings.likelihood.variance.kind == "profiled"
    own = retrain(trained, data)
    assert torch.equal(own.encode(data.train.x), trained.encode(data.train.x))
    with pytest.raises(InputError, match="Did you mean seed"):
        retrain(trained, data, {"sead": 1})
    with pytest.raises(InputError, match="'initial'"):
        retrain(trained, data, {"likelihood": "gaussian(profiled(initial=1))"})


def test_a_foreign_module_is_trained_on():
    torch.manual_seed(0)
    model, X = Foreign(), noisy(400).float()
    weights = copy.deepcopy(model.state_dict())
    before = error_of(model, X)
    found = retrain(model, X, {"epochs": 60, "lr": 1e-2})
    assert isinstance(found.likelihood.variance, ProfiledVariance)
    after = float((found.reconstruct(X).detach() - X).square().mean())
    assert after < 0.5 * before
    assert float(found.likelihood.variance.gamma) == pytest.approx(after, rel=0.1)
    assert not found.training
    assert model.training
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match=r"weight_decay.*GaussianVAE\(latent_dim=3\)"):  # the known ones are listed
        retrain(model, X, {"latent_dim": 3})
    with pytest.raises(InputError, match="iso-i"):
        retrain(model, X, {"likelihood": "gaussian(shape=iso)"})
    with pytest.raises(InputError, match="lr"):
        retrain(model, X, {"lr": -1})


def test_a_bare_vae_is_trained_on():
    vae, x = small_vae(5, 2, variance=FixedVariance(1.0)), noisy(200).float()
    weights = copy.deepcopy(vae.state_dict())
    found = retrain(vae, x, {"epochs": 2, "likelihood": "gaussian"})
    assert isinstance(found.likelihood.variance, ProfiledVariance)
    kept = retrain(vae, x, {"epochs": 2})
    assert float(kept.likelihood.variance.gamma) == 1.0
    assert not same_weights(vae, kept)
    assert all(torch.equal(weights[name], value) for name, value in vae.state_dict().items())


def test_functions_without_weights_are_not_trained():
    from vaelab import wrap

    wrapped = wrap(encode=lambda x: x[:, :2], decode=lambda z: torch.cat([z, z, z[:, :1]], 1))
    with pytest.raises(InputError, match="without weights"):
        retrain(wrapped, noisy(50).float())


def test_changes_and_conditions_that_have_changed_places_are_refused():
    X, y = noisy(60).numpy(), np.array(["a", "b"] * 30)
    model = ConditionalVAE(**QUICK).fit(X, y)
    assert retrain(model, X, {"epochs": 1}, y).epochs == 1
    for own in (model, model.trained_, small_vae(5, 2)):
        with pytest.raises(InputError, match=r"changes of type ndarray.*model, X, changes, y"):
            retrain(own, X, y)
        with pytest.raises(InputError, match=r"y of type dict.*model, X, changes, y"):
            retrain(own, X, y={"epochs": 1})


@pytest.mark.parametrize("shape", ["diag-i", "iso-d", "diag-d"])
def test_a_shape_can_be_changed_alone_or_with_its_variance(shape):
    X = noisy(100).numpy()
    model = GaussianVAE(likelihood="gaussian(fixed(3.0))", **QUICK).fit(X)
    found = retrain(model, X, {"likelihood": f"gaussian(shape={shape})"})
    assert found.trained_.settings.likelihood == specs.Gaussian(shape=shape)
    learned = GaussianVAE(likelihood="gaussian(learned(initial=3))", **QUICK).fit(X)
    again = retrain(learned, X, {"likelihood__shape": shape})
    assert again.likelihood == specs.Gaussian(variance=specs.Learned(initial=3), shape=shape)
    assert learned.likelihood == "gaussian(learned(initial=3))"
    with pytest.raises(InputError, match="is one number"):
        retrain(model, X, {"likelihood__shape": shape})
    trained = retrain(model.trained_, X, {"likelihood": specs.Gaussian(shape=shape)})
    assert trained.settings.likelihood.shape == shape


def test_a_variance_takes_the_place_of_another_likelihood():
    images = noisy(60).sigmoid().numpy()[:, :4].reshape(60, 1, 2, 2)
    model = GaussianVAE(**QUICK, likelihood="bernoulli").fit(images)
    found = retrain(model, images, {"likelihood": "gaussian"})
    assert found.likelihood == "gaussian"
    assert found.gamma_ > 0
    assert retrain(model, images, {"epochs": 1}).likelihood == "bernoulli"
    bare = GaussianVAE(**QUICK, held_out=0.0).fit(noisy(60).numpy())
    kept = retrain(bare, noisy(60).numpy(), {"training__weight_decay": 1e-4, "epochs": 1})
    assert (kept.held_out, kept.trained_.settings.training.weight_decay) == (0.0, 1e-4)


@pytest.mark.parametrize("shape", ["iso-i", "diag-i", "iso-d", "diag-d"])
def test_modules_are_trained_on_under_a_variance_of_any_shape(shape):
    X = noisy(100).float()
    for model in (Foreign(), small_vae(5, 2, variance=FixedVariance(1.0))):
        found = retrain(model, X, {"likelihood": specs.Gaussian(shape=shape), "epochs": 1})
        variance = found.likelihood.variance
        assert isinstance(variance, ProfiledVariance)
        assert (variance.diagonal, variance.per_sample) == (shape.startswith("diag"), shape.endswith("d"))
        assert variance.floor > (1e-3 if shape == "diag-d" else 0)
        assert torch.isfinite(torch.cat([p.flatten() for p in found.parameters()])).all()
    bernoulli = VAE(LinearEncoder().float(), LinearDecoder().float(), latent_dim=2, likelihood=Bernoulli())
    with pytest.raises(InputError, match="Bernoulli"):
        retrain(bernoulli, X.sigmoid(), {"likelihood": f"gaussian(shape={shape})"})
