"""The one GAN: a generator, a critic, a pair of losses and what keeps the critic smooth meet here.

    x = G(z),  z ~ p(z)        the decoder and the prior of a VAE without an encoder
    critic:     lowers `LossPair.critic` + penalty, `steps` times on its share of a batch's rows
    generator:  lowers `LossPair.generator` then, on draws of its own

Seven of them are the settings ``gan/…`` of `vaelab.presets`, after Lucic et al. 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model import VAE, draw
from vaelab.model.adversaries import LossPair, Smoothness
from vaelab.model.contexts import evaluating, own_state, still
from vaelab.specs import Settings
from vaelab.training import forked
from vaelab.types import Batches, Objective, Step, Trainable

Judge = Callable[[VAE], float]
"""How far what a generator draws is from rows that it was not trained on; the weights with the least are kept."""


@final
class GAN(Trainable):
    """A generator and its critic, trained in turn.

    Parameters
    ----------
    generator
        Prior and decoder; the encoder is not used.
    critic
        (B, *event) → (B, 1) or (B,).
    losses, smoothness
        See `vaelab.model.adversaries`.
    event_shape
        Of a row.
    steps
        Of the critic for one of the generator. A batch is divided among them.
    judge
        Of the generator, in the place of an objective on held-out rows; None for a training without any.
    """

    distance: Tensor

    def __init__(
        self,
        generator: VAE,
        critic: nn.Module,
        losses: LossPair,
        smoothness: Smoothness,
        *,
        event_shape: tuple[int, ...],
        steps: int = 1,
        judge: Judge | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.critic, self.losses, self.smoothness = generator, critic, losses, smoothness
        self.steps, self.judge = steps, judge
        self._numbers = math.prod(event_shape)
        self.register_buffer("distance", torch.zeros((), dtype=torch.float64))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """A draw of z for the critic, one for the generator, and what the penalty takes."""
        return (2 * self.generator.latent_dim + self.smoothness.noise_count(self._numbers),)

    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Return the generator's loss on as many draws as the critic gets per step; else the judge's last distance.

        Parameters
        ----------
        x, c
            (B, *event) rows, of which only the number matters here; no conditions.
        noise
            (B, *noise_shape) standard normals.
        """
        if not self.training:
            return Objective(self.distance.to(x.dtype).expand(len(x)), {}, {})
        if noise is None:
            noise = torch.randn(len(x), *self.noise_shape, dtype=x.dtype, device=x.device)
        size = self.generator.latent_dim
        self.smoothness.hold(self.critic)
        fake = self._generated(noise[: len(x) // self.steps, size : 2 * size])
        return Objective(self.losses.generator(self._judged(fake)), {}, self.losses.readings())

    def steps_before(self) -> list[Step]:
        """Those of the critic."""
        weights = list(self.critic.parameters())
        return [Step("critic", weights, partial(self.critic_loss, i)) for i in range(self.steps)]

    def critic_loss(self, i: int, x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        """(B / steps,) loss of the critic on the i-th share of a batch, and of as many draws."""
        rows, size = len(x) // self.steps, self.generator.latent_dim
        own = slice(i * rows, (i + 1) * rows)
        self.smoothness.hold(self.critic)
        with torch.no_grad(), still(self.generator):
            fake = self._generated(noise[own, :size])
        loss = self.losses.critic(self._judged(x[own]), self._judged(fake))
        penalty: Tensor = self.smoothness(self._judged, x[own], fake, noise[own, 2 * size :])
        return loss + penalty

    def _generated(self, noise: Tensor) -> Tensor:
        return self.generator.decode(draw(self.generator.prior(), noise))

    def _judged(self, x: Tensor) -> Tensor:
        found: Tensor = self.critic(x)
        return found.reshape(len(x))

    @torch.no_grad()
    def settle(self, held_out: Batches, *, generator: torch.Generator) -> None:
        """Ask the judge, whose distance is then the objective of held-out rows.

        Raises
        ------
        InputError
            There is none.
        """
        if self.judge is None:
            raise InputError("held-out rows for a GAN without a judge", "a judge, or no held-out rows")
        with evaluating(self):
            self.distance.fill_(self.judge(self.generator))


def build_gan(settings: Settings, generator: VAE, event_shape: tuple[int, ...], judge: Judge | None = None) -> GAN:
    """Build what settings with an adversary ask for around a generator that they have built.

    Raises
    ------
    InputError
        They have none, or it does not suit the network.
    """
    adversary = settings.adversary
    if adversary is None:
        raise InputError("a GAN without an adversary", "settings that name one")
    with own_state(), forked("cpu", settings.seed, "adversary"):
        critic, losses = adversary.build(settings.network, event_shape)
        return GAN(
            generator,
            critic,
            losses,
            adversary.smoothness(),
            event_shape=event_shape,
            steps=adversary.steps,
            judge=judge,
        )
