"""The classifier: what it learns, that its features are functions of one row, and its cache."""

import math

import numpy as np
import pytest
import torch

from vaelab import storage
from vaelab.data import MappedArray, Scaling, as_batches, load
from vaelab.errors import InputError
from vaelab.metrics import classifier as module
from vaelab.metrics.classifier import Classifier, train_classifier
from vaelab.training import FitSettings, Hook, mean_objective


class Count(Hook):
    """How many trainings were started."""

    def __init__(self):
        self.trainings = 0

    def start(self, start):
        self.trainings += 1


@pytest.fixture
def _short(monkeypatch):
    """Few steps."""
    monkeypatch.setattr(module, "_LEAST_STEPS", 4)


def two_blobs(n: int = 64, d: int = 3, *, distance: float = 8.0):
    labels = torch.arange(n) % 2
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0)) + distance * labels[:, None]
    return x, labels


def trained(x, labels, **options):
    scaling = Scaling.fit(x, "image" if len(x.shape) == 4 else "table")
    return train_classifier(x, labels, scaling, classes=2, **options), scaling


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 40), (1, 28, 28), (2, 15, 17), (3, 64, 64), (7,), (1,)])
def test_every_shape_gives_features_and_a_cross_entropy_with_gradients(shape):
    network = Classifier(shape, 5, width=6)
    x, c = torch.rand(4, *shape), torch.tensor([0, 4, 2, 4])
    assert network.features(x).shape == (4, 6)
    assert network.noise_shape == (0,)
    network.eval()
    objective = network(x, c)
    logits = network.head(network.features(x)).detach().double()
    direct = [
        math.log(sum(math.exp(v) for v in row.tolist())) - float(row[k]) for row, k in zip(logits, c, strict=True)
    ]
    assert objective.distortion.tolist() == pytest.approx(direct, abs=1e-5)
    assert objective.penalties == {}
    assert objective.readings["accuracy"].tolist() == (logits.argmax(1) == c).double().tolist()
    objective.total.backward()
    assert all(p.grad is not None for p in network.parameters())


def test_features_have_unit_scale_and_are_not_zero():
    x, labels = two_blobs(256)
    network, scaling = trained(x, labels)
    features = network.features(scaling.to_net(x))
    assert float((features.abs() < 1e-3).double().mean()) < 0.05
    before_slope = torch.where(features < 0, features / 0.2, features)
    torch.testing.assert_close(before_slope.std(0), torch.ones(64), rtol=0.15, atol=0)


def test_digits_are_classified():
    digits = load("digits")
    scaling = Scaling.fit(digits.train.x, "image")
    network = train_classifier(digits.train.x, digits.train.labels, scaling, classes=10)
    found = mean_objective(network, as_batches(digits.test.x, digits.test.labels, scaling))
    assert found["accuracy"] > 0.97
    assert found["loss"] == found["distortion"] < 0.15


def test_a_table_is_classified_and_standardised():
    x, labels = two_blobs(128)
    scale = torch.tensor([1.0, 1e4, 1e-4])
    network, scaling = trained(x * scale + 1e5 * scale, labels)
    fresh, truth = two_blobs(50)
    found = mean_objective(network, as_batches(fresh * scale + 1e5 * scale, truth, scaling))
    assert found["accuracy"] == 1


@pytest.mark.usefixtures("_short")
def test_features_of_a_row_do_not_depend_on_its_batch_even_in_training_mode():
    x = torch.rand(40, 1, 6, 6)
    network, _ = trained(x, torch.arange(40) % 2)
    assert not any(p.requires_grad for p in network.parameters())
    before = network.fingerprint
    parent = torch.nn.Sequential(network)
    for change in (network.train, parent.train):
        change()
        assert not any(m.training for m in network.modules())
        together = network.features(x)
        torch.testing.assert_close(torch.cat([network.features(row[None]) for row in x]), together)
        torch.testing.assert_close(network.features(torch.cat([x[:3], 9 * x[:9]]))[:3], together[:3])
    assert network.fingerprint == before
    # a check that the condition is not empty: one that is not frozen does depend on its batch
    loose = Classifier((1, 6, 6), 2)
    assert not torch.allclose(loose.features(x[:2]), loose.features(x)[:2], atol=1e-3)


@pytest.mark.usefixtures("_short")
def test_the_second_call_loads_what_the_first_one_trained(tmp_path):
    x, labels = two_blobs()
    count = Count()
    first, scaling = trained(x, labels, cache=tmp_path, hooks=[count])
    torch.manual_seed(5)
    second, _ = trained(x, labels, cache=tmp_path, hooks=[count])
    assert count.trainings == 1
    assert second.fingerprint == first.fingerprint
    assert not second.train().training
    assert not any(p.requires_grad for p in second.parameters())
    torch.testing.assert_close(second.features(scaling.to_net(x)), first.features(scaling.to_net(x)), rtol=0, atol=0)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("_short")
def test_each_thing_the_weights_depend_on_has_a_file_of_its_own(tmp_path, monkeypatch):
    x, labels = two_blobs()
    scaling = Scaling.fit(x, "table")
    changed = x.clone()
    changed[7, 1] += 1
    calls = [
        (x, labels, scaling, 2, 0),
        (changed, labels, scaling, 2, 0),
        (x, 1 - labels, scaling, 2, 0),
        (x, labels, Scaling.fit(2 * x, "table"), 2, 0),
        (x, labels, scaling, 3, 0),
        (x, labels, scaling, 2, 1),
    ]
    for done, (rows, c, units, classes, seed) in enumerate(calls, 1):
        train_classifier(rows, c, units, classes=classes, seed=seed, cache=tmp_path)
        assert len(list(tmp_path.iterdir())) == done
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    train_classifier(x, labels, scaling, classes=2, cache=tmp_path)
    monkeypatch.setattr(module, "CLASSIFIER_SETTINGS", FitSettings(lr=1e-2))
    train_classifier(x, labels, scaling, classes=2, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == len(calls) + 2


@pytest.mark.usefixtures("_short")
@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "weights", "tensors"])
def test_a_spoilt_file_is_trained_again_and_replaced(tmp_path, damage):
    x, labels = two_blobs()
    first, _ = trained(x, labels, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    tensors, meta = storage.load_tensors(file)
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "foreign":
        storage.save_tensors(file, tensors, {})
    elif damage == "weights":
        storage.save_tensors(file, tensors | {"head.bias": tensors["head.bias"] + 1}, meta)
    else:
        storage.save_tensors(file, {"head.bias": tensors["head.bias"]}, meta)
    count = Count()
    again, _ = trained(x, labels, cache=tmp_path, hooks=[count])
    assert count.trainings == 1
    assert again.fingerprint == first.fingerprint
    assert file.read_bytes() == whole
    trained(x, labels, cache=tmp_path, hooks=[count])
    assert count.trainings == 1


@pytest.mark.usefixtures("_short")
def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path):
    x, labels = two_blobs()
    (tmp_path / "taken").write_text("a file where the folder should be")
    network, _ = trained(x, labels, cache=tmp_path / "taken")
    assert network.features(x).shape == (64, 64)


@pytest.mark.usefixtures("_short")
def test_rows_on_disk_give_the_same_classifier(tmp_path):
    x = torch.randint(0, 256, (50, 1, 5, 5), dtype=torch.uint8)
    labels = torch.arange(50) % 2
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = MappedArray(tmp_path / "x.npy")
    in_memory, _ = trained(x, labels, cache=tmp_path / "cache")
    count = Count()
    on_disk, _ = trained(mapped, labels, cache=tmp_path / "cache", hooks=[count])
    assert count.trainings == 0, "the same content has the same key"
    assert on_disk.fingerprint == in_memory.fingerprint
    assert trained(mapped, labels)[0].fingerprint == in_memory.fingerprint


@pytest.mark.usefixtures("_short")
def test_fingerprints_tell_seeds_apart_and_global_randomness_is_left_alone():
    x, labels = two_blobs()
    state = torch.get_rng_state()
    first, same, other = (trained(x, labels, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert same.double().fingerprint == first.fingerprint
    with torch.no_grad():
        first.head.bias[0] += 1e-3
    assert first.fingerprint != same.fingerprint


def test_steps_grow_with_the_rows():
    for rows, epochs in ((60_000, 4), (1438, 40), (50, 401), (1_000_000, 3)):
        assert module._settings(rows).epochs == epochs


def test_wrong_input_is_refused_before_training():
    x, labels = two_blobs(20)
    scaling = Scaling.fit(x, "table")
    cases = [
        (None, 2, "rows without labels"),
        (labels[:5], 2, r"labels of shape \(5,\) for 20 rows"),
        (labels[:, None], 2, "for 20 rows"),
        (labels.double(), 2, "float64"),
        (labels * 0, 2, "1 different label"),
        (labels, 1, "classes=1"),
        (labels + 1, 2, r"labels in \[1, 2\]"),
        (labels - 1, 2, r"labels in \[-1, 0\]"),
    ]
    count = Count()
    for wrong, classes, message in cases:
        with pytest.raises(InputError, match=message):
            train_classifier(x, wrong, scaling, classes=classes, hooks=[count])
    with pytest.raises(InputError, match="Name the column"):
        train_classifier(x, None, scaling, classes=2)
    assert count.trainings == 0
    for shape in ((1, 3, 8), (8, 8), (0,), ()):
        with pytest.raises(InputError, match="H, W ≥ 4"):
            Classifier(shape, 2)
    with pytest.raises(InputError, match="classes=1"):
        Classifier((3,), 1)
    with pytest.raises(InputError, match="no classes"):
        Classifier((3,), 2)(x)
    with pytest.raises(InputError, match=r"rows of shape \(2,\)"):
        Classifier((3,), 2).features(x[:, :2])


@pytest.mark.usefixtures("_short")
def test_any_row_that_differs_is_another_training(tmp_path):
    x, labels = two_blobs()
    count = Count()
    trained(x, labels, cache=tmp_path, hooks=[count])
    changed = x.clone()
    changed[len(x) // 2] += 1
    trained(changed, labels, cache=tmp_path, hooks=[count])
    assert count.trainings == 2
