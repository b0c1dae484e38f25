"""How the weight of the KL moves while a model trains; what is trained is scored with the whole weight.

References
----------
Bowman et al. 2016 (rising).
Fu et al. 2019 (cyclical).
Shao et al. 2020 (controlled).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model.variances import mean_over_processes


class KLSchedule(nn.Module, ABC):
    """A factor of the KL's weight."""

    def begin_step(self, share: float) -> None:
        """Hear, before every step, which share of the training's steps is done; nothing by default."""

    @abstractmethod
    def forward(self, kl: Tensor) -> Tensor:
        """Return the factor of a step, whose KL per row is (B,), nats."""


@final
class Rising(KLSchedule):
    """From 0 to 1, along a line, over a first part of the training, or of each of several equal parts.

    Parameters
    ----------
    share
        Of the part.
    cycles
        Parts; 1 rises once.
    """

    factor: Tensor

    def __init__(self, share: float = 0.5, *, cycles: int = 1) -> None:
        super().__init__()
        if not 0 < share <= 1 or cycles < 1:
            raise InputError(f"share={share}, cycles={cycles}", "0 < share ≤ 1 and at least one cycle")
        self.share, self.cycles = float(share), int(cycles)
        # a tensor, so that a compiled step is not compiled anew for every number
        self.register_buffer("factor", torch.ones(()), persistent=False)

    def begin_step(self, share: float) -> None:
        """Take the factor of this step."""
        within = math.fmod(share * self.cycles, 1.0)
        self.factor.fill_(min(within / self.share, 1.0))

    def forward(self, kl: Tensor) -> Tensor:
        """Return the factor, whatever the KL is."""
        return self.factor

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"share={self.share}, cycles={self.cycles}"


@final
class Controlled(KLSchedule):
    """A controller that moves the factor until the KL is a given number (Shao et al. 2020, eq. 7 and algorithm 1).

    With the error e = target − KL of a step, the factor is kp/(1 + exp e) − ki Σ e, within [0, 1]; the sum stops where
    the factor would leave these limits.

    Parameters
    ----------
    target
        KL, nats per row.
    kp, ki
        Of the proportional and the integral part.
    """

    integral: Tensor

    def __init__(self, target: float, *, kp: float = 0.01, ki: float = 1e-4) -> None:
        super().__init__()
        if not target > 0 or not kp >= 0 or not ki > 0:
            raise InputError(f"target={target}, kp={kp}, ki={ki}", "a target and ki above 0, kp from 0")
        self.target, self.kp, self.ki = float(target), float(kp), float(ki)
        self.register_buffer("integral", torch.zeros(()))

    @torch.no_grad()
    def forward(self, kl: Tensor) -> Tensor:
        """Return the factor, and remember the error."""
        error = self.target - mean_over_processes(kl.detach().mean())
        # exp overflows for codes far below the target, whose proportional part is 0
        proportional = self.kp * torch.sigmoid(-error)
        moved = self.integral - self.ki * error
        inside = (proportional + moved >= 0) & (proportional + moved <= 1)
        self.integral.copy_(torch.where(inside, moved, self.integral))
        return (proportional + self.integral).clamp(0, 1)

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"target={self.target}, kp={self.kp}, ki={self.ki}"
