"""``vaelab evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vaelab.storage import exists

if TYPE_CHECKING:
    from vaelab.metrics.options import Options
    from vaelab.metrics.protocols import Protocol
    from vaelab.metrics.report import Report
    from vaelab.metrics.rows import Watch


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
        _refuse(arguments, [field.name for field in fields(arguments) if field.name != "list_protocols"], "with a list")
        print(_listed())
        return
    if bool(arguments.runs) == (arguments.real is not None) or (arguments.real is None) != (arguments.fake is None):
        got = f"{len(arguments.runs)} run(s), --real {arguments.real}, --fake {arguments.fake}"
        raise InputError(got, "runs, or both --real and --fake", "Such as: vaelab evaluate runs/digits")
    _refuse_idle(arguments)
    frames = _frames(arguments)
    _check_label(arguments, frames)
    if frames and (arguments.html is not None or _mixed(frames)):
        if _first_process():
            _of_tables(arguments, *frames)
        return
    if arguments.target is not None:
        raise InputError("--target without two mixed tables", "--real and --fake with categories or gaps")
    if arguments.html is not None and len(arguments.runs) != 1:
        raise InputError(f"--html for {len(arguments.runs)} runs", "one run, or two tables (CSV or parquet)")
    from vaelab.metrics.protocols import protocol

    chosen = [protocol(name) for name in arguments.protocol]
    first = _first_process()
    with _progress(quiet=arguments.quiet or not first) as watch:
        options = _options(arguments, watch)
        if arguments.runs:
            reports = [_of_run(run, arguments, chosen, options) for run in arguments.runs]
        else:
            reports = [_of_sets(arguments, chosen, options)]
    if not first:
        return
    from vaelab.metrics.report import merge

    whole = merge(reports)
    print(whole.table())
    if len(reports) > 1 and arguments.out is not None:
        _write(arguments.out, whole)


def _first_process() -> bool:
    """Whether this process prints and writes; several only share the work."""
    from vaelab.runs import first_process

    return first_process()


def _refuse_idle(arguments: Arguments) -> None:
    """Refuse what would have no effect."""
    from vaelab.data import names

    of_sets = ("train", "target", "image_size", "grey", "separator", "missing", "label_column")
    of_runs = ("densities", "draws", "temperature", "on_manifold", "likelihood_draws", "likelihood_rows")
    if arguments.runs:
        _refuse(arguments, of_sets, "with runs")
        if arguments.metrics and not {"nll", "bits"} & set(arguments.metrics):
            _refuse(arguments, ("likelihood_draws", "likelihood_rows"), f"with --metrics {' '.join(arguments.metrics)}")
        return
    _refuse(arguments, of_runs, "with --real")
    sources = [each for each in (arguments.real, arguments.fake, arguments.train) if each is not None]
    endings = {"" if each in names() else Path(each).suffix.lower() for each in sources}
    for idle, kinds, found in (
        (("separator", "missing"), "CSV file", {".csv"}),
        (("image_size", "grey"), "image files", {"", ".parquet"}),
        (("label_column",), "table", {"", ".csv", ".parquet"}),
    ):
        if not endings & found:
            _refuse(arguments, idle, f"without {kinds}")
    if not any(each in names() for each in sources):
        _refuse(arguments, ("home",), "without a named data set")


def _refuse(arguments: Arguments, idle: Sequence[str], why: str) -> None:
    """Refuse those of these arguments that are given."""
    from vaelab.errors import InputError

    default = Arguments()
    given = [name for name in idle if getattr(arguments, name) != getattr(default, name)]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{flags} {why}", "no such argument there", "Leave it out.")


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
    if not _first_process():
        return report
    if len(arguments.runs) == 1 or arguments.out is None:
        trained = runs.read_run(run)
        if trained.encodes:
            draw_interpolations(trained, data, folder)
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
    train = None if arguments.train is None else load(arguments.train, **_of_source(arguments.train, rows))
    if arguments.real in names():
        data = load(arguments.real, **known)
        real, columns, train = data.test.x, data.columns, train or data
    else:
        real, columns = load_rows(arguments.real, **rows)
    fake, others = load_rows(arguments.fake, **rows)
    fake = arrange(fake, others, columns, arguments.fake)
    if train is not None:
        x = arrange(train.train.x, train.columns, columns, arguments.train or arguments.real)
        train = replace(train, train=replace(train.train, x=x), columns=columns)
    fitted = real if train is None else train.train.x
    scaling = Scaling.fit(fitted, "table" if len(real.shape) == 2 else "image", columns=columns)
    subjects = arguments.real, arguments.fake
    report = compare(real, fake, scaling=scaling, protocols=chosen, train=train, options=options, names=subjects)
    if arguments.out is not None and _first_process():
        _write(arguments.out, report)
    return report


def _of_source(source: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return those options that mean something for a source; the others are meant for the ones beside it."""
    ending = Path(source).suffix.lower()
    text, images = ending == ".csv", ending in ("", ".parquet")
    means = {"separator": text, "missing": text, "image_size": images, "grey": images, "label_column": True}
    return {name: value for name, value in options.items() if means.get(name, True)}


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
    numbers = [frame.select_dtypes("number", exclude="timedelta") for frame in frames]
    plain = all(part.shape[1] == frame.shape[1] for part, frame in zip(numbers, frames, strict=True))
    return not plain or any(frame.isna().to_numpy().any() for frame in frames)


def _of_tables(arguments: Arguments, real: Any, fake: Any) -> None:
    """Compare two mixed tables, print what is found, and write it with a picture where asked to."""
    from vaelab import storage
    from vaelab.verbs import compare_tables

    others = ("metrics", "protocol", "inception", "label_column", "grey", "image_size")
    _refuse(arguments, others, "for tables with categories or gaps")
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
