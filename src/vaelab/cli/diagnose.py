"""``vaelab diagnose``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vaelab.cli.foreign import Range
from vaelab.errors import InputError

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis


@dataclass(frozen=True)
class Arguments:
    """Say what is wrong with a trained autoencoder, and what mends it."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """folder of a run"""
    adapter: Annotated[str | None, tyro.conf.arg(metavar="FILE.py:FUNCTION")] = None
    """instead of a run: this runs your own code, first the file, then the function, which takes no arguments and
    returns a trained model, a pair (encode, decode), or what vaelab.wrap returns"""
    data: str | None = None
    """rows that the model was trained on: a name, folder or file; left out: the run's own"""
    held_out: str | None = None
    """rows that it was not trained on, without which over-fitting is unknown; left out: the test rows of the run or of
    a named data set"""
    gamma: float | None = None
    """with --adapter: decoder variance that the loss stands for, 1 for half the summed squared error, 0.5 for all of
    it, times the weight of the KL"""
    pixels: Annotated[Range | None, tyro.conf.arg(name="range")] = None
    """with --adapter: what bytes of images are given as, 01 for floats in [0, 1], pm1 for [-1, 1], raw for [0, 255];
    left out: 01. Data stored as floats are given as they are"""
    rows: int = 10_000
    """rows that are measured, at most"""
    seed: int = 0
    """of rows and noise"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """page to write (.html); left out: report.html in the run's folder, or here"""
    json: Path | None = None
    """numbers to write (.json); left out: report.json in the run's folder, if the page goes there"""
    show: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="open")] = False
    """open the page in a browser"""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """no progress"""

    def note(self, text: str) -> None:
        """Say what is being done."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def run(argv: list[str]) -> None:
    """Parse and diagnose."""
    arguments = tyro.cli(Arguments, args=argv, prog="vaelab diagnose")
    from vaelab.cli.foreign import check_one

    check_one(arguments.run, arguments.adapter, arguments.data, arguments.pixels)
    page = arguments.out or (arguments.run or Path()) / "report.html"
    numbers = arguments.json
    if numbers is None and arguments.out is None and arguments.run is not None:
        numbers = arguments.run / "report.json"
    for path, ending in ((page, ".html"), (numbers, ".json")):
        if path is not None and path.suffix != ending:
            raise InputError(f"{path} to write to", f"a name that ends in {ending}")
    found = _of_run(arguments, arguments.run) if arguments.run is not None else _of_adapter(arguments)
    print(found, end="\n\n")
    for path in (page, numbers):
        if path is not None:
            print(found.save(path))
    if arguments.show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _of_run(arguments: Arguments, folder: Path) -> Diagnosis:
    """Diagnose a run, on its own rows or on others like them."""
    from vaelab import runs
    from vaelab.cli.foreign import in_memory
    from vaelab.cli.output import rows_for
    from vaelab.evaluation.diagnose import diagnose

    given = []
    for source in (arguments.data, arguments.held_out):
        part = None if source is None else rows_for(folder, runs.load(folder), source, None)
        given.append(None if part is None else in_memory(part.x, arguments.rows, arguments.seed))
    x, unseen = given
    return diagnose(
        folder,
        x,
        held_out=unseen,
        gamma=arguments.gamma,
        rows=arguments.rows,
        seed=arguments.seed,
        note=arguments.note,
    )


def _of_adapter(arguments: Arguments) -> Diagnosis:
    """Diagnose what the user's own code returns."""
    from dataclasses import replace

    from vaelab.cli.foreign import model_of, rows_of
    from vaelab.data import Dataset
    from vaelab.evaluation.diagnose import diagnose

    assert arguments.adapter is not None
    model, given = model_of(arguments.adapter), []
    for source in (arguments.data, arguments.held_out):
        part = None
        if source is not None:
            part = rows_of(source, pixels=arguments.pixels, most=arguments.rows, seed=arguments.seed)
        given.append(part)
    x, unseen = given
    found = diagnose(
        model,
        x,
        held_out=unseen.test.x if isinstance(unseen, Dataset) else unseen,
        gamma=arguments.gamma,
        rows=arguments.rows,
        seed=arguments.seed,
        note=arguments.note,
    )
    return replace(found, name=arguments.adapter)
