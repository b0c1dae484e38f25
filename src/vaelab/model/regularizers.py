"""What is added to the distortion: per-sample penalties, each already weighted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, final

from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.errors import InputError
from vaelab.model.distributions import kl


class Draw(NamedTuple):
    """One pass through a VAE: all that a regulariser may look at."""

    x: Tensor
    c: Tensor | None
    q: Distribution
    p: Distribution
    z: Tensor
    parameters: Tensor


class Regularizer(nn.Module, ABC):
    """A penalty on one pass, in nats per sample."""

    name: str

    @abstractmethod
    def forward(self, draw: Draw) -> Tensor:
        """(B,) the weighted penalty."""


@final
class KL(Regularizer):
    """weight · KL[q(z | x) ‖ p(z)], nats; the weight is 1 for a bound on log p(x), else the β of a β-VAE."""

    name = "kl"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not weight >= 0:
            raise InputError(f"KL weight {weight}", "a number ≥ 0", "Use 1 for the negative ELBO.")
        self.weight = float(weight)

    def forward(self, draw: Draw) -> Tensor:
        """(B,) closed form where there is one."""
        value = kl(draw.q, draw.p, draw.z)
        return value if self.weight == 1 else self.weight * value

    def extra_repr(self) -> str:
        """Show the weight in ``repr``."""
        return f"weight={self.weight}"
