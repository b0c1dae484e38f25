"""`evaluate` and `compare`: from a model, or two sets of rows, to a report."""

import json
import math

import numpy as np
import pandas
import pytest
import torch

from vaelab import GaussianVAE, compare, evaluate, runs, specs
from vaelab.data import Dataset, TestSplit, TrainSplit, from_arrays, load
from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics.evaluator import Evaluator
from vaelab.metrics.inception_network import InceptionNetwork
from vaelab.metrics.report import TITLES
from vaelab.metrics.rows import quarter
from vaelab.runs.execution import execute, prepare
from vaelab.specs import MLP, Compute, FitSettings, Settings
from vaelab.verbs import Options

QUICK = Settings(
    latent_dim=2,
    network=MLP((16,)),
    training=FitSettings(epochs=2),
    compute=Compute(accelerator="cpu"),
    densities=(
        "gaussian",
        "mixture(components=2, covariance=full)",
        specs.SecondStage(hidden=(16,), training=FitSettings(epochs=2)),
    ),
)
DENSITIES = ("prior", "gaussian", "mixture_2", "second_stage")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("runs") / "digits", load("digits")
    keys = dict.fromkeys(("home", "image_size", "grey", "test_fraction", "label_column"))
    prepare(folder, data, QUICK, {**keys, "data": "digits", "test_fraction": 0.1})
    execute(folder, data)
    return folder


def _table(n=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[1.0, 0.5, -0.2, 0.0, 0.3], [0.0, 1.0, 0.4, -0.6, 0.2]], dtype=torch.float64)
    rows = torch.randn(n, 2, generator=generator, dtype=torch.float64) @ mixing
    return 5 + rows + 0.1 * torch.randn(n, 5, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def table_model():
    data = from_arrays(_table(), _table(130, seed=1))
    return runs.train(data, QUICK), data


def test_a_run_by_its_folder(digits_run, cache):
    options = Options(draws=2, likelihood_draws=3, likelihood_rows=30, cache=cache)
    report = evaluate(digits_run, options=options)
    rows = {reading.row for reading in report.readings}
    assert rows == {*DENSITIES, "reconstructions"} | {
        f"{p}, {w}" for p in ("spherical", "linear") for w in ("middle", "random")
    }
    assert {reading.measure for reading in report.readings} == {
        "frechet",
        "kernel",
        "precision",
        "recall",
        "density",
        "coverage",
    }
    assert {reading.protocol for reading in report.readings} == {"classifier-10k"}
    assert len({reading.comparable for reading in report.readings}) == 1
    assert all(reading.floor is not None for reading in report.readings)
    assert all(math.isfinite(reading.value) for reading in report.readings)
    errors = {number.measure for number in report.rows if number.row == "reconstructions"}
    assert errors == {"squared_error", "psnr", "ssim"}
    for name in DENSITIES:
        assert report.value(name, "bound") >= report.value(name, "elbo")
        parts = -report.value(name, "distortion") - report.value(name, "kl")
        assert report.value(name, "elbo") == pytest.approx(parts, rel=1e-6)
    assert any("17 grey levels, at least 15 of 255 apart" in note for note in report.notes)
    assert any("359 were there" in note for note in report.notes)
    json.dumps(report.as_dict(), allow_nan=False)


def test_the_same_evaluation_gives_the_same_numbers(digits_run, cache):
    options = Options(metrics=("frechet", "nll"), draws=2, densities=("mixture_2",), likelihood_draws=3, cache=cache)
    assert evaluate(digits_run, options=options).as_dict() == evaluate(digits_run, options=options).as_dict()


def test_protocols_that_differ_in_quantisation_only_share_all_else(digits_run, cache):
    options = Options(metrics=("frechet",), draws=2, densities=("mixture_2",), cache=cache)
    report = evaluate(digits_run, protocols=["classifier-10k", "classifier-10k+quantise=none"], options=options)
    first, second = report.readings
    assert first.hash != second.hash
    assert (first.extractor, first.reference) == (second.extractor, second.reference)
    assert 0 < abs(first.value - second.value) < 0.05 * first.value
    assert "mixture_2¹" in str(report)


def test_bits_are_of_dequantised_pixels(digits_run, cache):
    options = Options(metrics=("bits",), densities=("prior",), likelihood_draws=5, likelihood_rows=20, cache=cache)
    (number,) = evaluate(digits_run, options=options).rows
    assert number.measure == "bits"
    assert 5 < number.value < 10  # 8 is what uniform grey levels cost


def test_pixels_have_features_without_labels(digits_run, cache):
    data = load("digits")
    bare = Dataset(data.name, data.kind, TrainSplit(data.train.x), data.test)
    options = Options(metrics=("frechet",), draws=1, densities=("prior",), cache=cache)
    report = evaluate(digits_run, bare, options=options)
    assert {reading.protocol for reading in report.readings} == {"pca-10k"}
    assert any("not the rows" in note for note in report.notes)
    with pytest.raises(InputError, match="labelled"):
        evaluate(digits_run, bare, protocols=["classifier-10k"], options=options)


def test_a_table(table_model, cache):
    trained, data = table_model
    report = evaluate(trained, data, options=Options(draws=2, likelihood_draws=3, cache=cache))
    assert {reading.measure for reading in report.readings if reading.row == "prior"} == set(TITLES)
    assert {reading.protocol for reading in report.readings} == {"tabular"}
    assert {number.measure for number in report.rows if number.row == "reconstructions"} == {"squared_error"}
    assert not any("quantisation" in note for note in report.notes)


def test_the_decoders_noise_is_part_of_a_protocol(table_model, cache):
    trained, data = table_model
    options = Options(metrics=("energy",), draws=2, densities=("prior",), cache=cache)
    names = ["tabular+observation_noise=false", "tabular"]
    plain, noisy = evaluate(trained, data, protocols=names, options=options).readings
    assert plain.value != noisy.value
    assert plain.hash != noisy.hash


def test_the_elbo_is_that_of_the_assessment(table_model, cache):
    trained, data = table_model
    report = evaluate(trained, data, options=Options(metrics=("nll",), likelihood_draws=200, cache=cache))
    assert report.value("prior", "elbo") == pytest.approx(-runs.assess(trained, data.test).nelbo, abs=0.3)


def test_an_estimator(cache):
    x, held = _table().numpy(), _table(100, seed=2).numpy()
    model = GaussianVAE(latent_dim=2, network=MLP((8,)), epochs=2, random_state=0).fit(x)
    report = evaluate(model, from_arrays(x, held), options=Options(metrics=("energy",), draws=2, cache=cache))
    assert [reading.row for reading in report.readings] == ["prior"]


def _floats(data):
    return Dataset("floats", "image", TrainSplit(data.train.x / 255), TestSplit(data.test.x / 255))


def test_what_does_not_fit_is_refused(digits_run, table_model, cache, monkeypatch):
    trained, data = table_model
    monkeypatch.delenv("VAELAB_INCEPTION", raising=False)
    frame = pandas.DataFrame(_table()[:, :2].numpy(), columns=["a", "b"])
    named = GaussianVAE(latent_dim=1, network=MLP((4,)), epochs=1, random_state=0).fit(frame)
    for call, words in (
        (lambda: evaluate(trained), "without data"),
        (lambda: evaluate(object(), data), "model of type object"),
        (lambda: evaluate(digits_run, data), "of shape"),
        (lambda: evaluate(trained, data.test.x), "from_arrays"),
        (lambda: evaluate(digits_run, _floats(load("digits"))), "dtype float32"),
        (lambda: evaluate(named, from_arrays(frame[["b", "a"]], frame)), "in this order"),
        (lambda: evaluate(trained, data, options=Options(metrics=("fidelity",))), "fidelity"),
        (lambda: evaluate(trained, data, options=Options(metrics=("bits",))), "8-bit images"),
        (lambda: evaluate(trained, data, options=Options(densities=("flow",))), "flow"),
        (lambda: evaluate(trained, data, protocols=["ttur-10k"]), "for table data"),
        (lambda: evaluate(digits_run, options=Options(metrics=("fid",))), "without them, ask for frechet"),
        (lambda: evaluate(digits_run, protocols=["ttur-10k"]), "without Inception's weights"),
        (lambda: Options(draws=0), "draws=0"),
        (lambda: compare(_table(), _table(), options=Options(metrics=("nll",))), "need a model"),
        (lambda: compare(_table(), _table()[:, :4]), "same shape"),
        (lambda: compare(_table(), _table() * math.nan), "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_two_tables(cache):
    options = Options(cache=cache)
    same = compare(_table(300), _table(300, seed=1).numpy(), options=options)
    moved = compare(_table(300), _table(300, seed=1) + 0.5, options=options)
    for name in ("frechet", "energy", "sliced_wasserstein", "two_sample"):
        assert moved.value("generated", name) > same.value("generated", name)
    first, halves = (r for r in same.readings if r.measure == "frechet")
    assert (first.n, first.floor) == (300, None)  # there are no other 300 real rows
    assert (halves.n, halves.floor_n) == (150, 150)
    assert first.low < first.value < first.high


def test_left_over_real_rows_are_the_floor(cache):
    report = compare(_table(700), _table(300, seed=1), options=Options(metrics=("energy",), cache=cache))
    assert (report.readings[0].n, report.readings[0].floor_n) == (300, 300)


def test_sorted_rows_are_no_shift(cache):
    """The reference and the floor are drawn from all rows, not from either end of a sorted file."""
    x = _table(800)
    x = x[x[:, 0].argsort()]
    report = compare(x, _table(400, seed=1), options=Options(metrics=("energy",), cache=cache))
    assert report.readings[0].floor < 0.05
    assert report.readings[0].value < 0.05


def test_two_sets_of_images_in_classifier_features(cache):
    data = load("digits")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, data.test.x.shape, generator=generator, dtype=torch.uint8)
    options = Options(metrics=("frechet", "precision"), cache=cache)
    report = compare(data.test.x, noise, train=data, options=options)
    frechet, precision = report.readings
    assert frechet.protocol == "classifier-10k"
    assert frechet.value > 20 * frechet.floor
    assert precision.value < 0.5 < precision.floor
    with pytest.raises(InputError, match="uint8"):
        compare(data.test.x, noise / 255, train=data, options=options)


def test_the_floor_is_of_rows_that_the_features_have_not_seen():
    data = load("digits")
    learned, unseen = quarter(data.train)
    assert len(learned) + len(unseen) == len(data.train)
    assert len(unseen) == pytest.approx(len(data.train) / 4, abs=1)
    assert len(learned.labels) == len(learned)


def _weights(path):
    """A file of the right shape with random weights."""
    torch.manual_seed(0)
    state = {**InceptionNetwork().state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, path)
    return path


def test_inception_weights_from_a_path_are_told_by_their_hash(tmp_path, cache):
    weights = _weights(tmp_path / "w.pth")
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    options = Options(metrics=("frechet",), inception=weights, cache=cache)
    with pytest.raises(InputError, match="published") as refused:
        compare(x, x, options=options)
    name = str(refused.value).split("--protocol ")[1].rstrip(".")
    report = compare(x, x, protocols=[name], options=options)
    assert report.readings[0].value == pytest.approx(0, abs=1e-6)
    assert report.readings[0].title == "Fréchet ↓"  # not FID: the weights are not the published ones


def test_a_few_rows_have_the_measures_they_can_have(cache):
    report = compare(_table(30), _table(30, seed=1), options=Options(cache=cache))
    assert {reading.measure for reading in report.readings} == set(TITLES) - {"two_sample"}
    with pytest.raises(InputError, match="50"):
        compare(_table(30), _table(30, seed=1), options=Options(metrics=("two_sample",), cache=cache))
    assert {r.measure for r in compare(_table(4), _table(4, seed=1), options=Options(cache=cache)).readings} == {
        "frechet",
        "kernel",
        "sliced_wasserstein",
        "energy",
    }


def test_features_fitted_on_images_have_not_seen_the_reference(cache):
    """Of one law, precision and recall of two small sets of images agree with the floor's."""
    data = load("digits")
    x = data.train.x
    options = Options(metrics=("precision", "recall", "kernel"), cache=cache)
    report = compare(x[0:1200:2], x[1:1200:2], options=options)  # writers follow each other in the file
    for reading in report.readings:
        if reading.floor is not None:
            assert reading.value == pytest.approx(reading.floor, abs=0.15)
        assert reading.protocol == "pca-10k"
    assert abs(report.value("generated", "kernel")) < 0.5


def test_features_of_your_own(cache):
    options = Options(metrics=("energy",), extractor=lambda x: x[:, :2], cache=cache)
    (first, second) = compare(_table(300), _table(300, seed=1), options=options).readings
    assert first.protocol == second.protocol == "tabular+extractor=own"


def test_units_that_look_different_are_told(cache):
    x = load("digits").train.x[:120] / 255
    with pytest.warns(VaelabWarning, match="same units"):
        compare(2 * x - 1, x, options=Options(metrics=("frechet",), cache=cache))


def test_an_interrupted_evaluation_keeps_its_features_from_other_models(table_model, tmp_path, monkeypatch):
    trained, data = table_model
    options = Options(metrics=("energy",), draws=2, densities=("prior", "gaussian"), cache=tmp_path)
    original, calls = Evaluator.score, []

    def interrupted(self, row, *args, **kwargs):
        calls.append(row)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, row, *args, **kwargs)

    monkeypatch.setattr(Evaluator, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(trained, data, options=options)
    kept = sorted((tmp_path / "unfinished").rglob("*.safetensors"))
    assert kept
    monkeypatch.setattr(Evaluator, "score", original)
    other = runs.train(data, QUICK.model_copy(update={"seed": 1}))
    evaluate(other, data, options=options)
    assert sorted((tmp_path / "unfinished").rglob("*.safetensors")) == kept
    evaluate(trained, data, options=options)
    assert not list((tmp_path / "unfinished").rglob("*.safetensors"))
