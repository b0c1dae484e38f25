"""What verbs on a run, or on a model of another program, refuse before any work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.arguments import check_count, check_seed
from vaelab.errors import InputError

if TYPE_CHECKING:
    from vaelab.cli.foreign import Range

_LEAST_ROWS = 100


def check_one(run: Path | None, adapter: str | None, data: str | None, pixels: Range | None) -> None:
    """Refuse neither or both of a run and an adapter, an adapter without rows, and a range for a run."""
    if (run is None) == (adapter is None):
        got = "both a run and --adapter" if adapter else "neither a run nor --adapter"
        raise InputError(got, "one of them", "Such as: vaelab diagnose runs/digits")
    if adapter is not None and data is None:
        raise InputError("--adapter without --data", "the rows that the model was trained on", "Add --data X.npy.")
    if run is not None and pixels is not None:
        raise InputError("--range for a run", "it for --adapter", "Leave it out: a run knows its units.")


def check_run(run: Path | None) -> None:
    """Refuse what is no run's folder, before a place in it or beside it is judged; None is no run."""
    if run is not None:
        from vaelab.runs import read_config

        read_config(run)


def check_numbers(rows: int, seed: int) -> None:
    """Refuse fewer than 100 rows, and what is no seed."""
    check_count("--rows", rows, _LEAST_ROWS)
    check_seed(seed, "--seed")


def check_beside(conditions: Path | None, rows: str | None, option: str, beside: str) -> None:
    """Refuse conditions without the rows that they belong to, or whose file is not there.

    Parameters
    ----------
    conditions, rows
        What was given.
    option, beside
        How both are called.
    """
    if conditions is None:
        return
    if rows is None:
        remedy = "Leave it out: a run's own rows have their conditions with them."
        raise InputError(f"{option} without {beside}", f"{beside} X.npy, the rows that they belong to", remedy)
    if conditions.suffix not in (".npy", ".csv"):
        raise InputError(f"{option} {conditions}", "a .npy or .csv file, one condition per row")
    if not conditions.is_file():
        raise InputError(f"{option} {conditions}, but no such file", "one condition per row", "Check the path.")


def check_output(path: Path, option: str, endings: tuple[str, ...] = ()) -> None:
    """Refuse a place that cannot be written to; folders that are not there yet will be made.

    Parameters
    ----------
    path
        File to write, or a folder where `endings` are none.
    option
        What names it on the command line.
    endings
        Those that a file may have.
    """
    if endings and path.suffix not in endings:
        raise InputError(f"{option} {path}", f"a name that ends in {' or '.join(endings)}")
    if endings and path.is_dir():
        raise InputError(f"{option} {path}, which is a folder", "a file", f"Such as: {option} {path / 'x'}{endings[0]}")
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise InputError(f"{option} {path}, where {above} is a file", "a folder to write into")
    if not os.access(above, os.W_OK):
        raise InputError(f"{option} {path}, where {above} may not be written to", "a folder to write into")
