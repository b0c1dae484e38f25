"""`compare`: one set of rows against another, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vaelab.data import Dataset, MappedArray, Rows, Scaling, TrainSplit, check_array
from vaelab.errors import InputError
from vaelab.evaluation.extractors import extractor_for
from vaelab.evaluation.options import Options
from vaelab.evaluation.rows import blocks_of, chosen_rows, part, quarter, watched
from vaelab.metrics.evaluator import Blocks, Evaluator
from vaelab.metrics.protocols import Protocol
from vaelab.metrics.report import Report
from vaelab.training import stream


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
        (n, d) or (n, C, H, W) and as many columns or the same images; arrays, tensors or data frames, in the same
        units. As many rows of each are compared as the smaller one has.
    scaling
        Map to the network's units; fitted on the real rows if None.
    protocols
        How distances are measured, by name or as records, each on its own; the one that suits the data if empty.
    train
        Further real rows: labelled ones for classifier features, and for the floor. Without them, the floor compares
        real rows that are left over with the reference, or else one half of the reference with the other.
    options
        How much to measure.
    names
        Of the two sets.

    Raises
    ------
    InputError
        The sets have different shapes or units, or the protocol does not suit them.
    """
    options = Options() if options is None else options
    real, fake = _checked(real, names[0]), _checked(fake, names[1])
    if tuple(real.shape[1:]) != tuple(fake.shape[1:]):
        images = len(real.shape) == 4
        remedy = "Bring images to one size (--image-size) and to grey or colour (--grey)." if images else ""
        got = f"rows of shape {tuple(real.shape[1:])} and {tuple(fake.shape[1:])}"
        raise InputError(got, "the same shape in both sets", remedy)
    if scaling is None:
        fitted = real if train is None else train.train.x
        scaling = Scaling.fit(fitted, "table" if len(real.shape) == 2 else "image")
    scaling.check(fake, name=names[1])
    metrics = options.chosen(scaling.kind, min(len(real), len(fake)), model=False)
    labelled = train is not None and train.train.labels is not None
    report = Report(names[1])
    for chosen in options.protocols(protocols, scaling.kind, labels=labelled):
        n = min(chosen.reference_count, chosen.generated_count, len(real), len(fake))
        if n < min(chosen.reference_count, chosen.generated_count):
            report.notes.append(few(n, chosen))
        order = torch.randperm(len(real), generator=stream("cpu", chosen.seed, "rows", "reference"))
        reference, rest = part(real, order[:n].sort().values), part(real, order[n : 2 * n].sort().values)
        learned = TrainSplit(real)
        if train is not None:
            learned, unseen = quarter(train.train)
            rest = chosen_rows(unseen.x, n, chosen, "floor")

        def blocks(rows: Rows, text: str) -> Blocks:
            return watched(blocks_of(rows, scaling), options.watch, text, len(rows))

        halves = [blocks(part(reference, torch.arange(i, n, 2)), "measuring the floor") for i in range(2)]
        evaluator = Evaluator(
            chosen,
            extractor_for(chosen, learned, scaling, options),
            blocks(reference, f"reading {names[0]}"),
            measures=metrics,
            floor=blocks(rest, "measuring the floor") if len(rest) > n // 2 else (halves[0], halves[1]),
            store=options.store(chosen),
        )
        generated = blocks(chosen_rows(fake, n, chosen, "generated"), f"reading {names[1]}")
        report.readings += evaluator.score(names[1], [generated], store=options.store(chosen))
    return report


def _checked(x: object, name: str) -> Rows:
    return x if isinstance(x, MappedArray) else check_array(x, name=name)


def few(n: int, chosen: Protocol) -> str:
    """Say that a number is from fewer rows than its protocol asks for."""
    wanted = min(chosen.reference_count, chosen.generated_count)
    return (
        f"{chosen.name} asks for {wanted:,} rows; {n:,} were there. A Fréchet distance falls as n grows, so compare "
        "it at this n only."
    )
