"""What a training chooses, it chooses on rows that nothing was fitted to: where training rows would say otherwise."""

import math
import sys

import pytest
import torch

from vaelab import runs, specs
from vaelab.data import Dataset, TestSplit, TrainSplit
from vaelab.latent import Codes, LatentDensity, simplest_of_best
from vaelab.latent.densities import clearly_better
from vaelab.latent.mixtures import choose
from vaelab.runs import Draws
from vaelab.specs import Settings

training = sys.modules[runs.train.__module__]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Memory(LatentDensity):
    """Remembers the codes that it was fitted to: sure of them, and of no others."""

    def __init__(self, z):
        super().__init__()
        self.register_buffer("z", z)

    def draw(self, n, c, normals):
        return self.z[:n]

    def log_prob(self, z, c=None):
        near = (z[:, None] - self.z.to(z)).square().sum(2).min(1).values
        return torch.where(near < 1e-6, 50.0, -1e6)


def still(z):
    return Codes(z, torch.zeros_like(z))


def test_densities_are_compared_on_codes_that_none_was_fitted_to(monkeypatch):
    x = torch.randn(600, 3, generator=generator()).double()  # of which enough are held out to choose by them alone
    data = Dataset("x", "table", TrainSplit(x), TestSplit(x[:9]))
    monkeypatch.setattr(training, "fit_density", lambda law, trained, codes, *_, **__: Memory(codes.loc))
    brief = specs.FitSettings(epochs=1)  # without noise a training code comes back as it was
    settings = Settings(2, "mlp([4])", posterior="deterministic", training=brief, densities="gaussian", held_out=0.2)
    trained = runs.train(data, settings)
    assert trained.facts.best_density == "prior"
    assert trained.facts.code_scores["gaussian"] < trained.facts.code_scores["prior"]
    assert not trained.facts.scored_on_training
    trained = runs.train(data, settings.set_params(held_out=0.0))
    assert trained.facts.scored_on_training
    assert trained.facts.best_density == "gaussian", "the case is one that training codes decide otherwise"


def test_where_few_codes_are_held_out_all_of_them_choose_between_plain_laws():
    """Ten codes of two clusters do not tell a mixture from N(0, I) of their moments; two hundred do."""
    z = torch.randn(200, 2, generator=generator()) * 0.6
    z[:, 0] += 0.8 * torch.tensor([-1.0, 1.0]).repeat(100)
    trained = runs.train(
        Dataset("x", "table", TrainSplit(torch.randn(60, 2, generator=generator()).double()), TestSplit(z[:0])),
        Settings(2, "mlp([4])", training=specs.FitSettings(epochs=1), densities=("gaussian", "mixture")),
    )
    codes, held_out = still(z[:190]), still(z[190:])
    training.fit_densities(trained, codes, held_out)
    assert training.compare_on_codes(trained.densities, held_out).best == "prior", "the case is one of too few codes"
    assert trained.facts.best_density == "mixture"


def test_the_size_of_a_mixture_is_chosen_on_codes_that_it_was_not_fitted_to():
    """Whatever remembers more looks better on its own codes; on others it does not, and the smallest is taken."""

    class Sized(Memory):
        def __init__(self, codes, k):
            super().__init__(codes.loc)
            self.k = k

        def log_prob(self, z, c=None):
            known = torch.cdist(z, self.z.to(z)).min(1).values < 1e-6
            return torch.where(known, float(self.k), -float(self.k)) + 0.01 * torch.randn(len(z), generator=generator())

    codes = still(torch.randn(400, 2, generator=generator()))
    assert choose(lambda part, k, _: Sized(part, k), codes, components=None, covariance=None, seed=0).k == 1


def test_a_larger_mixture_has_to_be_clearly_better():
    """A gain that is smaller than its noise is none, in the choice of a size as in that of a density."""
    noise = torch.randn(80, generator=generator()).double()
    noise = noise - noise.mean() + 0.05  # better by less than half a standard error
    assert not clearly_better(noise, torch.zeros(80).double())
    assert clearly_better(noise + 1, torch.zeros(80).double())
    assert simplest_of_best({"simple": torch.zeros(80).double(), "complex": noise}) == "simple"
    assert simplest_of_best({"simple": torch.zeros(80).double(), "complex": noise + 1}) == "complex"

    class Fitted(Memory):
        def __init__(self, codes, k):
            super().__init__(codes.loc)
            self.k = k

        def log_prob(self, z, c=None):
            return torch.zeros(len(z)) if self.k == 1 else noise.float()[: len(z)]

    codes = still(torch.randn(400, 2, generator=generator()))
    assert choose(lambda part, k, _: Fitted(part, k), codes, components=None, covariance=None, seed=0).k == 1


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_scores_and_samples_are_in_the_units_of_the_data(scale):
    """A density of x = s y is that of y less d log s; samples are s times as wide."""
    y = torch.randn(300, 3, generator=generator()).double() + 5
    settings = Settings(2, "mlp([4])", training=specs.FitSettings(epochs=3), densities=(), held_out=0.0)
    noise = torch.randn(4, 2, generator=generator(1))

    def trained(x):
        return runs.train(Dataset("x", "table", TrainSplit(x), TestSplit(x[:9])), settings)

    one, other = trained(y), trained(scale * y)
    change = one.bound(y[:20], noise) - other.bound(scale * y[:20], noise)
    torch.testing.assert_close(change, torch.full((20,), 3 * math.log(scale)).double(), atol=1e-3, rtol=1e-3)
    drawn = other.sample(50, how=Draws("prior", seed=3))
    torch.testing.assert_close(drawn, scale * one.sample(50, how=Draws("prior", seed=3)), rtol=1e-3, atol=1e-3 * scale)
    assert (drawn.mean(0) / scale - 5).abs().max() < 1
