"""What a decoder is trained against where there is no encoder: the axis that makes a GAN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from vaelab.errors import InputError
from vaelab.spec import Value
from vaelab.specs.networks import MLP, InfoGAN, Network, Shapes

if TYPE_CHECKING:
    from torch import nn

    from vaelab import model

_SLOPE = 0.2  # of the rectifiers in generators of images
_CRITIC_STEPS = 15_625  # of Lucic et al. on MNIST: 20 epochs of 50,000 rows, 64 per step


class CriticLoss(Value):
    """Losses of critic and generator; a row of `vaelab.model.adversaries.PAIRS`."""

    axis: ClassVar[str] = "loss"


class Minimax(CriticLoss):
    """Log loss of the critic, which the generator raises."""

    kind: ClassVar[str] = "minimax"


class NonSaturating(CriticLoss):
    """Log loss of the critic; the generator raises the log of what it gives to generated rows."""

    kind: ClassVar[str] = "non_saturating"


class LeastSquares(CriticLoss):
    """Squared differences from 1 and 0."""

    kind: ClassVar[str] = "least_squares"


class Wasserstein(CriticLoss):
    """The difference of what the critic gives to real and generated rows."""

    kind: ClassVar[str] = "wasserstein"


class Smooth(Value):
    """What keeps a critic smooth."""

    axis: ClassVar[str] = "smooth"

    def build(self) -> model.adversaries.Smoothness:
        """Build it."""
        raise NotImplementedError


class Free(Smooth):
    """Nothing."""

    kind: ClassVar[str] = "free"

    def build(self) -> model.adversaries.Smoothness:
        """Build it."""
        from vaelab.model.adversaries import Smoothness

        return Smoothness()


class Clip(Smooth):
    """Weights within limits (WGAN)."""

    kind: ClassVar[str] = "clip"
    limit: float = Field(0.01, gt=0, description="of every weight")

    def build(self) -> model.adversaries.Smoothness:
        """Build it."""
        from vaelab.model import adversaries

        return adversaries.Clip(self.limit)


class Between(Smooth):
    """A slope of 1 between real and generated rows (WGAN-GP)."""

    kind: ClassVar[str] = "between"
    weight: float = Field(10.0, gt=0, description="of the squared difference from 1")

    def build(self) -> model.adversaries.Smoothness:
        """Build it."""
        from vaelab.model import adversaries

        return adversaries.Between(self.weight)


class Around(Smooth):
    """A slope of 1 around real rows (DRAGAN)."""

    kind: ClassVar[str] = "around"
    weight: float = Field(10.0, gt=0, description="of the squared difference from 1")

    def build(self) -> model.adversaries.Smoothness:
        """Build it."""
        from vaelab.model import adversaries

        return adversaries.Around(self.weight)


class Adversary(Value):
    """A network that tells generated rows from real ones.

    Attributes
    ----------
    accumulates
        Whether a step on the parts of a batch, one by one, is that on the whole.
    """

    axis: ClassVar[str] = "adversary"
    accumulates: ClassVar[bool] = True
    steps: int = Field(1, ge=1, description="of the adversary for one of the generator, which share a batch's rows")

    def length(self, rows: int, batch_size: int) -> int:
        """Return the epochs that have at least as many steps of the adversary as Lucic et al. take on MNIST."""
        batches = rows // max(1, min(batch_size, rows))  # whole ones, as `vaelab.training` takes them
        return math.ceil(_CRITIC_STEPS / max(1, batches * self.steps))

    def generator(self, network: Network, shapes: Shapes) -> nn.Module:
        """Build the generator, a decoder of the network's family.

        Raises
        ------
        InputError
            The family has no adversary.
        """
        from vaelab import nets

        if isinstance(network, InfoGAN):
            options = network.options(shapes)
            return nets.InfoGANDecoder(shapes.latent_dim, shapes.decoder_shape, slope=_SLOPE, **options)
        return _perceptrons(network).build(shapes)[1]

    def build(self, network: Network, event_shape: tuple[int, ...]) -> tuple[nn.Module, model.adversaries.LossPair]:
        """Build the adversary, for rows of this shape, and its losses and the generator's."""
        raise NotImplementedError

    def smoothness(self) -> model.adversaries.Smoothness:
        """Build what keeps it smooth."""
        return Free().build()


class Critic(Adversary):
    """A critic, with a pair of losses."""

    kind: ClassVar[str] = "critic"
    loss: CriticLoss = Field(NonSaturating(), description="of critic and generator")
    smooth: Smooth = Field(Free(), description="what keeps it smooth: free, clip, between, around")
    norm: bool = Field(True, description="batch norm in the critic of images")

    def build(self, network: Network, event_shape: tuple[int, ...]) -> tuple[nn.Module, model.adversaries.LossPair]:
        """Build both."""
        from vaelab import nets
        from vaelab.model.adversaries import Fixed

        losses = Fixed(self.loss.kind)
        if isinstance(network, InfoGAN):
            return nets.InfoGANEncoder(event_shape, 1, spectral=False, norm=self.norm), losses
        own = _perceptrons(network)
        return nets.MLPEncoder(event_shape, 1, hidden=own.hidden, activation=own.activation), losses

    def smoothness(self) -> model.adversaries.Smoothness:
        """Build it."""
        return self.smooth.build()


class Autoencoder(Adversary):
    """An autoencoder, whose error is high for generated rows (BEGAN)."""

    kind: ClassVar[str] = "autoencoder"
    accumulates: ClassVar[bool] = False  # k would move with every part
    gamma: float = Field(0.75, ge=0, description="error of generated rows that is aimed at, relative to that of real")
    rate: float = Field(1e-3, ge=0, description="at which the two are balanced")
    code: int = Field(64, ge=1, description="numbers that it codes a row in")

    def build(self, network: Network, event_shape: tuple[int, ...]) -> tuple[nn.Module, model.adversaries.LossPair]:
        """Build both."""
        from vaelab import nets
        from vaelab.model.adversaries import Equilibrium, RebuildingError

        if isinstance(network, InfoGAN):
            inner: nn.Module = nets.InfoGANAutoencoder(event_shape, self.code)
        else:
            from torch.nn import Sequential

            shapes = Shapes(event_shape, self.code, self.code, event_shape)
            inner = Sequential(*_perceptrons(network).build(shapes))
        losses = Equilibrium(self.gamma, self.rate)
        return RebuildingError(inner, bounded=len(event_shape) == 3), losses


def _perceptrons(network: Network) -> MLP:
    if isinstance(network, MLP):
        return network
    raise InputError(f"network={network.kind!r} against an adversary", "'infogan' or 'mlp'", "Leave network out.")
