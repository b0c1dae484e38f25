"""What settings turn into: axes and networks by name, and defaults that depend on the data."""

import pytest
import torch

from vaelab import presets, specs
from vaelab.errors import InputError
from vaelab.model import (
    Conditional,
    DecodedVariance,
    Diagonal,
    FixedVariance,
    FullCovariance,
    Isotropic,
    LearnedVariance,
    ProfiledVariance,
    Standard,
)
from vaelab.nets import Embedded, Gated, LSTMEncoder, SharedPrior
from vaelab.specs import MLP, FitSettings, Settings, build_second_stage, build_vae, parse_settings


def built(condition_shape=(3,), event_shape=(5,), **values):
    settings = Settings(
        latent_dim=4,
        network=MLP((8,)),
        condition="standard(hidden=[6])",
        densities=("gaussian", "mixture", specs.SecondStage(hidden=(8,))),
        **values,
    )
    settings = settings.resolve(100, event_shape)
    return build_vae(settings, event_shape, data_variance=1.0, condition_shape=condition_shape)


@pytest.mark.parametrize(
    ("posterior", "kind"), [("diagonal", Diagonal), ("isotropic", Isotropic), ("full", FullCovariance)]
)
def test_posteriors_by_name(posterior, kind):
    assert isinstance(built((), posterior=posterior).posterior, kind)


def test_attention_comes_with_a_condition_unless_told_otherwise():
    assert isinstance(built(conditional=True).decoder, Gated)
    assert isinstance(built(conditional=True, attention=False).decoder, Embedded)
    assert not isinstance(built(()).decoder, Gated)
    assert isinstance(built((), attention=True).decoder, Gated)


def test_every_class_has_gate_logits_of_its_own():
    """Moving the logits of one class moves those of no other."""
    gate = built(conditional=True).decoder
    weights = gate.weights(torch.eye(3))
    (moved,) = torch.autograd.grad(weights[1].sum(), [gate.raw.body.output.weight])
    assert (moved[:, 1] != 0).all()
    assert (moved[:, [0, 2]] == 0).all()


def test_priors_by_name():
    assert isinstance(built(conditional=True).prior, Standard)
    assert isinstance(built(conditional=True, prior="conditional").prior, Conditional)
    sequential = {"conditional": True, "network": "lstm", "attention": False}
    shared = built((7, 6), prior="shared", **sequential)
    assert isinstance(shared.encoder, LSTMEncoder)
    assert isinstance(shared.prior.network, SharedPrior)
    assert shared.prior.network.encoder is shared.encoder
    with pytest.raises(InputError, match="SequenceVAE"):
        built((3,), prior="conditional", **sequential)


@pytest.mark.parametrize("network", ["infogan", "resnet", "residual", "wae", "rae", "arelbo", "mlp"])
def test_every_family_takes_a_condition(network):
    vae = built((3,), (1, 16, 16), network=network, conditional=True, base_width=4)
    x, c = torch.rand(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    assert vae(x, c).per_sample.shape == (4,)
    with pytest.raises(InputError, match="no condition"):
        vae(x)


def test_the_second_stage_reads_the_condition():
    settings = Settings(
        latent_dim=4, condition="standard", densities=("gaussian", "mixture", specs.SecondStage(hidden=(8,)))
    ).resolve(100, (5,))
    second = build_second_stage(settings, code_variance=1.0, condition_shape=(3,))
    assert second(torch.randn(2, 4), torch.eye(3)[:2]).per_sample.shape == (2,)
    with pytest.raises(InputError, match="no condition"):
        second(torch.randn(2, 4))


def test_batch_norm_averages_over_a_twentieth_of_a_training_at_most():
    image = (1, 16, 16)
    assert Settings(fit=FitSettings(epochs=200)).resolve(6000, image).norm_decay == 0.99
    assert Settings(fit=FitSettings(epochs=40)).resolve(1200, image).norm_decay == pytest.approx(1 - 20 / 480)
    assert Settings(fit=FitSettings(epochs=1)).resolve(1200, image).norm_decay == 0.5
    assert Settings(network=MLP(0.999), fit=FitSettings(epochs=1)).resolve(1200, image).norm_decay == 0.999


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_builds_and_steps(name):
    settings = presets.load(name)
    channels, side = (3, 64) if "celeba" in name else (3, 32) if "cifar" in name else (1, 28)
    # infogan has one width; the others are made narrow
    width = None if settings.network == "infogan" else 2
    settings = settings.model_copy(update={"base_width": width}).resolve(1000, (channels, side, side))
    vae = build_vae(settings, (channels, side, side), data_variance=0.07)
    x = torch.randint(256, (2, channels, side, side)) / 255
    objective = vae(x)
    objective.total.backward()
    assert torch.isfinite(objective.per_sample).all()
    stepped = {id(p) for step in vae.steps_before() for p in step.parameters}
    assert all(p.grad is not None for p in vae.encoder.parameters() if id(p) not in stepped)


@pytest.mark.parametrize(
    ("variance", "shape", "kind", "gammas"),
    [
        ("fixed", "iso-i", FixedVariance, (1, 1)),
        ("learned", "iso-i", LearnedVariance, (1, 1)),
        ("learned", "diag-i", LearnedVariance, (1, 5)),
        ("learned", "iso-d", DecodedVariance, (3, 1)),
        ("learned", "diag-d", DecodedVariance, (3, 5)),
        ("profiled", "iso-i", ProfiledVariance, (1, 1)),
        ("profiled", "diag-i", ProfiledVariance, (1, 5)),
        ("profiled", "iso-d", ProfiledVariance, (3, 1)),
        ("profiled", "diag-d", ProfiledVariance, (3, 5)),
    ],
)
def test_variances_by_name(variance, shape, kind, gammas):
    vae = built((), variance=variance, variance_shape=shape)
    assert isinstance(vae.likelihood.variance, kind)
    x = torch.randn(3, 5)
    assert vae.likelihood.variance_of(vae.decoder(vae.encode(x).mean), x).shape == gammas


def test_penalties_by_name():
    vae = built((), posterior="deterministic", mmd_weight=1.0, adversarial_weight=2.0, code_norm_weight=3.0,
                weight_norm_weight=4.0, jacobian_weight=5.0, critic_hidden=(8,))  # fmt: skip
    assert [(r.name, r.weight) for r in vae.regularizers] == [
        ("mmd", 1.0),
        ("adversarial", 2.0),
        ("code_norm", 3.0),
        ("weight_norm", 4.0),
        ("jacobian", 5.0),
    ]
    assert [r.name for r in built((), kl_weight=4.0).regularizers] == ["kl"]
    fixed = built((), posterior="isotropic", posterior_variance=0.25).posterior
    assert not fixed.log_std.requires_grad
    torch.testing.assert_close(fixed(torch.zeros(1, 4)).variance, torch.full((1, 4), 0.25))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"likelihood": "bernoulli", "variance_shape": "diag-i"}, "has no variance"),
        ({"variance": "fixed", "variance_shape": "diag-i"}, "is one number"),
        ({"likelihood": "mixed", "variance_shape": "diag-d"}, "same variances for all rows"),
        ({"posterior": "deterministic", "kl_weight": 2.0}, "has no KL"),
        ({"posterior": "deterministic", "draws": 2}, "one z"),
        ({"posterior_variance": 0.1}, "posterior='isotropic'"),
        ({"spectral": True}, "network='rae'"),
        ({"schedule": "plateau", "held_out": 0.0}, "watches held-out rows"),
        ({"schedule": "cosine", "halve_every": 3}, "no effect"),
        ({"adversarial_weight": -1.0}, "adversarial_weight"),
        ({"jacobian_weight": 1.0, "compile": True}, "leave compile"),
        ({"gamma_lr_scale": 1.0}, "gamma_lr_scale is for"),
        ({"critic_lr_scale": 2.0}, "need an adversarial_weight"),
        ({"logistic_components": 3}, "logistic_components is for"),
    ],
)
def test_contradictions_are_named(values, message):
    with pytest.raises(InputError, match=message):
        parse_settings(values)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "logistic_mixture"])
def test_likelihoods_of_pixels_refuse_tables(likelihood):
    with pytest.raises(InputError, match="for a table"):
        built((), likelihood=likelihood)
