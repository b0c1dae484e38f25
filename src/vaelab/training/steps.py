"""Which rows and which noise every step of a training gets: functions of its number.

Steps are gathered in chunks, between which terms are read, and a training stops and resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.training.augmentation import Augment
from vaelab.training.settings import FitSettings
from vaelab.training.streams import forked, stream
from vaelab.types import Batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_CHUNK_NUMBERS = 2**21  # floats gathered at once: amortises indexing and random numbers over several small steps
_CHUNK_STEPS = 64
_RECORDS = 200  # at most about so many epochs are evaluated and recorded


@dataclass(frozen=True)
class Plan:
    """The steps of a training: sizes, and which rows each step sees."""

    rows: int
    batch_size: int
    epochs: int
    chunk_steps: int

    @classmethod
    def of(cls, batches: Batches, settings: FitSettings, processes: int) -> Plan:
        """Plan a training; the batch shrinks to the data and to a multiple of the number of processes."""
        rows = len(batches)
        batch_size = min(settings.batch_size, rows) // processes * processes
        if batch_size == 0:
            raise InputError(
                f"{rows} rows and batch_size={settings.batch_size} for {processes} processes",
                "at least one row per process and step",
            )
        numbers = batch_size * max(1, torch.Size(batches.event_shape).numel())
        chunk_steps = max(1, min(_CHUNK_STEPS, _CHUNK_NUMBERS // numbers))
        return cls(rows, batch_size, settings.resolve(rows).length, chunk_steps)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the data; the rows left over differ from epoch to epoch."""
        return self.rows // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def recorded(self, epoch: int) -> bool:
        """Whether epoch 0, 1, … is evaluated and recorded."""
        every = -(-self.epochs // _RECORDS)
        return (epoch + 1) % every == 0 or epoch + 1 == self.epochs


@dataclass(frozen=True)
class Chunk:
    """Consecutive steps of one epoch, gathered together."""

    epoch: int
    first: int  # step within the epoch
    steps: int


def chunks(plan: Plan, done: int) -> Iterator[Chunk]:
    """Yield the chunks that are left after `done` steps; training stops and resumes at their borders only."""
    for epoch in range(done // plan.steps_per_epoch, plan.epochs):
        for first in range(0, plan.steps_per_epoch, plan.chunk_steps):
            steps = min(plan.chunk_steps, plan.steps_per_epoch - first)
            before = epoch * plan.steps_per_epoch + first
            if before >= done:
                yield Chunk(epoch, first, steps)


class Feeder:
    """Rows and noise of every chunk, on the device, this process's share."""

    def __init__(
        self,
        batches: Batches,
        plan: Plan,
        fabric: Fabric,
        noise_shape: tuple[int, ...],
        seed: int,
        augment: Augment | None = None,
    ) -> None:
        self.plan, self.device, self.seed = plan, fabric.device, seed
        self.batches = batches.to(fabric.device)
        self.noise_shape, self.augment, self.rank = noise_shape, augment, fabric.global_rank
        if augment is not None:
            augment.check(tuple(batches.event_shape))
        share = plan.batch_size // fabric.world_size
        self.share = slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
        self._order: tuple[int, Tensor] | None = None

    def _rows(self, chunk: Chunk) -> Tensor:
        if self._order is None or self._order[0] != chunk.epoch:
            generator = stream("cpu", self.seed, "order", chunk.epoch)
            self._order = (chunk.epoch, torch.randperm(self.plan.rows, generator=generator).to(self.device))
        size = self.plan.batch_size
        rows = self._order[1][chunk.first * size : (chunk.first + chunk.steps) * size]
        return rows.view(chunk.steps, size)[:, self.share]

    def _noise(self, chunk: Chunk, name: str, shape: tuple[int, ...]) -> Tensor:
        generator = stream(self.device, self.seed, name, chunk.epoch, chunk.first)
        size = (chunk.steps, self.plan.batch_size, *shape)
        return torch.randn(size, generator=generator, device=self.device)[:, self.share]

    def _augmented(self, chunk: Chunk, xs: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.augment is None:
            return xs
        with forked(self.device, self.seed, "augment", chunk.epoch, chunk.first, self.rank):
            return [self.augment(x) for x in xs]

    def steps(self, chunk: Chunk) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        """Return (x, c, noise) of each step."""
        rows = self._rows(chunk)
        taken = self._noise(chunk, "data", self.batches.noise_shape).reshape(rows.numel(), *self.batches.noise_shape)
        x, c = self.batches.take(rows.reshape(-1), taken)
        xs = self._augmented(chunk, x.view(*rows.shape, *x.shape[1:]).unbind())
        cs = [None] * chunk.steps if c is None else c.view(*rows.shape, *c.shape[1:]).unbind()
        noises = self._noise(chunk, "model", self.noise_shape).to(x.dtype).unbind()
        return zip(xs, cs, noises, strict=True)
