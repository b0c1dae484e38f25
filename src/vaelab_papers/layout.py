"""A table laid out: which columns it has, and what stands in each of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple

from vaelab_papers.claims import Claim, Quantity, rank_correlation
from vaelab_papers.runner import Result
from vaelab_papers.scope import compares, judged, scale_of
from vaelab_papers.table import Cell, Table
from vaelab_papers.trials import Number, Trials, deviation_of, mean_of

_HEADS: Final = {
    "active": "active dimensions",
    "recon": "squared error",
    "kl": "KL",
    "gamma": "γ",
    "nelbo": "−ELBO",
    "mse": "MSE",
    "sigma2": "σ_z²",
    "mi": "MI",
    "gap_2": "gap 10⁻²",
    "gap_3": "gap 10⁻³",
    "els": "ELS",
    "second_stage": "2nd VAE",
    "gmm10": "GMM-10",
    "gmm100": "GMM-100",
    "nll": "NLL",
    "all": "γ of all",
}


@dataclass(frozen=True)
class Entry:
    """One number of one row: measured, published, and whether it passes the check on it, each if there is one.

    A count of dimensions has the count by the widest gap beside it, where that is another.
    """

    measured: Number | None
    by_gap: float | None = None
    published: Number | None = None
    passed: bool | None = None

    @property
    def found(self) -> str:
        """What was measured."""
        if self.measured is None:
            return ""
        gap = "" if self.by_gap is None else f" ({number(self.by_gap)} by gap)"
        return number(self.measured) + gap

    @property
    def text(self) -> str:
        """``measured / published``, or the one of them that is there."""
        return " / ".join([*([self.found] if self.found else []), *self.printed])

    @property
    def printed(self) -> list[str]:
        """What is published, in a list of at most one."""
        return [] if self.published is None else [number(self.published)]


class Column(NamedTuple):
    """One column.

    Attributes
    ----------
    measure
        Whose numbers.
    head
        Its name, with the rule that its numbers are checked by.
    measured, published
        Whether these stand in it; both only where they compare.
    version
        Of the paper, which is published; empty for the one that the table is of.
    """

    measure: str
    head: str
    measured: bool
    published: bool
    version: str = ""


def columns(table: Table, results: Sequence[Result]) -> list[Column]:
    """Return the columns: a measure whose numbers compare has one, another one more for what is published."""
    scale = scale_of(table, results)
    found = []
    for name in table.measures:
        plain = _head(name)
        published = any(name in cell.published for cell in table.cells)
        if not published or compares(table, scale, name):
            rules = [f" ({check.rule})" for check in table.checks if check.measure == name]
            found.append(Column(name, plain + "".join(rules), measured=True, published=True))
        else:
            found.append(Column(name, f"{plain}, measured", measured=True, published=False))
            found.append(Column(name, f"{plain}, published", measured=False, published=True))
        found += [
            Column(name, f"{plain}, {version}", measured=False, published=True, version=version)
            for version in table.versions
            if any(name in cell.versions.get(version, {}) for cell in table.cells)
        ]
    return found


def rows(table: Table, results: Sequence[Result]) -> list[tuple[str, list[Entry | None]]]:
    """Return every cell that was measured, with its entries; trials are mean and standard deviation."""
    chosen = columns(table, results)
    every = []
    for cell in table.cells:
        own = [result.measured for result in results if result.cell == cell.name]
        if own:
            every.append((cell.name, [_entry(table, cell, column, own) for column in chosen]))
    return every


def _entry(table: Table, cell: Cell, column: Column, trials: Sequence[dict[str, float]]) -> Entry | None:
    name = column.measure
    source = cell.versions.get(column.version, {}) if column.version else cell.published
    published = source.get(name) if column.published else None
    values = [trial[name] for trial in trials if name in trial] if column.measured else []
    if not values:
        return None if published is None else Entry(None, published=published)
    measured = Trials.of(values)
    check = next((check for check in table.checks if check.measure == name), None)
    passed = None if check is None or published is None else check.passed(measured.mean, mean_of(published))
    gap = measured.mean
    if name.startswith("active"):
        gap = fmean(trial.get(name.replace("active", "by_gap", 1), trial[name]) for trial in trials if name in trial)
    return Entry(measured, None if gap == measured.mean else gap, published, passed)


def _head(measure: str) -> str:
    """Name a measure; of one of a class, as ``nelbo r=1``, the symbol stands before the class."""
    return _HEADS.get(measure, measure.replace("nelbo ", "−ELBO "))


class Verdict(NamedTuple):
    """A claim, the numbers that it is about, and whether it holds; None where they are not to be judged."""

    claim: Claim
    found: tuple[float, ...]
    passed: bool | None


def verdicts(table: Table, results: Sequence[Result]) -> list[Verdict]:
    """Return every claim whose cells are there."""

    def measured(quantity: Quantity) -> float:
        return fmean(result.measured[quantity.measure] for result in results if result.cell == quantity.cell)

    there = {Quantity(result.cell, name) for result in results for name in result.measured}
    known = [one for one in (*table.orderings, *table.claims) if there.issuperset(one.quantities)]
    fair = judged(table, scale_of(table, results))
    return [Verdict(one, one.found(measured), one.passed(measured) if fair else None) for one in known]


def choices(table: Table, results: Sequence[Result]) -> list[str]:
    """Say which cell each choice falls on, where all of its cells are there."""
    texts = []
    for choice in table.choices:
        means = {}
        for cell in choice.cells:
            own = [r.measured for r in results if r.cell == cell]
            if own and all({choice.by, choice.shows} <= set(measured) for measured in own):
                means[cell] = tuple(fmean(m[name] for m in own) for name in (choice.by, choice.shows))
        if set(means) == set(choice.cells):
            best = min(means, key=lambda cell: means[cell][0])
            shown = f"{_head(choice.shows)} {number(means[best][1])}"
            texts.append(f"{choice.title}: {best} has the least {_head(choice.by)}, and {shown}.")
    return texts


def ranks(table: Table, results: Sequence[Result]) -> str:
    """Say how alike the orders of the cells are, measured and published, where the numbers compare."""
    scale, texts = scale_of(table, results), []
    for name in table.ranked:
        pairs = []
        for cell in table.cells:
            values = [r.measured[name] for r in results if r.cell == cell.name and name in r.measured]
            if values and name in cell.published:
                pairs.append((fmean(values), mean_of(cell.published[name])))
        if len(pairs) > 2 and compares(table, scale, name):
            value = rank_correlation([one for one, _ in pairs], [other for _, other in pairs])
            texts.append(f"{_head(name)} {number(round(value, 2))} ({len(pairs)} cells)")
    return f"Rank correlation of measured with published: {', '.join(texts)}." if texts else ""


def number(value: Number) -> str:
    """Three digits, or a whole number, with a true minus sign; a deviation behind ±."""
    mean, deviation = mean_of(value), deviation_of(value)
    text = f"{abs(mean):,.0f}" if abs(mean) >= 100 else f"{abs(mean):.3g}"
    return (f"−{text}" if mean < 0 else text) + ("" if deviation is None else f" ± {number(deviation)}")
