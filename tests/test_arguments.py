"""Numbers, names and records that callers give: what each check takes, and what it says."""

import re
import warnings

import numpy as np
import pytest
import torch

import vaelab
from vaelab.arguments import check_count, check_kind, check_memory, check_number, check_seed, check_share, names_of
from vaelab.diagnostics.neighbour_dimension import two_nn
from vaelab.errors import InputError, NotNumbersError
from vaelab.estimators import GaussianVAE, SequenceVAE, TwoStageVAE
from vaelab.spec import from_yaml, plain_value
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


@pytest.mark.parametrize(
    "call",
    [
        lambda n: GaussianVAE(2, posterior=f"diagonal(draws={n})", epochs=1).fit(X),
        lambda n: TwoStageVAE(2, network="mlp([4])", densities=f"second_stage(hidden=[{n}])", epochs=1).fit(X),
        lambda n: TwoStageVAE(2, network="mlp([4])", densities=f"flow_matching(width={n})", epochs=1).fit(X),
        lambda n: SequenceVAE(2, context=n, epochs=1).fit([X[:5], X[5:10]]),
    ],
    ids=["draws", "stage two", "flow matching", "context"],
)
def test_counts_beyond_memory_are_refused_with_the_bytes(call):
    with pytest.raises(InputError, match="GB where the machine has"):
        call(10**11)


def test_counts_that_would_take_for_ever_have_an_end(fitted):
    for call in (
        lambda: GaussianVAE(2, score_draws=10**11, epochs=1).fit(X),
        lambda: Options(likelihood_draws=10**11),
        lambda: Options(draws=10**11),
        lambda: vaelab.data.load("digits", image_size=10**11),
        lambda: vaelab.estimate_dimension(X, seeds=10**11),
    ):
        with pytest.raises(InputError, match="at most"):
            call()
    with pytest.raises(InputError, match=r"samples=.*GB where the machine has"):
        vaelab.enhance(fitted, X, densities=["gaussian"], samples=10**11)


@pytest.mark.parametrize("value", ["5", b"5", np.array(5), torch.tensor(5), True])
@pytest.mark.parametrize("name", ["epochs", "batch_size", "lr", "score_draws", "held_out", "random_state"])
def test_what_only_looks_like_a_number_is_refused_in_every_place(name, value):
    with pytest.raises(InputError, match=f"{name}="):
        GaussianVAE(2, network="mlp([4])", **{"epochs": 1, name: value}).fit(X)
    with pytest.raises(InputError, match="hidden="):
        vaelab.specs.MLP(hidden=(value,))


def test_text_of_the_shell_and_of_files_is_read_as_numbers_first():
    assert plain_value("1e-4") == 1e-4
    assert from_yaml("lr: 1e-4\nname: e5") == {"lr": 1e-4, "name": "e5"}
    assert vaelab.Settings(training="training(lr=1e-4)").training.lr == 1e-4


def test_a_seed_of_64_bits_is_one_everywhere(fitted):
    last = 2**64 - 1
    assert np.isfinite(fitted.sample(2, random_state=last)).all()
    assert vaelab.Settings(seed=last).seed == last
    vaelab.enhance(fitted, X, densities=["gaussian"], samples=50, seed=last)
    for call in (lambda: fitted.sample(2, random_state=2**64), lambda: vaelab.Settings(seed=2**64)):
        with pytest.raises(InputError, match=r"random_state=|seed="):
            call()
    with pytest.raises(InputError, match="random_state="):
        fitted.sample(2, random_state=True)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.001, "0.12 rows, .*: none is set aside"), (0.03, "3.6 rows, .*: 10 are set aside"), (0.1, "")],
)
def test_a_share_that_comes_to_no_row_or_too_few_is_said(share, said):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        GaussianVAE(2, network="mlp([4])", epochs=1, held_out=share, random_state=0).fit(X)
    of_shares = [str(one.message) for one in heard if "held_out=0" in str(one.message)]
    assert bool(of_shares) == bool(said)
    assert not said or re.search(f"held_out={share} of 120 rows is {said}", of_shares[0])


def test_sets_in_other_units_are_refused_where_powers_of_distances_overflow():
    for tiny in (1e-300, 1e-100):
        with pytest.raises(InputError, match="the same units"):
            vaelab.compare(X * tiny, X)


def test_neighbours_count_the_same_in_the_tiniest_unit():
    assert two_nn(X * 2.0**-1000) == two_nn(X)


def test_epochs_without_a_training_are_refused(fitted):
    with pytest.raises(InputError, match=r"epochs=5 for densities gaussian"):
        vaelab.enhance(fitted, X, densities=["gaussian"], epochs=5)


def test_conditions_without_numbers_are_refused():
    with pytest.raises(InputError, match="meta device"):
        TwoStageVAE(2, condition="standard", epochs=1).fit(X, torch.zeros(120, device="meta"))
