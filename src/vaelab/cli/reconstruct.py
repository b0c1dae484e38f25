"""``vaelab reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def reconstruct(
    run: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[str] = "",
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("reconstructions.npy"),
) -> None:
    """Encode data and decode the codes.

    Args:
        run: folder of the run.
        data: a name, folder or file; default: the run's own test rows.
        n: how many rows; default: all.
        out: file to write: .png for originals above reconstructions, .npy, .csv for tables, or a folder of PNG files.
    """
    from vaelab import runs
    from vaelab.cli.output import rows_for, write_reconstructions

    trained = runs.read_run(run)
    write_reconstructions(out, trained, rows_for(run, trained, data, n))


def run(argv: list[str]) -> None:
    """Parse and reconstruct."""
    tyro.cli(reconstruct, args=argv, prog="vaelab reconstruct")
