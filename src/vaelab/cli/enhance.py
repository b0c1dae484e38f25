"""``vaelab enhance``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vaelab.arguments import check_count
from vaelab.cli.checks import check_beside, check_numbers, check_one, check_output, check_run
from vaelab.cli.foreign import Range
from vaelab.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from vaelab.verbs.enhancement import Enhanced


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
    conditions: Path | None = None
    """of a conditional model, for the rows of --data: .npy, or .csv with a line per row; classes or numbers, as it was
    trained with"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """folder for the enhanced run and samples of it; left out: RUN-enhanced, if a density is better than the prior.
    With --adapter: a .png, .npy or .csv file for samples; left out: samples.npy"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """how many samples; of a conditional model, under the conditions of as many rows at random"""
    densities: tuple[str, ...] = ()
    """of the codes, to compare: gaussian, mixture, flow, flow_matching, second_stage, …; left out: all, of few
    codes the quick ones"""
    epochs: int | None = None
    """of densities that are trained by gradient; left out: to suit the data"""
    budget: str | None = None
    """time for fitting densities, such as 90s, 2min or 1h: none is begun after it; left out: without limit"""
    gamma: float | None = None
    """with --adapter: decoder variance that the loss stands for"""
    pixels: Annotated[Range | None, tyro.conf.arg(name="range")] = None
    """with --adapter: what bytes are given as, 01 for x / 255, pm1 for 2 x / 255 - 1, raw for x; may be left out for
    autoencoders of diffusers, which take pm1. Data stored as other numbers are given as they are"""
    rows: int = 50_000
    """of a file that is not read whole, at most; at least 100"""
    seed: int = 0
    """of splits, fits and draws"""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """no progress, the table only"""


def run(argv: list[str]) -> None:
    """Parse and enhance."""
    arguments = tyro.cli(Arguments, args=argv, prog="vaelab enhance")
    check_one(arguments.run, arguments.adapter, arguments.data, arguments.pixels)
    check_numbers(arguments.rows, arguments.seed)
    check_beside(arguments.conditions, arguments.data, "--conditions", "--data")
    target = _target(arguments)
    from vaelab.cli.steps import Steps

    with Steps(quiet=arguments.quiet) as steps:
        steps("reading model and rows")
        model, x, y = _subject(arguments)
        from vaelab.verbs.enhancement import enhance

        found = enhance(
            model,
            x,
            y,
            densities=arguments.densities or None,
            epochs=arguments.epochs,
            budget=arguments.budget,
            gamma=arguments.gamma,
            seed=arguments.seed,
            note=steps,
        )
    print(found, end="\n\n")
    if arguments.run is None:
        from vaelab.cli.foreign import range_of

        _write_samples(found, [target], arguments, arguments.pixels or range_of(model))
    elif found.better or arguments.out is not None:
        found.save(target)
        print(target)
        picture = [target / "samples.png"] if found.trained.facts.kind == "image" else []
        _write_samples(found, [target / "samples.npy", *picture], arguments, None)
    else:
        print("Nothing is written: no density beats the prior. With -o FOLDER a run is, and samples from the prior.")


def _target(arguments: Arguments) -> Path:
    """Return where to write; refused before any work."""
    check_count("-n", arguments.n)
    folder, is_file = arguments.run, arguments.out is not None and arguments.out.suffix in (".png", ".npy", ".csv")
    if folder is None:
        if arguments.out is not None and not is_file:
            got = f"--out {arguments.out} with --adapter"
            remedy = "Name a .png, .npy or .csv file, which takes samples."
            raise InputError(got, "a file: only a run of vaelab is saved as a folder", remedy)
        file = arguments.out or Path("samples.npy")
        check_output(file, "--out", (".png", ".npy", ".csv"))
        return file
    check_run(folder)
    target = arguments.out or folder.resolve().with_name(f"{folder.resolve().name}-enhanced")
    if is_file:
        remedy = "Leave it out, then: vaelab sample FOLDER -o FILE."
        raise InputError(f"--out {target} with a run", "a folder for the enhanced run", remedy)
    if target.exists():
        raise InputError(f"--out {target}, which is there already", "a new folder", "Name another with -o.")
    check_output(target, "--out")
    return target


def _subject(arguments: Arguments) -> tuple[object, object | None, object | None]:
    """Return the model, rows and conditions; None for a run's own."""
    from vaelab.cli.foreign import model_of, rows_for_run, rows_of

    conditions, most, seed = arguments.conditions, arguments.rows, arguments.seed
    if arguments.run is not None:
        return arguments.run, *rows_for_run(arguments.run, arguments.data, conditions, most=most, seed=seed)
    assert arguments.adapter is not None
    assert arguments.data is not None
    model = model_of(arguments.adapter)
    return model, *rows_of(model, arguments.data, conditions, pixels=arguments.pixels, most=most, seed=seed)


def _write_samples(found: Enhanced, targets: list[Path], arguments: Arguments, pixels: Range | None) -> None:
    """Write samples of the best density; a picture has them in [0, 1], from the range of a foreign model's pixels."""
    import torch

    from vaelab.cli.foreign import to_unit
    from vaelab.cli.output import write_rows
    from vaelab.runs import Draws
    from vaelab.training import stream

    trained, own, index = found.trained, found.subject.batches, None
    if own.c is not None:
        generator = stream("cpu", arguments.seed, "command line", "conditions")
        index = torch.randint(len(own), (arguments.n,), generator=generator)

    def conditions(rows: slice) -> Tensor | None:
        return None if index is None else own.take(index[rows])[1]

    for target in targets:
        parts = trained.draws(arguments.n, conditions, Draws(density=found.best, seed=arguments.seed))
        shown = (to_unit(part, pixels) for part in parts)
        write_rows(target, trained, shown if target.suffix == ".png" else parts, arguments.n)
