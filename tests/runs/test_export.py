"""Files for other programs compute what the model does, in the user's units, for any number of rows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import ndtr, ndtri
from torch import nn
from torch.testing import assert_close

import vaelab
from helpers import small_vae
from nets.test_contract import FAMILIES, LATENT
from vaelab import specs
from vaelab.cli import main
from vaelab.data import Scaling
from vaelab.data.normal import cdf, quantile
from vaelab.data.units import Ties, Units
from vaelab.errors import InputError, MissingExtraError, VaelabError
from vaelab.latent import PriorDensity, SecondStage
from vaelab.latent.flow_matching import build_flow_matching
from vaelab.latent.from_noise import draws_of
from vaelab.latent.joint import JointMixture
from vaelab.latent.mixtures import Mixture
from vaelab.latent.per_class import ClassMixture
from vaelab.model import VAE, Diagonal, Gaussian, Standard
from vaelab.runs import Facts, Trained
from vaelab.runs.export import export
from vaelab.runs.graphs import function_of
from vaelab.specs import Settings

SOURCE = np.random.default_rng(0)
X = SOURCE.normal(size=(200, 2)) @ SOURCE.normal(size=(2, 4)) * [1, 10, 100, 1] + 0.3 * SOURCE.normal(size=(200, 4))
CLASSES = np.array(["a", "b", "c", "d"] * 50)
SHORT = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")


def table() -> pd.DataFrame:
    frame = pd.DataFrame(X, columns=list("pqrs"))
    frame["count"] = SOURCE.poisson(3, 200)
    frame["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(SOURCE.integers(0, 10**6, 200), unit="s")
    frame["kind"] = CLASSES
    frame["size"] = pd.Categorical(SOURCE.choice(["s", "m", "l"], 200), categories=["s", "m", "l"], ordered=True)
    frame.loc[::7, "p"] = np.nan
    frame.loc[::5, "kind"] = None
    return frame


TABLE = table()


@pytest.fixture(scope="module")
def two_stages():
    densities = ("gaussian", "mixture_10", "second_stage", specs.FlowMatching(steps=2, width=8, blocks=1))
    return vaelab.TwoStageVAE(**SHORT, densities=densities, score_draws=4).fit(X)


@pytest.fixture(scope="module")
def mixed():
    return vaelab.GaussianVAE(**SHORT, likelihood="mixed", score_draws=2).fit(TABLE)


def run(path, *given):
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    named = {port.name: np.asarray(value) for port, value in zip(session.get_inputs(), given, strict=True)}
    return torch.as_tensor(session.run(None, named)[0])


def bare(vae: VAE, shape: tuple[int, ...]) -> Trained:
    """A model of images in [0, 255] that was never trained."""
    facts = Facts(kind="image", event_shape=shape, rows=8, data_variance=1.0)
    scaling = Scaling(torch.tensor(0.0).double(), torch.tensor(255.0).double(), "uint8", "image", shape)
    return Trained(Settings(latent_dim=LATENT), facts, scaling, vae.eval(), {"prior": PriorDensity(vae.prior)})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_network_of_images_as_onnx(family, tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    shape, own = (3, 9, 11), FAMILIES[family]
    vae = VAE(own.encoder(shape, 0), own.decoder(shape, 0), latent_dim=LATENT, likelihood=Gaussian(link="sigmoid"))
    with torch.no_grad():
        vae.train()(torch.rand(8, *shape))  # running averages that are not those of a new network
    trained, x = bare(vae, shape), 255 * torch.rand(5, *shape)
    export(trained, tmp_path / "x.onnx", "reconstruct")
    for rows in (5, 1):
        assert_close(run(tmp_path / "x.onnx", x[:rows]), trained.reconstruct(x[:rows]), rtol=1e-5, atol=255e-5)


@pytest.mark.parametrize("density", ["prior", "gaussian", "mixture_10", "second_stage", "flow_matching"])
def test_every_sampler_as_onnx(two_stages, density, tmp_path):
    pytest.importorskip("onnxruntime")
    trained = two_stages.trained_
    (noise,) = trained.export(tmp_path / "s.onnx", density=density).inputs
    given = torch.randn(50, *noise.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = function_of(trained, "sample", density=density)(given)
    assert wanted.dtype == torch.float64
    scale = trained.scaling.scale.float()
    assert_close((run(tmp_path / "s.onnx", given) / scale).float(), (wanted / scale).float(), rtol=1e-5, atol=1e-5)


def test_a_sampler_from_the_prior_is_the_decoder_and_its_noise(two_stages):
    trained = two_stages.trained_
    noise = torch.randn(20, 6)
    with torch.no_grad():
        found = function_of(trained, "sample", density="prior")(noise)
    gamma = trained.vae.likelihood.variance.gamma
    wanted = trained.decode(noise[:, :2]) + trained.scaling.scale * (gamma.sqrt() * noise[:, 2:])
    assert_close(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("what", ["encode", "decode", "score"])
def test_the_other_functions_of_a_table_as_onnx(two_stages, what, tmp_path):
    pytest.importorskip("onnxruntime")
    codes = two_stages.transform(X)
    given, wanted = {
        "encode": (X, codes),
        "decode": (codes.astype(np.float32), two_stages.inverse_transform(codes)),
        "score": (X, two_stages.score_samples(X)),
    }[what]
    two_stages.export(tmp_path / "f.onnx", what)
    assert_close(run(tmp_path / "f.onnx", given), torch.as_tensor(wanted), rtol=1e-5, atol=1e-5, check_dtype=False)


def test_a_program_of_torch_has_its_description_inside(two_stages, tmp_path):
    two_stages.export(tmp_path / "s.pt2", density="mixture_10")
    said = {"vaelab.json": ""}
    program = torch.export.load(tmp_path / "s.pt2", extra_files=said).module()
    described = json.loads(said["vaelab.json"])
    assert described["density"] == "mixture_10"
    assert described["inputs"] == {"noise": {"shape": ["rows", 7], "dtype": "float32"}}
    noise = torch.randn(9, 7)
    with torch.no_grad():
        assert_close(program(noise), function_of(two_stages.trained_, "sample", density="mixture_10")(noise))


@pytest.mark.parametrize("what", ["encode", "score"])
def test_a_mixed_table_as_onnx(mixed, what, tmp_path):
    pytest.importorskip("onnxruntime")
    rows = mixed.schema_.to_tensor(mixed.schema_.without_apart(TABLE))
    wanted = mixed.transform(TABLE) if what == "encode" else mixed.score_samples(TABLE)
    mixed.export(tmp_path / "m.onnx", what)
    found = run(tmp_path / "m.onnx", rows)
    assert_close(found.double(), torch.as_tensor(wanted).double(), rtol=1e-5, atol=1e-5)


def test_samples_of_a_mixed_table_have_its_levels_and_grids(mixed):
    function = function_of(mixed.trained_, "sample")
    with torch.no_grad():
        drawn = function(torch.randn(500, *function.inputs[0].shape, generator=torch.Generator().manual_seed(0)))
    back = pd.DataFrame(mixed.trained_.returned(drawn))
    assert set(back["kind"]) <= set("abcd")
    assert set(back["size"]) <= {"s", "m", "l"}
    usual = mixed.sample(500, random_state=0)
    assert back["size"].value_counts(normalize=True)["s"] == pytest.approx((usual["size"] == "s").mean(), abs=0.1)
    assert drawn[:, 4].equal(drawn[:, 4].round())
    assert not bool(drawn.isnan().any())


def test_units_are_those_of_the_scaling(mixed):
    scaling = mixed.trained_.scaling
    assert scaling.marginals is not None
    units, rows = Units(scaling), mixed.schema_.to_tensor(mixed.schema_.without_apart(TABLE))
    far = torch.cat([rows, rows[:20].nan_to_num() + 1e4, rows[:20].nan_to_num() - 1e4])  # also beyond what was seen
    assert_close(units.to_net(far, torch.float64), scaling.to_net(far, dtype=torch.float64), equal_nan=True)
    assert_close(units.log_volume(far), scaling.log_volume_of(far))
    z = 2 * torch.randn(300, rows.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(units.from_net(z), scaling.from_net(z))


def test_what_other_columns_determine_is_set_in_the_file_too(tmp_path):
    source = np.random.default_rng(5)
    frame = pd.DataFrame({"net": source.normal(size=400).round(2), "tax": source.gamma(2, size=400).round(2)})
    frame["code"] = source.choice([3, 7, 20], 400)
    frame["name"] = frame["code"].map({3: "low", 7: "mid", 20: "top"})
    frame["total"] = (frame["net"] + frame["tax"]).round(2)
    frame["twice"] = 2 * frame["total"]
    frame.loc[::9, "tax"] = np.nan
    frame.loc[::9, ["total", "twice"]] = np.nan
    model = vaelab.GaussianVAE(**SHORT, likelihood="mixed").fit(frame)
    schema = model.schema_
    assert sum(column.tie is not None for column in schema.columns) == 3
    coded = schema.to_tensor(frame)
    coded[:50] += 0.37  # values that no row of the training has, and gaps among them
    assert_close(Ties(schema)(coded), schema.tied(coded), rtol=0, atol=1e-12, equal_nan=True)

    function = function_of(model.trained_, "sample")
    noise = torch.randn(300, *function.inputs[0].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = function(noise)
    assert_close(drawn, schema.tied(drawn), rtol=0, atol=0)
    assert_close(drawn[:, 0] + drawn[:, 1], drawn[:, 4], rtol=0, atol=1e-9)
    pytest.importorskip("onnxruntime")
    model.export(tmp_path / "m.onnx", "sample")
    found = run(tmp_path / "m.onnx", noise)
    assert_close(found, schema.tied(found), rtol=0, atol=1e-9)
    assert float((found - drawn).abs().gt(1e-6).double().mean()) < 0.05  # rounding decides between a few


def test_the_normal_law_from_elementary_operations():
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    assert_close(cdf(z), torch.as_tensor(ndtr(z.numpy())), rtol=2e-8, atol=2e-16)
    u = torch.cat([torch.logspace(-300, -2, 500, dtype=torch.float64), torch.linspace(0.01, 0.99, 999).double()])
    assert_close(quantile(u), torch.as_tensor(ndtri(u.numpy())), rtol=1e-13, atol=1e-13)


def laws():
    source = torch.Generator().manual_seed(0)
    factors = torch.randn(3, 2, 2, generator=source).tril() * 0.3 + torch.eye(2)
    mixture = Mixture(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[-3.0, 0], [0, 4], [5, -5]]), factors)
    other = Mixture(torch.ones(1), torch.tensor([[1.0, 1.0]]), factors[:1])
    second = small_vae(2, 2)
    matching = build_flow_matching(2, width=8, blocks=1, loc=torch.tensor([1.0, -1.0]), scale=torch.tensor([2.0, 0.5]))
    return {
        "mixture": (mixture, None),
        "classes": (ClassMixture([mixture, other]), torch.tensor([[0.0, 1.0]])),
        "joint": (_joint(source), torch.tensor([[0.5, -0.5]])),
        "second stage": (SecondStage(second.eval()), None),
        "flow matching": (matching, None),
    }


def _joint(source: torch.Generator) -> JointMixture:
    root = torch.randn(2, 4, 4, generator=source, dtype=torch.float64)
    spread = root @ root.mT + torch.eye(4)
    means = 2 * torch.randn(2, 4, generator=source, dtype=torch.float64)
    return JointMixture.of_joint(torch.tensor([0.4, 0.6]).double(), means, spread, latent_dim=2).float()


@pytest.mark.parametrize("name", laws())
def test_draws_from_noise_have_the_law_of_the_density(name):
    density, c = laws()[name]
    source, n = torch.Generator().manual_seed(2), 40_000
    c = None if c is None else c.expand(n, -1)
    draws = draws_of(density)
    with torch.no_grad():
        found = draws.of(torch.randn(n, draws.normals, generator=source), c)
        usual = density.sample(n, c, generator=source)
    scale = usual.std(0)
    assert_close(found.mean(0) / scale, usual.mean(0) / scale, rtol=0, atol=0.03)
    assert_close(found.T.cov() / scale.outer(scale), usual.T.cov() / scale.outer(scale), rtol=0, atol=0.04)
    for q in (0.05, 0.3, 0.7, 0.95):
        assert_close(found.quantile(q, 0) / scale, usual.quantile(q, 0) / scale, rtol=0, atol=0.06)


def test_classes_are_given_by_their_places(tmp_path):
    pytest.importorskip("onnxruntime")
    model = vaelab.ConditionalVAE(**SHORT, condition="conditional").fit(X, CLASSES)
    model.export(tmp_path / "e.onnx", "encode")
    places = np.array([model.classes_.index(kind) for kind in CLASSES], dtype=np.float64)
    wanted = torch.as_tensor(model.transform(X, CLASSES))
    assert_close(run(tmp_path / "e.onnx", X, places), wanted, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_points_of_a_sequence_and_the_windows_before_them(tmp_path):
    pytest.importorskip("onnxruntime")
    sequences = [SOURCE.normal(size=(4 + i % 3, 2)) for i in range(30)]
    model = vaelab.SequenceVAE(latent_dim=2, units=8, epochs=2, random_state=0).fit(sequences)
    signature = model.export(tmp_path / "e.onnx", "encode")
    split = model.as_dataset(sequences).train
    mean, std = (np.array([getattr(c, k) for c in model.trained_.conditioning.columns]) for k in ("mean", "std"))
    windows = split.c.index_select(0, torch.arange(len(split.x))).double().numpy()
    there = windows[..., -1:]
    windows[..., :-1] = (windows[..., :-1] * std + mean) * there
    assert windows.shape[1:] == signature.inputs[1].shape
    wanted = model.trained_.encode(split.x, split.c)
    assert_close(run(tmp_path / "e.onnx", split.x.double(), windows), wanted, rtol=1e-5, atol=1e-5)


def test_whitened_columns_are_scored_under_the_law_that_they_were_chosen_with(tmp_path):
    rows = np.random.default_rng(0).normal(size=(400, 1)) ** 3 * [1.0, 2.0, -1.0] + np.random.default_rng(1).normal(
        size=(400, 3)
    )
    model = vaelab.TwoStageVAE(**SHORT, densities=("mixture",)).fit(rows)
    trained = model.trained_
    trained.facts.lossless = True
    with torch.no_grad():
        found = function_of(trained, "score", score_draws=16)(torch.as_tensor(rows))
    assert_close(found.numpy(), model.score_samples(rows), rtol=1e-9, atol=1e-9)


class Counting(nn.Module):
    """A network whose code fixes the number of rows."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x, c=None):
        return self.layer(x) + torch.zeros(len(x), 1)


def test_what_cannot_be_exported_is_refused_in_words(two_stages, tmp_path):
    fixed = VAE(Counting(4, 4), Counting(2, 4), latent_dim=2, posterior=Diagonal(), prior=Standard(2))
    trained = Trained(
        Settings(latent_dim=2),
        Facts(kind="table", event_shape=(4,), rows=8, data_variance=1.0),
        Scaling.identity((4,)),
        fixed.eval(),
    )
    with pytest.raises(InputError, match=r"x.shape\[0\]"):
        trained.export(tmp_path / "x.pt2", "encode")
    for keywords, said in (
        ({"what": "dream"}, "one of encode, decode"),
        ({"format": "torch"}, r"\.pt2"),
        ({"format": "tf"}, "'onnx' or 'torch'"),
        ({"density": "flow"}, "one of auto, prior"),
    ):
        with pytest.raises(InputError, match=said):
            two_stages.export(tmp_path / "x.onnx", **keywords)
    with pytest.raises(InputError, match=r"\.onnx or \.pt2"):
        two_stages.export(tmp_path / "x.bin")
    points = vaelab.RegularizedAutoencoder(**SHORT).fit(X)
    with pytest.raises(InputError, match="a posterior with a variance"):
        points.trained_.export(tmp_path / "x.pt2", "score")
    flow = pytest.importorskip("zuko") and vaelab.latent.flow.build_flow(2, hidden=(8,), transforms=1)
    with pytest.raises(InputError, match="flow_matching"):
        draws_of(flow)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_computes_something_else_is_not_written(two_stages, tmp_path, monkeypatch):
    from vaelab.runs import export as module

    before = module._write_torch

    def wrong(*arguments):
        right = before(*arguments)
        return lambda given: right(given) + 1

    monkeypatch.setattr(module, "_write_torch", wrong)
    with pytest.raises(VaelabError, match="gives other numbers"):
        two_stages.export(tmp_path / "x.pt2", "encode")
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages_says_what_to_install(two_stages, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"vaelab\[export\]"):
        two_stages.export(tmp_path / "x.onnx")


def test_the_shell_says_what_a_file_takes(two_stages, tmp_path, capsys):
    two_stages.save(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "e.pt2"), "--what", "encode"]) == 0
    assert "x (n, 4) float64 → z (n, 2) float32" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "e.txt")]) == 2
