"""Run a table's cells, those of equal shape together, side by side in processes; finished ones are read from disk."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vaelab import storage
from vaelab.errors import InputError, VaelabError
from vaelab.runs import versions
from vaelab.training import FitSettings
from vaelab_papers.stacked import fit_together
from vaelab_papers.table import Cell, Effort, Scale, Table

_MOST_TOGETHER = 6  # beyond, a step's arithmetic outweighs its calls, and a group would keep other processes waiting


class Planned(NamedTuple):
    """One training: a cell and a seed."""

    cell: Cell
    seed: int


@dataclass(frozen=True)
class Result:
    """What one training of a cell measured.

    Attributes
    ----------
    table, scale, cell, seed
        Which.
    measured
        Measure → number; see `measure`.
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


def run(
    table: Table, scale: str, folder: Path, *, processes: int = 1, note: Callable[[str], None] = lambda text: None
) -> list[Result]:
    """Run what is not on disk yet.

    How cells are grouped does not depend on `processes`, and each group is trained on one thread, so the results do
    not depend on it either.

    Parameters
    ----------
    table
        What to run.
    scale
        Its budget: ``"smoke"``, ``"small"`` or ``"paper"``.
    folder
        Results go to ``<table>-<scale>.jsonl`` there, after each group of cells; for a table that shows the results of
        another one, to that one's.
    processes
        Groups trained at the same time; 1 trains them in this process.
    note
        Told what is being done.

    Returns
    -------
    list of Result
        In the table's order; several seeds of a cell one after the other.

    Raises
    ------
    InputError
        There is no such scale, or no process.
    VaelabError
        Groups failed; raised when the others have finished and been written.
    """
    if processes < 1:
        raise InputError(f"processes={processes}", "at least 1")
    budget = table.scale(scale)
    path = folder / f"{table.results.replace('/', '-')}-{scale}.jsonl"
    settings = _settings(budget)
    found = {(r.cell, r.seed): r for r in read(path) if _completed(r.settings) == settings}
    wanted = [Planned(cell, seed) for cell in table.cells for seed in range(budget.seeds)]
    groups = _grouped(table, [one for one in wanted if (one.cell.name, one.seed) not in found])
    failed: list[tuple[str, BaseException]] = []
    for done, (group, outcome) in enumerate(_outcomes(table, scale, groups, min(processes, len(groups))), 1):
        names = "; ".join(dict.fromkeys(cell.name for cell, _ in group))
        if isinstance(outcome, BaseException):
            failed.append((names, outcome))
            note(f"{table.name}, group {done} of {len(groups)} failed: {names}")
            continue
        found |= {(result.cell, result.seed): result for result in outcome}
        storage.write_text(path, "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in found.values()))
        seconds = sum(result.seconds for result in outcome)
        note(f"{table.name}, group {done} of {len(groups)}, {len(group)} cells in {seconds:.0f} s: {names}")
    if failed:
        reasons = " ".join(f"[{names}] {type(error).__name__}: {error}" for names, error in failed)
        raise VaelabError(f"{len(failed)} of {len(groups)} groups of {table.name} failed: {reasons}") from failed[0][1]
    return [found[one.cell.name, one.seed] for one in wanted]


def read(path: Path) -> list[Result]:
    """Read results; none where there is no file."""
    if not path.is_file():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def train_group(table: Table, scale: str, group: Sequence[Planned]) -> list[Result]:
    """Train and measure models of equal shape, on one thread.

    Parameters
    ----------
    table, scale
        As for `run`.
    group
        What to train.
    """
    budget = table.scale(scale)
    with _one_thread():
        start = time.monotonic()
        jobs = [table.build(cell, budget, seed) for cell, seed in group]
        fit_together([job.model for job in jobs], [job.batches for job in jobs], budget.fit)
        measured = [table.measure(job) for job in jobs]
    seconds = (time.monotonic() - start) / len(group)
    made_with = (seconds, _settings(budget), versions())
    return [
        Result(table.results, scale, cell.name, seed, numbers, *made_with)
        for (cell, seed), numbers in zip(group, measured, strict=True)
    ]


def _grouped(table: Table, trainings: Sequence[Planned]) -> list[list[Planned]]:
    """Trainings that can share a step, in groups as even as can be; the largest first, so that none is left over."""
    if table.together is None:
        return [[one] for one in trainings]
    alike: dict[str, list[Planned]] = {}
    for one in trainings:
        shape = {name: value for name, value in one.cell.axes.items() if name not in table.together}
        alike.setdefault(repr(shape), []).append(one)
    groups = []
    for members in alike.values():
        parts = -(-len(members) // _MOST_TOGETHER)
        groups += [members[part::parts] for part in range(parts)]
    return sorted(groups, key=len, reverse=True)


def _outcomes(
    table: Table, scale: str, groups: Sequence[list[Planned]], processes: int
) -> Iterator[tuple[list[Planned], list[Result] | BaseException]]:
    """Yield each group with its results, or with what went wrong, as they finish."""
    if processes <= 1:
        for group in groups:
            try:
                yield group, train_group(table, scale, group)
            except Exception as error:  # raised by `run` when the other groups have finished
                yield group, error
        return
    # not forked: a copy of a process that runs threads may hang
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: dict[Future[list[Result]], list[Planned]] = {
            pool.submit(train_group, table, scale, group): group for group in groups
        }
        for future in as_completed(waiting):
            wrong = future.exception()
            yield waiting[future], future.result() if wrong is None else wrong


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small models gain nothing from more, and sums do not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settings(scale: Scale) -> dict[str, Any]:
    """Return what a result depends on, as it comes back from JSON."""
    values: dict[str, Any] = {
        "rows": scale.rows,
        "hidden": scale.hidden,
        "gamma": scale.gamma,
        "stand_in": scale.stand_in,
    }
    values |= {} if scale.floor is None else {"floor": scale.floor}
    values |= {} if scale.effort is None else {"effort": _effort(scale.effort)}
    return json.loads(json.dumps(values | {"fit": scale.fit.model_dump(mode="json")}))  # type: ignore[no-any-return]


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in fields of a training that are newer than the result: it had what is now their default."""
    return settings | {"fit": FitSettings().model_dump(mode="json") | settings["fit"]}


def _effort(effort: Effort) -> dict[str, Any]:
    return asdict(effort) | {"second": effort.second.model_dump(mode="json")}
