"""Keeps the terms of the objective without waiting for the device, and checks them when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaelab.errors import NonFiniteObjectiveError
from vaelab.training.hooks import Record
from vaelab.types import Objective, Trainable

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def terms_of(objective: Objective) -> dict[str, Tensor]:
    """Distortion and penalties by name, each (B,), without gradient."""
    terms = {"distortion": objective.distortion, **objective.penalties}
    return {name: term.detach() for name, term in terms.items()}


def mean_reading(reading: Tensor) -> Tensor:
    """Average a reading over its samples; a scalar is its own mean."""
    return reading.mean(0) if reading.ndim else reading


def as_record(model: Trainable, terms: Mapping[str, float], readings: Mapping[str, Tensor]) -> Record:
    """Loss, its terms, and the model's summary of the readings."""
    return {"loss": sum(terms.values()), **terms, **model.summary(readings)}


class Ledger:
    """Sums of terms over an epoch, and the steps not yet read."""

    def __init__(self, fabric: Fabric, model: Trainable, stage: str) -> None:
        self._fabric, self._model, self._stage = fabric, model, stage
        self._pending: list[tuple[int, Objective]] = []
        self._sums: dict[str, Tensor] = {}
        self._readings: dict[str, Tensor] = {}
        self._steps = 0
        self._latest: Record = {}

    def add(self, step: int, objective: Objective) -> None:
        """Keep one step, without waiting for the device."""
        kept = Objective(
            objective.distortion.detach(),
            {name: penalty.detach() for name, penalty in objective.penalties.items()},
            # averaged at once: tensors of a batch's size kept alive among freed ones cost page faults at every step
            {name: mean_reading(value) for name, value in objective.readings.items()},
        )
        self._pending.append((step, kept))

    def flush(self) -> Record:
        """Read the pending steps: check them, add them to the epoch, and return their means.

        Raises
        ------
        NonFiniteObjectiveError
            A term is NaN or infinite, on any process.
        """
        if not self._pending:
            return self._latest
        names = list(terms_of(self._pending[0][1]))
        rows = [torch.stack([terms_of(o)[name] for _, o in self._pending]).mean(1) for name in names]
        table = self._fabric.all_reduce(torch.stack(rows).double(), reduce_op="mean")  # (terms, steps)
        assert isinstance(table, Tensor)
        host = table.cpu()
        if not bool(torch.isfinite(host).all()):
            self._refuse(names, host)
        for name, values in zip(names, host, strict=True):
            self._sums[name] = self._sums.get(name, torch.zeros((), dtype=torch.float64)) + values.sum()
        readings = self._mean_readings()
        for name, value in readings.items():
            total = self._readings.get(name)
            self._readings[name] = value * len(self._pending) + (0 if total is None else total)
        self._steps += len(self._pending)
        self._pending.clear()
        means = {name: float(values.mean()) for name, values in zip(names, host, strict=True)}
        self._latest = as_record(self._model, means, readings)
        return self._latest

    def _mean_readings(self) -> dict[str, Tensor]:
        """Mean over the pending steps and over processes, on the host."""
        means: dict[str, Tensor] = {}
        for name in self._pending[0][1].readings:
            stacked = torch.stack([objective.readings[name] for _, objective in self._pending]).double().mean(0)
            reduced = self._fabric.all_reduce(stacked, reduce_op="mean")
            assert isinstance(reduced, Tensor)
            means[name] = reduced.cpu()
        return means

    def _refuse(self, names: list[str], table: Tensor) -> None:
        column = int((~torch.isfinite(table)).any(0).nonzero()[0, 0])
        bad = [names[i] for i in range(len(names)) if not bool(torch.isfinite(table[i, column]))]
        step = self._pending[column][0]
        # the profiled γ of the bad step is not a number either; the one before says how far training had come
        readings = self._pending[max(column - 1, 0)][1].readings
        noted = "".join(f", {name} {float(value):.3g} before" for name, value in readings.items() if value.ndim == 0)
        raise NonFiniteObjectiveError(
            f"{self._stage}, step {step}: {' and '.join(bad)} is {float(table[names.index(bad[0]), column])}{noted}. "
            "The last good state stays on disk. Lower lr, raise the floor of gamma, or look for outliers in the data."
        )

    def close_epoch(self) -> Record:
        """Return the means over the epoch and start the next one."""
        self.flush()
        terms = {name: float(total) / self._steps for name, total in self._sums.items()}
        readings = {name: total / self._steps for name, total in self._readings.items()}
        record = as_record(self._model, terms, readings)
        self._sums, self._readings, self._steps = {}, {}, 0
        return record
