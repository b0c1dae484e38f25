"""What a model loses between the rows it was trained on and rows it has not seen.

−ELBO on both, and its two parts: E_q[−log p(x | z)] and KL[q(z | x) ‖ p(z)] (Kingma & Welling 2014, eq. 3). A model
that has memorised rows rebuilds them better than others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.diagnostics.measures.checks import check_rows
from vaelab.diagnostics.row_means import Mean, over_rows
from vaelab.errors import InputError
from vaelab.model import VAE, row_terms
from vaelab.types import Batches


@dataclass(frozen=True)
class Terms:
    """The bound on some rows, from one draw per row.

    Attributes
    ----------
    rows
        That were averaged over.
    error
        Squared error of draws summed over a row, squared units of the network.
    residual
        γ̂: the error over d, a variance.
    distortion
        E_q[−log p(x | z)], nats per row under the model's own likelihood; None where that is no density.
    kl
        KL[q(z | x) ‖ p(z)], nats per row; None for a deterministic posterior.
    nelbo
        −ELBO, nats per row; None where either part is.
    """

    rows: int
    error: Mean
    residual: float
    distortion: Mean | None
    kl: Mean | None
    nelbo: Mean | None


@dataclass(frozen=True)
class Generalisation:
    """Training rows against held-out rows.

    Attributes
    ----------
    train, held_out
        The bound on each.
    error_ratio
        Held-out γ̂ over training γ̂; near 1 for a model that generalises. Infinite where training rows are rebuilt
        without error and others are not.
    gap
        Held-out − training −ELBO, nats per row; None where these are none of a density.
    kl_gap
        The part of it that the KL makes; None for a deterministic posterior.
    caveat
        Why there is no gap, or None.
    """

    train: Terms
    held_out: Terms
    error_ratio: float
    gap: Mean | None
    kl_gap: Mean | None
    caveat: str | None


def generalisation(vae: VAE, batches: Batches, held_out: Batches, *, rows: int = 2000, seed: int = 0) -> Generalisation:
    """Compare training rows with rows that were held out.

    Parameters
    ----------
    vae
        Measured in evaluation mode, on its own device; left as it is.
    batches, held_out
        Rows in the network's units that it was trained on and that it was not, with their conditions if it has one.
    rows
        Of each at most.
    seed
        Of rows and draws.

    Raises
    ------
    InputError
        Fewer than two rows of either, rows of unequal shapes, entries that are not finite, or a mixed table.
    """
    if batches.event_shape != held_out.event_shape:
        raise InputError(f"held-out rows of shape {held_out.event_shape}", f"{batches.event_shape} as for training")
    for part in (batches, held_out):
        check_rows(vae, part, rows, seed)
    (train, first), (other, second) = (_terms(vae, part, rows, seed) for part in (batches, held_out))
    return Generalisation(
        train=train,
        held_out=other,
        error_ratio=_ratio(other.residual, train.residual),
        gap=_difference(other.nelbo, train.nelbo),
        kl_gap=_difference(other.kl, train.kl),
        caveat=first or second,
    )


def _terms(vae: VAE, batches: Batches, rows: int, seed: int) -> tuple[Terms, str | None]:
    """Terms on some rows, and why they are none of a density or None."""
    plain = vae.posterior.degenerate
    caveats: list[str] = []

    def each(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        if not caveats:
            caveats.extend(filter(None, [vae.likelihood.caveat(x)]))
        return torch.stack(row_terms(vae, x, c, noise[0]), 1)

    found = over_rows(vae, batches, each, rows=rows, normals=1, seed=seed)
    error, distortion, divergence = (Mean.of(column) for column in found.T)
    terms = Terms(
        rows=len(found),
        error=error,
        residual=error.value / torch.Size(batches.event_shape).numel(),
        distortion=None if caveats else distortion,
        kl=None if plain else divergence,
        nelbo=None if caveats or plain else Mean.of(found[:, 1] + found[:, 2]),
    )
    return terms, "a deterministic posterior has no ELBO" if plain else caveats[0] if caveats else None


def _ratio(value: float, reference: float) -> float:
    if reference:
        return value / reference
    return math.inf if value else 1.0


def _difference(one: Mean | None, other: Mean | None) -> Mean | None:
    """Difference of two independent means."""
    if one is None or other is None:
        return None
    return Mean(one.value - other.value, math.hypot(one.error, other.error))
