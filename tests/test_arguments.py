"""Numbers, names and records that callers give: what each check takes, and what it says."""

import numpy as np
import pytest

import vaelab
from vaelab.arguments import check_count, check_kind, check_memory, check_number, check_seed, check_share, names_of
from vaelab.errors import InputError, NotNumbersError
from vaelab.estimators import GaussianVAE
from vaelab.verbs import Options

X = np.random.default_rng(0).normal(size=(120, 3))


@pytest.fixture(scope="module")
def fitted():
    return GaussianVAE(2, network="mlp([4])", epochs=1, random_state=0).fit(X)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, True, np.nan, [3], 3j])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(InputError, match=r"n=.*a whole number of at least 1"):
        check_count("n", value)


def test_counts_may_be_of_numpy_and_have_both_ends():
    check_count("n", np.int32(3))
    check_count("n", 0, 0)
    check_count("n", 5, most=5)
    with pytest.raises(InputError, match="at most 5"):
        check_count("n", 6, most=5)


@pytest.mark.parametrize("value", [-1, 1.5, "seed", 2**64])
def test_what_is_no_seed_is_refused(value):
    with pytest.raises(InputError, match="seed="):
        check_seed(value)


def test_seeds_up_to_the_last_of_torch_are_taken():
    check_seed(0)
    check_seed(2**64 - 1)


@pytest.mark.parametrize("value", [0, 1, -0.1, np.nan, "half", None, 0.1j])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(InputError, match="between 0 and 1"):
        check_share("held_out", value)
    check_share("held_out", 0.5)


@pytest.mark.parametrize("value", [0, -1, np.inf, np.nan, "1", [1], True])
def test_what_is_no_positive_number_is_refused(value):
    with pytest.raises(InputError, match="gamma="):
        check_number("gamma", value, "a variance")
    check_number("gamma", np.float32(2), "a variance")


def test_one_name_is_one_and_not_its_letters():
    assert names_of("metrics", "fid") == ("fid",)
    assert names_of("metrics", ["fid", "kid"]) == ("fid", "kid")
    for wrong in (len, 3, {"fid": 1}, ["fid", 3], b"fid", None):
        with pytest.raises(InputError, match="metrics="):
            names_of("metrics", wrong)


def test_other_records_and_what_takes_too_much_are_refused():
    with pytest.raises(InputError, match="wanted Options"):
        check_kind("options", "fast", Options, "Options")
    check_memory("a little", 1e3, "")
    with pytest.raises(InputError, match="too much, which takes 1,000,000,000 GB"):
        check_memory("too much", 1e18, "")


@pytest.mark.parametrize(
    "call",
    [
        lambda model: vaelab.diagnose(model, X, seed="a", pictures=False),
        lambda model: vaelab.diagnose(model, X, rows=1.5, pictures=False),
        lambda model: vaelab.enhance(model, X, densities=len),
        lambda model: vaelab.enhance(model, X, held_out="half"),
        lambda model: vaelab.compare_densities(model, X, densities=[{"kind": 3}]),
        lambda model: vaelab.compare_tables(X, X, seed=1.5),
        lambda model: vaelab.compare(X, X, scaling="none"),
        lambda model: vaelab.compare(X, X, options="all"),
        lambda model: vaelab.compare(X, X, protocols=len),
        lambda model: vaelab.estimate_dimension(X, seeds={}),
        lambda model: vaelab.estimate_dimension(X, settings="fast"),
        lambda model: vaelab.manifold_dimension(model, X, regions=1.5),
        lambda model: vaelab.prune(model, X, keep=b"ab"),
        lambda model: vaelab.prune(model, X, tolerance="small"),
        lambda model: vaelab.recalibrate(model, X, shape=np.zeros(3)),
        lambda model: vaelab.wrap(len, len, gamma=[1]),
        lambda model: vaelab.wrap(len, len, variance=np.zeros(3)),
        lambda model: vaelab.load(3),
        lambda model: vaelab.load("a" * 5000),
        lambda model: vaelab.data.load("a\0b"),
        lambda model: vaelab.data.load("digits", seed="a"),
        lambda model: model.sample(2, given="all"),
        lambda model: model.sample(2, random_state="a"),
        lambda model: model.log_likelihood(X, k=10**12),
        lambda model: Options(draws=np.array([1, 2])),
    ],
)
def test_calls_refuse_arguments_of_other_kinds(fitted, call):
    with pytest.raises(InputError):
        call(fitted)


def test_entries_that_are_no_numbers_are_refused_as_scikit_learn_asks(fitted):
    rows = X.astype(object)
    rows[3, 1] = {}
    with pytest.raises(NotNumbersError, match="entries that are no numbers"):
        fitted.transform(rows)
    assert issubclass(NotNumbersError, InputError)
    assert issubclass(NotNumbersError, TypeError)


def test_networks_that_no_memory_holds_are_refused_before_they_are_made():
    with pytest.raises(InputError, match=r"a network of .* weights"):
        GaussianVAE(10**11, network="mlp([4])", epochs=1).fit(X)
    with pytest.raises(InputError, match="that fails"):
        GaussianVAE(2, network=len, epochs=1).fit(X)
