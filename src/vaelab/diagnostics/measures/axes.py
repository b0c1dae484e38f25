"""What noise along single latent axes does to the decoder's output.

Dai & Wipf 2019, Figures 1 (centre) and 10: z = μ_z(x) + ε e_j with ε ~ N(0, 1), and the variance over ε of the
decoder's mean, summed over its dimensions. At the optimum it is large where the posterior's variance λ_j along the axis
is small, and 0 where λ_j = 1: that axis is not read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vaelab.diagnostics.row_means import over_rows
from vaelab.errors import InputError
from vaelab.model import VAE
from vaelab.types import Batches

STEPS = (-2.0, -4 / 3, -2 / 3, 0.0, 2 / 3, 4 / 3, 2.0)
"""Of the outputs that are shown, along their axis."""

_ORDERED_BY = 256  # rows that λ is averaged over
_FEWEST_ROWS, _DECODED = 4, 50_000_000  # rows at least, and numbers that the decoder puts out for more
_INVERTED = 10_000_000  # numbers of full covariances that are inverted at once


@dataclass(frozen=True)
class Axes:
    """Noise along latent axes, those of small posterior variance first.

    Attributes
    ----------
    order
        (k,) axes by λ ascending, by index where λ is the same: all of them, or some evenly spread over the ranks.
    ratios
        (k,) their λ, the mean over rows; see `axis_ratios`. 0 for a deterministic posterior.
    variance
        (k,) variance of the output over the noise, summed over its dimensions, the mean over rows; squared units of the
        network.
    shown_axes
        (s,) axes of the examples, from the smallest λ to the largest.
    shown_steps
        (m,) what was added to the code, in the same units as the noise.
    shown
        (s, m, C, H, W) or (s, m, d) decoder means around one row's code.
    rows, draws
        Rows, and draws of noise for each.
    """

    order: Tensor
    ratios: Tensor
    variance: Tensor
    shown_axes: Tensor
    shown_steps: Tensor
    shown: Tensor
    rows: int
    draws: int


def axis_ratios(q: Distribution, p: Distribution) -> Tensor:
    """λ_j, (B, κ): variance of z_j under q given the other dimensions, relative to the prior's; float64.

    1 / (Σ⁻¹)_jj in the prior's units. With independent dimensions it is the variance itself.
    """
    if not isinstance(q, MultivariateNormal):
        return (q.variance.double() / p.variance.double()).expand(q.mean.shape)
    factors = (q.scale_tril / p.stddev.unsqueeze(-1)).expand(q.scale_tril.shape)
    at_once = max(1, _INVERTED // factors.shape[-1] ** 2)
    parts = (torch.cholesky_inverse(part.double()) for part in factors.split(at_once))
    return torch.cat([1 / part.diagonal(dim1=-2, dim2=-1) for part in parts])


def axis_noise(
    vae: VAE,
    batches: Batches,
    *,
    rows: int = 16,
    draws: int = 15,
    most: int = 64,
    shown: int = 6,
    seed: int = 0,
) -> Axes:
    """Perturb codes along one axis at a time and see how much the output moves.

    The noise is N(0, 1) in units of the prior's deviation, and of the codes' own for a deterministic posterior, which
    has no scale but theirs. Every axis gets the same noise, so that axes compare better than their errors suggest.

    Parameters
    ----------
    vae
        Measured in evaluation mode; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    rows
        Rows at most; fewer, down to 4, of rows with more than about 3,000 numbers.
    draws
        Of noise, for every row and axis; at least 2.
    most
        Axes at most.
    shown
        Axes with examples, at most.
    seed
        Of rows and noise.

    Raises
    ------
    InputError
        No rows, or a number out of range.
    """
    if draws < 2 or most < 1 or shown < 1:
        raise InputError(f"draws={draws}, most={most}, shown={shown}", "at least 2 draws, 1 axis and 1 example")
    ratios, codes = over_rows(
        vae, batches, lambda x, c, noise: _laws(vae, x, c), rows=_ORDERED_BY, normals=0, seed=seed
    ).unbind(1)
    ratios = ratios.mean(0)
    order = _spread(ratios.argsort(stable=True), most)
    examples = _spread(order, shown)
    own = codes.std(0, correction=0) if vae.posterior.degenerate else None

    def moved(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        z, scale = _around(vae, x, c, own)
        # the same numbers for every axis, so that one draw too large is so for all
        return torch.stack([_variance(vae, z, c, scale, axis, noise[:, :, 0]) for axis in order.tolist()], 1)

    def outputs(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        z, scale = _around(vae, x, c, own)
        return torch.stack(
            [
                torch.stack([vae.decode(_stepped(z, scale, axis, z.new_full((len(z),), step)), c) for step in STEPS], 1)
                for axis in examples.tolist()
            ],
            1,
        )

    affordable = _DECODED // (len(order) * draws * math.prod(batches.event_shape))
    rows = min(rows, max(_FEWEST_ROWS, affordable))
    variance = over_rows(vae, batches, moved, rows=rows, normals=draws, seed=seed)
    return Axes(
        order=order,
        ratios=ratios[order],
        variance=variance.mean(0),
        shown_axes=examples,
        shown_steps=torch.tensor(STEPS, dtype=torch.float64),
        shown=over_rows(vae, batches, outputs, rows=1, normals=0, seed=seed)[0].double(),
        rows=len(variance),
        draws=draws,
    )


def _laws(vae: VAE, x: Tensor, c: Tensor | None) -> Tensor:
    """(B, 2, κ) λ and posterior means, float64."""
    q = vae.encode(x, c)
    return torch.stack([axis_ratios(q, vae.prior(c)), q.mean.double()], 1)


def _spread(ranked: Tensor, most: int) -> Tensor:
    """At most so many entries, evenly spread from the first to the last."""
    if len(ranked) <= most:
        return ranked
    return ranked[torch.linspace(0, len(ranked) - 1, most, dtype=torch.float64).round().long()]


def _around(vae: VAE, x: Tensor, c: Tensor | None, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, κ) codes, and the deviations that noise is scaled by."""
    z = vae.encode(x, c).mean
    scale = vae.prior(c).stddev if own is None else own
    return z, scale.to(z).expand_as(z)


def _stepped(z: Tensor, scale: Tensor, axis: int, by: Tensor) -> Tensor:
    """(B, κ) codes, each moved by its (B,) entry along the axis."""
    moved = z.clone()
    moved[:, axis] += scale[:, axis] * by
    return moved


def _variance(vae: VAE, z: Tensor, c: Tensor | None, scale: Tensor, axis: int, noise: Tensor) -> Tensor:
    """(B,) variance of the output over (draws, B) noise along the axis, summed over dimensions, float64."""
    start = vae.decode(z, c).double()
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    # draw by draw: a row at the same place of equal batches comes out the same to the last digit, so that the variance
    # is exactly 0 along an axis that the decoder does not read
    for by in noise:
        change = vae.decode(_stepped(z, scale, axis, by), c).double() - start
        first += change
        second += change.square()
    spread = (second - first.square() / len(noise)).clamp(min=0) / (len(noise) - 1)
    return spread.flatten(1).sum(1)
