"""``vaelab reproduce``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

_EVERY = "all"
_THEOREMS = "theorems"


def reproduce(
    table: tyro.conf.Positional[str] = "",
    scale: Literal["smoke", "small", "paper"] = "small",
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("tables"),
    processes: int | None = None,
    inception: Path | None = None,
    download: bool = False,
) -> None:
    """Run a paper's table and print measured beside published numbers.

    What is finished is not run again, and what was killed goes on where it stopped.

    Args:
        table: its name, such as zheng/table1, or all; or a theorem, such as zheng/theorem1, or theorems; left out: list
            them.
        scale: smoke takes seconds, small minutes on two cores, paper what the paper took.
        out: folder of results; for each table and scale a file of JSON lines, one of Markdown and one of HTML, and a
            folder of the models.
        processes: groups of cells trained at the same time; left out: one per core, and one alone for smoke.
        inception: Inception's published weights, for FIDs; left out: VAELAB_INCEPTION.
        download: fetch data sets that are absent.
    """
    from vaelab import storage
    from vaelab.errors import InputError
    from vaelab_papers import TABLES, THEOREMS, Table, markdown, page, run
    from vaelab_papers.needs import check_needs
    from vaelab_papers.runner import finished

    if not table:
        print("\n".join(f"{name:<22} {known.title} ({known.source})" for name, known in (TABLES | THEOREMS).items()))
        return
    if table == _THEOREMS or table in THEOREMS:
        _show(table, out)
        return
    chosen: list[Table]
    if table == _EVERY:
        chosen = [known for known in TABLES.values() if scale in known.scales]
    elif table in TABLES:
        chosen = [TABLES[table]]
    else:
        raise InputError(f"table {table!r}", f"{_EVERY}, {_THEOREMS}, or one of {', '.join(TABLES | THEOREMS)}")
    for one in chosen:  # all of them before the first is trained
        if not finished(one, scale, out):
            check_needs(one, scale, inception=inception, download=download)
    if processes is None:
        processes = 1 if scale == "smoke" else _cores()
    shown = []
    for one in chosen:
        results = run(
            one,
            scale,
            out,
            processes=processes,
            note=lambda text: print(text, file=sys.stderr, flush=True),
            inception=inception,
            download=download,
        )
        shown.append((one, results))
        stem, text = f"{one.name.replace('/', '-')}-{scale}", markdown(one, results)
        storage.write_text(out / f"{stem}.md", text)
        storage.write_text(out / f"{stem}.html", page([(one, results)]))
        print(text)
    if len(shown) > 1:
        storage.write_text(out / f"{_EVERY}-{scale}.html", page(shown))


def _show(name: str, out: Path) -> None:
    """Compute one theorem or all, and write text and picture."""
    from vaelab import storage
    from vaelab_papers import THEOREMS
    from vaelab_papers.theorem import pictured

    chosen = [THEOREMS[name]] if name in THEOREMS else list(THEOREMS.values())
    shown = []
    for theorem in chosen:
        print(f"{theorem.name} …", file=sys.stderr, flush=True)
        shown.append(theorem.show())
    text = "\n\n".join(theorem.markdown(each) for theorem, each in zip(chosen, shown, strict=True))
    stem = name.replace("/", "-")
    out.mkdir(parents=True, exist_ok=True)
    pictured(shown, out / f"{stem}.png")
    storage.write_text(out / f"{stem}.md", text + "\n")
    print(text)
    print(f"\nPicture: {out / f'{stem}.png'}")


def _cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(argv: list[str]) -> None:
    """Parse and run."""
    tyro.cli(reproduce, args=argv, prog="vaelab reproduce")
