"""p(x | z): what the decoder's raw output means, its mean, its samples, and its negative log-density in nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model.variances import ProfiledVariance, Variance
from vaelab.types import ParameterGroup


class Likelihood(nn.Module, ABC):
    """p(x | z) given the decoder's raw output ("parameters"), of shape (B, *parameter_shape(event_shape)).

    Attributes
    ----------
    variance
        γ of what is Gaussian in it; None where nothing is.
    """

    variance: Variance | None

    def __init__(self, variance: Variance | None = None) -> None:
        super().__init__()
        self.variance = variance

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape per sample that the decoder must emit; the data's own by default."""
        return event_shape

    @abstractmethod
    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −log p(x | z) in nats, summed over the event, all constants kept."""

    def nll_of_draws(self, parameters: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """(K, B) −log p(x | z_k) in nats, for parameters (K, B, …) of K draws of z for each x.

        A profiled variance is that of all draws together: its E_z is their mean (Takida et al. 2022, eq. 9a), with
        (K, B) weights that add up to 1 for each row if they are given.
        """
        draws = parameters.shape[0]
        return self.nll(parameters.flatten(0, 1), x.expand(draws, *x.shape).flatten(0, 1)).view(draws, x.shape[0])

    def costs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Return the terms of `nll_of_draws`, nats per entry, 0 where one is missing; refused by default.

        Returns
        -------
        Tensor
            (K, B, …) of the shape of the event.

        Raises
        ------
        InputError
            The likelihood has no terms per entry.
        """
        got = f"nats per entry of {type(self).__name__}"
        raise InputError(got, "a Gaussian likelihood, or that of a mixed table", "Train with likelihood='gaussian'.")

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """(B, *event) E[x | z]."""

    @abstractmethod
    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, *event) x ~ p(x | z), with its noise."""

    def nll_of_observed(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(K, B) −log p of the entries that are there, nats, for rows with NaN where one is missing.

        Raises
        ------
        InputError
            Entries are missing, and the likelihood has no term per entry to leave out.
        """
        nll = self.nll_of_draws(parameters, x)
        if bool(x.isnan().any()) and bool(nll.isnan().any()):
            got = f"missing entries for {type(self).__name__}"
            remedy = "Train with likelihood='mixed', or 'gaussian' for images."
            raise InputError(got, "a likelihood whose entries are independent given z", remedy)
        return nll

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return what is expected of a row's `statistics` given z, and the Fisher information on it; None if unknown.

        With J the derivative of the first by z, Jᵀ diag(information) J is the information on z.

        Returns
        -------
        expected, information : Tensor
            (B, f) each.
        """
        return None

    def statistics(self, x: Tensor) -> Tensor:
        """(B, f) a row in numbers whose expectations are `moments`, NaN where an entry is missing."""
        return x.flatten(1)

    def impute(self, x: Tensor, parameters: Tensor, weights: Tensor) -> Tensor:
        """Fill in what is missing with its mean over draws of z.

        Parameters
        ----------
        x
            Rows, NaN where an entry is missing.
        parameters
            (K, B, …) the decoder's output for K draws.
        weights
            (K, B) of the draws, which add up to 1 for each row.

        Returns
        -------
        Tensor
            x without gaps; what was observed stays as it is.
        """
        each = self.mean(parameters.flatten(0, 1)).unflatten(0, parameters.shape[:2])
        weights = weights.view(*weights.shape, *(1,) * (x.ndim - 1))
        return torch.where(x.isnan(), (weights * each).sum(0), x)

    def beside(self, parameters: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Name → (B,) nats that training adds to −log p(x | z), such as those of which entries are missing."""
        return {}

    def open(self, x: Tensor, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Make gaps in drawn rows as there were in training; refused by default.

        Raises
        ------
        InputError
            The likelihood has no place for missing entries.
        """
        raise InputError(
            f"gaps from {type(self).__name__}", "a model of a mixed table", "Train with likelihood='mixed'."
        )

    def caveat(self, x: Tensor) -> str | None:
        """Why `nll` of these rows is not minus a normalised log-density, or None if it is."""
        return None

    @property
    def calibrates(self) -> bool:
        """Whether the variance is to be set from the training data, by `squared_error`."""
        return self.variance is not None and self.variance.calibrates

    def squared_error(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B, *event) (x − μ_x(z))², NaN where an entry of x is missing or not a number."""
        return (x - self.mean(parameters)).square()

    def readings(self) -> dict[str, Tensor]:
        """Numbers worth logging, detached: γ, the mean over dimensions."""
        # the buffer itself changes at every step
        return {} if self.variance is None else {"gamma": self.variance.gamma.mean()}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with a learning rate of their own: those of the variance."""
        return [] if self.variance is None else self.variance.parameter_groups()


@final
class Gaussian(Likelihood):
    """N(μ_x(z), γ) with γ from a `Variance` (Dai & Wipf 2019, Definition 1; Takida et al. 2022, section 5).

    Parameters
    ----------
    variance
        How γ is obtained; profiled by default.
    link
        ``"identity"``, or ``"sigmoid"`` for data in [0, 1]: applied to the decoder's output to give the mean.
    """

    variance: Variance

    def __init__(self, variance: Variance | None = None, *, link: Literal["identity", "sigmoid"] = "identity") -> None:
        super().__init__(ProfiledVariance() if variance is None else variance)
        self.link = link

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the data's own, with more channels (columns of a table) where the decoder emits γ too."""
        return (self.variance.outputs(event_shape[0]), *event_shape[1:])

    def mean(self, parameters: Tensor) -> Tensor:
        """(B, *event) the decoder mean μ_x(z)."""
        return self._linked(self.variance.split(parameters)[0])

    def _linked(self, raw: Tensor) -> Tensor:
        return raw.sigmoid() if self.link == "sigmoid" else raw

    def variance_of(self, parameters: Tensor, x: Tensor) -> Tensor:
        """γ of every row, broadcastable to (B, *event)."""
        mean, raw = self.variance.split(parameters)
        return self.variance((x - self._linked(mean)).square(), raw)  # type: ignore[no-any-return]

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) Σ ½ [(x − μ)²/γ + log 2πγ], nats."""
        mean, raw = self.variance.split(parameters)
        squared = (x - self._linked(mean)).square()
        return _score(squared, self.variance(squared, raw), x.ndim - 1)

    def nll_of_draws(self, parameters: Tensor, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """(K, B) nats, with one γ for all draws of a row unless the decoder emits it."""
        return _score(*self._errors_of_draws(parameters, x, weights), x.ndim - 1)

    def costs(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Terms ½ [(x − μ)²/γ + log 2πγ], nats."""
        squared, gamma = self._errors_of_draws(parameters, x)
        return 0.5 * (squared / gamma + (gamma.log() + math.log(2 * math.pi)))

    def nll_of_observed(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(K, B) nats of the entries that are there; γ is that of rows that are drawn, which none is fitted to."""
        expected, information = self.moments(parameters.flatten(0, 1))
        row, observed = self.statistics(x), ~x.flatten(1).isnan()
        squared = torch.where(observed, row - expected.unflatten(0, parameters.shape[:2]), 0.0).square()
        information = information.unflatten(0, parameters.shape[:2])
        each: Tensor = squared * information - observed * (information.log() - math.log(2 * math.pi))
        return 0.5 * each.sum(-1)

    def moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and 1/γ, (B, d) each."""
        mean, raw = self.variance.split(parameters)
        gamma = self.variance.generative(raw).to(mean.dtype).clamp(min=torch.finfo(mean.dtype).tiny)
        return self._linked(mean).flatten(1), (1 / gamma).expand(mean.shape).flatten(1)

    def _errors_of_draws(self, parameters: Tensor, x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return squared errors, (K, B, *event), and γ, broadcastable to them."""
        draws, rows = parameters.shape[:2]
        mean, raw = self.variance.split(parameters.flatten(0, 1))
        squared = (x - self._linked(mean).unflatten(0, (draws, rows))).square()
        if raw is None:
            if weights is None:
                mean = squared.mean(0)
            else:
                mean = (weights.view(draws, rows, *(1,) * (x.ndim - 1)) * squared).sum(0)
            gamma: Tensor = self.variance(mean)
        else:
            gamma = self.variance(squared.flatten(0, 1), raw).unflatten(0, (draws, rows))
        return squared, gamma

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, *event) mean plus noise of variance γ."""
        mean, raw = self.variance.split(parameters)
        mean = self._linked(mean)
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        return mean + self.variance.generative(raw).to(mean.dtype).sqrt() * noise

    def caveat(self, x: Tensor) -> str | None:
        """None, unless the variance was fitted to the row that it scores."""
        return "the variance is fitted to the row it scores" if self.variance.per_sample else None

    def extra_repr(self) -> str:
        """Show the link in ``repr``."""
        return f"link={self.link!r}"


def _score(squared: Tensor, gamma: Tensor, event_dims: int) -> Tensor:
    """Σ ½ [e²/γ + log 2πγ] over the last dimensions, nats."""
    # where γ has one entry for several dimensions, their mean logarithm times d is the sum
    log_mean = gamma.log().flatten(-event_dims).mean(-1) + math.log(2 * math.pi)
    weighted = (squared / (2 * gamma)).flatten(-event_dims)
    return torch.add(weighted.sum(-1), log_mean, alpha=weighted.shape[-1] / 2)
