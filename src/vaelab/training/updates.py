"""Backward passes and steps of the optimiser: over all rows of a step at once, or over its parts one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from vaelab.training.ledger import mean_reading
from vaelab.training.settings import Compute, FitSettings
from vaelab.types import Objective, Trainable

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Part(NamedTuple):
    """Rows of a step that pass the model together, and their share of the step's rows."""

    x: Tensor
    c: Tensor | None
    noise: Tensor
    share: float


def parts_of(x: Tensor, c: Tensor | None, noise: Tensor, count: int) -> list[Part]:
    """Cut the rows of a step into so many parts, or as many as there are rows, of sizes that differ by one at most."""
    count = min(count, len(x))
    if count == 1:
        return [Part(x, c, noise, 1.0)]
    cs = [None] * count if c is None else c.tensor_split(count)
    cut = zip(x.tensor_split(count), cs, noise.tensor_split(count), strict=True)
    return [Part(one, condition, own, len(one) / len(x)) for one, condition, own in cut]


def joined(objectives: Sequence[Objective], parts: Sequence[Part]) -> Objective:
    """Return the objective of a step's rows from those of its parts, without gradients."""
    if len(objectives) == 1:
        return objectives[0]
    first, shares = objectives[0], [part.share for part in parts]

    def mean(name: str) -> Tensor:
        readings = [mean_reading(each.readings[name]) for each in objectives]
        return torch.stack([share * reading for share, reading in zip(shares, readings, strict=True)]).sum(0)

    return Objective(
        torch.cat([each.distortion.detach() for each in objectives]),
        {name: torch.cat([each.penalties[name].detach() for each in objectives]) for name in first.penalties},
        {name: mean(name) for name in first.readings},
    )


class Updates:
    """The forward pass, and the steps of the optimiser, through Fabric where it has work to do.

    Parameters
    ----------
    fabric, compute
        On what.
    model, adam
        What moves, and what moves it; one optimiser serves all, since it leaves alone what has no gradient.
    settings
        `clip` and `accumulate` are used.
    """

    def __init__(
        self,
        fabric: Fabric,
        compute: Compute,
        model: Trainable,
        adam: torch.optim.Optimizer,
        settings: FitSettings,
    ) -> None:
        self._fabric, self._clip, self._adam = fabric, settings.clip, adam
        whole = cast("torch.nn.Module", torch.compile(model) if compute.compile else model)
        # one process in full precision: Fabric's wrappers would only cost, 8 % of a small model's step
        self._plain = fabric.world_size == 1 and compute.precision == "32-true"
        if self._plain:
            self._forward = whole
        else:
            self._forward, self._optimizer = fabric.setup(whole, adam)

    def main(self, parts: Sequence[Part], moved: Sequence[Tensor] | None) -> Objective:
        """Take the main step of a training; return the objective of its rows."""
        found: list[Objective] = []

        def passes() -> Iterator[Tensor]:
            for i, part in enumerate(parts):
                with self._unsynced(last=i + 1 == len(parts)):  # until the caller has gone backward
                    objective: Objective = self._forward(part.x, part.c, noise=part.noise)
                    found.append(objective)
                    yield objective.total if len(parts) == 1 else part.share * objective.total

        self.descend(passes(), moved)
        return joined(found, parts)

    def descend(self, losses: Iterable[Tensor], moved: Sequence[Tensor] | None = None) -> None:
        """Step along the gradient of a sum, one of whose terms is held at a time; `moved` is what to move, if not all.

        A norm that is not finite is left to be found in the terms of the objective.
        """
        for i, loss in enumerate(losses):
            if self._plain:
                if not i:
                    self._adam.zero_grad()  # just before they are needed again: freed earlier, their pages go back
                loss.backward(inputs=moved)
            else:
                if not i:
                    self._optimizer.zero_grad()
                self._fabric.backward(loss, inputs=moved)
        if self._plain:
            if self._clip is not None:
                torch.nn.utils.clip_grad_norm_(self._forward.parameters(), self._clip)
            self._adam.step()
            return
        if self._clip is not None:
            self._fabric.clip_gradients(self._forward, self._optimizer, max_norm=self._clip, error_if_nonfinite=False)
        self._optimizer.step()

    def _unsynced(self, *, last: bool) -> AbstractContextManager[None]:
        """Let several processes exchange gradients once a step only, with the last part's."""
        if last or self._fabric.world_size == 1:
            return nullcontext()
        return self._fabric.no_backward_sync(self._forward)  # type: ignore[arg-type]
