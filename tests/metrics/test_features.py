"""Extractors: never in training mode, one block at a time, kept on disk by content."""

import pytest
import torch
from torch import nn

from vaelab.errors import InputError
from vaelab.metrics.features import FeatureStore, Identity, Pca, extract, fingerprint_of, hash_of, streamed
from vaelab.metrics.moments import Moments


class _Normed(nn.Module):
    """Features of a row depend on the other rows of its batch, in training mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.modes = []

    def forward(self, x):
        self.modes.append((self.training, self.norm.training, torch.is_grad_enabled()))
        return self.norm(x)


class _Holder:
    """An extractor that holds a network instead of being one."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x):
        return self.network(x)


@pytest.mark.parametrize("wrap", [lambda n: n, _Holder])
def test_extractors_never_run_in_training_mode(wrap):
    network = _Normed().train()
    network.norm.eval()  # a mixture of modes is put back as it was
    before = network.norm.running_mean.clone()
    x = torch.randn(8, 3) + 5
    parts = torch.cat(list(extract(wrap(network), x.split(2))))
    assert network.modes == [(False, False, False)] * 4
    assert network.training
    assert not network.norm.training
    assert torch.equal(network.norm.running_mean, before)
    torch.testing.assert_close(parts, next(iter(extract(wrap(network), [x]))))


def test_one_block_is_held_at_a_time():
    alive = 0
    most = 0

    def blocks():
        nonlocal alive, most
        for i in range(5):
            alive += 1
            most = max(most, alive)
            yield torch.full((4, 3), float(i))
            alive -= 1

    moments = streamed(extract(Identity(), blocks()))
    assert most == 1
    assert moments.n == 20


def test_streamed_moments_are_those_of_all_rows():
    x = torch.randn(37, 4, dtype=torch.float64)
    whole, parts = Moments.of(x), streamed(x.split(5))
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.covariance, whole.covariance)


def test_features_on_disk_are_not_computed_again(tmp_path):
    calls = []

    def extractor(x):
        calls.append(len(x))
        return x.flatten(1) * 2

    extractor.fingerprint = "twice"
    x = torch.randn(6, 3)
    store = FeatureStore(tmp_path)
    first = torch.cat(list(extract(extractor, x.split(2), store=store)))
    assert calls == [2, 2, 2]
    again = torch.cat(list(extract(extractor, x.split(2), store=store)))
    assert calls == [2, 2, 2]
    assert torch.equal(first, again)
    x[5] += 1  # the content counts, not the object
    list(extract(extractor, x.split(2), store=store))
    assert calls == [2, 2, 2, 2]


def test_an_interrupted_extraction_goes_on(tmp_path):
    calls = []

    def extractor(x):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(x))
        return x

    extractor.fingerprint = "same"
    x = torch.randn(6, 3)
    folder = tmp_path / "unfinished"
    with pytest.raises(KeyboardInterrupt), FeatureStore.passing(folder) as store:
        list(extract(extractor, x.split(2), store=store))
    assert len(list(folder.iterdir())) == 2

    def counted(x):
        calls.append(len(x))
        return x

    counted.fingerprint = "same"
    calls.clear()
    with FeatureStore.passing(folder) as store:
        assert torch.equal(torch.cat(list(extract(counted, x.split(2), store=store))), x)
    assert calls == [2]
    assert not folder.exists()


def test_an_extractor_without_a_fingerprint_is_not_looked_up(tmp_path):
    x = torch.randn(4, 2)
    list(extract(lambda x: x, [x], store=FeatureStore(tmp_path)))
    (found,) = extract(lambda x: 2 * x, [x], store=FeatureStore(tmp_path))
    assert torch.equal(found, 2 * x)


def test_a_spoilt_file_is_replaced(tmp_path):
    store, x = FeatureStore(tmp_path), torch.randn(4, 2)
    list(extract(Identity(), [x], store=store))
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"nonsense")
    assert torch.equal(next(iter(extract(Identity(), [x], store=store))), x)
    assert file.stat().st_size > 8


def test_extractors_that_return_something_else_are_refused():
    x = torch.randn(4, 2)
    for wrong, words in (
        (lambda x: x[:2], "for 4 rows"),
        (lambda x: x.sum(1), "for 4 rows"),
        (lambda x: x.numpy(), "ndarray"),
        (lambda x: x / 0, "4 of 4 rows that are not finite"),
    ):
        with pytest.raises(InputError, match=words):
            list(extract(wrong, [x]))


def test_principal_components_are_those_of_the_singular_value_decomposition():
    x = torch.randn(50, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    pca = Pca.fit(x.split(7), 3)
    centred = x - x.mean(0)
    _, _, vectors = torch.linalg.svd(centred, full_matrices=False)
    scores = centred @ vectors[:3].T
    torch.testing.assert_close(pca(x).abs(), scores.abs() / scores.var(0).mean().sqrt())
    assert float(pca(x).var(0).mean()) == pytest.approx(1)
    torch.testing.assert_close(pca.axes, Pca.fit(x.split(11), 3).axes)  # signs too
    assert pca.fingerprint != Pca.fit([x], 2).fingerprint


def test_wide_rows_have_the_same_components_as_narrow_ones(monkeypatch):
    x = torch.randn(40, 30, dtype=torch.float64)
    narrow = Pca.fit(x.split(7), 5)
    monkeypatch.setattr("vaelab.metrics.features._WIDE", 20)
    wide = Pca.fit(x.split(7), 5)
    torch.testing.assert_close(wide.axes, narrow.axes)
    monkeypatch.setattr("vaelab.metrics.features._MOST_NUMBERS", 30 * 12)
    torch.testing.assert_close(Pca.fit(x.split(7), 5).axes, Pca.fit([x[:12]], 5).axes)


def test_principal_components_stop_at_the_rank():
    x = torch.randn(50, 2, dtype=torch.float64) @ torch.randn(2, 6, dtype=torch.float64)
    assert Pca.fit([x], 5).axes.shape == (6, 2)
    with pytest.raises(InputError, match="do not vary"):
        Pca.fit([torch.ones(5, 3)], 2)


def test_fingerprints_tell_extractors_apart():
    assert fingerprint_of(Identity()) == "identity"
    assert "no fingerprint" in fingerprint_of(lambda x: x)
    x = torch.arange(4.0)
    assert hash_of(x) != hash_of(x.view(2, 2))
    assert hash_of(x) != hash_of(x.double())
