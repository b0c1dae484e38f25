"""``vaelab impute``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from vaelab.arguments import check_draws, check_seed


def impute(
    run: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[str] = "",
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("imputed.csv"),
    draws: int = 100,
    seed: int = 0,
) -> None:
    """Fill in the missing entries of a table; what is there stays as it is.

    Args:
        run: folder of a run that was trained with --likelihood mixed.
        data: a file; default: the run's own test rows.
        n: how many rows; default: all.
        out: file to write: .csv or .parquet, with categories by name, or .npy, with their numbers.
        draws: of the code, per row.
        seed: of the draws.
    """
    from vaelab import runs
    from vaelab.cli.output import rows_for, write_imputed

    check_draws("--draws", draws)
    check_seed(seed, "--seed")
    trained = runs.read_run(run)
    write_imputed(out, trained, rows_for(run, trained, data, n), data, draws=draws, seed=seed)


def run(argv: list[str]) -> None:
    """Parse and fill in."""
    tyro.cli(impute, args=argv, prog="vaelab impute")
