"""``vaelab datasets``."""

from __future__ import annotations

from pathlib import Path

import tyro


def datasets(home: Path | None = None) -> None:
    """List the data sets known by name, and whether they are here.

    Args:
        home: folder to look in; default: VAELAB_DATA, then a cache.
    """
    from rich.console import Console
    from rich.table import Table

    from vaelab.data import catalogue

    table = Table("name", "shape", "here", "what", box=None)
    for entry in catalogue(home=home):
        shape = "×".join(str(size) for size in entry.shape)
        table.add_row(entry.name, shape, "yes" if entry.present else "no", entry.description)
    Console().print(table)


def run(argv: list[str]) -> None:
    """Parse and list."""
    tyro.cli(datasets, args=argv, prog="vaelab datasets")
