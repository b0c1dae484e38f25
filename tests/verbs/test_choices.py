"""What is chosen on held-out rows: nothing that chooses has been fitted, and nothing random is drawn twice."""

from __future__ import annotations

import importlib

import pytest
import torch

from vaelab.data import from_arrays
from vaelab.latent import Mixture
from vaelab.model import VAE, FixedVariance, Gaussian
from vaelab.runs import decoded
from vaelab.runs.sample_distances import SampleDistance
from vaelab.verbs import densities as comparing

N, D = 100, 2
enhancing = importlib.import_module("vaelab.verbs.enhancement")  # the package has a function of that name


class Codes(torch.nn.Module):
    """Codes and means are the rows themselves, so that a row is known again in all that is made of it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, c=None):
        return torch.cat([x * self.weight, torch.full_like(x, -9.0)], 1)


class Same(torch.nn.Module):
    def forward(self, z, c=None):
        return z


def model():
    return VAE(Codes(), Same(), latent_dim=D, likelihood=Gaussian(FixedVariance(0.01)))


def rows():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.3, 2.0]) + 1


def known(x):
    """Numbers of the rows that these are."""
    distances = torch.cdist(x.double(), rows().double())
    assert distances.amin(1).max() < 1e-5, "no rows of the data"
    return set(distances.argmin(1).tolist())


@pytest.fixture
def fitted(monkeypatch):
    """Density → numbers of the rows that it was fitted on, and of those that its weights were chosen by."""
    found = {}

    def fit(law, trained, codes, apart):
        found[law.name] = known(codes.loc), None if apart is None else known(apart.loc)
        return Mixture.fit(codes, components=1, seed=0)

    monkeypatch.setattr(comparing, "fit_density", fit)
    monkeypatch.setattr(comparing, "check_densities", lambda *given: None)
    return found


def test_densities_are_fitted_weighed_and_scored_on_rows_apart(monkeypatch, fitted):
    scored = []
    score = comparing.row_scores
    monkeypatch.setattr(
        comparing, "row_scores", lambda d, codes, seed: (scored.append(codes), score(d, codes, seed=seed))[1]
    )
    names = ("gaussian", "flow", "second_stage")
    found = enhance(names).comparison
    test = known(scored[0].loc)
    assert (found.rows, found.held_out) == (80, 20) == (N - len(test), len(test))
    kept, weighed = fitted["gaussian"]
    assert (kept, weighed) == (set(range(N)) - test, None)
    for name in ("flow", "second_stage"):  # trained by gradient
        own, weighed = fitted[name]
        assert (own | weighed, own & weighed) == (kept, set())
        assert len(weighed) == 8
    variance = rows()[sorted(kept)].var(0, correction=0)
    assert found.trained.facts.code_variance == pytest.approx(float(variance.mean()), rel=0.01)


def enhance(names, **how):
    return enhancing.enhance(model(), from_arrays(rows()), densities=names, samples=60, **how)


@pytest.mark.parametrize(("gain", "best"), [(0.1, "gaussian"), (0.5, "mixture_10")])
def test_the_simplest_density_that_is_not_clearly_beaten_is_best(monkeypatch, fitted, gain, best):
    """Differences of ±1 about a gain, of 20 rows: two standard errors are 0.46."""
    noise = torch.tensor([1.0, -1.0]).repeat(10).double()
    base = torch.linspace(-3, 3, 20).double()
    given = {"prior": base - 5, "gaussian": base, "mixture_10": base + gain + noise}
    monkeypatch.setattr(comparing, "row_scores", lambda d, codes, seed: {name: given[name] for name in d})
    found = enhance(("prior", "gaussian", "mixture_10")).comparison
    assert (list(found.scores), found.best) == (["mixture_10", "gaussian", "prior"], best)
    assert found.trained.facts.best_density == best
    second = found.scores["gaussian"]
    assert second.behind == pytest.approx(gain)
    assert second.behind_error == pytest.approx((20 / 19) ** 0.5 / 20**0.5)


def test_samples_are_compared_with_rows_that_nothing_was_fitted_on(monkeypatch, fitted):
    seen, keys = [], []
    distances, stream = decoded.distances_of, decoded.stream
    monkeypatch.setattr(
        decoded, "distances_of", lambda *given, **how: (seen.append(given), distances(*given, **how))[1]
    )
    monkeypatch.setattr(decoded, "stream", lambda *key: (keys.append(key), stream(*key))[1])
    enhance(("gaussian", "mixture_10"))
    ((sets, reference),) = seen
    kept, _ = fitted["gaussian"]
    assert known(reference) == set(range(N)) - kept
    assert known(sets["real rows"]) <= kept
    assert len(known(sets["real rows"])) == 60
    assert len({key[1:] for key in keys}) == len(keys), "two parts share their random numbers"


@pytest.mark.parametrize(("names", "best"), [(("gaussian",), "gaussian"), (("gaussian", "mixture_10"), "prior")])
def test_the_nearest_density_is_taken_if_clearly_nearer_for_so_many(monkeypatch, fitted, names, best):
    """A gain of 2.1 standard errors is clear for one candidate, and not for the best of two."""
    near = SampleDistance(energy=1.0, error=0.1, gain=2.1, gain_error=1.0)
    far = SampleDistance(energy=2.0, error=0.1, gain=2.05, gain_error=1.0)
    prior = SampleDistance(energy=3.0, error=0.1)
    given = {"gaussian": near, "mixture_10": far}
    monkeypatch.setattr(decoded, "distances_of", lambda sets, *_, **__: {name: given.get(name, prior) for name in sets})
    found = enhance(names)
    assert (found.best, found.better) == (best, best != "prior")
    assert list(found.distances) == [*names, "prior"]
