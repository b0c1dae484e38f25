"""Likelihoods of pixels in [0, 1]: Bernoulli, continuous Bernoulli, a discretised mixture of logistics.

References
----------
Loaiza-Ganem & Cunningham 2019, section 3.
Salimans et al. 2017, sections 2.1 and 2.2.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model.likelihoods import Likelihood

_SMALL: Final = 0.25
"""Half logits below which the continuous Bernoulli's closed forms lose digits to cancellation."""

_LEAST_VARIANCE: Final = 1e-4  # of a pixel, in the information on it
_WIDEST: Final = 40.0  # half logits, beyond which the variance is 1/η²

_LEAST_LOG_SCALE: Final = -7.0
_MOST_LOG_SCALE: Final = 7.0  # only where samples and means are made: a wider logistic is two spikes at 0 and 1 as well
_OFF_GRID: Final = 0.025  # of the distance of two grey levels: 1e-4 for 256 of them


@final
class Bernoulli(Likelihood):
    """Cross-entropy on [0, 1] pixels; the decoder emits logits.

    For grey values strictly between 0 and 1 this is the field's usual loss but no normalised density.
    """

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −Σ [x log p + (1 − x) log(1 − p)], nats."""
        return F.binary_cross_entropy_with_logits(parameters, x, reduction="none").flatten(1).sum(1)

    def nll_of_observed(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(K, B) nats of the pixels that are there."""
        row = x.nan_to_num().expand_as(parameters)
        each = F.binary_cross_entropy_with_logits(parameters, row, reduction="none")
        return torch.where(x.isnan(), 0.0, each).flatten(2).sum(2)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return p and 1/(p (1 − p)), (B, d) each."""
        p = self.mean(parameters).flatten(1)
        return p, 1 / (p * (1 - p)).clamp(min=_LEAST_VARIANCE)

    def mean(self, parameters: Tensor) -> Tensor:
        """(B, *event) the probabilities."""
        return parameters.sigmoid()

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, *event) of 0 and 1."""
        return torch.bernoulli(self.mean(parameters), generator=generator)

    def caveat(self, x: Tensor) -> str | None:
        """None for rows of 0 and 1 only."""
        binary = bool(((x == 0) | (x == 1)).all())
        return None if binary else "cross-entropy of grey values is no density"


@final
class ContinuousBernoulli(Likelihood):
    """p(x) ∝ e^{ηx} on [0, 1]; the decoder emits η, the logits of the Bernoulli that it resembles.

    log p(x) = ηx − A(η), with A(η) = log ((e^η − 1)/η) = η/2 + log (sinh(η/2)/(η/2)). `Bernoulli` has softplus(η) in
    place of A(η); the difference is log C of the paper, which makes it a density. Everything is computed from η itself,
    so that large logits neither saturate nor lose their gradient.
    """

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −log p(x | z) in nats for x in [0, 1], a density with respect to x."""
        return (parameters * (0.5 - x) + _log_sinhc(parameters / 2)).flatten(1).sum(1)

    def nll_of_observed(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(K, B) nats of the pixels that are there."""
        each = parameters * (0.5 - x.nan_to_num()) + _log_sinhc(parameters / 2)
        return torch.where(x.isnan(), 0.0, each).flatten(2).sum(2)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return A′(η) and 1/A″(η), with A″(η) = 1/η² − 1/(2 sinh(η/2))², (B, d) each."""
        half = parameters.flatten(1) / 2
        wide, square = half.abs().clamp(_SMALL, _WIDEST), half.clamp(-_SMALL, _SMALL).square()
        exact = 0.25 * (1 / wide.square() - 1 / wide.sinh().square())
        variance = torch.where(half.abs() < _SMALL, 1 / 12 - square * (1 / 60 - square / 378), exact)
        return self.mean(parameters).flatten(1), 1 / variance.clamp(min=_LEAST_VARIANCE)

    def mean(self, parameters: Tensor) -> Tensor:
        """(B, *event) A′(η) = ½ + ½ (coth(η/2) − 2/η)."""
        half = parameters / 2
        wide = half.abs().clamp_min(_SMALL)
        square = half.clamp(-_SMALL, _SMALL).square()
        series = half * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square * (1 / 4725 - square * 2 / 93555))))
        exact = half.sign() * (1 / wide.tanh() - 1 / wide)
        return 0.5 + 0.5 * torch.where(half.abs() < _SMALL, series, exact)

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, *event) in [0, 1], by the inverse of the distribution function."""
        u = torch.rand(parameters.shape, dtype=parameters.dtype, device=parameters.device, generator=generator)
        slope = parameters.abs().clamp_min(torch.finfo(parameters.dtype).tiny ** 0.5)
        falling = (torch.log1p(u * torch.expm1(-slope)) / -slope).clamp(0, 1)
        return torch.where(parameters < 0, falling, 1 - falling)

    def caveat(self, x: Tensor) -> str | None:
        """None for rows in [0, 1]."""
        return _range_caveat(x)


def _log_sinhc(a: Tensor) -> Tensor:
    """Return log (sinh(a)/a), which is even and smooth; for large |a| it is |a| − log 2|a|."""
    wide = a.abs().clamp_min(_SMALL)
    exact = wide + torch.log1p(-torch.exp(-2 * wide)) - (2 * wide).log()
    s = a.clamp(-_SMALL, _SMALL).square()
    series = s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s * (1 / 37800 - s / 467775))))
    return torch.where(a.abs() < _SMALL, series, exact)


class _Mixture(NamedTuple):
    """The decoder's numbers by meaning, for pixels in [−1, 1]."""

    logits: Tensor
    """(B, K, H, W) of the components."""

    means: Tensor
    """(B, K, C, H, W) before what earlier channels add."""

    log_scales: Tensor
    """(B, K, C, H, W), at least −7."""

    coefficients: Tensor
    """(B, K, C (C − 1)/2, H, W) in (−1, 1), in the order (1, 0), (2, 0), (2, 1), …"""

    def shift(self, channel: int, earlier: list[Tensor]) -> Tensor:
        """(B, K, H, W) the mean of a channel, given the values (B, 1 or K, H, W) of all earlier ones."""
        mean, first = self.means[:, :, channel], channel * (channel - 1) // 2
        for i, value in enumerate(earlier):
            mean = mean + self.coefficients[:, :, first + i] * value
        return mean


@final
class DiscretizedLogisticMixture(Likelihood):
    """A mixture of logistics per pixel, rounded to grey levels; its probabilities sum to exactly 1.

    With pixels mapped to [−1, 1], level y has under one component the probability that a logistic variable falls into
    the bin [y − h, y + h], h = 1/(levels − 1); the first and the last bin reach to infinity (eq. 2). The channels of a
    pixel share their component, and the mean of channel j is its own plus tanh(raw) times the *true* value of each
    earlier channel (eq. 3). Pixels are independent given z.

    The decoder emits K (1 + 2C + C (C − 1)/2) channels: 3K for grey, 10K for RGB. For each component in turn: its
    logit, C means, C log-scales (held at −7 or more), C (C − 1)/2 raw coefficients.

    The mass of an inner bin is σ(a) − σ(b) = σ(a) σ(−b) (1 − e^{b − a}), whose logarithm is exact for every mean and
    scale. The paper's program replaces masses below 1e-5 by the density at the bin's centre instead, which differs by
    up to 2.2 nats at the smallest scale and is not normalised.

    Parameters
    ----------
    components
        K; the paper's is 10.
    levels
        Grey levels, equally spaced from 0 to 1.
    """

    def __init__(self, components: int = 10, levels: int = 256) -> None:
        super().__init__()
        if components != int(components) or components < 1:
            raise InputError(f"components={components}", "a whole number of at least 1", "The paper takes 10.")
        if levels != int(levels) or levels < 2:
            raise InputError(f"levels={levels}", "a whole number of at least 2", "8-bit images have 256.")
        self.components, self.levels = int(components), int(levels)

    @property
    def _half(self) -> float:
        """Half the distance of two grey levels in [−1, 1]."""
        return 1 / (self.levels - 1)

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(K (1 + 2C + C (C − 1)/2), H, W).

        Raises
        ------
        InputError
            The event is no image.
        """
        if len(event_shape) != 3:
            raise InputError(f"rows of shape {event_shape}", "images (C, H, W)", "Use a Gaussian for tables.")
        channels, height, width = event_shape
        return (self.components * _numbers(channels), height, width)

    def log_mass(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Score grey levels.

        Parameters
        ----------
        parameters
            (B, K (1 + 2C + C (C − 1)/2), H, W) from the decoder.
        x
            (B, C, H, W) in [0, 1], multiples of 1/(levels − 1).

        Returns
        -------
        Tensor
            (B,) log-probability of the levels, nats, at most 0.
        """
        mixture = self._split(parameters)
        values = (2 * x - 1).unsqueeze(1).unbind(2)
        each = [
            self._log_bin(value, mixture.shift(channel, list(values[:channel])), mixture.log_scales[:, :, channel])
            for channel, value in enumerate(values)
        ]
        joint = torch.stack(each).sum(0) + mixture.logits.log_softmax(1)
        return joint.logsumexp(1).flatten(1).sum(1)

    def _log_bin(self, y: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """(B, K, H, W) log-probability of the bin around y in [−1, 1] under each component."""
        half, inverse = self._half, torch.exp(-log_scale)
        centred = y - mean
        above, below = inverse * (centred + half), inverse * (centred - half)
        first, last = y < half - 1, y > 1 - half
        zero = y.new_zeros(())
        # all parts are finite, so that those not taken have gradient 0 and not NaN
        inside = torch.where(first | last, zero, _log_one_minus_exp(math.log(2 * half) - log_scale))
        return inside + torch.where(last, zero, F.logsigmoid(above)) + torch.where(first, zero, F.logsigmoid(-below))

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) minus the log-density that is uniform over each grey level: −log_mass − d·log(levels − 1), nats.

        In units of [0, 1] a level is a bin of width 1/(levels − 1), and the two at the ends count as full, half of them
        outside. This compares with the other likelihoods on dequantised pixels; bits per dimension of the paper are
        −log_mass / (d log 2).
        """
        return -self.log_mass(parameters, x) - x[0].numel() * math.log(self.levels - 1)

    def mean(self, parameters: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1]: the mean over components of E[y held to the range], channel by channel.

        For the first channel this is E[x | z] up to the rounding, half a level at most. Later channels take the means
        of the earlier ones in place of their values.
        """
        mixture = self._split(parameters)
        weights = mixture.logits.softmax(1)
        values: list[Tensor] = []
        for channel in range(mixture.means.shape[2]):
            log_scale = mixture.log_scales[:, :, channel].clamp_max(_MOST_LOG_SCALE)
            values.append(_held_mean(mixture.shift(channel, values), log_scale.exp()))
        mean = torch.stack([(weights * value).sum(1) for value in values], 1)
        return ((mean + 1) / 2).clamp(0, 1)

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, C, H, W) of grey levels; every channel is rounded before the next one sees it."""
        mixture = self._split(parameters)
        probabilities = mixture.logits.softmax(1).movedim(1, -1)
        picked = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator)
        chosen = picked.view(probabilities.shape[:-1]).unsqueeze(1)
        eps = torch.finfo(parameters.dtype).eps
        values: list[Tensor] = []
        for channel in range(mixture.means.shape[2]):
            mean = mixture.shift(channel, values).gather(1, chosen)
            scale = mixture.log_scales[:, :, channel].gather(1, chosen).clamp_max(_MOST_LOG_SCALE).exp()
            u = torch.rand(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
            raw = mean + scale * u.clamp(eps, 1 - eps).logit()
            values.append(2 * self._rounded((raw + 1) / 2) - 1)
        return self._rounded((torch.cat(values, 1) + 1) / 2)

    def _rounded(self, x: Tensor) -> Tensor:
        """Return the nearest grey level in [0, 1]."""
        return (x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def caveat(self, x: Tensor) -> str | None:
        """None for rows of grey levels."""
        steps = x * (self.levels - 1)
        if bool(((steps - steps.round()).abs() <= _OFF_GRID).all()):
            return _range_caveat(x)
        return f"pixels are not grey levels, multiples of 1/{self.levels - 1}"

    def _split(self, parameters: Tensor) -> _Mixture:
        """Tell the decoder's channels apart."""
        each, rest = divmod(parameters.shape[1], self.components)
        channels = next(c for c in range(1, each + 2) if _numbers(c) >= each)
        if rest or _numbers(channels) != each:
            raise InputError(
                f"a decoder output of {parameters.shape[1]} channels",
                f"{self.components} times 3 for grey or 10 for RGB",
                "Build the decoder with likelihood.parameter_shape(event_shape).",
            )
        grouped = parameters.unflatten(1, (self.components, each))
        sizes = [1, channels, channels, channels * (channels - 1) // 2]
        logits, means, log_scales, raw = grouped.split(sizes, dim=2)
        return _Mixture(logits.squeeze(2), means, log_scales.clamp_min(_LEAST_LOG_SCALE), raw.tanh())

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        return f"components={self.components}, levels={self.levels}"


def _numbers(channels: int) -> int:
    """Count what one component takes per pixel."""
    return 1 + 2 * channels + math.comb(channels, 2)


def _log_one_minus_exp(log_t: Tensor) -> Tensor:
    """Return log (1 − e^{−t}) from log t, also where t itself would be rounded to 0."""
    few = log_t - log_t.clamp_max(-10.0).exp() / 2
    many = torch.log(-torch.expm1(-log_t.clamp_min(-10.0).exp()))
    return torch.where(log_t < -10.0, few, many)


def _held_mean(mean: Tensor, scale: Tensor) -> Tensor:
    """E[min(max(y, −1), 1)] of a logistic y: ∫ P(y > t) dt over [−1, 1], less 1."""
    furthest = 1 + 40 * scale  # beyond it all of y is held, and the difference below would be rounded away
    mean = torch.minimum(torch.maximum(mean, -furthest), furthest)
    upper, lower = F.softplus((mean + 1) / scale), F.softplus((mean - 1) / scale)
    return (scale * (upper - lower) - 1).clamp(-1, 1)


def _range_caveat(x: Tensor) -> str | None:
    return None if bool(((x >= 0) & (x <= 1)).all()) else "pixels outside [0, 1] have no density"
