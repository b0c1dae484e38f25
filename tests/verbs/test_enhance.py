"""`enhance`: it gains where the aggregated posterior is not the prior, and claims nothing where it is."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from vaelab import ConditionalVAE, GaussianVAE, enhance, load, runs, specs
from vaelab.data import ArrayBatches, from_arrays
from vaelab.errors import InputError
from vaelab.metrics import energy_distance
from vaelab.model import VAE, Deterministic, FixedVariance, Gaussian
from vaelab.runs import Draws
from vaelab.runs.sample_distances import SampleDistance, distances_of, needed_errors
from vaelab.specs import MLP
from vaelab.verbs import densities as comparing
from vaelab.verbs.densities import seconds_of
from vaelab.verbs.subject import subject_of

FAST = ("gaussian", "mixture_10")
PLANE = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])


class Coordinates(nn.Module):
    """Encoder: the first two columns, and log σ unless it has none."""

    def __init__(self, noise=None):
        super().__init__()
        self.weight, self.noise = nn.Parameter(torch.ones(())), noise

    def forward(self, x, c=None):
        z = x[:, :2] * self.weight
        return z if self.noise is None else torch.cat([z, torch.full_like(z, float(np.log(self.noise)))], 1)


class Plane(nn.Module):
    def forward(self, z, c=None):
        return z @ PLANE.to(z)


def flat(noise=0.05, image=False):
    encoder, decoder = Coordinates(noise), Plane()
    if image:
        encoder, decoder = nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, (3, 1, 1)))
        encoder.forward = lambda x, c=None: encoder[1](x.flatten(1))
        decoder.forward = lambda z, c=None: decoder[0](z).view(-1, 3, 1, 1)
    deterministic = {"posterior": Deterministic(), "regularizers": []} if noise is None else {}
    return VAE(encoder, decoder, latent_dim=2, likelihood=Gaussian(FixedVariance(0.01)), **deterministic)


class Foreign(nn.Module):
    """An autoencoder of another program, without a prior."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, x):
        return x[:, :2] * self.weight

    def decode(self, z):
        return z @ PLANE


def points(kind, n=800, seed=0):
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 2, generator=g)
    if kind == "clusters":
        noise = 0.2 * noise + torch.tensor([1.0, 0.0]) * (2 * torch.randint(2, (n, 1), generator=g) - 1)
    if kind == "ring":
        angle = 6.2832 * torch.rand(n, generator=g)
        noise = 0.05 * noise + torch.stack([angle.cos(), angle.sin()], 1)
    return noise @ PLANE


@pytest.mark.parametrize("kind", ["clusters", "ring"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mismatched_prior_is_beaten_clearly(kind, seed):
    found = enhance(flat(), points(kind, seed=seed), densities=FAST, samples=1000, seed=seed)
    assert found.better
    assert found.best == "mixture_10"
    assert found.distances["mixture_10"].energy < 0.5 * found.distances["prior"].energy
    assert found.distances["mixture_10"].accuracy < found.distances["prior"].accuracy
    assert "clearly nearer" in str(found)
    # what is drawn is what was measured
    fresh, drawn = points(kind, seed=seed + 10), found.sample(800, seed=1)
    assert energy_distance(fresh, drawn) < 0.5 * energy_distance(fresh, flat().sample(800).detach())


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
def test_nothing_is_claimed_where_the_codes_follow_the_prior(seed):
    found = enhance(flat(0.02), points("normal", seed=seed), densities=FAST, samples=1000, seed=seed)
    assert not found.better
    assert found.best == "prior"
    assert "keep it" in str(found)
    same = enhance(flat(0.02), points("normal", seed=seed), densities=FAST, samples=1000, seed=seed)
    assert torch.equal(same.sample(5, seed=3), found.sample(5, seed=3))


def test_the_distance_is_the_energy_distance_and_its_error_what_fresh_samples_differ_by():
    found = []
    for seed in range(150):
        g = torch.Generator().manual_seed(seed)
        sets = {"prior": torch.randn(60, 2, generator=g) + 1, "other": 0.5 * torch.randn(60, 2, generator=g)}
        reference = torch.randn(40, 2, generator=g)
        one = distances_of(sets, reference)
        assert one["other"].energy == pytest.approx(energy_distance(sets["other"], reference), abs=1e-9)
        assert one["other"].gain == pytest.approx(one["prior"].energy - one["other"].energy)
        found.append([one["other"].energy, one["other"].error, one["other"].gain, one["other"].gain_error])
    energy, error, gain, gain_error = torch.tensor(found, dtype=torch.float64).T
    assert float(error.mean()) == pytest.approx(float(energy.std()), rel=0.2)
    assert float(gain_error.mean()) == pytest.approx(float(gain.std()), rel=0.2)


def test_equal_laws_are_rarely_called_different():
    called = 0
    for seed in range(200):
        x = torch.randn(120, 3, generator=torch.Generator().manual_seed(seed))
        called += distances_of({"prior": x[:40], "other": x[40:80]}, x[80:])["other"].clearly_nearer()
    assert called <= 6


def test_an_autoencoder_without_a_prior_is_compared_with_draws_from_a_normal():
    model, x = Foreign(), points("clusters")
    weight = model.weight.detach().clone()
    found = enhance(model, x, densities=FAST, samples=1000)
    assert found.better
    assert "N(0, I)" in str(found)
    assert torch.equal(model.weight, weight)
    assert isinstance(found.sample(4), torch.Tensor)
    array = enhance(model, x.numpy(), densities=FAST, samples=100).sample(4)
    assert (type(array), array.dtype, array.shape) == (np.ndarray, np.float32, (4, 3))
    frame = enhance(model, pd.DataFrame(x.numpy(), columns=list("abc")), densities=FAST, samples=100).sample(4)
    assert list(frame.columns) == ["a", "b", "c"]
    with pytest.raises(InputError, match="cannot build again"):
        found.save("nowhere")


def test_images_are_compared_by_principal_components():
    x = points("clusters").view(-1, 3, 1, 1)
    found = enhance(flat(image=True), x, densities=FAST, samples=1000)
    assert found.better
    assert found.sample(2).shape == (2, 3, 1, 1)
    assert found.trained.facts.kind == "image"


def test_double_precision_networks_are_enhanced():
    found = enhance(flat().double(), points("clusters").double(), densities=FAST, samples=500)
    assert found.better
    assert found.sample(2).dtype == torch.float64


@pytest.fixture(scope="module")
def estimator():
    X = points("ring", 600).double().numpy() @ np.diag([10.0, 1.0, 5.0]) + 100
    return GaussianVAE(latent_dim=2, network=MLP((32,)), epochs=40, lr=5e-3, random_state=0).fit(X), X


def test_an_estimator_keeps_its_units_and_comes_back_from_disk(estimator, tmp_path):
    model, X = estimator
    before = dict(model.trained_.densities)
    found = enhance(model, X, densities=FAST, samples=1000)
    assert found.better
    assert model.trained_.densities == before
    assert model.trained_.facts.best_density == "prior"
    drawn = found.sample(500, seed=2)
    assert np.abs(drawn.mean(0) - X.mean(0)).max() < X.std()
    found.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert again.trained_.facts.best_density == found.best
    assert torch.equal(again.trained_.sample(5, how=Draws(seed=1)), found.trained.sample(5, how=Draws(seed=1)))
    assert np.array_equal(again.transform(X), model.transform(X))


def test_a_training_and_its_folder_give_the_same(estimator, tmp_path, monkeypatch):
    model, X = estimator
    found = enhance(model.trained_, X, densities=FAST, samples=200)
    assert found.sample(3).shape == (3, 3)
    runs.save(model.trained_, tmp_path / "run", {"data": {"data": "ring"}})
    monkeypatch.setattr(runs, "data_of_run", lambda folder: from_arrays(X))
    own = enhance(tmp_path / "run", densities=FAST, samples=200)
    own.save(tmp_path / "better")
    assert runs.read_config(tmp_path / "better")["data"] == {"data": "ring"}
    assert runs.read_run(tmp_path / "better").facts.best_density == own.best
    assert enhance(tmp_path / "run", X, densities=FAST, samples=200).distances == found.distances


def test_conditions_reach_the_densities():
    rng = np.random.default_rng(0)
    y = np.array(["left", "right"] * 150)
    X = np.where(y == "left", -1.0, 1.0)[:, None] * np.ones(3) + 0.1 * rng.normal(size=(300, 3))
    model = ConditionalVAE(latent_dim=2, network=MLP((16,)), epochs=30, lr=5e-3, random_state=0).fit(X, y)
    found = enhance(model, X, y, densities=("gaussian",), samples=200)
    assert found.sample(20, y="left").mean() < 0 < found.sample(20, y="right").mean()
    with pytest.raises(InputError, match="conditional"):
        found.sample(3)


def test_rows_of_a_mixed_table_are_compared():
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=300)
    frame = pd.DataFrame({"size": kind * 4.0 + rng.normal(size=300), "kind": np.array(["big", "small"])[kind]})
    frame.loc[:20, "size"] = np.nan
    model = GaussianVAE(latent_dim=2, network=MLP((16,)), likelihood="mixed", epochs=3, random_state=0).fit(frame)
    found = enhance(model, frame, densities=("gaussian",), samples=100)
    drawn = found.sample(4)
    assert set(drawn["kind"]) <= {"big", "small"}
    assert np.isfinite(found.distances["gaussian"].energy)


def test_wrong_input_is_refused():
    x = points("ring", 100)
    with pytest.raises(InputError, match="samples=1"):
        enhance(flat(), x, samples=1)
    with pytest.raises(InputError, match="densities"):
        enhance(flat(), x, densities=("normal",))
    with pytest.raises(InputError, match="at least 1"):
        enhance(flat(), x, densities=("gaussian",), samples=50).sample(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 100.5},
        {"samples": True},
        {"seed": -1},
        {"seed": 0.5},
        {"rows": 0},
        {"rows": 1e4},
        {"epochs": 0},
        {"held_out": 1.0},
        {"held_out": "some"},
    ],
)
def test_numbers_are_refused_before_any_work(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
        enhance(object(), None, **wrong)


def test_the_best_of_several_must_gain_more():
    assert needed_errors() == pytest.approx(2)
    for k in (2, 7):
        assert k * (1 - NormalDist().cdf(needed_errors(k))) == pytest.approx(1 - NormalDist().cdf(2))
    one = SampleDistance(energy=1.0, error=0.1, gain=2.2, gain_error=1.0)
    assert one.clearly_nearer()
    assert not one.clearly_nearer(2)


def test_noise_seldom_makes_the_best_of_several_candidates_better():
    rules = {"one": 0, "several": 0}
    for seed in range(200):
        x = torch.randn(320, 2, generator=torch.Generator().manual_seed(seed)).split(40)
        # all are equally far from the data, where errors are not too large
        sets = {"prior": x[0] + 1, **{str(i): x[i] + 1 for i in range(1, 7)}}
        found = distances_of(sets, x[7])
        rules["one"] += any(found[name].clearly_nearer() for name in found)
        rules["several"] += any(found[name].clearly_nearer(6) for name in found)
    assert rules["several"] <= 0.0228 * 200 + 3 * (0.0228 * 200) ** 0.5
    assert rules["several"] < rules["one"]


@pytest.mark.parametrize(("rows", "fitted"), [(100, 100), (320, 320), (1000, 320)])
def test_at_most_so_many_codes_are_fitted(rows, fitted):
    found = enhance(flat(), points("clusters", 400), densities=FAST, samples=50, rows=rows)
    assert (found.comparison.rows, found.available) == (fitted, 320)
    assert ("of 320" in str(found)) == (fitted < 320)
    assert "2.28 standard errors, as for the best of 2" in str(found)
    again = enhance(flat(), points("clusters", 400), densities=FAST, samples=50, rows=rows)
    assert again.distances == found.distances
    other = enhance(flat(), points("clusters", 400), densities=FAST, samples=50, rows=rows, seed=1)
    assert other.distances != found.distances


def test_rows_of_the_test_split_are_used_where_they_are_more():
    rows = points("ring", 400).numpy()
    data = from_arrays(rows[:200], rows[200:])
    subject = subject_of(flat(), data)
    assert isinstance(subject.held_out, ArrayBatches)
    assert enhance(flat(), data, densities=("gaussian",), samples=50).held_out == 200


def test_densities_are_fitted_until_there_is_nothing_left_to_gain():
    """Codes in clusters: one Gaussian is not enough, and what comes after the first mixture that is, is left out."""
    found = enhance(flat(), points("clusters", 4000), samples=2000)
    assert "gaussian" in found.distances
    left_out = [name for name, reason in found.comparison.skipped.items() if "nothing left to gain" in reason]
    assert left_out
    assert not set(left_out) & set(found.distances)
    order = [law.name for law in specs.densities.named()]
    assert max(map(order.index, found.distances.keys() - {"prior"})) < min(map(order.index, left_out))
    assert found.distances[found.best].energy < found.distances["gaussian"].energy


def test_a_budget_ends_the_fits(monkeypatch):
    clock = iter(range(0, 1000, 10))  # every look at it is ten seconds later
    monkeypatch.setattr(comparing.time, "perf_counter", lambda: next(clock))
    found = enhance(flat(), points("clusters", 400), densities=FAST, samples=50, budget="30s")
    assert set(found.distances) == {"prior", "gaussian"}
    assert list(found.comparison.skipped) == ["mixture_10"]
    assert "30 s of the budget" in found.comparison.skipped["mixture_10"]
    for text, seconds in (
        ("90s", 90),
        ("2min", 120),
        ("1.5 h", 5400),
        (7, 7),
        (float("inf"), float("inf")),
        (1e16, 1e16),
    ):
        assert seconds_of(text) == seconds
    for bad in ("soon", "-3s", 0, True, "1.2.3"):
        with pytest.raises(InputError, match="budget="):
            enhance(flat(), points("clusters", 400), densities=FAST, samples=50, budget=bad)
