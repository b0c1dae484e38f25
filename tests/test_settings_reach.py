"""Every option of every value reaches the object that it is for, with the number that was given."""

import numpy as np
import pytest
import torch

from vaelab import GaussianVAE, specs
from vaelab.baselines import build_gan
from vaelab.data import ArrayBatches, Schema, from_arrays
from vaelab.latent import Codes, Site, law_of
from vaelab.model import KL, Rising
from vaelab.model.adversaries import Clip
from vaelab.runs.stages import hold_out, train
from vaelab.specs import Settings, build_second_stage, build_vae
from vaelab.training import FitSettings, devices
from vaelab.training.steps import Plan

IMAGE, ROW = (1, 8, 8), (5,)


def vae(event=ROW, condition_shape=(), data_variance=2.0, levels=(), **values):
    settings = Settings(latent_dim=4, densities=(), **values).resolve(1000, event)
    return build_vae(settings, event, data_variance=data_variance, condition_shape=condition_shape, levels=levels)


def widths(network):
    return [layer.out_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


def decays(network):
    return {1 - m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)}


def first_channels(network):
    return next(m.out_channels for m in network.modules() if isinstance(m, torch.nn.Conv2d))


def spectral(network):
    return any("pectral" in type(m).__name__ for m in network.modules())


def begins_linear(network):
    """Whether a training of no length is one of a linear model: its posterior is as wide for every row."""
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2, 0], [0, 1, 3], [1, 0, 1]]
    )
    settings = Settings(latent_dim=2, densities=(), network=network, training=FitSettings(1, 100, 1e-12))
    trained = train(from_arrays(x.numpy()), settings)
    return bool(trained.vae.encode(trained.scaling.to_net(x)).stddev.std(0).max() < 1e-4)


def gaussian(text):
    return vae(likelihood=text, network="mlp([8])").likelihood.variance


def penalty(text, event=ROW):
    (found,) = vae(event, posterior="deterministic", penalties=text, network="mlp([8])").regularizers
    return found


def scheduled(text):
    (found,) = vae(penalties=f"kl(schedule={text})").regularizers
    return found.schedule


def second(**options):
    law = specs.SecondStage(**options)
    settings = Settings(latent_dim=4, densities=(law,))
    return build_second_stage(settings, law, code_variance=1.0)


def second_training(fit):
    """The settings that the training of a law on codes is given."""
    seen = []
    law = specs.SecondStage(hidden=(8,), training=fit)

    def train(model, length, stage):
        seen.append(length)
        return model

    codes = Codes(torch.randn(20, 4), torch.ones(20, 4))
    law_of(law).fit(law, codes, Site(Settings(latent_dim=4)), train)
    return seen[0]


def flow_training(fit):
    pytest.importorskip("zuko")
    seen = []
    law = specs.Flow(training=fit)
    codes = Codes(torch.randn(20, 4), torch.ones(20, 4))
    law_of(law).fit(law, codes, Site(Settings(latent_dim=4)), lambda model, length, stage: seen.append(length) or model)
    return seen[0]


def matching(text):
    """The law that is built, and the settings that its training is given."""
    seen, law = [], specs.Density.of(text).resolve(20)
    codes = Codes(torch.randn(20, 4), torch.ones(20, 4))
    site = Site(Settings(latent_dim=4))
    return law_of(law).fit(law, codes, site, lambda model, length, stage: seen.append(length) or model), seen[0]


def tied(likelihood):
    x = np.random.default_rng(0).integers(0, 50, size=(300, 2))
    model = GaussianVAE(1, likelihood=likelihood, network="mlp([4])", epochs=1, random_state=0)
    return model.fit(np.column_stack([x, x.sum(1)]))


def mixture(text):
    law = specs.Density.of(text)
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    found = law_of(law).fit(law, Codes(z, torch.full_like(z, 1e-3)), Site(Settings(latent_dim=2)), None)
    return found.components, found.covariance


def of_means(text):
    """Whether the one Gaussian has the covariance of the means, without that of the posteriors."""
    law, z = specs.Density.of(text), torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    found = law_of(law).fit(law, Codes(z, torch.ones_like(z)), Site(Settings(latent_dim=2)), None)
    return bool(torch.allclose(found.scale_trils[0] @ found.scale_trils[0].T, torch.cov(z.T, correction=0), atol=1e-4))


def wide(kind, text, event=(1, 16, 16)):
    return first_channels(vae(event, network=f"{kind}({text})").encoder)


def sequential():
    return vae((6,), (7, 7), network="lstm(11)", condition="standard(attention=false)")


def gan(adversary, event=ROW):
    settings = Settings(4, adversary=adversary).resolve(1000, event)
    return build_gan(settings, build_vae(settings, event, data_variance=1.0), event)


FIT = specs.FitSettings(epochs=7, lr=0.3, batch_size=9)
CONDITIONED = {"condition_shape": (3,), "network": "mlp([8])"}
# (axis, kind, option) → what is read where it is built, and what has to be there
REACHES = {
    ("network", "mlp", "hidden"): (
        lambda: [widths(part) for part in (vae(network="mlp([7, 9])").encoder, vae(network="mlp([7, 9])").decoder)],
        [[7, 9, 8], [9, 7, 5]],
    ),
    ("network", "mlp", "activation"): (
        lambda: any(isinstance(part, torch.nn.SiLU) for part in vae(network="mlp([7], activation=silu)").modules()),
        True,
    ),
    ("network", "mlp", "skip"): (lambda: vae(network="mlp([7], skip=true)").encoder.head.skip, True),
    ("network", "mlp", "start"): (lambda: begins_linear("mlp([8], start=linear)"), True),
    ("network", "lstm", "units"): (
        lambda: {m.hidden_size for m in sequential().modules() if isinstance(m, torch.nn.LSTM)},
        {11},
    ),
    ("network", "infogan", "norm_decay"): (lambda: decays(vae(IMAGE, network="infogan(0.75)")), {0.75}),
    ("network", "rae", "ends"): (
        lambda: [
            sum(isinstance(m, torch.nn.BatchNorm2d) for m in part.modules())
            for network in ("rae(base_width=2)", "rae(base_width=2, ends=plain)")
            for part in (vae((1, 64, 64), network=network).encoder, vae((1, 64, 64), network=network).decoder)
        ],
        [4, 3, 3, 2],
    ),
    ("network", "rae", "spectral"): (
        lambda: spectral(vae((1, 16, 16), network="rae(base_width=2, spectral=true)")),
        True,
    ),
    **{
        ("network", kind, "norm_decay"): (
            lambda kind=kind: decays(vae((1, 16, 16), network=f"{kind}(norm_decay=0.75, base_width=2)")),
            {0.75},
        )
        for kind in ("resnet", "residual", "wae", "arelbo", "rae")
    },
    **{
        ("network", kind, "base_width"): (
            lambda kind=kind: wide(kind, "base_width=4") == 2 * wide(kind, "base_width=2"),
            True,
        )
        for kind in ("resnet", "residual", "wae", "arelbo", "rae")
    },
    ("posterior", "diagonal", "draws"): (lambda: vae(posterior="diagonal(3)").draws, 3),
    ("posterior", "full", "draws"): (lambda: vae(posterior="full(3)").draws, 3),
    ("posterior", "isotropic", "draws"): (lambda: vae(posterior="isotropic(draws=3)").draws, 3),
    **{
        ("posterior", kind, "bound"): (lambda kind=kind: vae(posterior=f"{kind}(draws=3, bound=iwae)").bound, "iwae")
        for kind in ("diagonal", "full", "isotropic")
    },
    ("posterior", "isotropic", "variance"): (
        lambda: float(vae(posterior="isotropic(variance=0.25)").posterior(torch.zeros(1, 4)).variance[0, 0]),
        0.25,
    ),
    **{
        ("condition", kind, "attention"): (
            lambda kind=kind: type(vae(condition=f"{kind}(attention=false)", **CONDITIONED).decoder).__name__,
            "Embedded",
        )
        for kind in ("standard", "conditional", "tied")
    },
    **{
        ("condition", kind, "hidden"): (
            lambda kind=kind: 13 in widths(vae(condition=f"{kind}(hidden=[13])", **CONDITIONED).encoder),
            True,
        )
        for kind in ("standard", "conditional", "tied")
    },
    ("likelihood", "gaussian", "variance"): (lambda: type(gaussian("gaussian(learned)")).__name__, "LearnedVariance"),
    ("likelihood", "gaussian", "shape"): (lambda: gaussian("gaussian(shape=diag-i)").diagonal, True),
    ("likelihood", "gaussian", "floor"): (lambda: gaussian("gaussian(floor=0.5)").floor, 1.0),  # of variance 2
    ("likelihood", "auto", "variance"): (lambda: type(gaussian("auto(learned)")).__name__, "LearnedVariance"),
    ("likelihood", "auto", "shape"): (lambda: gaussian("auto(shape=diag-i)").diagonal, True),
    ("likelihood", "auto", "floor"): (lambda: gaussian("auto(floor=0.5)").floor, 1.0),
    ("likelihood", "mixed", "variance"): (
        lambda: type(vae(likelihood="mixed(learned)", levels=(0, 3, 0, 0, 2)).likelihood.variance).__name__,
        "LearnedVariance",
    ),
    ("likelihood", "mixed", "shape"): (
        lambda: vae(likelihood="mixed(shape=diag-i)", levels=(0, 3, 0, 0, 2)).likelihood.variance.diagonal,
        True,
    ),
    ("likelihood", "mixed", "hidden"): (
        lambda: vae(likelihood="mixed(hidden=0.3)", levels=(0, 3, 0, 0, 2)).hiding.rate,
        0.3,
    ),
    ("likelihood", "mixed", "scored"): (
        lambda: vae(likelihood="mixed(hidden=0.3, scored=known)", levels=(0, 3, 0, 0, 2)).hiding.scored,
        "known",
    ),
    ("likelihood", "mixed", "ties"): (
        lambda: [
            any(column.tie for column in tied(f"mixed(ties={ties})").schema_.columns) for ties in ("found", "none")
        ],
        [True, False],
    ),
    ("likelihood", "mixed", "numbers"): (
        lambda: (
            train(
                from_arrays(torch.rand(60, 2, generator=torch.Generator().manual_seed(0)).exp().numpy()),
                Settings(
                    latent_dim=1,
                    likelihood="mixed(numbers=standardised)",
                    network="mlp([4])",
                    densities=(),
                    training=FitSettings(1),
                ),
            ).scaling.marginals
        ),
        None,
    ),
    ("likelihood", "mixed", "columns"): (
        lambda: (
            GaussianVAE(1, likelihood=specs.Mixed(columns={1: "category"}), network="mlp([4])", epochs=1)
            .fit(np.arange(60.0).reshape(20, 3) % 4)
            .schema_.levels
        ),
        (0, 4, 0),
    ),
    **{
        ("column", kind, "levels"): (
            lambda kind=kind: (
                Schema.fit([["b"], ["a"]], columns={"0": specs.Column.of(f"{kind}(levels=[b, a, c])")})
                .columns[0]
                .levels
            ),
            ("b", "a", "c"),
        )
        for kind in ("category", "ordered")
    },
    ("likelihood", "mixed", "floor"): (
        lambda: vae(likelihood="mixed(floor=0.5)", levels=(0, 3, 0, 0, 2)).likelihood.variance.floor,
        1.0,
    ),
    ("likelihood", "logistic_mixture", "components"): (
        lambda: vae(IMAGE, likelihood="logistic_mixture(3)").likelihood.components,
        3,
    ),
    ("variance", "profiled", "start"): (lambda: gaussian("gaussian(profiled(start=0.25))").start, 0.5),
    ("variance", "learned", "initial"): (lambda: float(gaussian("gaussian(learned(initial=3))").gamma), 3.0),
    ("variance", "learned", "lr_scale"): (
        lambda: vae(likelihood="gaussian(learned(lr_scale=5))").parameter_groups()[-1].lr_scale,
        5.0,
    ),
    ("variance", "fixed", "value"): (lambda: float(gaussian("gaussian(fixed(3))").gamma), 3.0),
    ("penalties", "kl", "weight"): (lambda: next(iter(vae(penalties="kl(3)").regularizers)).weight, 3.0),
    **{
        ("penalties", kind, "weight"): (lambda kind=kind: penalty(f"{kind}(3)").weight, 3.0)
        for kind in ("mmd", "adversarial", "code_norm", "weight_norm", "jacobian")
    },
    ("penalties", "adversarial", "hidden"): (lambda: widths(penalty("adversarial(hidden=[7])").critic), [7, 1]),
    ("penalties", "adversarial", "lr_scale"): (lambda: penalty("adversarial(lr_scale=4)").lr_scale, 4.0),
    ("penalties", "adversarial", "log_prior"): (lambda: penalty("adversarial(log_prior=false)").log_prior, False),
    ("penalties", "weight_norm", "dense"): (lambda: penalty("weight_norm(dense=false)").dense, False),
    ("penalties", "jacobian", "form"): (lambda: penalty("jacobian(form=program)").form, "program"),
    ("densities", "mixture", "components"): (lambda: mixture("mixture(3, full)")[0], 3),
    ("densities", "mixture", "covariance"): (lambda: mixture("mixture(3, diag)")[1], "diag"),
    ("densities", "mixture", "codes"): (lambda: of_means("mixture(1, full, codes=means)"), True),
    ("densities", "flow", "training"): (lambda: flow_training(FIT), FIT),
    ("densities", "flow_matching", "width"): (
        lambda: matching("flow_matching(width=9)")[0].velocity.begin.out_features,
        9,
    ),
    ("densities", "flow_matching", "blocks"): (lambda: len(matching("flow_matching(blocks=2)")[0].velocity.blocks), 2),
    ("densities", "flow_matching", "coupling"): (
        lambda: matching("flow_matching(coupling=optimal_transport)")[0].coupling,
        "optimal_transport",
    ),
    ("penalties", "kl", "schedule"): (lambda: type(scheduled("rising")), Rising),
    ("kl_schedule", "rising", "share"): (lambda: scheduled("rising(0.3)").share, 0.3),
    ("kl_schedule", "cyclical", "cycles"): (lambda: scheduled("cyclical(3)").cycles, 3),
    ("kl_schedule", "cyclical", "share"): (lambda: scheduled("cyclical(share=0.3)").share, 0.3),
    ("kl_schedule", "controlled", "target"): (lambda: scheduled("controlled(7)").target, 7.0),
    ("kl_schedule", "controlled", "kp"): (lambda: scheduled("controlled(7, kp=0.3)").kp, 0.3),
    ("kl_schedule", "controlled", "ki"): (lambda: scheduled("controlled(7, ki=0.3)").ki, 0.3),
    ("densities", "flow_matching", "steps"): (lambda: matching("flow_matching(steps=3)")[0].steps, 3),
    ("densities", "flow_matching", "guidance"): (lambda: matching("flow_matching(guidance=2)")[0].guidance, 2.0),
    ("densities", "flow_matching", "training"): (
        lambda: matching("flow_matching(training=fit(epochs=7, lr=0.3, batch_size=9))")[1],
        FIT,
    ),
    ("densities", "second_stage", "training"): (lambda: second_training(FIT), FIT),
    ("densities", "second_stage", "hidden"): (lambda: widths(second(hidden=(7, 9)).encoder), [7, 9, 8]),
    ("adversary", "critic", "steps"): (lambda: len(gan("critic(steps=3)").steps_before()), 3),
    ("adversary", "autoencoder", "steps"): (lambda: len(gan("autoencoder(steps=3)").steps_before()), 3),
    ("adversary", "critic", "loss"): (lambda: gan("critic(loss=least_squares)").losses.name, "least_squares"),
    ("adversary", "critic", "smooth"): (lambda: type(gan("critic(smooth=clip)").smoothness), Clip),
    ("adversary", "critic", "norm"): (
        lambda: [bool(decays(gan(f"critic(norm={norm})", IMAGE).critic)) for norm in ("true", "false")],
        [True, False],
    ),
    ("adversary", "autoencoder", "gamma"): (lambda: gan("autoencoder(gamma=0.3)").losses.gamma, 0.3),
    ("adversary", "autoencoder", "rate"): (lambda: gan("autoencoder(rate=0.3)").losses.rate, 0.3),
    ("adversary", "autoencoder", "code"): (
        lambda: [13 in widths(gan("autoencoder(code=13)", event).critic) for event in (IMAGE, ROW)],
        [True, True],
    ),
    ("smooth", "clip", "limit"): (lambda: gan("critic(smooth=clip(0.3))").smoothness.limit, 0.3),
    ("smooth", "between", "weight"): (lambda: gan("critic(smooth=between(3))").smoothness.weight, 3.0),
    ("smooth", "around", "weight"): (lambda: gan("critic(smooth=around(3))").smoothness.weight, 3.0),
}
ELSEWHERE = {  # where the loop is tested against a formula, or a network of one's own
    ("network", "own", "place"),
    ("network", "own", "make"),
    ("condition", "shared", "attention"),
    ("condition", "shared", "hidden"),
    ("schedule", "step", "every"),
    ("augment", "flip", "share"),
    ("augment", "own", "place"),
    ("augment", "own", "make"),
    ("schedule", "plateau", "patience"),
}
AXES = (
    specs.Network,
    specs.Posterior,
    specs.Condition,
    specs.Likelihood,
    specs.Column,
    specs.Variance,
    specs.Penalty,
    specs.KLSchedule,
    specs.Density,
    specs.Schedule,
    specs.adversaries.Adversary,
    specs.adversaries.CriticLoss,
    specs.adversaries.Smooth,
    specs.Augment,
)


def test_every_option_has_a_row():
    options = {
        (axis.axis, leaf.kind, name) for axis in AXES for leaf in axis.kinds().values() for name in leaf.model_fields
    }
    assert options == set(REACHES) | ELSEWHERE


@pytest.mark.parametrize("option", REACHES, ids="-".join)
def test_an_option_reaches_what_it_is_for(option):
    reading, wanted = REACHES[option]
    assert reading() == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


def test_the_settings_of_a_training_reach_the_loop(monkeypatch):
    """Length, device, seed and held-out rows, of both stages."""
    seen = []

    def fit(model, batches, settings, *, compute, seed, held_out, **_):
        seen.append((settings, compute, seed, len(batches), 0 if held_out is None else len(held_out)))

    from vaelab.data import from_arrays
    from vaelab.runs import train

    monkeypatch.setattr("vaelab.runs.first_stage.fit", fit)
    first, second = specs.FitSettings(epochs=3, beta1=0.4, weight_decay=0.2), specs.FitSettings(epochs=5, lr=0.7)
    compute = specs.Compute(accelerator="cpu", checkpoint_seconds=7.0)
    law = specs.SecondStage(hidden=(4,), training=second)
    settings = Settings(2, "mlp([4])", training=first, compute=compute, densities=(law,), held_out=0.2, seed=11)
    train(from_arrays(torch.randn(60, 3).numpy()), settings)
    one, two = (first, compute, 11, 48, 12), (second, compute, 11, 48, 12)
    assert seen == [one] * (len(seen) - 1) + [two]  # stage one may be trained from several starts


def test_the_seed_parts_rows_and_starts_weights():
    rows = ArrayBatches(torch.arange(50.0)[:, None])
    parted = [hold_out(rows, Settings(seed=seed))[1].take(torch.arange(5))[0] for seed in (0, 0, 1)]
    assert torch.equal(parted[0], parted[1])
    assert not torch.equal(parted[0], parted[2])
    started = [next(vae(seed=seed).encoder.parameters()) for seed in (0, 0, 1)]
    assert torch.equal(started[0], started[1])
    assert not torch.equal(started[0], started[2])


def test_a_default_kl_has_weight_one_and_an_autoencoder_has_none():
    (kl,) = vae().regularizers
    assert isinstance(kl, KL)
    assert kl.weight == 1
    assert not list(vae(posterior="deterministic").regularizers)


def test_the_accelerator_is_asked_for(monkeypatch):
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="a CUDA device"):
        devices.make_fabric(specs.Compute(accelerator="gpu"))
    assert Plan.of(ArrayBatches(torch.zeros(100, 1)), specs.FitSettings(3, 20), 1).steps == 15


def test_a_variance_never_decays():
    decays = {group.decays for group in vae(likelihood="gaussian(learned)").parameter_groups() if group.lr_scale != 1}
    assert decays == {False}
