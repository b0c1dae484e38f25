"""`evaluate` against direct computations: which rows, draws and paths its numbers are of."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from vaelab import runs
from vaelab.data import content_hash, from_arrays
from vaelab.metrics.likelihood import Dequantised, importance_weighted_bounds
from vaelab.metrics.rows import quarter
from vaelab.runs.sample_distances import distances_of
from vaelab.specs import MLP, Compute, FitSettings, Settings
from vaelab.verbs import Options, evaluate
from vaelab.verbs.grouping import by_label

module = importlib.import_module("vaelab.verbs.evaluation")
QUICK = Settings(
    latent_dim=2,
    network=MLP((8,)),
    training=FitSettings(epochs=2),
    compute=Compute(accelerator="cpu"),
    densities=(),
)


def trained_on(train, test):
    data = from_arrays(train, test)
    return runs.train(data, QUICK), data


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (160, 1, 3, 3), generator=generator, dtype=torch.uint8)
    return trained_on(pixels[:100], pixels[100:])


@pytest.fixture(scope="module")
def table():
    x = torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 2
    return trained_on(x[:400], x[400:])


def test_bits_are_of_pixels_plus_uniform_noise_of_one_grey_level(images, tmp_path):
    trained, data = images
    (found,) = evaluate(trained, data, options=Options(metrics=("bits",), likelihood_draws=4, cache=tmp_path)).rows
    rows = Dequantised(trained.batches_of(data.test), 1 / 255)
    bound = importance_weighted_bounds(trained.vae, rows, densities=trained.densities, draws=4).bound["prior"]
    assert found.value == pytest.approx(float((9 * math.log(255) - bound).mean()) / (9 * math.log(2)))


def test_reconstructions_are_compared_in_the_networks_units(images, table, tmp_path):
    for (trained, data), scale in ((images, 255.0), (table, table[1].train.x.std(0, correction=0))):
        report = evaluate(trained, data, options=Options(metrics=("reconstruction",), draws=1, cache=tmp_path))
        x = data.test.x.double()
        wanted = (((trained.reconstruct(data.test.x).double() - x) / scale) ** 2).flatten(1).sum(1).mean()
        assert report.value("reconstructions", "squared_error") == pytest.approx(float(wanted), rel=1e-4)


def test_likelihoods_are_of_rows_at_random(table, tmp_path):
    trained, data = table
    options = Options(metrics=("nll",), likelihood_draws=1, likelihood_rows=20, cache=tmp_path)
    found = evaluate(trained, data, options=options).rows[0]
    assert found.n == 20
    assert found.reference != content_hash(data.test.x[:20])


def test_every_block_of_every_draw_has_random_numbers_of_its_own(monkeypatch, table, tmp_path):
    keys, stream = [], module.stream
    monkeypatch.setattr(module, "stream", lambda *key: (keys.append(key[1:]), stream(*key))[1])
    monkeypatch.setattr(module, "BLOCK", 40)
    trained, data = table
    evaluate(trained, data, options=Options(metrics=("energy",), draws=2, cache=tmp_path))
    assert len(keys) == len(set(keys)) == 2 * 3


def test_paths_are_taken_half_way_or_anywhere(monkeypatch, table, tmp_path):
    taken = []

    def path(a, b, t):
        taken.append(t)
        return a

    monkeypatch.setattr(module, "_PATHS", {"linear": path})
    trained, data = table
    evaluate(trained, data, options=Options(metrics=("interpolation",), draws=1, cache=tmp_path))
    middle, anywhere = taken
    assert middle == 0.5
    assert anywhere.shape == (100,)
    assert 0 <= float(anywhere.min()) < 0.2 < 0.8 < float(anywhere.max()) <= 1


def test_the_floor_is_of_rows_that_features_and_reference_are_not_of(monkeypatch, table, tmp_path):
    given = {}

    def stop(chosen, extractor, reference, *, floor, **_):
        given.update(reference=torch.cat(list(reference())), floor=torch.cat(list(floor())))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "Evaluator", stop)
    trained, data = table
    with pytest.raises(KeyboardInterrupt):
        evaluate(trained, data, options=Options(metrics=("energy",), cache=tmp_path))
    sets = {name: {tuple(row) for row in x.tolist()} for name, x in given.items()}
    learned, unseen = (
        {tuple(row) for row in trained.scaling.to_net(part.x, dtype=torch.float64).tolist()}
        for part in quarter(data.train)
    )
    assert sets["floor"] <= unseen
    assert not sets["floor"] & (learned | sets["reference"])


def test_groups_keep_the_names_of_their_classes_where_one_is_missing():
    found = by_label(torch.tensor([2, 0, 2]), 3, ("a", "b", "c"))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "a": [False, True, False],
        "c": [True, False, True],
    }


def test_errors_of_distances_are_those_of_their_influences():
    """Each row's influence on 2 E‖s − r‖ − E‖s − s'‖ − E‖r − r'‖, by double loops."""
    generator = torch.Generator().manual_seed(0)
    prior, other, real = (
        torch.randn(n, 2, dtype=torch.float64, generator=generator) * s for n, s in ((7, 3), (6, 1), (5, 1))
    )

    def mean_distance(row, rows, skip=None):
        parts = [float((row - one).norm()) for j, one in enumerate(rows) if j != skip]
        return sum(parts) / len(parts)

    def influences(rows):
        own = [2 * (mean_distance(row, real) - mean_distance(row, rows, i)) for i, row in enumerate(rows)]
        back = [2 * (mean_distance(row, rows) - mean_distance(row, real, i)) for i, row in enumerate(real)]
        return torch.tensor(own, dtype=torch.float64), torch.tensor(back, dtype=torch.float64)

    def square(values):
        return float(values.var()) / len(values)

    (of_prior, back_prior), (of_other, back_other) = influences(prior), influences(other)
    found = distances_of({"prior": prior, "other": other}, real)["other"]
    assert found.error == pytest.approx((square(of_other) + square(back_other)) ** 0.5)
    wanted = square(of_other) + square(of_prior) + square(back_prior - back_other)
    assert found.gain_error == pytest.approx(wanted**0.5)
