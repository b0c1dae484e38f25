"""`compare`: one set of rows against another, without a model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vaelab.arguments import check_kind
from vaelab.data import Dataset, MappedArray, Rows, Scaling, TrainSplit, blocks, check_array, load_rows
from vaelab.data.checks import is_frame
from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics.evaluator import Blocks, Evaluator
from vaelab.metrics.extractors import extractor_for
from vaelab.metrics.features import Extractor
from vaelab.metrics.options import Options
from vaelab.metrics.protocols import Protocol
from vaelab.metrics.report import Reading, Report
from vaelab.metrics.rows import blocks_of, chosen_rows, part, quarter, watched
from vaelab.training import stream
from vaelab.training.devices import join

_LEAST_HALF = 50  # rows that every measure can do with


def compare(
    real: object,
    fake: object,
    *,
    scaling: Scaling | None = None,
    protocols: Sequence[Protocol | str] = (),
    train: Dataset | None = None,
    options: Options | None = None,
    names: tuple[str, str] = ("real", "generated"),
) -> Report:
    """Measure one set of rows against another; no model is needed.

    Parameters
    ----------
    real, fake
        (n, d) or (n, C, H, W): arrays, tensors, data frames, or what `vaelab.data.load_rows` takes; columns or images
        of the same shape, in the same units. As many rows of each are compared as the smaller one has.
    scaling
        Map to the network's units; fitted on the real rows if None.
    protocols
        How distances are measured, by name or as records, each on its own; the one that suits the data if empty.
    train
        Further real rows: labelled ones for classifier features, and for the floor. Without them, a quarter of the
        real rows goes to features that are fitted, and the floor compares real rows that are left over with the
        reference; if they are too few, all is measured once more on halves.
    options
        How much to measure.
    names
        Of the two sets.

    Raises
    ------
    InputError
        The sets have different shapes or units, or the protocol does not suit them.
    """
    join()
    options = Options.of(options)
    if scaling is not None:
        check_kind("scaling", scaling, Scaling, "a vaelab.data.Scaling")
    if train is not None:
        check_kind("train", train, Dataset, "a data set", "Use vaelab.data.from_arrays(X, y=y).")
    (real, columns), (fake, others) = _checked(real, names[0]), _checked(fake, names[1])
    fake = _in_order(fake, others, columns)
    if tuple(real.shape[1:]) != tuple(fake.shape[1:]):
        images = len(real.shape) == 4
        remedy = "Bring images to one size (--image-size) and to grey or colour (--grey)." if images else ""
        got = f"rows of shape {tuple(real.shape[1:])} and {tuple(fake.shape[1:])}"
        raise InputError(got, "the same shape in both sets", remedy)
    if train is not None:
        train = _like_real(train, tuple(real.shape[1:]), columns)
    if scaling is None:
        fitted = real if train is None else train.train.x
        scaling = Scaling.fit(fitted, "table" if len(real.shape) == 2 else "image")
    scaling.check(fake, name=names[1])
    _check_range(real, fake, names)
    metrics = options.chosen(scaling.kind, min(len(real), len(fake)), model=False)
    labelled = train is not None and train.train.labels is not None
    report = Report(names[1])
    for chosen in options.protocols(protocols, scaling.kind, labels=labelled):
        learned, pool, unseen = _divided(real, train, chosen, options)
        session = _Session(chosen, extractor_for(chosen, learned, scaling, options), scaling, metrics, options, names)
        n = min(chosen.reference_count, chosen.generated_count, len(pool), len(fake))
        if n < min(chosen.reference_count, chosen.generated_count):
            report.notes.append(few(n, chosen))
        order = torch.randperm(len(pool), generator=stream("cpu", chosen.seed, "rows", "reference"))
        reference, rest = part(pool, order[:n].sort().values), part(pool, order[n : 2 * n].sort().values)
        if unseen is not None:
            rest = chosen_rows(unseen, n, chosen, "floor")
        report.readings += session.score(reference, fake, rest if len(rest) == n else None)
        if len(rest) < n and n // 2 >= _LEAST_HALF:
            # there are no other real rows of that number: once more, on halves of the reference
            halves = [part(reference, torch.arange(i, n // 2 * 2, 2)) for i in range(2)]
            report.readings += session.score(halves[0], fake, halves[1])
            report.notes.append(f"The floor is one half of the real rows against the other, n = {n // 2:,} each.")
    return report


def _divided(
    real: Rows, train: Dataset | None, chosen: Protocol, options: Options
) -> tuple[TrainSplit, Rows, Rows | None]:
    """Rows to learn features from, rows for the reference, and rows for the floor that the features have not seen.

    What features were fitted on lies nearer to them than any new row, so no row is used for both.
    """
    if train is not None:
        learned, unseen = quarter(train.train)
        return learned, real, unseen.x
    if chosen.extractor == "pca" and options.extractor is None:
        rest, learned = quarter(TrainSplit(real))
        return learned, rest.x, None
    return TrainSplit(real), real, None


class _Session:
    """One protocol on two sets of rows."""

    def __init__(
        self,
        chosen: Protocol,
        extractor: Extractor,
        scaling: Scaling,
        metrics: Sequence[str],
        options: Options,
        names: tuple[str, str],
    ) -> None:
        self.chosen, self.extractor, self.scaling = chosen, extractor, scaling
        self.metrics, self.options, self.names = metrics, options, names

    def score(self, reference: Rows, fake: Rows, floor: Rows | None) -> list[Reading]:
        """Compare as many of the generated rows as the reference has."""
        chosen, store = self.chosen, self.options.store(self.chosen)
        evaluator = Evaluator(
            chosen,
            self.extractor,
            self._blocks(reference, f"reading {self.names[0]}"),
            measures=self.metrics,
            floor=None if floor is None else self._blocks(floor, "measuring the floor"),
            store=store,
        )
        generated = chosen_rows(fake, len(reference), chosen, "generated")
        return evaluator.score(self.names[1], [self._blocks(generated, f"reading {self.names[1]}")], store=store)

    def _blocks(self, rows: Rows, text: str) -> Blocks:
        return watched(blocks_of(rows, self.scaling), self.options.watch, text, len(rows))


def _checked(x: object, name: str) -> tuple[Rows, tuple[str, ...] | None]:
    """Rows, and the names of their columns where they have any."""
    if isinstance(x, str | Path):
        return load_rows(x)
    columns = tuple(map(str, cast("Any", x).columns)) if is_frame(x) else None
    return (x if isinstance(x, MappedArray) else check_array(x, name=name)), columns


def _like_real(train: Dataset, shape: tuple[int, ...], columns: tuple[str, ...] | None) -> Dataset:
    """Return further real rows with the columns of the others, in their order; refuse rows of another shape."""
    if train.event_shape != shape:
        raise InputError(f"train with rows of shape {train.event_shape}", f"{shape} as the real ones")
    x = _in_order(train.train.x, train.columns, columns)
    return train if x is train.train.x else replace(train, train=replace(train.train, x=x), columns=columns)


def _in_order(x: Rows, columns: Sequence[str] | None, wanted: tuple[str, ...] | None) -> Rows:
    """Put columns into the order of other rows, by their names.

    Raises
    ------
    InputError
        They are named otherwise.
    """
    if columns is None or wanted is None or tuple(columns) == wanted or not isinstance(x, Tensor):
        return x
    if set(columns) != set(wanted):
        apart = sorted(set(columns) ^ set(wanted))
        shown = ", ".join(map(repr, apart[:6])) + (" …" if len(apart) > 6 else "")
        got = f"columns that are in one set only: {shown}"
        raise InputError(got, "the same columns in both", "Rename or drop them.")
    found: Tensor = x[:, [columns.index(name) for name in wanted]]
    return found


def _check_range(real: Rows, fake: Rows, names: tuple[str, str]) -> None:
    """Warn where one set of floating-point images uses half of the other's range."""
    if len(real.shape) != 4 or real.dtype == torch.uint8:
        return
    lowest = [min(float(block.min()) for block in blocks(x)) for x in (real, fake)]
    if (lowest[0] < 0) != (lowest[1] < 0):
        text = f"{names[0]} starts at {lowest[0]:.3g} and {names[1]} at {lowest[1]:.3g}: are they in the same units?"
        warnings.warn(text, VaelabWarning, stacklevel=3)


def few(n: int, chosen: Protocol) -> str:
    """Say that a number is from fewer rows than its protocol asks for."""
    wanted = min(chosen.reference_count, chosen.generated_count)
    return (
        f"{chosen.name} asks for {wanted:,} rows; {n:,} were there. A Fréchet distance falls as n grows, so compare "
        "it at this n only."
    )
