"""p(x | z): what the decoder's raw output means, its mean, its samples, and its negative log-density in nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vaelab.model.variances import ProfiledVariance, Variance
from vaelab.types import ParameterGroup


class Likelihood(nn.Module, ABC):
    """p(x | z) given the decoder's raw output ("parameters"), of shape (B, *parameter_shape(event_shape))."""

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape per sample that the decoder must emit; the data's own by default."""
        return event_shape

    @abstractmethod
    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −log p(x | z) in nats, summed over the event, all constants kept."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """(B, *event) E[x | z]."""

    @abstractmethod
    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, *event) x ~ p(x | z), with its noise."""

    def caveat(self, x: Tensor) -> str | None:
        """Why `nll` of these rows is not minus a normalised log-density, or None if it is."""
        return None

    def readings(self) -> dict[str, Tensor]:
        """Numbers worth logging, detached."""
        return {}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with a learning rate of their own."""
        return []


@final
class Gaussian(Likelihood):
    """N(μ_x(z), γ) with γ from a `Variance` (Dai & Wipf 2019, eq. 4).

    Parameters
    ----------
    variance
        How γ is obtained; profiled by default.
    link
        ``"identity"``, or ``"sigmoid"`` for data in [0, 1]: applied to the decoder's output to give the mean.
    """

    def __init__(self, variance: Variance | None = None, *, link: Literal["identity", "sigmoid"] = "identity") -> None:
        super().__init__()
        self.variance = ProfiledVariance() if variance is None else variance
        self.link = link

    def mean(self, parameters: Tensor) -> Tensor:
        """(B, *event) the decoder mean μ_x(z)."""
        return parameters.sigmoid() if self.link == "sigmoid" else parameters

    def squared_error(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B, *event) (x − μ_x(z))²."""
        return (x - self.mean(parameters)).square()

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) Σ ½ [(x − μ)²/γ + log 2πγ], nats."""
        squared = self.squared_error(parameters, x)
        gamma: Tensor = self.variance(squared)
        # γ has one entry or one per dimension; either way its logarithms sum to their mean times d
        log_mean = gamma.log().flatten(1).mean(1) + math.log(2 * math.pi)
        weighted = squared / (2 * gamma)
        return torch.add(weighted.flatten(1).sum(1), log_mean, alpha=squared[0].numel() / 2)

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, *event) mean plus noise of variance γ."""
        mean = self.mean(parameters)
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
        return mean + self.variance.gamma.to(mean.dtype).sqrt() * noise

    def caveat(self, x: Tensor) -> str | None:
        """None, unless the variance was fitted to the row that it scores."""
        return "the variance is fitted to the row it scores" if self.variance.per_sample else None

    def readings(self) -> dict[str, Tensor]:
        """γ, the decoder variance."""
        return {"gamma": self.variance.gamma.clone()}  # the buffer itself changes at every step

    def parameter_groups(self) -> list[ParameterGroup]:
        """Those of the variance."""
        return self.variance.parameter_groups()

    def extra_repr(self) -> str:
        """Show the link in ``repr``."""
        return f"link={self.link!r}"


@final
class Bernoulli(Likelihood):
    """Cross-entropy on [0, 1] pixels; the decoder emits logits.

    For grey values strictly between 0 and 1 this is the field's usual loss but no normalised density.
    """

    def nll(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −Σ [x log p + (1 − x) log(1 − p)], nats."""
        return F.binary_cross_entropy_with_logits(parameters, x, reduction="none").flatten(1).sum(1)

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
