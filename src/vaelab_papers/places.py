"""Where a table keeps what it trains, and what its results depend on."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from vaelab.runs.folder import STATES
from vaelab.training import FitSettings
from vaelab_papers.table import Cell, Scale, Table


class Planned(NamedTuple):
    """One training: a cell and a seed."""

    cell: Cell
    seed: int


class Places:
    """Folders of one table at one scale.

    Every cell has a folder for its model, whose name says which cell it is and ends in digits that change with all
    that its result depends on. A group that trains has a file for its state.

    Parameters
    ----------
    folder
        Of all results.
    table, scale
        Which.
    """

    def __init__(self, folder: Path, table: Table, scale: str) -> None:
        self.table, self.budget = table, table.scale(scale)
        stem = f"{table.results.replace('/', '-')}-{scale}"
        self.results, self.root = folder / f"{stem}.jsonl", folder / stem

    def cell(self, planned: Planned) -> Path:
        """Return where a cell's model is kept."""
        name = re.sub(r"[^\w.+=-]+", "_", f"{planned.cell.name}, seed={planned.seed}")
        return self.root / f"{name}-{self._digits([planned])}"

    def state(self, group: Sequence[Planned]) -> Path:
        """Return where the training state of a group is kept while it trains."""
        return self.root / STATES / f"{self._digits(group)}.safetensors"

    def begin(self, group: Sequence[Planned]) -> None:
        """Leave nothing that an earlier training of these cells left, unless it is to go on."""
        if not self.state(group).is_file():
            for planned in group:
                shutil.rmtree(self.cell(planned), ignore_errors=True)

    def finish(self, group: Sequence[Planned]) -> None:
        """Remove the training states of a group whose results are written; models stay."""
        state = self.state(group)
        state.unlink(missing_ok=True)
        if state.parent.is_dir() and not any(state.parent.iterdir()):
            state.parent.rmdir()
        for planned in group:
            shutil.rmtree(self.cell(planned) / STATES, ignore_errors=True)

    def _digits(self, group: Sequence[Planned]) -> str:
        names = [
            (planned.cell.name, planned.seed, identity(self.table, planned.cell, self.budget)) for planned in group
        ]
        return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:8]


def identity(table: Table, cell: Cell, scale: Scale) -> dict[str, Any]:
    """Return what a result depends on beside its seed, as it comes back from JSON."""
    values: dict[str, Any] = {"rows": scale.rows, "stand_in": scale.stand_in}
    given = {"hidden": scale.hidden, "gamma": scale.gamma, "floor": scale.floor, "synthetic": table.synthetic or None}
    values |= {name: value for name, value in given.items() if value is not None}
    if scale.fit is not None:
        values["fit"] = scale.fit.model_dump(mode="json")
    if scale.effort is not None:
        second = scale.effort.second
        values["effort"] = asdict(scale.effort) | {"second": None if second is None else second.model_dump(mode="json")}
    if table.settings is not None:
        values["settings"] = table.settings(cell, scale, 0).model_dump(mode="json")
    return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Fill in fields of a training that are newer than the result: it had what is now their default."""
    if "settings" in settings:
        settings = settings | {"settings": {"adversary": None} | settings["settings"]}
    if "fit" not in settings:
        return settings
    return settings | {"fit": FitSettings().model_dump(mode="json") | settings["fit"]}
