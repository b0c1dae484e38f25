"""Dimensions of known manifolds: ours beside estimates from neighbours, local PCA and DANCo.

The manifolds are those of scikit-dimension (``pip install 'vaelab[dimension]'``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import torch

from vaelab import estimate_dimension
from vaelab.errors import VaelabWarning

PEERS = ("TwoNN", "MLE", "lPCA", "DANCo")


def rows(name: str, n: int, noise: float, seed: int) -> tuple[np.ndarray, int]:
    """(n, d) standardised rows of a manifold, with Gaussian noise in standard deviations, and its dimension."""
    from skdim.datasets import BenchmarkManifolds

    known = BenchmarkManifolds(random_state=seed)
    dimension, width, _ = known._dict_truth[name]
    x = np.asarray(known.generate(name=name, n=n, dim=width, d=dimension))
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    return x + noise * np.random.default_rng(seed).normal(size=x.shape) * (spread > 0), dimension


def counted(name: str, n: int, noise: float, seed: int, *, danco: bool) -> dict[str, object]:
    """Count one manifold by every estimator; a failed one is NaN."""
    from skdim import id as peers

    torch.set_num_threads(1)
    x, truth = rows(name, n, noise, seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)
        ours = estimate_dimension(x.astype(np.float32))
    found: dict[str, object] = {"name": name, "truth": truth, "vaelab": ours.dimension, "local": ours.local}
    found["seconds"] = time.perf_counter() - start
    for peer in PEERS:
        if peer == "DANCo" and not danco:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found[peer] = float(getattr(peers, peer)().fit(x).dimension_)
            except Exception:
                found[peer] = float("nan")
    return found


def right(value: float, truth: int) -> bool:
    """Within 1, and within 15 % above 8 dimensions."""
    return abs(value - truth) <= (1 if truth <= 8 else 0.15 * truth)


def main() -> None:
    """Print one line per manifold, then how many each estimator gets right, and its mean error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manifolds", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--danco", action="store_true", help="beside DANCo too, which takes minutes")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    from skdim.datasets import BenchmarkManifolds

    names = arguments.names or list(BenchmarkManifolds().dict_gen)
    one = partial(counted, n=arguments.rows, noise=arguments.noise, seed=arguments.seed, danco=arguments.danco)
    shown = ("vaelab", *(peer for peer in PEERS if arguments.danco or peer != "DANCo"))
    table = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for found in pool.map(one, names):
            table.append(found)
            values = "  ".join(f"{peer} {found[peer]:6.2f}" for peer in shown)
            local = "    –" if found["local"] is None else f"{found['local']:5.2f}"
            print(
                f"{found['name']:<18} true {found['truth']:>3}  local {local}  {values}  {found['seconds']:.0f} s",
                flush=True,
            )
    for peer in shown:
        good = [right(each[peer], each["truth"]) for each in table]
        errors = [abs(each[peer] - each["truth"]) for each in table if np.isfinite(each[peer])]
        print(f"{peer:<8} right {sum(good):>2} of {len(good)}, mean error {np.mean(errors):.2f}")


if __name__ == "__main__":
    main()
