"""What several verbs share: rows to work on, and files to write, both a block at a time."""

from __future__ import annotations

import csv
import itertools
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab import storage
from vaelab.arguments import check_count
from vaelab.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaelab.data import Rows, Schema, Split
    from vaelab.runs import Trained

_PICTURED = 16  # rows in a picture of originals above reconstructions
_WRITTEN = 10_000  # rows of a table that are numbers of Python at once


def rows_for(run: Path, trained: Trained, data: str, n: int | None, *, gaps: bool = False) -> Split:
    """Return the rows a verb was asked for: of the data named, in their own order, or the run's test rows.

    With `gaps`, entries of a table may be missing, whatever the model.

    Raises
    ------
    InputError
        They have another shape, other columns or other units than the run's.
    """
    import torch

    from vaelab.data import TestSplit

    if n is not None:
        check_count("-n", n)
    if data and trained.conditioning is not None:
        remedy = f"In Python: vaelab.load('{run}').transform(X, y)."
        raise InputError(f"{data} without conditions, for a conditional run", "the run's own test rows", remedy)
    split = TestSplit(_given_rows(run, trained, data, gaps=gaps)) if data else _test_rows(run, trained)
    _check_shape(split.x, trained, f"{data or 'the test data'}", run)
    if data:
        scaling = replace(trained.scaling, gaps=True) if gaps else trained.scaling
        scaling.check(split.x, name=data)
    return split if n is None or n >= len(split) else split.subset(torch.arange(n))


def _given_rows(run: Path, trained: Trained, data: str, *, gaps: bool) -> Rows:
    """Read a source whole; of how the run's own was read, take what applies to this one too."""
    from vaelab import runs
    from vaelab.data import Schema, load_rows

    facts, schema = trained.facts, trained.schema
    if schema is None and gaps and facts.kind == "table":
        schema = Schema.of_numbers(facts.event_shape[0], facts.columns)
    source = runs.read_config(run).get("data", {})  # absent where an estimator saved the run
    keys = ("home", "image_size", "grey", "label_column", "key", "separator", "missing")
    rows, columns = load_rows(data, **{key: source.get(key) for key in keys}, schema=schema)
    return arrange(rows, columns, trained.facts.columns, data)


def _test_rows(run: Path, trained: Trained) -> Split:
    from vaelab import runs

    return trained.conditioned(runs.data_of_run(run)).test


def arrange(rows: Rows, columns: Sequence[str] | None, wanted: Sequence[str] | None, data: str) -> Rows:
    """Put columns into the order wanted; without names on either side, they are taken as they come."""
    from vaelab.data import MappedArray

    if columns is None or wanted is None or tuple(columns) == tuple(wanted) or isinstance(rows, MappedArray):
        return rows
    missing = [name for name in wanted if name not in columns]
    extra = [name for name in columns if name not in wanted]
    if missing or extra:
        parts = [f"{what} column(s) {_listed(names)}" for what, names in (("no", missing), ("extra", extra)) if names]
        raise InputError(f"{data} with {' and '.join(parts)}", f"the columns {_listed(wanted)}")
    return rows[:, [columns.index(name) for name in wanted]]


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_shape(rows: Rows, trained: Trained, data: str, run: Path) -> None:
    shape, wanted = tuple(rows.shape[1:]), trained.facts.event_shape
    if shape != wanted:
        images = len(shape) == len(wanted) == 3
        remedy = "Resize the images, or convert them to grey or colour, as those in training were." if images else ""
        raise InputError(f"rows of shape {shape} from {data}", f"{wanted} as in {run}", remedy)


def write_codes(out: Path, trained: Trained, split: Split) -> None:
    """Encode rows and write their codes as .npy or .csv."""
    codes = (trained.encode(x, c).cpu().numpy() for x, c in split.parts())
    _write_table(out, codes, len(split), [f"z{i}" for i in range(trained.settings.size)])
    _say(out)


def write_reconstructions(out: Path, trained: Trained, split: Split) -> None:
    """Encode and decode rows, and write what comes out; a .png shows the first of them below the originals."""
    if out.suffix == ".png" and trained.facts.kind == "image":
        import torch

        x, c = next(split.subset(torch.arange(min(_PICTURED, len(split)))).parts())
        _picture(out, _pixels(trained, trained.reconstruct(x, c)), above=_pixels(trained, x))
    else:
        rebuilt = (trained.reconstruct(x, c) for x, c in split.parts())
        modelled = None if trained.schema is None else trained.schema.modelled  # whose rows have names already
        _write_blocks(out, trained, rebuilt, len(split), modelled)
    _say(out)


def write_imputed(
    out: Path, trained: Trained, split: Split, data: str, *, draws: int | None, k: int, seed: int
) -> None:
    """Fill in what is missing of a table's rows, and write them; observed entries are not even rounded.

    Identifiers are those of the file that the rows are of; they are left out where that is not known. There is one file
    for each draw, with its number behind the name.

    Raises
    ------
    InputError
        The run is of images or of a GAN, or its model has no place for gaps.
    """
    from vaelab.data import Schema
    from vaelab.model import no_encoder
    from vaelab.runs.imputation import Imputation

    if not trained.encodes:
        raise no_encoder("missing entries")
    if trained.facts.kind != "table":
        raise InputError("a run of images", "one of a table", "In Python: vaelab.load(run).impute(X, mask=…).")
    schema = trained.schema or Schema.of_numbers(trained.facts.event_shape[0], trained.facts.columns)
    # means depend on the row alone; draws of one part are not those of another
    asked = [
        Imputation(trained, x, c, k, seed if draws is None else seed + i) for i, (x, c) in enumerate(split.parts())
    ]
    if draws is None:
        tables = {out: [part.mean().cpu() for part in asked]}
    else:
        drawn = [part.draws(draws).cpu() for part in asked]
        names = [out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(draws)]
        tables = {name: [part[i] for part in drawn] for i, name in enumerate(names)}
    rows = _named_rows(schema, data) if out.suffix in (".csv", ".parquet") else None
    for name, parts in tables.items():
        if out.suffix not in (".csv", ".parquet"):
            _write_table(name, (part.numpy() for part in parts), len(split), schema.names)
        else:
            _write_columns(name, schema.modelled if rows is None else schema, parts, len(split), rows)
        _say(name)


def scores_of(run: Path, trained: Trained, split: Split) -> NDArray[np.float64]:
    """(n,) bounds on log p(x) of rows, nats, as `score_samples` of the run's estimator has them.

    Raises
    ------
    InputError
        The run's posterior is a point.
    """
    from vaelab import runs

    if trained.encodes and trained.vae.posterior.degenerate:
        raise InputError(f"{run}, whose codes are points", "a run with a bound on log p(x)", "Train a VAE.")
    noise = trained.score_noise(runs.read_config(run).get("estimator", {}).get("score_draws", 16))
    parts = [trained.bound(x, noise, c).numpy() for x, c in split.parts()]
    return np.concatenate([np.empty(0), *parts])


def calibration_scores(run: Path, trained: Trained, data: str, rate: float) -> NDArray[np.float64]:
    """Score what a run's p-values are by: rows that are given, those that a detector set aside, or its test rows.

    Raises
    ------
    InputError
        There are none, or too few for a p-value of `rate`.
    """
    from vaelab import runs

    remedy = "Pass rows that the run was not trained on: --calibrate rows.csv."
    if not data and trained.calibration is not None:
        found = trained.calibration.numpy()
    elif not data and "data" not in runs.read_config(run):
        raise InputError(f"{run}, which keeps no rows to calibrate on", "rows as they should be", remedy)
    else:
        found = scores_of(run, trained, rows_for(run, trained, data, None))
    if rate * (len(found) + 1) < 1 - 1e-9:
        got = f"--false-alarms {rate:g} with {len(found)} calibration rows, where no p-value is below "
        raise InputError(f"{got}{1 / (len(found) + 1):.2g}", f"at least {math.ceil(1 / rate) - 1} rows", remedy)
    return found


def write_scores(
    out: Path, scores: NDArray[np.float64], calibration: NDArray[np.float64], rate: float, rule: str
) -> None:
    """Write a score, a p-value, and 1 for an alarm or 0 for each row; say how many alarms there are."""
    from vaelab.metrics.conformal import alarms, conformal_p_values

    p = conformal_p_values(scores, calibration)
    found = alarms(p, rate, rule)
    if out.suffix == ".npy":
        parts: list[NDArray[Any]] = [np.stack([scores, p, found], 1)]
    else:
        parts = [np.array([*zip(scores, p, found.astype(int), strict=True)], dtype=object).reshape(-1, 3)]
    _write_table(out, parts, len(p), ["score", "p_value", "alarm"])
    _say(out)
    print(f"{int(found.sum()):,} alarms among {len(p):,} rows, by {len(calibration):,} rows that are as they should be")


def _named_rows(schema: Schema, data: str) -> Any:
    """Return the table of a file, for the identifiers in it; None where there are none."""
    from vaelab.data.tables import read_table

    if not any(column.kind == "identifier" for _, column in schema.apart) or not Path(data).is_file():
        return None
    return read_table(Path(data))


def _write_columns(out: Path, schema: Schema, parts: Iterable[Tensor], n: int, rows: Any = None) -> None:
    """Write n coded rows that come in parts as a table, with the identifiers of another one, in this order.

    A .parquet file keeps the dtypes of the columns too.
    """

    def made(into: Callable[..., Any]) -> Iterator[Any]:
        start = 0
        for part in parts:
            own = None if rows is None else rows.iloc[start : start + len(part)]
            yield into(part, like=own, first=start)
            start += len(part)

    if out.suffix == ".csv":
        _write_table(out, made(schema.to_array), n, schema.returned)
    else:
        from vaelab.data.parquet import write_frames

        storage.replace_file(out, lambda path: write_frames(path, made(schema.to_frame)))


def write_rows(out: Path, trained: Trained, parts: Iterable[Tensor], n: int) -> None:
    """Write n rows of data in the run's own units, which come in parts, to the kind of file that the name asks for."""
    if out.suffix == ".png" and trained.facts.kind == "image":
        import torch

        from vaelab.rows import check_drawn

        check_drawn(n, trained.facts.event_shape)  # one picture has them all
        _picture(out, _pixels(trained, torch.cat(list(parts))))
    else:
        _write_blocks(out, trained, parts, n, trained.schema)
    _say(out)


def _write_blocks(out: Path, trained: Trained, parts: Iterable[Tensor], n: int, schema: Schema | None) -> None:
    """Write n rows in the data's units, which come in parts, as a table, an array or a folder of pictures.

    Categories are written as their levels to .csv and .parquet, and as the numbers of their levels to .npy.
    """
    if trained.facts.kind == "image" and not out.suffix:
        _write_pictures(out, (_pixels(trained, part) for part in parts))
        return
    if schema is not None and out.suffix in (".csv", ".parquet"):
        _write_columns(out, schema, parts, n)
        return
    if schema is None:
        values = (trained.scaling.restore(trained.scaling.to_net(part.cpu())) for part in parts)
    else:
        values = (part.cpu().numpy() for part in parts)
    if trained.facts.kind == "table":
        names = trained.facts.columns or [f"x{i}" for i in range(trained.facts.event_shape[0])]
        _write_table(out, values, n, names)
    elif out.suffix == ".npy":
        _write_array(out, values, n)
    else:
        raise InputError(f"--out {out}", "a .png or .npy file, or a folder")


def _write_table(out: Path, parts: Iterable[NDArray[Any]], n: int, names: Sequence[str]) -> None:
    if out.suffix == ".npy":
        _write_array(out, parts, n)
    elif out.suffix == ".csv":

        def write(path: Path) -> None:
            _check_room(out, 2 * n * len(names))  # a digit, and a comma or the end of a line, at least
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(names)
                for part in parts:
                    for rows in range(0, len(part), _WRITTEN):
                        writer.writerows(part[rows : rows + _WRITTEN].tolist())

        storage.replace_file(out, write)
    else:
        raise InputError(f"--out {out}", "a .npy or .csv file, or .parquet for a mixed table")


def _write_array(out: Path, parts: Iterable[NDArray[Any]], n: int) -> None:
    """Write n rows that come in parts, at least one; a mapped file would count as memory of the process."""

    def write(path: Path) -> None:
        rest = iter(parts)
        first = next(rest)
        descr, shape = np.lib.format.dtype_to_descr(first.dtype), (n, *first.shape[1:])
        _check_room(out, n * first[:1].nbytes)
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
            for part in itertools.chain([first], rest):
                file.write(np.ascontiguousarray(part).data)

    storage.replace_file(out, write)


def _check_room(out: Path, needed: int) -> None:
    """Refuse to write more bytes than the disk has, before all of them are computed.

    Raises
    ------
    InputError
        With the number of bytes.
    """
    left = shutil.disk_usage(out.resolve().parent).free
    if needed > left:
        got = f"{out} of {needed / 1e9:,.1f} GB or more, where the disk has {left / 1e9:,.1f} left"
        raise InputError(got, "a file that fits", "Write fewer rows, or to another disk.")


def _write_pictures(folder: Path, parts: Iterable[NDArray[Any]]) -> None:
    from PIL import Image

    images: Iterator[NDArray[Any]] = itertools.chain.from_iterable(parts)
    for i, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image[:3].transpose(1, 2, 0)
        storage.replace_file(folder / f"{i:05d}.png", Image.fromarray(pixels).save)


def _picture(out: Path, shown: NDArray[Any], *, above: NDArray[Any] | None = None) -> None:
    from vaelab.diagnostics import pictures

    if above is None:
        picture = pictures.side_by_side({f"{len(shown)} samples": shown}, columns=max(1, round(len(shown) ** 0.5)))
    else:
        picture = pictures.reconstructions(above, shown)
    pictures.save(picture, out)


def _pixels(trained: Trained, rows: Tensor) -> NDArray[Any]:
    """Turn images in the data's units into uint8."""
    pixels: NDArray[Any] = (trained.scaling.to_net(rows.cpu()).clamp(0, 1) * 255).round().byte().numpy()
    return pixels


def _say(out: Path) -> None:
    print(out)
