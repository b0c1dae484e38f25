"""Run a table's cells, those of equal shape together, side by side; finished ones are read from disk.

Groups of cells go through joblib, and its backends send them to a cluster: ``joblib.parallel_config("dask")``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import joblib
import torch

from vaelab import storage
from vaelab.errors import InputError, VaelabError
from vaelab.runs import versions
from vaelab_papers.job import Job
from vaelab_papers.needs import check_needs
from vaelab_papers.places import Places, Planned, completed, identity
from vaelab_papers.stacked import fit_together
from vaelab_papers.table import Table

_MOST_TOGETHER = 6  # beyond, a step's arithmetic outweighs its calls, and a group would keep other processes waiting


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
    table: Table,
    scale: str,
    folder: Path,
    *,
    processes: int = 1,
    note: Callable[[str], None] = lambda text: None,
    inception: Path | None = None,
    download: bool = False,
) -> list[Result]:
    """Run what is not on disk yet; a run that was killed goes on where it stopped, within a cell too.

    How cells are grouped does not depend on `processes`, and each group is trained on one thread, so the results do
    not depend on it either. With more than one process the groups are a ``joblib.Parallel``: by default processes on
    this machine, inside a ``joblib.parallel_config`` what that names.

    Parameters
    ----------
    table
        What to run.
    scale
        Its budget: ``"smoke"``, ``"small"`` or ``"paper"``.
    folder
        Results go to ``<table>-<scale>.jsonl`` there, after each group of cells, and models to a folder for each cell
        in ``<table>-<scale>``; for a table that shows the results of another one, to that one's.
    processes
        Groups trained at the same time; 1 trains them in this process.
    note
        Told what is being done.
    inception, download
        As for `check_needs`.

    Returns
    -------
    list of Result
        In the table's order; several seeds of a cell one after the other.

    Raises
    ------
    InputError
        There is no such scale, or no process; or something is missing that training or measuring needs.
    RunFolderError
        Another process runs the table into this folder.
    VaelabError
        Groups failed; raised when the others have finished and been written.
    """
    if processes < 1:
        raise InputError(f"processes={processes}", "at least 1")
    budget, places = table.scale(scale), Places(folder, table, scale)
    found, groups = _standing(table, places)
    if groups:
        check_needs(table, scale, inception=inception, download=download)
        with storage.held(places.root):
            _train(table, scale, folder, found, groups, processes, note, inception)
    return [found[cell.name, seed] for cell in table.cells for seed in range(budget.seeds)]


def finished(table: Table, scale: str, folder: Path) -> bool:
    """Whether all results of a table are on disk."""
    return not _standing(table, Places(folder, table, scale))[1]


Found = dict[tuple[str, int], Result]
"""Cell and seed → result."""


def _standing(table: Table, places: Places) -> tuple[Found, list[list[Planned]]]:
    """Return what is on disk, and in groups what is not; results of other tables that share the file are kept."""
    wanted = {cell.name: identity(table, cell, places.budget) for cell in table.cells}
    found = {
        (r.cell, r.seed): r
        for r in read(places.results)
        if r.cell not in wanted or completed(r.settings) == wanted[r.cell]
    }
    planned = [Planned(cell, seed) for cell in table.cells for seed in range(places.budget.seeds)]
    groups = [[one for one in group if (one.cell.name, one.seed) not in found] for group in _grouped(table, planned)]
    return found, [group for group in groups if group]


def _train(
    table: Table,
    scale: str,
    folder: Path,
    found: Found,
    groups: Sequence[list[Planned]],
    processes: int,
    note: Callable[[str], None],
    inception: Path | None,
) -> None:
    """Add the results of groups to what is found, in memory and on disk."""
    places, failed = Places(folder, table, scale), list[tuple[str, Exception]]()
    work = [joblib.delayed(_attempt)(table, scale, group, folder, inception) for group in groups]
    for done, (group, outcome) in enumerate(_side_by_side(work, min(processes, len(groups))), 1):
        names = "; ".join(dict.fromkeys(cell.name for cell, _ in group))
        if isinstance(outcome, Exception):
            failed.append((names, outcome))
            note(f"{table.name}, group {done} of {len(groups)} failed: {names}")
            continue
        found |= {(result.cell, result.seed): result for result in outcome}
        lines = (json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in found.values())
        storage.write_text(places.results, "".join(lines))
        places.finish(group)
        seconds = sum(result.seconds for result in outcome)
        note(f"{table.name}, group {done} of {len(groups)}, {len(group)} cells in {seconds:.0f} s: {names}")
    if failed:
        reasons = " ".join(f"[{names}] {type(error).__name__}: {error}" for names, error in failed)
        raise VaelabError(f"{len(failed)} of {len(groups)} groups of {table.name} failed: {reasons}") from failed[0][1]


def read(path: Path) -> list[Result]:
    """Read results; none where there is no file."""
    if not path.is_file():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def train_group(
    table: Table, scale: str, group: Sequence[Planned], folder: Path, inception: Path | None = None
) -> list[Result]:
    """Train and measure models of equal shape, on one thread.

    Parameters
    ----------
    table, scale, folder, inception
        As for `run`.
    group
        What to train.
    """
    budget, places = table.scale(scale), Places(folder, table, scale)
    with _one_thread():
        start = time.monotonic()
        places.begin(group)
        jobs = [table.build(one.cell, budget, one.seed).placed(places.cell(one), inception) for one in group]
        lengths = {job.length or budget.length for job in jobs}
        if len(lengths) > 1:
            raise InputError(f"{len(lengths)} lengths of training in one group", "cells that share one")
        fit_together(
            [job.trained for job in jobs],
            [job.batches for job in jobs],
            lengths.pop(),
            state_file=places.state(group),
            resume=True,
            held_out=jobs[0].held_out,
        )
        measured = [_measured(table, job) for job in jobs]
    seconds = (time.monotonic() - start) / len(group)
    return [
        Result(table.results, scale, cell.name, seed, numbers, seconds, identity(table, cell, budget), versions())
        for (cell, seed), numbers in zip(group, measured, strict=True)
    ]


def _measured(table: Table, job: Job) -> dict[str, float]:
    """Measure a trained model, and keep it; one whose samples are measured keeps its densities beside."""
    if job.folder is not None and job.sampling is None:
        storage.save_tensors(job.folder / "model.safetensors", job.model.state_dict())
    return table.measure(job)


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


Outcome = tuple[list[Planned], list[Result] | Exception]


def _attempt(table: Table, scale: str, group: list[Planned], folder: Path, inception: Path | None) -> Outcome:
    """Return a group with its results, or with what went wrong, which `run` raises when the others have finished."""
    try:
        return group, train_group(table, scale, group, folder, inception)
    except Exception as error:
        return group, error


def _side_by_side(work: Sequence[Any], processes: int) -> Iterator[Outcome]:
    """Yield outcomes as they come, where the backend hands over what is done; else all in the end."""
    if processes <= 1:
        yield from (function(*arguments, **named) for function, arguments, named in work)
        return
    try:
        parallel = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    except ValueError:  # such as Ray's
        parallel = joblib.Parallel(n_jobs=processes)
    yield from parallel(work)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small models gain nothing from more, and sums do not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
