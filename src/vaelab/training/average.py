"""An exponential moving average of the weights that a training passes through.

    a ← dᵏ a + (1 − dᵏ) w   after every k = 8 steps,   d = min(decay, (1 + n) / (10 + n)) at step n

and at the end of every epoch, with the k that are left. A pass over all weights costs as much as a small step.

The average errs less than the last weights, which the noise of the last batches has moved; the smaller d of the first
steps lets it forget the first weights. Polyak & Juditsky 1992; with such a decay, Szegedy et al. 2016 and the models of
diffusion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_EVERY = 8  # k


class Average:
    """The average of a model's parameters; buffers are not averaged.

    Parameters
    ----------
    model
        On the device it is trained on.
    decay
        d, of a step.
    epoch
        Steps of an epoch.
    """

    def __init__(self, model: nn.Module, decay: float, epoch: int) -> None:
        self.decay, self.epoch = decay, epoch
        self._weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: w.clone() for name, w in self._weights.items()}

    @torch.no_grad()
    def step(self, n: int) -> None:
        """Hear that step n, from 1, is done."""
        within = n % self.epoch or self.epoch
        past = within % _EVERY or _EVERY
        if past == _EVERY or within == self.epoch:
            decay = min(self.decay, (1 + n) / (10 + n)) ** past
            torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let the model have the average as its weights, for as long as the context lasts."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the average."""
        for name, average in self._average.items():
            held = self._weights[name].clone()
            self._weights[name].copy_(average)
            average.copy_(held)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average, by the parameters' names."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the average from `state_dict`, of the same names and shapes; an empty one changes nothing."""
        for name, value in state.items():
            self._average[name].copy_(value)
