"""Models of other programs on the command line, from a function in the user's own file; rows and conditions."""

from __future__ import annotations

import csv
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vaelab.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaelab.data import Conditioning, Dataset, Rows

Range = Literal["01", "pm1", "raw"]

_WANTED = "FILE.py:FUNCTION, a function without arguments that returns a model, or (encode, decode)"


def model_of(adapter: str) -> object:
    """Run the user's file, call the function named, and return the model; a pair of functions is wrapped.

    Raises
    ------
    InputError
        There is no such file or function, it takes arguments, it returns nothing, or it raises.
    """
    name, _, attribute = adapter.rpartition(":")
    file = Path(name).expanduser()
    if not name or not attribute.isidentifier():
        raise InputError(f"--adapter {adapter}", _WANTED, "Such as: --adapter load.py:load")
    if not file.is_file():
        raise InputError(f"--adapter {adapter}, but no file {file}", _WANTED, "Check the path.")
    module = _imported(file)
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        remedy = f"It has {', '.join(known)}." if known else ""
        raise InputError(f"{file} without a function {attribute!r}", _WANTED, remedy)
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise InputError(f"{attribute} in {file}, which takes arguments", _WANTED) from None
    found = _guarded(function, f"{attribute} in {file}")
    if found is None:
        raise InputError(f"nothing from {attribute} in {file}", _WANTED, "Does it end in a return?")
    if isinstance(found, tuple) and len(found) == 2 and all(callable(one) for one in found):
        from vaelab.diagnostics.adapters import wrap

        return wrap(*found, name=f"{file.name}:{attribute}")
    return found


def _imported(file: Path) -> object:
    """Run a file as a module; what lies beside it can be imported there."""
    name = f"vaelab_adapter_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file}, which is no Python file", _WANTED)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look there
    sys.path.insert(0, str(file.resolve().parent))
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), str(file))
    return module


def _guarded(call: Callable[[], object], what: str) -> object:
    """Call the user's code; what it raises is told with its place."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        # a file that does not parse has no frame of its own
        line = error.lineno if isinstance(error, SyntaxError) else last.lineno
        place = error.filename if isinstance(error, SyntaxError) else last.filename
        got = f"{type(error).__name__}: {error} (line {line} of {place}), raised by {what}"
        raise InputError(got, "code that runs", "Run the file by itself to see more.") from error


def rows_of(
    model: object, data: str, conditions: Path | None, *, pixels: Range | None, most: int, seed: int
) -> tuple[Dataset | Tensor, object | None]:
    """Read rows for the model of an adapter, as floats, and conditions.

    A named data set keeps its split; of a file all rows are taken.

    Parameters
    ----------
    model
        What the adapter returns.
    data
        A name, folder or file.
    conditions
        File of conditions, one per row; None for a model without.
    pixels
        What bytes become: ``"01"`` x / 255, ``"pm1"`` 2 x / 255 − 1, ``"raw"`` x. None where the model says so, as
        one of diffusers does, or the data are not bytes.
    most, seed
        Rows at random that are taken of a file that is not read whole.

    Raises
    ------
    InputError
        There are no such data, `pixels` is given for what is stored as numbers, or left out for bytes and a model whose
        units nobody knows, or conditions do not fit.
    """
    from dataclasses import replace

    from vaelab.data import Conditioning, load, load_rows, names
    from vaelab.model import VAE

    if data not in names():
        known = getattr(getattr(model, "trained_", model), "conditioning", None)
        known = known if isinstance(known, Conditioning) else None
        y = None if conditions is None else conditions_of(conditions, known)
        rows, y = _in_memory(load_rows(data)[0], y, most, seed)
        return _floats(rows, pixels, data, model), _tensor(y) if isinstance(model, VAE) else y
    if conditions is not None:
        got = f"conditions beside {data}, a data set with labels of its own"
        raise InputError(got, "conditions of rows in a file", "Leave them out.")
    found = load(data)
    x, unseen = (
        _floats(_in_memory(part.x, None, len(part), seed)[0], pixels, data, model) for part in (found.train, found.test)
    )
    return replace(found, train=replace(found.train, x=x), test=replace(found.test, x=unseen)), None


def range_of(model: object) -> Range | None:
    """Return what bytes become for models of a family that are all trained on the same; None for others."""
    from vaelab.diagnostics.adapters.of_diffusers import of_diffusers

    found = of_diffusers(model)
    return "pm1" if found is not None and found.takes == (-1.0, 1.0) else None


def _tensor(y: NDArray[Any] | None) -> Tensor | None:
    """Conditions of a bare network: (n, width), as they are."""
    import torch

    return None if y is None else torch.from_numpy(y.reshape(len(y), -1) if y.ndim < 2 else y).float()


def rows_for_run(
    folder: Path, data: str | None, conditions: Path | None, *, most: int, seed: int, option: str = "--conditions"
) -> tuple[Tensor | None, object | None]:
    """Read rows in the units of a run, and conditions; None for the run's own, which must then be known.

    Parameters
    ----------
    folder
        Of the run.
    data
        A name, folder or file.
    conditions
        File of conditions, one per row.
    most, seed
        As for `rows_of`.
    option
        What conditions are called.

    Raises
    ------
    InputError
        Rows do not fit, conditions are missing or given for a run that takes none, or the run knows no rows.
    """
    from dataclasses import replace

    from vaelab import runs
    from vaelab.cli.output import rows_for

    content = runs.read_config(folder)
    if data == "":
        raise InputError("--data ''", "a name, a folder or a file", "Leave it out for the run's own.")
    if data is None:
        if "data" not in content:
            got = f"{folder}, which an estimator has saved without a note of its data"
            raise InputError(got, "--data, the rows that it was trained on", "Add --data X.npy.")
        return None, None
    trained = runs.read_run(folder)
    if trained.settings.network.takes == "sequences":
        raise InputError(f"{data} for a run on sequences", "rows that stand alone", f"Use vaelab.load('{folder}').")
    if conditions is None and trained.conditioning is not None:
        got = f"{data} without conditions, for a conditional run"
        raise InputError(got, trained.conditioning.describe(), f"Add {option} Y.npy or Y.csv.")
    if conditions is not None and trained.conditioning is None:
        raise InputError(f"{option} for a run that takes no conditions", "rows alone", "Leave it out.")
    y = None if conditions is None else conditions_of(conditions, trained.conditioning)
    rows = rows_for(folder, replace(trained, conditioning=None), data, None).x
    return _in_memory(rows, y, most, seed)


def conditions_of(path: Path, conditioning: Conditioning | None) -> NDArray[Any]:
    """Read (n,) or (n, k) conditions, a line of a .csv for each; its first line is a header if it does not fit.

    Parameters
    ----------
    path
        .npy or .csv.
    conditioning
        Of the model, which knows classes and names of columns; None for numbers as a network takes them.

    Raises
    ------
    InputError
        It cannot be read, or its columns are not the model's.
    """
    import numpy as np

    if path.suffix == ".npy":
        try:
            found: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}, which cannot be read ({error})", "an array without Python objects") from error
        return found
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file, skipinitialspace=True) if line]
    widths = {len(line) for line in lines}
    if len(widths) != 1:
        raise InputError(f"{path} with lines of {sorted(widths)} values", "as many in each line, one line per row")
    columns = () if conditioning is None else conditioning.columns
    known = [column.classes for column in columns] if len(columns) in widths else [()] * widths.pop()
    header = None
    if not all(cell in classes if classes else _is_number(cell) for cell, classes in zip(lines[0], known, strict=True)):
        header, *lines = lines
    if conditioning is not None and conditioning.form == "table" and header is not None:
        wanted = [column.name for column in columns]
        if set(wanted) == set(header):
            lines = [[line[header.index(name)] for name in wanted] for line in lines]
        elif wanted != [f"column {i}" for i in range(len(wanted))]:
            raise InputError(f"{path} with columns {', '.join(header)}", conditioning.describe())
    try:
        table = np.array(lines, dtype=object if any(known) else float)
    except ValueError as error:
        raise InputError(f"{path} with text ({error})", "numbers, one line per row") from None
    return table[:, 0] if table.ndim == 2 and table.shape[1] == 1 else table


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _in_memory(rows: Rows, y: NDArray[Any] | None, most: int, seed: int) -> tuple[Tensor, NDArray[Any] | None]:
    """Return rows as a tensor, with their conditions; of a file on disk, so many at random."""
    import torch

    from vaelab.training import stream

    if y is not None and len(y) != len(rows):
        raise InputError(f"{len(y):,} conditions for {len(rows):,} rows", "one condition per row")
    if isinstance(rows, torch.Tensor):
        return rows, y
    order = torch.randperm(len(rows), generator=stream("cpu", seed, "command line", "rows"))
    some = order[:most].sort().values
    return rows.rows(some), None if y is None else y[some.numpy()]


def _floats(rows: Tensor, pixels: Range | None, data: str, model: object) -> Tensor:
    import torch

    if rows.dtype != torch.uint8:
        if pixels is not None:
            got = f"--range {pixels} for {data}, which is stored as {str(rows.dtype).removeprefix('torch.')}"
            raise InputError(got, "bytes", "Leave it out: numbers are given to the model as they are.")
        return rows
    pixels = pixels or range_of(model)
    if pixels is None:
        got = f"{data}, which is stored as bytes, for a model whose units are unknown"
        remedy = "Add --range 01 if it was trained on x / 255, --range pm1 on 2 x / 255 - 1, --range raw on x."
        raise InputError(got, "what the model takes", remedy)
    if pixels == "raw":
        return rows.float()
    return rows.float() / 127.5 - 1 if pixels == "pm1" else rows.float() / 255


def to_unit(rows: Tensor, pixels: Range | None) -> Tensor:
    """Bring images from a model's range back to [0, 1], for a picture."""
    return {"01": rows, "pm1": (rows + 1) / 2, "raw": rows / 255}[pixels or "01"]
