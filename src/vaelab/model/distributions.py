"""Glue around `torch.distributions`: Gaussians without overhead, draws from given noise, and closed-form KLs.

Every Gaussian here is an affine map of standard normals ε. `draw(q, noise)` applies that map, so randomness is an
argument and a training step is a pure function of its inputs.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence, register_kl

Shape = torch.Size | list[int] | tuple[int, ...]
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_ROOM = 4.0  # nats below the largest log σ, so that a sum over thousands of dimensions is finite too


def held(log_deviation: Tensor) -> Tensor:
    """Return log σ where σ² neither overflows nor vanishes, which networks may ask for far from the data."""
    limits = torch.finfo(log_deviation.dtype)
    return log_deviation.clamp(0.5 * math.log(limits.tiny), 0.5 * math.log(limits.max) - _ROOM)


class DiagonalNormal(Distribution):
    """N(loc, diag scale²) over the last dimension; the same law as ``Independent(Normal(loc, scale), 1)``.

    Parameters
    ----------
    loc
        (..., d) mean.
    scale
        (..., d) standard deviation, positive; not checked, since this object is built at every step.
    """

    arg_constraints = {}  # noqa: RUF012 - declared so by the base class
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """(..., d) mean."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """(..., d) standard deviation."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """(..., d) variance."""
        return self.scale.square()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Reparameterised draws from torch's global generator; see `draw` for draws from given noise."""
        noise = torch.randn((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        return draw(self, noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...,) log-density in nats."""
        standard = (value - self.loc) / self.scale
        return -(0.5 * standard.square() + self.scale.log() + _HALF_LOG_TAU).sum(-1)

    def entropy(self) -> Tensor:
        """(...,) differential entropy in nats."""
        return (0.5 + self.scale.log() + _HALF_LOG_TAU).sum(-1)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> DiagonalNormal:
        """Return the same law with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(self.loc.expand(shape), self.scale.expand(shape))

    def __repr__(self) -> str:
        return f"DiagonalNormal(batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)})"


class StandardNormal(DiagonalNormal):
    """N(0, I_d), a type of its own so that the KL to it takes its short form."""

    @property
    def variance(self) -> Tensor:
        """Ones."""
        return self.scale

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> StandardNormal:
        """Return the same law with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return StandardNormal(self.loc.expand(shape), self.scale.expand(shape))


class Cube(Distribution):
    """The uniform law on [−1, 1]^d.

    Parameters
    ----------
    zeros
        (d,), which say how many numbers, of which dtype and where.
    """

    arg_constraints = {}  # noqa: RUF012 - declared so by the base class

    def __init__(self, zeros: Tensor) -> None:
        self.zeros = zeros
        super().__init__(event_shape=zeros.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """(d,) zeros."""
        return self.zeros

    @property
    def variance(self) -> Tensor:
        """(d,) thirds."""
        return self.zeros + 1 / 3

    def log_prob(self, value: Tensor) -> Tensor:
        """(...,) log-density in nats: −d log 2, and −∞ outside."""
        inside = (value.abs() <= 1).all(-1)
        return torch.where(inside, -self.zeros.numel() * math.log(2), -math.inf).to(value.dtype)


@singledispatch
def draw(distribution: Distribution, noise: Tensor) -> Tensor:
    """Map standard normals to a reparameterised draw of the distribution.

    Parameters
    ----------
    distribution
        A Gaussian with event shape (d,), or a `Cube`.
    noise
        (..., d) independent N(0, 1).

    Returns
    -------
    Tensor
        (..., d).
    """
    raise TypeError(f"{type(distribution).__name__} is not an affine map of standard normals; register one with draw.")


@draw.register
def _(distribution: DiagonalNormal, noise: Tensor) -> Tensor:
    return torch.addcmul(distribution.loc, distribution.scale, noise)


@draw.register
def _(distribution: Cube, noise: Tensor) -> Tensor:
    return (noise / math.sqrt(2)).erf()  # 2 Φ(ε) − 1


@draw.register
def _(distribution: MultivariateNormal, noise: Tensor) -> Tensor:
    return distribution.loc + (distribution.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


def chosen(weights: Tensor, noise: Tensor) -> Tensor:
    """Choose one of k by a standard normal: i with probability w_i, where Φ of the normal is in i's share of [0, 1].

    Parameters
    ----------
    weights
        (…, k), which sum to 1.
    noise
        (…, 1).

    Returns
    -------
    Tensor
        (…) int64.
    """
    uniform = 0.5 * (1 + torch.erf(noise * 2**-0.5))
    return (uniform > weights.cumsum(-1)[..., :-1]).sum(-1)


@singledispatch
def standardized(q: Distribution, m: Tensor, s: Tensor) -> Distribution:
    """Return the law of (z − m)/s for z ~ q; draws from the same noise correspond."""
    raise TypeError(f"{type(q).__name__} cannot be standardised; register one with standardized.")


@standardized.register
def _(q: DiagonalNormal, m: Tensor, s: Tensor) -> DiagonalNormal:
    return DiagonalNormal((q.loc - m) / s, q.scale / s)


@standardized.register
def _(q: MultivariateNormal, m: Tensor, s: Tensor) -> MultivariateNormal:
    return MultivariateNormal((q.loc - m) / s, scale_tril=q.scale_tril / s.unsqueeze(-1), validate_args=False)


@singledispatch
def within(q: Distribution, p: Distribution, most: float) -> Distribution:
    """Return q with deviations of at most `most` times those of p; the same numbers where they are below."""
    raise TypeError(f"{type(q).__name__} cannot be narrowed; register one with within.")


@within.register
def _(q: DiagonalNormal, p: Distribution, most: float) -> DiagonalNormal:
    return DiagonalNormal(q.loc, torch.minimum(q.scale, most * p.stddev))


@within.register
def _(q: MultivariateNormal, p: Distribution, most: float) -> MultivariateNormal:
    largest = (q.scale_tril.abs() / p.stddev.unsqueeze(-1)).amax((-2, -1), keepdim=True)
    tril = torch.where(largest > most, q.scale_tril / largest * most, q.scale_tril)
    return MultivariateNormal(q.loc, scale_tril=tril, validate_args=False)


@singledispatch
def variance_ratio(q: Distribution, p: Distribution, decomposed: int | None = None) -> Tensor:
    """(B, κ) variance of q along its axes relative to the prior's (Zheng et al. 2022, Definitions 3 and 5).

    For a full covariance these are the eigenvalues relative to the prior's, in ascending order, which cost a
    decomposition per row: of the first `decomposed` rows only, where that is given.
    """
    ratio: Tensor = q.variance / p.variance
    return ratio


@variance_ratio.register
def _(q: MultivariateNormal, p: Distribution, decomposed: int | None = None) -> Tensor:
    stddev = p.stddev if p.stddev.ndim == 1 else p.stddev[:decomposed]  # one law for all rows, or one for each
    tril = q.scale_tril[:decomposed] / stddev.unsqueeze(-1)
    values: Tensor = torch.linalg.svdvals(tril)  # of LLᵀ they would have the squared condition number
    return values.square().flip(-1)


ACTIVE_BELOW = 0.05
"""Threshold on λ_j under which a latent dimension counts as active."""

UNUSED = 0.9
"""λ_j from which a dimension carries less than a twentieth of a nat."""


def count_active(variance_ratio: Tensor, threshold: float = ACTIVE_BELOW) -> int:
    """Count the active dimensions among mean variance ratios λ, shape (κ,)."""
    return int((variance_ratio < threshold).sum())


def kl(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL[q ‖ p] in nats, (B,): the closed form where torch knows one, else its one-draw estimate at z ~ q."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)


def _diagonal_to_standard(q: DiagonalNormal, p: StandardNormal) -> Tensor:
    # Takida et al. 2022, below eq. 3: ½ Σ (μ² + σ² − log σ² − 1)
    doubled = torch.addcmul(q.scale.square(), q.loc, q.loc).sub(q.scale.log(), alpha=2).sum(-1)
    return (doubled - q.event_shape[0]) / 2


def _diagonal_to_diagonal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    ratio = q.scale / p.scale
    shift = (q.loc - p.loc) / p.scale
    return 0.5 * (ratio.square() + shift.square() - 1).sum(-1) - ratio.log().sum(-1)


def _full_to_diagonal(q: MultivariateNormal, p: DiagonalNormal) -> Tensor:
    # whiten by p: the KL of N((μ − m)/s, LLᵀ/s²) to N(0, I)
    tril = q.scale_tril / p.scale.unsqueeze(-1)
    shift = (q.loc - p.loc) / p.scale
    quadratic = tril.square().sum((-2, -1)) + shift.square().sum(-1) - q.event_shape[0]
    return 0.5 * quadratic - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


register_kl(DiagonalNormal, StandardNormal)(_diagonal_to_standard)
register_kl(DiagonalNormal, DiagonalNormal)(_diagonal_to_diagonal)
register_kl(MultivariateNormal, DiagonalNormal)(_full_to_diagonal)
