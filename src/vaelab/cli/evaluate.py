"""``vaelab evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vaelab.storage import exists

if TYPE_CHECKING:
    from vaelab.metrics.protocols import Protocol
    from vaelab.metrics.report import Report
    from vaelab.verbs.options import Options
    from vaelab.verbs.rows import Watch


_TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Arguments:
    """Measure samples and likelihood of runs, or one set of rows against another."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders of runs"""
    real: str | None = None
    """instead of runs: a data set by name, a folder of images, a table or an array of real rows"""
    fake: str | None = None
    """rows to compare with them, of the same kind"""
    train: str | None = None
    """with --real: labelled real rows for classifier features and the floor; a named data set brings its own. Of mixed
    tables, rows that the fake ones were learned from, where --real are others: then privacy is measured too"""
    target: str | None = None
    """with --real and --fake tables that hold categories or gaps: the column to predict, after training on either"""
    metrics: tuple[str, ...] = ()
    """frechet (fid), kernel (kid), precision, recall, density, coverage, sliced_wasserstein, energy, two_sample;
    of runs also reconstruction, interpolation, nll, bits; left out: what suits the data"""
    protocol: tuple[str, ...] = ()
    """how distances are measured, one or several; name+field=value changes a field (see --list-protocols);
    left out: what suits the data"""
    list_protocols: tyro.conf.FlagCreatePairsOff[bool] = False
    """list the protocols instead"""
    densities: tuple[str, ...] = ()
    """latent densities to sample from; left out: all of the run's"""
    draws: int = 5
    """independent generated sets per density"""
    temperature: float = 1.0
    """of the codes that samples are made of: below 1 they are more typical and less various than the data"""
    on_manifold: tyro.conf.FlagCreatePairsOff[bool] = False
    """draw codes again whose rows are unlike any reconstruction of the training rows, and report their share"""
    likelihood_draws: int = 500
    """draws of z per row in the importance-weighted bound"""
    likelihood_rows: int = 1000
    """test rows it is computed on; 0 for all"""
    inception: Path | None = None
    """the published Inception weights; left out: $VAELAB_INCEPTION"""
    image_size: int | None = None
    """side that image files of --real and --fake are resized to"""
    grey: tyro.conf.FlagCreatePairsOff[bool] = False
    """read image files of --real and --fake as grey"""
    separator: str | None = None
    """of the columns of CSV files of --real, --fake and --train; left out: found out"""
    missing: tuple[str, ...] = ()
    """what stands for a missing entry of these, beside NA and ?"""
    label_column: str | None = None
    """column of --train with the class, left out of --real and --fake"""
    home: Path | None = None
    """folder with a sub-folder per named data set"""
    html: Path | None = None
    """of a table: file for one page on samples beside real rows, to open in a browser"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """folder for evaluation.json, evaluation.txt and pictures; left out: the run's, or none with --real"""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """no progress, the table only"""


def run(argv: list[str]) -> None:
    """Parse and measure."""
    arguments = tyro.cli(Arguments, args=argv, prog="vaelab evaluate")
    from vaelab.errors import InputError

    if arguments.list_protocols:
        print(_listed())
        return
    if bool(arguments.runs) == (arguments.real is not None) or (arguments.real is None) != (arguments.fake is None):
        got = f"{len(arguments.runs)} run(s), --real {arguments.real}, --fake {arguments.fake}"
        raise InputError(got, "runs, or both --real and --fake", "Such as: vaelab evaluate runs/digits")
    _refuse_idle(arguments)
    frames = _frames(arguments)
    _check_label(arguments, frames)
    if frames and (arguments.html is not None or _mixed(frames)):
        _of_tables(arguments, *frames)
        return
    if arguments.target is not None:
        raise InputError("--target without two mixed tables", "--real and --fake with categories or gaps")
    if arguments.html is not None and len(arguments.runs) != 1:
        raise InputError(f"--html for {len(arguments.runs)} runs", "one run, or two tables (CSV or parquet)")
    from vaelab.metrics.protocols import protocol

    chosen = [protocol(name) for name in arguments.protocol]
    with _progress(quiet=arguments.quiet) as watch:
        options = _options(arguments, watch)
        if arguments.runs:
            reports = [_of_run(run, arguments, chosen, options) for run in arguments.runs]
        else:
            reports = [_of_sets(arguments, chosen, options)]
    from vaelab.metrics.report import merge

    whole = merge(reports)
    print(whole.table())
    if len(reports) > 1 and arguments.out is not None:
        _write(arguments.out, whole)


def _refuse_idle(arguments: Arguments) -> None:
    """Refuse what would have no effect."""
    from vaelab.errors import InputError

    default = Arguments()
    of_sets = ("train", "target", "image_size", "grey", "separator", "missing", "label_column")
    of_runs = ("densities", "draws", "temperature", "on_manifold", "likelihood_draws", "likelihood_rows")
    idle = [
        name for name in (of_sets if arguments.runs else of_runs) if getattr(arguments, name) != getattr(default, name)
    ]
    if idle:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise InputError(f"{flags} with {'runs' if arguments.runs else '--real'}", "no such argument there")


def _options(arguments: Arguments, watch: Watch) -> Options:
    from vaelab.verbs import Options

    return Options(
        metrics=arguments.metrics,
        draws=arguments.draws,
        densities=arguments.densities,
        likelihood_draws=arguments.likelihood_draws,
        likelihood_rows=arguments.likelihood_rows,
        inception=arguments.inception,
        temperature=arguments.temperature,
        on_manifold=arguments.on_manifold,
        watch=watch,
    )


def _of_run(run: Path, arguments: Arguments, chosen: list[Protocol], options: Options) -> Report:
    from vaelab import runs
    from vaelab.verbs import evaluate
    from vaelab.verbs.evaluation import beside_rows, drawn_as
    from vaelab.verbs.gallery import draw_interpolations

    data = runs.data_of(runs.source_of(run)[1], home=arguments.home)
    report = evaluate(run, data, protocols=chosen, options=options)
    folder = arguments.out or run
    if len(arguments.runs) == 1 or arguments.out is None:
        draw_interpolations(runs.read_run(run), data, folder)
        _write(folder, report)
    if arguments.html is not None:
        trained = runs.read_run(run)
        data = trained.conditioned(data)
        beside_rows(trained, data, drawn_as(trained, data, options, "auto")).save_html(arguments.html)
    return report


def _of_sets(arguments: Arguments, chosen: list[Protocol], options: Options) -> Report:
    from vaelab.cli.output import arrange
    from vaelab.data import Scaling, load, load_rows, names
    from vaelab.verbs import compare

    assert arguments.real is not None
    assert arguments.fake is not None
    size, grey = arguments.image_size, arguments.grey or None
    known: dict[str, Any] = {"home": arguments.home, "image_size": size, "grey": grey}
    rows = known | {name: getattr(arguments, name) for name in ("label_column", "separator", "missing")}
    train = load(arguments.train, **rows) if arguments.train else None
    if arguments.real in names():
        data = load(arguments.real, **known)
        real, columns, train = data.test.x, data.columns, train or data
    else:
        real, columns = load_rows(arguments.real, **rows)
    fake, others = load_rows(arguments.fake, **rows)
    fake = arrange(fake, others, columns, arguments.fake)
    fitted = real if train is None else train.train.x
    scaling = Scaling.fit(fitted, "table" if len(real.shape) == 2 else "image", columns=columns)
    subjects = arguments.real, arguments.fake
    report = compare(real, fake, scaling=scaling, protocols=chosen, train=train, options=options, names=subjects)
    if arguments.out is not None:
        _write(arguments.out, report)
    return report


def _frames(arguments: Arguments) -> list[Any]:
    """Read --real and --fake as data frames if both are tables on disk; else none."""
    paths = [Path(path) for path in (arguments.real, arguments.fake) if path is not None]
    tables = [exists(path) and path.is_file() and path.suffix.lower() in _TABLES for path in paths]
    return [_read(path, arguments) for path in paths] if all(tables) else []


def _read(path: Path, arguments: Arguments) -> Any:
    from vaelab.data.tables import read_table

    return read_table(path, separator=arguments.separator, missing=arguments.missing)


def _check_label(arguments: Arguments, frames: list[Any]) -> None:
    """Refuse a column to leave out that no table has."""
    from vaelab.errors import InputError

    label = arguments.label_column
    if label is not None and frames and arguments.train is None and not any(label in each.columns for each in frames):
        raise InputError(f"--label-column {label}", f"one of {', '.join(map(str, frames[0].columns))}")


def _mixed(frames: list[Any]) -> bool:
    """Whether one has a column that is not of numbers, or gaps."""
    plain = all(frame.select_dtypes("number").shape[1] == frame.shape[1] for frame in frames)
    return not plain or any(frame.isna().to_numpy().any() for frame in frames)


def _of_tables(arguments: Arguments, real: Any, fake: Any) -> None:
    """Compare two mixed tables, print what is found, and write it with a picture where asked to."""
    from vaelab import storage
    from vaelab.errors import InputError
    from vaelab.verbs import compare_tables

    default = Arguments()
    others = ("metrics", "protocol", "label_column", "grey", "image_size")
    idle = [name for name in others if getattr(arguments, name) != getattr(default, name)]
    if idle:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise InputError(
            f"{flags} for tables with categories or gaps", "--real, --fake, --train, --target, --html, --out"
        )
    train = None if arguments.train is None else _read(Path(arguments.train), arguments)
    found = compare_tables(real, fake, train=train, target=arguments.target)
    print(found)
    if arguments.html is not None:
        found.save_html(arguments.html)
    if arguments.out is not None:
        storage.write_text(arguments.out / "evaluation.json", json.dumps(found.as_dict(), indent=2) + "\n")
        storage.write_text(arguments.out / "evaluation.txt", str(found) + "\n")
        found.save(arguments.out / "tables.png")


def _write(folder: Path, report: Report) -> None:
    from vaelab import storage

    storage.write_text(folder / "evaluation.json", json.dumps(report.as_dict(), indent=2) + "\n")
    storage.write_text(folder / "evaluation.txt", report.table() + "\n")


def _listed() -> str:
    from vaelab.metrics.protocols import PROTOCOLS

    return "\n".join(f"{name:<30} {p.hash}  {p.source}" for name, p in PROTOCOLS.items())


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Watch]:
    """Show what is being done on the error output: one line of a terminal, a line for each thing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    parts = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*parts, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None)

        said = ""

        def watch(text: str, done: int, total: int) -> None:
            nonlocal said
            if not console.is_terminal and not quiet and text != said:
                print(text, file=sys.stderr, flush=True)
            if done == 0 or text != said:
                progress.reset(task, description=text, total=total or None)
            said = text
            progress.update(task, completed=done)

        yield watch
