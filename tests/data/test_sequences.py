"""Sequences: what is read, what is refused, and windows against a direct loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vaelab.data import ArrayBatches, MappedArray, MappedBatches, Ragged, Windows, split
from vaelab.data.sequences import advance, context_of, is_sequence, latest_windows, target_rows
from vaelab.errors import InputError, VaelabWarning
from vaelab.model import VAE, Conditional, Gaussian, LearnedVariance
from vaelab.nets import ConditionReader, LSTMDecoder, LSTMEncoder

LENGTHS = [4, 1, 7, 2, 3]
K, T = 2, 3


def ragged(features: int = K) -> Ragged:
    points = torch.randn(sum(LENGTHS), features, dtype=torch.float64)
    return Ragged(points, torch.tensor([0, *np.cumsum(LENGTHS)]))


def direct(sequence: Tensor, step: int, context: int) -> Tensor:
    """The window before a step of one sequence, point by point."""
    out = torch.zeros(context, sequence.shape[1] + 1, dtype=sequence.dtype)
    for back in range(1, context + 1):
        if step - back >= 0:
            out[context - back, :-1] = sequence[step - back]
            out[context - back, -1] = 1
    return out


def every_window(sequences: Ragged, context: int) -> Tensor:
    return torch.stack([direct(s, step, context) for s in sequences for step in range(len(s))])


# reading


ARRAYS = [np.arange(6.0).reshape(3, 2), np.arange(2.0).reshape(1, 2), np.arange(8.0).reshape(4, 2)]


def padded() -> np.ndarray:
    x = np.full((3, 5, 2), np.nan)
    for i, part in enumerate(ARRAYS):
        x[i, : len(part)] = part
    return x


@pytest.mark.parametrize(
    "given",
    [
        ARRAYS,
        tuple(ARRAYS),
        [torch.from_numpy(part) for part in ARRAYS],
        [pd.DataFrame(part, columns=["a", "b"]) for part in ARRAYS],
        [part.tolist() for part in ARRAYS],
        [part.astype(np.int32) for part in ARRAYS],
        padded(),
        torch.from_numpy(padded()),
        padded().astype(">f8"),
    ],
)
def test_all_forms_are_read_alike(given):
    read = Ragged.of(given)
    assert read.points.dtype == torch.float64
    assert read.points.tolist() == np.concatenate(ARRAYS).tolist()
    assert read.offsets.tolist() == [0, 3, 4, 8]
    assert read.lengths.tolist() == [3, 1, 4]
    assert len(read) == 3
    assert [part.tolist() for part in read] == [part.tolist() for part in ARRAYS]
    assert Ragged.of(read) is read


@pytest.mark.parametrize(
    "given",
    [
        np.array([[1.0, 2, 3], [4, 5, np.nan]]),
        pd.DataFrame([[1.0, 2, 3], [4, 5, np.nan]]),
        [[1.0, 2, 3], [4, 5]],
        [np.array([1.0, 2, 3]), pd.Series([4.0, 5], index=[9, 7])],
        [torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 5])],
        np.array([np.array([1.0, 2, 3]), np.array([4.0, 5])], dtype=object),
    ],
)
def test_numbers_are_sequences_of_one_feature(given):
    read = Ragged.of(given)
    assert read.points.tolist() == [[1], [2], [3], [4], [5]]
    assert read.offsets.tolist() == [0, 3, 5]


def test_a_frame_is_said_to_hold_a_sequence_in_each_row():
    wide = pd.DataFrame([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], columns=["a", "b", "c"])
    with pytest.warns(VaelabWarning, match=r"2 rows of X .* of one feature and 3 steps\..*pass \[X\]"):
        assert Ragged.of(wide).lengths.tolist() == [3, 3]
    polars = pytest.importorskip("polars")
    with pytest.warns(VaelabWarning, match="sequences of one feature"):
        assert Ragged.of(polars.from_pandas(wide)).points.flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_full_array_is_read_without_a_copy():
    x = np.zeros((4, 3, 2), np.float32)
    points = Ragged.of(x).points
    x[2, 1, 0] = 7
    assert points[7, 0] == 7
    assert points.dtype == torch.float32


def with_value(value: float, *place: int) -> np.ndarray:
    x = padded()
    x[place] = value
    return x


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (with_value(np.nan, 2, 1, 0), "1 NaN or infinite value.* in 1 of 3 sequences, first in sequence 2, step 1"),
        (with_value(np.nan, 2, 1), "2 NaN or infinite value.*first in sequence 2, step 1"),
        (with_value(np.inf, 2, 3, 0), "1 NaN or infinite value.*first in sequence 2, step 3"),
        (torch.from_numpy(with_value(-np.inf, 0, 0, 1)), "first in sequence 0, step 0"),
        (with_value(np.nan, 1), r"1 sequence\(s\) without a step: 1; wanted at least one step in each"),
        ([ARRAYS[0], ARRAYS[0][:0]], r"1 sequence\(s\) without a step: 1"),
        ([[1.0], []], r"1 sequence\(s\) without a step: 1"),
        ([ARRAYS[0], np.array([[1, np.nan]])], r"X\[1\] with 1 NaN or infinite value.*first in row 0, column\(s\) 1"),
        ([ARRAYS[0], np.zeros((3, 4))], r"X\[1\] with shape \(3, 4\) after X\[0\] with shape \(3, 2\)"),
        ([ARRAYS[0], np.zeros(3)], r"X\[1\] with shape \(3, 1\) after"),
        ([np.array([["a", "b"]])], r"X\[0\] with dtype <U1"),
        (np.array([[["a"]]]), "X with dtype <U1"),
        ([pd.DataFrame({"a": [1.0], "b": [2.0]}), pd.DataFrame({"b": [1.0], "a": [2.0]})], "same columns in the same"),
        (pd.DataFrame({"s": [[1.0, 2.0], [3.0]]}), r"column of sequences: list\(X\['its name'\]\)"),
        (pd.DataFrame({"s": ["a", "b"]}), "a frame of numbers, whose rows are sequences"),
        (pd.Series([[1.0, 2.0], [3.0]]), r"type Series.*list\(X\)"),
        ([], "X without a sequence"),
        ([1.0, 2.0], r"X as a list of float; .*use \[X\]"),
        ("abc", "X of type str"),
        (3.0, "X of type float"),
        (np.zeros(3), r"X with shape \(3,\)"),
        (np.zeros((3, 0, 2)), r"shape \(3, 0, 2\)"),
        (np.zeros((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\)"),
        ([np.zeros((2, 3, 4))], r"X\[0\] with shape \(2, 3, 4\)"),
        (np.zeros((1, 2, 3), complex), "complex"),
    ],
)
def test_wrong_sequences_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Ragged.of(given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (ARRAYS, True),
        (padded(), True),
        (ragged(), True),
        ([part.tolist() for part in ARRAYS], True),
        (np.array([*ARRAYS, None], dtype=object)[:3], True),
        (np.zeros((3, 2)), False),
        ([[1.0, 2.0], [3.0, 4.0]], False),
        ([1.0, 2.0], False),
        (["a", "b"], False),
        ("ab", False),
        ([], False),
        (None, False),
        (pd.DataFrame({"a": [1.0]}), False),
    ],
)
def test_only_what_cannot_be_a_table_counts_as_sequences(given, wanted):
    assert is_sequence(given) is wanted


# rows and windows


def test_rows_are_last_points_or_all():
    sequences = ragged()
    assert target_rows(sequences, "last").tolist() == [3, 4, 11, 13, 16]
    assert target_rows(sequences, "all").tolist() == list(range(17))
    assert (context_of(sequences, None), context_of(sequences, 2)) == (6, 2)
    single = Ragged(torch.zeros(2, 1), torch.arange(3))
    assert context_of(single, None) == 1
    assert context_of(Ragged(torch.zeros(500, 1), torch.tensor([0, 500])), None) == 64
    with pytest.raises(InputError, match="context=0"):
        context_of(sequences, 0)
    with pytest.raises(InputError, match="loss='first'"):
        target_rows(sequences, "first")


@pytest.mark.parametrize("context", [1, T, 9])
def test_windows_equal_a_direct_loop(context):
    sequences = ragged()
    rows = target_rows(sequences, "all")
    windows, wanted = Windows.before(sequences, rows, context), every_window(sequences, context)
    assert windows.shape == wanted.shape
    assert windows.dtype == wanted.dtype
    index = torch.randint(len(rows), (50,))
    assert torch.equal(windows.index_select(0, index), wanted[index])
    chosen = torch.tensor([5, 5, 0, 16])
    assert torch.equal(windows.subset(chosen).index_select(0, torch.arange(4)), wanted[chosen])
    last = target_rows(sequences, "last")
    assert torch.equal(Windows.before(sequences, last, context).index_select(0, torch.arange(5)), wanted[last])


def test_latest_windows_are_the_conditions_of_what_comes_next():
    sequences = ragged()
    wanted = torch.stack([direct(s, len(s), T) for s in sequences])
    assert torch.equal(latest_windows(sequences, T), wanted)
    x = torch.randn(len(sequences), K).double()
    longer = Ragged.of([torch.cat([s, x[i : i + 1]]) for i, s in enumerate(sequences)])
    assert torch.equal(advance(latest_windows(sequences, T), x), latest_windows(longer, T))
    nothing = Ragged(torch.zeros(0, K), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(latest_windows(nothing, T), torch.zeros(3, T, K + 1))


def test_memory_does_not_grow_with_the_context():
    """Windows of a million steps exist only as numbers of points."""
    windows = Windows.before(ragged(), torch.arange(17), 10**6)
    assert windows.shape == (17, 10**6, K + 1)
    held = [value for value in vars(windows).values() if isinstance(value, Tensor)]
    assert sum(value.numel() for value in held) == 18 * (K + 1) + 2 * 17


def test_windows_refuse_what_they_cannot_use():
    sequences = ragged()
    with pytest.raises(InputError, match="numbers in"):
        Windows.before(sequences, torch.tensor([17]), T)
    with pytest.raises(InputError, match="Standardise"):
        Windows.after(Ragged(sequences.points.int(), sequences.offsets), T)
    with pytest.raises(InputError, match="whole number"):
        Windows.after(sequences, 0)
    with pytest.raises(InputError, match="dim=1"):
        Windows.after(sequences, T).index_select(1, torch.tensor([0]))
    with pytest.raises(InputError, match=r"points \(n, k\)"):
        advance(latest_windows(sequences, T), torch.zeros(5, K + 1))
    with pytest.raises(InputError, match="5 conditions for 17 rows"):
        ArrayBatches(sequences.points, Windows.after(sequences, T))


def test_batches_take_windows_where_a_tensor_would_stand(tmp_path):
    sequences = ragged()
    x, rows = sequences.points, target_rows(sequences, "all")
    windows, wanted = Windows.before(sequences, rows, T), every_window(sequences, T)
    path = tmp_path / "x.npy"
    np.save(path, x.numpy())
    of_windows = [
        ArrayBatches(x, windows, dtype=torch.float64),
        MappedBatches(MappedArray(path), windows, dtype=torch.float64),
    ]
    of_tensor = ArrayBatches(x, wanted, dtype=torch.float64)
    index = torch.tensor([3, 0, 2, 2])
    for batches in of_windows:
        for ours, theirs in zip(split(batches, 0.3), split(of_tensor, 0.3), strict=True):
            again = ours.subset(torch.arange(len(ours)).flip(0)).to("cpu")
            for a, b in ((ours, theirs), (again, theirs.subset(torch.arange(len(ours)).flip(0)))):
                got, direct_rows = a.take(index), b.take(index)
                assert torch.equal(got[0], direct_rows[0])
                assert torch.equal(got[1], direct_rows[1])


def test_moving_a_subset_leaves_windows_unmade():
    sequences = ragged()
    batches = ArrayBatches(sequences.points, Windows.before(sequences, target_rows(sequences, "all"), 10**9))
    moved = batches.subset(torch.tensor([4, 2])).to("meta")
    assert isinstance(moved.c, Windows)
    assert moved.c.shape == (2, 10**9, K + 1)
    assert moved.c.device == torch.device("meta")


def test_objectives_of_all_points_add_up_to_that_of_the_sequence():
    """Σ_l −ELBO(x_l | x_<l), from rows, against a loop over sequences and steps."""
    sequences, window = ragged(), (T, K + 1)
    vae = VAE(
        LSTMEncoder((K,), 4, condition_shape=window, units=5),
        LSTMDecoder(2, (K,), condition_shape=window, units=5),
        latent_dim=2,
        prior=Conditional(ConditionReader(window, 4, hidden=(5,)), 2),
        likelihood=Gaussian(LearnedVariance(0.5)),
    ).double()
    rows = target_rows(sequences, "all")
    batches = ArrayBatches(sequences.points[rows], Windows.before(sequences, rows, T), dtype=torch.float64)
    noise = torch.randn(len(rows), 2).double()
    with torch.no_grad():
        x, c = batches.take(torch.arange(len(rows)))
        scores = vae(x, c, noise=noise).per_sample
        summed = torch.stack([part.sum() for part in scores.split(LENGTHS)])
        loop, row = [], 0
        for s in sequences:
            loop.append(torch.zeros((), dtype=torch.float64))
            for step in range(len(s)):
                one = vae(s[step : step + 1], direct(s, step, T)[None], noise=noise[row : row + 1])
                loop[-1] = loop[-1] + one.distortion[0] + one.penalties["kl"][0]
                row += 1
    torch.testing.assert_close(summed, torch.stack(loop), rtol=1e-12, atol=1e-12)
