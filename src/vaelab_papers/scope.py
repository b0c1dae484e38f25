"""What the numbers of a table at a scale are of: scale, data, protocol and stand-ins; and which of them compare.

A measured number compares with the published one where both are of the same quantity on the same data: not on a
stand-in, not a distance under another protocol, and not after a training that only shows that a table runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from vaelab.metrics.protocols import protocol
from vaelab_papers.runner import Result
from vaelab_papers.table import Scale, ScaleName, Table

_FEATURES = {
    "inception": "Inception's features, FIDs",
    "classifier": "features of a classifier of the data, no FIDs",
    "pca": "principal components of the pixels, no FIDs",
}


def scale_of(table: Table, results: Sequence[Result]) -> ScaleName | None:
    """Return the scale that results are of; None where there are none."""
    known = {result.scale for result in results}
    return next((name for name in table.scales if name in known), None)


def judged(table: Table, scale: ScaleName | None) -> bool:
    """Whether claims about numbers of this scale may be judged."""
    return scale is not None and scale != "smoke" and not table.scale(scale).stand_in


def compares(table: Table, scale: ScaleName | None, measure: str) -> bool:
    """Whether a measure compares with its published number."""
    if scale is None or not judged(table, scale):
        return False
    return measure not in table.distances or _protocol(table.scale(scale)) == _published(table)


def statement(table: Table, results: Sequence[Result]) -> list[str]:
    """Say in a few lines what the numbers are of.

    Parameters
    ----------
    table
        Which.
    results
        Of one scale.

    Returns
    -------
    list of str
        Scale; data; protocol, where there is one; and what does not compare.
    """
    name = scale_of(table, results)
    if name is None:
        return ["Nothing is measured yet."]
    scale = table.scale(name)
    lines = [f"Scale {name}: {_budget(table, scale)}. {_paper(table, name)}".strip(), f"Data: {_data(table, scale)}."]
    if scale.effort is not None:
        lines.append(f"Protocol: {_protocol_words(table, scale)}")
    if not judged(table, name):
        why = "stand-ins" if scale.stand_in else "a few steps of training"
        lines.append(f"Nothing here compares with the paper: the numbers are of {why} and show that the table runs.")
    return lines


def _budget(table: Table, scale: Scale) -> str:
    fits = [scale.fit] if scale.fit is not None else []
    if not fits and table.settings is not None:
        fits = list({s.training: None for s in (table.settings(cell, scale, 0) for cell in table.cells)})
    lengths = dict.fromkeys(f"epochs {fit.length:,}, batch size {fit.batch_size:,}" for fit in fits)
    width = [] if scale.hidden is None else [f"width {scale.hidden:,}"]
    trials = "1 trial" if scale.seeds == 1 else f"{scale.seeds} trials"
    return ", ".join([f"at most {scale.rows:,} training rows", *lengths, *width, trials])


def _paper(table: Table, name: ScaleName) -> str:
    if name == "paper":
        return "As published."
    paper = table.scales.get("paper")
    return "" if paper is None else f"(The paper's: {_budget(table, paper)}.)"


def _data(table: Table, scale: Scale) -> str:
    if scale.stand_in:
        return f"bundled 8 × 8 digits, which stand in for {' and '.join(table.data)}"
    drawn = [f"drawn, {table.synthetic}"] if table.synthetic else []
    return ", ".join([*table.data, *drawn]) or "as the cells say"


def _protocol(scale: Scale) -> str:
    return "" if scale.effort is None else protocol(scale.effort.protocol).hash


def _published(table: Table) -> str:
    return _protocol(table.scales["paper"]) if "paper" in table.scales else ""


def _protocol_words(table: Table, scale: Scale) -> str:
    effort = scale.effort
    assert effort is not None  # `statement` asks
    own = protocol(effort.protocol)
    words = f"{effort.protocol} ({_FEATURES.get(own.extractor, own.extractor)})"
    paper = table.scales.get("paper")
    if paper is None or paper.effort is None or _protocol(paper) == own.hash:
        return f"{words}, as published." if paper is not None else f"{words}."
    return f"{words}. Published distances are of {paper.effort.protocol}, other numbers: the two do not compare."
