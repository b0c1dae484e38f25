"""The decoder variance γ of a Gaussian likelihood: how it is obtained, apart from how a Gaussian is scored.

γ is a **variance** everywhere, never a standard deviation. A strategy maps the squared errors of a batch to a γ that
broadcasts against them. It has one of four shapes, named as by Takida et al. 2022:

    ======  ============================  =====================  ===============================
    name    γ                             from decoder outputs   profiled, e = x − μ_x(z)
    ======  ============================  =====================  ===============================
    Iso-I   one number                    (a parameter)          mean of e² over all
    Diag-I  one per dimension             (parameters)           mean of e² over the rows
    Iso-D   one per row                   one output             mean of e² over the dimensions
    Diag-D  one per row and dimension     d outputs              e²
    ======  ============================  =====================  ===============================

In evaluation a shared γ never depends on the batch: likelihoods are those of a fixed density. A γ that the decoder
emits is a function of z, so p(x | z) is a density too. A γ profiled per row is fitted to the row that it scores, which
leaves no density: `Likelihood.caveat` says so.

References
----------
Dai & Wipf 2019 (learned γ).
Takida et al. 2022, section 5 (the shapes, profiled and trained).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model.distributions import held
from vaelab.types import ParameterGroup

_HELD = 0.3  # share of a training's steps for which γ is held down


def mean_over_processes(value: Tensor) -> Tensor:
    """Average a detached tensor over the processes of a data-parallel run; itself in a single process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value


class Variance(nn.Module, ABC):
    """γ of a Gaussian likelihood.

    Attributes
    ----------
    floor
        Smallest γ allowed. The theory drives γ to 0 on noiseless manifolds, where the density has no limit.
    calibrates
        Whether `calibrate` has anything to do, which costs a pass over the training data.
    diagonal
        Whether every dimension has a γ of its own.
    per_sample
        Whether γ is a function of the row that is scored, which leaves no normalised density.
    """

    floor: float
    calibrates = False
    diagonal = False
    per_sample = False

    @property
    @abstractmethod
    def gamma(self) -> Tensor:
        """The γ in force, without gradient: a scalar, or of ``event_shape`` where it is diagonal.

        Of a γ that differs from row to row this is a mean over rows: of the last training batch where it is learned,
        of the training set where it is profiled and calibrated.
        """

    @abstractmethod
    def forward(self, squared_error: Tensor, raw: Tensor | None = None) -> Tensor:
        """Map squared errors (B, *event) to γ, of as many dimensions and broadcastable to them.

        Parameters
        ----------
        squared_error
            (B, *event).
        raw
            What `split` has set apart of the decoder's output.
        """

    def begin_step(self, share: float) -> None:
        """Hear which share of a training's steps is done; nothing by default."""

    def forget_start(self) -> None:
        """Let further training go on from the γ that is there; nothing by default."""

    def outputs(self, channels: int) -> int:
        """Return the number of channels (columns of a table) that a decoder must emit for this many of the data's."""
        return channels

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part the decoder's output (B, outputs, …) into what the mean is made of, and what γ is."""
        return parameters, None

    def generative(self, raw: Tensor | None) -> Tensor:
        """Return γ for rows that are yet to be drawn, broadcastable to (B, *event): of no row where it needs one."""
        return self.gamma[None]

    def calibrate(self, mean_squared_error: Tensor) -> None:
        """Take over the training set's mean squared error, shape ``event_shape``, after training."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with a learning rate of their own; none by default."""
        return []

    @property
    def at_floor(self) -> bool:
        """Whether γ has come down to its floor (within half of it), in every dimension."""
        return bool((self.gamma <= 1.5 * self.floor).all())


def _checked(name: str, value: float) -> float:
    if not value > 0:
        raise InputError(f"{name}={value}", "a positive variance", "γ is a variance on the scale of the squared data.")
    return float(value)


@final
class FixedVariance(Variance):
    """γ given and kept.

    Parameters
    ----------
    gamma
        One number, or one for every dimension, of ``event_shape``.
    """

    _gamma: Tensor

    def __init__(self, gamma: float | Tensor = 1.0) -> None:
        super().__init__()
        self.floor = 0.0
        values = torch.as_tensor(gamma).detach().clone()
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        _checked("gamma", float(values.min()))
        self.diagonal = values.ndim > 0
        self.register_buffer("_gamma", values)

    @property
    def gamma(self) -> Tensor:
        """The given γ."""
        return self._gamma

    def forward(self, squared_error: Tensor, raw: Tensor | None = None) -> Tensor:
        """Return γ, of size 1 along the rows, and along every axis where it is one number."""
        return _spread(self._gamma, squared_error)


@final
class LearnedVariance(Variance):
    """γ trained by gradient, as log √γ (the parameterisation of the two-stage paper's program); Iso-I or Diag-I.

    Parameters
    ----------
    initial
        First γ. Start at the variance of the data: with Adam log √γ moves by at most one learning rate per step.
    event_shape
        One γ for every dimension of rows of this shape; one for all if None.
    lr_scale
        Learning rate of log √γ as a multiple of the network's.
    floor
        Added to exp(2 log √γ), so that γ stays above it and can rise again.
    """

    def __init__(
        self,
        initial: float = 1.0,
        *,
        event_shape: tuple[int, ...] | None = None,
        lr_scale: float = 10.0,
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        self.floor, self.lr_scale = float(floor), float(lr_scale)
        self.diagonal = event_shape is not None
        start = _log_std(initial, floor)
        self.log_std = nn.Parameter(torch.full(event_shape or (), start))

    @property
    def gamma(self) -> Tensor:
        """The learned γ."""
        return self._value().detach()

    def _value(self) -> Tensor:
        # added, not clamped: a clamp passes no gradient, and γ would never leave its floor again
        return self.floor + (2 * self.log_std).exp()

    def forward(self, squared_error: Tensor, raw: Tensor | None = None) -> Tensor:
        """Return γ with gradient, of size 1 along the rows, and along every axis where it is one number."""
        return _spread(self._value(), squared_error)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Log √γ with its own learning rate."""
        return [ParameterGroup([self.log_std], self.lr_scale, decays=False)]


@final
class DecodedVariance(Variance):
    """γ(z), emitted by the decoder as log √γ beside the mean, and trained by gradient; Iso-D or Diag-D.

    p(x | z) stays a density. Takida et al. 2022 find the diagonal one unstable in training (Table 4).

    Parameters
    ----------
    initial
        γ where the decoder emits 0: start at the variance of the data.
    diagonal
        One γ per dimension; else one per row, from one more channel whose mean is taken.
    floor
        Added to γ.
    """

    _mean: Tensor

    def __init__(self, initial: float = 1.0, *, diagonal: bool = False, floor: float = 0.0) -> None:
        super().__init__()
        self.floor, self.diagonal = float(floor), diagonal
        self._start = _log_std(initial, floor)
        self.register_buffer("_mean", torch.tensor(float(initial)))

    @property
    def gamma(self) -> Tensor:
        """Mean γ of the last training batch, a scalar."""
        return self._mean

    def outputs(self, channels: int) -> int:
        """Return twice the data's channels, or one more."""
        return 2 * channels if self.diagonal else channels + 1

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part the mean's channels, which come first, from those of log √γ."""
        count = parameters.shape[1] // 2 if self.diagonal else parameters.shape[1] - 1
        return parameters[:, :count], parameters[:, count:]

    def forward(self, squared_error: Tensor, raw: Tensor | None = None) -> Tensor:
        """Return γ, shape (B, 1, ..., 1) or (B, *event), with gradient."""
        gamma = self.generative(raw)
        if self.training:
            with torch.no_grad():
                self._mean.copy_(mean_over_processes(gamma.detach().mean()))
        return gamma

    def generative(self, raw: Tensor | None) -> Tensor:
        """γ from the decoder's output alone."""
        if raw is None:
            raise InputError("no decoder output for γ", "the rest of the decoder's output", "Pass what split returns.")
        log_std = raw if self.diagonal else raw.mean(tuple(range(1, raw.ndim)), keepdim=True)
        return self.floor + (2 * held(self._start + log_std)).exp()

    def extra_repr(self) -> str:
        """Show the shape in ``repr``."""
        return f"diagonal={self.diagonal}"


@final
class ProfiledVariance(Variance):
    """γ at its maximum-likelihood value: the mean squared error (Takida et al. 2022, eq. 9a and Table 2).

    The gradient through γ vanishes at the maximum, so γ is detached: the gradient is that of ½ Σ log E e², with the
    mean over rows, dimensions, both or neither, as the shape says. Of a shared γ the batch's value (all processes
    together) serves in training; the last one is kept for evaluation until `calibrate` puts the training set's in its
    place. A γ per sample is fitted to each row in evaluation too, and to no row where rows are drawn: there the
    training set's mean takes its place.

    Parameters
    ----------
    diagonal
        One γ per dimension.
    per_sample
        One γ per row. A diagonal one has no lower limit without a floor.
    floor
        Smallest γ for Iso-I, and added to the mean squared error for the other shapes (the paper's program: 1e-6 on
        pixels in [0, 1]).
    start
        γ is at most this for the first 30 % of a training's steps; None for no such limit. With z unused, γ at the
        variance of the data is a saddle of the objective, which training does not leave where a linear code has
        nothing to gain, as on a sphere or a roll whose columns are standardised. A small γ leaves it.

    Raises
    ------
    InputError
        A diagonal γ per sample without a floor.
    """

    _gamma: Tensor
    calibrates = True

    def __init__(
        self,
        *,
        diagonal: bool = False,
        per_sample: bool = False,
        floor: float = 0.0,
        start: float | None = None,
    ) -> None:
        super().__init__()
        self.start = None if start is None else max(_checked("start", start), floor)
        self._ceiling: float | None = None
        if diagonal and per_sample and not floor > 0:
            remedy = "Pass floor=1e-6, for pixels in [0, 1]."
            raise InputError("a variance per row and dimension without a floor, which has no limit", "a floor", remedy)
        self.floor, self.diagonal, self.per_sample = float(floor), diagonal, per_sample
        self.register_buffer("_gamma", torch.tensor(1.0))

    def begin_step(self, share: float) -> None:
        """Hold γ down for the first part of a training."""
        self._ceiling = self.start if share < _HELD else None

    def forget_start(self) -> None:
        """Hold γ down no more."""
        self.start = None

    @property
    def gamma(self) -> Tensor:
        """The last batch's γ, or the calibrated one; its mean over rows where it is per sample."""
        return self._gamma

    def forward(self, squared_error: Tensor, raw: Tensor | None = None) -> Tensor:
        """Return γ without gradient: its size is 1 along the axes that are averaged."""
        if not self.training and not self.per_sample:
            return _spread(self._gamma, squared_error)
        gamma = squared_error.detach()
        if self.per_sample:
            gamma = gamma if self.diagonal else gamma.mean(tuple(range(1, gamma.ndim)), keepdim=True)
            gamma = gamma + self.floor
            if self._ceiling is not None:
                gamma = gamma.clamp(max=self._ceiling)
            if self.training:
                self._keep(gamma.mean(0) if self.diagonal else gamma.mean())
            return gamma
        if self.diagonal:
            gamma = mean_over_processes(gamma.mean(0)) + self.floor
        else:
            gamma = mean_over_processes(gamma.mean()).clamp(min=self.floor)
        if self._ceiling is not None:
            gamma = gamma.clamp(max=self._ceiling)
        self._keep(gamma)
        return _spread(gamma, squared_error)

    def calibrate(self, mean_squared_error: Tensor) -> None:
        """Set γ to the mean over the training set, and over all dimensions unless it is diagonal."""
        mean = mean_squared_error.double()
        if self.diagonal:
            self._keep((mean + self.floor).to(self._gamma.dtype))
        else:
            self._keep(mean.mean().clamp(min=self.floor).to(self._gamma.dtype))

    def _keep(self, gamma: Tensor) -> None:
        if self._gamma.shape == gamma.shape:
            self._gamma.copy_(gamma)
        else:  # the first time that the shape of the rows is seen
            self._gamma = gamma.to(self._gamma.dtype, copy=True)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        saved = state_dict.get(prefix + "_gamma")
        if self.diagonal and saved is not None and saved.shape != self._gamma.shape:
            self._gamma = torch.empty_like(saved, device=self._gamma.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Show the shape in ``repr``."""
        return f"diagonal={self.diagonal}, per_sample={self.per_sample}"


def _spread(gamma: Tensor, squared_error: Tensor) -> Tensor:
    """Give γ the dimensions of the squared errors: a scalar ones, a diagonal one a first."""
    gamma = gamma.to(squared_error.dtype)
    return gamma[None] if gamma.ndim else gamma.view((1,) * squared_error.ndim)


def _log_std(initial: float, floor: float) -> float:
    if not _checked("initial", initial) > floor:
        raise InputError(f"initial={initial} and floor={floor}", "a start above the floor")
    return 0.5 * math.log(initial - floor)
