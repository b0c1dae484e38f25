"""Wrong values by what they are given for: name → how to make one, and whether it may also be taken."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, TensorDataset

Values = Mapping[str, tuple[Callable[[], Any], bool]]

rng = np.random.default_rng(3)
X = rng.normal(size=(120, 3))
REFUSE, MAY = False, True


def _changed(value: Any, dtype: Any = float) -> np.ndarray:
    x = X.astype(dtype)
    x[5, 1] = value
    return x


ROWS: Values = {
    "None": (lambda: None, REFUSE),
    "text": (lambda: "rows", REFUSE),
    "a path": (lambda: Path("rows.csv"), REFUSE),
    "a number": (lambda: 3, REFUSE),
    "a dictionary": (lambda: {"a": X[:, 0]}, REFUSE),
    "a set": (lambda: {1.0, 2.0}, REFUSE),
    "a function": (lambda: len, REFUSE),
    "a class": (lambda: np.ndarray, REFUSE),
    "a generator": (lambda: (row for row in X), REFUSE),
    "a DataLoader": (lambda: DataLoader(TensorDataset(torch.tensor(X))), MAY),
    "a DataLoader of dictionaries": (lambda: DataLoader([{"a": row, "b": row} for row in X]), REFUSE),
    "a DataLoader of rows of different lengths": (
        lambda: DataLoader([np.zeros(1 + i % 2) for i in range(50)], batch_size=4),
        REFUSE,
    ),
    "a TensorDataset without rows": (lambda: TensorDataset(torch.tensor(X[:0])), REFUSE),
    "a Dataset without a length": (Dataset, REFUSE),
    "an empty list": (lambda: [], REFUSE),
    "no rows": (lambda: X[:0], REFUSE),
    "no columns": (lambda: X[:, :0], REFUSE),
    "one dimension": (lambda: X[:, 0], REFUSE),
    "no dimension": (lambda: np.float64(2.0), REFUSE),
    "three dimensions": (lambda: X.reshape(30, 4, 3), REFUSE),
    "five dimensions": (lambda: X.reshape(30, 1, 1, 4, 3), REFUSE),
    "a NaN": (lambda: _changed(np.nan), REFUSE),
    "an infinity": (lambda: _changed(np.inf), REFUSE),
    "only NaN": (lambda: np.full_like(X, np.nan), REFUSE),
    "numbers near the largest": (lambda: X * 1e300, REFUSE),
    "text in a column": (lambda: _changed("a", object), REFUSE),
    "only text": (lambda: np.array([["a", "b", "c"]] * 50), REFUSE),
    "objects": (lambda: np.array([[object()] * 3] * 50), REFUSE),
    "None in a column": (lambda: _changed(None, object), REFUSE),
    "whole numbers beyond any": (lambda: _changed(10**400, object), REFUSE),
    "complex numbers": (lambda: X + 1j, REFUSE),
    "times": (lambda: np.full((50, 3), np.datetime64("2020-01-01")), REFUSE),
    "durations": (lambda: np.full((50, 3), np.timedelta64(5, "s")), REFUSE),
    "a sparse matrix": (lambda: sparse.csr_matrix(X), REFUSE),
    "a sparse tensor": (lambda: torch.tensor(X).to_sparse(), REFUSE),
    "a tensor without storage": (lambda: torch.zeros(50, 3, device="meta"), REFUSE),
    "a complex tensor": (lambda: torch.tensor(X + 1j), REFUSE),
    "a quantized tensor": (lambda: torch.quantize_per_tensor(torch.tensor(X).float(), 0.1, 0, torch.qint8), REFUSE),
    "a nested tensor": (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), REFUSE),
    "rows of different lengths": (lambda: [[1.0, 2.0], [3.0]], REFUSE),
    "a structured array": (lambda: np.zeros(50, dtype=[("a", float), ("b", float)]), REFUSE),
    "bytes": (lambda: b"abc", REFUSE),
    "a matrix of objects that are rows": (lambda: np.array([X[0], None], dtype=object), REFUSE),
    "a frame without rows": (lambda: pd.DataFrame(X).iloc[:0], REFUSE),
    "a frame of text": (lambda: pd.DataFrame({"a": ["x"] * 50, "b": ["y"] * 50, "c": ["z"] * 50}), REFUSE),
    "a frame of times": (lambda: pd.DataFrame({c: pd.date_range("2020", periods=50) for c in "abc"}), REFUSE),
    "a frame with two columns of one name": (lambda: pd.DataFrame(X, columns=list("aab")), REFUSE),
    "a column of frames": (lambda: pd.Series(X[:, 0]), REFUSE),
    "an index of two levels": (lambda: pd.DataFrame(X, columns=pd.MultiIndex.from_tuples([(1, 2)] * 3)), REFUSE),
    "one row": (lambda: X[:1], MAY),
    "constant rows": (lambda: np.ones((50, 3)), MAY),
    "booleans": (lambda: X > 0, MAY),
    "bytes of pixels": (lambda: (X > 0).astype(np.uint8), MAY),
    "half precision": (lambda: X.astype(np.float16), MAY),
    "long doubles": (lambda: X.astype(np.longdouble), MAY),
    "big-endian numbers": (lambda: X.astype(">f8"), MAY),
    "a tensor with gradients": (lambda: torch.tensor(X, requires_grad=True), MAY),
    "bfloat16": (lambda: torch.tensor(X).bfloat16(), MAY),
    "a view turned round": (lambda: X[::-1, ::-1], MAY),
    "a list of tensors": (lambda: list(torch.tensor(X)), MAY),
    "a nullable frame": (lambda: pd.DataFrame(X).convert_dtypes(), MAY),
    "numbers tiny beyond measure": (lambda: X * 1e-300, MAY),
}
"""In place of rows of three columns."""

OTHER_ROWS: Values = {
    "other columns": (lambda: np.hstack([X, X]), REFUSE),
    "one column fewer": (lambda: X[:, :2], REFUSE),
    "images": (lambda: rng.random((20, 1, 8, 8)), REFUSE),
}
"""What only a model that has been fitted can refuse."""

CONDITIONS: Values = {
    "None": (lambda: None, REFUSE),
    "text": (lambda: "a", REFUSE),
    "a number": (lambda: 3, REFUSE),
    "a dictionary": (lambda: {"a": 1}, REFUSE),
    "a set": (lambda: {"a", "b"}, REFUSE),
    "a generator": (lambda: (1 for _ in range(120)), REFUSE),
    "a function": (lambda: len, REFUSE),
    "none at all": (lambda: [], REFUSE),
    "too few": (lambda: ["a"] * 7, REFUSE),
    "too many": (lambda: ["a", "b"] * 100, REFUSE),
    "NaN": (lambda: np.full(120, np.nan), REFUSE),
    "an infinity": (lambda: np.full(120, np.inf), REFUSE),
    "None in every place": (lambda: [None] * 120, REFUSE),
    "complex numbers": (lambda: X[:, 0] + 1j, REFUSE),
    "times": (lambda: pd.date_range("2020", periods=120), REFUSE),
    "objects": (lambda: [object()] * 120, REFUSE),
    "lists of different lengths": (lambda: [[1.0], [1.0, 2.0]] * 60, REFUSE),
    "four dimensions": (lambda: np.zeros((120, 1, 1, 1)), REFUSE),
    "no columns": (lambda: np.zeros((120, 0)), REFUSE),
    "a sparse matrix": (lambda: sparse.csr_matrix(X), REFUSE),
    "a tensor without storage": (lambda: torch.zeros(120, device="meta"), REFUSE),
    "dictionaries": (lambda: [{"a": 1}] * 120, REFUSE),
    "numbers near the largest": (lambda: X[:, 0] * 1e300, REFUSE),
    "text and numbers": (lambda: np.array(["a", 1.5] * 60, dtype=object), MAY),
    "a class known to nobody": (lambda: ["never seen"] * 120, MAY),
    "one class": (lambda: ["a"] * 120, MAY),
}
"""In place of 120 classes, ``"a"`` or ``"b"``."""

COUNTS: Values = {
    "0": (lambda: 0, REFUSE),
    "-1": (lambda: -1, REFUSE),
    "1.5": (lambda: 1.5, REFUSE),
    "text": (lambda: "3", REFUSE),
    "None": (lambda: None, REFUSE),
    "a boolean": (lambda: True, REFUSE),
    "NaN": (lambda: np.nan, REFUSE),
    "infinity": (lambda: np.inf, REFUSE),
    "a list": (lambda: [3], REFUSE),
    "an array": (lambda: np.array([3, 4]), REFUSE),
    "a complex number": (lambda: 3j, REFUSE),
    "a dictionary": (lambda: {}, REFUSE),
    "a time": (lambda: datetime.timedelta(3), REFUSE),
}
"""In place of how many."""

TOO_MANY: Values = {
    "10 to the 12": (lambda: 10**12, REFUSE),
    "2 to the 64": (lambda: 2**64, REFUSE),
}
"""In place of what takes memory."""

SEEDS: Values = {
    "-1": (lambda: -1, REFUSE),
    "1.5": (lambda: 1.5, REFUSE),
    "text": (lambda: "seed", REFUSE),
    "NaN": (lambda: np.nan, REFUSE),
    "a list": (lambda: [1], REFUSE),
    "a function": (lambda: len, REFUSE),
    "2 to the 70": (lambda: 2**70, REFUSE),
    "a torch generator": (torch.Generator, REFUSE),
}
"""In place of a seed."""

SHARES: Values = {
    "1": (lambda: 1.0, REFUSE),
    "-0.1": (lambda: -0.1, REFUSE),
    "7": (lambda: 7, REFUSE),
    "NaN": (lambda: np.nan, REFUSE),
    "infinity": (lambda: np.inf, REFUSE),
    "text": (lambda: "half", REFUSE),
    "a list": (lambda: [0.1], REFUSE),
    "a complex number": (lambda: 0.1j, REFUSE),
}
"""In place of a share of the rows."""

SPECS: Values = {
    "an unknown name": (lambda: "nonesuch", REFUSE),
    "no name": (lambda: "", REFUSE),
    "a number": (lambda: 3.5, REFUSE),
    "an open bracket": (lambda: "mlp([8", REFUSE),
    "a call of nothing": (lambda: "()", REFUSE),
    "a call for Python": (lambda: "mlp(!!python/object/apply:os.getcwd [])", REFUSE),
    "broken YAML": (lambda: "kl({a: [)", REFUSE),
    "a mapping without kind": (lambda: {"hidden": [8]}, REFUSE),
    "a kind that is a number": (lambda: {"kind": 3}, REFUSE),
    "a class": (lambda: dict, REFUSE),
    "a function": (lambda: len, REFUSE),
    "an array": (lambda: np.zeros(3), REFUSE),
    "a set": (lambda: {"mlp"}, REFUSE),
    "bytes": (lambda: b"mlp", REFUSE),
    "settings of another axis": (lambda: "standard(attention=9)", REFUSE),
}
"""In place of a value of an axis."""

ABSURD: Mapping[str, tuple[str, ...]] = {
    "network": ("mlp([0])", "mlp([-3])", "mlp([1000000000])", "mlp([.nan])", "mlp(hidden=text)", "mlp([8], nonesuch)",
                "mlp([8.5])", "mlp({a: 1})", "mlp(width=8)", "mlp(hidden=)", "module.nowhere:Networks", "infogan"),
    "likelihood": ("gaussian(fixed(-1))", "gaussian(fixed(0))", "gaussian(fixed(.nan))", "gaussian(fixed(.inf))",
                   "gaussian(shape=round)", "gaussian(profiled(start=-1))", "gaussian(profiled(start=.inf))",
                   "gaussian(floor=-1)", "gaussian(floor=.inf)", "gaussian(learned(initial=0))",
                   "gaussian(learned(lr_scale=.inf))", "gaussian(1, 2, 3, 4, 5)", "bernoulli(3)", "bernoulli",
                   "logistic_mixture(components=0)", "logistic_mixture"),
    "posterior": ("full(0)", "isotropic(variance=-1)", "isotropic(variance=.inf)", "diagonal(draws=1.5)",
                  "diagonal(draws=100000000000)", "deterministic"),
    "penalties": ("kl(-1)", "kl(.nan)", "kl(.inf)", "kl(text)", "mmd(-1)", "mmd(.inf)", "code_norm(0)",
                  "jacobian(.inf)", "adversarial(hidden=[])", "adversarial(hidden=[0])", "kl(weight=[1, 2])"),
    "densities": ("mixture(0)", "mixture(-2)", "mixture(1.5)", "mixture(components=.nan)", "mixture(1000000)",
                  "mixture(covariance=round)", "flow(training=3)", "second_stage(training(epochs=0))",
                  "second_stage(hidden=[0])", "second_stage(hidden=[-1])", "bayesian_mixture(0)"),
    "training": ("training(epochs=0)", "training(lr=-1)", "training(lr=.nan)", "training(lr=.inf)",
                 "training(batch_size=0)", "training(batch_size=1.5)", "training(beta1=2)",
                 "training(weight_decay=.inf)", "training(schedule=nonesuch)", "training(schedule=step(every=0))"),
    "compute": ("compute(accelerator=abacus)", "compute(precision=3)", "compute(devices=-1)",
                "compute(checkpoint_seconds=-5)", "compute(checkpoint_seconds=.nan)"),
}  # fmt: skip
"""Calls as text whose settings make no sense, or make none for a table of three columns."""
