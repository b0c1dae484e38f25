"""Whether a model has converged: what a short further training of a copy still gains.

At an optimum no training helps. A copy goes on for a few hundred steps under the model's own objective, with a small
learning rate that decays to 0, and is measured before and after on rows that these steps do not see.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.diagnostics.row_means import Mean, Part, over_rows
from vaelab.errors import NonFiniteObjectiveError
from vaelab.model import VAE, FixedVariance, Gaussian, Likelihood, row_terms
from vaelab.training import Compute, FitSettings, fit, stream
from vaelab.types import Batches

_BATCH = 100
_LR = 5e-4  # half of what most autoencoders are trained with


@dataclass(frozen=True)
class Continuation:
    """What further steps change.

    Attributes
    ----------
    steps, rows
        Taken, and measured on.
    error_before, error_after
        E_q‖x − μ_x(z)‖² per row, squared units of the network.
    kl_before, kl_after
        Penalties per row, nats: the KL of a VAE; 0 without any.
    gain
        Share of the squared error that these steps remove.
    nats
        That they take off the objective, per row, with the variance at its maximum-likelihood value before and after.
    own
        That they take off the objective, per row, under the variance that these steps were under: as `nats` unless it
        was fixed.
    share
        `own`, as a share of all that the code is then worth: nats by which the objective is below that of a constant.
        NaN where a constant is as good, or the likelihood is not Gaussian.
    """

    steps: int
    rows: int
    error_before: Mean
    error_after: Mean
    kl_before: Mean
    kl_after: Mean
    gain: float
    nats: float
    own: Mean
    share: float


def continuation(
    vae: VAE,
    batches: Batches,
    unseen: Batches | None = None,
    *,
    gamma: float | None = None,
    steps: int = 200,
    rows: int = 1000,
    seed: int = 0,
) -> Continuation | None:
    """Train a copy a little further, and measure what that gains.

    Parameters
    ----------
    vae
        Left as it is.
    batches
        Rows to train on.
    unseen
        Rows to measure on; a part of `batches`, which then does not train, if None.
    gamma
        Fixed decoder variance for the copy, where the model's own is not the one that it was trained under.
    steps
        Of 100 rows each.
    rows
        To measure on, at most.
    seed
        Of rows and noise.

    Returns
    -------
    Continuation or None
        None where there is nothing to train, there is a critic, or the steps diverge.
    """
    if vae.steps_before() or not any(p.requires_grad for p in vae.parameters()):
        return None
    if unseen is None:
        order = torch.randperm(len(batches), generator=stream("cpu", seed, "continuation"))
        apart = max(1, min(rows, len(batches) // 4))
        unseen, batches = Part(batches, order[:apart]), Part(batches, order[apart:])
    if not len(batches):
        return None
    other = copy.deepcopy(vae)
    if other.likelihood.variance is not None:
        other.likelihood.variance.forget_start()
    if gamma is not None:
        other.likelihood = _under(other.likelihood, gamma).to(next(other.parameters()))
    batch = min(_BATCH, len(batches))
    part = Part.of(batches, batch * steps, seed)
    kind = next(other.parameters())
    settings = FitSettings(
        epochs=max(1, round(steps / (len(part) / batch))),
        batch_size=batch,
        lr=_LR,
    )
    compute = Compute(
        accelerator="gpu" if kind.is_cuda else "cpu",
        precision="64-true" if kind.dtype == torch.float64 else "32-true",
    )
    before = _measured(other, unseen, rows, seed)
    try:
        fit(other, part, settings, compute=compute, seed=seed)
        after = _measured(other, unseen, rows, seed)
    except NonFiniteObjectiveError:
        return None
    size = torch.Size(batches.event_shape).numel()
    error, error_after = before[:, 0].mean(), after[:, 0].mean()
    fall = 0.5 * size * float((error / error_after).log())
    kl_fall = float(before[:, 1].mean() - after[:, 1].mean())
    own, worth = _own(before, after, _fixed(other.likelihood), size, _spread(other, unseen, rows, seed))
    return Continuation(
        steps=settings.length * max(1, len(part) // batch),
        rows=len(before),
        error_before=Mean.of(before[:, 0]),
        error_after=Mean.of(after[:, 0]),
        kl_before=Mean.of(before[:, 1]),
        kl_after=Mean.of(after[:, 1]),
        gain=float(1 - error_after / error),
        nats=fall + kl_fall,
        own=own,
        share=own.value / worth if worth > 0 and isinstance(other.likelihood, Gaussian) else math.nan,
    )


def _under(likelihood: Likelihood, gamma: float) -> Likelihood:
    """Return the same mean with another variance."""
    if not isinstance(likelihood, Gaussian):
        return likelihood
    return Gaussian(FixedVariance(gamma), link=likelihood.link)


def _fixed(likelihood: Likelihood) -> float | None:
    """One variance that no training changes, or None."""
    variance = likelihood.variance
    return float(variance.gamma) if isinstance(variance, FixedVariance) and variance.gamma.numel() == 1 else None


def _own(before: Tensor, after: Tensor, gamma: float | None, size: int, spread: float) -> tuple[Mean, float]:
    """Return what the steps take off their objective per row, and how far below a constant's it then is, nats.

    Under a variance that follows the error this is ½ d log of the error, whose share of a row is linearised.
    """
    error, error_after = before[:, 0].mean(), after[:, 0].mean()
    if gamma is not None:
        own = Mean.of(0.5 * (before[:, 0] - after[:, 0]) / gamma + before[:, 1] - after[:, 1])
        return own, float(0.5 * (spread - error_after) / gamma - after[:, 1].mean())
    rows = 0.5 * size * (before[:, 0] / error - after[:, 0] / error_after) + before[:, 1] - after[:, 1]
    fall = float(0.5 * size * (error / error_after).log() + before[:, 1].mean() - after[:, 1].mean())
    own = Mean(fall, Mean.of(rows).error)
    return own, float(0.5 * size * (spread / error_after).log() - after[:, 1].mean())


def _spread(vae: VAE, batches: Batches, rows: int, seed: int) -> float:
    """Mean squared distance of the same rows from their mean, summed over the event."""
    sums: list[Tensor] = []

    def squares(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        sums.append(x.flatten(1).double().sum(0))
        return x.flatten(1).double().square().sum(1)

    found = over_rows(vae, batches, squares, rows=rows, normals=1, seed=seed)
    mean = torch.stack(sums).sum(0).cpu() / len(found)
    return float(found.mean() - mean.square().sum())


def _measured(vae: VAE, batches: Batches, rows: int, seed: int) -> Tensor:
    """(n, 2) squared error of one draw of z, and penalties, of each row, float64."""

    def terms(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        found = row_terms(vae, x, c, noise[0])
        return torch.stack([found.squared_error, found.kl], 1)

    return over_rows(vae, batches, terms, rows=rows, normals=1, seed=seed)
