"""Whitened columns of a table with gaps: what fills them, what rows are worth, and what else reads them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

import vaelab
from vaelab import TwoStageVAE, VAEImputer
from vaelab.errors import InputError
from vaelab.latent import Codes, SecondStage
from vaelab.metrics.options import Options
from vaelab.runs.assessment import assess
from vaelab.runs.graphs import function_of
from vaelab.runs.whitened import better_scores
from vaelab.specs import MLP, Compute
from vaelab.verbs.likelihood import likelihoods

pytestmark = pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")


def clusters(n, seed=0):
    """Two clusters, in which what is linear goes opposite ways, and a category that follows a number."""
    rng = np.random.default_rng(seed)
    side = rng.random(n) < 0.5
    a = rng.normal(size=n)
    b = np.where(side, 4 + a, -a) + 0.3 * rng.normal(size=n)
    c = np.where(side, 3 - b, 2 * a) + 0.3 * rng.normal(size=n)
    kind = np.where(a + 0.3 * rng.normal(size=n) > 0, "above", "below")
    return pd.DataFrame({"a": a, "b": b, "c": c, "kind": kind})


@pytest.fixture(scope="module")
def whitened():
    whole = clusters(300)
    gone = np.random.default_rng(1).random(whole.shape) < 0.2
    settings = {"epochs": 2, "batch_size": 20, "score_draws": 2, "random_state": 0}
    settings |= {"latent_dim": 5, "network": MLP((16,)), "compute": Compute(accelerator="cpu")}
    model = TwoStageVAE(**settings, likelihood="mixed(numbers=chosen)", densities="mixture")
    imputer = VAEImputer(model, random_state=0)
    imputer.fit(whole.mask(gone))
    return whole, gone, imputer


def test_few_rows_with_gaps_get_a_mixture_of_their_numbers(whitened):
    whole, gone, imputer = whitened
    facts = imputer.model_.trained_.facts
    assert facts.lossless
    assert imputer.model_.trained_.vae.latent_dim == 3
    assert facts.gaussian_gain.law == "mixture"
    holes, numbers = whole.mask(gone), ["a", "b", "c"]
    filled = imputer.transform(holes)
    error = ((filled[numbers] - whole[numbers]) / whole[numbers].std()).to_numpy()[gone[:, :3]]
    assert np.sqrt((error**2).mean()) < 0.52  # of ridge regressions .8
    assert (filled["kind"] == whole["kind"])[gone[:, 3]].mean() > 0.8
    lower, upper = imputer.model_.impute_interval(holes)
    inside = ((lower[numbers] <= whole[numbers]) & (whole[numbers] <= upper[numbers])).to_numpy()[gone[:, :3]]
    assert 0.8 < inside.mean() < 0.97
    drawn = imputer.model_.impute(holes, draws=2)
    assert not drawn[0].equals(drawn[1])


def test_rows_with_gaps_are_scored_by_what_is_there(whitened):
    _, _, imputer = whitened
    model, some = imputer.model_, clusters(200, seed=5)
    score = model.score_samples(some)
    less = model.score_samples(some.assign(b=np.nan))
    nothing = model.score_samples(some.iloc[:3].assign(a=np.nan, b=np.nan, c=np.nan, kind=None))
    np.testing.assert_allclose(nothing, 0, atol=1e-3)
    odd = some.assign(b=some["b"] + 8)
    assert (model.score_samples(odd) < score - 3).mean() > 0.95
    np.testing.assert_allclose(model.score_samples(odd.assign(b=np.nan)), less)
    entries, divergence = model.costs(some.assign(b=np.nan))
    np.testing.assert_allclose(-np.asarray(entries).sum(1) - divergence, less, rtol=1e-9)
    codes = model.transform(some.assign(b=np.nan))
    assert np.corrcoef(codes[:, 0], model.transform(some)[:, 0])[0, 1] > 0.3


def test_a_mixture_of_rows_is_saved_and_sampled_from(whitened, tmp_path):
    whole, gone, imputer = whitened
    model, holes = imputer.model_, whole.mask(gone)[:20]
    model.save(tmp_path / "run")
    pd.testing.assert_frame_equal(vaelab.load(tmp_path / "run").impute(holes, random_state=0), model.impute(holes))
    drawn = model.sample(2000, density="mixture", random_state=0)
    far = drawn["b"] > 2
    assert np.corrcoef(drawn["a"][far], drawn["b"][far])[0, 1] > 0.5
    assert np.corrcoef(drawn["a"][~far], drawn["b"][~far])[0, 1] < -0.5
    gaps = model.sample(2000, missing=True, random_state=0).isna().mean()
    np.testing.assert_allclose(gaps, gone.mean(0), atol=0.06)


def test_every_bound_of_rows_with_gaps_is_of_what_is_there(whitened):
    whole, gone, imputer = whitened
    model, holes = imputer.model_, whole.mask(gone)[:60]
    trained, split = model.trained_, model.as_dataset(holes).train
    scores = model.score_samples(holes)
    np.testing.assert_allclose(model.log_likelihood(holes, k=20, density="mixture"), scores, atol=0.1)
    nothing = holes.iloc[:2].assign(a=np.nan, b=np.nan, c=np.nan, kind=None)
    np.testing.assert_allclose(model.log_likelihood(nothing), 0, atol=1e-3)  # under N(0, I)
    nelbo = assess(trained, split).nelbo
    volume = trained.scaling.log_volume_of(split.x).numpy()
    assert abs(nelbo + (scores + volume).mean()) < 0.2
    found = {(one.row, one.measure): one.value for one in likelihoods(trained, split, Options(likelihood_draws=20))}
    assert abs(found["mixture", "bound"] + nelbo) < 0.2
    parts = found["mixture", "distortion"] + found["mixture", "kl"]
    assert parts == pytest.approx(-found["mixture", "elbo"], abs=1e-6)


def test_a_density_that_cannot_score_rows_with_gaps_is_refused_or_left_out(whitened):
    whole, gone, imputer = whitened
    trained = imputer.model_.trained_
    other = dataclasses.replace(trained, densities={**trained.densities, "second_stage": SecondStage(trained.vae)})
    split = imputer.model_.as_dataset(whole.mask(gone)[:50]).train
    with pytest.raises(InputError, match=r"second_stage.*gaps.*impute"):
        other.log_likelihood(split.x, density="second_stage")
    rows = {one.row for one in likelihoods(other, split, Options(likelihood_draws=2))}
    assert rows == {"prior", "mixture"}
    with pytest.raises(InputError, match="second_stage"):
        likelihoods(other, split, Options(likelihood_draws=2, densities=("second_stage",)))


def test_codes_of_rows_with_gaps_are_those_of_filled_rows(whitened):
    whole, gone, imputer = whitened
    trained, data = imputer.model_.trained_, imputer.model_.as_dataset
    batches = trained.batches_of(data(whole.mask(gone)).train)
    x, there = batches.take(torch.arange(len(whole)))[0], trained.batches_of(data(whole).train)
    assert bool(x.isfinite().all())
    np.testing.assert_allclose(x[~gone], there.take(torch.arange(len(whole)))[0][~gone], atol=1e-5)
    codes = Codes.of(trained.vae, batches).loc
    np.testing.assert_allclose(codes.std(0), Codes.of(trained.vae, there).loc.std(0), rtol=0.15)
    two = (whole, whole.mask(gone))
    both = [vaelab.compare_densities(imputer.model_, X, densities=("prior",)).scores["prior"].nats for X in two]
    assert abs(both[0] - both[1]) < 0.5


def test_graphs_give_nan_for_rows_with_gaps_that_the_encoder_cannot_read(whitened, tmp_path):
    whole, gone, imputer = whitened
    model = imputer.model_
    rows = model.as_dataset(whole.mask(gone)).train.x.double()
    holes = torch.as_tensor(gone.any(1))
    for what in ("encode", "score", "reconstruct"):
        with torch.no_grad():
            found = function_of(model.trained_, what)(rows).reshape(len(rows), -1)
        assert bool(found[holes].isnan().all())
        assert bool(found[~holes].isfinite().all())
    model.export(tmp_path / "e.pt2", "encode")
    files = {"vaelab.json": ""}
    program = torch.export.load(tmp_path / "e.pt2", extra_files=files).module()
    assert torch.equal(program(rows).isnan().any(1), holes)
    assert "impute" in json.loads(files["vaelab.json"])["gaps"]


def test_units_are_those_in_which_entries_are_told_from_each_other():
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal([0, 0, 0], [[1, 0.9, 0.9], [0.9, 1, 0.9], [0.9, 0.9, 1]], 400)
    for X, scores in ((np.sinh(2 * z) * [1, 10, 100], True), (clusters(400)[["a", "b", "c"]].to_numpy(), False)):
        ways = [(False,) * 3, (True,) * 3]
        assert better_scores(torch.tensor(X), (0, 0, 0), ways, 0) == ways[scores]
