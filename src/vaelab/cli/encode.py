"""``vaelab encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def encode(
    run: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[str] = "",
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("codes.npy"),
) -> None:
    """Write the latent codes of data: posterior means, one row each, in the order of the data.

    Args:
        run: folder of the run.
        data: a name, folder or file; default: the run's own test rows.
        n: how many rows; default: all.
        out: file to write: .npy or .csv.
    """
    from vaelab import runs
    from vaelab.cli.output import rows_for, write_codes

    trained = runs.read_run(run)
    write_codes(out, trained, rows_for(run, trained, data, n))


def run(argv: list[str]) -> None:
    """Parse and encode."""
    tyro.cli(encode, args=argv, prog="vaelab encode")
