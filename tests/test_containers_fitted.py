"""Estimators on containers: what is learned is what the array teaches, bit for bit."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import vaelab
from vaelab import ConditionalVAE, GaussianVAE, TwoStageVAE, VAEDetector
from vaelab.data import MappedArray, gather
from vaelab.data.containers import spool
from vaelab.errors import InputError

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = np.arange(200) % 2
BRIEF = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}


class Samples(Dataset):
    def __init__(self, x=X):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, place):
        return self.x[place], int(Y[place])


CONTAINERS = {
    "tensors": lambda: TensorDataset(torch.tensor(X), torch.tensor(Y)),
    "a set": Samples,
    "two workers": lambda: DataLoader(Samples(), batch_size=16, num_workers=2, shuffle=True, drop_last=True),
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("most", [spool.IN_MEMORY, 100])
def test_a_container_teaches_what_its_array_does(kind, most, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", most)
    expected = GaussianVAE(**BRIEF).fit(X)
    fitted = GaussianVAE(**BRIEF).fit(CONTAINERS[kind]())
    drawn = fitted.sample(4)
    assert isinstance(drawn, torch.Tensor)
    np.testing.assert_array_equal(drawn.numpy(), expected.sample(4))
    np.testing.assert_array_equal(fitted.transform(CONTAINERS[kind]()), expected.transform(X))
    np.testing.assert_array_equal(fitted.score_samples(CONTAINERS[kind]()), expected.score_samples(X))
    assert fitted.n_features_in_ == 3
    assert fitted.fit_transform(CONTAINERS[kind]()).shape == (200, 2)


def test_labels_are_conditions_where_they_are_asked_for():
    expected = ConditionalVAE(**BRIEF).fit(X, Y)
    fitted = ConditionalVAE(**BRIEF).fit(Samples())
    assert fitted.classes_ == ("0", "1")
    np.testing.assert_array_equal(fitted.score_samples(Samples()), expected.score_samples(X, Y))
    np.testing.assert_array_equal(fitted.reconstruct(Samples(), Y), expected.reconstruct(X, Y))
    other = ConditionalVAE(**BRIEF).fit(Samples(), 1 - Y)
    np.testing.assert_array_equal(other.transform(X, Y), ConditionalVAE(**BRIEF).fit(X, 1 - Y).transform(X, Y))
    with pytest.raises(InputError, match="without labels"):
        ConditionalVAE(**BRIEF).fit(TensorDataset(torch.tensor(X)))


def test_rows_on_disk_are_trained_on_where_they_are(tmp_path):
    np.save(tmp_path / "x.npy", X)
    for kind in (GaussianVAE, partial(TwoStageVAE, densities=("gaussian",))):
        expected, fitted = kind(**BRIEF).fit(X), kind(**BRIEF).fit(MappedArray(tmp_path / "x.npy"))
        np.testing.assert_array_equal(fitted.sample(4), expected.sample(4))
        np.testing.assert_array_equal(fitted.transform(MappedArray(tmp_path / "x.npy")), expected.transform(X))
    mixed = GaussianVAE(**BRIEF, likelihood="mixed").fit(MappedArray(tmp_path / "x.npy"))
    np.testing.assert_array_equal(mixed.sample(4), GaussianVAE(**BRIEF, likelihood="mixed").fit(X).sample(4))
    np.save(tmp_path / "bad.npy", np.where(X > 2, np.nan, X))
    np.save(tmp_path / "other.npy", X[:, :2])
    for wrong, message in (("bad.npy", "NaN"), ("other.npy", "2 features")):
        with pytest.raises(ValueError, match=message):
            fitted.transform(MappedArray(tmp_path / wrong))
    with pytest.raises(InputError, match="NaN"):
        GaussianVAE(**BRIEF).fit(MappedArray(tmp_path / "bad.npy"))


def test_images_of_a_loader_are_images():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    loader = DataLoader(Samples(pixels), batch_size=9)
    fitted = GaussianVAE(**BRIEF).fit(loader)
    assert fitted.sample(2).shape == (2, 1, 8, 8)
    assert fitted.sample(2).dtype == torch.uint8
    np.testing.assert_array_equal(fitted.reconstruct(loader), GaussianVAE(**BRIEF).fit(pixels).reconstruct(pixels))


def test_other_verbs_read_them_too():
    fitted = GaussianVAE(**BRIEF).fit(X)
    assert str(vaelab.compare(TensorDataset(torch.tensor(X[:100])), Samples(X[100:]))) == str(
        vaelab.compare(X[:100], X[100:])
    )
    ours, theirs = vaelab.diagnose(fitted, X), vaelab.diagnose(fitted, Samples())
    assert [verdict.name for verdict in ours.verdicts] == [verdict.name for verdict in theirs.verdicts]


@pytest.mark.parametrize("most", [spool.IN_MEMORY, 100])
def test_gaps_in_a_container_are_filled(most, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", most)
    gaps = X.copy()
    gaps[3, 1] = np.nan
    for likelihood in ("gaussian", "mixed"):
        fitted = GaussianVAE(**BRIEF, likelihood=likelihood).fit(X)
        filled = fitted.impute(Samples(gaps), k=5, random_state=0)
        np.testing.assert_array_equal(np.asarray(filled), fitted.impute(gaps, k=5, random_state=0))
        assert VAEDetector(GaussianVAE(**BRIEF)).fit(Samples()).predict(Samples()).shape == (200,)


def test_a_failure_leaves_the_estimator_as_it_was():
    fitted = GaussianVAE(**BRIEF).fit(X)
    before = fitted.transform(X)
    with pytest.raises(InputError, match="dictionaries of 'a', 'b'"):
        fitted.fit(DataLoader([{"a": row, "b": row} for row in X]))
    rows = (row for row in X)
    with pytest.raises(InputError, match="of unknown length"):
        fitted.fit(rows)
    assert len(list(rows)) == 200  # none was taken
    np.testing.assert_array_equal(fitted.transform(X), before)


def test_a_stream_is_fitted_by_its_first_rows():
    x, y = gather(((row, int(label)) for row, label in zip(X, Y, strict=True)), rows=120, y=True)
    np.testing.assert_array_equal(
        ConditionalVAE(**BRIEF).fit(x, y).transform(X, Y), ConditionalVAE(**BRIEF).fit(X[:120], Y[:120]).transform(X, Y)
    )
