"""What people hand over: the right thing is done with it, or it is refused before work starts, with a remedy."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import vaelab
from vaelab import ConditionalVAE, GaussianVAE
from vaelab.data.checks import plain_rows, warn_of_wild_entries
from vaelab.errors import InputError, VaelabWarning

X = np.random.default_rng(0).normal(size=(200, 3))
BRIEF = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}


def model(**settings):
    return GaussianVAE(**BRIEF | settings)


@pytest.mark.parametrize("names", [[0, 1, 2], [1990, 1991, "x"], ["a", "b", "c"]])
def test_columns_of_any_names_come_back_with_the_index(names):
    frame = pd.DataFrame(X, columns=names, index=np.arange(200) * 3)
    fitted = model().fit(frame)
    assert [str(name) for name in fitted.sample(2).columns] == list(map(str, names))
    some = frame.iloc[5:8]
    assert fitted.reconstruct(some).index.tolist() == [15, 18, 21]
    coded = pd.DataFrame(fitted.transform(some), index=some.index)
    assert fitted.inverse_transform(coded).index.tolist() == [15, 18, 21]


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
def test_two_columns_of_one_name_are_refused(likelihood):
    frame = pd.DataFrame(np.hstack([X, X[:, :1]]), columns=list("abca"))
    with pytest.raises(InputError, match="several columns named 'a'"):
        model(likelihood=likelihood).fit(frame)


def test_what_is_masked_is_missing():
    masked = np.ma.array(X.copy(), mask=False)
    masked[3, 1] = np.ma.masked
    masked.data[3, 1] = -9999
    with pytest.raises(InputError, match="row 3"):
        model().fit(masked)
    with pytest.raises(InputError, match="row 3"):
        model().fit(X).transform(masked)
    fitted = model(likelihood="mixed").fit(masked)
    assert fitted.impute(masked)[3, 1] > -10
    gaps = X.copy()
    gaps[3, 1] = np.nan
    np.testing.assert_array_equal(model(likelihood="mixed").fit(gaps).sample(5), fitted.sample(5))
    assert plain_rows(np.ma.array(X)) is not None
    np.testing.assert_array_equal(plain_rows(np.ma.array([[1, 2]], mask=[[0, 1]], dtype=np.uint8)), [[1, np.nan]])


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"a": X[:, 0]}, r"pandas.DataFrame\(X\)"),
        ([{"a": 1.0}] * 5, r"pandas.DataFrame\(X\)"),
        ((row for row in X), r"vaelab.data.gather\(X, rows"),
        (iter([1]), r"vaelab.data.gather\(X, rows"),
        ("table.csv", r"vaelab.data.load\('table.csv'\)"),
        (None, "Pass the rows"),
        (np.zeros(5, dtype=[("a", float)]), r"pandas.DataFrame\(X\)"),
    ],
)
def test_what_holds_rows_says_how_to_get_them(given, remedy):
    with pytest.raises(InputError, match=remedy):
        model().fit(given)
    with pytest.raises(InputError, match=remedy):
        model(likelihood="mixed").fit(given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model(held_out=0.98).fit(X), "held_out=0.98"),
        (lambda: vaelab.estimate_dimension(X[:3]), "3 rows, which say nothing"),
        (lambda: ConditionalVAE(**BRIEF).fit(X, X[:, 0] + 1j), "complex"),
        (lambda: ConditionalVAE(**BRIEF).fit(X, pd.date_range("2020", periods=200)), "times as y"),
        (lambda: ConditionalVAE(**BRIEF).fit(X, pd.date_range("2020", periods=200).to_numpy()), "times as y"),
        (lambda: model().fit(X).prune(X, keep=[0, 0]), "twice"),
        (lambda: model().fit(X * 1e160), r"numbers up to .*e\+160"),
        (lambda: model().fit(X).score_samples(X * 1e155), r"numbers up to .*e\+155"),
        (lambda: model().fit(X).sample(10**12), "GB where the machine has"),
    ],
)
def test_odd_values_are_refused(call, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=message):
            call()


def test_columns_are_compared_by_their_names():
    frame = pd.DataFrame(X * [1, 10, 100], columns=list("abc"))
    plain, turned = vaelab.compare(frame, frame), vaelab.compare(frame, frame[list("cab")])
    assert str(plain) == str(turned)
    with pytest.raises(InputError, match=r"in one set only: 'a', 'x'"):
        vaelab.compare(frame, frame.rename(columns={"a": "x"}))


def _said(x, columns=None, levels=()):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warn_of_wild_entries(torch.as_tensor(x), columns, levels)
    return "".join(str(one.message) for one in heard)


def test_wild_entries_are_named():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(2000, 4))
    assert _said(x) == ""
    x[7, 2] = 1e5
    assert "column 'c' has most of its variance from 1 row(s), such as 100000 in row 7" in _said(x, list("abcd"))
    with pytest.warns(VaelabWarning, match="column 2 has most of its variance"):
        model().fit(x)
    x = generator.normal(size=(2000, 2))
    x[::40, 1] = -9999
    assert "column 1 holds -9999 in 50 of 2000 rows" in _said(x)
    assert _said(x, None, (0, 5)) == ""  # a category


@pytest.mark.parametrize(
    "law",
    [
        lambda g: g.lognormal(0, 1.5, 2000),
        lambda g: g.standard_t(3, 2000),
        lambda g: (g.random(2000) < 0.02) * g.normal(50, 5, 2000),
        lambda g: g.integers(0, 2, 2000) * 9999.0,
        lambda g: g.uniform(-10_000, 10_000, 2000).round(),
        lambda g: np.zeros(2000),
        lambda g: (g.random(2000) < 0.002) * 1.0,
        lambda g: (g.random(2000) < 0.002) * g.normal(size=2000),
        lambda g: g.exponential(size=2000) ** 2,
    ],
)
def test_heavy_tails_rare_events_and_wide_columns_are_not_wild(law):
    for seed in range(5):
        assert _said(law(np.random.default_rng(seed))[:, None]) == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(50, 3, device="meta"), "meta device"),
        (torch.quantize_per_tensor(torch.zeros(50, 3), 0.1, 0, torch.qint8), "quantized"),
        (torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "nested"),
        (torch.zeros(50, 3).to_sparse(), "sparse"),
        ({1.0, 2.0}, "a set"),
        (len, "a builtin_function_or_method"),
        (np.full((50, 3), np.timedelta64(5, "s")), "timedelta64"),
        ([[1.0, 2.0], [3.0]], "no regular array"),
        (np.array([[10**400, 1.0]] * 50, dtype=object), "float"),
    ],
)
def test_what_holds_no_numbers_to_read_is_refused(given, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in (model().fit, model().fit(X).transform):
            with pytest.raises(InputError, match=message):
                call(given)


def test_bfloat16_is_read_everywhere():
    fitted = model(likelihood="mixed").fit(X)
    assert np.isfinite(fitted.score_samples(torch.tensor(X).bfloat16())).all()
