"""Gaussian mixtures of rows with gaps, by EM, and how well they tell an entry from the others.

    p(x_o) = Σ_k π_k N(x_o; m_k,o, S_k,oo),   E[x_m | x_o, k] = m_k,m + S_k,mo S_k,oo⁻¹ (x_o − m_k,o)

so that entries that are missing at random are integrated over exactly (Z. Ghahramani, M. I. Jordan, "Supervised
learning from incomplete data via an EM approach", NIPS 1993). Covariances have an inverse-Wishart prior around what
all components have in common, and that one around the columns' variances, so that modes of the posterior stay regular
where components have few rows (Fraley & Raftery 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.arguments import short_seed
from vaelab.latent.mixtures import RIDGE, Maximum
from vaelab.training import stream

_STEPS, _ENOUGH = 60, 1e-4  # of EM: at most, and nats per row that end it
_WITHIN = 0.05  # variance that components begin with beside that within clusters, as a share of the column's
_BLOCK = 4_000_000  # numbers in the matrices of a block of rows
_FITS = 5
_STRENGTH = 5.0  # of the prior, in rows
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
_LEAST_PER_COMPONENT = 15  # rows
_FOLDS, _ENOUGH_ENTRIES = 5, 1_500  # of which as many are left out as hold so many entries
_QUANTILES = 9  # of an entry given the others, whose mean is taken in other units


class Given(NamedTuple):
    """What the components say of rows with gaps, given what is there.

    Attributes
    ----------
    log_prob
        (n, k) log π_k N(x_o; m_k,o, S_k,oo), nats.
    expected
        (n, k, d) rows with their gaps filled by E[x_m | x_o, k].
    spread
        (n, k, d, d) covariances of what is missing given x_o and k, 0 elsewhere; None where they are not asked for.
    left_out
        (n, k, d) E[x_j | x_o without x_j, k] of each entry that is there, and their (n, k, d) variances.
    """

    log_prob: Tensor
    expected: Tensor
    spread: Tensor | None
    left_out: tuple[Tensor, Tensor]


def given(rows: Tensor, law: Maximum, *, spread: bool = False) -> Given:
    """Condition every component of a mixture on what is there of (n, d) rows, NaN where an entry is missing."""
    there = ~rows.isnan()
    own = there.to(rows.dtype)
    x = torch.where(there, rows, 0.0)
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    for weight, mean, covariance in zip(law.weights, law.means, law.covariances, strict=True):
        factor = torch.linalg.cholesky(covariance * own[:, :, None] * own[:, None, :] + torch.diag_embed(1 - own))
        inverse = torch.cholesky_inverse(factor)  # of what is there; the identity for the rest
        error = (x - mean) * own
        along = (inverse @ error[:, :, None])[:, :, 0]
        expected = torch.where(there, x, mean + along @ covariance)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        log_p = weight.log() - 0.5 * ((error * along).sum(1) + log_det + own.sum(1) * math.log(2 * math.pi))
        left = expected
        if spread:
            across = covariance * (1 - own)[:, :, None] * own[:, None, :]
            left = covariance * (1 - own)[:, :, None] * (1 - own)[:, None, :] - across @ inverse @ across.mT
        variance = 1 / inverse.diagonal(dim1=1, dim2=2)
        parts.append((log_p, expected, left, x - along * variance, variance))
    log_p, expected, left, without, variance = (torch.stack(part, 1) for part in zip(*parts, strict=True))
    return Given(log_p, expected, left if spread else None, (without, variance))


def maximise_incomplete(rows: Tensor, components: int, *, strength: float = _STRENGTH, seed: int = 0) -> Maximum:
    """Fit k Gaussians to (n, d) rows, NaN where an entry is missing, by EM to the mode of their posterior.

    Parameters
    ----------
    rows
        In units in which columns are comparable.
    components
        k.
    strength
        Of the prior, in rows.
    seed
        Of the clusters that it starts with, of rows that one Gaussian has filled.
    """
    rows = rows.double()
    n = len(rows)
    mean = rows.nanmean(0).nan_to_num()
    least = (rows - mean).square().nanmean(0).nan_to_num().clamp(min=RIDGE)
    law = Maximum(rows.new_ones(1), mean[None], least.diag()[None])
    if components > 1:
        law = _clustered(_filled(rows, maximise_incomplete(rows, 1, strength=strength)), components, least, seed)
    before = -math.inf
    for _ in range(_STEPS):
        log_p, counts, sums, squares = _expected(rows, law)
        means = sums / counts[:, None]
        scatter = squares - counts[:, None, None] * means[:, :, None] * means[:, None, :]
        common = (scatter.sum(0) + strength * least.diag()) / (n + strength)
        if components > 1:
            prior = strength + rows.shape[1]
            covariances = (scatter + prior * common) / (counts + prior)[:, None, None]
        else:
            covariances = common[None]
        covariances = (covariances + covariances.mT) / 2 + RIDGE * least.diag()
        law = Maximum((counts + 1) / (n + components), means, covariances)
        if log_p - before < _ENOUGH:
            break
        before = log_p
    return law


def fit_incomplete(rows: Tensor, components: int, *, seed: int = 0) -> Maximum:
    """Fit as `maximise_incomplete`; of more components than one the mean of five such mixtures, from other starts."""
    if components == 1:
        return maximise_incomplete(rows, 1)
    found = [maximise_incomplete(rows, components, seed=seed + n) for n in range(_FITS)]
    weights, means, covariances = (torch.cat(part) for part in zip(*found, strict=True))
    return Maximum(weights / _FITS, means, covariances)


def _expected(rows: Tensor, law: Maximum) -> tuple[float, Tensor, Tensor, Tensor]:
    """Return the mean log-density, and of each component expected counts, sums and squares of its rows."""
    d = rows.shape[1]
    counts, total = rows.new_full((len(law.weights),), 1e-9), 0.0
    sums, squares = torch.zeros_like(law.means), torch.zeros_like(law.covariances)
    for part in rows.split(max(1, _BLOCK // (d * d * len(counts)))):
        found = given(part, law, spread=True)
        assert found.spread is not None
        share = found.log_prob.softmax(1)
        total += float(found.log_prob.logsumexp(1).sum())
        counts = counts + share.sum(0)
        sums = sums + torch.einsum("nk,nkd->kd", share, found.expected)
        squares = squares + torch.einsum("nk,nkde->kde", share, found.spread)
        squares = squares + torch.einsum("nk,nkd,nke->kde", share, found.expected, found.expected)
    return total / len(rows), counts, sums, squares


def _filled(rows: Tensor, law: Maximum) -> Tensor:
    found = given(rows, law)
    return (found.log_prob.softmax(1)[..., None] * found.expected).sum(1)


def _clustered(rows: Tensor, components: int, least: Tensor, seed: int) -> Maximum:
    """Begin with clusters of rows without gaps, and the covariance within them."""
    from sklearn.cluster import KMeans

    found = KMeans(components, n_init=1, random_state=short_seed(seed)).fit(rows.numpy())
    label = torch.from_numpy(found.labels_).long()
    means = torch.from_numpy(found.cluster_centers_)
    weights = torch.bincount(label, minlength=components).double() / len(rows)
    within = torch.cov((rows - means[label]).T, correction=0).reshape(len(least), -1) + _WITHIN * least.diag()
    return Maximum(weights.clamp(min=1e-9), means, within.repeat(components, 1, 1))


class Choice(NamedTuple):
    """The mixture that tells entries from the others of their row best.

    Attributes
    ----------
    components
        Of it.
    error
        Mean squared error of entries that are told from the others, of rows that it was not fitted to.
    """

    components: int
    error: float


def choose_incomplete(
    rows: Tensor,
    truth: Tensor | None = None,
    back: Callable[[Tensor], Tensor] | None = None,
    *,
    most: int | None = None,
    seed: int = 0,
) -> Choice:
    """Choose how many Gaussians rows with gaps get: as many as tell entries that are there best from the others.

    That is what the mixture is for, and has no reason to prefer one that is narrow where numbers lie on a grid.

    Parameters
    ----------
    rows
        (n, d), NaN where an entry is missing.
    truth, back
        The rows in other units, in which errors count, and the way of (m, d) rows there; as they are if None.
    most
        Components at most.
    seed
        Of folds and fits.
    """
    rows = rows.double()
    truth = rows if truth is None else truth.double()
    order = torch.randperm(len(rows), generator=stream("cpu", seed, "folds of entries"))
    folds = order.chunk(_FOLDS)
    entries = int((~rows.isnan()).sum())
    folds = folds[: max(1, min(_FOLDS, -(-_ENOUGH_ENTRIES * _FOLDS // max(entries, 1))))]
    found: list[Choice] = []
    for size in _SIZES:
        if (most is not None and size > most) or (size > 1 and len(rows) < _LEAST_PER_COMPONENT * size):
            break
        if len(found) > 2 and min(each.error for each in found[-2:]) > min(each.error for each in found):
            break  # two in a row are worse than another
        errors = []
        for fold in folds:
            rest = torch.ones(len(rows), dtype=torch.bool)
            rest[fold] = False
            law = maximise_incomplete(rows[rest], size, seed=seed)
            errors.append((told(rows[fold], law, back) - truth[fold]).square().flatten())
        found.append(Choice(size, float(torch.cat(errors).nanmean())))
    return min(found, key=lambda each: each.error)


def told(rows: Tensor, law: Maximum, back: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(n, d) mean of each entry that is there given the others of its row; elsewhere nothing of use.

    With `back`, which takes (m, d) rows to other units, it is the mean in those.
    """
    parts = []
    for part in rows.split(max(1, _BLOCK // (rows.shape[1] ** 2 * len(law.weights)))):
        log_p, _, _, (mean, variance) = given(part, law)
        error = torch.where(part.isnan()[:, None], 0.0, part[:, None] - mean)
        shares = (log_p[:, :, None] + 0.5 * (error.square() / variance + variance.log())).softmax(1)
        if back is not None:
            q = torch.special.ndtri((torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES)
            points = mean + variance.sqrt() * q[:, None, None, None]
            mean = back(points.flatten(0, 2)).view(points.shape).mean(0)
        parts.append((shares * mean).sum(1))
    return torch.cat(parts)
