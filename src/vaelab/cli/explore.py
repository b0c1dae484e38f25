"""``vaelab explore``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vaelab.cli.checks import check_beside, check_output, check_run


@dataclass(frozen=True)
class Arguments:
    """Write one page in which a run is moved about, along its axes, between rows and by draws; no server is needed."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of a run"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """page to write (.html); left out: explore.html in the run's folder"""
    data: str | None = None
    """rows to show: a name, folder or file; left out: the run's own test rows"""
    conditions: Path | None = None
    """of a conditional run, for the rows of --data: .npy, or .csv with a line per row"""
    rows: int = 400
    """rows that are shown, at most"""
    most_mb: float = 24.0
    """MB that the weights of the decoder may have in the page; of larger ones each axis is decoded beforehand"""
    seed: int = 0
    """of rows and draws"""
    show: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="open")] = False
    """open the page in a browser"""


def run(argv: list[str]) -> None:
    """Parse, and write the page."""
    arguments = tyro.cli(Arguments, args=argv, prog="vaelab explore")
    from vaelab.diagnostics.diagnosis import EXPLORER

    page = arguments.out or arguments.run / EXPLORER
    check_run(arguments.run)
    check_beside(arguments.conditions, arguments.data, "--conditions", "--data")
    check_output(page, "--out", (".html",))
    from vaelab.cli.foreign import rows_for_run
    from vaelab.verbs.exploration import explore

    most, seed = arguments.rows, arguments.seed
    x, y = rows_for_run(arguments.run, arguments.data, arguments.conditions, most=most, seed=seed)
    found = explore(arguments.run, x, y, rows=most, most_mb=arguments.most_mb, seed=seed)
    found.save(page)
    print(f"{page}: {found}")
    if arguments.show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
