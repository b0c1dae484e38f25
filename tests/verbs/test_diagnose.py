"""`diagnose` on everything that it takes: what it says of a model, that it leaves it alone, and what it refuses."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from oracle_models import exact_rows, probabilistic_pca
from vaelab import ConditionalVAE, GaussianVAE, RegularizedAutoencoder, TwoStageVAE, diagnose, enhance, wrap
from vaelab.cli import main
from vaelab.errors import InputError
from vaelab.model import VAE
from vaelab.specs import MLP
from vaelab.verbs.diagnosis import _context
from vaelab.verbs.subject import subject_of


def sheet(n: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ np.array([[1.0, 2, 0, 1, -1], [0, 1, 1, -1, 2]]) + 0.1 * rng.normal(size=(n, 5))


def short(kind, **settings):
    return kind(network=MLP((32,)), epochs=15, random_state=0, **settings)


def names(found) -> list[str]:
    return [verdict.name for verdict in found.verdicts]


@pytest.fixture(scope="module")
def fitted():
    return short(GaussianVAE, latent_dim=3).fit(sheet())


def test_rows_like_those_of_the_training_are_in_known_units(fitted):
    """Whatever the model makes of them: one that has just begun is not told of units."""
    assert _context(subject_of(fitted, sheet(seed=1))).units_known
    assert not _context(subject_of(fitted, 100 * sheet(seed=1))).units_known
    assert not _context(subject_of(fitted, sheet(seed=1) + 50)).units_known
    assert not _context(subject_of(fitted.trained_.vae, torch.randn(200, 5))).units_known


def test_a_model_is_left_as_it_was(fitted):
    before = copy.deepcopy(fitted.trained_.vae.state_dict())
    fitted.trained_.vae.train()
    diagnose(fitted, sheet(), rows=200, pictures=False)
    assert fitted.trained_.vae.training
    fitted.trained_.vae.eval()
    after = fitted.trained_.vae.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_seed_gives_the_same_numbers(fitted):
    first, second = (diagnose(fitted, sheet(), rows=200, pictures=False).as_dict()["measures"] for _ in range(2))
    assert json.dumps(first) == json.dumps(second)


def test_no_more_rows_are_read_than_asked_for(fitted):
    found = diagnose(fitted, sheet(), held_out=sheet(300, 1), rows=150, pictures=False)
    assert (found.rows, found.held_out_rows) == (150, 150)


def test_without_unseen_rows_nothing_is_said_of_over_fitting(fitted):
    found = diagnose(fitted, sheet(), rows=200, pictures=False)
    assert found.measures.generalisation is None
    assert any("Over-fitting is unknown" in note for note in found.notes)


def test_numbers_go_to_json_and_verdicts_to_text(fitted, tmp_path):
    found = diagnose(fitted, sheet(), rows=200, pictures=False)
    read = json.loads(found.save(tmp_path / "report.json").read_text())
    assert read["verdicts"][0]["name"] == found.main.name
    assert read["measures"]["reconstruction"]["residual"] == pytest.approx(found.measures.reconstruction.residual)
    assert found.main.title in str(found)
    with pytest.raises(InputError, match=r"\.html or \.json"):
        found.save(tmp_path / "report.pdf")


def test_a_run_is_diagnosed_on_its_own_data(tmp_path):
    np.save(tmp_path / "X.npy", sheet(500))
    options = "--latent-dim 2 --network mlp --network.hidden 16 --epochs 5 --densities --name run --quiet"
    main(["train", str(tmp_path / "X.npy"), "--out", str(tmp_path), *options.split()])
    found = diagnose(tmp_path / "run", rows=200)
    assert found.family == "a run of vaelab"
    assert [record["epoch"] for record in found.history][-1] == 5
    assert found.measures.generalisation is None or found.held_out_rows


def test_samples_of_a_two_stage_model_are_judged_by_its_own_density():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (800, 1))
    X = np.hstack([np.cos(angle), np.sin(angle)]) + 0.05 * np.random.default_rng(1).normal(size=(800, 2))
    model = short(TwoStageVAE, latent_dim=2, densities=("mixture_10",)).fit(X)
    found = diagnose(model, X, pictures=False)
    assert found.sampler == model.trained_.facts.best_density
    assert set(found.measures.aggregated.matches) == {"prior", found.sampler}


def test_a_conditional_model_takes_its_conditions():
    X, y = sheet(), np.where(sheet()[:, 0] > 0, "right", "left")
    model = short(ConditionalVAE, latent_dim=2).fit(X, y)
    found = diagnose(model, X, y, held_out=(sheet(200, 1), np.where(sheet(200, 1)[:, 0] > 0, "right", "left")))
    assert found.measures.continuation is not None
    assert found.examples.samples["prior"].shape == found.examples.real.shape
    with pytest.raises(InputError):
        diagnose(model, X)


def test_an_autoencoder_has_no_posterior_to_measure():
    found = diagnose(short(RegularizedAutoencoder, latent_dim=2).fit(sheet()), sheet(), pictures=False)
    assert found.measures.optimality is None
    assert found.measures.code_use.degenerate
    assert "posterior-collapse" not in names(found)


def test_a_bernoulli_decoder_has_no_variance_to_judge():
    X = (np.random.default_rng(0).random((400, 1, 4, 4)) > 0.5).astype(np.float32)
    model = GaussianVAE(latent_dim=2, network=MLP((16,)), likelihood="bernoulli", epochs=3, random_state=0)
    found = diagnose(model.fit(X), X, pictures=False)
    assert found.measures.reconstruction.gamma is None
    assert not {"variance-too-large", "variance-too-small"} & set(names(found))


def optimal(gamma: float) -> tuple[VAE, torch.Tensor]:
    """A VAE at its optimum under γ = 0.1, with another γ declared."""
    x, axes = exact_rows(torch.tensor([4.0, 2.0, 0.1, 0.1, 0.1], dtype=torch.float64), 1000)
    return probabilistic_pca(torch.tensor([4.0, 2.0]).double(), axes[:, :2], 0.1, declared=gamma), x


@pytest.mark.parametrize(
    ("gamma", "verdict"), [(0.1, "healthy"), (5.0, "variance-too-large"), (1e-3, "variance-too-small")]
)
def test_at_the_optimum_only_the_declared_variance_is_judged(gamma, verdict):
    vae, x = optimal(gamma)
    found = diagnose(vae, x, pictures=False)
    assert found.measures.optimality.implied_gamma == pytest.approx(0.1, rel=1e-3)
    assert found.measures.reconstruction.residual == pytest.approx(0.1, rel=0.05)
    assert found.main.name == verdict


@pytest.mark.parametrize("own", [True, False])
def test_an_enhanced_model_is_judged_by_its_new_density(own):
    X = sheet()
    X[:, 0] = np.where(X[:, 0] > 0, X[:, 0] + 3, X[:, 0] - 3)  # two clusters
    model = short(GaussianVAE, latent_dim=2, likelihood="gaussian(fixed(1e-3))").fit(X)
    given = model if own else wrap(Frozen(model.trained_.vae).encode, model.trained_.vae.decode, gamma=1e-3)
    rows = X if own else model.trained_.scaling.to_net(torch.from_numpy(X)).float()
    better = enhance(given, rows, densities=("mixture_10",), samples=500)
    before, after = diagnose(given, rows, pictures=False), diagnose(better, rows, pictures=False)
    assert better.better
    assert (before.sampler, after.sampler) == ("prior", "mixture_10")
    assert after.family == before.family
    assert after.measures.aggregated.matches["mixture_10"].share < before.measures.aggregated.matches["prior"].share
    assert diagnose(better, pictures=False).rows == len(X)


class Frozen:
    """A VAE as another program would give it away."""

    def __init__(self, vae):
        self.vae = vae

    def encode(self, x):
        q = self.vae.encode(x)
        return q.mean, 2 * q.stddev.log()


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(5, 4), nn.Linear(2, 5)

    def encode(self, x):
        return self.enc(x).chunk(2, 1)

    def decode(self, z):
        return self.dec(z)


def test_nothing_rests_on_a_variance_that_nobody_declared():
    found = diagnose(Module(), torch.from_numpy(sheet()).float(), pictures=False)
    assert not found.gamma_known
    assert not {"variance-too-large", "variance-too-small"} & set(names(found))
    assert diagnose(Module(), torch.from_numpy(sheet()).float(), gamma=0.5, pictures=False).gamma_known


def test_functions_are_enough():
    found = diagnose(wrap(lambda x: x[:, :2], lambda z: nn.functional.pad(z, (0, 3))), sheet(), pictures=False)
    assert found.measures.continuation is None
    assert any("Convergence is unknown" in note for note in found.notes)
    assert found.latent_dim == 2


def test_what_cannot_be_diagnosed_is_refused(fitted):
    with pytest.raises(InputError, match="at least 100"):
        diagnose(fitted, sheet(50))
    with pytest.raises(InputError, match="without rows"):
        diagnose(fitted)
    with pytest.raises(InputError):
        diagnose(object(), sheet())
    with pytest.raises(ValueError, match="5 features"):
        diagnose(fitted, sheet()[:, :3])
    gaps = np.where(np.random.default_rng(0).random((300, 5)) < 0.1, np.nan, sheet(300))
    mixed = GaussianVAE(latent_dim=2, network=MLP((8,)), likelihood="mixed", epochs=2, random_state=0).fit(gaps)
    with pytest.raises(InputError, match="mixed table"):
        diagnose(mixed, gaps)
