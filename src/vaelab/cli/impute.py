"""``vaelab impute``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from vaelab.arguments import check_count, check_seed


def impute(
    run: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[str] = "",
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("imputed.csv"),
    draws: int | None = None,
    k: int = 200,
    seed: int = 0,
) -> None:
    """Fill in the missing entries of a table; what is there stays as it is.

    Args:
        run: folder of a run that was trained on a table.
        data: a file; default: the run's own test rows.
        n: how many rows; default: all.
        out: file to write: .csv or .parquet, with categories by name, or .npy, with their numbers.
        draws: completed tables, in files imputed-1.csv, imputed-2.csv, …: each a draw of what is missing, with its
            spread, for statistics that are pooled by Rubin's rules; default: one table of means.
        k: draws of the code per row, by which means and spread are found.
        seed: of the draws.
    """
    from vaelab import runs
    from vaelab.cli.output import rows_for, write_imputed

    if draws is not None:
        check_count("--draws", draws, most=1000)
    check_count("--k", k)
    check_seed(seed, "--seed")
    trained = runs.read_run(run)
    rows = rows_for(run, trained, data, n, gaps=True)
    write_imputed(out, trained, rows, data, draws=draws, k=k, seed=seed)


def run(argv: list[str]) -> None:
    """Parse and fill in."""
    tyro.cli(impute, args=argv, prog="vaelab impute")
