"""Settings as a tree of values: how they are written, what contradicts, what they build, values of your own."""

from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field
from torch import nn

import vaelab
from helpers import sealed
from vaelab import GaussianVAE, TwoStageVAE, presets, specs
from vaelab.errors import InputError, RunFolderError
from vaelab.latent import LAWS, LatentDensity, Law
from vaelab.model import (
    Bernoulli,
    Conditional,
    DecodedVariance,
    Deterministic,
    Diagonal,
    FixedVariance,
    FullCovariance,
    Isotropic,
    LearnedVariance,
    ProfiledVariance,
    Standard,
)
from vaelab.nets import Embedded, Gated, LSTMEncoder, MLPDecoder, MLPEncoder, SharedPrior
from vaelab.spec import Value, parse
from vaelab.specs import MLP, FitSettings, Settings, build_second_stage, build_vae
from vaelab.specs.networks import Wide

AXES = [
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
]


def built(condition_shape=(3,), event_shape=(5,), **values):
    values = {"network": MLP((8,)), **values}
    settings = Settings(latent_dim=4, densities=(), **values).resolve(100, event_shape)
    return build_vae(settings, event_shape, data_variance=1.0, condition_shape=condition_shape)


# how settings are written


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.axis)
def test_every_value_comes_back_from_yaml_text_and_name(axis):
    for kind, leaf in axis.kinds().items():
        needed = {"step": {"every": 2}, "controlled": {"target": 5}}.get(kind, {})
        value = axis.of({"kind": kind, **needed})
        assert type(value) is leaf
        assert axis.of(yaml.safe_load(yaml.safe_dump(value.model_dump(mode="json")))) == value
        if not needed:
            assert axis.of(kind) == value
        assert axis.of(f"{kind}({', '.join(f'{k}={v}' for k, v in needed.items())})") == value


def test_text_names_positions_and_nests():
    read = specs.Likelihood.of("gaussian(learned(initial=2, lr_scale=3.5), diag-i, floor=1e-4)")
    by_name = specs.Gaussian(variance=specs.Learned(initial=2, lr_scale=3.5), shape="diag-i", floor=1e-4)
    assert read == by_name == specs.Gaussian(specs.Learned(2, 3.5), "diag-i", 1e-4)
    assert specs.Network.of("mlp([8, 9])") == MLP((8, 9)) == MLP(hidden=(8, 9))
    assert specs.Density.of("second_stage([8], training(epochs=3))") == specs.SecondStage((8,), FitSettings(3))
    assert specs.Density.of("mixture_10") == specs.Mixture(10, "full")
    assert specs.Mixture(10, "full", "means").name == "mixture_10_means"
    assert (specs.Mixture(10, "full").name, specs.Mixture(7, "diag").name) == ("mixture_10", "mixture_7_diag")
    with pytest.raises(TypeError, match="at most 4"):
        MLP((8,), "relu", True, "linear", 3)
    with pytest.raises(TypeError, match="hidden twice"):
        MLP((8,), hidden=(3,))


@pytest.mark.parametrize("name", presets.names())
def test_settings_come_back_from_yaml_whole(name):
    settings = presets.preset(name)
    assert parse(Settings, yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))) == settings


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"latent_dim": 3}, "latent_dim", 3),
        ({"training__lr": 1e-4}, "training.lr", 1e-4),
        ({"likelihood__shape": "diag-i"}, "likelihood.shape", "diag-i"),
        ({"likelihood__variance": "learned", "likelihood__variance__lr_scale": 2.0}, "likelihood.variance.lr_scale", 2),
        ({"network": "mlp", "network__hidden": (3,)}, "network.hidden", (3,)),
        ({"penalties__kl__weight": 4.0}, "penalties", (specs.KL(4.0),)),
        ({"compute__accelerator": "cpu"}, "compute.accelerator", "cpu"),
    ],
)
def test_changes_replace_and_leave_the_old_settings(changes, path, value):
    old = Settings()
    before = old.model_dump()
    new = old.set_params(**changes)
    for name in path.split("."):
        new = getattr(new, name)
    assert new == value
    assert old.model_dump() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latent_dim": 0, "epoch": 3}, r"latent_dim=0.*no setting is called 'epoch'"),
        ({"netwrk": "mlp"}, "did you mean 'network'"),
        ({"training": {"lrr": 3}}, "did you mean 'lr'"),
        ({"network": "mpl"}, "Did you mean 'mlp'"),
        ({"network": "infogan(hidden=[3])"}, "no setting is called 'hidden'"),
        ({"network": "mlp(base_width=3)"}, "no setting is called 'base_width'"),
        ({"network": 3}, "network=3"),
        ({"likelihood": "bernoulli(shape=diag-i)"}, "no setting is called 'shape'"),
        ({"likelihood": "gaussian(fixed, diag-i)"}, "is one number"),
        ({"likelihood": "mixed(shape=diag-d)"}, "same variances for all rows"),
        ({"likelihood": "gaussian(learned(initial=-1))"}, "greater than 0"),
        ({"posterior": "deterministic", "penalties": "kl(2)"}, "has no KL"),
        ({"posterior": "deterministic(draws=2)"}, "no setting is called 'draws'"),
        ({"penalties": "mmd"}, "penalties without 'kl'"),
        ({"penalties": ("kl", "kl(2)")}, "twice"),
        ({"penalties": ("kl", "adversarial(-1)")}, "greater than 0"),
        ({"penalties": ("kl", "jacobian"), "compute": {"compile": True}}, "leave compile"),
        ({"training": {"schedule": "plateau"}, "held_out": 0.0}, "watches held-out rows"),
        ({"densities": "mixture(codes=means)"}, "give their number"),
        ({"compute": {"precision": "64-true"}}, "is for vaelab.fit"),
        ({"training": {"schedule": "step"}}, "every"),
        ({"training": {"schedule": "cosine(3)"}}, "at most 0 settings"),
        ({"condition": "shared"}, "is for network='lstm'"),
        ({"condition": "tied", "network": "lstm"}, "not for network='lstm'"),
        ({"condition": "tied", "posterior": "full"}, "diagonal posterior"),
        ({"densities": ("mixture", "mixture")}, "twice"),
        ({"densities": ("gausian",)}, "Did you mean 'gaussian'"),
    ],
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        parse(Settings, values)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "logistic_mixture"])
def test_likelihoods_of_pixels_refuse_tables(likelihood):
    with pytest.raises(InputError, match="for a table"):
        built((), likelihood=likelihood)


# what they build


@pytest.mark.parametrize(
    ("posterior", "kind"),
    [
        ("diagonal", Diagonal),
        ("isotropic", Isotropic),
        ("full", FullCovariance),
        ("deterministic", Deterministic),
    ],
)
def test_posteriors_by_name(posterior, kind):
    assert isinstance(built((), posterior=posterior).posterior, kind)


def test_options_of_posteriors():
    assert built((), posterior="diagonal(draws=3)").draws == 3
    fixed = built((), posterior="isotropic(variance=0.25)").posterior
    assert not fixed.log_std.requires_grad
    torch.testing.assert_close(fixed(torch.zeros(1, 4)).variance, torch.full((1, 4), 0.25))
    image = (1, 8, 8)
    assert built((), image, network="infogan").posterior.scale != built((), image, network="mlp").posterior.scale


def test_attention_comes_with_a_condition_unless_told_otherwise():
    assert isinstance(built(condition="standard").decoder, Gated)
    assert isinstance(built(condition="standard(attention=false)").decoder, Embedded)
    assert not isinstance(built(()).decoder, Gated)
    one = built(condition="standard(attention=vector)").decoder  # of the appendix of Zheng et al. 2022
    assert one.weights(torch.eye(3)).shape == (4,)
    assert one.vector.requires_grad


def test_every_class_has_gate_logits_of_its_own():
    """Moving the logits of one class moves those of no other."""
    gate = built(condition="standard(hidden=[6])").decoder
    weights = gate.weights(torch.eye(3))
    (moved,) = torch.autograd.grad(weights[1].sum(), [gate.raw.body.output.weight])
    assert (moved[:, 1] != 0).all()
    assert (moved[:, [0, 2]] == 0).all()


def test_priors_by_name():
    assert isinstance(built(condition="standard").prior, Standard)
    assert isinstance(built(condition="conditional").prior, Conditional)
    shared = built((7, 6), condition="shared(attention=false)", network="lstm(8)")
    assert isinstance(shared.encoder, LSTMEncoder)
    assert isinstance(shared.prior.network, SharedPrior)
    assert shared.prior.network.encoder is shared.encoder
    tied = built((3,), condition="tied", network="mlp([8])")
    c, x = torch.randn(5, 3), torch.randn(2, 5, 5)
    q, p = tied.encode(x[0], c), tied.prior(c)
    for each in (p, tied.encode(x[1], c)):
        torch.testing.assert_close((each.mean, each.stddev), (q.mean, q.stddev))
    assert tied(x[0], c).penalties["kl"].abs().max() < 1e-6
    assert len({id(w) for w in tied.parameters()}) == len(list(tied.parameters()))
    with pytest.raises(InputError, match="SequenceVAE"):
        built((3,), condition="conditional(attention=false)", network="lstm(8)")


@pytest.mark.parametrize("network", [kind for kind in specs.Network.kinds() if kind not in ("lstm", "own")])
def test_every_family_takes_a_condition(network):
    value = specs.Network.of(network)
    value = value.set_params(base_width=4) if isinstance(value, Wide) else value
    vae = built((3,), (1, 16, 16), network=value, condition="standard")
    x, c = torch.rand(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    assert vae(x, c).per_sample.shape == (4,)
    with pytest.raises(InputError, match="no condition"):
        vae(x)


def test_the_second_stage_reads_the_condition():
    laws = specs.SecondStage(hidden=(8,))
    settings = Settings(latent_dim=4, condition="standard", densities=laws).resolve(100, (5,))
    second = build_second_stage(settings, code_variance=1.0, condition_shape=(3,))
    assert second(torch.randn(2, 4), torch.eye(3)[:2]).per_sample.shape == (2,)
    with pytest.raises(InputError, match="no condition"):
        second(torch.randn(2, 4))


@pytest.mark.parametrize(("rows", "epochs"), [(100, 2000), (1000, 200), (5000, 200), (60_000, 17), (1_000_000, 5)])
def test_default_length_suits_the_data(rows, epochs):
    resolved = Settings().resolve(rows, (8,))
    assert resolved.training.epochs == resolved.density("second_stage").training.epochs == epochs
    assert Settings(training=FitSettings(7)).resolve(rows, (8,)).training.epochs == 7


def test_batch_norm_averages_over_a_twentieth_of_a_training_at_most():
    image = (1, 16, 16)

    def decay(rows, epochs, network="auto"):
        return Settings(network=network, training=FitSettings(epochs)).resolve(rows, image).network.norm_decay

    assert decay(6000, 200) == 0.99
    assert decay(1200, 40) == pytest.approx(1 - 20 / 480)
    assert decay(1200, 1) == 0.5
    assert decay(1200, 1, "infogan(norm_decay=0.999)") == 0.999


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_builds_and_steps(name):
    settings = presets.preset(name)
    channels, side = (3, 64) if "celeba" in name else (3, 32) if "cifar" in name else (1, 28)
    if isinstance(settings.network, Wide):  # infogan has one width; the others are made narrow
        settings = settings.set_params(network__base_width=2)
    settings = settings.resolve(1000, (channels, side, side))
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
    vae = built((), likelihood=f"gaussian({variance}, {shape})")
    assert isinstance(vae.likelihood.variance, kind)
    x = torch.randn(3, 5)
    assert vae.likelihood.variance_of(vae.decoder(vae.encode(x).mean), x).shape == gammas


def test_penalties_by_name():
    names = ("mmd(1)", "adversarial(2, [8])", "code_norm(3)", "weight_norm(4)", "jacobian(5)")
    vae = built((), posterior="deterministic", penalties=names)
    assert [(r.name, r.weight) for r in vae.regularizers] == [
        ("mmd", 1.0),
        ("adversarial", 2.0),
        ("code_norm", 3.0),
        ("weight_norm", 4.0),
        ("jacobian", 5.0),
    ]
    assert [(r.name, r.weight) for r in built((), penalties="kl(4)").regularizers] == [("kl", 4.0)]
    assert not list(built((), posterior="deterministic").regularizers)


# networks of your own

MAKER = """
from torch import nn

def make(shapes):
    wide = shapes.event_shape[0]
    return Both(wide, shapes.encoder_outputs), Both(shapes.latent_dim, shapes.decoder_shape[0])

class Both(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.line = nn.Linear(inputs, outputs)

    def forward(self, x, c=None):
        return self.line(x)
"""


def make(shapes):
    hidden = (4,)
    return (
        MLPEncoder(shapes.event_shape, shapes.encoder_outputs, hidden=hidden),
        MLPDecoder(shapes.latent_dim, shapes.decoder_shape, hidden=hidden),
    )


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(60, 3))


def test_a_function_makes_the_networks_and_a_run_holds_weights_alone(rows, tmp_path, monkeypatch):
    (tmp_path / "my.py").write_text(MAKER)
    place = f"{tmp_path / 'my.py'}:make"
    model = TwoStageVAE(2, network=place, densities="gaussian", epochs=2, random_state=0).fit(rows)
    assert isinstance(model.trained_.vae.encoder.line, nn.Linear)
    model.save(tmp_path / "run")
    assert place in (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "my.py").write_text("raise RuntimeError('run by a folder')")
    with pytest.raises(RunFolderError, match="without their code"):
        vaelab.load(tmp_path / "run")
    (tmp_path / "my.py").write_text(MAKER)
    again = vaelab.load(tmp_path / "run", network=place)
    np.testing.assert_array_equal(again.transform(rows), model.transform(rows))


def test_functions_and_modules_go_where_names_go(rows, tmp_path):
    model = GaussianVAE(2, network=make, epochs=2, random_state=0).fit(rows)
    model.save(tmp_path / "run")
    np.testing.assert_array_equal(vaelab.load(tmp_path / "run", network=make).transform(rows), model.transform(rows))
    pair = make(specs.Shapes((3,), 2, 4, (3,)))
    before = [p.clone() for p in pair[0].parameters()]
    one, other = (GaussianVAE(2, network=pair, epochs=2, random_state=0).fit(rows) for _ in range(2))
    np.testing.assert_array_equal(one.transform(rows), other.transform(rows))
    assert all(torch.equal(a, b) for a, b in zip(before, pair[0].parameters(), strict=True))


@pytest.mark.parametrize("config", ["network: {place}", "network: {{kind: own, place: '{place}'}}"])
def test_a_file_never_names_code_that_is_run(rows, tmp_path, config):
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\ndef make(s): 1")
    GaussianVAE(2, network=make, epochs=1, random_state=0).fit(rows).save(tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    content = yaml.safe_load(path.read_text())
    line = config.format(place=f"{tmp_path / 'evil.py'}:make")
    content["settings"] |= yaml.safe_load(line) if line.startswith("network: {") else {"network": line[9:]}
    path.write_text(yaml.safe_dump(content))
    sealed(path)  # by someone who means harm
    with pytest.raises(RunFolderError):
        vaelab.load(tmp_path / "run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("nowhere.py:make", "no file nowhere.py"),
        ("vaelab.specs:absent", "can be imported"),
        ("vaelab.specs:__all__", "is no function"),
        (lambda shapes: 3, "returns int"),
        (nn.Linear(1, 1), "Linear"),
        ((nn.Linear(1, 1),), "tuple"),
    ],
)
def test_what_makes_no_networks_is_refused(rows, network, message):
    with pytest.raises(InputError, match=message):
        GaussianVAE(2, network=network, epochs=1).fit(rows)


# values of your own


@pytest.fixture
def own_values():
    """A likelihood and a density that this file defines, gone again afterwards."""
    before = [(axis, dict(axis.kinds())) for axis in (specs.Likelihood, specs.Density)]

    class Soft(specs.Likelihood):
        kind: ClassVar[str] = "soft"
        takes: ClassVar[str] = "numbers"

        def build(self, facts):
            return Bernoulli()

    class Corner(specs.Density):
        kind: ClassVar[str] = "corner"
        spread: float = Field(1.0, gt=0)

    class CornerLaw(LatentDensity):
        def __init__(self, size, spread):
            super().__init__()
            self.register_buffer("spread", torch.full((size,), spread))

        def draw(self, n, c, normals):
            return self.spread * torch.randn(n, len(self.spread), generator=normals.generator)

        def log_prob(self, z, c=None):
            return torch.distributions.Normal(0.0, self.spread).log_prob(z).sum(1)

    def rebuild(spec, state, site):
        return CornerLaw(site.settings.latent_dim, spec.spread)

    LAWS["corner"] = Law(
        check=lambda spec, shape: None, fit=lambda spec, codes, site, train: rebuild(spec, {}, site), rebuild=rebuild
    )
    yield
    del LAWS["corner"]
    for axis, kinds in before:
        axis._kinds.clear()
        axis._kinds.update(kinds)


def test_a_new_density_is_a_class_a_spec_and_a_row(own_values, rows, tmp_path):
    model = TwoStageVAE(2, network="mlp([4])", densities=("corner(spread=2)",), epochs=2, random_state=0).fit(rows)
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    np.testing.assert_array_equal(
        again.sample(4, density="corner", random_state=1), model.sample(4, density="corner", random_state=1)
    )
    assert set(model.code_scores_) == {"prior", "corner"}
    assert set(vaelab.compare_densities(model, rows, densities=["corner", "gaussian"]).scores) == {"corner", "gaussian"}
    assert "corner" in specs.densities.title_of("corner")


def test_a_new_likelihood_is_a_class_and_a_spec(own_values, rows):
    model = GaussianVAE(2, network="mlp([4])", likelihood="soft", epochs=2, random_state=0).fit(np.abs(rows) % 1)
    assert isinstance(model.trained_.vae.likelihood, Bernoulli)


def test_every_axis_says_what_it_has():
    for axis in AXES:
        with pytest.raises(InputError, match=next(iter(axis.kinds()))):
            axis.of("no such value")
        assert issubclass(axis, Value)


def test_a_second_stage_is_as_wide_as_its_codes_are_many():
    law = specs.SecondStage()
    assert [law.resolve(rows).hidden for rows in (500, 9_999, 10_000)] == [(256,) * 3, (256,) * 3, (1024,) * 3]
    assert specs.SecondStage((7,)).resolve(500).hidden == (7,)
    assert law.widths == (1024,) * 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Settings(latent_dim=0), "latent_dim=0"),
        (lambda: FitSettings(lr=float("inf")), "finite"),
        (lambda: FitSettings(epochs=True), "epochs=True"),
        (lambda: Settings(training={"epochs": 0}), "training.epochs=0"),
        (lambda: Settings(likelihood="gaussian(fixed(.inf))"), "value=inf"),
        (lambda: Settings(posterior=dict), "posterior=<class 'dict'>"),
        (lambda: Settings(compute=len), "compute="),
        (lambda: Settings(network="kl({a: [)"), "a value, such as|place"),
    ],
)
def test_settings_that_are_written_by_hand_are_explained_too(make, said):
    with pytest.raises(InputError, match=said) as refused:
        make()
    assert str(refused.value).count("Got") == 1
