"""How much a code says about the row that it was made from: I(x; z) under the posterior, bounded on both sides.

    I(x; z) = E_x E_{q(z|x)} ln [q(z|x) / q(z)],   q(z) = E_x q(z|x)          nats

With n rows, q(z) is replaced by the mean of their posteriors. With the row's own posterior among them the result is a
lower bound, never above ln n; with it left out, an upper bound:

    Poole et al. 2019, section on structured bounds with tractable encoders.

For q(z|x) = N(μ_φ(x), σ_z² I) the logarithm is

    −ln E_{x'} exp(−‖z − μ_φ(x')‖² / 2σ_z²) − κ/2,

the estimate of Takida et al. 2022, eq. D.1 (which prints the data's dimension in the place of κ). Here ‖ε‖²/2 of the
noise drawn stands for its mean κ/2, which makes the extremes exact: 0 where all posteriors are alike, ln n where none
meets another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.diagnostics.row_means import Mean
from vaelab.errors import InputError
from vaelab.latent import Codes
from vaelab.training import stream

POINTS = 10_000
"""Rows of a bound, as in the paper."""

_AT_ONCE = 4_000_000  # pairs of a draw and a posterior
_MOST_FEATURES = 40_000_000  # numbers that the posteriors of a full covariance take


@dataclass(frozen=True)
class MutualInformation:
    """Bounds on I(x; z), nats.

    Attributes
    ----------
    lower
        With every row's own posterior in the mean; at most ln n.
    upper
        With it left out. Far above `lower` where n rows are too few to tell.
    rows
        n.
    """

    lower: Mean
    upper: Mean
    rows: int

    def __str__(self) -> str:
        """Return both bounds and what limits them."""
        return f"{self.lower} to {self.upper} nats ({self.rows:,} rows)"


def mutual_information_bound(
    means: Tensor, variance: float, *, points: int = POINTS, draws: int = 1, seed: int = 0
) -> MutualInformation:
    """Bound I(x; z) for q(z|x) = N(μ_φ(x), σ_z² I) (Takida et al. 2022, eq. D.1).

    Parameters
    ----------
    means
        (n, κ) posterior means μ_φ(x).
    variance
        σ_z², the same for every row and dimension.
    points
        Rows at most, chosen at random. Time grows with their square, memory does not.
    draws
        Of z per row.
    seed
        Of the rows and the draws.

    Raises
    ------
    InputError
        No positive variance (a deterministic code tells everything, and its information is infinite), or fewer than
        two rows.
    """
    if not variance > 0:
        raise InputError(f"variance={variance}", "a positive variance", "A code without noise has no finite bound.")
    codes = Codes(means, torch.full_like(means, math.sqrt(variance)))
    return mutual_information(codes, points=points, draws=draws, seed=seed)


@torch.no_grad()
def mutual_information(codes: Codes, *, points: int = POINTS, draws: int = 1, seed: int = 0) -> MutualInformation:
    """Bound I(x; z) for Gaussian posteriors of any variances: the mean KL from q(z|x) to the mixture of all of them.

    Parameters
    ----------
    codes
        Posteriors of n rows, diagonal or full.
    points, draws, seed
        As for `mutual_information_bound`; fewer points where full covariances would take too much memory.

    Raises
    ------
    InputError
        Codes without noise, or fewer than two rows.
    """
    if not bool((codes.scale > 0).all()):
        raise InputError("codes without noise", "posteriors with a variance", "Their mutual information is infinite.")
    if draws < 1 or points < 2 or len(codes) < 2:
        raise InputError(f"{len(codes)} rows, points={points}, draws={draws}", "at least two rows and one draw")
    size = codes.event_shape[0]
    if codes.scale_tril is not None:
        points = min(points, max(2, _MOST_FEATURES // size**2))
    if len(codes) > points:
        chosen = torch.randperm(len(codes), generator=stream("cpu", seed, "information", "rows"))[:points]
        codes = codes.subset(chosen.to(codes.loc.device))
    noise_of = stream(codes.loc.device, seed, "information")
    shift = codes.loc.double().mean(0)  # distances lose the fewest digits around the origin
    table, constants = _densities(codes, shift)
    block = max(1, _AT_ONCE // len(codes))
    sums = torch.zeros(2, len(codes), dtype=torch.float64, device=codes.loc.device)
    for _ in range(draws):
        drawn = torch.randn(codes.loc.shape, generator=noise_of, device=codes.loc.device, dtype=torch.float64)
        for start in range(0, len(codes), block):
            rows = slice(start, min(start + block, len(codes)))
            index = torch.arange(rows.start, rows.stop, device=codes.loc.device)
            noise = drawn[rows]
            z = _draw(codes, rows, noise) - shift
            scores = torch.addmm(constants, _features(z, full=codes.scale_tril is not None), table)
            # of the row's own posterior the exact value, so that nothing is lost between large numbers
            own = -0.5 * noise.square().sum(1) - _log_scale(codes)[rows]
            inner = torch.arange(len(index), device=index.device)
            scores[inner, index] = own
            sums[0, rows] += own - scores.logsumexp(1) + math.log(len(codes))
            scores[inner, index] = -math.inf
            sums[1, rows] += own - scores.logsumexp(1) + math.log(len(codes) - 1)
    lower, upper = (sums / draws).cpu()
    return MutualInformation(Mean.of(lower), Mean.of(upper), len(codes))


def _draw(codes: Codes, rows: slice, noise: Tensor) -> Tensor:
    """(B, κ) z ~ q(z | x_i), float64."""
    if codes.scale_tril is None:
        return codes.loc[rows].double() + codes.scale[rows].double() * noise
    return codes.loc[rows].double() + (codes.scale_tril[rows].double() @ noise[..., None])[..., 0]


def _log_scale(codes: Codes) -> Tensor:
    """(n,) half the log-determinants of the covariances."""
    if codes.scale_tril is None:
        return codes.scale.double().log().sum(1)
    return codes.scale_tril.double().diagonal(dim1=1, dim2=2).log().sum(1)


def _features(z: Tensor, *, full: bool) -> Tensor:
    """(B, f) powers of z in which a Gaussian's log-density is linear."""
    powers = (z[:, :, None] * z[:, None, :]).flatten(1) if full else z.square()
    return torch.cat([powers, z], 1)


def _densities(codes: Codes, shift: Tensor) -> tuple[Tensor, Tensor]:
    """(f, n) and (n,): products with `_features` and constants of ln q(z | x_j), without that of 2π.

    −½ (z − m)ᵀ P (z − m) = −½ ⟨P, zzᵀ⟩ + ⟨Pm, z⟩ − ½ mᵀPm: one matrix product for all pairs of a draw and a posterior.
    """
    m = codes.loc.double() - shift
    if codes.scale_tril is None:
        precision = codes.scale.double().pow(-2)
        pulled, table = precision * m, -0.5 * precision
    else:
        inverse = torch.cholesky_inverse(codes.scale_tril.double())
        pulled, table = (inverse @ m[..., None])[..., 0], -0.5 * inverse.flatten(1)
    constants = -0.5 * (pulled * m).sum(1) - _log_scale(codes)
    return torch.cat([table, pulled], 1).T, constants
