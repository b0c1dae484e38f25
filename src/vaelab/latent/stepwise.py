"""Stepwise EM for Gaussian mixtures of many components on many rows, where EM over all rows takes tens of minutes.

    s ← (1 − ρ) s + ρ ŝ,   ρ = (t + 2)^(−0.6)

ŝ are the expected sufficient statistics of a batch (weights, sums and products per component), from whose running mean
s the parameters follow as in EM. With ρ = 1 and all rows in the batch it is EM.

Cappé & Moulines 2009; the exponent and large batches after Liang & Klein 2009.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vaelab.arguments import short_seed
from vaelab.training import stream

_PASSES, _WHOLE = 4, 8  # over the rows in batches, then of EM, which ends where those have led
_LEAST_BATCH, _PER_COMPONENT = 5_000, 50  # rows in a batch
_BLOCK = 8_192  # rows whose responsibilities are held at once
_EXPONENT = 0.6
_INITIAL_ROWS = 20_000  # that centres are chosen from
_LEAST_WEIGHT = 1e-10


class Parameters(NamedTuple):
    """(k,) weights, (k, d) means and (k, d, d) covariances."""

    weights: Tensor
    means: Tensor
    covariances: Tensor


class Statistics(NamedTuple):
    """Per row: (k,) responsibilities, (k, d) sums and (k, d, d) products of rows weighted by them."""

    weights: Tensor
    sums: Tensor
    products: Tensor


def stepwise_em(rows: Tensor, components: int, *, ridge: float, seed: int, diagonal: bool = False) -> Parameters:
    """Fit k Gaussians to (n, d) rows, on their device; in float32, products would lose too many digits.

    Parameters
    ----------
    rows
        (n, d), float64.
    components
        k, at most n.
    ridge
        Added to the variances.
    seed
        Of the first centres and the batches.
    diagonal
        Whether covariances are diagonal.
    """
    n = len(rows)
    centre = rows.mean(0)
    rows = rows - centre  # products of rows far from 0 would lose digits
    found = _begin(rows, components, ridge, seed, diagonal)
    batch = min(n, max(_LEAST_BATCH, _PER_COMPONENT * components))
    running: Statistics | None = None
    steps = 0
    for epoch in range(_PASSES):
        order = torch.randperm(n, generator=stream("cpu", seed, "stepwise", epoch)).to(rows.device)
        for chosen in order[: n - n % batch].split(batch):
            new = statistics(rows[chosen], found)
            rate = (steps + 2) ** -_EXPONENT
            running = new if running is None else _mean(running, new, rate)
            found = maximum(running, ridge=ridge, diagonal=diagonal)
            steps += 1
    for _ in range(_WHOLE):
        found = maximum(_of_all(rows, found), ridge=ridge, diagonal=diagonal)
    return Parameters(found.weights, found.means + centre, found.covariances)


def _of_all(rows: Tensor, given: Parameters) -> Statistics:
    """Return the statistics of rows, a block at a time."""
    blocks = rows.split(_BLOCK)
    mean, done = statistics(blocks[0], given), len(blocks[0])
    for block in blocks[1:]:
        done += len(block)
        mean = _mean(mean, statistics(block, given), len(block) / done)
    return mean


def _mean(first: Statistics, second: Statistics, share: float) -> Statistics:
    return Statistics(*(torch.lerp(a, b, share) for a, b in zip(first, second, strict=True)))


def statistics(rows: Tensor, given: Parameters) -> Statistics:
    """Return the expected statistics of rows, divided by their number."""
    factors = torch.linalg.cholesky(given.covariances)
    eye = torch.eye(rows.shape[1]).to(rows)
    whitening = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
    constants = given.weights.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1)
    each = zip(constants, given.means, whitening, strict=True)
    log_joint = torch.stack([c - 0.5 * ((rows - m) @ w.T).square().sum(1) for c, m, w in each], 1)
    return _weighted(rows, log_joint.softmax(1) / len(rows))


def _weighted(rows: Tensor, responsible: Tensor) -> Statistics:
    sums = responsible.T @ rows
    products = torch.stack([(rows * r[:, None]).T @ rows for r in responsible.unbind(1)])
    return Statistics(responsible.sum(0), sums, products)


def maximum(given: Statistics, *, ridge: float, diagonal: bool = False) -> Parameters:
    """Return the parameters of greatest likelihood for expected statistics, with the ridge."""
    weights = given.weights.clamp(min=_LEAST_WEIGHT)  # so that a component without rows goes to the middle of all
    means = given.sums / weights[:, None]
    covariances = given.products / weights[:, None, None] - means[:, :, None] * means[:, None, :]
    if diagonal:
        covariances = torch.diag_embed(covariances.diagonal(dim1=1, dim2=2))
    covariances = 0.5 * (covariances + covariances.mT)
    covariances.diagonal(dim1=1, dim2=2).add_(ridge)
    return Parameters(weights / weights.sum(), means, covariances)


def _begin(rows: Tensor, components: int, ridge: float, seed: int, diagonal: bool) -> Parameters:
    """Take the clusters of some rows, by k-means."""
    from sklearn.cluster import MiniBatchKMeans

    chosen = torch.randperm(len(rows), generator=stream("cpu", seed, "centres"))[: max(_INITIAL_ROWS, components)]
    some = rows[chosen.to(rows.device)]
    labels = MiniBatchKMeans(components, n_init=1, random_state=short_seed(seed)).fit_predict(some.cpu().numpy())
    mine = one_hot(torch.as_tensor(labels).long(), components).to(some) / len(some)
    return maximum(_weighted(some, mine), ridge=ridge, diagonal=diagonal)
