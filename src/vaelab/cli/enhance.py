"""``vaelab enhance``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vaelab.cli.foreign import Range
from vaelab.errors import InputError

if TYPE_CHECKING:
    from vaelab.evaluation.enhance import Enhanced


@dataclass(frozen=True)
class Arguments:
    """Find better samples of a trained autoencoder, whose weights stay as they are."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """folder of a run"""
    adapter: Annotated[str | None, tyro.conf.arg(metavar="FILE.py:FUNCTION")] = None
    """instead of a run: this runs your own code, first the file, then the function, which takes no arguments and
    returns a trained model, a pair (encode, decode), or what vaelab.wrap returns"""
    data: str | None = None
    """rows like those it was trained on: a name, folder or file; left out: the run's own"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """folder for the enhanced run; left out: RUN-enhanced. With --adapter: a .png, .npy or .csv file for samples; left
    out: samples.npy"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """with --adapter: how many samples"""
    densities: tuple[str, ...] = ()
    """of the codes, to compare: gaussian, mixture, flow, second_stage, …; left out: all that can be fitted"""
    epochs: int | None = None
    """of the second stage and the flow; left out: to suit the data"""
    gamma: float | None = None
    """with --adapter: decoder variance that the loss stands for"""
    pixels: Annotated[Range | None, tyro.conf.arg(name="range")] = None
    """with --adapter: what bytes of images are given as, 01 for floats in [0, 1], pm1 for [-1, 1], raw for [0, 255];
    left out: 01. Data stored as floats are given as they are"""
    rows: int = 50_000
    """of a file that is not read whole, at most"""
    seed: int = 0
    """of splits, fits and draws"""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """no progress, the table only"""

    def note(self, text: str) -> None:
        """Say what is being done."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def run(argv: list[str]) -> None:
    """Parse and enhance."""
    arguments = tyro.cli(Arguments, args=argv, prog="vaelab enhance")
    from vaelab.cli.foreign import check_one

    check_one(arguments.run, arguments.adapter, arguments.data, arguments.pixels)
    target = _target(arguments)
    model, x = _subject(arguments)
    from vaelab.evaluation.enhance import enhance

    found = enhance(
        model,
        x,
        densities=arguments.densities or None,
        epochs=arguments.epochs,
        gamma=arguments.gamma,
        seed=arguments.seed,
        note=arguments.note,
    )
    print(found, end="\n\n")
    if arguments.run is None:
        _write_samples(found, target, arguments)
    else:
        found.save(target)
        print(target)


def _target(arguments: Arguments) -> Path:
    """Return where to write; refused before any work."""
    if arguments.n < 1:
        raise InputError(f"-n {arguments.n}", "at least 1")
    folder, is_file = arguments.run, arguments.out is not None and arguments.out.suffix in (".png", ".npy", ".csv")
    if folder is None:
        if arguments.out is not None and not is_file:
            got = f"--out {arguments.out} with --adapter"
            remedy = "Name a .png, .npy or .csv file, which takes samples."
            raise InputError(got, "a file: only a run of vaelab is saved as a folder", remedy)
        return arguments.out or Path("samples.npy")
    target = arguments.out or folder.resolve().with_name(f"{folder.resolve().name}-enhanced")
    if is_file:
        remedy = "Leave it out, then: vaelab sample FOLDER -o FILE."
        raise InputError(f"--out {target} with a run", "a folder for the enhanced run", remedy)
    if target.exists():
        raise InputError(f"--out {target}, which is there already", "a new folder", "Name another with -o.")
    return target


def _subject(arguments: Arguments) -> tuple[object, object | None]:
    """Return the model, and rows; None for a run's own."""
    from vaelab.cli.foreign import in_memory, model_of, rows_of

    if arguments.run is None:
        assert arguments.adapter is not None
        assert arguments.data is not None
        model = model_of(arguments.adapter)
        return model, rows_of(arguments.data, pixels=arguments.pixels, most=arguments.rows, seed=arguments.seed)
    if arguments.data is None:
        return arguments.run, None
    from vaelab import runs
    from vaelab.cli.output import rows_for

    part = rows_for(arguments.run, runs.load(arguments.run), arguments.data, None)
    return arguments.run, in_memory(part.x, arguments.rows, arguments.seed)


def _write_samples(found: Enhanced, target: Path, arguments: Arguments) -> None:
    """Write samples of the best density; a picture has them in [0, 1]."""
    from vaelab.cli.foreign import to_unit
    from vaelab.cli.output import write_rows

    trained = found.trained
    drawn = trained.sample(arguments.n, density=found.best, seed=arguments.seed)
    write_rows(target, trained, to_unit(drawn, arguments.pixels) if target.suffix == ".png" else drawn)
