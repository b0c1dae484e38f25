"""Areas under the curve of anomaly scores, beside scikit-learn's detectors, each at its defaults.

Sets are those that scikit-learn brings along. Half of the usual rows train; the other half, and all rows of the class
that is left out, are scored.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vaelab

Array = np.ndarray[Any, Any]
Scorer = Callable[[Array, Array, int], Array]

SETS: dict[str, tuple[Callable[..., Any], Callable[[Array], Array]]] = {
    "breast_cancer, benign": (datasets.load_breast_cancer, lambda y: y == 1),
    "digits without 2": (datasets.load_digits, lambda y: y != 2),
    "digits without 5": (datasets.load_digits, lambda y: y != 5),
    "digits without 9": (datasets.load_digits, lambda y: y != 9),
    "wine, class 1": (datasets.load_wine, lambda y: y == 1),
    "iris, versicolor": (datasets.load_iris, lambda y: y == 1),
}
"""Name → how to load it, and which classes are as they should be."""


def _vaelab(train: Array, test: Array, seed: int) -> Array:
    found: Array = vaelab.GaussianVAE(random_state=seed).fit(train).score_samples(test)
    return found


def _forest(train: Array, test: Array, seed: int) -> Array:
    found: Array = IsolationForest(random_state=seed).fit(train).score_samples(test)
    return found


def _lof(train: Array, test: Array, seed: int) -> Array:
    model = make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True)).fit(train)
    found: Array = model.score_samples(test)
    return found


def _pca(train: Array, test: Array, seed: int) -> Array:
    """Minus the squared error of as many components as hold 90 % of the variance."""
    scaler = StandardScaler().fit(train)
    x = scaler.transform(test)
    model = PCA(0.9, svd_solver="full").fit(scaler.transform(train))
    found: Array = -((x - model.inverse_transform(model.transform(x))) ** 2).sum(1)
    return found


METHODS: dict[str, Scorer] = {
    "vaelab": _vaelab,
    "IsolationForest": _forest,
    "LocalOutlierFactor": _lof,
    "PCA": _pca,
}


def areas(name: str, seed: int, seconds: dict[str, float]) -> list[float]:
    """Split one set, and return the area of every method."""
    load, usual = SETS[name]
    x, y = load(return_X_y=True)
    inside = np.flatnonzero(usual(y))
    np.random.default_rng(seed).shuffle(inside)
    train, rest = inside[: len(inside) // 2], inside[len(inside) // 2 :]
    test = np.concatenate([rest, np.flatnonzero(~usual(y))])
    found = []
    for method, score in METHODS.items():
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(float(roc_auc_score(usual(y)[test], score(x[train], x[test], seed))))
        seconds[method] += time.process_time() - start
    return found


def main() -> None:
    """Print a row per set, and mean ranks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3, help="splits, over which areas are averaged")
    given = parser.parse_args()
    print("| set | " + " | ".join(METHODS) + " |\n|---|" + "---|" * len(METHODS))
    ranks, seconds = [], dict.fromkeys(METHODS, 0.0)
    for name in given.names:
        found = np.mean([areas(name, seed, seconds) for seed in range(given.seeds)], axis=0)
        ranks.append([1 + (found > own).sum() + 0.5 * ((found == own).sum() - 1) for own in found])
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in found) + " |", flush=True)
    print("| mean rank | " + " | ".join(f"{value:.1f}" for value in np.mean(ranks, axis=0)) + " |")
    fits = len(given.names) * given.seeds
    print("| CPU s a fit | " + " | ".join(f"{value / fits:.1f}" for value in seconds.values()) + " |")


if __name__ == "__main__":
    main()
