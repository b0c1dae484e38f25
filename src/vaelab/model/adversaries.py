"""What a generator and a critic of a GAN are trained by: pairs of losses, and what keeps a critic smooth.

A critic maps rows to one number each; G(z) are generated rows. Losses are as the program of Lucic et al. codes them.

References
----------
Lucic et al. 2018, Table 1.
Goodfellow et al. 2014 (minimax, non-saturating).
Mao et al. 2017 (squares).
Arjovsky et al. 2017 (Wasserstein, clipped weights).
Gulrajani et al. 2017 (slopes between real and generated rows).
Kodali et al. 2017 (slopes around real rows).
Berthelot et al. 2017 (BEGAN).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vaelab.errors import InputError

_LEAST_SQUARED_SLOPE: Final = 1e-4  # below the root of a penalty, whose derivative would be infinite at 0

Critic = Callable[[Tensor], Tensor]
"""(B, *event) → (B,)."""


class LossPair(nn.Module, ABC):
    """The losses of a critic and a generator, of the critic's (B,) numbers for real and generated rows."""

    @abstractmethod
    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B,) what the critic lowers."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """(B,) what the generator lowers."""

    def readings(self) -> dict[str, Tensor]:
        """Return numbers worth logging; none by default."""
        return {}


@final
class Fixed(LossPair):
    """A pair that stays as it is: a row of `PAIRS`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in PAIRS:
            raise InputError(f"losses {name!r}", f"one of {', '.join(PAIRS)}")
        self.name = name
        self._critic, self._generator = PAIRS[name]

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B,)."""
        return self._critic(real, fake)

    def generator(self, fake: Tensor) -> Tensor:
        """(B,)."""
        return self._generator(fake)


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """−log D(x) − log(1 − D(G(z))), D the sigmoid of the critic's number."""
    return F.softplus(-real) + F.softplus(fake)


def _half_square(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (real.sigmoid() - 1).square() + 0.5 * fake.sigmoid().square()


PAIRS: Final[Mapping[str, tuple[Callable[[Tensor, Tensor], Tensor], Critic]]] = {
    "minimax": (_cross_entropy, lambda fake: -F.softplus(fake)),  # log(1 − D)
    "non_saturating": (_cross_entropy, lambda fake: F.softplus(-fake)),  # −log D
    "least_squares": (_half_square, lambda fake: 0.5 * (fake.sigmoid() - 1).square()),
    "wasserstein": (lambda real, fake: fake - real, lambda fake: -fake),
}
"""Name → losses of critic and generator."""


@final
class Equilibrium(LossPair):
    """E(x) − k E(G(z)) against E(G(z)), where E is an autoencoder's error and k holds the two in balance (BEGAN).

    k ← k + rate · (γ E(x) − E(G(z))) after every loss of the critic in training, of that batch; it is not clipped.

    Parameters
    ----------
    gamma
        γ, the share of the error of real rows that generated ones should have.
    rate
        Of k, which begins at 0.
    """

    k: Tensor

    def __init__(self, gamma: float = 0.75, rate: float = 1e-3) -> None:
        super().__init__()
        self.gamma, self.rate = float(gamma), float(rate)
        self.register_buffer("k", torch.zeros(()))

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B,); moves k."""
        loss = real - self.k.clone() * fake
        if self.training:
            with torch.no_grad():
                self.k += (self.rate * (self.gamma * real.mean() - fake.mean())).to(self.k)
        return loss

    def generator(self, fake: Tensor) -> Tensor:
        """(B,)."""
        return fake

    def readings(self) -> dict[str, Tensor]:
        """K."""
        return {"k": self.k.clone()}


class Smoothness(nn.Module):
    """What keeps a critic smooth; this one does nothing."""

    def noise_count(self, numbers: int) -> int:
        """Return how many standard normals a row of so many numbers takes."""
        return 0

    def hold(self, critic: nn.Module) -> None:
        """Restrict the critic's weights, before each use."""

    def forward(self, critic: Critic, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        """(B,) penalty of each row, already weighted.

        Parameters
        ----------
        critic
            Whose slopes are punished.
        real, fake
            (B, *event).
        noise
            (B, noise_count) standard normals.
        """
        return real.new_zeros(len(real))


@final
class Clip(Smoothness):
    """Weights in [−limit, limit], those of batch norm too (WGAN)."""

    def __init__(self, limit: float = 0.01) -> None:
        super().__init__()
        self.limit = float(limit)

    @torch.no_grad()
    def hold(self, critic: nn.Module) -> None:
        """Clip."""
        for weight in critic.parameters():
            weight.clamp_(-self.limit, self.limit)


@final
class Between(Smoothness):
    """weight · (‖∇D(x̂)‖ − 1)² at a uniform point x̂ between a real and a generated row (WGAN-GP).

    The norm is √(10⁻⁴ + ‖∇‖²), as coded.
    """

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__()
        self.weight = float(weight)

    def noise_count(self, numbers: int) -> int:
        """One: where between the two."""
        return 1

    def forward(self, critic: Critic, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        """(B,)."""
        share = _uniform(noise).view(-1, *[1] * (real.ndim - 1))
        return self.weight * _off_one(critic, real + share * (fake - real))


@final
class Around(Smoothness):
    """weight · (‖∇σ(D)(x̂)‖ − 1)² at x̂ = x + αu/2 · (the batch's deviation), u ∈ [0, 1)^d and α ∈ [0, 1) (DRAGAN)."""

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__()
        self.weight = float(weight)

    def noise_count(self, numbers: int) -> int:
        """α, and u."""
        return 1 + numbers

    def forward(self, critic: Critic, real: Tensor, fake: Tensor, noise: Tensor) -> Tensor:
        """(B,)."""
        share, moved = _uniform(noise).split([1, noise.shape[1] - 1], dim=1)
        x = real + 0.5 * real.std(correction=0) * (share * moved).view_as(real)
        return self.weight * _off_one(lambda x: critic(x).sigmoid(), x)


def _uniform(noise: Tensor) -> Tensor:
    """Turn standard normals into uniform numbers in [0, 1]."""
    uniform: Tensor = torch.special.ndtr(noise)
    return uniform


def _off_one(critic: Critic, x: Tensor) -> Tensor:
    """(B,) squared difference of the slope at x from 1."""
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=training)
    slope: Tensor = (_LEAST_SQUARED_SLOPE + gradient.flatten(1).square().sum(1)).sqrt()
    return (slope - 1).square()


@final
class RebuildingError(nn.Module):
    """(B, *event) → (B,) mean absolute error of an autoencoder, which is BEGAN's critic.

    Parameters
    ----------
    autoencoder
        (B, *event) → as many raw numbers.
    bounded
        Whether rows are in [0, 1]: a sigmoid ends the autoencoder.
    """

    def __init__(self, autoencoder: nn.Module, *, bounded: bool) -> None:
        super().__init__()
        self.autoencoder, self.bounded = autoencoder, bounded

    def forward(self, x: Tensor) -> Tensor:
        """(B,)."""
        raw = self.autoencoder(x)
        error: Tensor = ((raw.sigmoid() if self.bounded else raw) - x).abs()
        return error.flatten(1).mean(1)


@final
class NoEncoder(nn.Module):
    """Stands where a VAE has its encoder, in a model that only generates.

    Raises
    ------
    InputError
        At every call.
    """

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Refuse."""
        raise no_encoder()


def no_encoder(what: str = "codes, reconstructions or densities of rows") -> InputError:
    """Return the error of asking a GAN for what needs an encoder."""
    remedy = "Use `sample` and `evaluate`; train a VAE for anything else."
    return InputError(f"a GAN, which has no encoder, for {what}", "a model that encodes rows", remedy)
