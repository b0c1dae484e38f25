"""``vaelab diagnose``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vaelab.cli.checks import check_beside, check_numbers, check_one, check_output, check_run
from vaelab.cli.foreign import Range
from vaelab.errors import InputError

if TYPE_CHECKING:
    from vaelab.cli.steps import Steps
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
    conditions: Path | None = None
    """of a conditional model, for the rows of --data: .npy, or .csv with a line per row; classes or numbers, as it was
    trained with"""
    held_out_conditions: Path | None = None
    """the same for the rows of --held-out"""
    gamma: float | None = None
    """with --adapter: decoder variance that the loss stands for, 1 for half the summed squared error, 0.5 for all of
    it, times the weight of the KL"""
    pixels: Annotated[Range | None, tyro.conf.arg(name="range")] = None
    """with --adapter: what bytes are given as, 01 for x / 255, pm1 for 2 x / 255 - 1, raw for x; may be left out for
    autoencoders of diffusers, which take pm1. Data stored as other numbers are given as they are"""
    rows: int = 10_000
    """rows that are measured, at most; at least 100"""
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


def run(argv: list[str]) -> None:
    """Parse and diagnose."""
    arguments = tyro.cli(Arguments, args=argv, prog="vaelab diagnose")
    _check(arguments)
    page = arguments.out or (arguments.run or Path()) / "report.html"
    numbers = arguments.json
    if numbers is None and arguments.out is None and arguments.run is not None:
        numbers = arguments.run / "report.json"
    check_run(arguments.run)
    check_output(page, "--out", (".html",))
    if numbers is not None:
        check_output(numbers, "--json", (".json",))
    from vaelab.cli.steps import Steps

    with Steps(quiet=arguments.quiet) as steps:
        steps("reading model and rows")
        found = _of_run(arguments, arguments.run, steps) if arguments.run is not None else _of_adapter(arguments, steps)
        steps("writing the report")
        written = [found.save(path) for path in (page, numbers) if path is not None]
    print(found, end="\n\n")
    for path in written:
        print(path)
    if arguments.show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _check(arguments: Arguments) -> None:
    """Refuse what cannot be used."""
    check_one(arguments.run, arguments.adapter, arguments.data, arguments.pixels)
    check_numbers(arguments.rows, arguments.seed)
    check_beside(arguments.conditions, arguments.data, "--conditions", "--data")
    check_beside(arguments.held_out_conditions, arguments.held_out, "--held-out-conditions", "--held-out")
    if arguments.conditions is not None and arguments.held_out is not None and arguments.held_out_conditions is None:
        got = "--conditions and --held-out without --held-out-conditions"
        raise InputError(got, "conditions of these rows too", "Add --held-out-conditions Y.npy.")


def _of_run(arguments: Arguments, folder: Path, steps: Steps) -> Diagnosis:
    """Diagnose a run, on its own rows or on others like them."""
    from vaelab.cli.foreign import rows_for_run
    from vaelab.verbs.diagnosis import diagnose

    most, seed, option = arguments.rows, arguments.seed, "--held-out-conditions"
    x, y = rows_for_run(folder, arguments.data, arguments.conditions, most=most, seed=seed)
    unseen: object | None = None
    if arguments.held_out is not None:
        rows, own = rows_for_run(
            folder, arguments.held_out, arguments.held_out_conditions, most=most, seed=seed, option=option
        )
        unseen = rows if own is None else (rows, own)
    return diagnose(
        folder,
        x,
        y,
        held_out=unseen,
        gamma=arguments.gamma,
        rows=arguments.rows,
        seed=arguments.seed,
        note=steps,
    )


def _of_adapter(arguments: Arguments, steps: Steps) -> Diagnosis:
    """Diagnose what the user's own code returns."""
    from dataclasses import replace

    from vaelab.cli.foreign import model_of, rows_of
    from vaelab.data import Dataset
    from vaelab.verbs.diagnosis import diagnose

    assert arguments.adapter is not None
    assert arguments.data is not None
    model, pixels, most, seed = model_of(arguments.adapter), arguments.pixels, arguments.rows, arguments.seed
    x, y = rows_of(model, arguments.data, arguments.conditions, pixels=pixels, most=most, seed=seed)
    unseen: object | None = None
    if arguments.held_out is not None:
        conditions = arguments.held_out_conditions
        rows, own = rows_of(model, arguments.held_out, conditions, pixels=pixels, most=most, seed=seed)
        unseen = rows.test.x if isinstance(rows, Dataset) else rows if own is None else (rows, own)
    found = diagnose(
        model,
        x,
        y,
        held_out=unseen,
        gamma=arguments.gamma,
        rows=arguments.rows,
        seed=arguments.seed,
        note=steps,
    )
    return replace(found, name=arguments.adapter)
