"""Autoencoders of other programs as VAEs: the same numbers as their own, exact derivatives, refusals with a remedy."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF, PCA
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

import vaelab
from helpers import Rows, curved_manifold, small_vae
from vaelab.diagnostics.adapters import adapt, wrap
from vaelab.diagnostics.dimension import dimensions_of
from vaelab.diagnostics.smoothness import local_smoothness, smoothness
from vaelab.errors import InputError
from vaelab.latent import Codes
from vaelab.model import VAE, Bernoulli, Deterministic, FullCovariance, Gaussian

D, KAPPA = 12, 3


def runs(vae: VAE, x: torch.Tensor):
    """Everything that a measure does with a model; returns its smoothness."""
    codes = Codes.of(vae, Rows(x))
    assert codes.loc.shape == (len(x), vae.latent_dim)
    assert codes.loc.isfinite().all()
    assert vae.decode(codes.loc.to(x)).shape == x.shape
    assert not vae.training
    assert next(vae.parameters()).dtype == x.dtype
    found = smoothness(vae, Rows(x), rows=20, points=30)
    assert found.local.value > 0
    assert math.isfinite(found.local.value)
    if not vae.posterior.degenerate:
        assert dimensions_of(vae, Rows(x)).all.latent_dim == vae.latent_dim
        assert vae(x).total.isfinite()
    return found


class Coder(nn.Module):
    """An autoencoder with as many habits as there are in the wild."""

    def __init__(self, gives="pair", dropout=0.0, norm=False):
        super().__init__()
        torch.manual_seed(0)
        self.head, self.gives = nn.Linear(D, 2 * KAPPA), gives
        self.body = nn.Sequential(nn.Linear(KAPPA, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, D))
        self.norm = nn.BatchNorm1d(D) if norm else nn.Identity()

    def encode(self, x):
        mean, log_variance = self.head(self.norm(x.flatten(1))).chunk(2, 1)
        std = (0.5 * log_variance).exp()
        return {
            "pair": lambda: (mean, log_variance),
            "code": lambda: mean,
            "single": lambda: (mean,),
            "spatial": lambda: (mean[:, :, None, None], log_variance[:, :, None, None]),
            "normal": lambda: Normal(mean, std),
            "independent": lambda: Independent(Normal(mean, std), 1),
            "point": lambda: Normal(mean, 0 * std, validate_args=False),
            "full": lambda: MultivariateNormal(mean, scale_tril=torch.diag_embed(std) + 0.1 * ONES.tril(-1)),
            "mapping": lambda: {"mu": mean, "logvar": log_variance},
            "triple": lambda: (mean, mean, log_variance),
            "laplace": lambda: torch.distributions.Laplace(mean, std),
            "nested": lambda: type("Output", (), {"latent_dist": Normal(mean, std)}),
        }[self.gives]()

    def decode(self, z):
        return self.body(z.flatten(1))


ONES = torch.ones(KAPPA, KAPPA)


def table(n=60, dtype=torch.float32):
    return curved_manifold(n, d=D, noise=0.1).to(dtype)


def exact_smoothness(decode, codes):
    jacobians = [torch.autograd.functional.jacobian(lambda z: decode(z[None])[0], z) for z in codes]
    return float(torch.stack(jacobians).double().square().flatten(1).sum(1).mean())


# ---- modules


@pytest.mark.parametrize("gives", ["pair", "spatial", "normal", "independent", "mapping", "nested"])
def test_all_ways_to_say_a_diagonal_posterior_are_one(gives):
    model, x = Coder(gives), table()
    adapted = adapt(model, x)
    assert adapted.family == "an nn.Module (Coder)"
    assert not adapted.gamma_known
    assert float(adapted.vae.likelihood.variance.gamma) == 1
    mean, log_variance = model.head(x).chunk(2, 1)
    q = adapted.vae.encode(x)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, log_variance.exp())
    torch.testing.assert_close(adapted.vae.reconstruct(x), model.decode(mean))
    assert [r.weight for r in adapted.vae.regularizers] == [1.0]
    runs(adapted.vae, x)


def test_a_full_covariance_stays_full():
    model, x = Coder("full"), table()
    vae = adapt(model, x).vae
    assert isinstance(vae.posterior, FullCovariance)
    torch.testing.assert_close(vae.encode(x).covariance_matrix, model.encode(x).covariance_matrix)
    runs(vae, x)


@pytest.mark.parametrize("gives", ["code", "single", "point"])
def test_codes_without_spread_make_an_autoencoder(gives):
    model, x = Coder(gives), table()
    vae = adapt(model, x).vae
    assert isinstance(vae.posterior, Deterministic)
    assert len(vae.regularizers) == 0
    torch.testing.assert_close(vae.encode(x).mean, model.head(x)[:, :KAPPA])
    assert runs(vae, x).information is None


def test_weights_are_shared_and_a_deep_copy_has_its_own():
    model, x = Coder(), table()
    vae = adapt(model, x).vae
    assert {id(p) for p in model.parameters()} <= {id(p) for p in vae.parameters()}
    apart, before = copy.deepcopy(vae), vae.reconstruct(x)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    assert not torch.equal(vae.reconstruct(x), before)
    assert torch.equal(apart.reconstruct(x), before)
    apart(x).total.backward()
    assert all(p.grad is not None for p in apart.parameters() if p.requires_grad)


def test_encoder_and_decoder_as_modules_are_enough():
    model, x = nn.Module(), table()
    model.encoder, model.decoder = nn.Linear(D, 2), nn.Linear(2, D)
    vae = adapt(model, x).vae
    torch.testing.assert_close(vae.reconstruct(x), model.decoder(model.encoder(x)))
    found = local_smoothness(vae, Rows(x), method="exact").value
    assert found == pytest.approx(float(model.decoder.weight.detach().square().sum()), rel=1e-5)


def test_another_type_of_weights_does_not_show():
    model = Coder().double()
    x = table()
    vae = adapt(model, x).vae
    q = vae.encode(x)
    assert q.mean.dtype == x.dtype
    torch.testing.assert_close(vae.decode(q.mean), model.decode(q.mean.double()).float())
    runs(vae, x)


def test_evaluation_mode_is_entered():
    model, x = Coder(dropout=0.5, norm=True).train(), table()
    vae = adapt(model, x).vae
    assert not model.training
    torch.testing.assert_close(vae.reconstruct(x), vae.reconstruct(x))


# ---- derivatives


def test_forward_mode_is_exact_where_there_is_one_and_differences_step_in_where_there_is_none():
    model, x = Coder("code").double(), table(dtype=torch.float64)
    vae = adapt(model, x).vae
    assert not vae.decoder.differences
    wanted = exact_smoothness(model.decode, model.encode(x))
    assert local_smoothness(vae, Rows(x), method="exact").value == pytest.approx(wanted, rel=1e-10)

    # forward mode sees no slope at all, or fails
    for decode in (lambda z: model.decode(z.detach()), lambda z: torch.from_numpy(model.decode(z).detach().numpy())):
        other = adapt(wrap(model.encode, decode), x).vae
        assert other.decoder.differences
        assert local_smoothness(other, Rows(x), method="exact").value == pytest.approx(wanted, rel=1e-8)


class Passed(torch.autograd.Function):
    """The identity, without forward mode."""

    @staticmethod
    def forward(z):
        return z.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_differences_leave_backward_mode_alone():
    model, x = Coder().double(), table(dtype=torch.float64)
    vae = adapt(wrap(model.encode, lambda z: model.decode(Passed.apply(z))), x).vae
    assert vae.decoder.differences
    wanted = exact_smoothness(model.decode, model.head(x)[:, :KAPPA])
    assert local_smoothness(vae, Rows(x), method="exact").value == pytest.approx(wanted, rel=1e-8)
    noise = torch.zeros(len(x), KAPPA)
    both = []
    for one in (vae, adapt(model, x).vae):
        model.zero_grad()
        one(x, noise=noise).total.backward()
        both.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*both)


def test_differences_under_a_link_and_in_single_precision():
    weight = torch.randn(KAPPA, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def encode(x):
        return x @ weight.numpy().T

    def decode(z):
        return 1 / (1 + np.exp(-np.tanh(z) @ weight.numpy()))

    for dtype, rel in ((torch.float64, 1e-8), (torch.float32, 1e-4)):
        x = table(dtype=dtype).sigmoid()
        adapted = adapt(wrap(encode, decode, likelihood="bernoulli", arrays=True), x)
        assert adapted.gamma_known
        codes = torch.from_numpy(encode(x.numpy().astype("float64")))
        wanted = exact_smoothness(lambda z: (z.tanh() @ weight).sigmoid(), codes)
        assert local_smoothness(adapted.vae, Rows(x), method="exact").value == pytest.approx(wanted, rel=rel)
        runs(adapted.vae, x)


def test_a_decoder_of_zero_slope_needs_no_differences():
    vae = adapt(wrap(lambda x: x[:, :2], lambda z: 0 * z.sum(1, keepdim=True) + torch.ones(D)), table()).vae
    assert not vae.decoder.differences


# ---- wrapped functions


@pytest.mark.parametrize(
    ("variance", "spread"),
    [("log_variance", math.log(0.25)), ("log_std", math.log(0.5)), ("std", 0.5), ("variance", 0.25)],
)
def test_the_spread_of_a_pair_is_what_it_is_said_to_be(variance, spread):
    wrapped = wrap(
        lambda x: (x[:, :2], torch.full((len(x), 2), spread)),
        lambda z: torch.cat([z, z], 1),
        gamma=0.3,
        variance=variance,
        name="mine",
    )
    x = torch.randn(20, 4)
    adapted = adapt(wrapped, x)
    assert adapted.family == "mine"
    assert adapted.gamma_known
    assert float(adapted.vae.likelihood.variance.gamma) == pytest.approx(0.3)
    torch.testing.assert_close(adapted.vae.encode(x).variance, torch.full((20, 2), 0.25))
    assert local_smoothness(adapted.vae, Rows(x), method="exact").value == pytest.approx(4)


def test_probabilities_become_logits_and_the_loss_is_cross_entropy():
    model, x = Coder(), table().sigmoid()
    wrapped = wrap(model.encode, lambda z: model.decode(z).sigmoid(), likelihood="bernoulli")
    vae = adapt(wrapped, x).vae
    assert isinstance(vae.likelihood, Bernoulli)
    z = vae.encode(x).mean
    probabilities = model.decode(z).sigmoid()
    torch.testing.assert_close(vae.decode(z), probabilities)
    wanted = nn.functional.binary_cross_entropy(probabilities, x, reduction="none").sum(1)
    torch.testing.assert_close(vae.likelihood.nll(vae.decoder(z), x), wanted)
    saturated = adapt(wrap(lambda x: x[:, :2], lambda z: (z > 0).float().repeat(1, 6), likelihood="bernoulli"), x).vae
    assert saturated.decoder(torch.tensor([[1.0, -1.0]])).isfinite().all()


def test_images_of_any_shape_come_back_in_it():
    weight = torch.randn(2, 2 * 3 * 4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(10, 2, 3, 4)
    wrapped = wrap(lambda x: (x.flatten(1) @ weight.T).view(-1, 2, 1, 1), lambda z: (z.flatten(1) @ weight, "extra"))
    vae = adapt(wrapped, x).vae
    assert vae.latent_dim == 2
    torch.testing.assert_close(vae.reconstruct(x), (x.flatten(1) @ weight.T @ weight).view(x.shape))
    assert runs(vae, x).local.value == pytest.approx(float(weight.square().sum()), rel=1e-5)


def test_what_the_caller_says_goes_before_what_the_model_says():
    x = table().sigmoid()
    assert float(adapt(Coder(), x, gamma=0.2).vae.likelihood.variance.gamma) == pytest.approx(0.2)
    assert adapt(Coder(), x, gamma=0.2).gamma_known
    wrapped = wrap(lambda x: x[:, :2], lambda z: z.repeat(1, 6), gamma=0.3)
    adapted = adapt(wrapped, x, likelihood="bernoulli")
    assert isinstance(adapted.vae.likelihood, Bernoulli)


def test_a_vae_passes_as_it_is():
    vae = small_vae(d=D).train()
    adapted = adapt(vae, table())
    assert adapted.vae is vae
    assert not vae.training
    assert adapted.gamma_known
    with pytest.raises(InputError, match="has its own"):
        adapt(vae, table(), gamma=1.0)


# ---- refusals


def plain(decode=lambda z: z.repeat(1, 6), encode=lambda x: x[:, :2], **options):
    return wrap(encode, decode, **options)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (object(), "model of type object.*wrap"),
        (nn.Linear(2, 2), "model of type Linear.*wrap"),
        (Coder("triple"), "returns 3 things"),
        (Coder("laplace"), "posterior of type Laplace"),
        (plain(encode=lambda x: x[:, :2] + torch.randn(len(x), 2)), "encode that gives something else.*eval"),
        (plain(lambda z: z.repeat(1, 6) + torch.rand(1)), "decode that gives something else.*eval"),
        (plain(encode=lambda x: x[:, :2] - x[:, :2].mean(0)), "encode whose first row depends.*eval"),
        (plain(lambda z: z.repeat(1, 6) - z.mean(0).sum()), "decode whose first row depends"),
        (plain(encode=lambda x: x[:, :2].sum(1)[:1]), "codes of shape"),
        (plain(encode=lambda x: (x[:, :2], x[:, :3])), "one shape"),
        (plain(encode=lambda x: x[:, :2] / 0), "encode with infinite"),
        (plain(lambda z: z.log().repeat(1, 6) * math.nan), "decode with infinite"),
        (plain(lambda z: z), "decoder that makes"),
        (plain(lambda z: None), "decoder that returns a NoneType"),
        (plain(encode=lambda x: x.astype("float64")), "encode fails.*arrays=True"),
        (plain(lambda z: z @ torch.ones(5, 2)), "decode fails on"),
        (plain(lambda z: z.repeat(1, 6) - 9, likelihood="bernoulli"), "probabilities.*sigmoid"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(model, match):
    with pytest.raises(InputError, match=match):
        adapt(model, table().sigmoid())


def test_rows_have_to_fit():
    for x in (table()[:1], torch.ones(4, 2, dtype=torch.int64), torch.ones(5), table() / 0):
        with pytest.raises(InputError, match="2 finite rows"):
            adapt(Coder(), x)
    with pytest.raises(InputError, match="beyond"):
        adapt(plain(likelihood="bernoulli"), table())
    vae = adapt(Coder(), table()).vae
    for call in (vae.encode, lambda x, c: vae.decode(x[:, :KAPPA], c)):
        with pytest.raises(InputError, match="conditions"):
            call(table(), torch.ones(60, 1))


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.0},
        {"gamma": math.nan},
        {"likelihood": "poisson"},
        {"variance": "sigma"},
        {"likelihood": "bernoulli", "gamma": 1.0},
        {"encode": 3},
        {"decode": None},
    ],
)
def test_wrap_checks_what_it_is_told(options):
    with pytest.raises(InputError):
        vaelab.wrap(**{"encode": abs, "decode": abs} | options)


# ---- scikit-learn


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pca_is_the_exact_linear_autoencoder(dtype):
    x = table(200, torch.float64)
    pca = PCA(KAPPA).fit(x.numpy())
    adapted = adapt(pca, x.to(dtype))
    assert adapted.family == "a scikit-learn PCA"
    vae, rel = adapted.vae, 1e-8 if dtype == torch.float64 else 1e-5
    components = torch.from_numpy(pca.components_)
    mean = torch.from_numpy(pca.mean_)
    torch.testing.assert_close(vae.encode(x.to(dtype)).mean.double(), (x - mean) @ components.T, rtol=rel, atol=1e-5)
    rebuilt = torch.from_numpy(pca.inverse_transform(pca.transform(x.numpy())))
    torch.testing.assert_close(vae.reconstruct(x.to(dtype)).double(), rebuilt, rtol=rel, atol=1e-5)
    # orthonormal rows: ‖J‖² = κ, and along direction v the derivative is Wᵀ v
    assert runs(vae, x.to(dtype)).local.value == pytest.approx(KAPPA, rel=rel)
    z, v = torch.randn(5, KAPPA).to(dtype), torch.randn(5, KAPPA).to(dtype)
    pushed = torch.func.jvp(vae.decode, (z,), (v,))[1].double()
    torch.testing.assert_close(pushed, v.double() @ components, rtol=0, atol=1e-8 if rel < 1e-6 else 1e-5)
    still = torch.func.jvp(vae.decode, (z,), (torch.zeros_like(v),))[1]
    assert not still.any()


def test_pipelines_and_images_are_flattened_for_estimators():
    x = table(100, torch.float64).view(-1, 1, 3, 4)
    pipeline = make_pipeline(StandardScaler(), PCA(2, whiten=True)).fit(x.flatten(1).numpy())
    vae = adapt(pipeline, x).vae
    scale, pca = pipeline[0].scale_, pipeline[1]
    matrix = pca.components_ * np.sqrt(pca.explained_variance_)[:, None] * scale
    assert runs(vae, x).local.value == pytest.approx((matrix**2).sum(), rel=1e-8)


@pytest.mark.parametrize("fitted", ["float32", "float64"])
@pytest.mark.parametrize("given", [torch.float32, torch.float64])
def test_estimators_get_the_type_that_they_were_fitted_on(fitted, given):
    x = table(100).sigmoid()
    model = NMF(2, init="nndsvda", max_iter=500, tol=1e-3).fit(x.numpy().astype(fitted))  # takes no other
    vae = adapt(model, x.to(given)).vae
    found = local_smoothness(vae, Rows(x.to(given)), method="exact").value
    assert found == pytest.approx((model.components_**2).sum(), rel=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "logistic", "identity"])
def test_a_bottleneck_regressor_is_cut_at_its_narrowest_layer(activation):
    x = table(200, torch.float64)
    model = MLPRegressor(hidden_layer_sizes=(10, KAPPA, 10), activation=activation, max_iter=30, random_state=0, tol=0)
    model.n_iter_no_change = 100
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(x.numpy(), x.numpy())
    adapted = adapt(model, x)
    assert adapted.family == "a scikit-learn MLPRegressor"
    vae = adapted.vae
    assert vae.latent_dim == KAPPA
    torch.testing.assert_close(vae.reconstruct(x), torch.from_numpy(model.predict(x.numpy())))
    assert not vae.decoder.differences
    runs(vae, x)
    model.coefs_[0] *= 2  # shared, not copied
    torch.testing.assert_close(vae.reconstruct(x), torch.from_numpy(model.predict(x.numpy())))


def test_estimators_that_are_no_autoencoders_are_refused():
    x = table(50, torch.float64)
    with pytest.raises(InputError, match="not fitted"):
        adapt(PCA(2), x)
    with pytest.raises(InputError, match="not fitted"):
        adapt(MLPRegressor(), x)
    model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(x.numpy(), x[:, :2].numpy())
    with pytest.raises(InputError, match="12 inputs and 2 outputs"):
        adapt(model, x)


# ---- diffusers


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def kl_autoencoder(diffusers, **options):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    size = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 2, "sample_size": 16}
    return diffusers.AutoencoderKL(in_channels=1, out_channels=1, **blocks, **size, **options)


@pytest.mark.parametrize(
    ("options", "shift", "factor"),
    [
        ({}, [0.0, 0.0], [0.18215, 0.18215]),
        ({"scaling_factor": 0.5, "shift_factor": 0.3}, [0.3, 0.3], [0.5, 0.5]),
        ({"scaling_factor": 0.5, "latents_mean": (0.1, -0.2), "latents_std": (2.0, 4.0)}, [0.1, -0.2], [0.25, 0.125]),
    ],
)
def test_latents_of_diffusers_are_on_the_scale_of_diffusion(diffusers, options, shift, factor):
    model, x = kl_autoencoder(diffusers, **options).train(), torch.rand(4, 1, 16, 16)
    adapted = adapt(model, x)
    assert adapted.family == "a diffusers AutoencoderKL"
    assert not adapted.gamma_known
    vae = adapted.vae
    assert vae.latent_dim == 2 * 8 * 8
    own = model.encode(x).latent_dist
    shift, factor = (torch.tensor(values).view(1, 2, 1, 1) for values in (shift, factor))
    q = vae.encode(x)
    torch.testing.assert_close(q.mean, ((own.mean - shift) * factor).flatten(1))
    torch.testing.assert_close(q.stddev, (own.std * factor).flatten(1))
    torch.testing.assert_close(vae.reconstruct(x), model.decode(own.mean).sample)


def test_forward_mode_goes_through_attention(diffusers):
    model, x = kl_autoencoder(diffusers), torch.rand(40, 1, 16, 16)
    vae = adapt(model, x, gamma=0.01).vae
    assert not vae.decoder.differences
    z = vae.encode(x[:2]).mean.detach()
    v = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    pushed = torch.func.jvp(vae.decode, (z,), (v,))[1]
    exact = copy.deepcopy(vae).double()
    step = 1e-5
    ends = [exact.decode(z.double() + sign * step * v.double()) for sign in (1, -1)]
    torch.testing.assert_close(pushed.double(), (ends[0] - ends[1]) / (2 * step), rtol=1e-3, atol=1e-4)
    runs(vae, x)


def test_autoencoders_of_diffusers_with_plain_latents(diffusers):
    torch.manual_seed(0)
    tiny = diffusers.AutoencoderTiny(
        1, 1, (8, 8), (8, 8), latent_channels=2, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)
    )
    codebook = diffusers.VQModel(1, 1, block_out_channels=(8,), norm_num_groups=4, latent_channels=2, sample_size=16)
    x = torch.rand(30, 1, 16, 16)
    for model in (tiny, codebook):
        adapted = adapt(model, x)
        assert adapted.family == f"a diffusers {type(model).__name__}"
        assert isinstance(adapted.vae.posterior, Deterministic)
        torch.testing.assert_close(adapted.vae.reconstruct(x), model.decode(model.encode(x).latents).sample)
    runs(adapt(tiny, x).vae, x)
    with pytest.raises(InputError, match="one of its autoencoders"):
        adapt(diffusers.models.autoencoders.vae.Decoder(), x)


# ---- pythae


@pytest.fixture(scope="module")
def pythae():
    return pytest.importorskip("pythae")


def trained(pythae, name, folder, x, **config):
    """A model trained by pythae itself for three epochs."""
    from pythae import models, pipelines, trainers

    torch.manual_seed(0)
    config = getattr(models, f"{name}Config")(input_dim=tuple(x.shape[1:]), latent_dim=KAPPA, **config)
    model = getattr(models, name)(config)
    trainer = trainers.BaseTrainerConfig(str(folder), num_epochs=3, no_cuda=True, per_device_train_batch_size=50)
    state = torch.get_rng_state()
    pipelines.TrainingPipeline(model=model, training_config=trainer)(x, eval_data=x[:50])
    torch.set_rng_state(state)
    return model


@pytest.mark.parametrize(
    ("name", "config", "gamma"), [("VAE", {}, 1.0), ("BetaVAE", {"beta": 0.2}, 0.2), ("AE", {}, None)]
)
def test_models_that_pythae_trained(pythae, tmp_path, name, config, gamma):
    x = table(200).sigmoid().view(-1, 1, 3, 4)
    model = trained(pythae, name, tmp_path, x, **config)
    adapted = adapt(model, x)
    vae = adapted.vae
    assert adapted.family == f"a pythae {name}"
    assert adapted.gamma_known == (gamma is not None)
    own = model.encoder(x)
    torch.testing.assert_close(vae.encode(x).mean, own.embedding)
    torch.testing.assert_close(vae.reconstruct(x), model.decoder(own.embedding).reconstruction)
    assert float(vae.likelihood.variance.gamma) == pytest.approx(gamma or 1.0)
    runs(vae, x)
    if name == "AE":
        assert vae.posterior.degenerate
        return
    torch.testing.assert_close(vae.encode(x).variance, own.log_covariance.exp())
    # its loss over β is the negative ELBO of the adapted model but for the Gaussian's constant
    z = own.embedding
    loss = model.loss_function(model.decoder(z).reconstruction, x, z, own.log_covariance, z)[0] / gamma
    distortion, penalty = vae(x, noise=torch.zeros(len(x), KAPPA))[:2]
    constant = 0.5 * x[0].numel() * math.log(2 * math.pi * gamma)
    assert (distortion + penalty["kl"]).mean().item() - constant == pytest.approx(loss.item(), rel=1e-4)


def test_cross_entropy_of_pythae_is_a_bernoulli_likelihood(pythae):
    from pythae import models

    x = torch.rand(40, 1, 3, 4)
    size = {"input_dim": (1, 3, 4), "latent_dim": KAPPA, "reconstruction_loss": "bce"}
    for model, beta in (
        (models.VAE(models.VAEConfig(**size)), 1.0),
        (models.BetaVAE(models.BetaVAEConfig(beta=4.0, **size)), 4.0),
    ):
        adapted = adapt(model, x)
        assert adapted.gamma_known
        assert isinstance(adapted.vae.likelihood, Bernoulli)
        own = model.encoder(x)
        z = own.embedding
        loss = model.loss_function(model.decoder(z).reconstruction, x, z, own.log_covariance, z)[0]
        total = adapted.vae(x, noise=torch.zeros(len(x), KAPPA)).total
        assert [r.weight for r in adapted.vae.regularizers] == [beta]
        assert total.item() == pytest.approx(loss.item(), rel=1e-5)
        runs(adapted.vae, x)
        squared = adapt(model, x, likelihood="gaussian")
        assert not squared.gamma_known
        assert isinstance(squared.vae.likelihood, Gaussian)
        with pytest.raises(InputError, match="no variance"):
            adapt(model, x, gamma=0.1)


def test_losses_of_pythae_that_are_no_bounds_leave_gamma_open(pythae):
    from pythae import models

    class Mine(models.VAE):
        def loss_function(self, *parts):
            return super().loss_function(*parts)

    x = torch.rand(20, 1, 3, 4)
    size = {"input_dim": (1, 3, 4), "latent_dim": KAPPA}
    known = {
        models.IWAE(models.IWAEConfig(number_samples=2, **size)): True,
        models.FactorVAE(models.FactorVAEConfig(**size)): False,
        models.INFOVAE_MMD(models.INFOVAE_MMD_Config(**size)): False,
        models.WAE_MMD(models.WAE_MMD_Config(**size)): False,
        models.RAE_L2(models.RAE_L2_Config(**size)): False,
        models.Adversarial_AE(models.Adversarial_AE_Config(**size)): False,
        Mine(models.VAEConfig(**size)): False,
    }
    assert {type(model).__name__: adapt(model, x).gamma_known for model in known} == {
        type(model).__name__: value for model, value in known.items()
    }
    assert adapt(Mine(models.VAEConfig(**size)), x).family == "a pythae VAE"
    for other in (models.VAMP(models.VAMPConfig(**size)), models.SVAE(models.SVAEConfig(**size))):
        with pytest.raises(InputError, match=r"wrap\(encode"):
            adapt(other, x)


def test_no_other_library_is_imported_for_an_adapter():
    program = (
        "import sys, torch; from vaelab.diagnostics.adapters import adapt; m = torch.nn.Module();"
        "m.encoder, m.decoder = torch.nn.Linear(3, 2), torch.nn.Linear(2, 3); adapt(m, torch.randn(9, 3));"
        "assert not {'pythae', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class AutoencoderOfSigns(nn.Module):
    """As one of diffusers that was trained on images of −0.8 and 0.8: it knows nothing else."""

    def __init__(self):
        super().__init__()
        self.config = {}
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, x):
        return (self.weight * x,)

    def decode(self, z):
        return 0.8 * z.sign()


AutoencoderOfSigns.__module__ = "diffusers.models"


def test_rows_in_other_units_than_a_family_takes_are_refused_where_that_is_proved():
    x = 0.1 + 0.8 * torch.randint(0, 2, (20, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    with pytest.raises(InputError, match=r"Pass 2 \* X - 1"):
        adapt(AutoencoderOfSigns(), x)
    assert adapt(AutoencoderOfSigns(), 2 * x - 1).family == "a diffusers AutoencoderOfSigns"
    # rows of the right range that have no negative number, and a model that rebuilds neither well
    assert adapt(AutoencoderOfSigns(), torch.full((20, 1, 4, 4), 0.8)).family
    noise = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    assert adapt(AutoencoderOfSigns(), 0.4 * noise + 0.5).family


class Clock(nn.Module):
    """Standardises seconds since 1970, which float32 rounds to two minutes."""

    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.tensor(1.7e9, dtype=torch.float64))

    def encode(self, x):
        return (x - self.start) / 1e3

    def decode(self, z):
        return 1e3 * z + self.start


@pytest.mark.parametrize("form", ["module", "functions", "arrays"])
def test_models_of_double_precision_get_rows_of_double_precision(form):
    from vaelab.verbs.subject import subject_of

    x = 1.7e9 + 1e3 * np.random.default_rng(0).normal(size=(200, 2))
    clock = Clock()
    model = {
        "module": clock,
        "functions": wrap(lambda x: clock.encode(x), lambda z: clock.decode(z)),
        "arrays": wrap(lambda x: (x - 1.7e9) / 1e3, lambda z: 1e3 * z + 1.7e9, arrays=True),
    }[form]
    subject = subject_of(model, x)
    assert subject.batches.x.dtype == (torch.float32 if form == "functions" else torch.float64)
    if form != "functions":
        assert float((subject.trained.vae.reconstruct(subject.batches.x) - torch.from_numpy(x)).abs().max()) < 1e-3


def test_what_a_loss_stands_for_is_said_or_read():
    x = curved_manifold(100)
    assert not adapt(wrap(lambda x: x, lambda z: z, gamma=1.0), x).loss_read
    assert not adapt(wrap(lambda x: x, lambda z: z), x, gamma=1.0).loss_read
