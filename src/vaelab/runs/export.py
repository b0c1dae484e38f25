"""A model's functions as files for other programs: ONNX, or a program of torch that needs no vaelab.

A file holds one function of `vaelab.runs.graphs`, for any number of rows at once, in the user's units. What it takes
and gives is described in it, as JSON under ``vaelab``.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from vaelab import storage
from vaelab.arguments import check_count, check_path
from vaelab.data import Conditioning
from vaelab.data.extras import require
from vaelab.errors import InputError, VaelabError, VaelabWarning
from vaelab.runs.graphs import Function, Graph, Port, function_of
from vaelab.runs.trained import Trained

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

_TRACED, _COMPARED = 3, 64  # rows
_TOLERANCE = 1e-4  # relative; a wrong graph is wrong by far more
_FLIPPED = 0.05  # share of entries that may differ by more: rounding decides between levels, or values of a grid
_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


class _RuntimeError(InputError):
    """What runs ONNX refuses the graph."""


class Signature(NamedTuple):
    """What a file takes and gives.

    Attributes
    ----------
    path
        The file.
    inputs, output
        Tensors of (rows, …) numbers.
    """

    path: Path
    inputs: tuple[Port, ...]
    output: Port

    def __str__(self) -> str:
        taken = ", ".join(_said(port) for port in self.inputs)
        return f"{taken} → {_said(self.output)}"


def export(
    trained: Trained,
    path: str | Path,
    what: Graph = "sample",
    *,
    format: Format | None = None,
    density: str = "auto",
    score_draws: int = 16,
) -> Signature:
    """Write one function of a model as a file that is run without vaelab.

    Rows are in the units of the training data, float64 for tables and float32 for images (of uint8 images the numbers
    0 to 255, as floats). Rows of a mixed table are coded: the place of a level in the description's ``levels`` (from
    0), NaN where an entry is missing; of whitened columns (`Trained.whitened`) rows with gaps give NaN, and are to be
    filled first. Conditions ``c`` are float64: one number or the place of a class, or one per
    column; windows of a sequence have a last channel that is 1 where there is a step. A place that does not exist is
    not noticed. Noise is independent N(0, 1), one row for each row that is drawn.

    The file is compared with the model on random rows before it is written under its name.

    Parameters
    ----------
    trained
        The model.
    path
        File to write, ``.onnx`` or ``.pt2``; one that is there is replaced.
    what
        ``"encode"``, ``"decode"``, ``"reconstruct"``, ``"score"`` or ``"sample"``; see `function_of`.
    format
        ``"onnx"``, for onnxruntime and its kin, or ``"torch"``, for `torch.export.load`; by the path's suffix if None.
    density
        Of z, for ``"sample"``; ``"auto"`` is the model's best.
    score_draws
        Of z per row, for ``"score"``.

    Raises
    ------
    InputError
        Another function, format or density; a density or network that cannot be exported, as it says.
    MissingExtraError
        ONNX without the packages of the extra ``export``.
    VaelabError
        The disk is full or not writable.
    """
    check_count("score_draws", score_draws)
    target = check_path(path, "a file, .onnx or .pt2")
    chosen = _format_of(target, format)
    if chosen == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, "export", "Export to ONNX")
    options: dict[str, Any] = {"density": density, "score_draws": score_draws}
    try:
        return _written(function_of(trained, what, **options), trained, target, what, chosen, density)
    except _RuntimeError:  # what runs ONNX has no float64 of some operations, such as LSTMs
        return _written(function_of(trained, what, **options, exact=False), trained, target, what, chosen, density)


def _written(
    function: Function, trained: Trained, target: Path, what: Graph, chosen: Format, density: str
) -> Signature:
    function.eval()
    text = json.dumps(_description(trained, function, what, density), ensure_ascii=False)
    write = _write_onnx if chosen == "onnx" else _write_torch
    with torch.no_grad():
        example, compared = (_example(trained, function, rows) for rows in (_TRACED, _COMPARED))
        wanted = function(*compared)  # refuses what it cannot do, in its own words
        caveat = function.vae.likelihood.caveat(compared[0]) if what == "score" else None
        if caveat:
            warnings.warn(f"These are no log-densities: {caveat}.", VaelabWarning, stacklevel=4)
        program = traced(function, example)

        def checked(temporary: Path) -> None:
            run = write(program, function, text, temporary)
            for rows in (slice(None), slice(0, 1)):
                _compare(run(tuple(each[rows] for each in compared)), wanted[rows], chosen)

        storage.replace_file(target, checked)
    return Signature(target, function.inputs, function.output)


def _format_of(path: Path, given: Format | None) -> Format:
    if given is not None and (not isinstance(given, str) or given not in get_args(Format)):
        raise InputError(f"format={given!r}", "'onnx' or 'torch'")
    found = next((name for name, suffix in SUFFIXES.items() if path.suffix == suffix), None)
    if found is None or given not in (None, found):
        wanted = " or ".join(SUFFIXES.values()) if given is None else SUFFIXES[given]
        raise InputError(f"the file {path}", f"one that ends in {wanted}")
    if path.is_dir():
        raise InputError(f"{path}, which is a folder", "a file to write")
    return found


def _said(port: Port) -> str:
    sizes = "".join(f", {size}" for size in port.shape)
    return f"{port.name} (n{sizes}) {str(port.dtype).removeprefix('torch.')}"


def _description(trained: Trained, function: Function, what: Graph, density: str) -> dict[str, Any]:
    from vaelab import __version__

    def plain(port: Port) -> dict[str, Any]:
        return {"shape": ["rows", *port.shape], "dtype": str(port.dtype).removeprefix("torch.")}

    facts, schema = trained.facts, trained.schema
    found: dict[str, Any] = {"vaelab": __version__, "function": what, "kind": facts.kind}
    found["data_dtype"] = trained.scaling.dtype
    found["inputs"] = {port.name: plain(port) for port in function.inputs}
    found["outputs"] = {function.output.name: plain(function.output)}
    if schema is not None and trained.components() is not None and function.inputs[0].name == "x":
        found["gaps"] = "rows with a missing entry give NaN: fill them first, with impute"
    if what == "sample":
        found["density"] = facts.best_density if density == "auto" else density
    if facts.columns is not None and schema is None:
        found["columns"] = list(facts.columns)
    if schema is not None:
        modelled = schema.columns
        found["columns"] = [column.name for column in modelled]
        found["levels"] = {column.name: list(column.levels) for column in modelled if column.levels is not None}
        found["times"] = {column.name: column.dtype for column in modelled if column.time}
    if trained.conditioning is not None:
        found["condition"] = trained.conditioning.meta()
    return found


def _example(trained: Trained, function: Function, rows: int) -> tuple[Tensor, ...]:
    """Random inputs that the function may meet."""
    source = torch.Generator().manual_seed(rows)
    port = function.inputs[0]
    c = None if trained.conditioning is None else _conditions(trained.conditioning, rows, source)
    if port.name == "x":
        z = torch.randn(rows, trained.vae.latent_dim, generator=source, dtype=next(function.vae.parameters()).dtype)
        own = None if c is None or function.condition is None else function.condition(c).to(z.dtype)
        given = function.units.from_net(function.vae.decode(z, own))
    else:
        given = torch.randn(rows, *port.shape, generator=source, dtype=port.dtype)
    return (given,) if c is None else (given, c)


def _conditions(conditioning: Conditioning, rows: int, source: torch.Generator) -> Tensor:
    """(rows, …) conditions, as `ConditionUnits` takes them."""
    parts = []
    for column in conditioning.columns:
        shape = (rows, conditioning.steps) if conditioning.form == "sequence" else (rows,)
        if column.classes:
            parts.append(torch.randint(len(column.classes), shape, generator=source).double())
        else:
            parts.append(column.mean + column.std * torch.randn(shape, generator=source, dtype=torch.float64))
    if conditioning.form == "column":
        return parts[0]
    if conditioning.form == "sequence":
        parts.append(torch.ones_like(parts[0]))
    return torch.stack(parts, -1)


def traced(function: nn.Module, example: tuple[Tensor, ...], *, rows: bool = True) -> torch.export.ExportedProgram:
    """Trace a function of tensors; with `rows` for any number of rows, else for as many as the example has.

    Raises
    ------
    InputError
        It has operations without a counterpart.
    """
    shapes = tuple({0: torch.export.Dim.AUTO} for _ in example) if rows else None
    with quiet():
        made: torch.export.ExportedProgram = _refused(
            lambda: torch.export.export(function, example, dynamic_shapes=shapes, strict=False)
        )
    return made


def _write_torch(
    program: torch.export.ExportedProgram, function: Function, text: str, path: Path
) -> Callable[[tuple[Tensor, ...]], Tensor]:
    with quiet():
        torch.export.save(program, path, extra_files={"vaelab.json": text})
    run: Callable[..., Tensor] = program.module()

    def checked(given: tuple[Tensor, ...]) -> Tensor:
        found: Tensor = _refused(lambda: run(*given))
        return found

    return checked


def _write_onnx(
    program: torch.export.ExportedProgram, function: Function, text: str, path: Path
) -> Callable[[tuple[Tensor, ...]], Tensor]:
    import onnxruntime

    names = [port.name for port in function.inputs]
    with quiet():
        made: Any = _refused(
            lambda: torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=names, output_names=[function.output.name]
            )
        )
        made.model.metadata_props["vaelab"] = text
        made.save(path)
        session = _refused(
            lambda: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), _RuntimeError
        )

    def run(given: tuple[Tensor, ...]) -> Tensor:
        fed = {name: each.numpy() for name, each in zip(names, given, strict=True)}
        return torch.as_tensor(_refused(lambda: session.run(None, fed), _RuntimeError)[0])

    return run


def _compare(found: Tensor, wanted: Tensor, chosen: Format) -> None:
    """Refuse a file that does not compute what the model does.

    Raises
    ------
    VaelabError
        It does not.
    """
    same = torch.isclose(found.double(), wanted.double(), rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    if found.shape != wanted.shape or float((~same).double().mean()) > _FLIPPED:
        raise VaelabError(f"The {chosen} program that was made of this model gives other numbers; nothing was written.")


def _refused(work: Callable[[], Any], kind: type[InputError] = InputError) -> Any:
    """Do something with a network that may have operations without a counterpart elsewhere.

    Raises
    ------
    InputError
        It failed.
    """
    try:
        return work()
    except OSError:
        raise
    except Exception as error:  # whatever torch, or a runtime, makes of it
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        got = f"a model that cannot be exported ({type(error).__name__}: {reason})"
        remedy = "In networks of your own, take x.shape[0] for the number of rows: len(x) fixes it."
        raise kind(got, "networks of operations that torch.export and ONNX know", remedy) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters tell their own developers to themselves."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
