"""check_array: what passes unchanged, and what each refusal says."""

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab.data import check_array
from vaelab.errors import InputError


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.ones((3, 2), np.uint8), torch.uint8),
        (np.ones((3, 2), np.float16), torch.float16),
        (np.ones((3, 2), np.float32), torch.float32),
        (np.ones((3, 2), ">f8"), torch.float64),
        (np.ones((3, 2), bool), torch.float32),
        (np.ones((3, 2), np.int64), torch.float64),
        (np.ones((3, 2), np.uint16), torch.float64),
        (torch.ones(3, 2, dtype=torch.bfloat16), torch.float32),
        (torch.ones(3, 2, dtype=torch.int32), torch.float64),
        ([[1, 2], [3, 4]], torch.float64),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [1, 2]}), torch.float64),
        (pd.DataFrame({"a": [1, 2]}, dtype="Int64"), torch.float64),
    ],
)
def test_accepted_types(given, dtype):
    x = check_array(given)
    assert x.dtype == dtype
    values = given.tolist() if isinstance(given, torch.Tensor) else given
    assert np.array_equal(x.double().numpy(), np.asarray(values, dtype=float))


def test_memory_is_shared_where_possible():
    x = np.zeros((3, 2), np.float32)
    tensor = check_array(x)
    x[1, 1] = 7
    assert tensor[1, 1] == 7


def test_read_only_and_reversed_arrays():
    x = np.arange(6.0).reshape(3, 2)
    x.flags.writeable = False
    assert check_array(x[::-1]).tolist() == x[::-1].tolist()
    tensor = check_array(x)
    tensor[0, 0] = 5.0
    assert x[0, 0] == 0.0


def test_gradients_are_dropped():
    assert not check_array(torch.ones(2, 2, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(5), r"X with shape \(5,\).*Reshape your data"),
        (np.zeros(()), r"shape \(\)"),
        (np.zeros((5, 8, 8)), r"shape \(5, 8, 8\).*X\[:, None\]"),
        (np.zeros((5, 1, 2, 3, 3)), r"shape \(5, 1, 2, 3, 3\); wanted a table \(n, d\) or images"),
        (np.zeros((5, 8, 8, 3)), r"looks channels-last.*transpose\(0, 3, 1, 2\)"),
        (np.zeros((5, 28, 28, 1)), "looks channels-last"),
        (np.zeros((1, 3)), "1 sample.*at least 2"),
        (np.zeros((0, 3)), "0 samples"),
        (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
        (np.zeros((3, 2), complex), "complex numbers.*Complex data not supported"),
        (torch.zeros(3, 2, dtype=torch.complex64), "Complex data not supported"),
        (np.zeros((3, 2), object), r"dtype object.*X.astype\(float\)"),
        ([["a", "b"], ["c", "d"]], "dtype <U1"),
        ([[1, 2], [3]], "no regular array"),
        ([torch.ones(2, dtype=torch.bfloat16)] * 3, r"numpy cannot read.*torch\.stack\(X\)"),
        ([torch.ones(2, requires_grad=True)] * 3, r"torch\.stack\(X\)"),
        (torch.eye(3).to_sparse(), "to_dense"),
        (pd.DataFrame({"a": [1, 2], "city": ["x", "y"]}), "1 column.*'city'.*--label-column city"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(InputError, match=message) as caught:
        check_array(given)
    assert caught.value.got
    assert caught.value.wanted


def test_sparse_matrices_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(InputError, match=r"toarray\(\)"):
        check_array(sparse.eye(3).tocsr())


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 1, 28, 3), (5, 3, 4, 4), (5, 64, 8, 8)])
def test_channels_first_images_pass(shape):
    assert check_array(np.zeros(shape)).shape == shape


def test_non_finite_values_are_counted_and_located():
    x = np.zeros((10, 4))
    x[3, 1] = x[3, 2] = np.nan
    x[7, 1] = np.inf
    with pytest.raises(
        InputError, match=r"Z with 3 NaN or infinite value\(s\) in 2 of 10 rows, first in row 3, column\(s\) 1, 2;"
    ):
        check_array(x, name="Z")
    with pytest.raises(InputError, match=r"column\(s\) 'b', 'c'"):
        check_array(pd.DataFrame(x, columns=list("abcd")))
    with pytest.raises(InputError, match=r"1 infinite value\(s\) in 1 of 10 rows, first in row 7"):
        check_array(x, allow_nan=True)
    x[7, 1] = 0
    assert int(check_array(x, allow_nan=True).isnan().sum()) == 2


def test_non_finite_pixels_have_no_columns():
    x = np.zeros((4, 1, 2, 2), np.float32)
    x[2] = np.nan
    with pytest.raises(InputError, match=r"4 NaN or infinite value\(s\) in 1 of 4 rows, first in row 2; wanted"):
        check_array(x)


def test_missing_values_of_nullable_columns_count():
    with pytest.raises(InputError, match="1 NaN"):
        check_array(pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}))


def test_one_row_can_be_allowed():
    assert check_array(np.zeros((1, 3)), min_rows=1).shape == (1, 3)
