"""The decoder variance γ of a Gaussian likelihood: how it is obtained, apart from how a Gaussian is scored.

γ is a **variance** everywhere, never a standard deviation. A strategy maps the squared errors of a batch to a γ that
broadcasts against them. In evaluation mode γ never depends on the batch: likelihoods are those of a fixed density.

References
----------
Dai & Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019 (learned γ).
Takida et al., "Preventing Oversmoothing in VAE via Generalized Variance Parameterization", 2022 (profiled forms).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.types import ParameterGroup


def mean_over_processes(value: Tensor) -> Tensor:
    """Average a detached tensor over the processes of a data-parallel run; itself in a single process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value


class Variance(nn.Module, ABC):
    """γ, one scalar for the data set (shared, isotropic) in every form built so far.

    Attributes
    ----------
    floor
        Smallest γ allowed. The theory drives γ to 0 on noiseless manifolds, where the density has no limit.
    calibrates
        Whether `calibrate` has anything to do, which costs a pass over the training data.
    per_sample
        Whether γ is a function of the row that is scored, which leaves no normalised density.
    """

    floor: float
    calibrates = False
    per_sample = False

    @property
    @abstractmethod
    def gamma(self) -> Tensor:
        """The γ in force, a scalar tensor without gradient."""

    @abstractmethod
    def forward(self, squared_error: Tensor) -> Tensor:
        """Map squared errors (B, *event) to γ, of as many dimensions and broadcastable to them."""

    def calibrate(self, mean_squared_error: Tensor) -> None:
        """Take over the training set's mean squared error, shape ``event_shape``, after training."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with a learning rate of their own; none by default."""
        return []

    @property
    def at_floor(self) -> bool:
        """Whether γ has come down to its floor (within half of it)."""
        return bool(self.gamma <= 1.5 * self.floor)


def _checked(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name}={value}", "a positive variance", "γ is a variance on the scale of the squared data.")
    return float(value)


@final
class FixedVariance(Variance):
    """γ given and kept."""

    _gamma: Tensor

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        self.floor = 0.0
        self.register_buffer("_gamma", torch.tensor(_checked("gamma", gamma)))

    @property
    def gamma(self) -> Tensor:
        """The given γ."""
        return self._gamma

    def forward(self, squared_error: Tensor) -> Tensor:
        """Return γ, shape (1, ..., 1)."""
        return self._gamma.to(squared_error.dtype).view((1,) * squared_error.ndim)


@final
class LearnedVariance(Variance):
    """γ trained by gradient, as log √γ (the parameterisation of the two-stage paper's program).

    Parameters
    ----------
    initial
        First γ. Start at the variance of the data: with Adam log √γ moves by at most one learning rate per step.
    lr_scale
        Learning rate of log √γ as a multiple of the network's.
    floor
        Added to exp(2 log √γ), so that γ stays above it and can rise again.
    """

    def __init__(self, initial: float = 1.0, *, lr_scale: float = 10.0, floor: float = 0.0) -> None:
        super().__init__()
        self.floor, self.lr_scale = float(floor), float(lr_scale)
        if not _checked("initial", initial) > floor:
            raise InputError(f"initial={initial} and floor={floor}", "a start above the floor")
        self.log_std = nn.Parameter(torch.tensor(0.5 * math.log(initial - floor)))

    @property
    def gamma(self) -> Tensor:
        """The learned γ."""
        return self._value().detach()

    def _value(self) -> Tensor:
        # added, not clamped: a clamp passes no gradient, and γ would never leave its floor again
        return self.floor + (2 * self.log_std).exp()

    def forward(self, squared_error: Tensor) -> Tensor:
        """Return γ, shape (1, ..., 1), with gradient."""
        return self._value().to(squared_error.dtype).view((1,) * squared_error.ndim)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Log √γ with its own learning rate."""
        return [ParameterGroup([self.log_std], self.lr_scale, decays=False)]


@final
class ProfiledVariance(Variance):
    """γ at its maximum-likelihood value for the batch: the mean squared error (Iso-I of Takida et al., eq. 12).

    The gradient through γ vanishes at the maximum, so γ may be detached: the gradient is that of (d/2) log E‖e‖².
    In training γ comes from the batch (all processes together); the last one is kept for evaluation until
    `calibrate` puts the training set's value in its place.

    Parameters
    ----------
    floor
        Smallest γ.
    """

    _gamma: Tensor
    calibrates = True

    def __init__(self, *, floor: float = 0.0) -> None:
        super().__init__()
        self.floor = float(floor)
        self.register_buffer("_gamma", torch.tensor(1.0))

    @property
    def gamma(self) -> Tensor:
        """The last batch's γ, or the calibrated one."""
        return self._gamma

    def forward(self, squared_error: Tensor) -> Tensor:
        """Return γ, shape (1, ..., 1), without gradient."""
        if not self.training:
            return self._gamma.to(squared_error.dtype).view((1,) * squared_error.ndim)
        gamma = mean_over_processes(squared_error.detach().mean()).clamp(min=self.floor)
        self._gamma.copy_(gamma)
        return gamma.view((1,) * squared_error.ndim)

    def calibrate(self, mean_squared_error: Tensor) -> None:
        """Set γ to the mean over the training set and all dimensions (Takida et al., section 4)."""
        self._gamma.fill_(max(float(mean_squared_error.double().mean()), self.floor))
