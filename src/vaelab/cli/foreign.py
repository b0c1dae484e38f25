"""Models and rows of other programs on the command line: a function in the user's own file, and rows in its units."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vaelab.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from vaelab.data import Dataset, Rows

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


def rows_of(data: str, *, pixels: Range | None, most: int, seed: int) -> Dataset | Tensor:
    """Read rows for a foreign model, as floats; a named data set keeps its split, of a file all rows are taken.

    Parameters
    ----------
    data
        A name, folder or file.
    pixels
        What bytes become: ``"01"`` x / 255, ``"pm1"`` 2 x / 255 − 1, ``"raw"`` x; None is ``"01"``.
    most, seed
        Rows at random that are taken of a file that is not read whole.

    Raises
    ------
    InputError
        There are no such data, or `pixels` is given for what is stored as numbers.
    """
    from dataclasses import replace

    from vaelab.data import load, load_rows, names

    if data not in names():
        rows, _ = load_rows(data)
        return _floats(in_memory(rows, most, seed), pixels, data)
    found = load(data)
    train, test = found.train, found.test
    return replace(
        found,
        train=replace(train, x=_floats(in_memory(train.x, len(train), seed), pixels, data)),
        test=replace(test, x=_floats(in_memory(test.x, len(test), seed), pixels, data)),
    )


def in_memory(rows: Rows, most: int, seed: int) -> Tensor:
    """Return rows as a tensor; of a file on disk, so many at random."""
    import torch

    from vaelab.training import stream

    if isinstance(rows, torch.Tensor):
        return rows
    order = torch.randperm(len(rows), generator=stream("cpu", seed, "command line", "rows"))
    return rows.rows(order[:most].sort().values)


def _floats(rows: Tensor, pixels: Range | None, data: str) -> Tensor:
    import torch

    if rows.dtype != torch.uint8:
        if pixels is not None:
            got = f"--range {pixels} for {data}, which is stored as {str(rows.dtype).removeprefix('torch.')}"
            raise InputError(got, "bytes", "Leave it out: numbers are given to the model as they are.")
        return rows
    if pixels == "raw":
        return rows.float()
    return rows.float() / 127.5 - 1 if pixels == "pm1" else rows.float() / 255


def to_unit(rows: Tensor, pixels: Range | None) -> Tensor:
    """Bring images from a model's range back to [0, 1], for a picture."""
    return {"01": rows, "pm1": (rows + 1) / 2, "raw": rows / 255}[pixels or "01"]


def check_one(run: Path | None, adapter: str | None, data: str | None, pixels: Range | None) -> None:
    """Refuse neither or both of a run and an adapter, an adapter without rows, and a range for a run."""
    if (run is None) == (adapter is None):
        got = "both a run and --adapter" if adapter else "neither a run nor --adapter"
        raise InputError(got, "one of them", "Such as: vaelab diagnose runs/digits")
    if adapter is not None and data is None:
        raise InputError("--adapter without --data", "the rows that the model was trained on", "Add --data X.npy.")
    if run is not None and pixels is not None:
        raise InputError("--range for a run", "it for --adapter", "Leave it out: a run knows its units.")
