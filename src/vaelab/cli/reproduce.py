"""``vaelab reproduce``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def reproduce(
    table: tyro.conf.Positional[str] = "",
    scale: Literal["smoke", "small", "paper"] = "small",
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("tables"),
) -> None:
    """Run a paper's table and print measured beside published numbers; finished cells are not run again.

    Args:
        table: its name, such as zheng/table1; left out: list the tables.
        scale: smoke takes seconds, small minutes on two cores, paper what the paper took.
        out: folder of results, one file of JSON lines and one of Markdown for each table and scale.
    """
    from vaelab import storage
    from vaelab.errors import InputError
    from vaelab.experiments import TABLES, render, run

    if not table:
        print("\n".join(f"{name:<16} {known.title} ({known.source})" for name, known in TABLES.items()))
        return
    if table not in TABLES:
        raise InputError(f"table {table!r}", f"one of {', '.join(TABLES)}")
    results = run(TABLES[table], scale, out, note=lambda text: print(text, file=sys.stderr, flush=True))
    text = render(TABLES[table], results)
    storage.write_text(out / f"{table.replace('/', '-')}-{scale}.md", text)
    print(text)


def run(argv: list[str]) -> None:
    """Parse and run."""
    tyro.cli(reproduce, args=argv, prog="vaelab reproduce")
