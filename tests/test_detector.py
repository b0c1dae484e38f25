"""Scores far from the data, p-values and alarms that hold what they promise, and what a row's score is made of."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaelab
from vaelab import ConditionalVAE, GaussianVAE, RegularizedAutoencoder, TwoStageVAE, VAEDetector, specs
from vaelab.data.marginals import Marginal
from vaelab.errors import VaelabWarning
from vaelab.metrics.conformal import alarms, conformal_p_values, threshold
from vaelab.model import FullCovariance, Gaussian, Mixed, ProfiledVariance
from vaelab.model.distributions import DiagonalNormal, held, within
from vaelab.specs import MLP, Compute

QUICK = {
    "latent_dim": 2,
    "network": MLP((8,)),
    "compute": Compute(accelerator="cpu"),
    "epochs": 2,
    "batch_size": 20,
    "score_draws": 2,
    "random_state": 0,
}


@parametrize_with_checks([VAEDetector(GaussianVAE(**QUICK), random_state=0)])
@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def rows(n, seed=0, d=4):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).normal(size=(2, d))
    return 50 + rng.normal(size=(n, 2)) @ mixing + 0.3 * rng.normal(size=(n, d))


def frame(n, seed=0):
    out = pd.DataFrame(rows(n, seed), columns=list("abcd"))
    out["kind"] = np.where(out.a > 50, "high", "low")
    out.loc[::7, "b"] = np.nan
    return out


# scores are finite and ordered


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"posterior": "full"},
        {"likelihood": "gaussian(shape=diag-i)"},
    ],
    ids=str,
)
def test_the_farther_a_row_the_lower_its_score(settings):
    """Deviations of an encoder that grow by e for every unit of x overflow at once, and vanish on the other side."""
    model = GaussianVAE(**QUICK, **settings).fit(rows(200))
    with torch.no_grad():
        for layer in model.trained_.vae.encoder.head.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight *= 5
    X = rows(50, seed=3)
    one = [X.copy() for _ in range(4)]
    for each, value in zip(one, (1e3, 1e6, 1e9, 1e12), strict=True):
        each[:, 2] = value
    for series in ([X * factor for factor in (1, 1e2, 1e4, 1e8, 1e50)], [X, *one]):
        scores = np.array([model.score_samples(each) for each in series])
        assert np.isfinite(scores).all()
        assert (np.diff(scores, axis=0) < 0).all()
    assert np.isfinite(model.score_samples(X * 1e147)).all()


@pytest.mark.parametrize("shape", ["iso-d", "diag-d"])
def test_scores_are_finite_where_the_decoder_emits_the_variance(shape):
    model = GaussianVAE(**{**QUICK, "epochs": 30}, likelihood=f"gaussian(learned, shape={shape})").fit(rows(200))
    for factor in (1e4, 1e8, 1e147):
        assert np.isfinite(model.score_samples(rows(50) * factor)).all()


def test_mixed_rows_beyond_the_range_score_lower_too():
    model = GaussianVAE(**QUICK, likelihood="mixed").fit(frame(200))
    series = [frame(50, seed=3) for _ in range(5)]
    for each, factor in zip(series, (1, 1e2, 1e4, 1e8, 1e100), strict=True):
        each[list("abcd")] *= factor
    scores = np.array([model.score_samples(each) for each in series])
    assert np.isfinite(scores).all()
    assert (np.diff(scores, axis=0) < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deviations_have_finite_squares_and_are_exponentials_where_those_are(dtype):
    raw = torch.tensor([-1e30, -50.0, -3.0, 0.0, 2.0, 40.0, 1e30], dtype=dtype)
    found = held(raw).exp()
    assert bool((found.square() > 0).all())
    assert bool(found.square().isfinite().all())
    assert torch.equal(found[2:-1], raw[2:-1].exp())


def test_wide_posteriors_are_narrowed_and_others_are_not():
    p = DiagonalNormal(torch.zeros(3), torch.tensor([1.0, 2.0, 1.0]))
    q = DiagonalNormal(torch.ones(1, 3), torch.tensor([[0.3, 50.0, 11.0]]))
    assert torch.equal(within(q, p, 10.0).stddev, torch.tensor([[0.3, 20.0, 10.0]]))
    full = FullCovariance()(torch.tensor([[0.0, 0.0, 3.0, 0.0, 30.0], [0.0, 0.0, 0.1, 0.2, 0.3]]))
    p = DiagonalNormal(torch.zeros(2), torch.ones(2))
    narrow = within(full, p, 10.0)
    assert float(narrow.scale_tril[0].abs().max()) == pytest.approx(10)
    assert torch.equal(narrow.scale_tril[1], full.scale_tril[1])


def test_the_tail_of_a_marginal_holds_what_is_left_for_the_unseen():
    x = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=300))
    marginal = Marginal.fit(x)

    def density(value):
        one = torch.tensor([value], dtype=torch.float64)
        return float((-0.5 * marginal.to_normal(one).square() - 0.9189385332 - marginal.log_volume(one)).exp())

    for low, high in ((float(x.max()) + 1e-9, np.inf), (-np.inf, float(x.min()) - 1e-9)):
        assert quad(density, low, high)[0] == pytest.approx(marginal.least, rel=1e-3)


# p-values and alarms


def test_p_values_count_and_thresholds_agree_with_them():
    rng = np.random.default_rng(0)
    for m in (1, 5, 19, 20, 99, 100):
        calibration, scores = rng.integers(0, 30, m).astype(float), np.arange(-2.0, 33.0)
        p = conformal_p_values(scores, calibration)
        counted = [(1 + sum(c <= s for c in calibration)) / (m + 1) for s in scores]
        np.testing.assert_array_equal(p, counted)
        for rate in (0.01, 0.05, 0.1, 0.5, 0.99):
            np.testing.assert_array_equal(scores < threshold(calibration, rate), alarms(p, rate))


def test_benjamini_hochberg_is_scipys():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = np.ceil(100 * rng.uniform(size=30) ** 3) / 100
        adjusted = stats.false_discovery_control(p)
        for rate in (0.03, 0.1, 0.25):
            np.testing.assert_array_equal(alarms(p, rate, "benjamini_hochberg"), adjusted <= rate + 1e-12)


def test_p_values_of_fresh_rows_are_uniform():
    """One row for each calibration, since rows that share one are dependent; models of four seeds."""
    found = []
    for seed in range(4):
        detector = VAEDetector(GaussianVAE(**{**QUICK, "random_state": seed}), random_state=seed).fit(rows(120, seed))
        for draw in range(60):
            fresh = rows(50, seed=1000 + 100 * seed + draw)
            found.append(float(detector.calibrate(fresh[:49]).p_values(fresh[49:])[0]))
    # of 50 equally likely values, each of which is at the upper end of its cell
    assert stats.kstest(np.array(found) - 0.01, "uniform").pvalue > 0.01
    assert set(np.round(np.array(found) * 50, 6) % 1) == {0.0}


def test_rows_set_aside_are_not_trained_on():
    """An over-fitted model has p-values of mean ½ for fresh rows all the same."""
    means = []
    for seed in range(5):
        X = np.random.default_rng(seed).normal(size=(100, 20))
        model = GaussianVAE(10, network=MLP((64,)), epochs=150, lr=3e-3, held_out=0.0, random_state=seed)
        detector = VAEDetector(model, calibration=0.5, random_state=seed).fit(X)
        means.append(detector.p_values(np.random.default_rng(100 + seed).normal(size=(300, 20))).mean())
    assert 0.42 < np.mean(means) < 0.58


def test_false_discoveries_stay_below_the_rate_and_false_alarms_too():
    detector = VAEDetector(GaussianVAE(**{**QUICK, "epochs": 30}), false_alarms=0.2, random_state=0).fit(rows(300))
    false, found, single = [], [], []
    for draw in range(60):
        fresh = rows(299, seed=5000 + draw)
        X = fresh[199:].copy()
        X[90:, 0] += 15
        detector.calibrate(fresh[:199])
        single.append((detector.set_params(rule="each").predict(X[:90]) < 0).mean())
        alarm = detector.set_params(rule="benjamini_hochberg").predict(X) < 0
        false.append(alarm[:90].sum() / max(1, alarm.sum()))
        found.append(alarm[90:].mean())
    assert np.mean(found) > 0.8
    assert np.mean(false) < 0.18 + 3 * np.std(false) / np.sqrt(60)  # 0.2 · 90 %
    assert np.mean(false) > 0.05, "the rate asked for is not made use of"
    assert np.mean(single) == pytest.approx(0.2, abs=3 * np.std(single) / np.sqrt(60) + 0.005)


def test_too_few_rows_say_so():
    with pytest.warns(VaelabWarning, match=r"4 calibration rows: no p-value is below 0\.2"):
        detector = VAEDetector(GaussianVAE(**QUICK), random_state=0).fit(rows(20))
    assert (detector.predict(1e6 * rows(5)) == 1).all()


# what a score is made of


@pytest.mark.parametrize("variance", ["profiled", "learned"])
@pytest.mark.parametrize("shape", ["iso-i", "diag-i", "iso-d", "diag-d"])
def test_costs_add_up_to_the_score(shape, variance):
    X = rows(60)
    model = GaussianVAE(**QUICK, likelihood=f"gaussian(variance={variance}, shape={shape})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
        entries, divergence = model.costs(X)
        assert entries.shape == X.shape
        np.testing.assert_allclose(-entries.sum(1) - divergence, model.score_samples(X), rtol=1e-9)


def test_costs_of_mixed_rows_add_up_and_gaps_cost_nothing():
    table = frame(120)
    detector = VAEDetector(GaussianVAE(**QUICK, likelihood="mixed"), random_state=0).fit(table)
    found = detector.explain(table)
    assert list(found.entries) == list(table)
    assert (found.entries["b"][table.b.isna()] == 0).all()
    np.testing.assert_allclose(-found.entries.sum(axis=1) - found.kl, detector.score_samples(table), rtol=1e-9)


def test_columns_that_are_left_out_cost_nothing():
    table = frame(120).assign(note=0)[["note", "d", "kind", "a"]]
    columns = {"note": "drop", "kind": {"kind": "ordered", "levels": ["low", "mid", "high"]}}
    model = GaussianVAE(**QUICK, likelihood=specs.Mixed(columns=columns))
    detector = VAEDetector(model, random_state=0).fit(table)
    found = detector.explain(table)
    assert list(found.entries) == ["d", "kind", "a"]
    np.testing.assert_allclose(-found.entries.sum(axis=1) - found.kl, detector.score_samples(table), rtol=1e-9)


def test_costs_of_draws_are_terms_of_the_likelihood():
    torch.manual_seed(0)
    x = torch.rand(5, 3)
    for likelihood, width, own in (
        (Gaussian(), 3, x),
        (Gaussian(ProfiledVariance(diagonal=True), link="sigmoid"), 3, x),
        (Mixed((0, 2, 0)), 4, torch.stack([x[:, 0], (x[:, 1] > 0.5).float(), x[:, 2]], 1)),
    ):
        parameters = torch.randn(4, 5, width)
        likelihood.nll(parameters[0], own)
        likelihood.eval()
        costs = likelihood.costs(parameters, own)
        assert costs.shape == (4, 5, 3)
        torch.testing.assert_close(costs.sum(2), likelihood.nll_of_draws(parameters, own))


def test_the_column_that_is_odd_costs_most():
    detector = VAEDetector(GaussianVAE(**{**QUICK, "epochs": 30}), random_state=0).fit(rows(300))
    X = rows(20, seed=4)
    usual = detector.explain(X).entries
    X[:, 2] += 100
    assert ((detector.explain(X).entries - usual).argmax(1) == 2).mean() > 0.8


def test_pixels_have_costs_and_other_likelihoods_refuse():
    X = (np.random.default_rng(0).random((60, 1, 8, 8)) * 255).astype(np.uint8)
    detector = VAEDetector(GaussianVAE(**QUICK), random_state=0).fit(X)
    found = detector.explain(X[:3])
    assert found.entries.shape == (3, 1, 8, 8)
    np.testing.assert_allclose(-found.entries.sum((1, 2, 3)) - found.kl, detector.score_samples(X[:3]), rtol=1e-5)
    other = VAEDetector(GaussianVAE(**QUICK, likelihood="bernoulli"), random_state=0).fit(X / 255)
    with pytest.raises(ValueError, match="nats per entry of Bernoulli"):
        other.explain(X[:3] / 255)


# around a model


@pytest.mark.parametrize("make", [rows, frame, lambda n: torch.from_numpy(rows(n)), lambda n: rows(n).tolist()])
def test_save_and_load(make, tmp_path):
    X = make(120)
    likelihood = "mixed" if isinstance(X, pd.DataFrame) else "gaussian"
    detector = VAEDetector(GaussianVAE(**QUICK, likelihood=likelihood), false_alarms=0.1, random_state=0).fit(X)
    detector.save(tmp_path / "run")
    assert not [p for p in (tmp_path / "run").iterdir() if p.suffix in {".pkl", ".pt", ".pth"}]
    again = vaelab.load(tmp_path / "run")
    assert type(again) is VAEDetector
    assert (again.false_alarms, again.rule, again.offset_) == (0.1, "each", detector.offset_)
    np.testing.assert_array_equal(again.p_values(X), detector.p_values(X))
    np.testing.assert_array_equal(again.predict(X), detector.predict(X))
    again.save(tmp_path / "run", overwrite=True)
    np.testing.assert_array_equal(vaelab.load(tmp_path / "run").calibration_scores_, detector.calibration_scores_)


def test_a_fitted_model_is_calibrated_as_it_is():
    model = TwoStageVAE(**QUICK, densities="gaussian").fit(rows(100))
    detector = VAEDetector(model).calibrate(rows(100, seed=2))
    assert detector.model_ is model
    np.testing.assert_array_equal(detector.score_samples(rows(9)), model.score_samples(rows(9)))
    np.testing.assert_array_equal(detector.decision_function(rows(9)) < 0, detector.p_values(rows(9)) <= 0.05)
    assert clone(detector).set_params(model__latent_dim=3).model.latent_dim == 3


def test_wrong_input_says_what_was_got_wanted_and_what_to_do():
    X = rows(100)
    fitted = VAEDetector(GaussianVAE(**QUICK), random_state=0).fit(X)
    cases = [
        (lambda: VAEDetector(GaussianVAE(**QUICK), false_alarms=1.5).fit(X), r"false_alarms=1\.5"),
        (lambda: VAEDetector(GaussianVAE(**QUICK), false_alarms=True).fit(X), r"false_alarms=True"),
        (lambda: VAEDetector(GaussianVAE(**QUICK), rule="bh").fit(X), "benjamini_hochberg"),
        (lambda: VAEDetector(GaussianVAE(**QUICK), calibration=0).fit(X), "calibration=0"),
        (lambda: VAEDetector(RegularizedAutoencoder()).fit(X), "with a bound"),
        (lambda: VAEDetector(ConditionalVAE()).fit(X), "without a condition"),
        (lambda: VAEDetector("vae").fit(X), "model=str"),
        (lambda: fitted.predict(X[:, :2]), "2 features"),
        (lambda: fitted.calibrate(X[:, :2]), "2 features"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    before = fitted.p_values(X)
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(np.full((50, 4), np.nan))
    np.testing.assert_array_equal(fitted.p_values(X), before)
