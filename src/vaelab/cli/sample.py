"""``vaelab sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def sample(
    run: tyro.conf.Positional[Path],
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("samples.npy"),
    density: str = "auto",
    seed: int = 0,
) -> None:
    """Draw new data from a run.

    Args:
        run: folder of the run.
        n: how many.
        out: file to write: .png for a grid, .npy, .csv for tables; a folder takes one PNG per image.
        density: where codes come from: auto (the best on held-out codes), prior, gaussian, mixture, second_stage.
        seed: of the draws.
    """
    from vaelab import runs
    from vaelab.cli.output import write_rows
    from vaelab.errors import InputError

    if n < 1:
        raise InputError(f"-n {n}", "at least 1")
    trained = runs.load(run)
    write_rows(out, trained, trained.sample(n, density=density, seed=seed))


def run(argv: list[str]) -> None:
    """Parse and draw."""
    tyro.cli(sample, args=argv, prog="vaelab sample")
