"""Run a table's cells, those of equal shape together; finished ones are read from disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vaelab import storage
from vaelab.diagnostics.dimension import count_dimensions, variance_ratios_of
from vaelab.experiments.table import Cell, Job, Scale, Table
from vaelab.runs import versions
from vaelab.training import evaluate, fit_together
from vaelab.types import rows_at_once


@dataclass(frozen=True)
class Result:
    """What one training of a cell measured.

    Attributes
    ----------
    table, scale, cell, seed
        Which.
    measured
        Measure → number, in the paper's convention: ``nelbo`` and ``kl`` doubled; ``active`` by the threshold 0.05,
        ``by_gap`` by the widest gap.
    seconds
        Its share of the training that it was part of.
    settings, versions
        What it was made with.
    """

    table: str
    scale: str
    cell: str
    seed: int
    measured: dict[str, float]
    seconds: float
    settings: dict[str, Any]
    versions: dict[str, str]


def run(table: Table, scale: str, folder: Path, *, note: Callable[[str], None] = lambda text: None) -> list[Result]:
    """Run what is not on disk yet.

    Parameters
    ----------
    table
        What to run.
    scale
        Its budget: ``"smoke"``, ``"small"`` or ``"paper"``.
    folder
        Results go to ``<table>-<scale>.jsonl`` there, after each group of cells.
    note
        Told what is being done.

    Returns
    -------
    list of Result
        In the table's order; several seeds of a cell one after the other.
    """
    budget = table.scale(scale)
    path = folder / f"{table.name.replace('/', '-')}-{scale}.jsonl"
    settings = _settings(budget)
    found = {(r.cell, r.seed): r for r in read(path) if r.settings == settings}
    jobs: dict[str, list[tuple[Cell, int, Job]]] = {}
    for cell in table.cells:
        for seed in range(budget.seeds):
            if (cell.name, seed) not in found:
                job = table.build(cell, budget, seed)
                jobs.setdefault(_shape(job), []).append((cell, seed, job))
    for group in jobs.values():
        note(f"training {len(group)} cells together: {'; '.join(cell.name for cell, _, _ in group)}")
        start = time.monotonic()
        fit_together([job.model for _, _, job in group], [job.batches for _, _, job in group], budget.fit)
        seconds = (time.monotonic() - start) / len(group)
        for cell, seed, job in group:
            found[cell.name, seed] = Result(
                table.name, scale, cell.name, seed, measure(job), seconds, settings, versions()
            )
        lines = [json.dumps(asdict(result), ensure_ascii=False) for result in found.values()]
        storage.write_text(path, "\n".join(lines) + "\n")
    return [found[cell.name, seed] for cell in table.cells for seed in range(budget.seeds)]


def read(path: Path) -> list[Result]:
    """Read results; none where there is no file."""
    if not path.is_file():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def measure(job: Job) -> dict[str, float]:
    """Measure a trained model on its own data, in the convention of the paper."""
    model, batches = job.model.cpu(), job.batches  # trained on whichever device there was
    terms = evaluate(model, batches)
    ratios = variance_ratios_of(model, batches)
    dimension = count_dimensions(ratios, resamples=1)
    classes: dict[str, float] = {}
    if job.labels is not None:
        for i, name in enumerate(job.classes):
            own = count_dimensions(ratios[job.labels == i], resamples=1)
            classes |= {f"active {name}": own.count, f"by_gap {name}": own.by_gap}
    error = 0.0
    size = rows_at_once(batches.event_shape)
    for start in range(0, len(batches), size):
        x, c = batches.take(torch.arange(start, min(start + size, len(batches))))
        error += float((model.reconstruct(x, c) - x).square().sum(dtype=torch.float64))
    return {
        "active": dimension.count,
        "by_gap": dimension.by_gap,
        "recon": error / len(batches),
        "kl": 2 * terms["kl"],
        "gamma": terms["gamma"],
        "nelbo": 2 * terms["loss"],
        **classes,
    }


def _shape(job: Job) -> str:
    """Jobs of one shape can be trained together."""
    sizes = [(name, tuple(value.shape)) for name, value in job.model.state_dict().items()]
    return repr((sizes, len(job.batches), job.batches.event_shape))


def _settings(scale: Scale) -> dict[str, Any]:
    """Return what a result depends on, as it comes back from JSON."""
    values = {"rows": scale.rows, "hidden": scale.hidden, "fit": scale.fit.model_dump(mode="json")}
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def render(table: Table, results: Sequence[Result]) -> str:
    """Lay measured numbers beside published ones as Markdown, with marks where a check was passed or not."""
    measures = list(dict.fromkeys(name for cell in table.cells for name in cell.published))
    head = ["cell", *measures, "by gap", *(f"{check.measure} {check.rule}" for check in table.checks)]
    lines = [f"**{table.title}** ({table.source}); measured / published", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    cells = {cell.name: cell for cell in table.cells}
    for result in results:
        published, measured = cells[result.cell].published, result.measured
        pairs = [f"{measured[name]:.3g} / {published[name]:.3g}" if name in published else "" for name in measures]
        marks = []
        for check in table.checks:
            known = check.measure in published
            right = known and check.passed(measured[check.measure], published[check.measure])
            marks.append(("✓" if right else "✗") if known else "")
        lines.append("| " + " | ".join([result.cell, *pairs, f"{measured['by_gap']:g}", *marks]) + " |")
    return "\n".join(lines) + "\n"
