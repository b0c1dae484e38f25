"""Many small trainings: cells of a table one after another, together, and together in two processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vaelab.training import FitSettings, fit
from vaelab_papers import TABLES, Cell, Scale, Table, measure, run

CELLS = 10


def table(steps: int) -> Table:
    """Return cells of one shape, d = κ = 20 with 16 units, batches of 1,000 rows, so many steps each."""
    rows, batch = 20_000, 1000
    length = FitSettings(epochs=steps * batch // rows, batch_size=batch, lr=5e-3, schedule="one_cycle")
    cells = tuple(Cell({"κ": 20, "d": 20, "r": r}, {}) for r in range(1, CELLS + 1))
    scale = Scale(rows, 16, length.model_copy(update={"accelerator": "cpu"}))
    return replace(TABLES["zheng/table1"], cells=cells, scales={"small": scale}, checks=())


def apart(cells: Table) -> None:
    """Train and measure one cell after another, each with all threads."""
    scale = cells.scale("small")
    for cell in cells.cells:
        job = cells.build(cell, scale, 0)
        fit(job.model, job.batches, scale.fit)
        measure(job)


def together(cells: Table, processes: int) -> None:
    """Train and measure with the runner, from the start of its processes to the last result on disk."""
    with tempfile.TemporaryDirectory() as folder:
        run(cells, "small", Path(folder), processes=processes)


def seconds_per_cell(steps: int) -> dict[str, float]:
    """Time each way once."""
    cells = table(steps)
    ways: dict[str, Callable[[], None]] = {
        f"one after another, {torch.get_num_threads()} threads": lambda: apart(cells),
        "together": lambda: together(cells, 1),
        "together, 2 processes": lambda: together(cells, 2),
    }
    times = {}
    for name, way in ways.items():
        start = time.perf_counter()
        way()
        times[name] = (time.perf_counter() - start) / CELLS
    return times
