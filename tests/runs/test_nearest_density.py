"""Which density samples come from after a training: likelihood chooses, and decoded draws have the last word."""

import sys

import pytest
import torch

from vaelab import runs, specs
from vaelab.data import from_arrays
from vaelab.latent import Comparison
from vaelab.runs.decoded import DecodedDraws
from vaelab.specs import Settings

stages = sys.modules[runs.train.__module__]
SETTINGS = Settings(2, "mlp([16])", training=specs.FitSettings(epochs=10), densities=("gaussian", "mixture_10"))


def clusters(n=900):
    source = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-3.0, 0.0, 0.0], [3.0, 0.0, 1.0], [0.0, 4.0, 0.0]])
    which = torch.randint(3, (n,), generator=source)
    return centres[which] + 0.2 * torch.randn(n, 3, generator=source)


@pytest.fixture(scope="module")
def data():
    return from_arrays(clusters(), clusters(50))


def _train(data, monkeypatch, choice, **changes):
    """Train, with likelihood made to choose one density."""
    compare = stages.compare_on_codes
    with monkeypatch.context() as patch:
        patch.setattr(
            stages, "compare_on_codes", lambda *given, **how: Comparison(compare(*given, **how).scores, choice)
        )
        return runs.train(data, SETTINGS.model_copy(update=changes))


def test_decoded_draws_overrule_a_likelihood_that_takes_a_worse_sampler(data, monkeypatch):
    trained = _train(data, monkeypatch, "gaussian")
    assert (trained.facts.best_density, trained.facts.nearer_than) == ("mixture_10", "gaussian")
    said = runs.findings(trained, runs.assess(trained, data.test))[-1]
    assert "Samples come from a mixture of 10" in said
    assert "than those of one Gaussian, which explains their codes best" in said


def test_what_likelihood_chooses_stays_where_no_draws_are_clearly_nearer(data, monkeypatch):
    trained = _train(data, monkeypatch, "mixture_10")
    assert (trained.facts.best_density, trained.facts.nearer_than) == ("mixture_10", None)
    few = _train(data, monkeypatch, "gaussian", held_out=0.04)
    assert (few.facts.best_density, few.facts.nearer_than) == ("gaussian", None)


def test_the_nearest_of_those_clearly_nearer_is_taken(data):
    trained = runs.train(data, SETTINGS)
    rows = trained.batches_of(data.train)
    draws = DecodedDraws(trained, rows, rows, 500, 0)
    far = torch.full((500, 3), 5.0).double()
    draws.sets = {"prior": far, "gaussian": draws.real[:500] + 0.8, "mixture_10": draws.real[:500] + 0.1}
    assert draws.nearer_than("prior", trained.densities) == "mixture_10"
    assert draws.nearer_than("gaussian", trained.densities) == "mixture_10"
    assert draws.nearer_than("mixture_10", trained.densities) == "mixture_10"


def test_a_density_that_is_nearer_by_chance_is_not_taken(data):
    trained = runs.train(data, SETTINGS)
    rows = trained.batches_of(data.train)
    draws = DecodedDraws(trained, rows, rows, 400, 0)
    alike = {"gaussian": draws.real[:400], "mixture_10": draws.real[400:800]}
    draws.sets = {"prior": draws.real[:400] + 3.0, **alike}
    for name in alike:
        assert draws.nearer_than(name, trained.densities) == name


def test_decoded_draws_of_a_table_have_its_noise():
    source = torch.Generator().manual_seed(0)
    x = torch.randn(400, 1, generator=source) @ torch.ones(1, 4) + torch.randn(400, 4, generator=source)
    data = from_arrays(x)
    trained = runs.train(data, SETTINGS.model_copy(update={"latent_dim": 1}))
    rows = trained.batches_of(data.train)
    draws = DecodedDraws(trained, rows, rows, 300, 0)
    draws.add("gaussian", trained.densities["gaussian"])
    spread = draws.sets["gaussian"].std(0).mean() / draws.real.std(0).mean()
    assert 0.85 < float(spread) < 1.15
